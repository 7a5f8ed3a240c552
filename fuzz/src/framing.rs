//! The reader: WAL as it comes, and records that the target frames itself, which must come out as they went in.

use types::{Lsn, TimelineId};
use wal::{RecordReader, WalFormat};

const PAGE: usize = 8192;
const SEGMENT: u64 = 16 << 20;
const HEADER: usize = 24;

/// Reads an input: as WAL if its first byte is even, else as the bodies of records, which it frames.
pub fn wal_reader(data: &[u8]) {
    let Some(([mode, low, high], bytes)) = data.split_first_chunk::<3>() else { return };
    let piece = usize::from(u16::from_le_bytes([*low, *high])).max(1);
    let format = crate::format(mode >> 1);
    if mode % 2 == 0 {
        read(format, bytes, piece);
        return;
    }
    let records: Vec<&[u8]> = bytes.split(|byte| *byte == 0xFE).take(40).collect();
    let Some((wal, starts)) = frame(&format, &records) else { return };
    let read = read(format, &wal, piece);
    assert!(read.len() == starts.len(), "{} records framed, {} read", starts.len(), read.len());
    for ((start, body), (expected, given)) in read.iter().zip(starts.iter().zip(&records)) {
        assert!(start == expected, "read at {start}, framed at {expected}");
        assert!(body == given, "the record at {start} came out changed");
    }
}

/// The records in `wal`, which begins a segment: where each starts, and its body.
fn read(format: WalFormat, wal: &[u8], piece: usize) -> Vec<(u64, Vec<u8>)> {
    let at =
        |offset: usize| Lsn::from_raw(SEGMENT + offset as u64).expect("a position after the first segment");
    let mut reader = RecordReader::new(format, TimelineId::new(1), at(40), None);
    let mut records = Vec::new();
    let mut fed = 0;
    for piece in wal.chunks(piece) {
        if reader.feed(at(fed), piece).is_err() {
            break;
        }
        fed += piece.len();
        loop {
            match reader.next_record() {
                Ok(Some(raw)) => records.push((raw.start.raw(), raw.bytes[HEADER..].to_vec())),
                Ok(None) => break,
                Err(first) => {
                    let again = reader.next_record().err().map(|error| error.to_string());
                    assert!(again == Some(first.to_string()), "an error must stay");
                    return records;
                }
            }
        }
    }
    records
}

/// WAL that holds records with these bodies, and where each starts; `None` for a major that cannot be framed here.
fn frame(format: &WalFormat, bodies: &[&[u8]]) -> Option<(Vec<u8>, Vec<u64>)> {
    let magic: u16 = match format.major {
        15 => 0xD110,
        16 => 0xD113,
        17 => 0xD116,
        18 => 0xD118,
        _ => return None,
    };
    // A major that is not supported reads nothing.
    RecordReader::new(*format, TimelineId::new(1), Lsn::from_raw(SEGMENT)?, None)
        .feed(Lsn::from_raw(SEGMENT)?, &[])
        .ok()?;
    let mut out = Framed { wal: Vec::new(), magic, format: *format };
    let mut starts = Vec::new();
    let mut prev = 0u64;
    for body in bodies {
        out.align();
        out.page_header(0);
        let start = SEGMENT + out.wal.len() as u64;
        let record = record(body, prev);
        out.write(&record);
        starts.push(start);
        prev = start;
    }
    out.align();
    // The reader may ask for the header of the page that comes next.
    out.page_header(0);
    Some((out.wal, starts))
}

struct Framed {
    wal: Vec<u8>,
    magic: u16,
    format: WalFormat,
}

impl Framed {
    fn align(&mut self) {
        self.wal.resize(self.wal.len().next_multiple_of(8), 0);
    }

    /// A page header if a page begins here, which continues a record by `rest` bytes.
    fn page_header(&mut self, rest: usize) {
        if !self.wal.len().is_multiple_of(PAGE) {
            return;
        }
        let long = self.wal.is_empty();
        let info = u16::from(rest > 0) | if long { 2 } else { 0 };
        let at = SEGMENT + self.wal.len() as u64;
        self.wal.extend(self.magic.to_le_bytes());
        self.wal.extend(info.to_le_bytes());
        self.wal.extend(1u32.to_le_bytes());
        self.wal.extend(at.to_le_bytes());
        self.wal.extend((rest as u32).to_le_bytes());
        self.wal.extend([0; 4]);
        if long {
            self.wal.extend(self.format.system_id.to_le_bytes());
            self.wal.extend((self.format.segment_bytes as u32).to_le_bytes());
            self.wal.extend((PAGE as u32).to_le_bytes());
        }
    }

    fn write(&mut self, mut record: &[u8]) {
        let mut first = true;
        while !record.is_empty() {
            self.page_header(if first { 0 } else { record.len() });
            let room = PAGE - self.wal.len() % PAGE;
            let (piece, rest) = record.split_at(room.min(record.len()));
            self.wal.extend_from_slice(piece);
            (record, first) = (rest, false);
        }
    }
}

/// A record of LogicalMessage with `body`, with its length, link and checksum.
fn record(body: &[u8], prev: u64) -> Vec<u8> {
    const LOGICAL_MESSAGE: u8 = 21;
    let mut record = Vec::with_capacity(HEADER + body.len());
    record.extend(((HEADER + body.len()) as u32).to_le_bytes());
    record.extend([0; 4]);
    record.extend(prev.to_le_bytes());
    record.extend([0, LOGICAL_MESSAGE, 0, 0]);
    let crc = crc32c::crc32c_append(crc32c::crc32c(body), &record);
    record.extend(crc.to_le_bytes());
    record.extend_from_slice(body);
    record
}
