//! What pages of hash indexes hold: the special area, the metapage, bitmaps of overflow pages.
//!
//! ```text
//!  special area: prev 4 | next 4 | bucket 4 | flags 2 | page id 2
//!  metapage:     magic 4 | version 4 | tuples 8 | fill factor 2 | bitmap area 2 | bitmap bytes 2 | bitmap shift 2
//!                | max bucket 4 | high mask 4 | low mask 4 | split point 4 | first free 4 | bitmaps 4 | function 4
//!                | spare pages before each split point 4 * 98 | blocks of the bitmaps 4 * 1024
//!  bitmap:       one bit for each overflow page, set if it is in use
//! ```
//!
//! Follows `access/hash.h` and the functions of `hashpage.c`, `hashovfl.c` and `hashutil.c` that make pages. In a
//! bucket's first page the field `prev` is the number of the last bucket when the page was last split.

use types::{BLOCK_SIZE, PAGE_HEADER_SIZE};

use crate::Fault;
use crate::bytes::{Done, array_at, array_at_mut, put, put_u16, put_u32, slice_at_mut, u8_at, u32_at};
use crate::page::{self, PageBytes};

/// Bytes of the special area (`HashPageOpaqueData`).
const SPECIAL_SIZE: usize = 16;
/// `HASHO_PAGE_ID`: tells hash pages from those of other indexes.
const PAGE_ID: u16 = 0xFF80;
/// `InvalidBlockNumber`, and `InvalidBucket` too.
pub(crate) const NONE: u32 = u32::MAX;

/// `LH_UNUSED_PAGE`
pub(crate) const UNUSED: u16 = 0;
/// `LH_OVERFLOW_PAGE`
pub(crate) const OVERFLOW: u16 = 1 << 0;
/// `LH_BUCKET_PAGE`
pub(crate) const BUCKET: u16 = 1 << 1;
const BITMAP: u16 = 1 << 2;
const META: u16 = 1 << 3;
/// `LH_PAGE_TYPE`
pub(crate) const TYPE_MASK: u16 = OVERFLOW | BUCKET | BITMAP | META;
/// `LH_BUCKET_NEEDS_SPLIT_CLEANUP`
pub(crate) const NEEDS_SPLIT_CLEANUP: u16 = 1 << 6;
/// `LH_PAGE_HAS_DEAD_TUPLES`. A hint.
pub(crate) const HAS_DEAD_TUPLES: u16 = 1 << 7;

/// A page's special area, to change.
pub(crate) struct Opaque<'a>(&'a mut [u8; SPECIAL_SIZE]);

impl<'a> Opaque<'a> {
    /// The special area of `page`.
    pub(crate) fn of(page: &'a mut PageBytes) -> Result<Self, Fault> {
        let at = page::special(page);
        array_at_mut(page, at).map(Self)
    }

    pub(crate) fn flags(&self) -> u16 {
        u16::from_le_bytes([self.0[12], self.0[13]])
    }

    pub(crate) fn set_prev(&mut self, block: u32) {
        [self.0[0], self.0[1], self.0[2], self.0[3]] = block.to_le_bytes();
    }

    pub(crate) fn set_next(&mut self, block: u32) {
        [self.0[4], self.0[5], self.0[6], self.0[7]] = block.to_le_bytes();
    }

    fn set_bucket(&mut self, bucket: u32) {
        [self.0[8], self.0[9], self.0[10], self.0[11]] = bucket.to_le_bytes();
    }

    pub(crate) fn set_flags(&mut self, flags: u16) {
        [self.0[12], self.0[13]] = flags.to_le_bytes();
    }

    pub(crate) fn clear_flag(&mut self, flag: u16) {
        self.set_flags(self.flags() & !flag);
    }

    fn set_page_id(&mut self) {
        [self.0[14], self.0[15]] = PAGE_ID.to_le_bytes();
    }
}

