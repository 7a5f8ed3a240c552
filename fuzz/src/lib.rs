//! What each fuzz target does with the bytes it is given; a panic is a bug.
//!
//! Besides not panicking, what succeeds must keep redo's rules: a page made anew does not depend on what was there, and
//! a record that a page has changes nothing.
//!
//! An input, of which `oracle consistency --seeds write` makes the first:
//!
//! ```text
//!  redo_*, wal_record:  | major - 15, 1 | record length, 2 | record | page, as far as there are bytes |
//!  wal_reader:          | mode, 1 | piece, 2 | WAL from the start of a segment, or records to be framed |
//!  images:              | compression, 1 | hole offset, 2 | hole length, 2 | stored bytes |
//! ```
//!
//! Not here: the targets of `store`, `compute` and `server`, whose decoders are no one else's business; they are in `fuzzing` of
//! each, with what an input is.

mod framing;
mod images;
mod page;
mod record;

pub use framing::wal_reader;
pub use images::images;
pub use page::redo;
pub use record::wal_record;

use types::Lsn;
use wal::WalFormat;

/// Where the record of an input starts, and ends: any two positions do.
fn positions() -> (Lsn, Lsn) {
    let lsn = |raw| Lsn::from_raw(raw).expect("the position is not zero");
    (lsn(0x0100_0028), lsn(0x0100_2028))
}

/// The WAL of one of the four majors.
fn format(major: u8) -> WalFormat {
    WalFormat { major: 15 + u32::from(major % 4), segment_bytes: 16 << 20, system_id: 7 }
}

/// An input's major, record and page.
fn split(data: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&major, rest) = data.split_first()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (record, page) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    Some((major, record, page))
}
