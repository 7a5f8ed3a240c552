//! Extensions that whoever may create in a database may add to it, though their packages say that it takes a superuser.
//!
//! PostgreSQL asks the control file of an extension (`trusted` in `extension.c`; "Extension Files" in its documentation). The
//! installation belongs to the machine, so Postgres gets a view of files of its own (a mount namespace,
//! [mount_namespaces(7)]), in which a copy that says `trusted = true` lies on the control file of each extension that an
//! administrator lists. All else is what it is, also what is installed later.
//!
//! For that a process is root, or makes itself a namespace of users in which it has nothing but that right.
//!
//! [mount_namespaces(7)]: https://man7.org/linux/man-pages/man7/mount_namespaces.7.html

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::done;
use crate::error::{Error, While};
use crate::spec::EndpointSpec;

/// Directory of the control files below the one that PostgreSQL calls SHAREDIR.
const EXTENSIONS: &str = "extension";
/// The last line wins.
const TRUSTED: &[u8] = b"\ntrusted = true\n";

/// What lies on which file in a process that enters it.
pub struct View {
    copies: Vec<(CString, CString)>,
    /// The same user and group outside and inside of a namespace of users; `None` for root, who needs none.
    maps: Option<[(&'static CStr, CString); 3]>,
}

/// Writes the copies for an endpoint; `None` if none of the extensions is there.
///
/// # Errors
/// `Io` if they cannot be read or written.
pub fn view(spec: &EndpointSpec) -> Result<Option<View>, Error> {
    let Some(directory) = control_files(&spec.pg_bin) else { return Ok(None) };
    let ours = spec.dir.join("extensions");
    let mut copies = Vec::new();
    for extension in &spec.owner_extensions {
        let name = format!("{extension}.control");
        let control = directory.join(&name);
        let mut text = match std::fs::read(&control) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            read => read.while_(|| format!("read {}", control.display()))?,
        };
        text.extend_from_slice(TRUSTED);
        let copy = ours.join(&name);
        std::fs::create_dir_all(&ours).while_(|| format!("create {}", ours.display()))?;
        std::fs::write(&copy, text).while_(|| format!("write {}", copy.display()))?;
        for (path, mode) in [(&ours, 0o755), (&copy, 0o644)] {
            let readable = std::fs::Permissions::from_mode(mode);
            let set = std::fs::set_permissions(path, readable);
            set.while_(|| format!("set the mode of {}", path.display()))?;
        }
        copies.push((c_path(&copy)?, c_path(&control)?));
    }
    Ok((!copies.is_empty()).then(|| View { copies, maps: maps() }))
}

fn maps() -> Option<[(&'static CStr, CString); 3]> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let map = |id: u32| CString::new(format!("{id} {id} 1")).unwrap_or_default();
    (!uid.is_root()).then(|| {
        [
            (c"/proc/self/setgroups", c"deny".to_owned()),
            (c"/proc/self/uid_map", map(uid.as_raw())),
            (c"/proc/self/gid_map", map(gid.as_raw())),
        ]
    })
}

/// Refuses extensions where no process can have a view of files of its own.
///
/// # Errors
/// `Spec`, with what to do about it.
pub fn check(extensions: &[String]) -> Result<(), Error> {
    if extensions.is_empty() {
        return Ok(());
    }
    let view = View { copies: Vec::new(), maps: maps() };
    let mut command = Command::new("true");
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(move || view.enter()) };
    command.status().map(drop).map_err(|error| {
        let hint = "hint: leave --owner-extensions out, run the server as root, or let users have namespaces \
                    (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)";
        Error::Spec(format!(
            "extensions for owners need a mount namespace, and there is none here: {error}\n{hint}"
        ))
    })
}

/// The directory of an installation's control files, as far as it can be found from that of its programs.
pub fn control_files(pg_bin: &Path) -> Option<PathBuf> {
    let bin = pg_bin.canonicalize().ok()?;
    let above = |levels: usize| bin.ancestors().nth(levels);
    // Packages of Debian: `lib/postgresql/15/bin`, and `share/postgresql/15`.
    let debian =
        above(4).zip(above(1)?.file_name()).map(|(usr, major)| usr.join("share/postgresql").join(major));
    let others =
        ["share/postgresql", "share", "share/pgsql"].into_iter().filter_map(|it| Some(above(1)?.join(it)));
    let directories = debian.into_iter().chain(others).map(|share| share.join(EXTENSIONS));
    directories.into_iter().find(|directory| directory.join("plpgsql.control").is_file())
}

fn c_path(path: &Path) -> Result<CString, Error> {
    let text = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
    text.while_(|| format!("use the path {}", path.display()))
}

impl View {
    /// Gives it to the calling process and all that it starts. Makes system calls only.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn enter(&self) -> io::Result<()> {
        let users = if self.maps.is_some() { libc::CLONE_NEWUSER } else { 0 };
        // SAFETY: plain system calls on texts of our own that end with a zero.
        unsafe {
            done(libc::unshare(libc::CLONE_NEWNS | users))?;
            for (file, map) in self.maps.iter().flatten() {
                write(file, map)?;
            }
            // What is unmounted outside is so inside; what is mounted inside is not outside.
            let (none, nothing) = (std::ptr::null(), std::ptr::null());
            done(libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_SLAVE, nothing))?;
            for (copy, control) in &self.copies {
                done(libc::mount(copy.as_ptr(), control.as_ptr(), none, libc::MS_BIND, nothing))?;
            }
        }
        Ok(())
    }
}

fn write(file: &CStr, text: &CStr) -> io::Result<()> {
    let bytes = text.to_bytes();
    // SAFETY: as in `enter`; the descriptor is closed by nobody else.
    unsafe {
        let descriptor = libc::open(file.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        done(descriptor)?;
        let written = libc::write(descriptor, bytes.as_ptr().cast(), bytes.len());
        let result = done(written as i32);
        libc::close(descriptor);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_files_are_where_each_kind_of_installation_has_them() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        let made = |bin: &str, share: &str| {
            let extensions = root.join(share).join(EXTENSIONS);
            std::fs::create_dir_all(root.join(bin)).unwrap();
            std::fs::create_dir_all(&extensions).unwrap();
            std::fs::write(extensions.join("plpgsql.control"), "").unwrap();
            (control_files(&root.join(bin)), Some(extensions))
        };
        for (bin, share) in [
            ("debian/usr/lib/postgresql/15/bin", "debian/usr/share/postgresql/15"),
            ("npm/bin", "npm/share/postgresql"),
            ("rpm/usr/pgsql-15/bin", "rpm/usr/pgsql-15/share"),
        ] {
            let (found, wanted) = made(bin, share);
            assert_eq!(found, wanted);
        }
        assert_eq!(control_files(Path::new("/nowhere/bin")), None);
    }
}