/// An empty page that is the last of its chain (`_hash_initbuf`).
pub(crate) fn init(page: &mut PageBytes, prev: u32, bucket: u32, flags: u16) -> Done {
    page::init(page, SPECIAL_SIZE);
    let mut opaque = Opaque::of(page)?;
    opaque.set_prev(prev);
    opaque.set_next(NONE);
    opaque.set_bucket(bucket);
    opaque.set_flags(flags);
    opaque.set_page_id();
    Ok(())
}

/// A bitmap of `bitmap_bytes` bytes, all of its bits set (`_hash_initbitmapbuffer`).
pub(crate) fn init_bitmap(page: &mut PageBytes, bitmap_bytes: u16) -> Done {
    init(page, NONE, NONE, BITMAP)?;
    let len = usize::from(bitmap_bytes);
    if len > CONTENTS_MAX {
        return Err(Fault::Malformed("the bitmap does not fit on the page"));
    }
    slice_at_mut(page, PAGE_HEADER_SIZE, len)?.fill(0xFF);
    page::set_lower(page, PAGE_HEADER_SIZE + len);
    Ok(())
}

/// Sets or clears one bit of a bitmap (`SETBIT`, `CLRBIT`).
pub(crate) fn put_bit(page: &mut PageBytes, bit: u32, value: bool) -> Done {
    let offset = (bit / 8) as usize;
    if offset >= CONTENTS_MAX {
        return Err(Fault::Malformed("the bitmap has no such bit"));
    }
    let byte = u8_at(page, PAGE_HEADER_SIZE + offset)?;
    let mask = 1 << (bit % 8);
    put(page, PAGE_HEADER_SIZE + offset, &[if value { byte | mask } else { byte & !mask }])
}

/// Bytes between header and special area (`HashGetMaxBitmapSize`).
const CONTENTS_MAX: usize = BLOCK_SIZE - PAGE_HEADER_SIZE - SPECIAL_SIZE;
/// Bytes of a bitmap: the largest power of two that fits.
const BITMAP_BYTES: u16 = 4096;
/// log2 of the bits of a bitmap.
const BITMAP_SHIFT: u16 = 15;

const MAGIC: u32 = 0x0644_0640;
const VERSION: u32 = 4;
/// `HASH_MAX_SPLITPOINTS`
const SPLIT_POINTS_MAX: u32 = 98;
/// `HASH_MAX_BITMAPS`
const BITMAPS_MAX: u32 = 1024;

const MAGIC_AT: usize = PAGE_HEADER_SIZE;
const VERSION_AT: usize = PAGE_HEADER_SIZE + 4;
const TUPLES_AT: usize = PAGE_HEADER_SIZE + 8;
const FILL_FACTOR_AT: usize = PAGE_HEADER_SIZE + 16;
const BITMAP_AREA_AT: usize = PAGE_HEADER_SIZE + 18;
const BITMAP_BYTES_AT: usize = PAGE_HEADER_SIZE + 20;
const BITMAP_SHIFT_AT: usize = PAGE_HEADER_SIZE + 22;
const MAX_BUCKET_AT: usize = PAGE_HEADER_SIZE + 24;
const HIGH_MASK_AT: usize = PAGE_HEADER_SIZE + 28;
const LOW_MASK_AT: usize = PAGE_HEADER_SIZE + 32;
const SPLIT_POINT_AT: usize = PAGE_HEADER_SIZE + 36;
const FIRST_FREE_AT: usize = PAGE_HEADER_SIZE + 40;
const BITMAPS_AT: usize = PAGE_HEADER_SIZE + 44;
const FUNCTION_AT: usize = PAGE_HEADER_SIZE + 48;
const SPARES_AT: usize = PAGE_HEADER_SIZE + 52;
const BITMAP_BLOCKS_AT: usize = SPARES_AT + SPLIT_POINTS_MAX as usize * 4;
/// Bytes of `HashMetaPageData`, padding included.
const META_SIZE: usize = 4544;
const _: () = assert!(
    PAGE_HEADER_SIZE + META_SIZE == (BITMAP_BLOCKS_AT + BITMAPS_MAX as usize * 4).next_multiple_of(8)
);

