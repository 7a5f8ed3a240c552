//! Layers round trip, answer as a sorted list would, and notice every damaged byte.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use types::{BlockNumber, Fork, Key, Lsn, RelFork, RelTag};

use super::format::{VERSION, VERSION_FIRST};
use super::{Layer, LayerWriter, object_name};
use crate::disk::System;
use crate::error::{Result, StoreError};
use crate::log::waypoint::tests::sample;
use crate::memory::BlockCache;
use crate::object::ObjectStore;
use crate::object::memory::Memory;
use crate::table::value::{Kind, Lookup, Newest};

fn key(relation: u32, block: u32) -> Key {
    let rel = RelTag { tablespace: 1663, database: 5, relation };
    Key::RelBlock(RelFork { rel, fork: Fork::Main }, BlockNumber::new(block))
}

fn at(raw: u64) -> Lsn {
    Lsn::from_raw(raw).unwrap()
}

type Row = (Key, Lsn, Kind, Vec<u8>);

fn write(rows: &[Row], dir: &Path) -> Arc<Memory> {
    write_version(VERSION, rows, dir)
}

fn write_version(version: u32, rows: &[Row], dir: &Path) -> Arc<Memory> {
    let mut writer = LayerWriter::create_version(version, Arc::new(System), &dir.join("layer")).unwrap();
    for (key, lsn, kind, bytes) in rows {
        let place = writer.put(bytes).unwrap();
        writer.add(key, *lsn, (*kind, 0), Some(place)).unwrap();
    }
    let file = writer.finish(&[sample(10), sample(20)]).unwrap();
    let memory = Arc::new(Memory::default());
    memory.put_file_if_absent(&object_name(1), &file).unwrap();
    memory
}

#[test]
fn what_comes_out_of_order_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = LayerWriter::create(Arc::new(System), &dir.path().join("layer")).unwrap();
    let mut add = |key: Key, lsn: u64| writer.add(&key, at(lsn), (Kind::Modify, 0), None);
    add(key(1, 1), 20).unwrap();
    add(key(1, 1), 20).unwrap();
    for (key, lsn) in [(key(1, 1), 19), (key(1, 0), 30)] {
        let refused = add(key, lsn).unwrap_err();
        assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused}");
    }
    add(key(1, 1), 21).unwrap();
}

fn open(memory: &Arc<Memory>) -> Result<Layer> {
    Layer::open(1, memory.clone(), Arc::new(BlockCache::new(1 << 20)))
}

fn rows(count: u32) -> Vec<Row> {
    let row = |i: u32| {
        let kind = if i.is_multiple_of(5) { Kind::Rebuild } else { Kind::Modify };
        let bytes = (0..200 + i % 90).map(|b| (b.wrapping_mul(i)) as u8).collect();
        (key(i / 100, i / 10 % 10), at(100 + u64::from(i)), kind, bytes)
    };
    (0..count).map(row).collect()
}

/// What a layer of these rows must answer, defined the slow way.
fn expected(rows: &[Row], key: Key, cap: Lsn) -> Vec<(Lsn, Vec<u8>)> {
    let mut found = Vec::new();
    for (_, lsn, kind, bytes) in rows.iter().rev().filter(|row| row.0 == key && row.1 <= cap) {
        found.push((*lsn, bytes.clone()));
        if kind.is_full() {
            break;
        }
    }
    found
}

fn answer(layer: &Layer, key: Key, cap: Lsn) -> Result<Vec<(Lsn, Vec<u8>)>> {
    let mut lookups = [Lookup::new(key, cap)];
    layer.lookup(&mut lookups)?;
    let [lookup] = lookups;
    Ok(lookup.found.into_iter().map(|version| (version.lsn, version.bytes.to_vec())).collect())
}

#[test]
fn a_layer_answers_as_its_rows_do() {
    let dir = tempfile::tempdir().unwrap();
    let rows = rows(5000);
    let layer = open(&write(&rows, dir.path())).unwrap();
    for relation in [0, 1, 49, 50] {
        for block in 0..11 {
            for cap in [1, 99, 100, 155, 1234, 5098, 5099, 9999] {
                let key = key(relation, block);
                let got = answer(&layer, key, at(cap)).unwrap();
                assert_eq!(got, expected(&rows, key, at(cap)), "{key:?} at {cap}");
            }
        }
    }
    assert_eq!(layer.waypoints().unwrap(), [sample(10), sample(20)]);
}

#[test]
fn layers_of_the_first_format_are_read_and_others_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let rows = rows(2000);
    let old = write_version(VERSION_FIRST, &rows, dir.path());
    let new = write(&rows, dir.path());
    assert_ne!(old.get(&object_name(1)).unwrap(), new.get(&object_name(1)).unwrap());
    let layer = open(&old).unwrap();
    for block in 0..10 {
        let key = key(3, block);
        assert_eq!(answer(&layer, key, at(9999)).unwrap(), expected(&rows, key, at(9999)));
    }
    assert_eq!(layer.waypoints().unwrap(), [sample(10), sample(20)]);
    let later = write_version(VERSION + 1, &rows, dir.path());
    let refused = open(&later).err().unwrap();
    assert!(refused.to_string().contains("layer format 3, this program reads 1 to 2"), "{refused}");
}

