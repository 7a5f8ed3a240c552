//! Postgres is the oracle: with `wal_consistency_checking` every record carries the page as it was after it.
//!
//! One workload is recorded; its WAL is replayed page by page. Every result is compared with the image in its record,
//! and at the end every page with the file that the stopped server left: visibility maps and SLRUs byte for byte, as
//! no image covers them, the rest without their hints.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod postgres;

use std::path::Path;

use oracle::damage;
use oracle::files::read_page;
use oracle::inject::Injection;
use oracle::replay::{Replayed, Sample, control, difference, replay};
use oracle::server::{Postgres, Recorded, SETTINGS};
use redo::page;
use types::{BlockNumber, Fork, Key, Page, RelFork, SlruKind};
use wal::{Record, RmgrId};

/// Record types that the workload must have verified, as resource manager and type.
const MUST_BE_VERIFIED: &[&str] = &[
    "Heap 00",
    "Heap 10",
    "Heap 20",
    "Heap 40",
    "Heap 50",
    "Heap 60",
    "Heap 70",
    "Heap2 10",
    "Heap2 20",
    "Heap2 30",
    "Heap2 40",
    "Heap2 40 vm",
    "Heap2 50",
    "Heap2 60",
    "Btree 00",
    "Btree 10",
    "Btree 20",
    "Btree 30",
    "Btree 40",
    "Btree 50",
    "Btree 60",
    "Btree 70",
    "Btree 80",
    "Btree 90",
    "Btree A0",
    "Btree B0",
    "Btree C0",
    "Btree E0",
    "Gin 10",
    "Gin 20 entry inner",
    "Gin 20 entry leaf",
    "Gin 20 posting inner",
    "Gin 20 posting leaf",
    "Gin 20 block 1",
    "Gin 30 block 3",
    "Gin 50",
    "Gin 50 block 1",
    "Gin 50 block 2",
    "Gin 60",
    "Gin 60 block 1",
    "Gin 70",
    "Gin 80",
    "Gin 80 block 1",
    "Gin 90",
    "Gin segment 1",
    "Gin segment 2",
    "Gin segment 3",
    "Gin segment 4",
    "Gist 00",
    "Gist 00 block 1",
    "Gist 10",
    "Gist 30",
    "Gist 30 block 1",
    "Gist 30 block 2",
    "Gist 60",
    "Gist 60 block 1",
    "SPGist 10",
    "SPGist 10 block 1",
    "SPGist 20",
    "SPGist 20 block 1",
    "SPGist 20 block 2",
    "SPGist 30",
    "SPGist 30 block 1",
    "SPGist 30 block 2",
    "SPGist 40",
    "SPGist 40 block 1",
    "SPGist 50",
    "SPGist 50 block 1",
    "SPGist 50 block 2",
    "SPGist 50 block 3",
    "SPGist 60",
    "SPGist 70",
    "SPGist 80",
    "Sequence 00",
    "Generic 00",
    "Generic 00 block 1",
    "Hash 00",
    "Hash 10",
    "Hash 10 block 1",
    "Hash 20",
    "Hash 20 block 1",
    "Hash 30",
    "Hash 30 block 1",
    "Hash 30 block 2",
    "Hash 30 block 4",
    "Hash 40",
    "Hash 40 block 1",
    "Hash 40 block 2",
    "Hash 60",
    "Hash 60 block 1",
    "Hash 70",
    "Hash 70 block 1",
    "Hash 70 block 2",
    "Hash 80",
    "Hash 80 block 1",
    "Hash 80 block 2",
    "Hash 80 block 3",
    "Hash 80 block 5",
    "Hash 80 block 6",
    "Hash 90",
    "Hash 90 block 1",
    "Hash A0",
    "Hash B0",
    "Hash C0",
    "Hash C0 block 1",
    "BRIN 00",
    "BRIN 10",
    "BRIN 10 block 1",
    "BRIN 20",
    "BRIN 20 block 1",
    "BRIN 20 block 2",
    "BRIN 30",
    "BRIN 40",
    "BRIN 40 block 1",
    "BRIN 50",
    "BRIN 50 block 1",
    "BRIN 90",
    "BRIN 90 block 1",
    "BRIN A0",
    "BRIN A0 block 1",
    "BRIN A0 block 2",
];

