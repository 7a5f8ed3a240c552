//! A store that took what a stock server logged.

use std::path::Path;

use oracle::replay::control;
use oracle::server::Recorded;
use store::{ClusterImport, Project, StoreOptions};
use types::{BranchId, TimelineId};
use wal::segment::segment_name;

/// The branch that took it.
pub fn root() -> BranchId {
    "br-root".parse().expect("the name is valid")
}

/// A store of the cluster before the load that took all WAL of the load and wrote it to layers.
pub fn stored(recorded: &Recorded, path: &Path, memtable_bytes: usize) -> Project {
    let root = root();
    let import = ClusterImport { data_dir: recorded.base.clone(), root: root.clone() };
    let options = StoreOptions { memtable_bytes, ..StoreOptions::default() };
    let project = Project::create_with(path, &import, options).unwrap();
    let control = control(&recorded.after);
    let (segment, end) = (control.segment_bytes, control.cluster_state().unwrap().lsn);
    let mut at = project.head(&root).unwrap();
    while at < end {
        let name = segment_name(TimelineId::new(1), at.segment(segment), segment);
        let bytes = std::fs::read(recorded.after.join("pg_wal").join(name)).unwrap();
        let from = at.offset_in_segment(segment) as usize;
        let left = usize::try_from(end.bytes_since(at).unwrap()).unwrap();
        let upto = (from + left).min(bytes.len());
        at = project.append_wal(&root, TimelineId::new(1), at, &bytes[from..upto]).unwrap();
    }
    project.flush().unwrap();
    project
}
