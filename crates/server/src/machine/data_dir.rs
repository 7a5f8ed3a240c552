//! The data directory: which file is where, who may read it, and that only one server uses it.
//!
//! ```text
//! DIR/lock              held by the running server
//! DIR/api-key           the bearer key, 0600
//! DIR/tls-cert.pem      certificate that endpoints show; its key beside it, 0600
//! DIR/server.json       url and pid of the running server
//! DIR/scion.sqlite      metadata, 0600
//! DIR/serve.sock        page service, 0600
//! DIR/projects/<id>/    store of a project
//! DIR/endpoints/<id>/   files of an endpoint
//! DIR/bootstrap/<id>/   cluster that is about to become a project
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::names;

/// Longest path of a data directory. Sockets below it have names of at most 107 bytes, and whether one fits must not
/// depend on the words in an endpoint's id.
const PATH_BYTES: usize = 107 - "/endpoints/ep-wandering-butterfly-12345678/sock/.s.PGSQL.65535".len();

/// A data directory that this process holds the lock of.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// What `server.json` says.
#[derive(Debug, Serialize, Deserialize)]
pub struct ServerFile {
    /// Where the server listens.
    pub url: String,
    /// Its process id.
    pub pid: u32,
    /// The certificate it shows, if it speaks TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Where its Postgres servers are: `MAJOR=DIR`, as `--pg-bin` takes them.
    #[serde(default)]
    pub pg_bin: Vec<String>,
}

impl DataDir {
    /// Makes the directory if it is missing and takes its lock.
    ///
    /// # Errors
    /// `Busy` if another server holds it, `Malformed` if its path is too long or has a comma; else those of the file
    /// system.
    pub fn open(path: &Path) -> Result<Self> {
        // What is for others is given to them by name.
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
        fs::create_dir_all(path).map_err(Error::io(format!("create {}", path.display())))?;
        let path = path.canonicalize().map_err(Error::io(format!("open {}", path.display())))?;
        if path.as_os_str().len() > PATH_BYTES {
            let text = format!("{} is too long for the sockets below it", path.display());
            let hint = format!("hint: name a data directory of at most {PATH_BYTES} bytes with --data-dir");
            return Err(Error::malformed(format!("{text}\n{hint}")));
        }
        if path.as_os_str().as_encoded_bytes().contains(&b',') {
            let text =
                format!("{} has a comma in it, which clients take for the end of a host", path.display());
            let hint = "hint: name a data directory without a comma with --data-dir";
            return Err(Error::malformed(format!("{text}\n{hint}")));
        }
        let lock_path = path.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
        let lock = lock.map_err(Error::io(format!("open {}", lock_path.display())))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            let hint = "hint: `scion status` shows it, `scion stop` stops it";
            Error::busy(format!("another scion serve uses {}\n{hint}", path.display()))
        })?;
        let dir = Self { path, _lock: lock };
        // Postgres runs as another user when the server is root: it must be able to pass through, not to look.
        let mode = if rustix::process::geteuid().is_root() { 0o711 } else { 0o700 };
        dir.make(dir.path.clone(), mode)?;
        for (name, mode) in [("projects", 0o700), ("endpoints", mode), ("bootstrap", mode)] {
            dir.make(dir.path.join(name), mode)?;
        }
        Ok(dir)
    }

    fn make(&self, path: PathBuf, mode: u32) -> Result<()> {
        fs::create_dir_all(&path)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .map_err(Error::io(format!("create {}", path.display())))
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Metadata.
    pub fn metadata(&self) -> PathBuf {
        self.path.join("scion.sqlite")
    }

    /// Socket of the page service.
    pub fn serve_socket(&self) -> PathBuf {
        self.path.join("serve.sock")
    }

    /// Store of a project.
    pub fn project(&self, id: &str) -> PathBuf {
        self.path.join("projects").join(id)
    }

    /// Files of an endpoint.
    pub fn endpoint(&self, id: &str) -> PathBuf {
        self.path.join("endpoints").join(id)
    }

    /// Cluster that is about to become a project.
    pub fn bootstrap(&self, project: &str) -> PathBuf {
        self.path.join("bootstrap").join(project)
    }

    /// Names in one of the three directories.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn names_in(&self, kind: &str) -> Result<Vec<String>> {
        let path = self.path.join(kind);
        let list = || -> io::Result<Vec<String>> {
            fs::read_dir(&path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        };
        list().map_err(Error::io(format!("list {}", path.display())))
    }

    /// The API key; made at the first call ever.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn api_key(&self) -> Result<String> {
        let path = self.path.join("api-key");
        match fs::read_to_string(&path) {
            Ok(key) if !key.trim().is_empty() => Ok(key.trim().to_owned()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(format!("read {}", path.display()))(error))
            }
            _ => {
                let key = names::api_key()?;
                self.write("api-key", format!("{key}\n").as_bytes(), 0o600)?;
                Ok(key)
            }
        }
    }

    /// Tells clients where the server is.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_server_file(&self, file: &ServerFile) -> Result<()> {
        let text = serde_json::to_vec(file).map_err(|error| Error::internal(error.to_string()))?;
        self.write("server.json", &text, 0o644)
    }

    /// Takes back what `write_server_file` wrote.
    pub fn remove_server_file(&self) {
        let _ = fs::remove_file(self.path.join("server.json"));
    }

    fn write(&self, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
        write_whole(&self.path.join(name), bytes, mode)
    }
}

/// Writes a file so that a reader finds either the old or the whole new content.
///
/// # Errors
/// Those of the file system.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let write = || -> io::Result<()> {
        let mut file = File::options().create(true).write(true).truncate(true).mode(mode).open(&new)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(Error::io(format!("write {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_path_that_no_socket_can_have_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        for name in ["d".repeat(PATH_BYTES), "a,b".to_owned()] {
            let error = DataDir::open(&temp.path().join(name)).unwrap_err();
            assert!(
                error.kind == Kind::Malformed && error.message.contains("--data-dir"),
                "{}",
                error.message
            );
        }
    }

    #[test]
    fn a_directory_has_one_server_and_one_key() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temp.path()).unwrap();
        assert_eq!(DataDir::open(temp.path()).unwrap_err().kind, Kind::Busy);
        let key = dir.api_key().unwrap();
        assert!(key.starts_with("scion_"));
        assert_eq!(dir.api_key().unwrap(), key);
        let mode = fs::metadata(temp.path().join("api-key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(dir);
        assert_eq!(DataDir::open(temp.path()).unwrap().api_key().unwrap(), key);
    }
}