/// Effects that no image covers; the files of the stopped server do.
const MUST_BE_APPLIED: &[&str] = &[
    "Heap 00 vm",
    "Heap 10 vm",
    "Heap 20 vm",
    "Heap 40 vm",
    "Heap 60 vm",
    "Heap2 50 vm",
    "Storage 20 vm",
    "XLOG A0",
    "XLOG B0",
    "Gin 30",
    "Gin 30 block 2",
    "Gin 40",
    "Hash 50",
    "CLOG 00 pg_xact",
    "CommitTs 00 pg_commit_ts",
    "MultiXact 00 pg_multixact/offsets",
    "Transaction 00 pg_xact",
    "Transaction 20 pg_xact",
    "Transaction 30 pg_xact",
    "Transaction 00 pg_commit_ts",
    "MultiXact 20 pg_multixact/offsets",
    "MultiXact 20 pg_multixact/members",
];

#[test]
fn replay_gives_the_pages_that_postgres_wrote() {
    let recorded = postgres::record_workload(&Postgres::v15(), SETTINGS);
    let replayed = replay_and_compare(&recorded);
    a_single_wrong_bit_is_noticed(&recorded.base, &recorded.after);
    damage::damaged_records_and_pages_do_not_panic(&replayed.samples);
}

#[test]
#[ignore = "two majors are enough for every change; cargo test -p scion-redo -- --include-ignored"]
fn replay_gives_the_pages_that_postgres_16_wrote() {
    replay_a_release("16");
}

#[test]
#[ignore = "two majors are enough for every change; cargo test -p scion-redo -- --include-ignored"]
fn replay_gives_the_pages_that_postgres_17_wrote() {
    replay_a_release("17");
}

#[test]
fn replay_gives_the_pages_that_postgres_18_wrote() {
    replay_a_release("18");
}

/// 18.4 does not reference the pages of the visibility map that it clears bits on; 18.6 does.
#[test]
#[ignore = "two majors are enough for every change; cargo test -p scion-redo -- --include-ignored"]
fn replay_gives_the_pages_that_an_older_minor_of_18_wrote() {
    replay_a_release("18.4");
}

/// 15.15 zeroes a page of multixact offsets after the multixact before it has said where its first one begins. What it
/// does not write is where the next multixact of all will begin.
#[test]
#[ignore = "two majors are enough for every change; cargo test -p scion-redo -- --include-ignored"]
fn the_last_multixact_of_a_page_keeps_its_end_in_wal_of_an_older_minor() {
    let Some(postgres) = Postgres::release("15.15") else { return };
    let recorded = postgres::record_workload(&postgres, SETTINGS);
    let replayed = replay(&recorded.base, &recorded.after, &mut |_, _, _| {});
    let zeroes = |sample: &&Sample| {
        let record = Record::decode(sample.start, &sample.record).unwrap();
        let offsets = matches!(sample.key, Key::SlruBlock(SlruKind::MultiXactOffsets, _));
        offsets && record.rmgr == RmgrId::MULTIXACT && record.op() == 0x00
    };
    let late = replayed.samples.iter().filter(zeroes).filter(|zero| zero.before[..4] != [0; 4]).count();
    assert!(late > 0, "no page of offsets was zeroed after its first entry was set");
    assert!(replayed.mismatches.is_empty(), "{:#?}", replayed.mismatches.first());
    let next = control(&recorded.after).cluster_state().unwrap().next_multi;
    let mut compared = 0;
    for (key, ours) in &replayed.pages {
        let Key::SlruBlock(SlruKind::MultiXactOffsets, number) = *key else { continue };
        let theirs = read_page(&recorded.after, key).unwrap_or_else(Page::zeroed);
        for at in 0..2048 {
            if number * 2048 + at != next {
                let at = at as usize * 4;
                assert_eq!(ours[at..at + 4], theirs[at..at + 4], "page {number}, byte {at}");
                compared += 1;
            }
        }
    }
    assert!(compared > 2048, "{compared} offsets");
}

fn replay_a_release(release: &str) {
    let Some(postgres) = Postgres::release(release) else { return };
    let recorded = postgres::record_workload(&postgres, SETTINGS);
    let replayed = replay_and_compare(&recorded);
    damage::damaged_records_and_pages_do_not_panic(&replayed.samples);
}

