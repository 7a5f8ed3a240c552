//! What no workload on a current Postgres reaches: GIN pages of before 9.4, records that lack what they must have.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod build;

use build::{Block, record};
use redo::{RedoContext, RedoError, apply, page};
use types::{BLOCK_SIZE, BlockNumber, Fork, Key, Lsn, Page, RelFork, RelTag};
use wal::Record;

const GIN: u8 = 13;
const GENERIC: u8 = 20;
const CREATE_PTREE: u8 = 0x10;
const SPLIT: u8 = 0x30;
const VACUUM_PAGE: u8 = 0x40;
const DELETE_PAGE: u8 = 0x50;
const UPDATE_META_PAGE: u8 = 0x60;
const VACUUM_DATA_LEAF_PAGE: u8 = 0x90;

/// Where the content of a posting tree's page and the special area begin.
const CONTENT: usize = 32;
const SPECIAL: usize = 8184;

fn lsn(raw: u64) -> Lsn {
    Lsn::from_raw(raw).unwrap()
}

fn run(rmgr: u8, info: u8, id: u8, data: &[u8], main: &[u8], page: &mut Page) -> Result<(), RedoError> {
    let will_init = matches!((rmgr, info, id), (GIN, CREATE_PTREE | UPDATE_META_PAGE, 0));
    let target = Block { id, fork: 0, will_init, image: None, block: 3, data };
    let bytes = record(rmgr, info, &[target], main);
    let rel = RelTag { tablespace: 1663, database: 5, relation: 16384 };
    let key = Key::RelBlock(RelFork { rel, fork: Fork::Main }, BlockNumber::new(3));
    let end = page::lsn(page).map_or(100, |lsn| lsn.raw() + 100);
    let cx = RedoContext { major: 15, checksums: true };
    apply(&cx, &key, page, &Record::decode(lsn(8), &bytes).unwrap(), lsn(end))
}

