//! Gives a running Postgres the certificate that took the place of the one it has, without a restart.
//!
//! What must hold
//! - Postgres judges the pair: of files that do not belong together it says so in its log, and keeps what it has
//!   (`be_tls_init` of backend/libpq/be-secure-openssl.c). The next look takes them again once one of them has changed.
//! - The copies are in a directory of the server's user, in which a superuser of the branch may have put anything: a copy is a
//!   new file that takes the place of a name, and nothing there is opened.
//!
//! Not here: the copies that a start makes (`prepare`), what Postgres is told of them (`config`).

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::process::Signal;

use crate::error::{Error, While};
use crate::limits::CERTIFICATE_EVERY;
use crate::postgres::process;
use crate::shipping::stream::Alive;
use crate::spec::{EndpointSpec, TlsFiles, TlsVersion};
use crate::{config, threads};

use super::known::{Agent, remove_file};

/// Looks for as long as there is a server; not at all for an endpoint without a certificate. `copied` is the version of the pair
/// from before the copies were made, so that what comes later is another.
pub(super) fn watch(
    agent: &Arc<Agent>,
    mut copied: Option<TlsVersion>,
    server: Arc<OwnedFd>,
    alive: &Arc<Alive>,
) -> Result<Option<JoinHandle<()>>, Error> {
    let Some(files) = agent.spec.tls.clone() else { return Ok(None) };
    let (agent, alive) = (Arc::clone(agent), Arc::clone(alive));
    let watching = threads::spawn("watch the certificate", move || {
        while alive.after(CERTIFICATE_EVERY) {
            // One that is gone for a moment comes back as another.
            let Some(now) = files.version().ok().filter(|now| copied.as_ref() != Some(now)) else { continue };
            match copy(&files, &agent.spec) {
                Ok(()) => {
                    tracing::info!("endpoint {} has another certificate", agent.spec.endpoint);
                    process::send(&server, Signal::HUP);
                    copied = Some(now);
                }
                Err(error) => tracing::warn!(
                    "endpoint {} keeps the certificate it has, and tries again in {CERTIFICATE_EVERY:?}: {error}",
                    agent.spec.endpoint
                ),
            }
        }
    });
    watching.map(Some)
}

fn copy(files: &TlsFiles, spec: &EndpointSpec) -> Result<(), Error> {
    let copies = config::tls_files(spec);
    for (from, to) in [(&files.certificate, &copies.certificate), (&files.key, &copies.key)] {
        let bytes = std::fs::read(from).while_(|| format!("read {}", from.display()))?;
        replace(to, &bytes, spec.run_as).while_(|| format!("replace {}", to.display()))?;
    }
    Ok(())
}

/// Puts a file of `owner` with `bytes` in the place of `path`, in a directory that is somebody else's.
fn replace(path: &Path, bytes: &[u8], owner: Option<(u32, u32)>) -> io::Result<()> {
    let new = path.with_extension("new");
    remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    if let Some((user, group)) = owner {
        fchown(&file, Some(user), Some(group))?;
    }
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_copy_takes_the_place_of_a_name_and_never_goes_where_a_link_leads() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("victim"), "untouched").unwrap();
        for planted in ["server.key", "server.new"] {
            symlink(path("victim"), path(planted)).unwrap();
        }
        replace(&path("server.key"), b"key", None).unwrap();
        assert_eq!(std::fs::read(path("victim")).unwrap(), b"untouched");
        let copy = path("server.key").symlink_metadata().unwrap();
        assert!(copy.is_file() && copy.permissions().mode() & 0o777 == 0o600, "{copy:?}");
        assert_eq!(std::fs::read(path("server.key")).unwrap(), b"key");
        assert!(!path("server.new").exists());
        // What cannot be taken away is refused, and the copy stays.
        std::fs::create_dir(path("server.new")).unwrap();
        assert!(replace(&path("server.key"), b"other", None).is_err());
        assert_eq!(std::fs::read(path("server.key")).unwrap(), b"key");
    }
}
