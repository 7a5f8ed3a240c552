//! `postgresql.conf`, `pg_hba.conf` and the limits they put on where an endpoint may live.
//!
//! Three layers, later lines win: our defaults, the endpoint's own settings, what must hold for the log to stay the
//! database (sockets, no archiving by a branch, no restart inside Postgres: data files of a crashed server are
//! thrown away, so only the agent may start it again). Behind them comes what keeps a server from acting by itself, while
//! what it inherited was not put to rest.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use wal::Major;

use crate::cluster::{libraries, major};
use crate::error::Error;
use crate::shipping::room;
use crate::spec::{Admission, EndpointSpec, TlsFiles};

/// Longest path of a unix socket on Linux (`sun_path` less its final zero).
const SOCKET_PATH_MAX: usize = 107;

/// WAL that the slots of others may keep on disk, as a multiple of what may wait for the store: the slot of the store, which
/// the same setting holds for, is never that far behind.
const SLOTS_KEEP_TIMES: u64 = 2;
/// See `SLOTS_KEEP_TIMES`.
const SLOTS_KEEP_LEAST: u64 = 1 << 30;

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
    ("recovery_init_sync_method", "syncfs"),
    ("hot_standby", "on"),
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
];

/// What of a server may act by itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Acts {
    /// Subscriptions.
    pub subscriptions: bool,
    /// The libraries it preloads; those of its settings if that is not said.
    pub preload: Option<String>,
    /// Background workers of any library.
    pub workers: bool,
}

impl Acts {
    /// All that its settings say.
    pub fn all() -> Self {
        Self { subscriptions: true, preload: None, workers: true }
    }

    /// Nothing that its data could make act: it preloads nothing.
    pub fn none(subscriptions: bool) -> Self {
        Self { subscriptions, preload: Some(String::new()), workers: true }
    }

    /// As much as is safe where what it inherited could not be put to rest.
    pub fn held(spec: &EndpointSpec) -> Self {
        let acting = libraries::acting(spec);
        let mut safe = libraries::preloaded(&spec.settings);
        safe.retain(|library| !acting.contains(library));
        Self { subscriptions: false, preload: Some(quoted(&safe)), workers: true }
    }

    /// What a server that only scion looks at may do: the libraries in its settings are there because its work needs
    /// them, and their workers are not.
    pub fn hidden(spec: &EndpointSpec) -> Self {
        let workers = libraries::preloaded(&spec.settings).is_empty();
        Self { subscriptions: false, preload: None, workers }
    }
}

fn quoted(libraries: &[&str]) -> String {
    let quoted: Vec<String> = libraries.iter().map(|library| format!("\"{library}\"")).collect();
    quoted.join(", ")
}

/// What else an endpoint has whatever is asked for, as it is different for each.
const OWN: &[&str] = &["port", "ssl", "unix_socket_directories"];

/// Whether an endpoint has a setting whatever is asked for, so that asking for it would have no effect. The name is in
/// lower case.
pub fn is_fixed(name: &str) -> bool {
    OWN.contains(&name) || FIXED.iter().any(|(fixed, _)| *fixed == name)
}

/// Content of a `postgresql.conf` with these settings for a server that is started to see whether it starts, and that
/// nobody reaches. `control` is the `pg_control` of a cluster of its major.
///
/// # Errors
/// `Answer` for a `pg_control` of a major that is not known.
pub fn trial_conf(settings: &BTreeMap<String, String>, control: &[u8]) -> Result<String, Error> {
    let major = wal::control::major_of(control)?;
    let mut out = String::new();
    settings_into(&mut out, settings, major);
    for name in ["listen_addresses", "unix_socket_directories"] {
        out.push_str(&line(name, ""));
    }
    Ok(out)
}

