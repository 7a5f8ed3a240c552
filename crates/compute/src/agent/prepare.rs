//! What one start of an endpoint puts in place before Postgres runs: file system, `pg_wal`, directories.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use fs::FileSystem;
use wal::segment::{history_name, segment_name};
use wal::{Major, ShutdownCheckpoint, WalFormat, control};

use crate::client::{Client, StorePages};
use crate::cluster::datadir;
use crate::cluster::libraries;
use crate::config;
use crate::config::Acts;
use crate::error::{Error, While};
use crate::protocol::NewTimeline;
use crate::shipping::segment::{self, FirstWal};
use crate::shipping::synced::SyncedWal;
use crate::spec::{Admission, EndpointSpec};
use crate::sql::predefined;
use crate::sql::quarantine;
use crate::sql::quarantine::Suspicion;
use crate::threads;

use super::known::remove_dir;

/// What Postgres will find beside its data directory, and what has to be done before clients are let in.
pub(super) struct Prepared {
    /// The new files, on their way to the disk.
    pub wal: SyncedWal,
    /// How clients are let in.
    pub opening: Opening,
    /// Whether what the branch inherited has to be looked at before.
    pub suspect: bool,
    /// Whether the roles that reach the server's files and programs have to be guarded before.
    pub exposed: bool,
    /// Whether Postgres will come up as a standby, which cannot write. An endpoint that only reads does, once there is
    /// nothing left to write before clients are let in.
    pub standby: bool,
}

