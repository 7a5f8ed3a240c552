//! What the processes of an endpoint's Postgres may reach of this machine, held by the kernel (Landlock).
//!
//! Whatever runs inside of Postgres, be it a function of its superuser or a fault in a library, may
//!
//! | do          | below                                                                                     |
//! |-------------|-------------------------------------------------------------------------------------------|
//! | execute     | the program `postgres` and the loader of programs, nothing else                           |
//! | read        | Postgres's installation, libraries of the system and their data, a few files of its setup |
//! | write, make | the endpoint's data directory, its log and its socket; `/dev/shm`                         |
//! | signal      | processes of the same server                                                              |
//!
//! A kernel without Landlock holds back nothing, one with an older version what that knows. Files that are not there are
//! left out: what a distribution does not have, Postgres on it does not need.
//!
//! Not here: users and limits (`process`), what roles may do (`server`).

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, Scope,
};

use crate::spec::EndpointSpec;

/// The newest version whose rights are known here.
const KNOWN: ABI = ABI::V6;
/// Libraries, and what they and extensions read beside them.
const LIBRARIES: [&str; 10] = [
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/share",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/usr/local/share",
];
/// Where programs are loaded from when nothing is where others have it.
const STORES: [&str; 2] = ["/nix/store", "/gnu/store"];
/// How the system is set up: loading, names of hosts, time, certificates, languages, drivers. Not who its users are.
const SETUP: [&str; 28] = [
    "ld.so.cache",
    "ld.so.preload",
    "localtime",
    "timezone",
    "nsswitch.conf",
    "hosts",
    "host.conf",
    "gai.conf",
    "services",
    "protocols",
    "ssl",
    "pki",
    "ca-certificates",
    "crypto-policies",
    "gnutls",
    "krb5.conf",
    "krb5.conf.d",
    "locale.alias",
    "perl",
    "python3",
    "java",
    "R",
    "tcl",
    "odbc.ini",
    "odbcinst.ini",
    "freetds",
    "postgresql-common",
    "fonts",
];
/// What the kernel says of the machine, not of its processes.
const MACHINE: [&str; 7] = [
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys",
    "/proc/filesystems",
    "/sys/devices/system",
    "/sys/kernel/mm",
];
/// Dictionaries that packages make.
const CACHES: [&str; 1] = ["/var/cache/postgresql"];
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
const SHARED_MEMORY: &str = "/dev/shm";

/// The kernel's version of Landlock; 0 if it has none.
pub fn landlock_version() -> u32 {
    const ASK_VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the call takes no attributes and makes nothing.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            ASK_VERSION,
        )
    };
    u32::try_from(version).unwrap_or(0)
}

/// The rules for a Postgres whose directories are there, to be put in force by [`enter`]; `None` if the kernel has none.
///
/// # Errors
/// Those of the kernel.
pub fn rules(spec: &EndpointSpec) -> io::Result<Option<OwnedFd>> {
    let made = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))
        .and_then(|rules| rules.scope(Scope::from_all(KNOWN)))
        .and_then(Ruleset::create)
        .and_then(|rules| allow(rules, spec));
    made.map(Into::into).map_err(io::Error::other)
}

fn allow(rules: RulesetCreated, spec: &EndpointSpec) -> Result<RulesetCreated, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let own = AccessFs::from_all(KNOWN) & !AccessFs::Execute;
    let mut rules = rules;
    let postgres = spec.pg_bin.join("postgres");
    for program in loaders().into_iter().chain([postgres]) {
        rules = beneath(rules, &program, AccessFs::Execute | AccessFs::ReadFile)?;
    }
    let setup = SETUP.iter().map(|name| Path::new("/etc").join(name)).chain(resolver()).chain(versioned());
    let fixed = LIBRARIES.iter().chain(&MACHINE).chain(&CACHES).map(PathBuf::from);
    for path in fixed.chain(setup).chain(installation(&spec.pg_bin)) {
        rules = beneath(rules, &path, read)?;
    }
    for device in DEVICES {
        rules = beneath(rules, Path::new(device), AccessFs::ReadFile | AccessFs::WriteFile)?;
    }
    let shared_memory = PathBuf::from(SHARED_MEMORY);
    for directory in [spec.mount_dir(), spec.wal_dir(), spec.socket_dir(), shared_memory] {
        rules = beneath(rules, &directory, own)?;
    }
    for path in &spec.reaches {
        rules = beneath(rules, path, AccessFs::from_all(KNOWN))?;
    }
    Ok(rules)
}

