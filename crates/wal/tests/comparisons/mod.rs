//! What this crate reads, understood against what PostgreSQL itself says and has on disk.
//!
//! One server writes the WAL that all tests here look at: every kind of statement that has a record of its own, two
//! compressions, restarts, a crash. `pg_waldump`, `pg_control` and the data files are the oracle.

use std::collections::{BTreeMap, BTreeSet};

use crate::recorded::{Recorded, recorded};
use types::{ClusterState, Fork, Key, Page, RelFork, RelTag, SlruKind};
use wal::names::record_type;
use wal::{Change, CheckPoint, InterpretContext, Record, RecordReader, RmgrId, ShutdownCheckpoint, WalError};

/// Calls `each` with every record after `initdb`, read in pieces of the sizes that `piece` gives.
fn each_record(
    recorded: &Recorded,
    mut piece: impl FnMut() -> usize,
    mut each: impl FnMut(&wal::RawRecord<'_>, &Record<'_>),
) -> WalError {
    let start = recorded.before.lsn;
    let mut reader = RecordReader::new(
        recorded.format,
        recorded.before.timeline,
        start,
        Some(recorded.before.last_record),
    );
    let mut at = start.raw() - start.offset_in_page();
    loop {
        match reader.next_record() {
            Ok(Some(raw)) => each(&raw, &Record::decode(raw.start, raw.bytes).unwrap()),
            Ok(None) => {
                let bytes = recorded.wal_at(at, piece());
                assert!(!bytes.is_empty(), "the log has no end");
                reader.feed(types::Lsn::from_raw(at).unwrap(), bytes).unwrap();
                at += bytes.len() as u64;
            }
            Err(end) => return end,
        }
    }
}

fn each_change(recorded: &Recorded, mut each: impl FnMut(&Record<'_>, &ClusterState, Change<'_>)) {
    let mut state = recorded.before.clone();
    each_record(
        recorded,
        || 1 << 20,
        |raw, record| {
            let cx = InterpretContext {
                format: recorded.format,
                track_commit_timestamp: state.limits.track_commit_timestamp,
            };
            wal::interpret(&cx, record, raw.end, &mut |change| each(record, &state, change)).unwrap();
            wal::advance(&mut state, &recorded.format, record, raw).unwrap();
        },
    );
}

/// One test, as every test has a process of its own, and making the log takes longer than all that is asked of it.
#[test]
fn the_log_of_a_real_server_is_understood() {
    let Some(recorded) = recorded() else { return };
    let comparisons: [fn(&Recorded); 10] = [
        every_record_is_read_as_pg_waldump_reads_it,
        the_log_ends_where_the_server_stopped_writing,
        pieces_of_any_size_give_the_same_records,
        state_at_the_end_is_that_of_pg_control,
        state_before_each_shutdown_checkpoint_is_what_it_says,
        no_record_reports_a_key_twice,
        every_image_is_a_page,
        changes_add_up_to_the_files_on_disk,
        no_page_changed_without_being_named,
        damaged_records_do_not_panic,
    ];
    for compare in comparisons {
        compare(&recorded);
    }
}

