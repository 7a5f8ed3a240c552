//! Mounts a cleanly stopped cluster so that Postgres can run on it without touching its files; for measurements.
//!
//! `mount_stopped_cluster DATA MOUNT_POINT OVERLAY_DIR PG_WAL_DIR OWNER_UID OWNER_GID [THREADS [DELAY_US]]`; ends on
//! the first line of standard input, printing the counters.

use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fs::{FileSystem, MountOptions, Options, PageSource};
use types::path::{SEGMENT_BLOCKS, parse_relation_path, relation_path};
use types::{BlockNumber, RelFork};

const VERSION_DIR: &str = "PG_15_202209061";

struct StoppedCluster {
    data: PathBuf,
    delay: Duration,
}

impl PageSource for StoppedCluster {
    fn read(&self, rel: RelFork, first: BlockNumber, out: &mut [u8]) -> io::Result<()> {
        if !self.delay.is_zero() {
            std::thread::sleep(self.delay);
        }
        let path = relation_path(rel, first.get() / SEGMENT_BLOCKS, VERSION_DIR);
        let file = std::fs::File::open(self.data.join(path))?;
        file.read_exact_at(out, u64::from(first.get() % SEGMENT_BLOCKS) * 8192)
    }
}

fn fill(fs: &FileSystem, data: &Path, wal: &Path) -> io::Result<()> {
    let mut blocks = std::collections::BTreeMap::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(data.join(&directory))? {
            let entry = entry?;
            let path = directory.join(entry.file_name());
            let text = path.to_string_lossy();
            let meta = entry.metadata()?;
            let mode = meta.permissions().mode() & 0o777;
            match parse_relation_path(&text) {
                _ if text == "pg_wal" => fs.symlink("pg_wal", wal)?,
                _ if meta.is_dir() => {
                    fs.mkdir(&text, mode)?;
                    directories.push(path);
                }
                Some((rel, _)) => *blocks.entry(rel).or_insert(0) += (meta.len() / 8192) as u32,
                None => fs.write_file(&text, &std::fs::read(entry.path())?, mode)?,
            }
        }
    }
    blocks.into_iter().try_for_each(|(rel, blocks)| fs.add_relation(rel, blocks, rel))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [data, at, overlay, wal, uid, gid, rest @ ..] = args.as_slice() else {
        return Err(
            "usage: DATA MOUNT_POINT OVERLAY_DIR PG_WAL_DIR OWNER_UID OWNER_GID [THREADS [DELAY_US]]".into(),
        );
    };
    let threads = rest.first().map_or(Ok(MountOptions::default().threads), |text| text.parse())?;
    let delay = Duration::from_micros(rest.get(1).map_or(Ok(0), |text| text.parse())?);
    let options = Options {
        overlay_dir: overlay.into(),
        uid: uid.parse()?,
        gid: gid.parse()?,
        version_dir: VERSION_DIR.to_owned(),
    };
    let fs = FileSystem::new(options, Arc::new(StoppedCluster { data: data.into(), delay }))?;
    fill(&fs, Path::new(data), Path::new(wal))?;
    let fs = Arc::new(fs);
    let mounted = fs::mount(fs.clone(), Path::new(at), MountOptions { threads })?;
    io::stdin().read_line(&mut String::new())?;
    println!("{:?}", fs.stats());
    mounted.unmount()?;
    Ok(())
}
