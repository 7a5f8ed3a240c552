//! The server's end of `compute::protocol`: each endpoint's requests, answered by its project's store.
//!
//! One thread a connection. A connection speaks of one branch; the endpoint that names itself must be that branch's.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use compute::protocol::{
    BranchService, Failure, FailureKind, Hello, NewTimeline, PageService, TailProgress, serve_connection,
};
use store::{ErrorKind, StoreError};
use types::{BlockNumber, BranchId, Lsn, RelFork, SlruKind, StateAt, TimelineId};

use crate::error::{Error, Kind, Result, chain};
use crate::fleet::Fleet;
use crate::limits::PAGE_SERVICE_PAUSE;
use crate::machine::threads;
use crate::metadata::{branch, endpoint};

/// Listens on the page service's socket; the old one of a server that was killed is replaced.
///
/// # Errors
/// Those of the socket.
pub fn listen(path: &Path) -> Result<UnixListener> {
    let _ = std::fs::remove_file(path);
    let bind = || -> io::Result<UnixListener> {
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    bind().map_err(Error::io(format!("listen on {}", path.display())))
}

/// Accepts connections for as long as the process lives.
pub fn run(listener: &UnixListener, fleet: &Arc<Fleet>) {
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => {
                let fleet = Arc::clone(fleet);
                // The compute asks again.
                if let Err(error) = threads::spawn("pages", move || serve(stream, fleet)) {
                    tracing::error!(%error, "page service cannot serve a connection");
                    std::thread::sleep(PAGE_SERVICE_PAUSE);
                }
            }
            Err(error) => {
                tracing::error!(%error, "page service cannot accept");
                std::thread::sleep(PAGE_SERVICE_PAUSE);
            }
        }
    }
}

fn serve(stream: UnixStream, fleet: Arc<Fleet>) {
    let service = Service { fleet };
    match serve_connection(stream, &service) {
        Ok(()) => {}
        // An endpoint that was killed.
        Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {}
        Err(error) => tracing::warn!(%error, "page service connection ended"),
    }
}

struct Service {
    fleet: Arc<Fleet>,
}

impl PageService for Service {
    fn hello(&self, hello: &Hello) -> std::result::Result<Arc<dyn BranchService>, Failure> {
        let unknown = |error: Error| {
            let kind =
                if error.kind == Kind::NotFound { FailureKind::NotFound } else { FailureKind::Unavailable };
            Failure::new(kind, error.message)
        };
        let hidden = self.fleet.hidden.lock().get(&hello.endpoint).cloned();
        let known = || {
            self.fleet.metadata.read(|connection| {
                let row = endpoint::get(connection, &hello.project, &hello.endpoint)?;
                let branch = branch::get(connection, &hello.project, &row.branch_id)?;
                Ok((branch.project_id, branch.store_id))
            })
        };
        let hidden = hidden.map(|row| (row.project_id, row.branch_id));
        let (project, store_id) = hidden.map_or_else(known, Ok).map_err(unknown)?;
        // One that runs on what its branch was before a restore must not go on.
        if project != hello.project || store_id != hello.branch {
            let text = format!("endpoint {} is not of branch {}", hello.endpoint, hello.branch);
            return Err(Failure::new(FailureKind::NotFound, text));
        }
        let store = self.fleet.storage.store(&hello.project).map_err(unknown)?;
        let branch = crate::names::parse_branch(&hello.branch).map_err(unknown)?;
        Ok(Arc::new(Branch { store, branch }))
    }
}

struct Branch {
    store: Arc<store::Project>,
    branch: BranchId,
}

impl BranchService for Branch {
    fn head(&self) -> std::result::Result<Lsn, Failure> {
        // Where an endpoint that died goes on sending, whether what it sent before could be read or not.
        self.store.log_end(&self.branch).map_err(failure)
    }

    fn begin_timeline(&self) -> std::result::Result<NewTimeline, Failure> {
        let begun = self.store.begin_timeline(&self.branch).map_err(failure)?;
        let format = self.store.format();
        let template = self.store.control_template();
        Ok(NewTimeline {
            timeline: begun.timeline,
            start: begun.start,
            segment_bytes: format.segment_bytes,
            system_id: format.system_id,
            catalog_version: catalog_version(template)?,
            control_template: template.to_vec(),
            history: begun.history,
            state: begun.state,
        })
    }

