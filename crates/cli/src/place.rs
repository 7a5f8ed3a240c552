//! Where the server is: its address and key, from the environment or from its data directory.
//!
//! `SCION_API` (or `--api`) names a server anywhere; otherwise the data directory holds `server.json` with the address
//! and process id of the server that runs on it, and `api-key` with the key.

use std::path::{Path, PathBuf};

use server::ServerFile;

use crate::failure::{self, Failure, Kind};
use crate::global::Global;

/// How to reach a server.
pub struct Server {
    /// Address without a trailing slash and without `/api/v2`.
    pub url: String,
    /// Bearer key.
    pub key: String,
    /// Certificates to trust, when the address is `https://`.
    pub certificates: PathBuf,
}

/// Where Debian and others keep the certificates of authorities.
const SYSTEM_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The data directory named on the command line, or this user's default.
pub fn data_dir(global: &Global) -> Result<PathBuf, Failure> {
    if let Some(dir) = &global.data_dir {
        return Ok(dir.clone());
    }
    if is_root() {
        return Ok(PathBuf::from("/var/lib/scion"));
    }
    match std::env::var_os("HOME").filter(|home| !home.is_empty()) {
        Some(home) => Ok(PathBuf::from(home).join(".local/share/scion")),
        None => Err(Failure::new(Kind::Usage, "HOME is not set, so there is no default data directory")
            .hint("name one with --data-dir DIR")),
    }
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The server this command line means.
pub fn server(global: &Global) -> Result<Server, Failure> {
    if let Some(api) = &global.api {
        return Ok(Server {
            url: normalized(api)?,
            key: key(global)?,
            certificates: certificates(global, None),
        });
    }
    let dir = data_dir(global)?;
    let file = server_json(&dir)?.ok_or_else(|| none_here(&dir))?;
    let certificates = certificates(global, file.certificate);
    Ok(Server { url: normalized(&file.url)?, key: key(global)?, certificates })
}

fn certificates(global: &Global, shown: Option<PathBuf>) -> PathBuf {
    global.api_cert.clone().or(shown).unwrap_or_else(|| PathBuf::from(SYSTEM_CERTIFICATES))
}

/// The contents of `server.json`, if there is one.
pub fn server_json(dir: &Path) -> Result<Option<ServerFile>, Failure> {
    let path = dir.join("server.json");
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Failure::new(Kind::Failed, format!("{} is damaged: {error}", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failure::io(format!("read {}", path.display()), &error)
            .hint("run as the user who runs `scion serve`, or set SCION_API and SCION_API_KEY")),
    }
}

fn none_here(dir: &Path) -> Failure {
    Failure::new(Kind::Unreachable, format!("no server runs on {}", dir.display())).hint(format!(
        "start one with `scion serve --data-dir {}`, or name another with --data-dir or SCION_API",
        dir.display()
    ))
}

fn key(global: &Global) -> Result<String, Failure> {
    if let Some(key) = &global.api_key {
        return Ok(key.trim().to_owned());
    }
    let path = data_dir(global)?.join("api-key");
    std::fs::read_to_string(&path).map(|key| key.trim().to_owned()).map_err(|error| {
        let mut failure = failure::io(format!("read the key {}", path.display()), &error);
        failure.kind = Kind::Usage;
        failure.hint("set SCION_API_KEY, or run as the user who runs `scion serve`")
    })
}

fn normalized(url: &str) -> Result<String, Failure> {
    let url = url.trim().trim_end_matches('/');
    let url = url.strip_suffix("/api/v2").unwrap_or(url);
    if url.starts_with("http://") || url.starts_with("https://") {
        return Ok(url.to_owned());
    }
    if url.contains("://") || url.is_empty() {
        return Err(Failure::new(Kind::Usage, format!("{url:?} is not an address of a server"))
            .hint("write it like http://127.0.0.1:7080"));
    }
    Ok(format!("http://{url}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_accepted_as_people_write_them() {
        for text in ["http://h:1", "http://h:1/", "http://h:1/api/v2", "http://h:1/api/v2/", "h:1"] {
            assert_eq!(normalized(text).ok().as_deref(), Some("http://h:1"), "{text}");
        }
        assert_eq!(normalized("https://h/").ok().as_deref(), Some("https://h"));
        for text in ["", "ftp://h"] {
            assert_eq!(normalized(text).map_err(|f| f.kind).err(), Some(Kind::Usage), "{text}");
        }
    }
}