/// Rule 9 of the crate's README.
#[test]
fn records_since_the_last_full_version_are_counted_whoever_wrote_them() {
    let dir = tempfile::tempdir().unwrap();
    let row = |lsn: u64, kind| (key(1, 1), at(lsn), kind, vec![1]);
    let rows: Vec<Row> =
        [row(1, Kind::Rebuild)].into_iter().chain((2..40).map(|lsn| row(lsn, Kind::Modify))).collect();
    // These rows have no counts, as those of the first format.
    let layer = open(&write(&rows, dir.path())).unwrap();
    let count = |key: Key, cap: u64| {
        let mut count = 0;
        let done = layer.count_chain(&key, at(cap), &mut count).unwrap();
        (count, done)
    };
    assert_eq!(count(key(1, 1), 99), (38, true));
    assert_eq!(count(key(1, 1), 11), (10, true));
    assert_eq!(count(key(1, 2), 99), (0, false));
}

#[test]
fn a_scan_gives_the_newest_version_of_each_key_once() {
    let dir = tempfile::tempdir().unwrap();
    let rows = rows(3000);
    let layer = open(&write(&rows, dir.path())).unwrap();
    for cap in [50, 100, 777, 4000] {
        let mut newest = Newest::new();
        layer.scan(&key(2, 5), &key(11, 3), at(cap), &mut newest).unwrap();
        let mut wanted = std::collections::BTreeMap::new();
        for (row_key, lsn, ..) in rows.iter().filter(|row| row.1 <= at(cap)) {
            if (key(2, 5)..=key(11, 3)).contains(row_key) {
                wanted.insert(*row_key, *lsn);
            }
        }
        let got: std::collections::BTreeMap<_, _> = newest.iter().map(|(key, v)| (*key, v.lsn)).collect();
        assert_eq!(got, wanted, "{cap}");
    }
}

#[test]
fn an_empty_layer_answers_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let layer = open(&write(&[], dir.path())).unwrap();
    assert_eq!(answer(&layer, key(1, 1), Lsn::MAX).unwrap(), []);
    let mut newest = Newest::new();
    layer.scan(&key(0, 0), &key(9, 9), Lsn::MAX, &mut newest).unwrap();
    assert!(newest.is_empty());
    assert_eq!(layer.waypoints().unwrap().len(), 2);
}

/// Reads everything a layer has.
fn read_all(memory: &Arc<Memory>, rows: &[Row]) -> Result<()> {
    let layer = open(memory)?;
    layer.waypoints()?;
    rows.iter().try_for_each(|row| answer(&layer, row.0, row.1).map(|_| ()))
}

/// Rule 11 of the crate's README.
#[test]
fn every_flipped_byte_and_every_cut_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let rows = rows(60);
    let memory = write(&rows, dir.path());
    let good = memory.get(&object_name(1)).unwrap().unwrap();
    read_all(&memory, &rows).unwrap();
    for position in 0..good.len() {
        let mut bad = good.clone();
        bad[position] ^= 0x40;
        memory.overwrite(&object_name(1), bad);
        let outcome = read_all(&memory, &rows);
        assert!(matches!(outcome, Err(StoreError::Corrupt { .. })), "byte {position} of {}", good.len());
    }
    for len in (0..good.len()).step_by(7) {
        memory.overwrite(&object_name(1), good[..len].to_vec());
        assert!(matches!(read_all(&memory, &rows), Err(StoreError::Corrupt { .. })), "cut at {len}");
    }
}

#[test]
fn a_record_shared_by_many_pages_is_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = LayerWriter::create(Arc::new(System), &dir.path().join("layer")).unwrap();
    // Bytes that do not compress.
    let mut state = 1u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(20_000)
    .collect();
    let place = writer.put(&noise).unwrap();
    for block in 0..1000 {
        writer.add(&key(1, block), at(5), (Kind::Rebuild, 0), Some(place)).unwrap();
    }
    let file = writer.finish(&[]).unwrap();
    assert!(std::fs::metadata(&file).unwrap().len() < 40_000);
    let memory = Arc::new(Memory::default());
    memory.put_file_if_absent(&object_name(1), &file).unwrap();
    let layer = open(&memory).unwrap();
    for block in [0, 500, 999] {
        assert_eq!(answer(&layer, key(1, block), at(5)).unwrap(), [(at(5), noise.clone())]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_rows_are_found_again(
        mut keys in prop::collection::vec((0u32..4, 0u32..4, 1u64..50, 1u8..8, 0usize..3000), 0..200),
        asked in prop::collection::vec((0u32..4, 0u32..4, 1u64..60), 50),
    ) {
        keys.sort_by_key(|row| (row.0, row.1, row.2));
        let rows: Vec<Row> = keys
            .into_iter()
            .map(|(rel, block, lsn, kind, len)| {
                (key(rel, block), at(lsn), Kind::from_raw(kind).unwrap(), vec![kind; len])
            })
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let layer = open(&write(&rows, dir.path())).unwrap();
        for (rel, block, cap) in asked {
            let key = key(rel, block);
            prop_assert_eq!(answer(&layer, key, at(cap)).unwrap(), expected(&rows, key, at(cap)));
        }
    }
}
