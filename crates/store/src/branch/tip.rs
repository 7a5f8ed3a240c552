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
//! - A record that could not be filed is not consumed. It and those after it are filed later, from the WAL files.
//! - What a passing fault held up is tried again with every append and every question; what only another program or
//!   a person can mend is tried again at the next open and when asked (`Retry::Everything`).
//!
//! Not here: what a record does (`ingest::filing`), durability of the WAL (`append`).

use std::sync::Arc;

use types::{ClusterState, Lsn, TimelineId};
use wal::{RecordReader, WalError, WalFormat};

use crate::branch::{Branch, error_chain, lineage};
use crate::core::Core;
use crate::error::{Result, StoreError};
use crate::ingest::filing::Filing;
use crate::limits::{FROZEN_AT_OPEN_MAX, REPLAY_BYTES};
use crate::log::segments::Missing;
use crate::memory::{Charge, room};

#[cfg(test)]
pub(crate) mod tests;

/// Why no record after the head of a branch is filed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stuck {
    /// What went wrong with the next record.
    pub(crate) reason: String,
    /// True if trying again is of no use until something is changed: the program, a damaged file, the log itself.
    pub(crate) lasting: bool,
}

impl Stuck {
    fn on(error: &StoreError) -> Self {
        Self { reason: error_chain(error), lasting: is_lasting(error) }
    }

    /// What a question is answered that needs what is beyond `at`.
    pub(crate) fn error(&self, branch: &Branch, at: Lsn) -> StoreError {
        let (branch, reason) = (branch.id.clone(), self.reason.clone());
        if self.lasting {
            StoreError::Stuck { branch, at, reason }
        } else {
            StoreError::Behind { branch, at, reason }
        }
    }
}

/// Which faults are worth another attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// Those that pass by themselves.
    Passing,
    /// All: a person asked.
    Everything,
}

/// Takes WAL in order. One per open branch, under its writer lock.
pub(crate) struct Tip {
    format: WalFormat,
    /// Reads what is appended; `None` before the first timeline and after the end of one.
    reader: Option<RecordReader>,
    timeline: Option<TimelineId>,
    files: Filing,
    /// End of the last whole record, and its start if that is known.
    framed: (Lsn, Option<Lsn>),
    /// Why the records between `files` and `framed` are not filed.
    behind: Option<Stuck>,
    /// What follows `framed` and is no WAL.
    broken: Option<WalError>,
    log_ended: bool,
    torn: bool,
    /// WAL of the current timeline is durable up to here.
    pub(crate) durable: Lsn,
}

