//! Raw WAL of branches in segment files named as Postgres names them: `wal/<branch>/<timeline>/<segment>`.
//!
//! Invariants
//! - A file's length says how much is held: bytes are written at their offset, then synced, and a failed write is
//!   cut off again. What lies before the first byte of a timeline in its first segment is a hole.
//! - Bytes between the end of what is held and a later segment read as zeros (padding after a segment switch). A segment
//!   that is missing reads as zeros only where a log may end (`Missing`): elsewhere it is damage.
//!
//! Not here: which timeline owns which bytes (`branch`), what they mean (`ingest::filing`).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use types::{BranchId, Lsn, TimelineId};
use wal::WalFormat;
use wal::segment::{parse_segment_name, segment_name};

use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::limits::PIECE_BYTES;

/// What a segment that there is not says of its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// They are known to be WAL.
    IsDamage,
    /// The log may end before it, as a power failure leaves it.
    IsZeros,
}

/// The WAL directory of a project.
pub(crate) struct WalFiles {
    root: PathBuf,
    format: WalFormat,
    disk: Arc<dyn Disk>,
}

impl WalFiles {
    /// WAL of that format below `project`.
    pub(crate) fn new(project: &Path, format: WalFormat, disk: Arc<dyn Disk>) -> Self {
        Self { root: project.join("wal"), format, disk }
    }

    /// What the WAL looks like.
    pub(crate) fn format(&self) -> WalFormat {
        self.format
    }

    /// The directory of a branch's WAL; may not exist.
    pub(crate) fn branch_dir(&self, branch: &BranchId) -> PathBuf {
        self.root.join(branch.as_str())
    }

    fn timeline_dir(&self, branch: &BranchId, timeline: TimelineId) -> PathBuf {
        self.branch_dir(branch).join(format!("{:08X}", timeline.get()))
    }

    fn segment_path(&self, branch: &BranchId, timeline: TimelineId, segment: u64) -> PathBuf {
        self.timeline_dir(branch, timeline).join(segment_name(timeline, segment, self.format.segment_bytes))
    }

    /// Writes `bytes` at `at` and makes them durable. On an error nothing from `at` on is held.
    pub(crate) fn write(&self, branch: &BranchId, timeline: TimelineId, at: Lsn, bytes: &[u8]) -> Result<()> {
        let outcome = self.write_pieces(branch, timeline, at, bytes);
        if outcome.is_err() {
            // If this fails too, the bytes stay unacknowledged and are sent and written again.
            let _ = self.truncate(branch, timeline, at);
        }
        outcome
    }

    fn write_pieces(
        &self,
        branch: &BranchId,
        timeline: TimelineId,
        mut at: Lsn,
        mut bytes: &[u8],
    ) -> Result<()> {
        while !bytes.is_empty() {
            let offset = at.offset_in_segment(self.format.segment_bytes);
            let room = usize::try_from(self.format.segment_bytes - offset).unwrap_or(usize::MAX);
            let (piece, rest) = bytes.split_at(room.min(bytes.len()));
            let path = self.segment_path(branch, timeline, at.segment(self.format.segment_bytes));
            self.write_piece(&path, offset, piece).map_err(StoreError::io(&path))?;
            at = at.advanced(piece.len() as u64);
            bytes = rest;
        }
        Ok(())
    }

