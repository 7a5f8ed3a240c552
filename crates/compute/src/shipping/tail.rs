//! WAL that an earlier run of the endpoint left in `pg_wal`: shipped before anything else, then removed.
//!
//! What a client saw committed is on this disk even if it never reached the store. The store decides where the log
//! ends; this only hands it the bytes of the newest timeline from the store's own head on.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use types::{Lsn, TimelineId};
use wal::segment::{parse_segment_name, segment_name};

use crate::client::{Client, ClientError};
use crate::error::{Error, While};
use crate::protocol::{Failure, FailureKind};

const APPEND_BYTES: usize = 1 << 20;

/// What became of the tail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tail {
    /// There was none.
    Absent,
    /// The store holds all of it, up to here.
    Shipped(Lsn),
    /// Another run of the branch has gone on without it.
    Superseded,
}

/// Hands the store what `wal_dir` holds beyond its head.
///
/// # Errors
/// `Io` if the files cannot be read; `Store` if the store refuses them, or WAL between its head and the oldest file
/// is missing.
pub fn ship(client: &Client, wal_dir: &Path) -> Result<Tail, Error> {
    let found = newest_segments(wal_dir).while_(|| format!("read {}", wal_dir.display()))?;
    let Some(newest) = found else {
        return Ok(Tail::Absent);
    };
    let head = client.head()?;
    let mut at = head;
    if newest.first > at.segment(newest.segment_bytes) {
        let text = format!("{} begins after {at}, where the branch ends", wal_dir.display());
        return Err(Error::Store(Failure::new(FailureKind::Invalid, text)));
    }
    let mut head = head;
    let mut buffer = Vec::new();
    loop {
        let segment = at.segment(newest.segment_bytes);
        let path = wal_dir.join(segment_name(newest.timeline, segment, newest.segment_bytes));
        read_part(&path, at.offset_in_segment(newest.segment_bytes), &mut buffer)
            .while_(|| format!("read {}", path.display()))?;
        if buffer.is_empty() {
            return Ok(Tail::Shipped(head));
        }
        let progress = match client.append_tail(newest.timeline, at, &buffer) {
            Err(ClientError::Refused(failure)) if failure.kind == FailureKind::Fenced => {
                return Ok(Tail::Superseded);
            }
            other => other?,
        };
        head = progress.head;
        if progress.ended {
            return Ok(Tail::Shipped(head));
        }
        at = at.advanced(buffer.len() as u64);
    }
}

struct Newest {
    timeline: TimelineId,
    first: u64,
    segment_bytes: u64,
}

/// The newest timeline in a directory, and its oldest segment file. `None` without any or without the directory.
fn newest_segments(wal_dir: &Path) -> io::Result<Option<Newest>> {
    let entries = match std::fs::read_dir(wal_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut newest: Option<Newest> = None;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let segment_bytes = entry.metadata()?.len();
        // A file cut short by a full disk has no segment size; it cannot hold WAL the server relied on.
        if !segment_bytes.is_power_of_two() || segment_bytes < 1 << 20 {
            continue;
        }
        let parsed = name.to_str().and_then(|name| parse_segment_name(name, segment_bytes));
        let Some((timeline, segment)) = parsed else { continue };
        let first = match &newest {
            Some(known) if known.timeline > timeline => continue,
            Some(known) if known.timeline == timeline => known.first.min(segment),
            _ => segment,
        };
        newest = Some(Newest { timeline, first, segment_bytes });
    }
    Ok(newest)
}

/// Up to `APPEND_BYTES` of a file from `offset` on; none if there is no such file.
fn read_part(path: &Path, offset: u64, out: &mut Vec<u8>) -> io::Result<()> {
    out.clear();
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    file.seek(SeekFrom::Start(offset))?;
    file.take(APPEND_BYTES as u64).read_to_end(out)?;
    Ok(())
}
