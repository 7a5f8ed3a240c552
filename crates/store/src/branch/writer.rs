//! The writing end of a branch: where its log ends, and how much of it is understood.
//!
//! ```text
//!  records filed      | whole records on disk   | bytes on disk
//!  ------------------>| state().lsn             |
//!  -------------------|------------------------>| framed()
//!  -------------------|-------------------------|----> durable
//! ```
//!
//! Invariants
//! - Where the log ends depends on lengths, links and checksums of its records and on nothing else: neither a record
//!   of an unknown type nor a layer that cannot be read moves it.
//!
//! Not here: what a record does (`ingest::filing`), when records are filed that could not be (`ingest::catch_up`), durability
//! of the WAL (`ingest::append`).

use types::{ClusterState, Lsn, TimelineId};
use wal::{RawRecord, RecordReader, WalError, WalFormat};

use super::filed::Filed;
use super::view::Stuck;
use crate::error::{Result, StoreError};

/// Takes WAL in order. One per open branch, under its writer lock.
pub(crate) struct BranchWriter {
    format: WalFormat,
    /// Reads what is appended; `None` before the first timeline and after the end of one.
    reader: Option<RecordReader>,
    timeline: Option<TimelineId>,
    pub(crate) filed: Filed,
    /// End of the last whole record, and its start if that is known.
    framed: (Lsn, Option<Lsn>),
    /// Why the records between `filed` and `framed` are not filed.
    pub(crate) behind: Option<Stuck>,
    /// What follows `framed` and is no WAL.
    broken: Option<WalError>,
    log_ended: bool,
    torn: bool,
    /// WAL of the current timeline is durable up to here.
    pub(crate) durable: Lsn,
}

impl BranchWriter {
    /// A writer at `state`, which has no timeline yet.
    pub(crate) fn new(format: WalFormat, state: ClusterState) -> Self {
        let at = state.lsn;
        let framed = (at, Some(state.last_record));
        Self {
            format,
            reader: None,
            timeline: None,
            filed: Filed::new(state),
            framed,
            behind: None,
            broken: None,
            log_ended: false,
            torn: false,
            durable: at,
        }
    }

    /// The state at the end of the last record filed.
    pub(crate) fn state(&self) -> &ClusterState {
        &self.filed.state
    }

    /// End of the last whole record held, filed or not.
    pub(crate) fn framed(&self) -> Lsn {
        self.framed.0
    }

    /// Start of the record that ends at `framed`, if it is known.
    pub(crate) fn last_record(&self) -> Option<Lsn> {
        self.framed.1
    }

    /// Why what is held is not all filed, or does not end in a record.
    pub(crate) fn stuck(&self) -> Option<Stuck> {
        let broken = || self.broken.as_ref().map(|error| Stuck { reason: error.to_string(), lasting: true });
        self.behind.clone().or_else(broken)
    }

    /// True if nothing after the last whole record can be taken, whether it is no WAL or of another kind.
    pub(crate) fn has_damage(&self) -> bool {
        self.broken.is_some()
    }

    /// True if what follows the last whole record is no WAL.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(self.broken, Some(WalError::Invalid { .. }))
    }

    /// True if what follows the last whole record was found to be no WAL when the branch was opened.
    pub(crate) fn is_torn(&self) -> bool {
        self.torn
    }

    /// The timeline whose WAL is taken.
    pub(crate) fn timeline(&self) -> Option<TimelineId> {
        self.timeline
    }

    /// The timeline whose WAL is taken, or an error if there is none.
    pub(crate) fn timeline_written(&self) -> Result<TimelineId> {
        let none = || StoreError::corrupt("a branch being written", self.durable.raw(), "has no timeline");
        self.timeline.ok_or_else(none)
    }

    /// The WAL that follows is of `timeline` and begins at the boundary `begin`.
    pub(crate) fn begin(&mut self, timeline: TimelineId, begin: Lsn) {
        let prev = self.framed.1.filter(|_| self.framed.0 == begin);
        self.framed = (begin, prev);
        self.reader = Some(RecordReader::new(self.format, timeline, begin, prev));
        self.timeline = Some(timeline);
        self.broken = None;
        self.log_ended = false;
        self.torn = false;
    }

    /// As `begin` at the last record filed: what was held after it is no longer of this branch.
    pub(crate) fn begin_at_head(&mut self, timeline: TimelineId) {
        let state = &self.filed.state;
        self.framed = (state.lsn, Some(state.last_record));
        self.behind = None;
        self.begin(timeline, self.framed.0);
        self.durable = self.framed.0;
    }

    /// The WAL held was found to end in bytes that are none, as a power failure leaves: what follows the last whole
    /// record is not held. Gives that position. Whoever wrote it sends it again (`clear_torn_end`).
    pub(crate) fn set_torn_end(&mut self, timeline: TimelineId) -> Lsn {
        let broken = self.broken.take();
        self.begin(timeline, self.framed.0);
        (self.broken, self.torn) = (broken, true);
        self.framed.0
    }

    /// What followed the last whole record was cut off, and WAL is about to follow it.
    pub(crate) fn clear_torn_end(&mut self) {
        if self.torn {
            self.broken = None;
        }
        self.torn = false;
    }

    /// The newest timeline is not the one whose log was found to be damaged: what follows the damage stays unfiled.
    pub(crate) fn pass_damage(&mut self) {
        if let Some(error) = self.broken.take() {
            self.behind.get_or_insert(Stuck { reason: error.to_string(), lasting: true });
        }
    }

    /// The log of this timeline ends at the last whole record; a new timeline must begin.
    pub(crate) fn end_log(&mut self) {
        self.durable = self.framed.0;
        self.log_ended = true;
        self.reader = None;
        self.broken = None;
    }

    /// True after `end_log`, until a timeline begins.
    pub(crate) fn log_ended(&self) -> bool {
        self.log_ended
    }

    /// Takes the bytes at `at`, which follow what was taken before, and gives each whole record to `file`, until that fails for
    /// one. Whatever becomes of them, `stuck` and `framed` say it. False if no timeline is being written.
    pub(crate) fn take(
        &mut self,
        at: Lsn,
        bytes: &[u8],
        file: &mut dyn FnMut(&mut Filed, &RawRecord<'_>) -> Result<()>,
    ) -> bool {
        let Some(reader) = &mut self.reader else { return false };
        if self.broken.is_some() {
            return true;
        }
        let mut outcome = reader.feed(at, bytes);
        while outcome.is_ok() {
            match reader.next_record() {
                Ok(Some(raw)) => {
                    if self.behind.is_none()
                        && let Err(error) = file(&mut self.filed, &raw)
                    {
                        self.behind = Some(Stuck::on(&error));
                    }
                    self.framed = (raw.end, Some(raw.start));
                }
                Ok(None) => break,
                Err(error) => outcome = Err(error),
            }
        }
        self.broken = outcome.err();
        true
    }
}