fn line(name: &str, value: &str) -> String {
    format!("{name} = '{}'\n", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// The three layers.
fn settings_into(out: &mut String, settings: &BTreeMap<String, String>, major: &Major) {
    for (name, value) in DEFAULTS.iter().chain(major::defaults(major)) {
        out.push_str(&line(name, value));
    }
    if libraries::preloads(settings, "pg_cron") {
        // It would connect over TCP, where no superuser is let in.
        out.push_str(&line("cron.use_background_workers", "on"));
    }
    for (name, value) in settings {
        out.push_str(&line(name, value));
    }
    for (name, value) in FIXED {
        out.push_str(&line(name, value));
    }
}

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

/// Content of `postgresql.conf` of a server of which this may act by itself.
pub fn postgresql_conf(spec: &EndpointSpec, major: &Major, acts: &Acts) -> String {
    let mut out = String::from(
        "# Written by scion at every start; changes here are lost. ALTER SYSTEM likewise.\n\
                      # A base backup that is to be started elsewhere needs full_page_writes = on and\n\
                      # restart_after_crash = on: the store, not the disk, holds what a crash could tear here.\n",
    );
    settings_into(&mut out, &spec.settings, major);
    let mut line = |name: &str, value: &str| out.push_str(&line(name, value));
    if spec.logical {
        line("wal_level", "logical");
    }
    if let Some(libraries) = &acts.preload {
        line(libraries::PRELOAD, libraries);
    }
    if !acts.subscriptions {
        line("max_logical_replication_workers", "0");
    }
    if !acts.workers {
        line("max_worker_processes", "0");
    }
    if spec.admission == Admission::Nobody {
        // Scion itself comes over the socket, and a port is somebody's who needs it.
        line("listen_addresses", "");
    }
    let slots_keep = room::limit_bytes().saturating_mul(SLOTS_KEEP_TIMES).max(SLOTS_KEEP_LEAST) >> 20;
    line("max_slot_wal_keep_size", &format!("{slots_keep}MB"));
    line("port", &spec.port.to_string());
    // A list, whose entries are quoted as identifiers are: a path may begin or end with a blank.
    let sockets = spec.socket_dir().to_string_lossy().replace('"', "\"\"");
    line("unix_socket_directories", &format!("\"{sockets}\""));
    out
}

/// The copies of a certificate and its key that Postgres reads: beside its socket, where its user alone gets. Whoever may
/// replicate may take a base backup, so nothing that is not the database's own is in the data directory.
pub fn tls_files(spec: &EndpointSpec) -> TlsFiles {
    let directory = spec.socket_dir();
    TlsFiles { certificate: directory.join("server.crt"), key: directory.join("server.key") }
}

/// Settings that Postgres is told as it starts and that no file of the data directory has: a base backup would look for
/// files that are not in it.
pub fn arguments(spec: &EndpointSpec) -> Vec<OsString> {
    let Some(_) = &spec.tls else { return Vec::new() };
    let tls = tls_files(spec);
    let paths = [("ssl_cert_file", tls.certificate), ("ssl_key_file", tls.key)];
    let paths = paths.map(|(name, path)| [OsStr::new(name), path.as_os_str()].join(OsStr::new("=")));
    [OsString::from("ssl=on")].into_iter().chain(paths).flat_map(|set| [OsString::from("-c"), set]).collect()
}

/// Content of `pg_hba.conf`: the private socket is trusted, the superuser cannot come in over TCP, nor can who replicates
/// the cluster without `spec.logical`; while it is not `open`, nobody can.
pub fn pg_hba_conf(spec: &EndpointSpec, open: bool) -> String {
    let superuser = &spec.superuser;
    let mut out = String::from("local all all trust\nlocal replication all trust\n");
    if !open {
        return out;
    }
    for network in ["127.0.0.1/32", "::1/128"] {
        out.push_str(&format!("host all \"{superuser}\" {network} reject\n"));
        out.push_str(&format!("host all all {network} scram-sha-256\n"));
        if spec.logical {
            out.push_str(&format!("host replication \"{superuser}\" {network} reject\n"));
            out.push_str(&format!("host replication all {network} scram-sha-256\n"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(settings: &[(&str, &str)]) -> EndpointSpec {
        let settings =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        EndpointSpec {
            project: String::new(),
            branch: String::new(),
            endpoint: String::new(),
            dir: "/e".into(),
            serve_socket: "/s".into(),
            pg_bin: "/usr/lib/postgresql/15/bin".into(),
            port: 5432,
            run_as: None,
            superuser: "postgres".to_owned(),
            admission: Admission::Everybody,
            passwords: Default::default(),
            tls: None,
            read_only: false,
            reaches: Vec::new(),
            owner_extensions: Vec::new(),
            logical: false,
            settings,
        }
    }

    /// The value that Postgres takes: the last.
    fn value(spec: &EndpointSpec, acts: &Acts, name: &str) -> Option<String> {
        let text = postgresql_conf(spec, wal::major::of(15).unwrap(), acts);
        let of =
            |line: &str| Some(line.strip_prefix(name)?.strip_prefix(" = ")?.trim_matches('\'').to_owned());
        text.lines().filter_map(of).next_back()
    }

    #[test]
    fn nothing_is_taken_from_a_server_that_has_nothing_to_fear() {
        let spec =
            spec(&[("shared_preload_libraries", "pg_prewarm"), ("max_logical_replication_workers", "2")]);
        let all = |name| value(&spec, &Acts::all(), name);
        assert_eq!(all("shared_preload_libraries").as_deref(), Some("pg_prewarm"));
        assert_eq!(all("max_logical_replication_workers").as_deref(), Some("2"));
        assert_eq!(all("max_worker_processes"), None);
    }

    #[test]
    fn what_may_not_act_wins_over_what_is_set() {
        let libraries = "nobody_knows,auto_explain,pg_prewarm";
        let spec = spec(&[("shared_preload_libraries", libraries), ("max_logical_replication_workers", "2")]);
        let of = |acts: &Acts, name| value(&spec, acts, name).unwrap_or_default();
        assert_eq!(of(&Acts::none(false), "shared_preload_libraries"), "");
        assert_eq!(of(&Acts::none(false), "max_logical_replication_workers"), "0");
        assert_eq!(of(&Acts::none(true), "max_logical_replication_workers"), "2");
        let held = Acts::held(&spec);
        assert_eq!(of(&held, "shared_preload_libraries"), "\"auto_explain\", \"pg_prewarm\"");
        assert_eq!(of(&held, "max_logical_replication_workers"), "0");
        let hidden = Acts::hidden(&spec);
        assert_eq!(of(&hidden, "shared_preload_libraries"), libraries);
        assert_eq!(of(&hidden, "max_worker_processes"), "0");
    }

    #[test]
    fn jobs_of_pg_cron_run_in_workers_unless_somebody_says_otherwise() {
        let name = "cron.use_background_workers";
        let of = |spec: EndpointSpec| value(&spec, &Acts::all(), name);
        assert_eq!(of(spec(&[])), None);
        assert_eq!(of(spec(&[("shared_preload_libraries", "pg_cron")])).as_deref(), Some("on"));
        assert_eq!(
            of(spec(&[("shared_preload_libraries", "pg_cron"), (name, "off")])).as_deref(),
            Some("off")
        );
    }
}
