//! States, boundaries and times inside a branch, found by walking raw WAL from the nearest waypoint.

use types::{ClusterState, Lsn, PgTime};
use wal::{Record, RecordReader};

use crate::answer::BranchPoint;
use crate::branch::Branch;
use crate::core::Core;
use crate::error::{Result, StoreError};
use crate::limits::STEP_BYTES;

impl Branch {
    /// Brings `state` forward over the branch's own WAL to the last boundary at or below `upto`, or to the one before
    /// the first record that `stop` says yes to.
    fn walk(
        &self,
        core: &Core,
        mut state: ClusterState,
        upto: Lsn,
        stop: &mut dyn FnMut(&Record<'_>) -> bool,
    ) -> Result<ClusterState> {
        for (timeline, begin, end) in self.spans(state.lsn, upto) {
            let mut reader = RecordReader::new(core.format, timeline, begin, Some(state.last_record));
            let mut at = begin;
            while at < end {
                let to = at.advanced(STEP_BYTES).min(end);
                reader.feed(at, &core.read_wal(self, at, to)?)?;
                at = to;
                while let Some(raw) = reader.next_record()? {
                    let record = Record::decode(raw.start, raw.bytes)?;
                    if raw.end > upto || stop(&record) {
                        return Ok(state);
                    }
                    wal::advance(&mut state, &core.format, &record, &raw)?;
                }
            }
        }
        Ok(state)
    }

    /// Reads the records from `state` to `upto` and does nothing with them.
    pub(crate) fn count_records(
        &self,
        core: &Core,
        state: &ClusterState,
        upto: Lsn,
        each: &mut dyn FnMut(&Record<'_>),
    ) -> Result<()> {
        let mut prev = Some(state.last_record);
        for (timeline, begin, end) in self.spans(state.lsn, upto) {
            let mut reader = RecordReader::new(core.format, timeline, begin, prev.take());
            let mut at = begin;
            while at < end {
                let to = at.advanced(STEP_BYTES).min(end);
                reader.feed(at, &core.read_wal(self, at, to)?)?;
                at = to;
                while let Some(raw) = reader.next_record()? {
                    each(&Record::decode(raw.start, raw.bytes)?);
                }
            }
        }
        Ok(())
    }

    fn waypoint_before(&self, accept: impl Fn(&ClusterState) -> bool) -> Option<ClusterState> {
        let view = self.view.read();
        let after = view.waypoints.partition_point(accept);
        view.waypoints.get(after.checked_sub(1)?).cloned()
    }

    /// The state at the last boundary at or below `lsn`, which this branch must hold.
    pub(crate) fn cluster_state(&self, core: &Core, lsn: Lsn) -> Result<ClusterState> {
        let missing = || StoreError::corrupt(format!("branch {}", self.id), lsn.raw(), "has no waypoint");
        let state = self.waypoint_before(|state| state.lsn <= lsn).ok_or_else(missing)?;
        self.walk(core, state, lsn, &mut |_| false)
    }

    /// The state at exactly `lsn`.
    pub(crate) fn exact_state(&self, core: &Core, lsn: Lsn) -> Result<ClusterState> {
        self.check_position(core, lsn)?;
        let state = self.cluster_state(core, lsn)?;
        if state.lsn != lsn {
            return Err(StoreError::NotBoundary { branch: self.id.clone(), asked: lsn, boundary: state.lsn });
        }
        Ok(state)
    }

    /// The boundary before the first commit or abort later than `time`.
    pub(crate) fn resolve_time(&self, core: &Core, time: PgTime) -> Result<BranchPoint> {
        // What is durable may be on its way into the memtable: the writer has it.
        drop(self.writer.lock());
        let head = self.view.read().head;
        self.resolve_time_upto(core, time, head)
    }

    fn resolve_time_upto(&self, core: &Core, time: PgTime, upto: Lsn) -> Result<BranchPoint> {
        let later = |state: &ClusterState| state.latest_xact_time.is_some_and(|latest| latest > time);
        if let Some((parent, start)) = &self.parent {
            let at_start = parent.cluster_state(core, *start)?;
            if later(&at_start) {
                return parent.resolve_time_upto(core, time, *start);
            }
        }
        let Some(state) = self.waypoint_before(|state| !later(state) && state.lsn <= upto) else {
            return Err(self.before_history(core));
        };
        let mut stop = |record: &Record<'_>| wal::xact_time(record).is_some_and(|(_, ended)| ended > time);
        let state = self.walk(core, state, upto, &mut stop)?;
        if self.parent.is_none() && state.latest_xact_time.is_none() && time < core.imported {
            return Err(self.before_history(core));
        }
        Ok(BranchPoint { branch: self.id.clone(), lsn: state.lsn, last_commit: state.last_commit })
    }

    fn before_history(&self, core: &Core) -> StoreError {
        StoreError::BeforeHistory { branch: self.id.clone(), first: core.imported }
    }
}
