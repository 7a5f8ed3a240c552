//! GiST and SP-GiST: effects that no image of a recorded workload shows, as Postgres masks them or they are too rare.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod build;

use build::{Block, record};
use redo::{RedoContext, RedoError, apply, page};
use types::{BLOCK_SIZE, BlockNumber, Fork, Key, Lsn, Page, RelFork, RelTag};
use wal::Record;

const GIST: u8 = 14;
const SPGIST: u8 = 16;

fn run(bytes: &[u8], block: u32, page: &mut Page, end: u64) -> Result<(), RedoError> {
    run_on(15, bytes, block, page, end)
}

fn run_on(major: u32, bytes: &[u8], block: u32, page: &mut Page, end: u64) -> Result<(), RedoError> {
    let rel = RelTag { tablespace: 1663, database: 5, relation: 16384 };
    let key = Key::RelBlock(RelFork { rel, fork: Fork::Main }, BlockNumber::new(block));
    let record = Record::decode(Lsn::from_raw(8).unwrap(), bytes).unwrap();
    apply(&RedoContext { major, checksums: true }, &key, page, &record, Lsn::from_raw(end).unwrap())
}

fn block<'a>(id: u8, block: u32, data: &'a [u8]) -> Block<'a> {
    Block { id, fork: 0, will_init: false, image: None, block, data }
}

fn bytes_of(fields: &[u16]) -> Vec<u8> {
    fields.iter().flat_map(|field| field.to_le_bytes()).collect()
}

/// An index tuple of 16 bytes for heap block 0, item `item`.
fn index_tuple(item: u16) -> Vec<u8> {
    bytes_of(&[0, 0, item, 16, item, item, item, item])
}

mod gist {
    use super::*;

    const PAGE_UPDATE: u8 = 0x00;
    const DELETE: u8 = 0x10;
    const PAGE_SPLIT: u8 = 0x30;

    const LEAF: u8 = 0x01;
    const FOLLOW_RIGHT: u8 = 0x08;

    /// NSN, right link and flags of a page.
    fn links(page: &Page) -> (u64, u32, u8) {
        let word = |at: usize| u32::from_le_bytes(page[at..at + 4].try_into().unwrap());
        (u64::from(word(8176)) << 32 | u64::from(word(8180)), word(8184), page[8188])
    }

    /// Main data of a split of a page of NSN 0x5_0000_0006 and right link 77.
    fn split_main(pages: u8, is_leaf: bool, follow_right: bool) -> Vec<u8> {
        let mut main = bytes_of(&[77, 0, 0, 0, 6, 0, 5, 0]);
        main.extend([u8::from(is_leaf), 0, pages, 0, u8::from(follow_right), 0, 0, 0]);
        main
    }

    /// That split into `blocks`, each with two tuples.
    fn split(blocks: &[u32], is_leaf: bool, follow_right: bool) -> Vec<u8> {
        let main = split_main(blocks.len() as u8, is_leaf, follow_right);
        let data = [bytes_of(&[2, 0]), index_tuple(1), index_tuple(2)].concat();
        let mut pages = vec![block(0, 90, &[])];
        for (n, &number) in blocks.iter().enumerate() {
            pages.push(Block { will_init: true, ..block(n as u8 + 1, number, &data) });
        }
        record(GIST, PAGE_SPLIT, &pages, &main)
    }

    fn split_page(blocks: &[u32], number: u32, is_leaf: bool, follow_right: bool) -> Page {
        let mut page = Page::from_slice(&[0xAA; BLOCK_SIZE]).unwrap();
        run(&split(blocks, is_leaf, follow_right), number, &mut page, 1 << 40).unwrap();
        page
    }

    #[test]
    fn pages_of_a_split_lead_to_the_next_one_until_the_parent_knows_them() {
        let of = |number| links(&split_page(&[4, 9, 3], number, true, true));
        assert_eq!(of(4), (0x5_0000_0006, 9, LEAF | FOLLOW_RIGHT));
        assert_eq!(of(9), (0x5_0000_0006, 3, LEAF | FOLLOW_RIGHT));
        assert_eq!(of(3), (0x5_0000_0006, 77, LEAF));
        assert_eq!(links(&split_page(&[4, 9], 4, false, false)), (0x5_0000_0006, 9, 0));
    }

    #[test]
    fn a_split_root_has_no_right_page_and_its_children_are_known_at_once() {
        let of = |number| links(&split_page(&[0, 9, 3], number, true, true));
        assert_eq!(of(0), (0x5_0000_0006, u32::MAX, 0));
        assert_eq!(of(9), (0x5_0000_0006, 3, LEAF));
        assert_eq!(of(3), (0x5_0000_0006, 77, LEAF));
    }

