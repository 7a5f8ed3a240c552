//! WAL comes in: durable first, then acknowledged, then understood.
//!
//! Invariants
//! - What was acknowledged is on disk, whatever the record is; a record that cannot be understood stops reads above
//!   it, not the WAL.
//! - Only the branch's newest timeline is written; beginning one fences the others.
//! - Bytes sent again change nothing.

use std::sync::Arc;

use types::{Lsn, TimelineId};
use wal::WalError;

use crate::answer::TailProgress;
use crate::branch::{Branch, error_chain};
use crate::core::Core;
use crate::error::{Result, StoreError};
use crate::ingest::Tip;
use crate::manifest::Position;

/// Bytes made durable and taken at once, so that memtables stay near their limit.
const PIECE_BYTES: usize = 4 << 20;

/// Who is writing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sender {
    /// A running server: all it sends is WAL.
    Server,
    /// A directory a server left behind: its end is found by reading.
    Remains,
}

impl Branch {
    /// Takes WAL of a running server; durable up to the position returned.
    pub(crate) fn append(
        self: &Arc<Self>,
        core: &Core,
        timeline: TimelineId,
        at: Lsn,
        bytes: &[u8],
    ) -> Result<Lsn> {
        let mut writer = self.writer.lock();
        let tip = self.writable(&mut writer, timeline)?;
        self.take_pieces(core, tip, (at, bytes), Sender::Server)?;
        Ok(tip.durable)
    }

    /// Takes WAL that a crashed server left.
    pub(crate) fn append_tail(
        self: &Arc<Self>,
        core: &Core,
        timeline: TimelineId,
        at: Lsn,
        bytes: &[u8],
    ) -> Result<TailProgress> {
        let mut writer = self.writer.lock();
        let tip = self.writable(&mut writer, timeline)?;
        let ended = self.take_pieces(core, tip, (at, bytes), Sender::Remains)?;
        Ok(TailProgress { head: tip.state().lsn, ended })
    }

    fn writable<'a>(&self, writer: &'a mut Option<Tip>, timeline: TimelineId) -> Result<&'a mut Tip> {
        let current = self.timelines().last().map(|(timeline, _)| *timeline);
        match writer {
            Some(tip) if current == Some(timeline) => Ok(tip),
            _ => Err(StoreError::Fenced { branch: self.id.clone(), timeline, current }),
        }
    }

    /// True if the log ended within `bytes`.
    fn take_pieces(
        self: &Arc<Self>,
        core: &Core,
        tip: &mut Tip,
        (at, bytes): (Lsn, &[u8]),
        sender: Sender,
    ) -> Result<bool> {
        if at > tip.durable {
            return Err(StoreError::Gap { branch: self.id.clone(), expected: tip.durable, at });
        }
        if sender == Sender::Remains && tip.log_ended() {
            return Ok(true);
        }
        if tip.mend() {
            core.wal.truncate(&self.id, tip.timeline_written()?, tip.durable)?;
            self.view.write().stuck = None;
        }
        let held = usize::try_from(tip.durable.bytes_since(at).unwrap_or(0)).unwrap_or(usize::MAX);
        for piece in bytes.get(held..).unwrap_or(&[]).chunks(PIECE_BYTES) {
            core.flushes.wait_for_room(self)?;
            let begin = tip.durable;
            core.wal.write(&self.id, tip.timeline_written()?, begin, piece)?;
            tip.durable = begin.advanced(piece.len() as u64);
            if sender == Sender::Server {
                self.publish(tip.durable);
            }
            let outcome = self.ingest(core, tip, begin, piece);
            if !self.view.read().frozen.is_empty() {
                core.flushes.submit(self);
            }
            if sender == Sender::Remains && matches!(outcome, Err(StoreError::Wal(WalError::Invalid { .. })))
            {
                return self.cut_tail(core, tip).map(|()| true);
            }
            if let Err(error) = outcome {
                self.view.write().stuck.get_or_insert_with(|| error_chain(&error));
            }
            self.publish(tip.durable);
        }
        // What was held already may have been found to end the log when the branch was opened.
        if sender == Sender::Remains && tip.reading_fails() {
            return self.cut_tail(core, tip).map(|()| true);
        }
        Ok(false)
    }

    fn ingest(&self, core: &Core, tip: &mut Tip, at: Lsn, bytes: &[u8]) -> Result<()> {
        if self.view.read().stuck.is_some() {
            return Ok(());
        }
        tip.take(core, self, at, bytes)
    }

    /// Forgets what follows the last whole record.
    fn cut_tail(&self, core: &Core, tip: &mut Tip) -> Result<()> {
        let head = tip.state().lsn.min(tip.durable);
        core.wal.truncate(&self.id, tip.timeline_written()?, head)?;
        tip.end_log(head);
        self.view.write().stuck = None;
        self.publish(head);
        Ok(())
    }

    /// Begins a timeline at the head and fences those before it. Gives its number and where it begins.
    pub(crate) fn begin_timeline(&self, core: &Core) -> Result<(TimelineId, Lsn)> {
        let mut writer = self.writer.lock();
        let head = self.view.read().head;
        if let Some(reason) = self.view.read().stuck.clone() {
            return Err(StoreError::Stuck { branch: self.id.clone(), at: head, reason });
        }
        let number = core.manifests.commit(|manifest| {
            let number = manifest.next_timeline;
            manifest.next_timeline = number.wrapping_add(1);
            manifest.branch(&self.id)?.timelines.push((number, Position(head)));
            Ok(number)
        })?;
        let timeline = TimelineId::new(number);
        self.add_timeline(timeline, head);
        if let Some(tip) = writer.as_mut() {
            tip.begin(timeline, head);
            tip.durable = head;
        }
        self.publish(head);
        Ok((timeline, head))
    }
}
