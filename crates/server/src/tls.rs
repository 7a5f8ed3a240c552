//! The certificate that endpoints show their clients, and the HTTP side if it speaks TLS.
//!
//! Made at the first start of the server and kept, or named by its user. It signs itself: a client that wants to be sure
//! of it names the file as its root certificate, and channel binding ties a login to it.
//!
//! What must hold
//! - The key is 0600 and stays where it is: an endpoint gets it as a file in its own file system.
//! - Half of a pair is never left: the key is written first, the certificate says that both are there.
//!
//! Not here: what Postgres is told of it (`compute::config`).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use compute::TlsFiles;
use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::data_dir::write_whole;
use crate::error::{Error, Result};

/// Names and addresses that endpoints are reached by.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The pair that was named, once it is known to be one; else the one in `dir`, made if it is not there.
///
/// # Errors
/// 400 for files that are no certificate and key; those of the file system.
pub fn certificate(dir: &Path, named: Option<&TlsFiles>) -> Result<TlsFiles> {
    if let Some(files) = named {
        check(&files.certificate, "CERTIFICATE")?;
        check(&files.key, "PRIVATE KEY")?;
        return absolute(files);
    }
    let files = TlsFiles { certificate: dir.join("tls-cert.pem"), key: dir.join("tls-key.pem") };
    if !files.certificate.exists() {
        make(&files)?;
        tracing::info!(certificate = %files.certificate.display(), "made a certificate for endpoints");
    }
    Ok(files)
}

/// How the HTTP side speaks TLS with that pair.
///
/// # Errors
/// 400 for files that are no pair.
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

fn make(files: &TlsFiles) -> Result<()> {
    let failed = |error: rcgen::Error| Error::internal(format!("make a certificate: {error}"));
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, "scion");
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(2120, 1, 1);
    for name in NAMES {
        let name = match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.try_into().map_err(failed)?),
        };
        parameters.subject_alt_names.push(name);
    }
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = parameters.self_signed(&key).map_err(failed)?;
    write_whole(&files.key, key.serialize_pem().as_bytes(), 0o600)?;
    write_whole(&files.certificate, certificate.pem().as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_certificate_is_made_once_and_its_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let files = certificate(dir.path(), None).unwrap();
        let first = fs::read(&files.certificate).unwrap();
        assert_eq!(fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(certificate(dir.path(), None).unwrap(), files);
        assert_eq!(fs::read(&files.certificate).unwrap(), first);
        assert_eq!(
            certificate(Path::new("/nonexistent"), Some(&files)).unwrap(),
            files,
            "named ones are taken"
        );
    }

    #[test]
    fn the_pair_serves_http_and_two_halves_of_different_pairs_do_not() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files = certificate(one.path(), None).unwrap();
        of_http(&files).unwrap();
        let mixed = TlsFiles { key: certificate(other.path(), None).unwrap().key, ..files };
        assert_eq!(of_http(&mixed).unwrap_err().status, 400);
    }

    #[test]
    fn what_is_no_pair_is_refused_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let files = certificate(dir.path(), None).unwrap();
        let swapped = TlsFiles { certificate: files.key.clone(), key: files.certificate.clone() };
        let error = certificate(dir.path(), Some(&swapped)).unwrap_err();
        assert!(error.message.contains("tls-key.pem holds no certificate"), "{}", error.message);
        let absent = TlsFiles { certificate: files.certificate, key: dir.path().join("absent") };
        assert!(certificate(dir.path(), Some(&absent)).unwrap_err().message.contains("absent"));
    }
}
