//! Commit and abort records: which transactions ended, when, and which files went with them.
//!
//! Follows `ParseCommitRecord` and `ParseAbortRecord` in `xactdesc.c`, `xact_redo` in `xact.c`. Main data:
//!
//! ```text
//! | time 8 | [xinfo 4] | [db 4, tablespace 4] | [n 4, subxid 4 * n] | [n 4, relation 12 * n] | [n 4, stats 12 or 16 * n]
//! | commit only: [n 4, invalidation 16 * n] | [two-phase xid 4, [gid, 0]] | [origin lsn 8, origin time 8] |
//! ```
//!
//! An item of statistics has 16 bytes from 18 on. `xinfo` says which parts follow; it is itself there only if the record's info has its top bit.
//!
//! Not here: what the clog looks like (`clog`).

use types::{PgTime, RelTag, SlruKind, Xid};

use crate::bytes::{i32_at, i64_at, u32_at, u64_at};
use crate::interpret::InterpretContext;
use crate::major::{self, Major};
use crate::rmgr::{clog, origin};
use crate::{BlockChange, Change, Record, RmgrId, WalError};

const OP_MASK: u8 = 0x70;
const HAS_INFO: u8 = 0x80;

const COMMIT: u8 = 0x00;
pub(crate) const PREPARE: u8 = 0x10;
const ABORT: u8 = 0x20;
const COMMIT_PREPARED: u8 = 0x30;
const ABORT_PREPARED: u8 = 0x40;
pub(crate) const ASSIGNMENT: u8 = 0x50;
const INVALIDATIONS: u8 = 0x60;

const XINFO_DBINFO: u32 = 1 << 0;
const XINFO_SUBXACTS: u32 = 1 << 1;
const XINFO_RELATIONS: u32 = 1 << 2;
const XINFO_INVALIDATIONS: u32 = 1 << 3;
const XINFO_TWOPHASE: u32 = 1 << 4;
const XINFO_ORIGIN: u32 = 1 << 5;
const XINFO_GID: u32 = 1 << 7;
const XINFO_DROPPED_STATS: u32 = 1 << 8;

/// How a transaction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XactKind {
    /// `COMMIT`.
    Commit,
    /// `ROLLBACK`, or an error.
    Abort,
    /// `COMMIT PREPARED`.
    CommitPrepared,
    /// `ROLLBACK PREPARED`.
    AbortPrepared,
}

impl XactKind {
    /// True if the transaction's effects are visible from now on.
    pub const fn is_commit(self) -> bool {
        matches!(self, Self::Commit | Self::CommitPrepared)
    }
}

/// A commit or abort record, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParsedXact<'a> {
    /// How it ended.
    pub kind: XactKind,
    /// The top-level transaction: the prepared one, if it was prepared.
    pub xid: Xid,
    /// When it ended, by the clock of the server that ended it.
    pub time: PgTime,
    /// The prepared transaction that ended here.
    pub twophase_xid: Option<Xid>,
    /// Replication origin of the record; 0 if none.
    pub origin: u16,
    /// Commit LSN and commit time at the origin, if it was replayed from one.
    pub origin_commit: Option<(u64, PgTime)>,
    subxids: &'a [u8],
    dropped: &'a [u8],
}

impl<'a> ParsedXact<'a> {
    /// Takes a `record` of this major version apart; `None` if it is not a commit or abort record.
    ///
    /// # Errors
    /// `Malformed` if its lengths do not add up, `Unsupported` for another major version.
    pub fn parse(major: u32, record: &Record<'a>) -> Result<Option<Self>, WalError> {
        let Some(kind) = kind_of(record) else { return Ok(None) };
        let major = major::of(major).ok_or_else(|| WalError::Unsupported(format!("PostgreSQL {major}")))?;
        parse_body(kind, major, record).map(Some).ok_or_else(|| record.malformed("its parts do not fit"))
    }

    /// The subtransactions that ended with it.
    pub fn subxids(&self) -> impl ExactSizeIterator<Item = Xid> + 'a {
        self.subxids.chunks_exact(4).map(|raw| Xid::new(u32_at(raw, 0).unwrap_or(0)))
    }

    /// The relations whose files are removed now.
    pub fn dropped(&self) -> impl ExactSizeIterator<Item = RelTag> + 'a {
        self.dropped.chunks_exact(12).map(|raw| RelTag {
            tablespace: u32_at(raw, 0).unwrap_or(0),
            database: u32_at(raw, 4).unwrap_or(0),
            relation: u32_at(raw, 8).unwrap_or(0),
        })
    }

    /// The transaction and then its subtransactions.
    pub fn all_xids(&self) -> impl Iterator<Item = Xid> + 'a {
        std::iter::once(self.xid).chain(self.subxids())
    }

    /// The time that `pg_commit_ts` keeps: that of the origin, if it was replayed from one.
    pub fn commit_ts(&self) -> PgTime {
        self.origin_commit.map_or(self.time, |(_, time)| time)
    }
}

/// Time and kind of a commit or abort record, what `recovery_target_time` compares with (`recoveryStopsBefore`).
pub fn xact_time(record: &Record<'_>) -> Option<(XactKind, PgTime)> {
    let kind = kind_of(record)?;
    Some((kind, PgTime::from_pg_us(i64_at(record.main, 0)?)))
}

/// The record type's bits of a `Transaction` record; one bit fewer than other resource managers have.
pub(crate) fn op(record: &Record<'_>) -> u8 {
    record.info & OP_MASK
}