/// Adds a rule for what is at `path`; nothing if nothing is.
fn beneath(
    rules: RulesetCreated,
    path: &Path,
    rights: impl Into<BitFlags<AccessFs>>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(at) = PathFd::new(path) else { return Ok(rules) };
    let rights = rights.into();
    let rights = if path.is_dir() { rights } else { rights & AccessFs::from_file(KNOWN) };
    rules.add_rule(PathBeneath::new(at, rights))
}

/// Directories of the installation that `pg_bin` belongs to. One in the system's own directories has its files among
/// those of the system.
fn installation(pg_bin: &Path) -> Vec<PathBuf> {
    let bin = pg_bin.canonicalize().unwrap_or_else(|_| pg_bin.to_owned());
    if let Some(store) = STORES.iter().find(|store| bin.starts_with(store)) {
        return vec![PathBuf::from(store)];
    }
    let own = |at: &&Path| !["/usr", "/usr/local", "/"].map(Path::new).contains(at);
    let Some(root) = bin.parent().filter(own) else { return vec![bin.join("postgres")] };
    // Packages of Debian that were unpacked elsewhere: `lib/postgresql/15/bin`, and `share` beside `lib`.
    let unpacked =
        root.parent().filter(|at| at.ends_with("lib/postgresql")).and_then(|at| at.ancestors().nth(2));
    // Packages of Python: the libraries of NAME are in `NAME.libs` beside it.
    let bundled = root.ancestors().filter(own).map(|at| {
        let mut libs = at.as_os_str().to_owned();
        libs.push(".libs");
        PathBuf::from(libs)
    });
    let bundled = bundled.filter(|libs| libs.is_dir());
    [root].into_iter().chain(unpacked.filter(own)).map(Path::to_owned).chain(bundled).collect()
}

/// What the kernel executes to load a program (`ld.so`).
fn loaders() -> Vec<PathBuf> {
    let arch = std::env::consts::ARCH;
    let glibc = if arch == "x86_64" {
        "/lib64/ld-linux-x86-64.so.2".to_owned()
    } else {
        format!("/lib/ld-linux-{arch}.so.1")
    };
    [glibc, format!("/lib/ld-musl-{arch}.so.1")]
        .into_iter()
        .chain(STORES.map(str::to_owned))
        .map(PathBuf::from)
        .collect()
}

/// Where names of hosts are looked up. A file that a service writes anew is another one, so its directory counts.
fn resolver() -> Vec<PathBuf> {
    let file = PathBuf::from("/etc/resolv.conf");
    let target = file.canonicalize().ok();
    let elsewhere =
        target.as_deref().and_then(Path::parent).filter(|directory| *directory != Path::new("/etc"));
    elsewhere.map(Path::to_owned).into_iter().chain([file]).collect()
}

/// Setup of languages, in directories with their versions.
fn versioned() -> Vec<PathBuf> {
    let named = |name: &str| name.starts_with("python3.") || name.starts_with("java-");
    let entries = std::fs::read_dir("/etc").into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(named))
        .collect()
}

/// Puts rules in force for the calling process and all that it starts. Makes system calls only.
///
/// # Errors
/// Those of the kernel.
pub fn enter(rules: i32) -> io::Result<()> {
    const NONE: libc::c_ulong = 0;
    // SAFETY: plain system calls on values of our own.
    let entered = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, NONE, NONE, NONE) == 0
            && libc::syscall(libc::SYS_landlock_restrict_self, rules, 0_u32) == 0
    };
    if entered { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_is_all_that_belongs_to_its_programs_and_nothing_of_the_system() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        let made = |path: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        assert_eq!(installation(&made("pg/bin")), [made("pg")]);
        let unpacked = made("tree/usr/lib/postgresql/15/bin");
        assert_eq!(installation(&unpacked), [made("tree/usr/lib/postgresql/15"), made("tree/usr")]);
        let libs = made("wheel/name.libs");
        assert_eq!(installation(&made("wheel/name/pginstall/bin")), [made("wheel/name/pginstall"), libs]);
        assert_eq!(installation(Path::new("/usr/bin")), [Path::new("/usr/bin/postgres")]);
    }
}
