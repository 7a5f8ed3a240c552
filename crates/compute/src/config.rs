//! `postgresql.conf`, `pg_hba.conf` and the limits they put on where an endpoint may live.
//!
//! Three layers, later lines win: our defaults, the endpoint's own settings, what must hold for the log to stay the
//! database (sockets, no archiving by a branch, no restart inside Postgres: data files of a crashed server are
//! thrown away, so only the agent may start it again).

use crate::error::Error;
use crate::major::Major;
use crate::spec::{Admission, EndpointSpec};

/// Longest path of a unix socket on Linux (`sun_path` less its final zero).
const SOCKET_PATH_MAX: usize = 107;

/// Overridable. Only WAL needs to survive a crash, so pages are never written into it whole.
const DEFAULTS: &[(&str, &str)] = &[
    ("shared_buffers", "128MB"),
    ("max_wal_size", "4GB"),
    ("checkpoint_timeout", "15min"),
    ("wal_keep_size", "1GB"),
    ("max_prepared_transactions", "64"),
    ("max_replication_slots", "10"),
    ("max_wal_senders", "12"),
    ("wal_level", "replica"),
    ("dynamic_shared_memory_type", "posix"),
    ("password_encryption", "scram-sha-256"),
    ("log_line_prefix", "%m [%p] "),
    ("fsync", "on"),
];

/// Not overridable. Tablespaces are directories in place, so a base backup of the endpoint can only be recovered by a
/// server that allows them.
const FIXED: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_permissions", "0700"),
    ("full_page_writes", "off"),
    ("allow_in_place_tablespaces", "on"),
    ("wal_recycle", "on"),
    ("restart_after_crash", "off"),
    ("archive_mode", "off"),
    ("max_logical_replication_workers", "0"),
    ("recovery_init_sync_method", "syncfs"),
    ("hot_standby", "on"),
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
];

/// Refuses a spec whose paths or settings Postgres would choke on.
///
/// # Errors
/// `Spec`, with what to change.
pub fn check(spec: &EndpointSpec) -> Result<(), Error> {
    let socket = socket_path(spec);
    let len = socket.as_os_str().len();
    if len > SOCKET_PATH_MAX {
        let text = format!(
            "unix socket path {} has {len} bytes, the limit is {SOCKET_PATH_MAX}; use a shorter data directory",
            socket.display()
        );
        return Err(Error::Spec(text));
    }
    if !spec.dir.is_absolute() {
        return Err(Error::Spec(format!("endpoint directory {} is not absolute", spec.dir.display())));
    }
    for (name, value) in &spec.settings {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
        if name.is_empty() || !name.bytes().all(word) || value.contains(['\n', '\r', '\0']) {
            return Err(Error::Spec(format!("{name:?} = {value:?} is no setting of Postgres")));
        }
    }
    if spec.read_only && spec.admission == Admission::Nobody {
        return Err(Error::Spec("an endpoint that only reads is for clients".to_owned()));
    }
    if spec.superuser.contains(['\n', '\r', '"', '\0']) || spec.superuser.is_empty() {
        return Err(Error::Spec(format!("superuser name {:?} cannot be used", spec.superuser)));
    }
    Ok(())
}

/// The server's unix socket.
pub fn socket_path(spec: &EndpointSpec) -> std::path::PathBuf {
    spec.socket_dir().join(format!(".s.PGSQL.{}", spec.port))
}

/// Content of `postgresql.conf`; while it is not `open`, nothing acts by itself.
pub fn postgresql_conf(spec: &EndpointSpec, major: &Major, open: bool) -> String {
    let mut out = String::from(
        "# Written by scion at every start; changes here are lost. ALTER SYSTEM likewise.\n\
                      # A base backup that is to be started elsewhere needs full_page_writes = on and\n\
                      # restart_after_crash = on: the store, not the disk, holds what a crash could tear here.\n",
    );
    let mut line = |name: &str, value: &str| {
        out.push_str(&format!("{name} = '{}'\n", value.replace('\\', "\\\\").replace('\'', "''")));
    };
    for (name, value) in DEFAULTS.iter().chain(major.defaults) {
        line(name, value);
    }
    for (name, value) in &spec.settings {
        line(name, value);
    }
    for (name, value) in FIXED {
        line(name, value);
    }
    if !open {
        line("cron.launch_active_jobs", "off");
    }
    // The files have the names that Postgres looks for.
    line("ssl", if spec.tls.is_some() { "on" } else { "off" });
    line("port", &spec.port.to_string());
    // A list, whose entries are quoted as identifiers are: a path may begin or end with a blank.
    let sockets = spec.socket_dir().to_string_lossy().replace('"', "\"\"");
    line("unix_socket_directories", &format!("\"{sockets}\""));
    out
}

/// Content of `pg_hba.conf`: the private socket is trusted, the superuser cannot come in over TCP; while it is not
/// `open`, nobody can.
pub fn pg_hba_conf(spec: &EndpointSpec, open: bool) -> String {
    let superuser = &spec.superuser;
    let mut out = String::from("local all all trust\nlocal replication all trust\n");
    if !open {
        return out;
    }
    for network in ["127.0.0.1/32", "::1/128"] {
        out.push_str(&format!("host all \"{superuser}\" {network} reject\n"));
        out.push_str(&format!("host all all {network} scram-sha-256\n"));
    }
    out
}