fn every_record_is_read_as_pg_waldump_reads_it(recorded: &Recorded) {
    let mut expected = recorded.waldump.iter().filter(|line| line.lsn >= recorded.before.lsn.raw());
    let mut count = 0;
    let mut overwritten = 0;
    let mut kinds = BTreeSet::new();
    each_record(
        recorded,
        || 1 << 20,
        |raw, record| {
            let line = expected.next().expect("pg_waldump shows fewer records");
            let blocks: Vec<String> = record
                .blocks()
                .map(|block| {
                    let fork = match block.rel.fork {
                        Fork::Main => "",
                        Fork::FreeSpace => " fork fsm",
                        Fork::Visibility => " fork vm",
                        Fork::Init => " fork init",
                    };
                    let image = if block.image.is_some() { " FPW" } else { "" };
                    format!("rel {}{fork} blk {}{image}", block.rel.rel, block.block)
                })
                .collect();
            assert_eq!(line.lsn, raw.start.raw());
            assert_eq!(line.len, raw.bytes.len(), "at {}", raw.start);
            assert_eq!((line.xid, line.prev), (record.xid.get(), record.prev), "at {}", raw.start);
            assert_eq!(line.rmgr, record.rmgr.name(), "at {}", raw.start);
            let word = record_type(Some(recorded.format.major), record.rmgr, record.info).unwrap();
            assert_eq!(line.desc.split([' ', ';', ',']).next(), Some(word), "at {}", raw.start);
            assert_eq!(line.blocks, blocks, "at {}", raw.start);
            overwritten += usize::from(record.rmgr == RmgrId::XLOG && record.op() == 0xD0);
            kinds.insert((record.rmgr.name(), record.op()));
            count += 1;
        },
    );
    assert_eq!(expected.next(), None, "pg_waldump shows more records");
    println!("{count} records of {} types, {overwritten} overwrite a lost one", kinds.len());
    for wanted in [
        ("XLOG", 0xB0),
        ("XLOG", 0x40),
        ("XLOG", 0x60),
        ("XLOG", 0x70),
        ("Transaction", 0x10),
        ("Transaction", 0x50),
        ("Storage", 0x20),
        ("CLOG", 0x00),
        ("Database", 0x00),
        ("Database", 0x10),
        ("Database", 0x20),
        ("Tablespace", 0x00),
        ("MultiXact", 0x00),
        ("MultiXact", 0x10),
        ("MultiXact", 0x20),
        ("RelMap", 0x00),
        ("Heap2", 0x40),
        ("Heap2", 0x60),
        ("CommitTs", 0x00),
    ] {
        assert!(kinds.contains(&wanted), "the workload did not write a {wanted:x?} record");
    }
}

fn the_log_ends_where_the_server_stopped_writing(recorded: &Recorded) {
    let mut end = None;
    let error = each_record(recorded, || 1 << 20, |raw, _| end = Some(raw.end));
    assert!(matches!(error, WalError::Invalid { .. }), "{error}");
    assert_eq!(end, Some(recorded.after.lsn));
}

fn pieces_of_any_size_give_the_same_records(recorded: &Recorded) {
    let read = |piece: &mut dyn FnMut() -> usize| {
        let mut records = Vec::new();
        each_record(recorded, piece, |raw, _| records.push((raw.start, raw.end, crc32c::crc32c(raw.bytes))));
        records
    };
    let whole = read(&mut || usize::MAX);
    let mut seed = 1u64;
    let uneven = read(&mut || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let size = (seed >> 40) as usize;
        if seed >> 63 == 0 { 1 + size % 40 } else { 1 + size % 30_000 }
    });
    assert!(whole == uneven);
}

fn state_at_the_end_is_that_of_pg_control(recorded: &Recorded) {
    let mut state = recorded.before.clone();
    each_record(
        recorded,
        || 1 << 20,
        |raw, record| {
            wal::advance(&mut state, &recorded.format, record, raw).unwrap();
        },
    );
    let (last_commit, latest) = (state.last_commit.take(), state.latest_xact_time.take());
    assert_eq!(state, recorded.after);
    assert!(last_commit.unwrap().0 <= latest.unwrap());
}

/// A shutdown checkpoint corrects nothing: its counters were known from the records before it. But the next OID is
/// logged ahead in steps of 8192, and which database is the oldest is not logged while its oldest id stays the same.
fn state_before_each_shutdown_checkpoint_is_what_it_says(recorded: &Recorded) {
    let mut state = recorded.before.clone();
    let mut checked = 0;
    each_record(
        recorded,
        || 1 << 20,
        |raw, record| {
            if record.rmgr == RmgrId::XLOG && record.op() == 0 {
                let said = CheckPoint::parse(record.main).unwrap();
                assert!(state.next_oid >= said.next_oid, "at {}", raw.start);
                let known = ClusterState {
                    next_oid: said.next_oid,
                    oldest_xid_database: said.oldest_xid_database,
                    oldest_multi_database: said.oldest_multi_database,
                    ..state.clone()
                };
                let ours = ShutdownCheckpoint {
                    state: &known,
                    timeline: state.timeline,
                    at: raw.start,
                    time_unix_s: said.time_unix_s,
                };
                let major = wal::major::of(recorded.format.major).unwrap();
                assert_eq!(ours.record(major), raw.bytes, "at {}", raw.start);
                checked += 1;
            }
            wal::advance(&mut state, &recorded.format, record, raw).unwrap();
        },
    );
    assert!(checked >= 3, "only {checked} shutdown checkpoints");
}