    /// Postgres logs the image of the left half before it clears the flag: with the image alone the next insertion
    /// would complete a split that is complete, and the parent would have two downlinks for one page.
    /// Rule 1 of the crate's README.
    #[test]
    fn a_split_ends_when_its_downlink_is_inserted_even_if_the_left_half_is_an_image() {
        let left = split_page(&[4, 9], 4, true, true);
        assert_eq!(links(&left).2, LEAF | FOLLOW_RIGHT);
        let end = 0x107_0000_0009;
        for image in [None, Some(&left[..])] {
            let child = |id| Block { image, ..block(id, 4, &[]) };
            let tuple = index_tuple(4);
            let update = record(GIST, PAGE_UPDATE, &[block(0, 0, &tuple), child(1)], &bytes_of(&[0, 1]));
            let parent_split = record(GIST, PAGE_SPLIT, &[child(0)], &split_main(2, false, true));
            for bytes in [update, parent_split] {
                let mut page = left.clone();
                run(&bytes, 4, &mut page, end).unwrap();
                assert_eq!(links(&page), (end, 9, LEAF), "{:?}", image.map(<[u8]>::len));
                assert_eq!(page::lsn(&page), Lsn::from_raw(end));
                assert_eq!(page[24..8176], left[24..8176]);
            }
        }
    }

    #[test]
    fn the_image_of_any_other_page_stays_as_it_is() {
        let image = split_page(&[4, 9], 4, true, true);
        let target = Block { image: Some(&image[..]), ..block(0, 4, &[]) };
        let bytes = record(GIST, PAGE_UPDATE, &[target], &bytes_of(&[0, 1]));
        let mut page = Page::zeroed();
        run(&bytes, 4, &mut page, 1 << 41).unwrap();
        assert_eq!(page[8..], image[8..]);
    }

    /// Older minors set a flag then that nothing reads (`F_TUPLES_DELETED`).
    #[test]
    fn a_leaf_whose_tuples_are_deleted_keeps_its_flags() {
        let update = record(GIST, PAGE_UPDATE, &[block(0, 4, &[1, 0])], &bytes_of(&[1, 0]));
        let delete = record(GIST, DELETE, &[block(0, 4, &[])], &bytes_of(&[700, 0, 1, 1]));
        let delete_16 = record(GIST, DELETE, &[block(0, 4, &[])], &bytes_of(&[700, 0, 1, 1, 1]));
        for (major, bytes) in [(15, update), (15, delete), (16, delete_16)] {
            let mut leaf = split_page(&[4], 4, true, false);
            run_on(major, &bytes, 4, &mut leaf, 1 << 41).unwrap();
            assert_eq!((page::max_offset(&leaf), links(&leaf).2), (1, LEAF));
        }
        let replace = [bytes_of(&[1]), index_tuple(8)].concat();
        let replace = record(GIST, PAGE_UPDATE, &[block(0, 4, &replace)], &bytes_of(&[1, 1]));
        let mut leaf = split_page(&[4], 4, true, false);
        run(&replace, 4, &mut leaf, 1 << 41).unwrap();
        assert_eq!((page::max_offset(&leaf), links(&leaf).2), (2, LEAF));
    }
}

mod spgist {
    use super::*;

    const ADD_LEAF: u8 = 0x10;
    const MOVE_LEAFS: u8 = 0x20;
    const ADD_NODE: u8 = 0x30;
    const PICKSPLIT: u8 = 0x50;
    const VACUUM_LEAF: u8 = 0x60;
    const VACUUM_REDIRECT: u8 = 0x80;

    const REDIRECT: u8 = 1;
    const DEAD: u8 = 2;
    const PLACEHOLDER: u8 = 3;

    /// An inner tuple with `nodes` nodes that lead nowhere.
    fn inner_tuple(nodes: u16) -> Vec<u8> {
        let mut tuple = bytes_of(&[nodes << 3, 0, 8 + nodes * 8, 0]);
        for _ in 0..nodes {
            tuple.extend(bytes_of(&[0, 0, 0, 8]));
        }
        tuple
    }

    /// A leaf tuple of 24 bytes for heap block 0, item `item`.
    fn leaf_tuple(item: u16) -> Vec<u8> {
        bytes_of(&[24 << 2, 0, 0, 0, 0, item, 0, 0, item, item, item, item])
    }

    /// Main data of ADD_NODE by transaction 900 for an inner tuple of 3 nodes; the parent's link is node 1 of item 1.
    fn add_node(numbers: [u16; 2], new_page: bool, parent_is_on: u8, is_build: bool) -> Vec<u8> {
        let mut main = bytes_of(&numbers);
        main.extend([u8::from(new_page), parent_is_on]);
        main.extend(bytes_of(&[1, 1, 0, 900, 0, u16::from(is_build), 0]));
        main.extend(inner_tuple(3));
        main
    }

