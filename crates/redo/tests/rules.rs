//! The rules every record follows, and that no bytes at all make redo panic.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod build;

use build::{Block, record};
use proptest::prelude::*;
use redo::{RedoContext, RedoError, apply, page};
use types::{BLOCK_SIZE, BlockNumber, Fork, Key, Lsn, Page, RelFork, RelTag, SlruKind};
use wal::Record;

const CX: RedoContext = RedoContext { major: 15, checksums: true };
const XLOG: u8 = 0;
const HEAP: u8 = 10;
const HEAP2: u8 = 9;
const STANDBY: u8 = 8;
const HASH: u8 = 12;
const FPI_FOR_HINT: u8 = 0xA0;
const INSERT: u8 = 0x00;
const INSERT_INIT: u8 = 0x80;

fn lsn(raw: u64) -> Lsn {
    Lsn::from_raw(raw).unwrap()
}

fn key(fork: Fork, block: u32) -> Key {
    let rel = RelTag { tablespace: 1663, database: 5, relation: 16384 };
    Key::RelBlock(RelFork { rel, fork }, BlockNumber::new(block))
}

fn block<'a>(id: u8, block: u32, data: &'a [u8]) -> Block<'a> {
    Block { id, fork: 0, will_init: false, image: None, block, data }
}

fn run(bytes: &[u8], key: Key, page: &mut Page, end: u64) -> Result<(), RedoError> {
    apply(&CX, &key, page, &Record::decode(lsn(8), bytes).unwrap(), lsn(end))
}