fn replay_and_compare(recorded: &Recorded) -> Replayed {
    let replayed = replay(&recorded.base, &recorded.after, &mut |_, _, _| {});
    print_counts(&replayed);
    assert_eq!(replayed.total().unsupported, 0, "record types that redo lacks");
    assert!(
        replayed.mismatches.is_empty(),
        "{:#?}",
        &replayed.mismatches[..replayed.mismatches.len().min(10)]
    );
    the_stopped_server_has_the_same_pages(&recorded.after, &replayed);
    the_workload_reaches_every_routine(&replayed);
    replayed
}

fn print_counts(replayed: &Replayed) {
    println!("{} records, {} pages", replayed.records, replayed.pages.len());
    for (name, count) in &replayed.counts {
        println!("{name:<40} applied {:>8}  verified {:>8}", count.applied, count.verified);
    }
}

fn the_workload_reaches_every_routine(replayed: &Replayed) {
    let count = |name: &str| replayed.counts.get(name).copied().unwrap_or_default();
    let verified =
        |name: &str| count(name).verified.max(replayed.parts.get(name).copied().unwrap_or_default());
    let unverified: Vec<_> = MUST_BE_VERIFIED.iter().filter(|name| verified(name) == 0).collect();
    let unapplied: Vec<_> = MUST_BE_APPLIED.iter().filter(|name| count(name).applied == 0).collect();
    assert!(unverified.is_empty() && unapplied.is_empty(), "not reached: {unverified:?} {unapplied:?}");
}

fn the_stopped_server_has_the_same_pages(after: &Path, replayed: &Replayed) {
    let (mut maps, mut slrus, mut others) = (0, 0, 0);
    for (key, ours) in &replayed.pages {
        match *key {
            Key::RelBlock(RelFork { fork: Fork::Visibility, .. }, block) => {
                let Some(theirs) = read_page(after, key) else { continue };
                let mut ours = ours.clone();
                redo::set_checksum(&mut ours, block);
                assert_eq!(first_difference(&ours, &theirs), None, "{key:?}");
                maps += 1;
            }
            Key::SlruBlock(..) => {
                let theirs = read_page(after, key).expect("SLRU pages stay");
                assert_eq!(first_difference(ours, &theirs), None, "{key:?}");
                slrus += 1;
            }
            Key::RelBlock(_, block) => {
                let Some(theirs) = read_page(after, key) else { continue };
                let kind = redo::mask::owner(&theirs);
                if !changes_unlogged(&theirs, kind, block) {
                    assert_eq!(difference(ours, &theirs, kind, block), None, "{} {key:?}", kind.name());
                }
                if kind == RmgrId::GIST {
                    assert_eq!(links_of(ours), links_of(&theirs), "{key:?}");
                }
                if !page::is_new(&theirs) {
                    assert_eq!(redo::checksum(&theirs, block), page::stored_checksum(&theirs), "{key:?}");
                }
                others += 1;
            }
            _ => {}
        }
    }
    println!("equal to the stopped server's files: {maps} maps, {slrus} SLRU pages, {others} others");
    assert!(maps > 10 && slrus > 5 && others > 1000, "{maps} maps, {slrus} SLRU pages, {others} others");
}

/// A sequence's record is up to 32 values ahead of its page, on purpose. The metapage of SP-GiST remembers without a
/// record where there was room, and an empty page of it becomes a leaf or an inner page without one.
fn changes_unlogged(page: &Page, kind: RmgrId, block: BlockNumber) -> bool {
    let is_empty = block.get() == 0 || page::max_offset(page) == 0;
    kind == RmgrId::SEQ || (kind == RmgrId::SPGIST && is_empty)
}

fn first_difference(ours: &Page, theirs: &Page) -> Option<usize> {
    ours.iter().zip(theirs.iter()).position(|(a, b)| a != b)
}

/// The special area of a GiST page without the hints in its flags: NSN and follow-right, which its mask hides, count.
fn links_of(page: &Page) -> (&[u8], u8) {
    (&page[8176..8188], page[8188] & !0x14)
}

/// A bit flipped once in each record type is noticed in each.
fn a_single_wrong_bit_is_noticed(base: &Path, after: &Path) {
    let mut injection = Injection::default();
    let replayed = replay(base, after, &mut |record, key, page| injection.flip(record, key, page));
    let differing = replayed.counts.iter().filter(|(_, count)| count.differing == 1).map(|(name, _)| name);
    assert!(differing.eq(injection.flipped()), "{:#?}", replayed.mismatches);
    assert_eq!(replayed.total().differing, injection.flipped().len() as u64, "{:#?}", replayed.mismatches);
    assert!(injection.flipped().len() >= 29);
}