    /// A page with one inner tuple of 3 nodes.
    fn inner_page() -> Page {
        let blocks = [block(0, 8, &[]), Block { will_init: true, ..block(1, 9, &[]) }];
        let mut page = Page::zeroed();
        let bytes = record(SPGIST, ADD_NODE, &blocks, &add_node([1, 1], true, 2, false));
        run(&bytes, 9, &mut page, 100).unwrap();
        page
    }

    /// A page with leaf tuples for these items.
    fn leaf_page(items: &[u16]) -> Page {
        let mut page = Page::zeroed();
        for (n, &item) in items.iter().enumerate() {
            let mut main = vec![u8::from(n == 0), 0];
            main.extend(bytes_of(&[n as u16 + 1, 0, 0, 0]));
            main.extend(leaf_tuple(item));
            let target = Block { will_init: n == 0, ..block(0, 8, &[]) };
            run(&record(SPGIST, ADD_LEAF, &[target], &main), 8, &mut page, 100 + n as u64).unwrap();
        }
        page
    }

    /// Where item `number` begins.
    fn item_at(page: &Page, number: usize) -> usize {
        let at = 24 + (number - 1) * 4;
        usize::from(u16::from_le_bytes([page[at], page[at + 1]]) & 0x7FFF)
    }

    /// The tuple's state, and the tid and xid in it if it is not live.
    fn dead_tuple(page: &Page, number: usize) -> (u8, [u8; 6], u32) {
        let tuple = &page[item_at(page, number)..][..16];
        let xid = u32::from_le_bytes(tuple[12..].try_into().unwrap());
        (tuple[0] & 3, tuple[6..12].try_into().unwrap(), xid)
    }

    /// Redirects and placeholders that the page says it has.
    fn counts(page: &Page) -> [u8; 2] {
        [page[8186], page[8188]]
    }

    /// The tid in node 1 of inner tuple `number`.
    fn link(page: &Page, number: usize) -> [u8; 6] {
        page[item_at(page, number) + 16..][..6].try_into().unwrap()
    }

    const NOWHERE: [u8; 6] = [0xFF, 0xFF, 0xFF, 0xFF, 0, 0];

    #[test]
    fn the_downlink_of_a_moved_inner_tuple_is_set_on_the_page_that_has_the_parent() {
        for parent_is_on in [0, 1, 2] {
            let blocks = [block(0, 8, &[]), block(1, 9, &[]), block(2, 10, &[])];
            let blocks = &blocks[..if parent_is_on == 2 { 3 } else { 2 }];
            let bytes = record(SPGIST, ADD_NODE, blocks, &add_node([2, 2], false, parent_is_on, false));
            for (id, reference) in (0..).zip(blocks) {
                let mut page = inner_page();
                if id == 0 {
                    let second = add_node([1, 2], false, 2, false);
                    let blocks = [block(0, 7, &[]), block(1, 8, &[])];
                    run(&record(SPGIST, ADD_NODE, &blocks, &second), 8, &mut page, 150).unwrap();
                }
                run(&bytes, reference.block, &mut page, 200).unwrap();
                let expected = if id == parent_is_on { [0, 0, 9, 0, 2, 0] } else { [0; 6] };
                assert_eq!(link(&page, 1), expected, "page {id}, parent on {parent_is_on}");
                let redirect = (REDIRECT, [0, 0, 9, 0, 2, 0], 900);
                assert_eq!(id == 0, dead_tuple(&page, 2.min(page::max_offset(&page).into())) == redirect);
            }
        }
    }

    #[test]
    fn what_a_build_moves_leaves_placeholders() {
        for (is_build, state, counted) in [(false, REDIRECT, [1, 0]), (true, PLACEHOLDER, [0, 1])] {
            let bytes = record(
                SPGIST,
                ADD_NODE,
                &[block(0, 8, &[]), block(1, 9, &[])],
                &add_node([1, 2], false, 2, is_build),
            );
            let mut page = inner_page();
            run(&bytes, 8, &mut page, 200).unwrap();
            let (tid, xid) = if is_build { (NOWHERE, 0) } else { ([0, 0, 9, 0, 2, 0], 900) };
            assert_eq!((dead_tuple(&page, 1), counts(&page)), ((state, tid, xid), counted));

            let mut main = bytes_of(&[0, 2, 0, 0, 1, 0, 0, 0, 1, 0, 900, 0, u16::from(is_build), 0, 3, 2]);
            main.extend(inner_tuple(2));
            let bytes = record(SPGIST, PICKSPLIT, &[block(0, 8, &[]), block(2, 9, &[])], &main);
            let mut page = leaf_page(&[10, 11, 12]);
            run(&bytes, 8, &mut page, 200).unwrap();
            let (tid, xid) = if is_build { (NOWHERE, 0) } else { ([0, 0, 9, 0, 1, 0], 900) };
            assert_eq!(
                dead_tuple(&page, 3),
                (state, tid, xid),
                "the first one named is what the parent knows"
            );
            assert_eq!(dead_tuple(&page, 2), (PLACEHOLDER, NOWHERE, 0));
            assert_eq!(counts(&page), [counted[0], counted[1] + 1]);
        }
    }

