//! What stock redo leaves otherwise from one minor to the next though nothing reads it: there the server is right,
//! whichever it is, and a judge compares the rest of the page.

use types::BLOCK_SIZE;

use redo::mask::owner;
use redo::page::PageBytes;
use wal::RmgrId;

/// The low byte of a GiST page's flags: its special area ends with flags 2, page id 2.
const FLAGS_AT: usize = BLOCK_SIZE - 4;
/// `F_LEAF`
const LEAF: u8 = 0x01;
/// `F_TUPLES_DELETED`
const TUPLES_DELETED: u8 = 0x04;

/// Sets `F_TUPLES_DELETED` in `ours` if it is a GiST leaf and `theirs`, the same page by stock redo, has the flag; says
/// whether it did.
///
/// Redo of 15.18 and its contemporaries sets it where tuples of a leaf are deleted, and that of 15.20 does not. Nothing
/// reads the flag. The other direction is a difference in every minor.
pub fn take_tuples_deleted(ours: &mut PageBytes, theirs: &PageBytes) -> bool {
    let is_leaf = owner(ours) == RmgrId::GIST && ours[FLAGS_AT] & LEAF != 0;
    let only_theirs = theirs[FLAGS_AT] & !ours[FLAGS_AT] & TUPLES_DELETED != 0;
    if is_leaf && only_theirs {
        ours[FLAGS_AT] |= TUPLES_DELETED;
    }
    is_leaf && only_theirs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(page_id: u16, flags: u8) -> PageBytes {
        let mut page = [0; BLOCK_SIZE];
        page[16..18].copy_from_slice(&(BLOCK_SIZE as u16 - 16).to_le_bytes());
        page[FLAGS_AT] = flags;
        page[BLOCK_SIZE - 2..].copy_from_slice(&page_id.to_le_bytes());
        page
    }

    #[test]
    fn only_a_gist_leaf_takes_the_flag_and_only_if_the_server_set_it() {
        const GIST: u16 = 0xFF81;
        const HASH: u16 = 0xFF80;
        for (page_id, ours, theirs, taken) in [
            (GIST, LEAF, LEAF | TUPLES_DELETED, true),
            (GIST, LEAF | TUPLES_DELETED, LEAF, false),
            (GIST, LEAF, LEAF, false),
            (GIST, 0, TUPLES_DELETED, false),
            (HASH, LEAF, LEAF | TUPLES_DELETED, false),
        ] {
            let mut mine = page(page_id, ours);
            assert_eq!(take_tuples_deleted(&mut mine, &page(page_id, theirs)), taken);
            assert_eq!(mine[FLAGS_AT], if taken { theirs } else { ours });
        }
    }
}
