//! A page service over the files of a stopped cluster: it reads no WAL, it only keeps what it is sent.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;
use types::{BLOCK_SIZE, BlockNumber, Fork, Lsn, RelFork, RelTag, SlruKind, SlruRun, StateAt, TimelineId};

use super::cluster::{Cluster, SEGMENT_BYTES};
use crate::protocol::{
    BranchService, Failure, FailureKind, Hello, NewTimeline, PageService, TailProgress, serve_connection,
};

/// What a test sees and steers of the service.
#[derive(Default)]
pub struct Switches {
    /// Timelines begun.
    pub timelines: Mutex<Vec<TimelineId>>,
    /// WAL received for the newest timeline, from its start on.
    pub wal: Mutex<Vec<u8>>,
    /// Bytes of `wal` that came as a tail.
    pub tail_bytes: Mutex<usize>,
    /// Appends are put off while this is set.
    pub away: AtomicBool,
    /// Pages of the relation with this file number are refused.
    pub refused: AtomicU32,
}

/// The branch: the cluster as it was shut down.
struct Branch {
    cluster: Cluster,
    switches: Arc<Switches>,
}

struct Service(Arc<Branch>);

impl PageService for Service {
    fn hello(&self, hello: &Hello) -> Result<Arc<dyn BranchService>, Failure> {
        assert_eq!(hello.branch, "br-test");
        Ok(self.0.clone())
    }
}

/// Serves on `socket` until the process ends.
pub fn serve(socket: &Path, cluster: Cluster, switches: Arc<Switches>) {
    let listener = UnixListener::bind(socket).unwrap();
    let service = Arc::new(Service(Arc::new(Branch { cluster, switches })));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let service = Arc::clone(&service);
            std::thread::spawn(move || {
                let _ = serve_connection(stream.unwrap(), service.as_ref());
            });
        }
    });
}

impl BranchService for Branch {
    fn head(&self) -> Result<Lsn, Failure> {
        Ok(self.cluster.state().lsn.advanced(self.switches.wal.lock().len() as u64))
    }

    fn begin_timeline(&self) -> Result<NewTimeline, Failure> {
        let mut timelines = self.switches.timelines.lock();
        if !self.switches.wal.lock().is_empty() {
            return Err(Failure::new(FailureKind::Unsupported, "this service cannot apply WAL"));
        }
        let cluster = self.cluster.state();
        let timeline = TimelineId::new(cluster.timeline.get() + timelines.len() as u32 + 1);
        timelines.push(timeline);
        Ok(NewTimeline {
            timeline,
            start: cluster.lsn,
            segment_bytes: SEGMENT_BYTES,
            system_id: self.cluster.control_file().system_id,
            catalog_version: self.cluster.control_file().catalog_version,
            control_template: self.cluster.control(),
            history: vec![(cluster.timeline, cluster.lsn)],
            state: self.state_at(cluster.lsn)?,
        })
    }

    fn append_wal(&self, timeline: TimelineId, at: Lsn, bytes: &[u8]) -> Result<Lsn, Failure> {
        if self.switches.away.load(Ordering::SeqCst) {
            return Err(Failure::new(FailureKind::Unavailable, "switched away by the test"));
        }
        if self.switches.timelines.lock().last() != Some(&timeline) {
            return Err(Failure::new(FailureKind::Fenced, "an older timeline"));
        }
        let start = self.cluster.state().lsn;
        let mut wal = self.switches.wal.lock();
        assert_eq!(at.bytes_since(start), Some(wal.len() as u64), "WAL must come without gaps");
        wal.extend_from_slice(bytes);
        Ok(start.advanced(wal.len() as u64))
    }

    fn append_tail(&self, timeline: TimelineId, at: Lsn, bytes: &[u8]) -> Result<TailProgress, Failure> {
        // A page whose header does not name itself, or a record of no length, is the end of the log. What is kept
        // ends on a page; good enough for a log that nobody replays.
        let mut len = 0;
        let start = at.offset_in_page() as usize;
        let mut pages = vec![bytes.get(..(BLOCK_SIZE - start) % BLOCK_SIZE).unwrap_or(bytes)];
        pages.extend(bytes.get(pages[0].len()..).unwrap().chunks(BLOCK_SIZE));
        for page in pages.into_iter().filter(|page| !page.is_empty()) {
            let position = at.advanced(len as u64);
            let named = page.get(8..16).is_some_and(|raw| *raw == position.raw().to_le_bytes());
            if (position.offset_in_page() == 0 && !named) || page[..4] == [0; 4] {
                break;
            }
            len += page.len();
        }
        let head = self.append_wal(timeline, at, &bytes[..len])?;
        *self.switches.tail_bytes.lock() += len;
        Ok(TailProgress { head, ended: len < bytes.len() })
    }

    fn read_pages(&self, _: Lsn, rel: RelFork, first: BlockNumber, out: &mut [u8]) -> Result<(), Failure> {
        if rel.rel.relation == self.switches.refused.load(Ordering::SeqCst) {
            return Err(Failure::new(FailureKind::Corrupt, "layer 7 is corrupt"));
        }
        let blocks_in_file = (1 << 30) / BLOCK_SIZE as u32;
        for (block, page) in (first.get()..).zip(out.chunks_mut(BLOCK_SIZE)) {
            let missing = |_| Failure::new(FailureKind::NotFound, format!("{rel} block {block}"));
            let mut path = self.path_of(rel);
            if block >= blocks_in_file {
                path.as_mut_os_string().push(format!(".{}", block / blocks_in_file));
            }
            let offset = u64::from(block % blocks_in_file) * BLOCK_SIZE as u64;
            File::open(path).and_then(|file| file.read_exact_at(page, offset)).map_err(missing)?;
        }
        Ok(())
    }

