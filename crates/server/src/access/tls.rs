//! The certificate that endpoints show their clients, and the HTTP side if it speaks TLS.
//!
//! The certificate is made at the first start of the server and kept, or named by the server's user. A made certificate
//! signs itself: a client that wants to be sure of the server names the file as its root certificate, and channel binding
//! ties a login to the certificate. A certificate that lacks a name asked for is made again with the same key.
//!
//! What must hold
//! - The key is 0600 and stays where it is: an endpoint gets it as a file in its own file system.
//! - Half of a pair is never left: the key is written first, the certificate says that both are there.
//!
//! - Whoever connects to the API after the files were replaced gets what is in them. Files that are no pair, as between the
//!   one and the other, change nothing, and the log says so.
//!
//! Not here: what Postgres is told of it (`compute::config`), and how it gets another (`compute::agent::certificate`).

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum_server::tls_rustls::RustlsConfig;
use compute::{TlsFiles, TlsVersion};
use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::error::{Error, Result};
use crate::limits::CERTIFICATE_EVERY;
use crate::machine::data_dir::write_whole;
use crate::machine::life::Life;

/// Names and addresses of this machine's loopback, where endpoints listen.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The pair that was named, once it is known to be one; else the one in `dir`, made if it is not there or lacks one of
/// `names`.
///
/// # Errors
/// `Malformed` for files that are no certificate and key, and for a name that no certificate can have; those of the
/// file system.
pub fn certificate(dir: &Path, named: Option<&TlsFiles>, names: &[String]) -> Result<TlsFiles> {
    if let Some(files) = named {
        check(&files.certificate, "CERTIFICATE")?;
        check(&files.key, "PRIVATE KEY")?;
        return absolute(files);
    }
    let files = TlsFiles { certificate: dir.join("tls-cert.pem"), key: dir.join("tls-key.pem") };
    let key = match files.certificate.exists() {
        true if is_for(&files.certificate, names)? => return Ok(files),
        true => read_key(&files.key)?,
        false => KeyPair::generate().map_err(failed)?,
    };
    make(&files, &key, names)?;
    tracing::info!(certificate = %files.certificate.display(), "made a certificate for endpoints");
    Ok(files)
}

