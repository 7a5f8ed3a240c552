//! The reader and the decoders on WAL made here: what a real server writes only by accident, and what it never does.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use types::{BLOCK_SIZE, BlockNumber, Fork, Lsn, Page, RelFork, RelTag, SlruKind, TimelineId, Xid};
use wal::{
    BlockChange, Change, CheckPoint, ControlFile, InterpretContext, Record, RecordReader, RmgrId, WalError,
    WalFormat,
};

const PAGE: u64 = 8192;
const START: u64 = 0x0200_0000;
const FORMAT: WalFormat = WalFormat { major: 15, segment_bytes: 16 << 20, system_id: 7 };

fn lsn(raw: u64) -> Lsn {
    Lsn::from_raw(raw).unwrap()
}

/// A log written record by record, from the start of a segment.
struct Log {
    bytes: Vec<u8>,
    prev: u64,
    timeline: u32,
}

impl Log {
    fn new() -> Self {
        Self { bytes: Vec::new(), prev: START - 64, timeline: 1 }
    }

    fn at(&self) -> u64 {
        START + self.bytes.len() as u64
    }

    fn page_header(&mut self, flags: u16, remaining: u32) {
        let at = self.at();
        assert_eq!(at % PAGE, 0);
        let long = at.is_multiple_of(FORMAT.segment_bytes);
        self.bytes.extend(0xD110u16.to_le_bytes());
        self.bytes.extend((flags | if long { 2 } else { 0 }).to_le_bytes());
        self.bytes.extend(self.timeline.to_le_bytes());
        self.bytes.extend(at.to_le_bytes());
        self.bytes.extend(remaining.to_le_bytes());
        self.bytes.extend([0; 4]);
        if long {
            self.bytes.extend(FORMAT.system_id.to_le_bytes());
            self.bytes.extend((FORMAT.segment_bytes as u32).to_le_bytes());
            self.bytes.extend((PAGE as u32).to_le_bytes());
        }
    }

    /// Writes a record without blocks; gives its start.
    fn record(&mut self, rmgr: RmgrId, info: u8, main: &[u8]) -> u64 {
        if self.at().is_multiple_of(PAGE) {
            self.page_header(0, 0);
        }
        let start = self.at();
        let record = record_bytes(rmgr, info, 0, self.prev, main);
        let mut left = &record[..];
        while !left.is_empty() {
            if self.at().is_multiple_of(PAGE) {
                self.page_header(1, left.len() as u32);
            }
            let room = (PAGE - self.at() % PAGE) as usize;
            let (now, later) = left.split_at(room.min(left.len()));
            self.bytes.extend(now);
            left = later;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.prev = start;
        start
    }
}

fn record_bytes(rmgr: RmgrId, info: u8, xid: u32, prev: u64, main: &[u8]) -> Vec<u8> {
    let mut body = vec![254];
    body.extend((main.len() as u32).to_le_bytes());
    body.extend(main);
    framed(rmgr, info, xid, prev, &body)
}

fn framed(rmgr: RmgrId, info: u8, xid: u32, prev: u64, body: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    record.extend((24 + body.len() as u32).to_le_bytes());
    record.extend(xid.to_le_bytes());
    record.extend(prev.to_le_bytes());
    record.extend([info, rmgr.0, 0, 0]);
    let crc = crc32c::crc32c_append(crc32c::crc32c(body), &record);
    record.extend(crc.to_le_bytes());
    record.extend(body);
    record
}

/// Every record that `log` holds as (start, end, length), and why there are no more.
fn read(log: &Log, timeline: u32, piece: usize) -> (Vec<(u64, u64, usize)>, Option<WalError>) {
    let mut reader = RecordReader::new(FORMAT, TimelineId::new(timeline), lsn(START), None);
    let mut records = Vec::new();
    let mut at = START;
    for bytes in log.bytes.chunks(piece) {
        reader.feed(lsn(at), bytes).unwrap();
        at += bytes.len() as u64;
        loop {
            match reader.next_record() {
                Ok(Some(raw)) => records.push((raw.start.raw(), raw.end.raw(), raw.bytes.len())),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(reader.next_record().map(|_| ()), Err(error.clone()));
                    return (records, Some(error));
                }
            }
        }
    }
    (records, None)
}

fn message(log: &mut Log, len: usize) -> u64 {
    log.record(RmgrId::LOGICALMSG, 0, &vec![0xAB; len])
}