fn no_record_reports_a_key_twice(recorded: &Recorded) {
    let mut last = None;
    let mut seen: Vec<Key> = Vec::new();
    each_change(recorded, |record, _, change| {
        if last != Some(record.start) {
            last = Some(record.start);
            seen.clear();
        }
        let key = match change {
            Change::Block { rel, block, .. } => Key::RelBlock(rel, block),
            Change::Slru { kind, page, .. } => Key::SlruBlock(kind, page),
            Change::ForkCreated(rel) | Change::ForkTruncated { rel, .. } => Key::RelSize(rel),
            Change::PreparedDone { xid } | Change::Prepared { xid, .. } => Key::TwoPhase(xid),
            Change::RelDropped(rel) => Key::RelSize(RelFork { rel, fork: Fork::Main }),
            _ => return,
        };
        assert!(!seen.contains(&key), "{key:?} twice at {}", record.start);
        seen.push(key);
    });
}

fn every_image_is_a_page(recorded: &Recorded) {
    let mut compressions = BTreeMap::new();
    let mut page = Page::zeroed();
    each_record(
        recorded,
        || 1 << 20,
        |raw, record| {
            for image in record.blocks().filter_map(|block| block.image) {
                wal::image::restore(&image, &mut page).unwrap();
                let word = |at: usize| u16::from_le_bytes([page[at], page[at + 1]]);
                let (lower, upper, special) = (word(12), word(14), word(16));
                let sound = upper == 0
                    || (lower <= upper && upper <= special && special <= 8192 && word(18) == 0x2004);
                assert!(sound, "image at {}: {lower} {upper} {special} {:x}", raw.start, word(18));
                *compressions.entry(format!("{:?}", image.compression)).or_insert(0) += 1;
            }
        },
    );
    println!("{compressions:?}");
    assert_eq!(compressions.len(), if crate::RELEASE == "15" { 4 } else { 2 }, "{compressions:?}");
}

/// What the changes add up to: files and their lengths, and which pages were ever named.
#[derive(Default)]
struct Model {
    sizes: BTreeMap<RelFork, u32>,
    databases: BTreeSet<(u32, u32)>,
    named: BTreeSet<Key>,
    relmaps: BTreeMap<(u32, u32), Vec<u8>>,
    prepared: BTreeMap<u64, Vec<u8>>,
}

impl Model {
    fn apply(&mut self, change: Change<'_>) {
        match change {
            Change::Block { rel, block, .. } => {
                let size = self.sizes.entry(rel).or_insert(0);
                *size = (*size).max(block.get() + 1);
                self.named.insert(Key::RelBlock(rel, block));
            }
            Change::ForkCreated(rel) => {
                self.sizes.entry(rel).or_insert(0);
            }
            Change::ForkTruncated { rel, blocks } => {
                self.sizes.entry(rel).and_modify(|size| *size = blocks.min(*size));
            }
            Change::RelDropped(rel) => self.sizes.retain(|fork, _| fork.rel != rel),
            Change::DatabaseCreated { tablespace, database, copy_of } => {
                self.databases.insert((tablespace, database));
                let Some(from) = copy_of else { return };
                let of = |rel: &RelTag| (rel.tablespace, rel.database) == from;
                let to = |rel: RelFork| RelFork { rel: RelTag { tablespace, database, ..rel.rel }, ..rel };
                let copied: Vec<_> = self.sizes.iter().filter(|(rel, _)| of(&rel.rel)).collect();
                let copied: Vec<_> = copied.into_iter().map(|(&rel, &size)| (to(rel), size)).collect();
                for (rel, size) in copied {
                    self.sizes.insert(rel, size);
                    self.named
                        .extend((0..size).map(|block| Key::RelBlock(rel, types::BlockNumber::new(block))));
                }
                if let Some(map) = self.relmaps.get(&from).cloned() {
                    self.relmaps.insert((tablespace, database), map);
                }
            }
            Change::DatabaseDropped { tablespace, database } => {
                let of = |rel: &RelTag| (rel.tablespace, rel.database) == (tablespace, database);
                self.sizes.retain(|rel, _| !of(&rel.rel));
                self.databases.remove(&(tablespace, database));
                self.relmaps.remove(&(tablespace, database));
            }
            Change::RelMap { tablespace, database, bytes } => {
                self.relmaps.insert((tablespace, database), bytes.to_vec());
            }
            Change::Slru { kind, page, .. } => {
                self.named.insert(Key::SlruBlock(kind, page));
            }
            Change::Prepared { xid, bytes } => {
                self.prepared.insert(xid, bytes.to_vec());
            }
            Change::PreparedDone { xid } => {
                self.prepared.remove(&xid);
            }
            Change::TablespaceCreated(_)
            | Change::TablespaceDropped(_)
            | Change::SlruTruncated { .. }
            | Change::OriginAdvanced { .. }
            | Change::OriginDropped { .. } => {}
            Change::Extension { .. } | Change::Unreadable { .. } => panic!("no extension is loaded"),
        }
    }
}