    fn write_piece(&self, file: &Path, offset: u64, piece: &[u8]) -> io::Result<()> {
        match self.disk.write_durably(file, offset, piece) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => return outcome.and_then(|()| self.disk.settle_names(file)),
        }
        let dir = file.parent().unwrap_or(&self.root);
        self.disk.make_dirs(dir)?;
        self.disk.create(file)?;
        self.disk.sync(dir)?;
        self.disk.write_durably(file, offset, piece)
    }

    /// Makes what a process that was killed wrote of a timeline, from `from` on, as durable as if it had lived.
    pub(crate) fn sync_written(&self, branch: &BranchId, timeline: TimelineId, from: Lsn) -> Result<()> {
        let written = self.segments(branch, timeline)?.into_iter();
        let written = written.filter(|&segment| segment >= from.segment(self.format.segment_bytes));
        let files = written.map(|segment| self.segment_path(branch, timeline, segment));
        let dirs = [self.timeline_dir(branch, timeline), self.branch_dir(branch), self.root.clone()];
        for path in files.chain(dirs.into_iter().filter(|dir| dir.is_dir())) {
            self.disk.sync(&path).map_err(StoreError::io(&path))?;
        }
        Ok(())
    }

    /// Removes everything that a branch holds, now or when that is possible.
    pub(crate) fn discard_branch(&self, branch: &BranchId) {
        self.disk.discard(&self.branch_dir(branch));
    }

    /// Removes what an earlier branch of that name may have left; it is in the way of a new one.
    pub(crate) fn clear_the_way(&self, branch: &BranchId) -> Result<()> {
        let dir = self.branch_dir(branch);
        self.disk.reclaim(&dir).map_err(StoreError::io(&dir))
    }

    /// Refuses a timeline that lacks a segment at or after `from` which was whole once: no write that was cut short leaves
    /// so much behind one.
    ///
    /// # Errors
    /// `Corrupt`, with the name of the segment.
    pub(crate) fn check_whole(
        &self,
        branch: &BranchId,
        timeline: TimelineId,
        from: Lsn,
        end: Lsn,
    ) -> Result<()> {
        let first = from.segment(self.format.segment_bytes);
        let mut expected = first;
        for found in self.segments(branch, timeline)?.into_iter().filter(|&found| found >= first) {
            let behind = end
                .raw()
                .saturating_sub(expected.saturating_add(1).saturating_mul(self.format.segment_bytes));
            if found > expected && behind > PIECE_BYTES as u64 {
                return Err(self.missing(&self.segment_path(branch, timeline, expected)));
            }
            expected = found.saturating_add(1);
        }
        Ok(())
    }

    fn missing(&self, path: &Path) -> StoreError {
        StoreError::corrupt(path.display().to_string(), 0, "this segment of the WAL is missing")
    }

    /// Fills `out` with the bytes at `at`; those behind the end of a segment are zeros.
    ///
    /// # Errors
    /// `Corrupt` for a segment that is missing, if that is damage.
    pub(crate) fn read(
        &self,
        branch: &BranchId,
        timeline: TimelineId,
        mut at: Lsn,
        mut out: &mut [u8],
        missing: Missing,
    ) -> Result<()> {
        while !out.is_empty() {
            let offset = at.offset_in_segment(self.format.segment_bytes);
            let room = usize::try_from(self.format.segment_bytes - offset).unwrap_or(usize::MAX);
            let (piece, rest) = out.split_at_mut(room.min(out.len()));
            let path = self.segment_path(branch, timeline, at.segment(self.format.segment_bytes));
            let held = match self.disk.open(&path) {
                Ok(file) => self.disk.read_upto_at(&file, offset, piece).map_err(StoreError::io(&path))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => match missing {
                    Missing::IsDamage => return Err(self.missing(&path)),
                    Missing::IsZeros => 0,
                },
                Err(error) => return Err(StoreError::io(&path)(error)),
            };
            if let Some(rest) = piece.get_mut(held..) {
                rest.fill(0);
            }
            at = at.advanced(piece.len() as u64);
            out = rest;
        }
        Ok(())
    }

    /// Segments of a timeline that exist, sorted.
    fn segments(&self, branch: &BranchId, timeline: TimelineId) -> Result<Vec<u64>> {
        let dir = self.timeline_dir(branch, timeline);
        let entries = match self.disk.list(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StoreError::io(&dir)(error)),
        };
        let number = |path: &PathBuf| {
            let (_, segment) = parse_segment_name(path.file_name()?.to_str()?, self.format.segment_bytes)?;
            Some(segment)
        };
        let mut found: Vec<u64> = entries.iter().filter_map(number).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// End of what is held of a timeline; `None` if nothing is.
    pub(crate) fn extent(&self, branch: &BranchId, timeline: TimelineId) -> Result<Option<Lsn>> {
        let Some(&last) = self.segments(branch, timeline)?.last() else { return Ok(None) };
        let path = self.segment_path(branch, timeline, last);
        let len = self.disk.len(&path).map_err(StoreError::io(&path))?;
        Ok(Lsn::from_raw(last.saturating_mul(self.format.segment_bytes).saturating_add(len)))
    }

    /// Forgets everything of a timeline from `upto` on.
    pub(crate) fn truncate(&self, branch: &BranchId, timeline: TimelineId, upto: Lsn) -> Result<()> {
        let (segment, keep) =
            (upto.segment(self.format.segment_bytes), upto.offset_in_segment(self.format.segment_bytes));
        for found in self.segments(branch, timeline)?.into_iter().filter(|&found| found >= segment).rev() {
            let path = self.segment_path(branch, timeline, found);
            if found > segment || keep == 0 {
                self.disk.remove_file(&path).map_err(StoreError::io(&path))?;
                continue;
            }
            let cut = || -> io::Result<()> {
                if self.disk.len(&path)? > keep {
                    self.disk.set_len(&path, keep)?;
                    self.disk.sync(&path)?;
                }
                Ok(())
            };
            cut().map_err(StoreError::io(&path))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::System;

    const SEGMENT: u64 = 1 << 20;
    const FORMAT: WalFormat = WalFormat { major: 15, segment_bytes: SEGMENT, system_id: 1 };

    fn at(raw: u64) -> Lsn {
        Lsn::from_raw(raw).unwrap()
    }

    #[test]
    fn what_was_written_is_read_and_the_rest_is_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let files = WalFiles::new(dir.path(), FORMAT, Arc::new(System));
        let (branch, timeline) = ("b".parse().unwrap(), TimelineId::new(1));
        assert_eq!(files.extent(&branch, timeline).unwrap(), None);
        let begin = at(5 * SEGMENT - 10);
        files.write(&branch, timeline, begin, &[7; 25]).unwrap();
        assert_eq!(files.extent(&branch, timeline).unwrap(), Some(at(5 * SEGMENT + 15)));
        let mut out = [1; 40];
        files.read(&branch, timeline, at(5 * SEGMENT - 15), &mut out, Missing::IsZeros).unwrap();
        assert_eq!(out[..5], [0; 5]);
        assert_eq!(out[5..30], [7; 25]);
        assert_eq!(out[30..], [0; 10]);
    }

    /// Rule 16 of the crate's README.
    #[test]
    fn a_segment_that_is_missing_reads_as_zeros_only_where_a_log_may_end() {
        let dir = tempfile::tempdir().unwrap();
        let files = WalFiles::new(dir.path(), FORMAT, Arc::new(System));
        let (branch, timeline) = ("b".parse().unwrap(), TimelineId::new(1));
        let (begin, end) = (at(5 * SEGMENT), at(12 * SEGMENT));
        files.write(&branch, timeline, begin, &[7; 7 << 20]).unwrap();
        files.check_whole(&branch, timeline, begin, end).unwrap();
        let lost = files.segment_path(&branch, timeline, 6);
        std::fs::remove_file(&lost).unwrap();
        let mut out = [1; 40];
        let name = lost.display().to_string();
        let refused = |outcome: Result<()>| matches!(outcome, Err(StoreError::Corrupt { object, .. }) if object == name);
        assert!(refused(files.read(&branch, timeline, at(6 * SEGMENT - 5), &mut out, Missing::IsDamage)));
        files.read(&branch, timeline, at(6 * SEGMENT - 5), &mut out, Missing::IsZeros).unwrap();
        assert_eq!((out[..5].to_vec(), out[5..].to_vec()), (vec![7; 5], vec![0; 35]));
        assert!(refused(files.check_whole(&branch, timeline, begin, end)));
        files.check_whole(&branch, timeline, at(7 * SEGMENT), end).unwrap();
        // What one write leaves that a power failure cut short.
        files.truncate(&branch, timeline, at(10 * SEGMENT)).unwrap();
        files.check_whole(&branch, timeline, begin, at(10 * SEGMENT)).unwrap();
    }

    #[test]
    fn truncation_forgets_everything_after() {
        let dir = tempfile::tempdir().unwrap();
        let files = WalFiles::new(dir.path(), FORMAT, Arc::new(System));
        let (branch, timeline) = ("b".parse().unwrap(), TimelineId::new(1));
        files.write(&branch, timeline, at(5 * SEGMENT), &[7; 3 << 20]).unwrap();
        files.truncate(&branch, timeline, at(6 * SEGMENT + 9)).unwrap();
        assert_eq!(files.extent(&branch, timeline).unwrap(), Some(at(6 * SEGMENT + 9)));
        files.truncate(&branch, timeline, at(6 * SEGMENT)).unwrap();
        assert_eq!(files.extent(&branch, timeline).unwrap(), Some(at(6 * SEGMENT)));
    }
}