#[test]
fn records_cross_pages_and_segments() {
    let mut log = Log::new();
    let starts = [100, 8100, 3, 40_000, 17 << 20, 50].map(|len| message(&mut log, len));
    for piece in [1 << 30, 8192, 8193, 1000] {
        let (records, error) = read(&log, 1, piece);
        assert_eq!(records.iter().map(|record| record.0).collect::<Vec<_>>(), starts);
        assert_eq!(records.last().unwrap().1, log.at());
        assert_eq!(error, None);
    }
}

/// A crash left the first pages of a record; the server went on at the page that its rest would have begun.
#[test]
fn a_record_lost_in_a_crash_is_passed_over() {
    let mut log = Log::new();
    let first = message(&mut log, 100);
    let (prev, lost) = (log.prev, log.at());
    message(&mut log, 30_000);
    let kept = (lost - START) / PAGE * PAGE + 2 * PAGE;
    log.bytes.truncate(kept as usize);
    log.prev = prev;
    log.page_header(8, 0);
    let next = log.record(RmgrId::XLOG, 0xD0, &[0; 16]);
    for piece in [1 << 30, 8192, 10] {
        let (records, error) = read(&log, 1, piece);
        assert_eq!(records.iter().map(|record| record.0).collect::<Vec<_>>(), [first, next]);
        assert_eq!(error, None);
    }
}

#[test]
fn a_switch_ends_at_the_end_of_its_segment() {
    let mut log = Log::new();
    log.record(RmgrId::XLOG, 0x40, &[]);
    let end = START + FORMAT.segment_bytes;
    assert_eq!(read(&log, 1, 4096).0[0].1, end);
    log.bytes.resize(FORMAT.segment_bytes as usize, 0);
    let next = message(&mut log, 10);
    assert_eq!(next, end + 40);
    assert_eq!(read(&log, 1, 9999).0[1].0, next);
}