fn model(recorded: &Recorded) -> Model {
    let mut model = Model { relmaps: recorded.files_before.relmaps.clone(), ..Model::default() };
    let before = recorded.files_before.relations.iter();
    model.sizes.extend(before.map(|(&rel, bytes)| (rel, (bytes.len() / 8192) as u32)));
    each_change(recorded, |_, _, change| model.apply(change));
    model
}

fn is_zero(page: &[u8]) -> bool {
    page.iter().all(|&byte| byte == 0)
}

fn changes_add_up_to_the_files_on_disk(recorded: &Recorded) {
    let model = model(recorded);
    let after = &recorded.files_after;
    for (rel, bytes) in &after.relations {
        let size = *model.sizes.get(rel).unwrap_or_else(|| panic!("{rel} is not known"));
        let known = bytes.get(..size as usize * 8192);
        let beyond = bytes.get(size as usize * 8192..);
        assert!(known.is_some(), "{rel} has {} blocks, {size} are known", bytes.len() / 8192);
        // A file may be longer by pages that were never written.
        assert!(is_zero(beyond.unwrap()), "{rel} has pages behind {size}");
    }
    let logged = |rel: &RelFork| !after.unlogged.contains(&rel.rel);
    for (rel, size) in model.sizes.iter().filter(|(rel, _)| logged(rel)) {
        assert!(after.relations.contains_key(rel), "{rel} of {size} blocks is not on disk");
    }
    assert_eq!(model.relmaps, after.relmaps);
    assert_eq!(model.prepared.into_iter().collect::<Vec<_>>(), after.prepared);
    assert!(!after.prepared.is_empty());
}

fn no_page_changed_without_being_named(recorded: &Recorded) {
    let model = model(recorded);
    let (before, after) = (&recorded.files_before, &recorded.files_after);
    let mut changed = 0;
    let mut check = |was: Option<&[u8]>, is: &[u8], key: Key| {
        if !is_zero(is) && was != Some(is) {
            assert!(model.named.contains(&key), "{key:?} changed");
            changed += 1;
        }
    };
    for (rel, bytes) in &after.relations {
        let old = before.relations.get(rel);
        for (block, page) in bytes.chunks(8192).enumerate() {
            let was = old.and_then(|old| old.get(block * 8192..(block + 1) * 8192));
            check(was, page, Key::RelBlock(*rel, types::BlockNumber::new(block as u32)));
        }
    }
    for (&(kind, page), bytes) in &after.slru {
        let was = before.slru.get(&(kind, page)).map(|page| &page[..]);
        // Enabling commit timestamps makes the page of the next transaction, without a record; it is zero.
        check(was, bytes, Key::SlruBlock(kind, page));
    }
    println!("{changed} pages changed");
    assert!(after.slru.keys().any(|(kind, _)| *kind == SlruKind::CommitTs));
}

/// Content that no checksum protects any more: each damaged record is refused or understood, never a panic.
fn damaged_records_do_not_panic(recorded: &Recorded) {
    let mut seed = 7u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    let mut page = Page::zeroed();
    each_record(
        recorded,
        || 1 << 20,
        |raw, record| {
            if raw.bytes.len() > 10_000 && !random().is_multiple_of(16) {
                return;
            }
            let _ = record;
            let mut bytes = raw.bytes.to_vec();
            for _ in 0..1 + random() % 3 {
                let at = 16 + random() % (bytes.len() - 16);
                bytes[at] ^= 1 << (random() % 8);
            }
            if random().is_multiple_of(4) {
                bytes.truncate(16 + random() % (bytes.len() - 16));
            }
            let Ok(record) = Record::decode(raw.start, &bytes) else { return };
            let cx = InterpretContext { format: recorded.format, track_commit_timestamp: true };
            let _ = wal::interpret(&cx, &record, raw.end, &mut |_| ());
            let _ = wal::advance(&mut recorded.before.clone(), &recorded.format, &record, raw);
            for image in record.blocks().filter_map(|block| block.image) {
                let _ = wal::image::restore(&image, &mut page);
            }
        },
    );
}
