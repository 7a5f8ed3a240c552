//! Every decoder of what a disk holds, as functions of bytes: what fuzzers and, in each run of the tests, changed samples are
//! given to. A panic is a bug; besides, what is understood must come out as it went in.
//!
//! Checksums stand before most of these decoders, so the targets compute them: what is behind has to stand by itself. Only
//! tests and fuzzers are built with this.
//!
//! Not here: the log (`wal`), pages (`redo`), which have targets in `fuzz/`.

use std::sync::Arc;

use types::{Fork, Key, Lsn, RelFork, RelTag};

use crate::log::waypoint;
use crate::manifest;
use crate::memory::BlockCache;
use crate::object::ObjectStore;
use crate::object::memory::Memory;
use crate::table::layer::{self, Layer, sections};
use crate::table::value::{Lookup, Newest};

/// Layer that is made of an input.
const LAYER: u64 = 1;

/// A manifest with its trailer, and its JSON without.
pub fn manifest(data: &[u8]) {
    let Some(manifest) = manifest::understood(data) else { return };
    let bytes = manifest.bytes().expect("it has been JSON");
    assert_eq!(manifest::understood(&bytes), Some(manifest), "a manifest came out changed");
}

/// A state of the cluster.
pub fn waypoint(data: &[u8]) {
    if let Some(state) = waypoint::decode(data) {
        assert_eq!(waypoint::decode(&waypoint::encode(&state)), Some(state), "a state came out changed");
    }
}

/// A key in its sortable form.
pub fn key(data: &[u8]) {
    let Some(bytes) = data.first_chunk() else { return };
    if let Some(key) = Key::from_bytes(bytes) {
        assert_eq!(Key::from_bytes(&key.to_bytes()), Some(key), "a key came out changed");
    }
}

/// `pg_control` of a cluster to import, whose checksum is made right.
pub fn control(data: &[u8]) {
    let mut bytes = data.to_vec();
    // Where each major has it.
    for at in [288, 292] {
        let Some((before, crc)) = bytes.split_at_mut_checked(at) else { return };
        let Some(slot) = crc.first_chunk_mut() else { return };
        *slot = crc32c::crc32c(before).to_le_bytes();
        if let Ok(control) = wal::ControlFile::parse(&bytes) {
            let _ = (control.format(), control.cluster_state()); // an error is as good
        }
        bytes = data.to_vec();
    }
}

/// A whole layer file.
pub fn layer_file(data: &[u8]) {
    ask(data.to_vec());
}

/// The sections of a layer, of which a file with right checksums is made.
///
/// `| length of data, 2 | of index, 2 | of top index, 2 | data | index | top index | waypoints |`
pub fn layer(data: &[u8]) {
    let Some((lengths, mut rest)) = data.split_first_chunk::<6>() else { return };
    let mut parts: [&[u8]; 3] = [&[]; 3];
    for (part, len) in parts.iter_mut().zip(lengths.chunks_exact(2)) {
        let len = len.first_chunk().map_or(0, |len| usize::from(u16::from_le_bytes(*len)));
        (*part, rest) = rest.split_at(len.min(rest.len()));
    }
    let [data, index, top] = parts;
    ask(sections::joined(data, index, top, rest).expect("sections are short"));
}

/// Asks the layer in these bytes everything.
fn ask(bytes: Vec<u8>) {
    let memory = Arc::new(Memory::default());
    memory.overwrite(&layer::object_name(LAYER), bytes);
    let objects: Arc<dyn ObjectStore> = memory;
    let Ok(layer) = Layer::open(LAYER, objects, Arc::new(BlockCache::new(1 << 20))) else { return };
    let _ = layer.last_waypoint(); // an error is as good, here and below
    let _ = layer.waypoint_before(&|state| state.next_oid.is_multiple_of(2));
    let first = Key::Database { tablespace: 0, database: 0 };
    let rel = RelTag { tablespace: u32::MAX, database: u32::MAX, relation: u32::MAX };
    let last = Key::Unreadable(RelFork { rel, fork: Fork::Init });
    let cap = Lsn::MAX;
    let mut newest = Newest::new();
    let _ = layer.scan(&first, &last, cap, &mut newest);
    for key in newest.into_keys().take(8) {
        let _ = layer.lookup(&mut [Lookup::new(key, cap)]);
        let _ = layer.count_chain(&key, cap, &mut 0);
    }
}

#[cfg(test)]
mod tests {
    use oracle::mutate::stands;

    use super::*;
    use crate::crash::cluster;
    use crate::disk::System;
    use crate::table::layer::LayerWriter;
    use crate::table::value::Kind;

    /// A layer file with versions of every kind of a few pages.
    fn file(name: &str) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        let mut writer = LayerWriter::create(Arc::new(System), &path).unwrap();
        let kinds = [Kind::Zero, Kind::Rebuild, Kind::Modify, Kind::Image, Kind::Unreadable, Kind::Tombstone];
        for relation in 1..4 {
            let rel = RelTag { tablespace: 1663, database: 5, relation };
            let key = Key::RelSize(RelFork { rel, fork: Fork::Main });
            for (at, kind) in kinds.into_iter().enumerate() {
                let place = writer.put(&[relation as u8; 40]).unwrap();
                let lsn = Lsn::from_raw(100 + at as u64).unwrap();
                writer.add(&key, lsn, (kind, 0), Some(place)).unwrap();
            }
        }
        let states = [waypoint::tests::sample(10), waypoint::tests::sample(20)];
        std::fs::read(writer.finish(&states).unwrap()).unwrap()
    }

    #[test]
    fn changed_manifests_are_refused_or_understood() {
        let whole = crate::manifest::tests::full().bytes().unwrap();
        let json = whole.split(|byte| *byte == b'\n').next().unwrap().to_vec();
        stands("store_manifest", &[json, whole], manifest);
    }

    #[test]
    fn changed_states_of_a_cluster_are_refused_or_understood() {
        let other = types::ClusterState { last_commit: None, ..waypoint::tests::sample(2000) };
        let states = [waypoint::tests::sample(1000), other].map(|state| crate::log::waypoint::encode(&state));
        stands("store_waypoint", &states, super::waypoint);
    }

    #[test]
    fn changed_keys_are_refused_or_understood() {
        let keys: Vec<_> = (0..=11).map(|tag| [&[tag], &[1; 17][..]].concat()).collect();
        stands("store_key", &keys, key);
    }

    #[test]
    fn changed_control_files_are_refused_or_understood() {
        stands("store_control", &[cluster::control_file()[..300].to_vec()], control);
    }

    #[test]
    fn changed_layer_files_are_refused_or_answer() {
        stands("store_layer_file", &[file("layer")], layer_file);
    }

    #[test]
    fn layers_of_changed_sections_are_refused_or_answer() {
        let [data, index, top, waypoints] = sections::of(&file("layer"));
        let lengths = [&data, &index, &top].map(|part| u16::try_from(part.len()).unwrap().to_le_bytes());
        let sample = [lengths.concat(), data, index, top, waypoints].concat();
        ask(sections::joined(&[], &[], &[], &[]).unwrap());
        stands("store_layer", &[sample], layer);
    }
}