#[test]
fn what_does_not_continue_the_log_is_its_end() {
    let broken = |damage: &dyn Fn(&mut Log)| {
        let mut log = Log::new();
        message(&mut log, 100);
        damage(&mut log);
        let (records, error) = read(&log, 1, 1 << 20);
        assert_eq!(records.len(), 1);
        match error {
            Some(WalError::Invalid { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert!(broken(&|log| log.bytes.extend([0; 64])).contains("zeros"));
    assert!(broken(&|log| log.bytes.extend([9, 0, 0, 0])).contains("length 9"));
    assert!(
        broken(&|log| {
            log.prev -= 8;
            message(log, 10);
        })
        .contains("the one before it")
    );
    assert!(
        broken(&|log| {
            let at = message(log, 10) - START;
            log.bytes[at as usize + 30] ^= 1;
        })
        .contains("checksum")
    );
    assert!(
        broken(&|log| {
            let at = message(log, 9000);
            log.bytes[((at - START) / PAGE * PAGE + PAGE) as usize + 16] ^= 1;
        })
        .contains("continues a record by")
    );
    assert!(
        broken(&|log| {
            let at = message(log, 9000);
            log.bytes[((at - START) / PAGE * PAGE + PAGE) as usize + 8] ^= 64;
        })
        .contains("page says it is at")
    );
    assert!(
        broken(&|log| {
            log.timeline = 2;
            message(log, 9000);
        })
        .contains("timeline 2")
    );
}

#[test]
fn older_timelines_may_come_first_but_not_again() {
    let mut log = Log::new();
    message(&mut log, 9000);
    log.timeline = 3;
    message(&mut log, 9000);
    assert_eq!(read(&log, 3, 4096).1, None);
    log.timeline = 2;
    message(&mut log, 9000);
    assert_eq!(read(&log, 3, 4096).0.len(), 2);
    assert!(read(&log, 3, 4096).1.is_some());
}

fn rel(fork: Fork) -> RelFork {
    RelFork { rel: RelTag { tablespace: 1663, database: 5, relation: 16384 }, fork }
}

/// A record with block references to main forks of one relation.
fn with_blocks(rmgr: RmgrId, info: u8, blocks: &[u32], main: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for (id, block) in (0u8..).zip(blocks) {
        body.extend([id, 0, 0, 0]);
        body.extend([1663u32, 5, 16384, *block].iter().flat_map(|word| word.to_le_bytes()));
    }
    body.extend([255, main.len() as u8]);
    body.extend(main);
    framed(rmgr, info, 700, 0, &body)
}

fn changes_of(bytes: &[u8]) -> Result<Vec<String>, WalError> {
    let record = Record::decode(lsn(START), bytes).unwrap();
    let cx = InterpretContext { format: FORMAT, track_commit_timestamp: false };
    let mut changes = Vec::new();
    wal::interpret(&cx, &record, lsn(START + 64), &mut |change| changes.push(format!("{change:?}")))?;
    Ok(changes)
}

fn expect(changes: &[Change<'_>]) -> Result<Vec<String>, WalError> {
    Ok(changes.iter().map(|change| format!("{change:?}")).collect())
}

fn block(fork: Fork, block: u32) -> Change<'static> {
    Change::Block { rel: rel(fork), block: BlockNumber::new(block), how: BlockChange::Modifies }
}

#[test]
fn an_update_clears_the_map_of_its_old_and_its_new_page() {
    let update = |flags: u8, blocks: &[u32]| {
        let mut main = [0; 14];
        main[7] = flags;
        changes_of(&with_blocks(RmgrId::HEAP, 0x20, blocks, &main))
    };
    let (main, map) = (|number| block(Fork::Main, number), |number| block(Fork::Visibility, number));
    assert_eq!(update(0, &[1, 40_000]), expect(&[main(1), main(40_000)]));
    assert_eq!(update(1, &[1, 40_000]), expect(&[main(1), main(40_000), map(1)]));
    assert_eq!(update(2, &[1, 40_000]), expect(&[main(1), main(40_000), map(0)]));
    assert_eq!(update(3, &[1, 40_000]), expect(&[main(1), main(40_000), map(1), map(0)]));
    assert_eq!(update(3, &[1, 2]), expect(&[main(1), main(2), map(0)]));
    assert_eq!(update(1, &[32_672]), expect(&[main(32_672), map(1)]));
}

#[test]
fn a_truncation_clears_the_tail_of_the_last_map_page() {
    let truncate = |blocks: u32| {
        let words = [blocks, 1663, 5, 16384, 7];
        changes_of(&record_bytes(RmgrId::SMGR, 0x20, 0, 0, &words.map(u32::to_le_bytes).concat()))
    };
    let cut = |fork, blocks| Change::ForkTruncated { rel: rel(fork), blocks };
    let tail = block(Fork::Visibility, 1);
    assert_eq!(truncate(0), expect(&[cut(Fork::Main, 0), cut(Fork::Visibility, 0)]));
    assert_eq!(truncate(32_672), expect(&[cut(Fork::Main, 32_672), cut(Fork::Visibility, 1)]));
    assert_eq!(truncate(32_673), expect(&[cut(Fork::Main, 32_673), cut(Fork::Visibility, 2), tail]));
}

#[test]
fn a_multixact_touches_the_next_offsets_page_and_every_members_page() {
    let create = |multi: u32, offset: u32, members: u32| {
        let mut words = vec![multi, offset, members];
        words.extend((0..members).flat_map(|xid| [700 + xid, 0]));
        let main: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        changes_of(&record_bytes(RmgrId::MULTIXACT, 0x20, 0, 0, &main))
    };
    let slru = |kind, page| Change::Slru { kind, page, how: BlockChange::Modifies };
    let (offsets, members) =
        (|page| slru(SlruKind::MultiXactOffsets, page), |page| slru(SlruKind::MultiXactMembers, page));
    assert_eq!(create(5, 10, 2), expect(&[offsets(0), members(0)]));
    assert_eq!(create(2047, 1635, 2), expect(&[offsets(0), offsets(1), members(0), members(1)]));
    assert_eq!(create(u32::MAX, 10, 2), expect(&[offsets(u32::MAX / 2048), offsets(0), members(0)]));
    let last = u32::MAX / 1636;
    assert_eq!(create(5, u32::MAX, 2), expect(&[offsets(0), members(last), members(0)]));
}

#[test]
fn pages_of_slrus_are_named_by_eight_bytes_from_17_on() {
    let of = |major: u32, bytes: &[u8], rmgr: RmgrId, info: u8| {
        let bytes = record_bytes(rmgr, info, 0, 0, bytes);
        let record = Record::decode(lsn(START), &bytes).unwrap();
        let cx = InterpretContext { format: WalFormat { major, ..FORMAT }, track_commit_timestamp: false };
        let mut changes = Vec::new();
        wal::interpret(&cx, &record, lsn(START + 64), &mut |change| changes.push(format!("{change:?}")))?;
        Ok(changes)
    };
    let slru = |kind, how| expect(&[Change::Slru { kind, page: 3, how }]);
    for (major, bytes) in
        [(15, &3u32.to_le_bytes()[..]), (16, &3u32.to_le_bytes()), (17, &3u64.to_le_bytes())]
    {
        assert_eq!(of(major, bytes, RmgrId::CLOG, 0), slru(SlruKind::Clog, BlockChange::Rebuilds));
        let offsets = slru(SlruKind::MultiXactOffsets, BlockChange::Modifies);
        assert_eq!(of(major, bytes, RmgrId::MULTIXACT, 0), offsets, "its first entry may be set already");
        let members = slru(SlruKind::MultiXactMembers, BlockChange::Rebuilds);
        assert_eq!(of(major, bytes, RmgrId::MULTIXACT, 0x10), members);
    }
    assert!(of(18, &3u32.to_le_bytes(), RmgrId::CLOG, 0).is_err());
    let beyond = (1u64 << 40).to_le_bytes();
    assert!(of(18, &beyond, RmgrId::CLOG, 0).is_err(), "there is no such page");
}

#[test]
fn a_map_that_a_record_references_is_reported_once() {
    let mut body = vec![0, 0, 0, 0];
    body.extend([1663u32, 5, 16384, 70_000].iter().flat_map(|word| word.to_le_bytes()));
    body.extend([1, 0x80 | 2, 0, 0]); // the same relation, fork 2
    body.extend(2u32.to_le_bytes());
    body.extend([255, 3, 1, 0, 1]); // item 1, all-visible cleared
    let insert = framed(RmgrId::HEAP, 0, 700, 0, &body);
    assert_eq!(changes_of(&insert), expect(&[block(Fork::Main, 70_000), block(Fork::Visibility, 2)]));
}

#[test]
fn wal_of_another_version_or_segment_size_is_named() {
    let refused = |damage: &dyn Fn(&mut Log)| {
        let mut log = Log::new();
        message(&mut log, 100);
        damage(&mut log);
        let (records, error) = read(&log, 1, 1 << 20);
        assert!(records.is_empty());
        error.unwrap().to_string()
    };
    let other = refused(&|log| log.bytes[..2].copy_from_slice(&0xD10Du16.to_le_bytes()));
    assert!(other.contains("WAL of PostgreSQL 14") && other.contains("expected that of 15"), "{other}");
    let unknown = refused(&|log| log.bytes[..2].copy_from_slice(&0x1234u16.to_le_bytes()));
    assert!(unknown.contains("page magic 1234"), "{unknown}");
    let segments = refused(&|log| log.bytes[32..36].copy_from_slice(&(64u32 << 20).to_le_bytes()));
    assert!(segments.contains("segments of 67108864 bytes") && segments.contains("16777216"), "{segments}");
    let mut reader =
        RecordReader::new(WalFormat { major: 14, ..FORMAT }, TimelineId::new(1), lsn(START), None);
    let error = reader.feed(lsn(START), &[0; 64]).unwrap_err().to_string();
    assert!(error.contains("PostgreSQL 14") && error.contains("supported are 15, 16, 17 and 18"), "{error}");
}

#[test]
fn truncations_name_the_first_page_still_needed() {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let multixact = record_bytes(RmgrId::MULTIXACT, 0x30, 0, 0, &words(&[1, 1, 2049, 1, 1636 * 40]));
    let cut = |kind, cutoff| Change::SlruTruncated { kind, cutoff };
    let expected = [cut(SlruKind::MultiXactMembers, 40), cut(SlruKind::MultiXactOffsets, 1)];
    assert_eq!(changes_of(&multixact), expect(&expected));
    let clog = record_bytes(RmgrId::CLOG, 0x10, 0, 0, &words(&[32, 1_048_576, 5]));
    assert_eq!(changes_of(&clog), expect(&[cut(SlruKind::Clog, 32)]));
}

#[test]
fn unknown_types_are_refused_by_name_and_extensions_blocks_are_unreadable() {
    let unknown = changes_of(&with_blocks(RmgrId::XLOG, 0xC0, &[], &[]));
    assert!(matches!(unknown, Err(WalError::Unknown { .. })), "{unknown:?}");
    let custom = changes_of(&with_blocks(RmgrId(130), 0x10, &[3], &[]));
    let whose = Change::Extension { rmgr: 130 };
    let block = Change::Unreadable { rel: rel(Fork::Main), block: BlockNumber::new(3), rmgr: 130 };
    assert_eq!(custom, expect(&[whose, block]));
}

#[test]
fn wal_level_minimal_is_refused() {
    let words = [100u32, 8, 10, 0, 64, 0].map(u32::to_le_bytes).concat();
    let change = record_bytes(RmgrId::XLOG, 0x60, 0, 0, &[&words[..], &[0; 2]].concat());
    assert!(matches!(changes_of(&change), Err(WalError::Unsupported(_))));
}

#[test]
fn a_hint_without_its_image_changes_nothing() {
    assert_eq!(changes_of(&with_blocks(RmgrId::XLOG, 0xA0, &[3], &[])), expect(&[]));
    assert!(changes_of(&with_blocks(RmgrId::XLOG, 0xB0, &[3], &[])).is_err());
}

/// The next xid wraps into the next epoch and skips the three special ids.
#[test]
fn the_next_xid_wraps_into_the_next_epoch() {
    let mut log = Log::new();
    let mut main = [0; 88];
    main[24..32].copy_from_slice(&(u64::from(u32::MAX) - 1).to_le_bytes());
    let start = log.record(RmgrId::XLOG, 0, &main);
    let mut state = test_state();
    let mut apply = |bytes: &[u8]| {
        let record = Record::decode(lsn(start), bytes).unwrap();
        let raw = wal::RawRecord { start: lsn(start), end: lsn(start + 200), bytes };
        wal::advance(&mut state, &FORMAT, &record, &raw).unwrap();
        state.next_xid
    };
    assert_eq!(apply(&record_bytes(RmgrId::XLOG, 0, 0, 0, &main)), 0xFFFF_FFFE);
    assert_eq!(apply(&record_bytes(RmgrId::HEAP, 0, u32::MAX - 1, 0, &[])), 0xFFFF_FFFF);
    assert_eq!(apply(&record_bytes(RmgrId::HEAP, 0, u32::MAX, 0, &[])), 1 << 32 | 3);
    assert_eq!(apply(&record_bytes(RmgrId::HEAP, 0, u32::MAX - 5, 0, &[])), 1 << 32 | 3);
    assert_eq!(apply(&record_bytes(RmgrId::HEAP, 0, 3, 0, &[])), 1 << 32 | 4);
}

fn test_state() -> types::ClusterState {
    let mut bytes = vec![0; 8192];
    let word = |bytes: &mut Vec<u8>, at: usize, value: u32| {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    };
    for (at, value) in [
        (8, 1300),
        (12, 202_209_061),
        (16, 1),
        (32, 0x0100_0028),
        (40, 0x0100_0028),
        (204, 8),
        (216, 8192),
        (220, 131_072),
        (224, 8192),
        (228, 16 << 20),
    ] {
        word(&mut bytes, at, value);
    }
    let crc = crc32c::crc32c(&bytes[..288]);
    word(&mut bytes, 288, crc);
    let state = ControlFile::parse(&bytes).unwrap().cluster_state().unwrap();
    bytes[0] ^= 1;
    assert!(ControlFile::parse(&bytes).is_err(), "a wrong checksum");
    state
}

/// Found by fuzzing: whichever of two references with one number was found first would have been the one applied.
#[test]
fn references_are_numbered_upwards() {
    let mut bytes = with_blocks(RmgrId::HEAP, 0, &[3, 4], &[1]);
    assert!(Record::decode(lsn(START), &bytes).is_ok());
    for number in [0, 1] {
        bytes[24] = 1;
        bytes[24 + 20] = number;
        assert!(Record::decode(lsn(START), &bytes).is_err(), "1, {number}");
    }
}

proptest! {
    #[test]
    fn random_bytes_are_refused_or_read_but_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        rmgr in 0u8..24,
        info: u8,
        start in 1u64..,
    ) {
        let at = lsn(start);
        let cx = InterpretContext { format: FORMAT, track_commit_timestamp: true };
        for framing in [bytes.clone(), record_bytes(RmgrId(rmgr), info, 9, 0, &bytes)] {
            let Ok(record) = Record::decode(at, &framing) else { continue };
            let _ = wal::interpret(&cx, &record, at, &mut |_| ());
            let raw = wal::RawRecord { start: at, end: at, bytes: &framing };
            let _ = wal::advance(&mut test_state(), &FORMAT, &record, &raw);
            let _ = wal::xact_time(&record);
        }
        let _ = ControlFile::parse(&bytes);
        let _ = CheckPoint::parse(&bytes);
        let _ = wal::image::pglz_decompress(&bytes, &mut [0; BLOCK_SIZE]);
        for compression in [wal::Compression::Lz4, wal::Compression::Zstd, wal::Compression::None] {
            let image = wal::BlockImage { bytes: &bytes, hole_offset: 9, hole_len: 8000, compression, apply: true };
            let _ = wal::image::restore(&image, &mut Page::zeroed());
        }
        let mut reader = RecordReader::new(FORMAT, TimelineId::new(1), at, None);
        let _ = reader.feed(at, &bytes).and_then(|()| reader.next_record().map(|_| ()));
    }

    #[test]
    fn a_damaged_log_ends_or_reads_on_but_never_panics(
        lens in prop::collection::vec(0usize..20_000, 1..8),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        piece in 1usize..10_000,
    ) {
        let mut log = Log::new();
        for len in lens {
            message(&mut log, len);
        }
        for (at, value) in damage {
            let at = at.index(log.bytes.len());
            log.bytes[at] = value;
        }
        let _ = read(&log, 1, piece);
    }
}

#[test]
fn xids_of_a_commit_are_those_it_lists() {
    let mut main = 77i64.to_le_bytes().to_vec();
    main.extend([2u32 | 4, 2, 701, 702, 1, 1663, 5, 99].iter().flat_map(|word| word.to_le_bytes()));
    let bytes = record_bytes(RmgrId::XACT, 0x80, 700, 0, &main);
    let record = Record::decode(lsn(START), &bytes).unwrap();
    let xact = wal::ParsedXact::parse(15, &record).unwrap().unwrap();
    assert_eq!(xact.all_xids().map(Xid::get).collect::<Vec<_>>(), [700, 701, 702]);
    assert_eq!(xact.dropped().next().unwrap().relation, 99);
    assert_eq!(xact.time.pg_us(), 77);
    let cut = record_bytes(RmgrId::XACT, 0x80, 700, 0, &main[..main.len() - 1]);
    assert!(wal::ParsedXact::parse(15, &Record::decode(lsn(START), &cut).unwrap()).is_err());
}

/// A record of a transaction that was applied from `origin`.
fn from_origin(origin: u16, info: u8, main: &[u8]) -> Vec<u8> {
    let mut body = vec![253];
    body.extend(origin.to_le_bytes());
    body.extend([255, main.len() as u8]);
    body.extend(main);
    framed(RmgrId::XACT, info, 700, 0, &body)
}

#[test]
fn transactions_and_records_of_an_origin_say_how_far_it_was_applied() {
    let advanced = |upto, backward| Change::OriginAdvanced { origin: 7, upto, backward };
    let told = |bytes: &[u8]| {
        let changes = changes_of(bytes).unwrap();
        changes.into_iter().filter(|change| change.starts_with("Origin")).collect::<Vec<_>>()
    };
    let only = |change: Change<'_>| vec![format!("{change:?}")];
    let set =
        |backward| record_bytes(RmgrId::REPLORIGIN, 0, 0, 0, &[0x55, 1, 0, 0, 0, 0, 0, 0, 7, 0, backward]);
    assert_eq!(told(&set(0)), only(advanced(0x155, false)));
    assert_eq!(told(&set(1)), only(advanced(0x155, true)));
    let dropped = record_bytes(RmgrId::REPLORIGIN, 0x10, 0, 0, &[7, 0]);
    assert_eq!(told(&dropped), only(Change::OriginDropped { origin: 7 }));
    assert!(changes_of(&record_bytes(RmgrId::REPLORIGIN, 0, 0, 0, &[0; 10])).is_err());

    let ended = [&[0u8; 8][..], &[1 << 5, 0, 0, 0], &[0x55, 1, 0, 0, 0, 0, 0, 0], &[0; 8]].concat();
    for end in [0x80, 0xA0] {
        assert_eq!(told(&from_origin(7, end, &ended)), only(advanced(0x155, false)), "{end:#x}");
        assert!(told(&from_origin(u16::MAX, end, &ended)).is_empty(), "changes that are not replicated");
    }
    let mut prepared = [0; 80];
    prepared[56..58].copy_from_slice(&[0x55, 1]);
    assert_eq!(told(&from_origin(7, 0x10, &prepared)), only(advanced(0x155, false)));
    assert!(told(&from_origin(0, 0x10, &prepared)).is_empty(), "prepared here");
}