impl Tip {
    /// A tip at `state`, which has no timeline yet.
    pub(crate) fn new(format: WalFormat, state: ClusterState) -> Self {
        let at = state.lsn;
        let framed = (at, Some(state.last_record));
        let files = Filing::new(state);
        Self {
            format,
            reader: None,
            timeline: None,
            files,
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
        self.files.state()
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
        let state = self.files.state();
        self.framed = (state.lsn, Some(state.last_record));
        self.behind = None;
        self.begin(timeline, self.framed.0);
        self.durable = self.framed.0;
    }

    /// The WAL held was found to end in bytes that are none, as a power failure leaves: what follows the last whole
    /// record is not held. Gives that position. Whoever wrote it sends it again (`mend`).
    pub(crate) fn tear(&mut self, timeline: TimelineId) -> Lsn {
        let broken = self.broken.take();
        self.begin(timeline, self.framed.0);
        (self.broken, self.torn) = (broken, true);
        self.framed.0
    }

    /// True once after `tear`: WAL is about to follow the last whole record, once what lies there is cut off.
    pub(crate) fn mend(&mut self) -> bool {
        if self.torn {
            self.broken = None;
        }
        std::mem::take(&mut self.torn)
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

    /// Takes the bytes at `at`, which follow what was taken before. Whatever becomes of them, `stuck` and `framed`
    /// say it.
    ///
    /// # Errors
    /// `Fenced` if no timeline is being written.
    pub(crate) fn take(&mut self, core: &Core, branch: &Branch, at: Lsn, bytes: &[u8]) -> Result<()> {
        let Some(reader) = &mut self.reader else {
            return Err(StoreError::Fenced {
                branch: branch.id.clone(),
                timeline: TimelineId::new(0),
                current: None,
            });
        };
        if self.broken.is_some() {
            return Ok(());
        }
        let mut outcome = reader.feed(at, bytes);
        while outcome.is_ok() {
            match reader.next_record() {
                Ok(Some(raw)) => {
                    if self.behind.is_none()
                        && let Err(error) = self.files.record(core, branch, &raw)
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
        self.files.count(branch);
        self.show(branch);
        Ok(())
    }

    /// Sets memory aside for `bytes` of WAL that are about to be taken. If there is none its own memtable is frozen: nobody
    /// who waits holds what cannot be written.
    pub(crate) fn room(&mut self, core: &Core, branch: &Arc<Branch>, bytes: usize) -> Result<Charge> {
        if let Some(room) = room::take(core, &branch.id, bytes)? {
            return Ok(room);
        }
        self.freeze(branch);
        core.flushes.submit(branch);
        room::wait(core, &branch.id, bytes)
    }

    /// Takes what the WAL files hold of the current timeline from `begin` to `end`.
    pub(crate) fn replay(&mut self, core: &Core, branch: &Arc<Branch>, begin: Lsn, end: Lsn) -> Result<()> {
        let mut at = begin;
        while at < end && self.broken.is_none() {
            // What cannot be filed for want of room is still looked through for its end.
            let room = if self.behind.is_none() { Some(self.make_room(core, branch)) } else { None };
            let room = room.transpose().map_err(|error| self.behind = Some(Stuck::on(&error)));
            let to = at.advanced(REPLAY_BYTES).min(end);
            let mut bytes = vec![0; usize::try_from(to.bytes_since(at).unwrap_or(0)).unwrap_or(0)];
            core.wal.read(&branch.id, self.timeline_written()?, at, &mut bytes, Missing::IsZeros)?;
            self.take(core, branch, at, &bytes)?;
            drop(room);
            at = to;
        }
        Ok(())
    }

    /// Files the records that could not be filed when they came, if that is worth trying.
    ///
    /// # Errors
    /// `Stuck` or `Behind` if some are still not filed.
    pub(crate) fn catch_up(&mut self, core: &Core, branch: &Arc<Branch>, retry: Retry) -> Result<()> {
        let Some(stuck) = self.behind.clone() else { return Ok(()) };
        let outcome = if stuck.lasting && retry == Retry::Passing {
            Err(stuck)
        } else {
            self.file_held(core, branch).map_err(|error| Stuck::on(&error))
        };
        self.behind = outcome.err();
        self.show(branch);
        self.behind.as_ref().map_or(Ok(()), |stuck| Err(stuck.error(branch, self.state().lsn)))
    }

    fn file_held(&mut self, core: &Core, branch: &Arc<Branch>) -> Result<()> {
        let state = self.files.state();
        let (from, mut prev) = (state.lsn, Some(state.last_record));
        for (timeline, begin, end) in branch.spans(from, self.framed.0) {
            let mut reader = RecordReader::new(self.format, timeline, begin, prev.take());
            let mut at = begin;
            while at < end {
                let room = self.make_room(core, branch)?;
                let to = at.advanced(REPLAY_BYTES).min(end);
                reader.feed(at, &lineage::read_wal(&core.wal, branch, at, to)?)?;
                at = to;
                while let Some(raw) = reader.next_record()? {
                    self.files.record(core, branch, &raw)?;
                }
                self.files.count(branch);
                drop(room);
            }
            prev = Some(self.files.state().last_record);
        }
        if self.files.state().lsn == self.framed.0 {
            return Ok(());
        }
        let (found, expected) = (self.files.state().lsn, self.framed.0);
        let reason = format!("its records end at {found}, not at {expected} as when they came");
        Err(StoreError::corrupt(format!("the WAL of branch {}", branch.id), found.raw(), reason))
    }

    /// Waits until few memtables of `branch` wait for the disk, and until there is memory for as much as is read at once. A
    /// memtable that cannot be written is left for later, as long as there are not many.
    fn make_room(&mut self, core: &Core, branch: &Arc<Branch>) -> Result<Charge> {
        if !branch.view.read().frozen.is_empty() {
            core.flushes.submit(branch);
            if let Err(error) = core.flushes.wait_for_room(branch)
                && branch.view.read().frozen.len() >= FROZEN_AT_OPEN_MAX
            {
                return Err(error);
            }
        }
        self.room(core, branch, REPLAY_BYTES as usize)
    }

    /// Tells readers how far the branch can be read and why not further.
    pub(crate) fn show(&self, branch: &Branch) {
        branch.view.write().stuck = self.stuck();
    }

    /// Freezes the open memtable, so that it is written as a layer.
    pub(crate) fn freeze(&mut self, branch: &Branch) {
        self.files.freeze(branch);
    }
}

/// True if doing the same again ends in the same until a program, a file or a log is another.
fn is_lasting(error: &StoreError) -> bool {
    match error {
        StoreError::Wal(_)
        | StoreError::Corrupt { .. }
        | StoreError::Redo(_)
        | StoreError::NoBase { .. }
        | StoreError::Unreadable { .. }
        | StoreError::NoRelation { .. }
        | StoreError::BeyondEnd { .. }
        | StoreError::Stuck { .. }
        | StoreError::BeforeStart { .. }
        | StoreError::BeforeHistory { .. }
        | StoreError::NotBoundary { .. }
        | StoreError::Ahead { .. }
        | StoreError::NotStuck { .. }
        | StoreError::Import { .. } => true,
        StoreError::Io { .. }
        | StoreError::Full { .. }
        | StoreError::FlushFailing { .. }
        | StoreError::MemoryFull { .. }
        | StoreError::Behind { .. }
        | StoreError::Timeout { .. }
        | StoreError::Locked { .. }
        | StoreError::Superseded { .. }
        | StoreError::NotFound { .. }
        | StoreError::Exists { .. }
        | StoreError::HasChildren { .. }
        | StoreError::Fenced { .. }
        | StoreError::Gap { .. } => false,
    }
}
