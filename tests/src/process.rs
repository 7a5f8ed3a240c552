//! Finding programs and ending processes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

pub use oracle::skips::skipped;

/// Directory of PostgreSQL 15's programs: what `SCION_PG_BIN` names, or Debian's.
pub fn pg_bin() -> PathBuf {
    std::env::var_os("SCION_PG_BIN").map_or_else(|| "/usr/lib/postgresql/15/bin".into(), PathBuf::from)
}

/// The program `name` of PostgreSQL 15.
pub fn pg_program(name: &str) -> PathBuf {
    pg_bin().join(name)
}

/// Directory of a release that `scripts/postgres-majors` installs, such as `17`; `None`, and said so, if it is not there.
pub fn release_bin(name: &str) -> Option<PathBuf> {
    if let Some(bin) = cached_bin(name) {
        return Some(bin);
    }
    skipped(name, &format!("there is no PostgreSQL {name}; `scripts/postgres-majors {name}` installs it"));
    None
}

fn cached_bin(name: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("SCION_PG_CACHE").map(PathBuf::from);
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/postgres");
    let bin = cache.unwrap_or_else(default).join(name).join("bin");
    bin.join("postgres").exists().then(|| bin.canonicalize().unwrap())
}

/// Programs of a PostgreSQL 15 that has an extension: the one tests run on, or what `scripts/postgres-majors 15` installs;
/// `None`, and said so, if neither has it.
pub fn bin_with_extension(name: &str) -> Option<PathBuf> {
    let has = |bin: &PathBuf| {
        let shares = ["../../../../share/postgresql/15", "../share/postgresql/15", "../share/postgresql"];
        let control = |share: &str| bin.join(share).join(format!("extension/{name}.control"));
        // An output plugin is a library and nothing else.
        let library = bin.join("../lib").join(format!("{name}.so"));
        bin.join("postgres").exists()
            && (library.exists() || shares.iter().any(|share| control(share).exists()))
    };
    let found = [Some(pg_bin()), cached_bin("15")].into_iter().flatten().find(has);
    if found.is_none() {
        skipped(
            name,
            &format!("no PostgreSQL 15 here has {name}; `scripts/postgres-majors 15` installs one"),
        );
    }
    found
}

/// The `scion` binary: what `SCION_BIN` names, or the one of this executable's build.
///
/// # Panics
/// If it was not built: tests do not build what they test.
pub fn scion_binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let built = test.ancestors().skip(1).take(2).map(|dir| dir.join("scion"));
    let named = std::env::var_os("SCION_BIN").map(PathBuf::from);
    let found = named.into_iter().chain(built).find(|path| path.is_file());
    found.expect("no scion binary: run `cargo build -p scion` first")
}

/// A command that runs as the unprivileged user `postgres` if this process is root.
pub fn as_postgres(program: impl AsRef<Path>) -> Command {
    if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]);
        command.arg(program.as_ref());
        command
    } else {
        Command::new(program.as_ref())
    }
}

/// True if this process is root.
pub fn is_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Gives `path` to the user that Postgres runs as.
pub fn give_to_postgres(path: &Path) {
    if is_root() {
        run(Command::new("chown").arg("-R").arg("postgres:postgres").arg(path));
    }
}

/// Runs `command` to its end.
///
/// # Panics
/// With its output, if it fails.
pub fn run(command: &mut Command) -> String {
    let output = output(command);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Runs `command` to its end, whatever that is.
pub fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Sends `signal` to process `pid`; nothing if it is gone.
pub fn signal(pid: i32, signal: i32) {
    assert!(pid > 1, "refusing to signal process {pid}");
    // SAFETY: kill has no memory effects; pid is one that a test started.
    unsafe { libc::kill(pid, signal) };
}

/// True while process `pid` exists and is not a zombie.
pub fn alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
}

/// Tries `check` until it gives a value.
///
/// # Panics
/// With `what`, after `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(start.elapsed() < limit, "{what} did not happen within {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