/// An insertion of a tuple of 8 data bytes as item `item`; the tuple's data begin at 24.
fn insert(info: u8, item: u16, flags: u8) -> Vec<u8> {
    let [low, high] = item.to_le_bytes();
    let mut target = block(0, 3, &[1, 0, 0, 0, 24, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    target.will_init = info == INSERT_INIT;
    record(HEAP, info, &[target], &[low, high, flags])
}

fn one_tuple() -> Page {
    let mut page = Page::zeroed();
    run(&insert(INSERT_INIT, 1, 0), key(Fork::Main, 3), &mut page, 100).unwrap();
    page
}

#[test]
fn a_record_moves_the_page_to_its_end() {
    let mut page = one_tuple();
    assert_eq!(page::lsn(&page), Some(lsn(100)));
    run(&insert(INSERT, 2, 0), key(Fork::Main, 3), &mut page, 200).unwrap();
    assert_eq!((page::lsn(&page), page::max_offset(&page)), (Some(lsn(200)), 2));
}

/// Rule 2 of the crate's README.
#[test]
fn a_record_that_the_page_already_has_changes_nothing() {
    let before = one_tuple();
    for end in [99, 100] {
        let mut page = before.clone();
        run(&insert(INSERT, 2, 0), key(Fork::Main, 3), &mut page, end).unwrap();
        assert_eq!(page, before);
    }
}

/// Rule 2 of the crate's README.
#[test]
fn a_record_that_begins_a_page_ignores_what_was_there() {
    let mut page = Page::from_slice(&[0xFF; BLOCK_SIZE]).unwrap();
    run(&insert(INSERT_INIT, 1, 0), key(Fork::Main, 3), &mut page, 100).unwrap();
    assert_eq!(page, one_tuple());
}

/// Found by fuzzing: an insertion whose reference says that it begins the page, while its type says that it does not.
/// The store keeps nothing older for such a page, so what was there must not matter.
#[test]
fn a_record_that_only_says_it_begins_a_page_finds_none() {
    let mut target = block(0, 3, &[1, 0, 0, 0, 24, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    target.will_init = true;
    let bytes = record(HEAP, INSERT, &[target], &[2, 0, 0]);
    let error = run(&bytes, key(Fork::Main, 3), &mut one_tuple(), 200).unwrap_err();
    assert!(matches!(error, RedoError::Malformed { .. }), "{error}");
}

/// Found by fuzzing: a hint's record without its image, whose reference says that it begins the page.
#[test]
fn a_lost_hint_that_begins_a_page_leaves_none() {
    let mut target = block(0, 3, &[]);
    target.will_init = true;
    let mut page = one_tuple();
    run(&record(XLOG, FPI_FOR_HINT, &[target], &[]), key(Fork::Main, 3), &mut page, 200).unwrap();
    assert_eq!(page, Page::zeroed());
}

/// Rule 5 of the crate's README.
#[test]
fn a_page_that_was_never_made_cannot_be_changed() {
    let error = run(&insert(INSERT, 1, 0), key(Fork::Main, 3), &mut Page::zeroed(), 100).unwrap_err();
    assert!(matches!(error, RedoError::Malformed { .. }), "{error}");
}

/// Rule 1 of the crate's README.
#[test]
fn an_image_is_restored_for_any_resource_manager_and_gets_the_records_end() {
    let image = one_tuple();
    let target = Block { image: Some(&image[..]), ..block(0, 3, &[]) };
    let bytes = record(HASH, 0x10, &[target], &[]);
    let mut page = Page::from_slice(&[0xFF; BLOCK_SIZE]).unwrap();
    run(&bytes, key(Fork::Main, 3), &mut page, 50).unwrap();
    assert_eq!(page::lsn(&page), Some(lsn(50)));
    assert_eq!(page[8..], image[8..]);
}

#[test]
fn an_image_of_a_new_page_keeps_its_zero_lsn() {
    let target = Block { image: Some(&[0; BLOCK_SIZE]), ..block(0, 3, &[]) };
    let mut page = one_tuple();
    run(&record(0, 0xB0, &[target], &[]), key(Fork::Main, 3), &mut page, 500).unwrap();
    assert_eq!(page, Page::zeroed());
}

#[test]
fn a_type_without_replay_is_an_error_that_names_record_and_page() {
    let bytes = record(STANDBY, 0x10, &[block(0, 3, &[1])], &[]);
    let error = run(&bytes, key(Fork::Main, 3), &mut one_tuple(), 500).unwrap_err();
    assert!(matches!(error, RedoError::Unsupported { .. }));
    assert_eq!(
        error.to_string(),
        "cannot replay Standby/RUNNING_XACTS at 0/8 on block 3 of 1663/5/16384: record type not supported"
    );
}

#[test]
fn a_page_that_the_record_does_not_touch_is_an_error() {
    for other in [key(Fork::Main, 4), key(Fork::Visibility, 0), Key::SlruBlock(SlruKind::Clog, 0)] {
        let error = run(&insert(INSERT, 2, 0), other, &mut one_tuple(), 500).unwrap_err();
        assert!(matches!(error, RedoError::Untouched { .. }), "{error}");
    }
}

/// Rule 3 of the crate's README.
#[test]
fn visibility_bits_are_cleared_whatever_the_maps_lsn_and_leave_it() {
    let map = key(Fork::Visibility, 0);
    let set = Block { fork: 2, ..block(0, 0, &[]) };
    let set = record(HEAP2, 0x40, &[set, block(1, 3, &[])], &[0, 0, 0, 0, 3]);
    let mut page = Page::zeroed();
    run(&set, map, &mut page, 900).unwrap();
    assert_eq!((page[24], page::lsn(&page)), (0b1100_0000, Some(lsn(900))));
    run(&insert(INSERT, 2, 1), map, &mut page, 200).unwrap();
    assert_eq!((page[24], page::lsn(&page)), (0, Some(lsn(900))));
    run(&set, map, &mut page, 900).unwrap();
    assert_eq!(page[24], 0, "setting bits is guarded by the LSN");
}

#[test]
fn without_checksums_an_all_visible_heap_page_keeps_its_lsn() {
    let set = Block { fork: 2, ..block(0, 0, &[]) };
    let bytes = record(HEAP2, 0x40, &[set, block(1, 3, &[])], &[0, 0, 0, 0, 3]);
    let visible = Record::decode(lsn(8), &bytes).unwrap();
    for (checksums, expected) in [(true, 900), (false, 100)] {
        let mut page = one_tuple();
        apply(&RedoContext { major: 15, checksums }, &key(Fork::Main, 3), &mut page, &visible, lsn(900))
            .unwrap();
        assert_eq!((page::flags(&page), page::lsn(&page)), (4, Some(lsn(expected))));
    }
}

fn any_page() -> impl Strategy<Value = Page> {
    let noise = prop::collection::vec(any::<u8>(), BLOCK_SIZE);
    let header = (24u16..400, 400u16..8176, prop::sample::select(vec![8176u16, 8184, 8192, 8191, 9000]));
    (noise, header, any::<bool>()).prop_map(|(mut bytes, (lower, upper, special), keep_noise)| {
        bytes[..8].fill(0);
        if !keep_noise {
            bytes[12..14].copy_from_slice(&lower.to_le_bytes());
            bytes[14..16].copy_from_slice(&upper.to_le_bytes());
            bytes[16..18].copy_from_slice(&special.to_le_bytes());
        }
        Page::from_slice(&bytes).unwrap()
    })
}

/// Small numbers are likelier to be item numbers and counts that exist.
fn any_data() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(0u8), 0u8..40, any::<u8>()], 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_record_and_page_make_redo_panic(
        rmgr in prop_oneof![Just(1u8), Just(2), Just(3), Just(6), Just(9), Just(10), Just(11), Just(12), Just(13), Just(14), Just(15), Just(16), Just(17), Just(18), Just(20), any::<u8>()],
        info in any::<u8>(),
        ids in prop::collection::btree_map(0u8..5, (any::<bool>(), any_data()), 0..4),
        main in any_data(),
        page in any_page(),
        fork in 0u8..4,
        slru in 0u8..4,
    ) {
        let blocks: Vec<_> = ids
            .iter()
            .enumerate()
            .map(|(n, (id, (will_init, data)))| {
                Block { id: *id, fork: if n == 0 { fork } else { 0 }, will_init: *will_init, image: None, block: n as u32, data }
            })
            .collect();
        let bytes = record(rmgr, info, &blocks, &main);
        let mut keys = vec![Key::SlruBlock(SlruKind::from_raw(slru).unwrap(), u32::from(info) % 2)];
        keys.extend([key(Fork::Visibility, 0), key(Fork::from_raw(fork).unwrap(), 0), key(Fork::Main, 1), key(Fork::Main, 2)]);
        for key in keys {
            let _ = run(&bytes, key, &mut page.clone(), 1 << 40);
        }
    }

    #[test]
    fn no_page_makes_masking_panic(mut page in any_page(), rmgr in 8u8..21) {
        redo::mask::mask(&mut page, wal::RmgrId(rmgr), BlockNumber::new(1));
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Minors before 15.16 zero a page of offsets when its first multixact is made, after the one before has set where that
/// begins. Newer minors zero it before.
#[test]
fn zeroing_a_page_of_offsets_keeps_where_its_first_multixact_begins() {
    const MULTIXACT: u8 = 6;
    let offsets = Key::SlruBlock(SlruKind::MultiXactOffsets, 1);
    let create = record(MULTIXACT, 0x20, &[], &words(&[2047, 10, 2, 700, 0, 701, 0]));
    let zero = record(MULTIXACT, 0x00, &[], &words(&[1]));
    for order in [[&create, &zero], [&zero, &create]] {
        let mut page = Page::zeroed();
        for (bytes, end) in order.into_iter().zip([100, 200]) {
            run(bytes, offsets, &mut page, end).unwrap();
        }
        assert_eq!(page[..8], words(&[12, 0])[..]);
    }
    let mut page = Page::from_slice(&[7; BLOCK_SIZE]).unwrap();
    run(&zero, offsets, &mut page, 100).unwrap();
    assert!(page[..4] == [7; 4] && page[4..].iter().all(|&byte| byte == 0));
}

#[test]
fn pages_of_slrus_are_named_by_eight_bytes_from_17_on() {
    const CLOG: u8 = 3;
    let (clog, number) = (Key::SlruBlock(SlruKind::Clog, 3), 3u64.to_le_bytes());
    for (major, bytes, known) in
        [(15, &number[..4], true), (17, &number[..], true), (17, &number[..4], false)]
    {
        let zero = record(CLOG, 0x00, &[], bytes);
        let mut page = Page::from_slice(&[7; BLOCK_SIZE]).unwrap();
        let context = RedoContext { major, checksums: true };
        let applied = apply(&context, &clog, &mut page, &Record::decode(lsn(8), &zero).unwrap(), lsn(100));
        assert_eq!(applied.is_ok(), known, "{major}, {} bytes", bytes.len());
        assert_eq!(page[0] == 0, known);
    }
}

/// As minors since 18.6, 17.11, 16.15 and 15.19 log it: the map's page counts as a page of the record.
#[test]
fn a_map_that_a_record_refers_to_is_cleared_once_and_gets_its_lsn() {
    let target = block(0, 3, &[1, 0, 0, 0, 24, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let vm = Block { fork: 2, ..block(1, 0, &[]) };
    let bytes = record(HEAP, INSERT, &[target, vm], &[1, 0, 1]);
    let mut map = Page::zeroed();
    run(&bytes, key(Fork::Visibility, 0), &mut map, 100).unwrap();
    assert_eq!(page::lsn(&map), None, "there was no bit to clear");
    map[24] = 0b1100_0000;
    run(&bytes, key(Fork::Visibility, 0), &mut map, 200).unwrap();
    assert_eq!((map[24], page::lsn(&map)), (0, Some(lsn(200))));
    // Set again by a later record: this one is in the page already.
    map[24] = 0b1100_0000;
    page::set_lsn(&mut map, lsn(300));
    run(&bytes, key(Fork::Visibility, 0), &mut map, 200).unwrap();
    assert_eq!((map[24], page::lsn(&map)), (0b1100_0000, Some(lsn(300))));
}
