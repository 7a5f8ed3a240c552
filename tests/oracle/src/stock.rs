//! The strictest judge: a stock Postgres's own redo, step by step, byte for byte.
//!
//! `walredo.c` makes `postgres --single` a process that applies one record to one page. It is compiled against the
//! headers of the server's major; nothing of Postgres is changed.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tempfile::TempDir;
use types::{BLOCK_SIZE, Fork, Key, Page, RelFork};
use wal::{Record, RmgrId};

use crate::replay::{Judge, Step, Truth};
use crate::server::{Postgres, run};

/// Longest record that `walredo.c` takes.
const MAX_RECORD: usize = 1 << 20;

/// A stock Postgres that redoes.
pub struct Stock {
    postgres: Postgres,
    dir: TempDir,
    process: Process,
    /// How often it ended over a record.
    pub refused: u64,
}

struct Process {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
}

impl Stock {
    /// Whether the headers of the server's major are here.
    pub fn can_be_built(postgres: &Postgres) -> bool {
        headers(postgres).is_some()
    }

    /// Compiles the library and starts a server in a copy of `base`, a stopped cluster.
    ///
    /// # Panics
    /// If the headers of the server's major are not here.
    pub fn start(postgres: &Postgres, base: &Path) -> Self {
        let (headers, major) = (headers(postgres), postgres.major());
        let dir = tempfile::tempdir().unwrap();
        let (source, library) = (dir.path().join("walredo.c"), dir.path().join("walredo.so"));
        std::fs::write(&source, include_str!("../walredo.c")).unwrap();
        run(Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-D_GNU_SOURCE", "-I"])
            .arg(
                headers
                    .unwrap_or_else(|| panic!("scripts/postgres-source {major} gets the headers of {major}")),
            )
            .arg(&source)
            .arg("-o")
            .arg(&library));
        run(Command::new("cp").arg("-a").arg(base).arg(dir.path().join("data")));
        run(Command::new("chmod").arg("755").arg(dir.path()));
        let process = spawn(postgres, dir.path());
        Self { postgres: postgres.clone(), dir, process, refused: 0 }
    }

    fn redo(&mut self, step: &Step<'_>, rel: RelFork, block: u32, page: &mut Page) -> std::io::Result<()> {
        let length = step.raw.bytes.len() as u32;
        let mut request = vec![rel.fork as u8];
        request.extend(block.to_le_bytes());
        request.extend(step.raw.start.raw().to_le_bytes());
        request.extend(step.raw.end.raw().to_le_bytes());
        request.extend(length.to_le_bytes());
        request.extend_from_slice(&step.before[..]);
        request.extend_from_slice(step.raw.bytes);
        self.process.to.write_all(&request)?;
        self.process.from.read_exact(&mut page[..BLOCK_SIZE])
    }
}

fn headers(postgres: &Postgres) -> Option<PathBuf> {
    let store = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/postgres-source");
    let fetched = store.join(postgres.major().to_string()).join("include");
    Some(fetched).filter(|dir| dir.join("postgres.h").exists()).or_else(|| postgres.headers())
}

fn spawn(postgres: &Postgres, dir: &Path) -> Process {
    let mut command = postgres.tool("postgres");
    command.args(["--single", "-D"]).arg(dir.join("data"));
    let library = format!("shared_preload_libraries={}", dir.join("walredo.so").display());
    let settings = [
        library.as_str(),
        "shared_buffers=1MB",
        "max_connections=5",
        "autovacuum_max_workers=1",
        "max_wal_senders=0",
        "max_worker_processes=0",
        "huge_pages=off",
        "dynamic_shared_memory_type=mmap",
        "wal_consistency_checking=",
        "fsync=off",
    ];
    let newer = if postgres.major() >= 18 { Some("io_method=sync") } else { None };
    for setting in settings.into_iter().chain(newer) {
        command.args(["-c", setting]);
    }
    let mut child = command.arg("template1").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    Process { child, to, from }
}

impl Judge for Stock {
    fn truth(&mut self, step: &Step<'_>, page: &mut Page) -> Truth {
        let Key::RelBlock(rel, block) = step.key else { return Truth::Unknown };
        if !self.judges(step.record, &step.key) {
            return Truth::Unknown;
        }
        if self.redo(step, rel, block.get(), page).is_ok() {
            return Truth::Bytes;
        }
        self.refused += 1;
        let status = self.process.child.wait().unwrap();
        eprintln!(
            "stock redo ended over {} at {}: {status}",
            crate::replay::type_name(step.record, &step.key),
            step.raw.start
        );
        let _ = std::fs::remove_file(self.dir.path().join("data/postmaster.pid"));
        self.process = spawn(&self.postgres, self.dir.path());
        Truth::Unknown
    }

    fn judges(&self, record: &Record<'_>, key: &Key) -> bool {
        // Cutting a file flushes WAL first, of which this server has none.
        let Key::RelBlock(rel, _) = key else { return false };
        record.rmgr != RmgrId::SMGR && rel.fork != Fork::Init && record.main.len() < MAX_RECORD
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        // Its input ends with this: it must have gone before its directory does.
        let _ = self.process.child.kill();
        let _ = self.process.child.wait();
    }
}
