//! Libraries that Postgres preloads, and which of them act by themselves.
//!
//! A library that runs workers in the background calls one of two functions of Postgres, whose names its file therefore
//! holds. So this is known of libraries that nobody here has heard of.

use std::collections::BTreeMap;
use std::path::Path;

use crate::spec::EndpointSpec;

/// Names of the functions that start background workers.
const STARTS_WORKERS: [&[u8]; 2] = [b"RegisterBackgroundWorker\0", b"RegisterDynamicBackgroundWorker\0"];
/// Their workers keep something of their own Postgres in its memory or on its disk, and do nothing else.
const HARMLESS: [&str; 2] = ["pg_prewarm", "pg_wait_sampling"];
/// Where libraries are, seen from the programs: Debian's and Red Hat's way, and Postgres's own.
const DIRECTORIES: [&str; 3] = ["../lib", "../lib/postgresql", "../lib64/postgresql"];
/// The setting that names them.
pub const PRELOAD: &str = "shared_preload_libraries";

/// The libraries that these settings preload, as they are written.
pub fn preloaded(settings: &BTreeMap<String, String>) -> Vec<&str> {
    let list = settings.get(PRELOAD).map_or("", String::as_str);
    list.split(',').map(|name| name.trim().trim_matches('"')).filter(|name| !name.is_empty()).collect()
}

/// Whether these settings preload the library of this name.
pub fn preloads(settings: &BTreeMap<String, String>, name: &str) -> bool {
    preloaded(settings).into_iter().any(|written| base(written) == name)
}

/// The libraries that an endpoint preloads and that act by themselves, as far as cannot be ruled out.
pub fn acting(spec: &EndpointSpec) -> Vec<&str> {
    let acts = |written: &&str| !HARMLESS.contains(&base(written)) && starts_workers(&spec.pg_bin, written);
    preloaded(&spec.settings).into_iter().filter(acts).collect()
}

/// The name of a library without directory and ending.
pub fn base(written: &str) -> &str {
    let file = written.rsplit('/').next().unwrap_or(written);
    file.strip_suffix(".so").unwrap_or(file)
}

fn starts_workers(pg_bin: &Path, written: &str) -> bool {
    let file = format!("{}.so", base(written));
    let named = Path::new(written);
    let found = if named.is_absolute() {
        std::fs::read(named).or_else(|_| std::fs::read(named.with_extension("so"))).ok()
    } else {
        DIRECTORIES.iter().find_map(|directory| std::fs::read(pg_bin.join(directory).join(&file)).ok())
    };
    // One that is not found may be anywhere that only Postgres knows.
    found.is_none_or(|bytes| STARTS_WORKERS.iter().any(|name| holds(&bytes, name)))
}

/// Whether `bytes` hold `part`.
pub fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_known_however_they_are_written() {
        let settings = |list: &str| BTreeMap::from([(PRELOAD.to_owned(), list.to_owned())]);
        let all = settings("pgaudit, \"$libdir/pg_cron.so\" ,,auto_explain");
        assert_eq!(preloaded(&all), ["pgaudit", "$libdir/pg_cron.so", "auto_explain"]);
        assert!(preloads(&all, "pg_cron") && !preloads(&all, "cron") && !preloads(&settings(""), "pg_cron"));
    }

    #[test]
    fn a_library_acts_by_itself_if_it_can_start_workers_or_is_not_found() {
        let temp = tempfile::tempdir().unwrap();
        let (bin, lib) = (temp.path().join("bin"), temp.path().join("lib"));
        std::fs::create_dir_all(&lib).unwrap();
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(lib.join("quiet.so"), b"..RegisterBackgroundWorkers\0..").unwrap();
        std::fs::write(lib.join("busy.so"), b"..RegisterBackgroundWorker\0..").unwrap();
        assert!(!starts_workers(&bin, "quiet") && starts_workers(&bin, "$libdir/busy"));
        assert!(starts_workers(&bin, "elsewhere"));
    }

    /// What stock Postgres comes with: one library has a worker, and it is harmless.
    #[test]
    fn the_libraries_of_postgres_are_told_apart() {
        let bin = Path::new("/usr/lib/postgresql/15/bin");
        assert!(starts_workers(bin, "pg_prewarm"));
        assert!(!starts_workers(bin, "auto_explain") && !starts_workers(bin, "pg_stat_statements"));
    }
}
