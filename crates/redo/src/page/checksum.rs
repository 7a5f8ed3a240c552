//! The page checksum of `initdb --data-checksums`.
//!
//! Follows `storage/checksum_impl.h`: 32 FNV-1a hashes side by side over the page's 2048 words, folded together,
//! mixed with the block number. The lanes are independent, so the compiler can use vector instructions.

use types::{BLOCK_SIZE, BlockNumber};

use crate::page::{PageBytes, is_new, store_checksum};

const LANES: usize = 32;
const FNV_PRIME: u32 = 16_777_619;
/// The lanes' starting values (`checksumBaseOffsets`).
const START: [u32; LANES] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// The checksum of `page` as block `block` of its fork; the checksum stored in the page does not matter.
/// Never 0. A new page (all zeros) has none: see [`set_checksum`].
pub fn checksum(page: &PageBytes, block: BlockNumber) -> u16 {
    let mut lanes = START;
    for (index, row) in page.chunks_exact(LANES * 4).enumerate() {
        for (lane, (sum, word)) in lanes.iter_mut().zip(row.chunks_exact(4)).enumerate() {
            let mut value = word.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
            if index == 0 && lane == 2 {
                value &= 0xFFFF_0000; // pd_checksum counts as zero
            }
            *sum = mix(*sum, value);
        }
    }
    let folded = lanes.iter().fold(0, |all, &lane| all ^ mix(mix(lane, 0), 0));
    ((folded ^ block.get()) % 65535 + 1) as u16
}

fn mix(sum: u32, value: u32) -> u32 {
    let mixed = sum ^ value;
    mixed.wrapping_mul(FNV_PRIME) ^ (mixed >> 17)
}

/// Stores the right checksum in `page`, unless the page is new (`PageSetChecksumInplace`).
pub fn set_checksum(page: &mut PageBytes, block: BlockNumber) {
    if !is_new(page) {
        let checksum = checksum(page, block);
        store_checksum(page, checksum);
    }
}

const _: () = assert!(BLOCK_SIZE.is_multiple_of(LANES * 4));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_checksum_and_only_it_is_left_out() {
        let mut page = [7; BLOCK_SIZE];
        let block = BlockNumber::new(3);
        let before = checksum(&page, block);
        store_checksum(&mut page, 1);
        assert_eq!(checksum(&page, block), before);
        page[10] ^= 1;
        assert_ne!(checksum(&page, block), before);
        assert_ne!(checksum(&page, BlockNumber::new(4)), checksum(&page, block));
    }

    #[test]
    fn a_new_page_gets_no_checksum() {
        let mut page = [0; BLOCK_SIZE];
        set_checksum(&mut page, BlockNumber::new(0));
        assert_eq!(page, [0; BLOCK_SIZE]);
    }
}
