//! Postgres's own redo is the oracle for every byte, free space included.
//!
//! One workload is recorded. Postgres recovers its WAL on a copy of the cluster, as a standby would, and so do we;
//! every relation page must be the same afterwards, without any mask. Images in records cannot show that: they leave
//! free space out, and a primary's free space need not be what redo makes of it.
//!
//! The records carry no such images here. Postgres 15 compares with them while it recovers, and gives up at GiST's
//! DELETE: its redo sets a flag (`F_TUPLES_DELETED`) that the primary does not set.
//!
//! Then the same WAL is judged step by step (`judge`), where one wrong page cannot be righted by a later record.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod judge;
mod postgres;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use oracle::files::read_page;
use oracle::replay::replay;
use oracle::server::{Postgres, Recorded, SETTINGS, run};
use types::Key;

const RECOVERY_TAKES_AT_MOST: Duration = Duration::from_secs(300);

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
    let recovered = recover(postgres, &recorded);
    let replayed = replay(&recorded.base, &recorded.after, &mut |_, _, _| {});
    let mut same: BTreeMap<&str, u64> = BTreeMap::new();
    let mut different = Vec::new();
    for (key, ours) in &replayed.pages {
        let Key::RelBlock(_, block) = *key else { continue };
        let Some(theirs) = read_page(&recovered, key) else { continue };
        let mut ours = ours.clone();
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
    judge::every_step_is_what_postgres_redoes(&recorded);
}

/// The data directory after Postgres has recovered all WAL of the workload.
fn recover(postgres: &Postgres, recorded: &Recorded) -> PathBuf {
    let data = recorded.base.with_file_name("recovered");
    run(std::process::Command::new("cp").arg("-a").arg(&recorded.base).arg(&data));
    let from = recorded.after.display();
    let archive = format!("hot_standby = off\nrestore_command = 'cp {from}/pg_wal/%f %p 2>/dev/null'\n");
    let conf = data.join("postgresql.auto.conf");
    let settings = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(&conf, settings + &archive).unwrap();
    std::fs::write(data.join("recovery.signal"), "").unwrap();
    let log = data.join("log");
    run(postgres.tool("pg_ctl").args(["-w", "-s", "start", "-D"]).arg(&data).arg("-l").arg(&log));
    let waiting = Instant::now();
    loop {
        let said = std::fs::read_to_string(&log).unwrap();
        if said.contains("ready to accept connections") {
            break; // not before all WAL is recovered, as it is no hot standby
        }
        let failed = said.contains("database system is shut down");
        assert!(!failed && waiting.elapsed() < RECOVERY_TAKES_AT_MOST, "{said}");
        std::thread::sleep(Duration::from_millis(200));
    }
    run(postgres.tool("pg_ctl").args(["-w", "-s", "-m", "fast", "stop", "-D"]).arg(&data));
    data
}
