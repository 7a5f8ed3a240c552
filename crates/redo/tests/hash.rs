//! Effects of Hash records that a workload does not reach.
//!
//! A second bitmap takes 32768 overflow pages, and Postgres 15 only ever frees the last page of a chain.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod build;

use build::{Block, record};
use redo::{RedoContext, apply, page};
use types::{BlockNumber, Fork, Key, Lsn, Page, RelFork, RelTag};
use wal::Record;

const HASH: u8 = 12;
const INIT_META_PAGE: u8 = 0x00;
const INIT_BITMAP_PAGE: u8 = 0x10;
const INSERT: u8 = 0x20;
const ADD_OVFL_PAGE: u8 = 0x30;
const SPLIT_ALLOCATE_PAGE: u8 = 0x40;
const SQUEEZE_PAGE: u8 = 0x80;
const VACUUM_ONE_PAGE: u8 = 0xC0;

const SPARES: usize = 24 + 52;
const BITMAPS: usize = 24 + 44;
const BITMAP_BLOCKS: usize = SPARES + 98 * 4;

fn lsn(raw: u64) -> Lsn {
    Lsn::from_raw(raw).unwrap()
}

fn block<'a>(id: u8, block: u32, data: &'a [u8]) -> Block<'a> {
    Block { id, fork: 0, will_init: false, image: None, block, data }
}

/// What becomes of `page`, which is block `number`.
fn run(bytes: &[u8], number: u32, page: &mut Page, end: u64) {
    run_on(15, bytes, number, page, end);
}

fn run_on(major: u32, bytes: &[u8], number: u32, page: &mut Page, end: u64) {
    let rel = RelFork { rel: RelTag { tablespace: 1663, database: 5, relation: 16384 }, fork: Fork::Main };
    let key = Key::RelBlock(rel, BlockNumber::new(number));
    apply(
        &RedoContext { major, checksums: true },
        &key,
        page,
        &Record::decode(lsn(8), bytes).unwrap(),
        lsn(end),
    )
    .unwrap();
}

fn word(page: &Page, at: usize) -> u32 {
    u32::from_le_bytes(page[at..at + 4].try_into().unwrap())
}

/// The metapage of an index that begins with 2 buckets and a bitmap in block 3.
fn meta() -> Page {
    let main = [&0f64.to_le_bytes()[..], &449u32.to_le_bytes(), &300u16.to_le_bytes()].concat();
    let mut page = Page::zeroed();
    let begins = Block { will_init: true, ..block(0, 0, &[]) };
    run(&record(HASH, INIT_META_PAGE, &[begins], &main), 0, &mut page, 100);
    let bitmap = Block { will_init: true, ..block(0, 3, &[]) };
    run(&record(HASH, INIT_BITMAP_PAGE, &[bitmap, block(1, 0, &[])], &[0, 16]), 0, &mut page, 200);
    page
}

/// The first page of bucket 1, with `count` tuples of 16 bytes.
fn bucket(count: u16) -> Page {
    let new = Block { will_init: true, ..block(1, 2, &[]) };
    let mut page = Page::zeroed();
    let main = [1, 0, 0, 0, 0x22, 0, 0x12, 0, 0];
    run(&record(HASH, SPLIT_ALLOCATE_PAGE, &[block(0, 1, &[]), new], &main), 2, &mut page, 100);
    for number in 1..=count {
        let tuple = [number as u8, 0, 0, 0, 1, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let bytes = record(HASH, INSERT, &[block(0, 2, &tuple)], &number.to_le_bytes());
        run(&bytes, 2, &mut page, 100 + u64::from(number));
    }
    page
}

#[test]
fn a_second_bitmap_is_listed_and_takes_a_spare_page_too() {
    let blocks = |data| {
        [
            Block { will_init: true, ..block(0, 71, &[1, 0, 0, 0]) },
            block(1, 2, &[]),
            Block { will_init: true, ..block(3, 70, &[]) },
            block(4, 0, data),
        ]
    };
    let added = record(HASH, ADD_OVFL_PAGE, &blocks(&[9, 0, 0, 0]), &[0, 16, 0]);
    let (mut meta, mut bitmap) = (meta(), Page::zeroed());
    assert_eq!((word(&meta, BITMAPS), word(&meta, BITMAP_BLOCKS), word(&meta, SPARES + 4)), (1, 3, 1));
    run(&added, 0, &mut meta, 300);
    assert_eq!((word(&meta, BITMAPS), word(&meta, BITMAP_BLOCKS + 4), word(&meta, SPARES + 4)), (2, 70, 3));
    run(&added, 70, &mut bitmap, 300);
    assert_eq!(page::lower(&bitmap), 24 + 4096);
    assert!(bitmap[24..24 + 4096].iter().all(|&byte| byte == 0xFF));

    let recycled = record(HASH, ADD_OVFL_PAGE, &blocks(&[9, 0, 0, 0]), &[0, 16, 1]);
    run(&recycled, 0, &mut meta, 400);
    assert_eq!((word(&meta, BITMAPS), word(&meta, SPARES + 4)), (2, 3));
}

#[test]
fn the_page_after_a_freed_one_is_linked_to_the_one_before() {
    let main = [7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0];
    let squeezed = record(HASH, SQUEEZE_PAGE, &[block(2, 9, &[]), block(4, 2, &[])], &main);
    let mut next = bucket(0);
    run(&squeezed, 2, &mut next, 300);
    assert_eq!(word(&next, page::special(&next)), 7);
}

#[test]
fn a_bucket_that_was_only_locked_stays_as_it_is() {
    let main = [7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0];
    let squeezed = record(HASH, SQUEEZE_PAGE, &[block(0, 2, &[]), block(1, 9, &[])], &main);
    let mut page = bucket(3);
    run(&squeezed, 2, &mut page, 300);
    assert_eq!(page, bucket(3));
}

#[test]
fn a_page_that_takes_in_nothing_keeps_its_lsn_from_17_on() {
    let main = [7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 1, 0];
    let squeezed = record(HASH, SQUEEZE_PAGE, &[block(1, 2, &[])], &main);
    for (major, end) in [(16, 300), (17, 103)] {
        let mut page = bucket(3);
        run_on(major, &squeezed, 2, &mut page, 300);
        assert_eq!((page::lsn(&page), &page[8..]), (Some(lsn(end)), &bucket(3)[8..]));
    }
}

/// Up to Postgres 15 the count has four bytes, from 16 on two, and a flag after it.
#[test]
fn tuples_found_dead_are_deleted_in_the_layouts_of_all_majors() {
    for count in [[2, 0, 0, 0], [2, 0, 1, 0]] {
        let main = [&[0, 0, 0, 0][..], &count, &[1, 0, 3, 0]].concat();
        let vacuumed = record(HASH, VACUUM_ONE_PAGE, &[block(0, 2, &[]), block(1, 0, &[])], &main);
        let (mut page, mut meta) = (bucket(4), meta());
        run(&vacuumed, 2, &mut page, 300);
        assert_eq!((page::max_offset(&page), page[page::upper(&page)]), (2, 4));
        run(&vacuumed, 0, &mut meta, 300);
        assert_eq!(meta[32..40], (-2f64).to_le_bytes());
    }
}