    #[test]
    fn a_dead_head_is_replaced_here_or_moves_alone() {
        let main = bytes_of(&[1, 0, 0, 0, 900, 0, 0, 0, 2]);
        let vacuum = record(SPGIST, VACUUM_LEAF, &[block(0, 8, &[])], &main);
        let mut dead = leaf_page(&[10, 11]);
        run(&vacuum, 8, &mut dead, 200).unwrap();
        assert_eq!((dead_tuple(&dead, 2), counts(&dead)), ((DEAD, NOWHERE, 0), [0, 0]));

        let mut here = dead.clone();
        let mut main = vec![0, 0];
        main.extend(bytes_of(&[2, 2, 0, 0]));
        main.extend(leaf_tuple(12));
        run(&record(SPGIST, ADD_LEAF, &[block(0, 8, &[])], &main), 8, &mut here, 300).unwrap();
        assert_eq!((page::max_offset(&here), here[item_at(&here, 2) + 10], counts(&here)), (2, 12, [0, 0]));

        let mut main = bytes_of(&[1, 0x0100, 0, 1, 1, 0, 900, 0, 0, 0, 2, 3]);
        main.extend(leaf_tuple(12));
        let blocks = [block(0, 8, &[]), block(1, 9, &[]), block(2, 10, &[])];
        let bytes = record(SPGIST, MOVE_LEAFS, &blocks, &main);
        let (mut source, mut target, mut parent) = (dead, leaf_page(&[10, 11]), inner_page());
        for (number, page) in [(8, &mut source), (9, &mut target), (10, &mut parent)] {
            run(&bytes, number, page, 300).unwrap();
        }
        assert_eq!((dead_tuple(&source, 2), counts(&source)), ((REDIRECT, [0, 0, 9, 0, 3, 0], 900), [1, 0]));
        assert_eq!((page::max_offset(&target), target[item_at(&target, 3) + 10]), (3, 12));
        assert_eq!(link(&parent, 1), [0, 0, 9, 0, 3, 0]);
    }

    #[test]
    fn redirects_that_nobody_follows_become_placeholders_and_those_at_the_end_go() {
        for (major, flag) in [(15, &[][..]), (16, &[1][..])] {
            let mut page = leaf_page(&[10, 11, 12]);
            let mut main = bytes_of(&[0, 2, 0, 0, 1, 0, 0, 0, 1, 0, 900, 0, 0, 0, 3, 2]);
            main.extend(inner_tuple(2));
            let bytes = record(SPGIST, PICKSPLIT, &[block(0, 8, &[]), block(2, 9, &[])], &main);
            run(&bytes, 8, &mut page, 200).unwrap();
            assert_eq!(counts(&page), [1, 1]);

            let main = bytes_of(&[&[1, 0, 900, 0], flag, &[3]].concat());
            let keep = record(SPGIST, VACUUM_REDIRECT, &[block(0, 8, &[])], &main);
            run_on(major, &keep, 8, &mut page, 300).unwrap();
            assert_eq!((dead_tuple(&page, 3), counts(&page)), ((PLACEHOLDER, NOWHERE, 900), [0, 2]));

            let main = bytes_of(&[&[0, 2, 0, 0], flag].concat());
            let remove = record(SPGIST, VACUUM_REDIRECT, &[block(0, 8, &[])], &main);
            run_on(major, &remove, 8, &mut page, 400).unwrap();
            assert_eq!((page::max_offset(&page), counts(&page)), (1, [0, 0]));
        }
    }

    #[test]
    fn only_a_placeholder_gives_its_number_to_another_tuple() {
        let mut page = leaf_page(&[10, 11]);
        let mut main = vec![0, 0];
        main.extend(bytes_of(&[2, 0, 0, 0]));
        main.extend(leaf_tuple(12));
        let error =
            run(&record(SPGIST, ADD_LEAF, &[block(0, 8, &[])], &main), 8, &mut page, 300).unwrap_err();
        assert!(matches!(error, RedoError::Malformed { .. }), "{error}");
    }
}
