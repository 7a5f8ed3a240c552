//! Postgres's own redo is the oracle for every byte, free space included.
//!
//! One workload is recorded. Postgres recovers its WAL on a copy of the cluster, as a standby would, and so do we;
//! every relation page must be the same afterwards, without any mask but one flag that minors differ in
//! (`minors`). Images in records cannot show that: they leave
//! free space out, and a primary's free space need not be what redo makes of it.
//!
//! The records carry no such images here. Postgres 15.18 compares with them while it recovers, and gives up at GiST's
//! DELETE: its redo sets a flag (`F_TUPLES_DELETED`) that the primary does not set.
//!
//! Then the same WAL is judged step by step (`judge`), where one wrong page cannot be righted by a later record.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod allocation;
mod judge;
mod postgres;

use std::collections::BTreeMap;

use oracle::files::read_page;
use oracle::minors::take_tuples_deleted;
use oracle::recovery::recover;
use oracle::replay::replay;
use oracle::server::{Postgres, SETTINGS};
use types::Key;

/// Rule 4 of the crate's README.
#[test]
fn every_byte_is_what_recovery_leaves() {
    compare(&Postgres::v15());
}

#[test]
#[ignore = "one major is enough for every change; cargo test -p scion-redo --test recovery -- --include-ignored"]
fn every_byte_is_what_recovery_of_other_majors_leaves() {
    for postgres in ["16", "17", "18", "18.4"].into_iter().filter_map(Postgres::release) {
        compare(&postgres);
    }
}

fn compare(postgres: &Postgres) {
    let recorded = postgres::record_workload(postgres, &format!("{SETTINGS}wal_consistency_checking = ''\n"));
    let recovered = recover(postgres, &recorded, None);
    let replayed = replay(&recorded.base, &recorded.after, &mut |_, _, _| {});
    let mut same: BTreeMap<&str, u64> = BTreeMap::new();
    let mut different = Vec::new();
    for (key, ours) in &replayed.pages {
        let Key::RelBlock(_, block) = *key else { continue };
        let Some(theirs) = read_page(&recovered, key) else { continue };
        let mut ours = ours.clone();
        take_tuples_deleted(&mut ours, &theirs);
        redo::set_checksum(&mut ours, block);
        let owner = redo::mask::owner(&theirs).name();
        match ours.iter().zip(theirs.iter()).position(|(a, b)| a != b) {
            None => *same.entry(owner).or_default() += 1,
            Some(at) => different.push(format!("{owner} {key:?}: first at byte {at}")),
        }
    }
    println!("{}: pages that are the same: {same:?}", postgres.version());
    assert!(different.is_empty(), "{:#?}", &different[..different.len().min(40)]);
    for owner in ["Heap", "Btree", "Gin", "Gist", "SPGist", "Sequence", "Generic"] {
        assert!(same.contains_key(owner), "no page of {owner} was compared");
    }
    allocation::no_step_allocates(&replayed.samples);
    judge::every_step_is_what_postgres_redoes(postgres, &recorded);
}