/// A page taken for the metapage, to change.
pub(crate) struct Meta<'a>(&'a mut PageBytes);

impl<'a> Meta<'a> {
    /// `page`, which is the metapage.
    pub(crate) fn of(page: &'a mut PageBytes) -> Self {
        Self(page)
    }

    /// Makes the metapage of an index that is to hold `tuples` tuples (`_hash_init_metabuffer`).
    pub(crate) fn init(page: &'a mut PageBytes, tuples: f64, function: u32, fill_factor: u16) -> Done {
        let buckets = first_buckets(tuples, fill_factor)?;
        let split_point = split_point_of(buckets);
        init(page, NONE, NONE, META)?;
        put_u32(page, MAGIC_AT, MAGIC)?;
        put_u32(page, VERSION_AT, VERSION)?;
        put_u16(page, FILL_FACTOR_AT, fill_factor)?;
        put_u16(page, BITMAP_AREA_AT, CONTENTS_MAX as u16)?;
        put_u16(page, BITMAP_BYTES_AT, BITMAP_BYTES)?;
        put_u16(page, BITMAP_SHIFT_AT, BITMAP_SHIFT)?;
        put_u32(page, FUNCTION_AT, function)?;
        page::set_lower(page, PAGE_HEADER_SIZE + META_SIZE);
        let high_mask = (buckets + 1).next_power_of_two() - 1;
        let mut meta = Self(page);
        meta.set_max_bucket(buckets - 1)?;
        meta.set_masks(high_mask >> 1, high_mask)?;
        meta.set_split_point(split_point, 1)
    }

    /// Notes that the index has `by` tuples more.
    pub(crate) fn add_tuples(&mut self, by: f64) -> Done {
        let tuples = f64::from_le_bytes(array_at(self.0, TUPLES_AT)?);
        self.set_tuples(tuples + by)
    }

    pub(crate) fn set_tuples(&mut self, tuples: f64) -> Done {
        put(self.0, TUPLES_AT, &tuples.to_le_bytes())
    }

    pub(crate) fn max_bucket(&self) -> Result<u32, Fault> {
        u32_at(self.0, MAX_BUCKET_AT)
    }

    pub(crate) fn set_max_bucket(&mut self, bucket: u32) -> Done {
        put_u32(self.0, MAX_BUCKET_AT, bucket)
    }

    pub(crate) fn set_masks(&mut self, low: u32, high: u32) -> Done {
        put_u32(self.0, LOW_MASK_AT, low)?;
        put_u32(self.0, HIGH_MASK_AT, high)
    }

    /// Begins a split point, with so many spare pages before it.
    pub(crate) fn set_split_point(&mut self, split_point: u32, spares: u32) -> Done {
        put_u32(self.0, spares_at(split_point)?, spares)?;
        put_u32(self.0, SPLIT_POINT_AT, split_point)
    }

    /// Notes that one more page was added at the end, after the current split point.
    pub(crate) fn add_spare(&mut self) -> Done {
        let at = spares_at(u32_at(self.0, SPLIT_POINT_AT)?)?;
        let spares = u32_at(self.0, at)?;
        put_u32(self.0, at, spares.wrapping_add(1))
    }

    pub(crate) fn set_first_free(&mut self, bit: u32) -> Done {
        put_u32(self.0, FIRST_FREE_AT, bit)
    }

    /// Lists one more bitmap page.
    pub(crate) fn add_bitmap(&mut self, block: u32) -> Done {
        let count = u32_at(self.0, BITMAPS_AT)?;
        if count >= BITMAPS_MAX {
            return Err(Fault::Malformed("the metapage has more bitmaps than there can be"));
        }
        put_u32(self.0, BITMAP_BLOCKS_AT + count as usize * 4, block)?;
        put_u32(self.0, BITMAPS_AT, count + 1)
    }
}