fn malformed(outcome: Result<(), RedoError>) -> &'static str {
    match outcome {
        Err(RedoError::Malformed { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// A segment of the tids (block 1, item 1), (1, 2) ..
fn segment(items: u8) -> Vec<u8> {
    let steps = items - 1;
    let mut bytes = vec![0, 0, 1, 0, 1, 0, steps, 0];
    bytes.extend(vec![1; usize::from(steps).next_multiple_of(2)]);
    if steps % 2 == 1 {
        *bytes.last_mut().unwrap() = 0;
    }
    bytes
}

fn leaf(segments: &[u8]) -> Page {
    let mut page = Page::zeroed();
    let len = u32::try_from(segments.len()).unwrap().to_le_bytes();
    run(GIN, CREATE_PTREE, 0, &[], &[&len, segments].concat(), &mut page).unwrap();
    page
}

fn tid(block: u8, item: u8) -> [u8; 6] {
    [0, 0, block, 0, item, 0]
}

/// A leaf as before 9.4: an array of tids that `lower` does not tell of.
fn old_leaf(tids: &[[u8; 6]]) -> Page {
    let mut page = leaf(&[]);
    page[12..14].copy_from_slice(&24u16.to_le_bytes());
    let array = tids.concat();
    page[CONTENT..CONTENT + array.len()].copy_from_slice(&array);
    page[SPECIAL + 4] = u8::try_from(tids.len()).unwrap();
    page[SPECIAL + 6] &= !0x80;
    page
}

#[test]
fn a_leaf_of_before_9_4_is_compressed_before_it_is_changed() {
    let add = [&[1, 0, 0, 4, 1, 0][..], &tid(1, 3)].concat();
    let mut page = old_leaf(&[tid(1, 1), tid(1, 2), tid(1, 4)]);
    run(GIN, VACUUM_DATA_LEAF_PAGE, 0, &add, &[], &mut page).unwrap();
    let expected = leaf(&segment(4));
    let end = page::lower(&expected);
    assert_eq!(page[8..end], expected[8..end]);
    assert_eq!(page[SPECIAL..], expected[SPECIAL..]);
    assert_eq!(page[end..end + 6], tid(1, 4), "what was there before stays in the free space");
}

#[test]
fn an_empty_leaf_of_before_9_4_gets_its_first_segment() {
    let mut page = old_leaf(&[]);
    run(GIN, VACUUM_DATA_LEAF_PAGE, 0, &[&[1, 0, 0, 2], &segment(3)[..]].concat(), &[], &mut page).unwrap();
    assert_eq!(page[8..], leaf(&segment(3))[8..]);
}

#[test]
fn a_split_half_or_a_vacuumed_page_without_its_image_is_refused() {
    for (info, id) in [(SPLIT, 0), (SPLIT, 1), (SPLIT, 2), (VACUUM_PAGE, 0)] {
        assert!(malformed(run(GIN, info, id, &[], &[], &mut leaf(&segment(3)))).contains("image"));
    }
}

#[test]
fn a_finished_split_clears_its_mark_and_no_other() {
    let mut page = leaf(&segment(3));
    page[SPECIAL + 6] |= 0x40;
    run(GIN, SPLIT, 3, &[], &[], &mut page).unwrap();
    assert_eq!(page[8..], leaf(&segment(3))[8..]);
}

#[test]
fn actions_on_segments_that_cannot_be_are_refused() {
    let two = [segment(3), segment(4)].concat();
    let long: Vec<u8> = [&[2, 0, 0, 2][..], &segment(255), &[2, 2]].concat();
    let bad: [(&str, &[u8]); 8] = [
        ("no segment of that number", &[1, 0, 2, 1]),
        ("no segment of that number", &[1, 0, 9, 1]),
        ("not in order", &[2, 0, 1, 1, 0, 1]),
        ("unexpected action", &[1, 0, 0, 0]),
        ("unexpected action", &[1, 0, 0, 5]),
        ("not in order", &[1, 0, 0, 4, 2, 0, 0, 0, 9, 0, 2, 0, 0, 0, 9, 0, 1, 0]),
        ("outside its record", &[2, 0, 0, 1]),
        ("outside its record", &long),
    ];
    for (reason, actions) in bad {
        let said = malformed(run(GIN, VACUUM_DATA_LEAF_PAGE, 0, actions, &[], &mut leaf(&two)));
        assert!(said.contains(reason), "{actions:?}: {said}");
    }
}

#[test]
fn segments_that_do_not_fit_are_refused() {
    let full: Vec<u8> = segment(251).repeat(31);
    let add = [&[1, 0, 31, 2], &segment(251)[..]].concat();
    let said = malformed(run(GIN, VACUUM_DATA_LEAF_PAGE, 0, &add, &[], &mut leaf(&full)));
    assert!(said.contains("do not fit"), "{said}");
    let items: Vec<u8> = (1..=200).flat_map(|n| tid(n, 7)).collect();
    let add = [&[1, 0, 30, 4, 200, 0], &items[..]].concat();
    assert!(run(GIN, VACUUM_DATA_LEAF_PAGE, 0, &add, &[], &mut leaf(&full)).is_err());
}

#[test]
fn a_deleted_page_keeps_its_right_sibling_and_learns_who_may_still_see_it() {
    let mut page = leaf(&segment(3));
    page[SPECIAL] = 9;
    run(GIN, DELETE_PAGE, 0, &[], &[1, 0, 0, 0, 7, 0, 0, 0, 0xBC, 2, 0, 0], &mut page).unwrap();
    assert_eq!((page[SPECIAL], page[SPECIAL + 6] & 0x04, page::prune_xid(&page)), (9, 0x04, 700));
}

#[test]
fn a_metapage_is_made_anew_whatever_was_there() {
    let mut main = vec![0; 88];
    main[16..72].copy_from_slice(&[5; 56]);
    let mut page = Page::from_slice(&[0xFF; BLOCK_SIZE]).unwrap();
    page[..8].fill(0);
    run(GIN, UPDATE_META_PAGE, 0, &[], &main, &mut page).unwrap();
    assert_eq!((page::lower(&page), page[SPECIAL + 6]), (80, 0x08));
    assert_eq!(page[24..80], [5; 56]);
    assert!(page[80..SPECIAL].iter().all(|&byte| byte == 0));
}

#[test]
fn a_generic_record_overwrites_ranges_and_zeroes_the_free_space() {
    let mut page = leaf(&segment(3));
    page[5000] = 1;
    run(GENERIC, 0, 0, &[36, 0, 2, 0, 7, 8, 255, 31, 1, 0, 9], &[], &mut page).unwrap();
    assert_eq!((page[36], page[37], page[8191], page[5000]), (7, 8, 9, 0));
    for outside in [&[255, 31, 2, 0, 1, 1][..], &[0, 0, 2, 0, 1], &[12, 0, 2, 0, 0xFF, 0xFF]] {
        malformed(run(GENERIC, 0, 0, outside, &[], &mut page.clone()));
    }
}

/// The ranges by which a page of zeroes becomes `page`, as `computeDelta` gives them: a run that matches for long is left
/// out, and so is what lies between `lower` and `upper`.
fn delta_from_zeroes(page: &Page, is_known: impl Fn(usize) -> bool) -> Vec<u8> {
    let mut ranges = Vec::new();
    let differs = |at: usize| page[at] != 0 && !is_known(at);
    let mut at = 0;
    while let Some(start) = (at..BLOCK_SIZE).find(|at| differs(*at)) {
        let end = (start..BLOCK_SIZE).find(|at| (*at..at + 5).all(|at| at >= BLOCK_SIZE || !differs(at)));
        at = end.unwrap_or(BLOCK_SIZE);
        ranges.extend((start as u16).to_le_bytes());
        ranges.extend(((at - start) as u16).to_le_bytes());
        ranges.extend(&page[start..at]);
    }
    ranges
}

/// RUM changes the pages by which it extends an index so, and never asks for an image.
/// Rule 5 of the crate's README.
#[test]
fn a_generic_record_that_says_all_of_a_page_makes_it_where_there_was_none() {
    let mut whole = leaf(&segment(3));
    whole[..10].fill(0);
    let mut page = Page::zeroed();
    run(GENERIC, 0, 0, &delta_from_zeroes(&whole, |_| false), &[], &mut page).unwrap();
    assert_eq!(page::lsn(&page), Some(lsn(100)));
    assert_eq!(page[8..], whole[8..]);
    let before = page.clone();
    let rel = RelTag { tablespace: 1663, database: 5, relation: 16384 };
    let key = Key::RelBlock(RelFork { rel, fork: Fork::Main }, BlockNumber::new(3));
    let target = Block { id: 0, fork: 0, will_init: false, image: None, block: 3, data: &[36, 0, 1, 0, 7] };
    let bytes = record(GENERIC, 0, &[target], &[]);
    let cx = RedoContext { major: 15, checksums: true };
    apply(&cx, &key, &mut page, &Record::decode(lsn(8), &bytes).unwrap(), lsn(100)).unwrap();
    assert_eq!(page, before, "a record that the page already has");
}

/// A page that was initialised in place, before the record was begun: only an image could tell what it was.
#[test]
fn a_generic_record_that_lacks_a_pages_header_makes_none() {
    let mut whole = leaf(&segment(3));
    whole[..10].fill(0);
    let header = 12..24;
    let partial = delta_from_zeroes(&whole, |at| header.contains(&at));
    for data in [&partial[..], &[], &[14, 0, 2, 0, 0, 32]] {
        let reason = malformed(run(GENERIC, 0, 0, data, &[], &mut Page::zeroed()));
        assert!(reason.contains("never initialised"), "{reason}");
    }
}
