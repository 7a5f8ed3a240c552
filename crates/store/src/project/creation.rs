//! The first layer, log and manifest of a project, made of a cluster that was shut down.
//!
//! Not here: what is read of the cluster (`ingest::import`).

use std::path::Path;
use std::sync::Arc;

use types::{BranchId, PgTime};

use crate::disk::{Disk, unused_name};
use crate::error::{Result, StoreError};
use crate::ingest::import::Source;
use crate::log::segments::WalFiles;
use crate::manifest::{BranchEntry, Manifest, Position};
use crate::object::{ObjectStore, Put};
use crate::table::layer::{LayerWriter, object_name};

/// Microseconds in a second.
const SECOND_US: i64 = 1_000_000;

/// Writes the first layer and the WAL it ends with; gives the manifest that will list them.
pub(super) fn import_cluster(
    dir: &Path,
    disk: &Arc<dyn Disk>,
    objects: &dyn ObjectStore,
    source: &Source,
    root: &BranchId,
) -> Result<Manifest> {
    const LAYER: u64 = 1;
    let state = source.control.cluster_state()?;
    let name = object_name(LAYER);
    let wal_files = WalFiles::new(dir, source.control.format(), disk.clone());
    // Left by an attempt that did not reach the manifest.
    objects.delete(&name)?;
    wal_files.clear_the_way(root)?;
    let mut layer = LayerWriter::create(disk.clone(), &unused_name(&dir.join("tmp"), "import"))?;
    source.write(&mut layer, state.lsn)?;
    let path = layer.finish(std::slice::from_ref(&state))?;
    if objects.put_file_if_absent(&name, &path)? == Put::Taken {
        return Err(StoreError::corrupt(name, 0, "was written by someone else"));
    }
    let (begin, bytes) = source.wal(state.lsn)?;
    wal_files.write(root, state.timeline, begin, &bytes)?;
    let imported = PgTime::from_unix_us(source.control.checkpoint.time_unix_s.saturating_mul(SECOND_US));
    let next_timeline = state.timeline.get().wrapping_add(1);
    let format = source.control.format();
    let mut manifest = Manifest::new(format, &source.control_bytes, imported.pg_us(), next_timeline);
    manifest.next_layer = LAYER + 1;
    let timelines = vec![(state.timeline.get(), Position(state.lsn))];
    let entry = BranchEntry { timelines, layers: vec![LAYER], ..BranchEntry::new(None, state.lsn) };
    manifest.add(root, entry);
    Ok(manifest)
}