fn kind_of(record: &Record<'_>) -> Option<XactKind> {
    if record.rmgr != RmgrId::XACT {
        return None;
    }
    match op(record) {
        COMMIT => Some(XactKind::Commit),
        ABORT => Some(XactKind::Abort),
        COMMIT_PREPARED => Some(XactKind::CommitPrepared),
        ABORT_PREPARED => Some(XactKind::AbortPrepared),
        _ => None,
    }
}

/// Reads the parts of a commit record in their order.
struct Parts<'a> {
    left: &'a [u8],
}

impl<'a> Parts<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.left.split_at_checked(len)?;
        self.left = tail;
        Some(head)
    }

    fn u32(&mut self) -> Option<u32> {
        u32_at(self.take(4)?, 0)
    }

    /// A count, then as many items of `size` bytes.
    fn counted(&mut self, size: usize) -> Option<&'a [u8]> {
        let count = usize::try_from(i32_at(self.take(4)?, 0)?).ok()?;
        self.take(count.checked_mul(size)?)
    }

    fn skip_c_string(&mut self) -> Option<()> {
        let len = self.left.iter().position(|&byte| byte == 0)?;
        self.take(len + 1).map(|_| ())
    }
}

fn parse_body<'a>(kind: XactKind, major: &Major, record: &Record<'a>) -> Option<ParsedXact<'a>> {
    let mut parts = Parts { left: record.main };
    let time = PgTime::from_pg_us(i64_at(parts.take(8)?, 0)?);
    let xinfo = if record.info & HAS_INFO != 0 { parts.u32()? } else { 0 };
    let has = |bit: u32| xinfo & bit != 0;
    if has(XINFO_DBINFO) {
        parts.take(8)?;
    }
    let subxids = if has(XINFO_SUBXACTS) { parts.counted(4)? } else { &[] };
    let dropped = if has(XINFO_RELATIONS) { parts.counted(12)? } else { &[] };
    if has(XINFO_DROPPED_STATS) {
        parts.counted(major.stats_item_bytes)?;
    }
    if has(XINFO_INVALIDATIONS) && kind.is_commit() {
        parts.counted(16)?;
    }
    let mut twophase_xid = None;
    if has(XINFO_TWOPHASE) {
        twophase_xid = Some(Xid::new(parts.u32()?));
        if has(XINFO_GID) {
            parts.skip_c_string()?;
        }
    }
    let mut origin_commit = None;
    if has(XINFO_ORIGIN) {
        let raw = parts.take(16)?;
        origin_commit = Some((u64_at(raw, 0)?, PgTime::from_pg_us(i64_at(raw, 8)?)));
    }
    let xid = match kind {
        XactKind::Commit | XactKind::Abort => record.xid,
        XactKind::CommitPrepared | XactKind::AbortPrepared => twophase_xid?,
    };
    let origin = record.origin;
    Some(ParsedXact { kind, xid, time, twophase_xid, origin, origin_commit, subxids, dropped })
}

/// Reports what a `Transaction` record changes.
pub(crate) fn changes<'a>(
    cx: &InterpretContext,
    major: &Major,
    record: &Record<'a>,
    sink: &mut dyn FnMut(Change<'a>),
) -> Result<(), WalError> {
    match op(record) {
        PREPARE => {
            let xid = u32_at(record.main, 8).ok_or_else(|| record.malformed("shorter than its header"))?;
            sink(Change::Prepared { xid: u64::from(xid), bytes: record.main });
            origin::prepared(record, sink)
        }
        ASSIGNMENT | INVALIDATIONS => Ok(()),
        _ => {
            let xact = ParsedXact::parse(major.number, record)?.ok_or_else(|| record.unknown())?;
            ended(cx, &xact, sink);
            if let Some((upto, _)) = xact.origin_commit {
                origin::applied(record, upto, sink);
            }
            Ok(())
        }
    }
}

fn ended<'a>(cx: &InterpretContext, xact: &ParsedXact<'a>, sink: &mut dyn FnMut(Change<'a>)) {
    slru_pages(SlruKind::Clog, clog::XACTS_PER_PAGE, xact, sink);
    if cx.track_commit_timestamp && xact.kind.is_commit() {
        slru_pages(SlruKind::CommitTs, clog::COMMIT_TS_PER_PAGE, xact, sink);
    }
    for rel in xact.dropped() {
        sink(Change::RelDropped(rel));
    }
    if let Some(xid) = xact.twophase_xid {
        sink(Change::PreparedDone { xid: u64::from(xid.get()) });
    }
}

/// Each page that holds one of the transaction's ids, once. Ids grow with their position but for the wrap.
fn slru_pages<'a>(kind: SlruKind, per_page: u32, xact: &ParsedXact<'_>, sink: &mut dyn FnMut(Change<'a>)) {
    let page_of = |xid: Xid| xid.get() / per_page;
    let first = page_of(xact.xid);
    let mut report = |page| sink(Change::Slru { kind, page, how: BlockChange::Modifies });
    report(first);
    let mut last = first;
    for page in xact.subxids().map(page_of) {
        if page != last && page != first {
            report(page);
        }
        last = page;
    }
}

/// The highest id in circular order, of `start` and `others`.
pub(crate) fn latest(start: Xid, others: impl Iterator<Item = Xid>) -> Xid {
    others.fold(start, |latest, xid| if latest.precedes(xid) { xid } else { latest })
}