/// Whether a certificate that was made here is for all of `names`.
fn is_for(certificate: &Path, names: &[String]) -> Result<bool> {
    let unreadable =
        |error: &dyn std::fmt::Display| Error::internal(format!("read {}: {error}", certificate.display()));
    let der = CertificateDer::from_pem_file(certificate).map_err(|error| unreadable(&error))?;
    let parsed = webpki::EndEntityCert::try_from(&der).map_err(|error| unreadable(&error))?;
    for name in names {
        let name = ServerName::try_from(name.as_str()).map_err(|_| not_a_name(name))?;
        if parsed.verify_is_valid_for_subject_name(&name).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn read_key(path: &Path) -> Result<KeyPair> {
    let text = fs::read_to_string(path).map_err(Error::io(format!("read {}", path.display())))?;
    KeyPair::from_pem(&text).map_err(failed)
}

fn failed(error: rcgen::Error) -> Error {
    Error::internal(format!("make a certificate: {error}"))
}

fn not_a_name(name: &str) -> Error {
    let hint = "hint: give a DNS name such as db.example, or an IP address";
    Error::malformed(format!("a certificate cannot be for {name:?}\n{hint}"))
}

/// How the HTTP side speaks TLS with that pair.
///
/// # Errors
/// `Malformed` for files that are no pair.
pub fn of_http(files: &TlsFiles) -> Result<ServerConfig> {
    let unreadable = |path: &Path, error: &dyn std::fmt::Display| {
        Error::malformed(format!("{} cannot be used for TLS: {error}", path.display()))
    };
    let certificates = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| unreadable(&files.certificate, &error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| unreadable(&files.key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key))
        .map_err(|error| unreadable(&files.certificate, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The files of the API's pair, and how they were when they were read last.
pub struct Watched {
    files: TlsFiles,
    read: Option<TlsVersion>,
}

impl Watched {
    /// Files that are being read now.
    pub fn new(files: &TlsFiles) -> Self {
        Self { files: files.clone(), read: files.version().ok() }
    }

    /// The pair, if it is another than the last time, or why it is none.
    pub fn changed(&mut self) -> Option<Result<ServerConfig>> {
        let now = match self.files.version() {
            Ok(now) if self.read == Some(now) => return None,
            Ok(now) => Some(now),
            Err(_) if self.read.is_none() => return None,
            Err(_) => None,
        };
        self.read = now;
        Some(of_http(&self.files))
    }
}

/// Gives new connections to the API what is in the files now, until the process ends.
pub fn renew(life: &Life, mut watched: Watched, config: &RustlsConfig) {
    life.again_and_again(
        || std::thread::sleep(CERTIFICATE_EVERY),
        || match watched.changed() {
            None => {}
            Some(Ok(pair)) => {
                config.reload_from_config(Arc::new(pair));
                tracing::info!(certificate = %watched.files.certificate.display(), "the API has another certificate");
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "the API keeps the certificate that it has: the files that are there now are no pair");
            }
        },
    );
}

fn check(path: &Path, what: &str) -> Result<()> {
    let text = fs::read(path)
        .map_err(|error| Error::malformed(format!("{} cannot be read: {error}", path.display())))?;
    let text = String::from_utf8_lossy(&text);
    let begins =
        |line: &str| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&format!("{what}-----"));
    if text.lines().any(begins) {
        return Ok(());
    }
    let hint = "hint: name PEM files, and a key without a passphrase";
    Err(Error::malformed(format!("{} holds no {}\n{hint}", path.display(), what.to_lowercase())))
}

/// Endpoints are started from another directory.
fn absolute(files: &TlsFiles) -> Result<TlsFiles> {
    let of = |path: &Path| -> Result<PathBuf> {
        path.canonicalize().map_err(Error::io(format!("find {}", path.display())))
    };
    Ok(TlsFiles { certificate: of(&files.certificate)?, key: of(&files.key)? })
}

fn make(files: &TlsFiles, key: &KeyPair, names: &[String]) -> Result<()> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, "scion");
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(2120, 1, 1);
    for name in NAMES.into_iter().chain(names.iter().map(String::as_str)) {
        let alternative = match ServerName::try_from(name).map_err(|_| not_a_name(name))? {
            ServerName::IpAddress(address) => SanType::IpAddress(IpAddr::from(address)),
            _ => SanType::DnsName(name.try_into().map_err(failed)?),
        };
        parameters.subject_alt_names.push(alternative);
    }
    let certificate = parameters.self_signed(key).map_err(failed)?;
    write_whole(&files.key, key.serialize_pem().as_bytes(), 0o600)?;
    write_whole(&files.certificate, certificate.pem().as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_certificate_is_made_once_and_its_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let files = certificate(dir.path(), None, &[]).unwrap();
        let first = fs::read(&files.certificate).unwrap();
        assert_eq!(fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(certificate(dir.path(), None, &[]).unwrap(), files);
        assert_eq!(fs::read(&files.certificate).unwrap(), first);
        assert_eq!(
            certificate(Path::new("/nonexistent"), Some(&files), &[]).unwrap(),
            files,
            "named ones are taken"
        );
    }

    #[test]
    fn a_certificate_is_made_again_with_its_key_for_a_name_that_it_lacks() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["db.example", "192.0.2.7"].map(str::to_owned);
        let files = certificate(dir.path(), None, &names[..1]).unwrap();
        let read = || (fs::read(&files.certificate).unwrap(), fs::read(&files.key).unwrap());
        let first = read();
        assert!(is_for(&files.certificate, &["localhost".to_owned(), names[0].clone()]).unwrap());
        assert!(!is_for(&files.certificate, &names).unwrap());
        certificate(dir.path(), None, &names[..1]).unwrap();
        assert_eq!(read(), first);
        certificate(dir.path(), None, &names).unwrap();
        assert!(is_for(&files.certificate, &names).unwrap());
        let second = read();
        assert!(second.0 != first.0 && second.1 == first.1);
        of_http(&files).unwrap();
        let error = certificate(dir.path(), None, &["not a name".to_owned()]).unwrap_err();
        assert!(error.kind == Kind::Malformed && error.message.contains("not a name"), "{}", error.message);
    }

    #[test]
    fn the_pair_serves_http_and_two_halves_of_different_pairs_do_not() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files = certificate(one.path(), None, &[]).unwrap();
        of_http(&files).unwrap();
        let mixed = TlsFiles { key: certificate(other.path(), None, &[]).unwrap().key, ..files };
        assert_eq!(of_http(&mixed).unwrap_err().kind, Kind::Malformed);
    }

    #[test]
    fn files_that_were_replaced_are_read_again_once_and_half_a_pair_is_said_to_be_none() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files = certificate(one.path(), None, &[]).unwrap();
        let new = certificate(other.path(), None, &[]).unwrap();
        let mut watched = Watched::new(&files);
        assert!(watched.changed().is_none());
        fs::rename(&new.certificate, &files.certificate).unwrap();
        assert_eq!(watched.changed().unwrap().err().unwrap().kind, Kind::Malformed);
        assert!(watched.changed().is_none(), "it is said once");
        fs::rename(&new.key, &files.key).unwrap();
        assert!(watched.changed().unwrap().is_ok());
        assert!(watched.changed().is_none());
        fs::remove_file(&files.key).unwrap();
        assert!(watched.changed().unwrap().is_err() && watched.changed().is_none());
    }

    #[test]
    fn what_is_no_pair_is_refused_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let files = certificate(dir.path(), None, &[]).unwrap();
        let swapped = TlsFiles { certificate: files.key.clone(), key: files.certificate.clone() };
        let error = certificate(dir.path(), Some(&swapped), &[]).unwrap_err();
        assert!(error.message.contains("tls-key.pem holds no certificate"), "{}", error.message);
        let absent = TlsFiles { certificate: files.certificate, key: dir.path().join("absent") };
        assert!(certificate(dir.path(), Some(&absent), &[]).unwrap_err().message.contains("absent"));
    }
}