    fn append_wal(&self, timeline: TimelineId, at: Lsn, bytes: &[u8]) -> std::result::Result<Lsn, Failure> {
        self.store.append_wal(&self.branch, timeline, at, bytes).map_err(failure)
    }

    fn append_tail(
        &self,
        timeline: TimelineId,
        at: Lsn,
        bytes: &[u8],
    ) -> std::result::Result<TailProgress, Failure> {
        let progress = self.store.append_tail(&self.branch, timeline, at, bytes).map_err(failure)?;
        Ok(TailProgress { head: progress.head, ended: progress.ended })
    }

    fn read_pages(
        &self,
        lsn: Lsn,
        rel: RelFork,
        first: BlockNumber,
        out: &mut [u8],
    ) -> std::result::Result<(), Failure> {
        self.store.read_pages(&self.branch, lsn, rel, first, out).map_err(failure)
    }

    fn read_slru(
        &self,
        lsn: Lsn,
        kind: SlruKind,
        first: u32,
        out: &mut [u8],
    ) -> std::result::Result<(), Failure> {
        self.store.read_slru(&self.branch, lsn, kind, first, out).map_err(failure)
    }

    fn state_at(&self, lsn: Lsn) -> std::result::Result<StateAt, Failure> {
        self.store.state_at(&self.branch, lsn).map_err(failure)
    }

    fn segment_prefix(&self, lsn: Lsn) -> std::result::Result<Vec<u8>, Failure> {
        self.store.wal_segment_prefix(&self.branch, lsn).map_err(failure)
    }
}

/// `catalog_version_no`, the fourth four bytes of `pg_control` (`ControlFileData` in `catalog/pg_control.h`).
fn catalog_version(control: &[u8]) -> std::result::Result<u32, Failure> {
    let bytes = control.get(12..16).and_then(|bytes| bytes.try_into().ok());
    let short = || Failure::new(FailureKind::Corrupt, "the imported pg_control is too short");
    bytes.map(u32::from_le_bytes).ok_or_else(short)
}

/// What an endpoint is told. Only "fenced" and "not found" end a running Postgres; for everything else it waits.
fn failure(error: StoreError) -> Failure {
    let kind = match error.kind() {
        ErrorKind::Later => FailureKind::Unavailable,
        ErrorKind::Fenced => FailureKind::Fenced,
        ErrorKind::Absent => FailureKind::NotFound,
        ErrorKind::Refused => FailureKind::Invalid,
        ErrorKind::Unsupported => FailureKind::Unsupported,
        ErrorKind::Corrupt => FailureKind::Corrupt,
    };
    if !matches!(kind, FailureKind::Fenced | FailureKind::NotFound) {
        tracing::warn!(error = chain(&error), ?kind, "page service request failed");
    }
    Failure::new(kind, chain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A layer that could not be written was once "no": the endpoint killed its Postgres.
    #[test]
    fn an_endpoint_waits_for_the_disk_and_stops_only_when_it_is_fenced() {
        let branch: BranchId = "br-a-b-c".parse().unwrap();
        let reason = || "no space left".to_owned();
        let source = || io::Error::from_raw_os_error(libc::EMFILE);
        for error in [
            StoreError::Full { path: "x".into() },
            StoreError::Io { path: "x".into(), source: source() },
            StoreError::FlushFailing { branch: branch.clone(), reason: reason() },
            StoreError::MemoryFull { branch: branch.clone(), held: 9, max: 8, waited: PAGE_SERVICE_PAUSE },
            StoreError::Superseded { sequence: 3 },
            StoreError::Locked { path: "x".into() },
        ] {
            let text = error.to_string();
            assert_eq!(failure(error).kind, FailureKind::Unavailable, "{text}");
        }
        let fenced = StoreError::Fenced { branch, timeline: TimelineId::new(2), current: None };
        assert_eq!(failure(fenced).kind, FailureKind::Fenced);
    }

    #[test]
    fn a_short_control_file_is_corrupt() {
        assert_eq!(catalog_version(&[0; 10]).unwrap_err().kind, FailureKind::Corrupt);
        let mut control = vec![0; 8192];
        control[12..16].copy_from_slice(&202_209_061_u32.to_le_bytes());
        assert_eq!(catalog_version(&control).unwrap(), 202_209_061);
    }
}