/// How clients are let in, once what has to come before is done.
pub(super) enum Opening {
    /// They are from the start, or never.
    Nothing,
    /// By these files, by name, in place of what is there.
    Files(Vec<(&'static str, String)>),
    /// By another start, for settings that only a start changes.
    Start,
}

/// What a start of this endpoint has to do before it lets clients in, and may not let act.
#[derive(Clone, Copy)]
pub(super) struct Closed {
    /// Who is to be let in.
    pub admission: Admission,
    /// Whether passwords are to be set.
    pub passwords_due: bool,
    /// Whether an earlier start could not put everything to rest.
    pub held: bool,
    /// Whether an earlier start guarded the predefined roles.
    pub guarded: bool,
}

/// Makes everything Postgres will find: the data directory, `pg_wal`, the socket's directory.
pub(super) fn data_directory(
    spec: &EndpointSpec,
    new: &NewTimeline,
    client: &Client,
    pages: &Arc<Client>,
    closed: Closed,
) -> Result<(FileSystem, Prepared), Error> {
    if new.state.cluster.lsn != new.start {
        let text = format!("state of {} for a timeline that begins at {}", new.state.cluster.lsn, new.start);
        return Err(Error::Answer(text));
    }
    let major = control::major_of(&new.control_template)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut state = new.state.cluster.clone();
    if spec.read_only {
        // A standby refuses settings below those of the server whose log it replays. This one replays none.
        state.limits.max_connections = 0;
        state.limits.max_worker_processes = 0;
        state.limits.max_wal_senders = 0;
        state.limits.max_prepared_xacts = 0;
        state.limits.max_locks_per_xact = 0;
    }
    let checkpoint = ShutdownCheckpoint {
        state: &state,
        timeline: new.timeline,
        at: new.start.record_start(new.segment_bytes),
        time_unix_s: now.try_into().unwrap_or(i64::MAX),
    };
    let record = checkpoint.record(major);
    let format =
        WalFormat { major: major.number, segment_bytes: new.segment_bytes, system_id: new.system_id };
    thread::scope(|scope| {
        let wal = threads::beside_in(scope, || {
            let prefix = client.segment_prefix(new.start)?;
            let wal = segment::first_wal(&format, new.timeline, new.start, prefix, &record)?;
            make_directories(spec)?;
            write_wal(spec, new, &wal).map(SyncedWal::begin)
        });
        let suspicion = threads::beside_in(scope, || match closed.admission {
            Admission::AfterQuarantine => quarantine::suspicion(pages, &new.state, new.start, spec),
            Admission::Everybody | Admission::Nobody => Ok(Suspicion::default()),
        });
        let exposed = threads::beside_in(scope, || {
            if closed.guarded {
                Ok(false)
            } else {
                predefined::is_exposed(pages, major, &new.state, new.start)
            }
        });
        let file_system = fill(spec, new, pages, major, &checkpoint);
        let (wal, suspicion, exposed) = (wal.join()?, suspicion.join()?, exposed.join()?);
        let file_system = file_system?;
        let (now, opening) = confs(spec, major, closed, (suspicion, exposed));
        for (name, text) in now {
            datadir::write(&file_system, name, text.as_bytes())?;
        }
        let suspect = suspicion.is_any();
        let standby = spec.read_only && matches!(opening, Opening::Nothing);
        if standby {
            datadir::write(&file_system, "standby.signal", b"")?;
        }
        Ok((file_system, Prepared { wal, opening, suspect, exposed, standby }))
    })
}

/// What Postgres starts with, and what lets clients in.
fn confs(
    spec: &EndpointSpec,
    major: &Major,
    closed: Closed,
    (suspicion, exposed): (Suspicion, bool),
) -> (Vec<(&'static str, String)>, Opening) {
    let files = |acts: &Acts, open| {
        let conf = config::postgresql_conf(spec, major, acts);
        vec![("postgresql.conf", conf), ("pg_hba.conf", config::pg_hba_conf(spec, open))]
    };
    if closed.admission == Admission::Nobody {
        return (files(&Acts::hidden(spec), false), Opening::Nothing);
    }
    let all = if closed.held { Acts::held(spec) } else { Acts::all() };
    // A library may forbid a password.
    let quiet = suspicion.is_any() || closed.passwords_due;
    if !quiet && !exposed {
        return (files(&all, true), Opening::Nothing);
    }
    // Where there surely is no subscription, none has to be kept from running.
    let none = Acts::none(all.subscriptions && !suspicion.subscriptions);
    let again = suspicion.subscriptions || closed.held || !libraries::preloaded(&spec.settings).is_empty();
    let opening =
        if spec.read_only || quiet && again { Opening::Start } else { Opening::Files(files(&all, true)) };
    (files(if quiet { &none } else { &all }, false), opening)
}

/// The file system with everything in it.
fn fill(
    spec: &EndpointSpec,
    new: &NewTimeline,
    pages: &Arc<Client>,
    major: &Major,
    checkpoint: &ShutdownCheckpoint<'_>,
) -> Result<FileSystem, Error> {
    let own = || (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let (uid, gid) = spec.run_as.unwrap_or_else(own);
    let options = fs::Options {
        overlay_dir: spec.dir.clone(),
        uid,
        gid,
        version_dir: datadir::version_directory(major),
    };
    let source = StorePages { client: Arc::clone(pages), lsn: new.start };
    let file_system = FileSystem::new(options, Arc::new(source)).while_(|| "make the overlay".to_owned())?;
    datadir::fill(&file_system, &new.state, major)?;
    let control = control::shut_down_at(&new.control_template, checkpoint)?;
    datadir::write(&file_system, "global/pg_control", &control)?;
    datadir::write(&file_system, "postgresql.auto.conf", b"")?;
    datadir::write(&file_system, "pg_ident.conf", b"")?;
    file_system.symlink("pg_wal", &spec.wal_dir()).while_(|| "link pg_wal".to_owned())?;
    Ok(file_system)
}

fn make_directories(spec: &EndpointSpec) -> Result<(), Error> {
    // A killed server leaves its socket and that one's lock file. Postgres refuses to start beside them for as long as
    // there is a process of the number in it, be it a zombie or a stranger; we know from `postgres.lock` that none of
    // its processes lives.
    remove_dir(&spec.socket_dir())?;
    for directory in
        [spec.socket_dir(), spec.wal_dir(), spec.mount_dir(), spec.wal_dir().join("archive_status")]
    {
        make_dir(&directory, spec)?;
    }
    if let Some(tls) = &spec.tls {
        let copies = config::tls_files(spec);
        for (from, to) in [(&tls.certificate, &copies.certificate), (&tls.key, &copies.key)] {
            let bytes = std::fs::read(from).while_(|| format!("read {}", from.display()))?;
            write_file(to, &bytes, bytes.len() as u64, spec)?;
        }
    }
    set_mode(&spec.dir, 0o711) // the server's user must get through
}

/// Writes the first segment files and the history file of the new timeline; returns what must be synced.
fn write_wal(spec: &EndpointSpec, new: &NewTimeline, wal: &FirstWal) -> Result<Vec<PathBuf>, Error> {
    let directory = spec.wal_dir();
    let mut written = Vec::new();
    for (segment, bytes) in &wal.segments {
        let path = directory.join(segment_name(new.timeline, *segment, new.segment_bytes));
        write_file(&path, bytes, new.segment_bytes, spec)?;
        written.push(path);
    }
    let history = segment::history_file(&new.history);
    let path = directory.join(history_name(new.timeline));
    write_file(&path, history.as_bytes(), history.len() as u64, spec)?;
    written.extend([path, directory, spec.dir.clone()]);
    Ok(written)
}

fn write_file(path: &Path, bytes: &[u8], len: u64, spec: &EndpointSpec) -> Result<(), Error> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.set_len(len)
    });
    written.while_(|| format!("write {}", path.display()))?;
    give_to_server(path, 0o600, spec)
}

fn make_dir(path: &Path, spec: &EndpointSpec) -> Result<(), Error> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        // A dead mount: `fs::mount` removes it; its directory was given to the server when it was made.
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => return Ok(()),
        other => other.while_(|| format!("create {}", path.display()))?,
    }
    match give_to_server(path, 0o700, spec) {
        Err(Error::Io { source, .. }) if source.raw_os_error() == Some(libc::ENOTCONN) => Ok(()),
        other => other,
    }
}

fn give_to_server(path: &Path, mode: u32, spec: &EndpointSpec) -> Result<(), Error> {
    set_mode(path, mode)?;
    if let Some((uid, gid)) = spec.run_as {
        std::os::unix::fs::chown(path, Some(uid), Some(gid))
            .while_(|| format!("give {} away", path.display()))?;
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).while_(|| format!("set the mode of {}", path.display()))
}