    fn read_slru(&self, _: Lsn, kind: SlruKind, first: u32, out: &mut [u8]) -> Result<(), Failure> {
        for (page, out) in (first..).zip(out.chunks_mut(BLOCK_SIZE)) {
            match File::open(self.cluster.data.join(types::path::slru_path(kind, page / 32))) {
                Ok(file) => file.read_exact_at(out, u64::from(page % 32) * BLOCK_SIZE as u64).unwrap(),
                Err(_) => out.fill(0),
            }
        }
        Ok(())
    }

    fn state_at(&self, lsn: Lsn) -> Result<StateAt, Failure> {
        let cluster = self.cluster.state();
        assert_eq!(lsn, cluster.lsn);
        let mut state = StateAt {
            cluster,
            relations: Vec::new(),
            databases: Vec::new(),
            tablespaces: Vec::new(),
            relmaps: Vec::new(),
            two_phase: Vec::new(),
            origins: Vec::new(),
            slru: Vec::new(),
            slru_runs: Vec::new(),
        };
        let data = &self.cluster.data;
        let mut sizes = BTreeMap::new();
        add_directory(&data.join("global"), (1664, 0), &mut state, &mut sizes);
        for (database, path) in numbered(&data.join("base")) {
            add_directory(&path, (1663, database), &mut state, &mut sizes);
        }
        for (tablespace, path) in numbered(&data.join("pg_tblspc")) {
            state.tablespaces.push(tablespace);
            for version in std::fs::read_dir(path).unwrap() {
                for (database, path) in numbered(&version.unwrap().path()) {
                    add_directory(&path, (tablespace, database), &mut state, &mut sizes);
                }
            }
        }
        state.relations = sizes.into_iter().collect();
        for entry in std::fs::read_dir(data.join("pg_twophase")).unwrap() {
            let entry = entry.unwrap();
            let xid = u64::from_str_radix(entry.file_name().to_str().unwrap(), 16).unwrap();
            let mut bytes = std::fs::read(entry.path()).unwrap();
            bytes.truncate(bytes.len() - 4);
            state.two_phase.push((xid, bytes));
        }
        for kind in SlruKind::ALL {
            for entry in std::fs::read_dir(data.join(kind.directory())).unwrap() {
                let entry = entry.unwrap();
                let segment = u32::from_str_radix(entry.file_name().to_str().unwrap(), 16).unwrap();
                let pages = u32::try_from(entry.metadata().unwrap().len()).unwrap() / BLOCK_SIZE as u32;
                state.slru_runs.push(SlruRun { kind, first: segment * 32, pages });
            }
        }
        if state.slru_runs.iter().map(|run| run.pages).sum::<u32>() <= 128 {
            for SlruRun { kind, first, pages } in std::mem::take(&mut state.slru_runs) {
                let mut bytes = vec![0; pages as usize * BLOCK_SIZE];
                self.read_slru(lsn, kind, first, &mut bytes)?;
                for (page, bytes) in (first..).zip(bytes.chunks(BLOCK_SIZE)) {
                    state.slru.push((kind, page, Box::new(bytes.try_into().unwrap())));
                }
            }
        }
        Ok(state)
    }

    fn segment_prefix(&self, lsn: Lsn) -> Result<Vec<u8>, Failure> {
        Ok(self.cluster.segment_prefix(lsn))
    }
}

impl Branch {
    fn path_of(&self, fork: RelFork) -> PathBuf {
        let RelTag { tablespace, database, relation } = fork.rel;
        let name = format!("{relation}{}", fork.fork.suffix());
        match tablespace {
            1664 => self.cluster.data.join("global").join(name),
            1663 => self.cluster.data.join(format!("base/{database}")).join(name),
            _ => {
                let directory = self.cluster.data.join(format!("pg_tblspc/{tablespace}"));
                let version = std::fs::read_dir(directory).unwrap().next().unwrap().unwrap().path();
                version.join(database.to_string()).join(name)
            }
        }
    }
}

fn numbered(directory: &Path) -> Vec<(u32, PathBuf)> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter_map(|path| Some((path.file_name()?.to_str()?.parse().ok()?, path))).collect()
}

/// Adds a directory of relation files: `16384`, `16384_vm`, `16384.1`, `pg_filenode.map`, `PG_VERSION`.
fn add_directory(
    directory: &Path,
    (tablespace, database): (u32, u32),
    state: &mut StateAt,
    sizes: &mut BTreeMap<RelFork, u32>,
) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        match name.as_str() {
            "PG_VERSION" => state.databases.push((tablespace, database)),
            "pg_filenode.map" => {
                state.relmaps.push((tablespace, database, std::fs::read(entry.path()).unwrap()));
            }
            _ => {}
        }
        let stem = name.split('.').next().unwrap();
        let (number, suffix) = stem.split_at(stem.find('_').unwrap_or(stem.len()));
        let fork = Fork::ALL.into_iter().find(|fork| fork.suffix() == suffix);
        if let (Ok(relation), Some(fork)) = (number.parse(), fork) {
            let rel = RelTag { tablespace, database, relation };
            let blocks = entry.metadata().unwrap().len() / BLOCK_SIZE as u64;
            *sizes.entry(RelFork { rel, fork }).or_default() += blocks as u32;
        }
    }
}
