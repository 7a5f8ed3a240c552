//! Postgres's own redo is the oracle, one record and one page at a time: no byte may differ, and one that does is named
//! with its record.
//!
//! Needs the headers of the server, as the process that redoes is built from a C file (`tests/oracle/walredo.c`).

use std::collections::BTreeSet;

use oracle::inject::Injection;
use oracle::replay::{Judge, Step, Truth, replay_before, type_name};
use oracle::server::{Postgres, Recorded};
use oracle::skips::skipped;
use oracle::stock::Stock;
use types::{Key, Page};
use wal::Record;

/// Kinds of steps that the workload has at least; each is judged at least once.
const KINDS: usize = 110;

/// Judges every step of the load, then a replay in which some are wrong.
pub fn every_step_is_what_postgres_redoes(postgres: &Postgres, recorded: &Recorded) {
    if !Stock::can_be_built(postgres) {
        let major = postgres.major();
        skipped("headers", &format!("no headers of PostgreSQL {major}; scripts/postgres-source gets them"));
        return;
    }
    let mut stock = Stock::start(postgres, &recorded.base);
    let replayed = replay_before(&mut stock, &recorded.base, &recorded.after, &mut |_, _, _| {});
    assert_eq!(stock.refused, 0, "records that Postgres refused");
    let total = replayed.total();
    println!("{} records, {} of {} steps judged", replayed.records, total.verified, total.applied);
    assert!(
        replayed.mismatches.is_empty(),
        "{:#?}",
        &replayed.mismatches[..replayed.mismatches.len().min(10)]
    );
    let reached = replayed.counts.values().filter(|count| count.verified > 0).count();
    assert!(reached >= KINDS, "only {reached} kinds of steps were judged");
    a_single_wrong_bit_is_noticed(postgres, recorded);
}

/// Only the first step of each kind is judged here, as only there a bit is flipped.
fn a_single_wrong_bit_is_noticed(postgres: &Postgres, recorded: &Recorded) {
    let mut judge = FirstOfKind { stock: Stock::start(postgres, &recorded.base), seen: BTreeSet::new() };
    let mut injection = Injection::default();
    let replayed = replay_before(&mut judge, &recorded.base, &recorded.after, &mut |record, key, page| {
        injection.flip(record, key, page);
    });
    let differing = replayed.counts.iter().filter(|(_, count)| count.differing > 0).map(|(name, _)| name);
    assert!(differing.eq(injection.flipped()), "{:#?}", replayed.mismatches);
    assert_eq!(replayed.total().differing, injection.flipped().len() as u64, "{:#?}", replayed.mismatches);
    assert!(injection.flipped().len() >= KINDS);
}

struct FirstOfKind {
    stock: Stock,
    seen: BTreeSet<String>,
}

impl Judge for FirstOfKind {
    fn truth(&mut self, step: &Step<'_>, page: &mut Page) -> Truth {
        if !self.judges(step.record, &step.key) {
            return Truth::Unknown;
        }
        self.seen.insert(type_name(step.record, &step.key));
        self.stock.truth(step, page)
    }

    fn judges(&self, record: &Record<'_>, key: &Key) -> bool {
        !self.seen.contains(&type_name(record, key)) && self.stock.judges(record, key)
    }
}