fn spares_at(split_point: u32) -> Result<usize, Fault> {
    if split_point >= SPLIT_POINTS_MAX {
        return Err(Fault::Malformed("there is no such split point"));
    }
    Ok(SPARES_AT + split_point as usize * 4)
}

/// Buckets that an index begins with: enough for `tuples`, at least 2, rounded up to whole split points.
fn first_buckets(tuples: f64, fill_factor: u16) -> Result<u32, Fault> {
    const MAX: u32 = 0x4000_0000;
    let wanted = tuples / f64::from(fill_factor);
    if wanted.is_nan() {
        return Err(Fault::Malformed("a hash index without a fill factor"));
    }
    if wanted <= 2.0 {
        return Ok(2);
    }
    // Postgres drops the fraction here, so that 4.5 buckets' worth of tuples begin with 4.
    Ok(if wanted >= f64::from(MAX) { MAX } else { total_buckets(split_point_of(wanted as u32)) })
}

/// Groups of split points that are one split point each (`HASH_SPLITPOINT_GROUPS_WITH_ONE_PHASE`); later groups are
/// added in 4 steps.
const SINGLE_GROUPS: u32 = 10;

/// The split point at which there are at least `buckets` buckets (`_hash_spareindex`); at least 1 bucket.
fn split_point_of(buckets: u32) -> u32 {
    let group = u32::BITS - (buckets - 1).leading_zeros();
    if group < SINGLE_GROUPS {
        return group;
    }
    SINGLE_GROUPS + (group - SINGLE_GROUPS) * 4 + ((buckets - 1) >> (group - 3) & 3)
}

/// How many buckets there are at a split point (`_hash_get_totalbuckets`).
fn total_buckets(split_point: u32) -> u32 {
    if split_point < SINGLE_GROUPS {
        return 1 << split_point;
    }
    let group = SINGLE_GROUPS + (split_point - SINGLE_GROUPS) / 4;
    let before = 1 << (group - 1);
    before + before / 4 * ((split_point - SINGLE_GROUPS) % 4 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_come_in_whole_split_points() {
        let buckets = |tuples| first_buckets(tuples, 10).unwrap();
        assert_eq!([0.0, 20.0, 29.0, 31.0, 5110.0].map(buckets), [2, 2, 2, 4, 512]);
        assert_eq!([5130.0, 6400.0, 6410.0, 10240.0, 10250.0].map(buckets), [640, 640, 768, 1024, 1280]);
        assert_eq!([1e12, f64::INFINITY].map(buckets), [0x4000_0000; 2]);
        assert!(first_buckets(0.0, 0).is_err());
        assert_eq!(split_point_of(0x4000_0000), 93);
    }

    #[test]
    fn every_split_point_is_the_one_of_its_last_bucket() {
        for split_point in 1..94 {
            let total = total_buckets(split_point);
            assert_eq!(split_point_of(total), split_point);
            assert!(split_point == 93 || split_point_of(total + 1) == split_point + 1);
        }
    }

    #[test]
    fn bits_are_counted_from_the_lowest_of_the_first_byte() {
        let mut page = [0; BLOCK_SIZE];
        init_bitmap(&mut page, BITMAP_BYTES).unwrap();
        put_bit(&mut page, 35, false).unwrap();
        assert_eq!(page[24..30], [0xFF, 0xFF, 0xFF, 0xFF, 0xF7, 0xFF]);
        put_bit(&mut page, 35, true).unwrap();
        assert_eq!(page[24..24 + 4096], [0xFF; 4096]);
        assert!(put_bit(&mut page, CONTENTS_MAX as u32 * 8, true).is_err());
    }
}
