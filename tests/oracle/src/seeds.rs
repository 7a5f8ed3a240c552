//! Inputs for the fuzz targets, made of real records and pages; `fuzz/src/lib.rs` says what an input is.

use std::fs;
use std::path::{Path, PathBuf};

use wal::{Record, RmgrId};

use crate::replay::{Replayed, control, type_name};

/// Bytes of WAL in one input of the reader.
const WAL_BYTES: usize = 24 << 10;

/// The directory that holds a target's inputs.
pub fn dir(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fuzz-seeds").join(target)
}

/// Writes the samples of a replay as inputs; gives how many.
pub fn write(after: &Path, replayed: &Replayed) -> usize {
    let mut count = 0;
    let mut keep = |target: &str, name: String, bytes: &[u8]| {
        fs::create_dir_all(dir(target)).unwrap();
        fs::write(dir(target).join(name), bytes).unwrap();
        count += 1;
    };
    for sample in &replayed.samples {
        let record = Record::decode(sample.start, &sample.record).unwrap();
        let Ok(len) = u16::try_from(sample.record.len()) else { continue };
        let major = (sample.major - 15) as u8;
        let head = [&[major][..], &len.to_le_bytes(), &sample.record].concat();
        let name = format!(
            "{}-{}-{}",
            type_name(&record, &sample.key).replace(['/', ' '], "_"),
            sample.major,
            sample.start.raw()
        );
        keep(target(record.rmgr), name.clone(), &[&head, &sample.before[..]].concat());
        keep("wal_record", name.clone(), &head);
        for image in record.blocks().filter_map(|block| block.image) {
            let [hole_at, hole] = [image.hole_offset, image.hole_len].map(u16::to_le_bytes);
            let bytes = [&[image.compression as u8][..], &hole_at, &hole, image.bytes].concat();
            keep("images", name.clone(), &bytes);
        }
    }
    let major = (control(after).major - 15) as u8;
    let segments = fs::read_dir(after.join("pg_wal")).unwrap().map(|entry| entry.unwrap().path());
    for segment in segments.filter(|path| path.file_name().unwrap().len() == 24).take(3) {
        let wal = fs::read(segment).unwrap();
        for (mode, piece) in [(0u8, 8192u16), (1, 700)] {
            let head = [&[major << 1 | mode][..], &piece.to_le_bytes(), &wal[..WAL_BYTES]].concat();
            keep("wal_reader", format!("wal-{major}-{mode}-{piece}"), &head);
        }
    }
    count
}

fn target(rmgr: RmgrId) -> &'static str {
    match rmgr {
        RmgrId::HEAP => "redo_heap",
        RmgrId::HEAP2 => "redo_heap2",
        RmgrId::BTREE => "redo_btree",
        RmgrId::HASH => "redo_hash",
        RmgrId::GIN => "redo_gin",
        RmgrId::GIST => "redo_gist",
        RmgrId::SPGIST => "redo_spgist",
        RmgrId::BRIN => "redo_brin",
        RmgrId::XACT | RmgrId::CLOG | RmgrId::MULTIXACT | RmgrId::COMMIT_TS => "redo_slru",
        _ => "redo_other",
    }
}
