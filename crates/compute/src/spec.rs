//! What `scion serve` tells a `scion compute` process: one JSON file, written before the process starts.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// Everything one endpoint needs to know to run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EndpointSpec {
    /// Project of the branch.
    pub project: String,
    /// Branch this endpoint computes on.
    pub branch: String,
    /// The endpoint's id.
    pub endpoint: String,
    /// The endpoint's own directory (absolute), `DIR/endpoints/<endpoint>`.
    pub dir: PathBuf,
    /// Socket of the page service in `scion serve`.
    pub serve_socket: PathBuf,
    /// Directory with the `postgres` binary.
    pub pg_bin: PathBuf,
    /// TCP port on 127.0.0.1.
    pub port: u16,
    /// User and group id Postgres runs as; `None` keeps those of this process.
    pub run_as: Option<(u32, u32)>,
    /// Name of the cluster's superuser, trusted on the private socket only.
    pub superuser: String,
    /// Who is let in over TCP, and when.
    #[serde(default)]
    pub admission: Admission,
    /// Passwords that its roles get before anybody is let in over TCP.
    #[serde(default)]
    pub passwords: Passwords,
    /// What Postgres shows clients that ask for TLS; without it none is offered.
    #[serde(default)]
    pub tls: Option<TlsFiles>,
    /// Whether it only reads: its Postgres is a hot standby that nobody sends WAL to, so it shows the branch as it was at
    /// the start. For a branch that nothing else writes.
    #[serde(default)]
    pub read_only: bool,
    /// What else of this machine its Postgres may reach, where the kernel holds it to its own directories.
    #[serde(default)]
    pub reaches: Vec<PathBuf>,
    /// Extensions that whoever may create in a database may add to it, whatever their packages say.
    #[serde(default)]
    pub owner_extensions: Vec<String>,
    /// Whether others may replicate it: its log holds what logical decoding needs, whatever its settings say, and the roles
    /// that scion made are allowed to.
    #[serde(default)]
    pub logical: bool,
    /// Extra lines of `postgresql.conf`; they win over scion's own.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

/// Who is let in over TCP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Admission {
    /// Everybody with a password.
    #[default]
    Everybody,
    /// The same, once what the branch inherited was put to rest.
    AfterQuarantine,
    /// Nobody: scion itself looks at it, over its socket.
    Nobody,
}

/// Passwords that the data of a branch does not have yet, by what Postgres keeps of them.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Passwords {
    /// Verifiers, by the name of their role. One whose role is not there belongs to nobody.
    pub verifiers: BTreeMap<String, String>,
    /// Whether every other role loses the password that the data has for it.
    pub no_others: bool,
}

impl Passwords {
    /// True if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Names only.
impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords")
            .field("of", &self.verifiers.keys())
            .field("no_others", &self.no_others)
            .finish()
    }
}

/// A certificate and its key as PEM files that this process can read. Postgres gets copies beside its socket.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TlsFiles {
    /// The certificate, and those that vouch for it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Of a certificate and its key: which files they are, how long, and when they were changed.
pub type TlsVersion = [(u64, u64, SystemTime); 2];

impl TlsFiles {
    /// How both files are now. A pair that takes the place of another has another version.
    ///
    /// # Errors
    /// Those of the file system, if one is not there.
    pub fn version(&self) -> io::Result<TlsVersion> {
        let of = |path: &Path| {
            let metadata = std::fs::metadata(path)?;
            Ok::<_, io::Error>((metadata.ino(), metadata.len(), metadata.modified()?))
        };
        Ok([of(&self.certificate)?, of(&self.key)?])
    }
}

impl EndpointSpec {
    /// Where the data directory is mounted.
    pub fn mount_dir(&self) -> PathBuf {
        self.dir.join("mnt")
    }

    /// Where Postgres writes WAL, on plain disk.
    pub fn wal_dir(&self) -> PathBuf {
        self.dir.join("pg_wal")
    }

    /// Directory of the unix socket, readable by the server's user only.
    pub fn socket_dir(&self) -> PathBuf {
        self.dir.join("sock")
    }

    /// Socket of the control protocol.
    pub fn control_socket(&self) -> PathBuf {
        control_socket(&self.dir)
    }

    /// Standard output and error of `postgres`.
    pub fn postgres_log(&self) -> PathBuf {
        self.dir.join("postgres.log")
    }

    /// Standard output and error of this process.
    pub fn compute_log(&self) -> PathBuf {
        self.dir.join("compute.log")
    }
}

/// Socket of the control protocol of the endpoint in `dir`.
pub fn control_socket(dir: &Path) -> PathBuf {
    dir.join("control.sock")
}
