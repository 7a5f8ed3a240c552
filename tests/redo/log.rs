//! All records between two stopped clusters, in memory.

use std::path::Path;

use oracle::replay::for_each_record;
use types::Lsn;
use wal::RawRecord;

/// Records, in order.
#[derive(Default)]
pub struct Log {
    bytes: Vec<u8>,
    records: Vec<(Lsn, Lsn, usize)>,
}

impl Log {
    /// Reads all WAL in `after` from the end of `base` on.
    pub fn read(base: &Path, after: &Path) -> Self {
        let mut log = Self::default();
        for_each_record(base, after, |raw| {
            log.bytes.extend_from_slice(raw.bytes);
            log.records.push((raw.start, raw.end, log.bytes.len()));
        });
        log
    }

    /// Every record.
    pub fn records(&self) -> impl Iterator<Item = RawRecord<'_>> {
        let begins = std::iter::once(0).chain(self.records.iter().map(|(_, _, end)| *end));
        let record = |((start, end, to), from): (&(Lsn, Lsn, usize), usize)| RawRecord {
            start: *start,
            end: *end,
            bytes: &self.bytes[from..*to],
        };
        self.records.iter().zip(begins).map(record)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}
