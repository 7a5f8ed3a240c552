//! The files of a stopped server, as a judge of what no record's image shows: visibility maps and SLRUs.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use types::{
    BLOCK_SIZE, BlockNumber, Fork, GLOBAL_TABLESPACE, Key, PAGE_HEADER_SIZE, Page, RelFork, SlruKind,
};

use crate::replay::Replayed;

/// Pages in one segment file of a relation.
const PAGES_PER_FILE: u32 = 131_072;

/// What a comparison with files found.
#[derive(Default, Debug)]
pub struct Compared {
    /// Pages of visibility maps that are equal.
    pub maps: u64,
    /// Pages of SLRUs that are equal.
    pub slrus: u64,
    /// Pages that differ, and where first.
    pub mismatches: Vec<String>,
}

/// Compares the visibility maps and SLRUs that replay left with the files of the stopped server.
///
/// Maps of databases that were copied through WAL may lack bits: replay gives empty ones there, on a standby too.
pub fn compare(after: &Path, replayed: &Replayed) -> Compared {
    let mut compared = Compared::default();
    for (key, ours) in &replayed.pages {
        let (block, may_lack) = match *key {
            Key::RelBlock(RelFork { rel, fork: Fork::Visibility }, block) => {
                (Some(block), replayed.copied_by_wal.contains(&rel.database))
            }
            Key::SlruBlock(..) => (None, false),
            _ => continue,
        };
        let Some(theirs) = read_page(after, key) else { continue };
        let mut ours = ours.clone();
        if let Some(block) = block.filter(|_| !redo::page::is_new(&ours)) {
            redo::set_checksum(&mut ours, block);
        }
        let differs = |at: &usize| match may_lack {
            true => *at >= PAGE_HEADER_SIZE && ours[*at] & !theirs[*at] != 0,
            false => ours[*at] != theirs[*at],
        };
        match (0..BLOCK_SIZE).find(differs) {
            Some(at) => compared.mismatches.push(format!(
                "{key:?} differs from the stopped server's file: first at byte {at}: {:02x}, should be {:02x}",
                ours[at], theirs[at]
            )),
            None if block.is_some() => compared.maps += 1,
            None => compared.slrus += 1,
        }
    }
    compared
}

/// The page `key` in a stopped cluster's files; `None` if its file is not there or ends before it.
pub fn read_page(data: &Path, key: &Key) -> Option<Page> {
    let (path, index) = match *key {
        Key::RelBlock(rel, block) => (relation_path(rel, block), block.get() % PAGES_PER_FILE),
        Key::SlruBlock(kind, page) => (slru_path(kind, page), page % types::SLRU_PAGES_PER_SEGMENT),
        _ => return None,
    };
    let mut bytes = [0; BLOCK_SIZE];
    let file = File::open(data.join(path)).ok()?;
    file.read_exact_at(&mut bytes, u64::from(index) * BLOCK_SIZE as u64).ok()?;
    Page::from_slice(&bytes)
}

fn relation_path(RelFork { rel, fork }: RelFork, block: BlockNumber) -> String {
    let suffix = fork.suffix();
    let directory = match rel.tablespace {
        GLOBAL_TABLESPACE => "global".to_owned(),
        types::DEFAULT_TABLESPACE => format!("base/{}", rel.database),
        other => format!("pg_tblspc/{other}/{}", rel.database),
    };
    match block.get() / PAGES_PER_FILE {
        0 => format!("{directory}/{}{suffix}", rel.relation),
        segment => format!("{directory}/{}{suffix}.{segment}", rel.relation),
    }
}

fn slru_path(kind: SlruKind, page: u32) -> String {
    format!("{}/{:04X}", kind.directory(), page / types::SLRU_PAGES_PER_SEGMENT)
}
