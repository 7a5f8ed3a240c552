//! What the last run of an endpoint left in its directory, and what that says.
//!
//! What must hold: WAL that nobody has stays, and WAL of other data is not shipped.
//!
//! Not here: processes (`process`), starting and stopping (`endpoints`).

use std::path::Path;
use std::{fs, io};

use compute::control::{State, Status};

use crate::error::{Error, Result};

/// True if the last run of the endpoint in `dir` ended with everything in the store, or there was none, or it ran on
/// other data than its branch has now, which the store calls `store_id`.
pub fn ended_clean(dir: &Path, store_id: &str) -> bool {
    if !dir.join("spec.json").exists() || ran_on_other(dir, store_id) {
        return true;
    }
    last(dir).is_some_and(|status| status.state == State::Stopped)
}

/// Why the run of process `compute` failed, if it has said so.
pub fn reason(dir: &Path, compute: u32) -> Option<String> {
    last(dir).filter(|status| status.compute_pid == compute)?.reason
}

fn last(dir: &Path) -> Option<Status> {
    serde_json::from_slice(&fs::read(dir.join("status.json")).ok()?).ok()
}

/// True if it is certain that the endpoint in `dir` ran last on other data than what the store calls `store_id`.
fn ran_on_other(dir: &Path, store_id: &str) -> bool {
    // Leniently, as another version may have written it.
    let spec: Option<serde_json::Value> =
        fs::read(dir.join("spec.json")).ok().and_then(|text| serde_json::from_slice(&text).ok());
    spec.and_then(|spec| spec.get("branch")?.as_str().map(|branch| branch != store_id)).unwrap_or(false)
}

/// Removes the WAL of a run on other data than `store_id`: shipped to `store_id`, it would be taken for its own. It is
/// either in the store or nobody wanted it, or the branch would not have changed.
///
/// # Errors
/// Those of the file system.
pub fn forget_other(dir: &Path, store_id: &str) -> Result<()> {
    if !ran_on_other(dir, store_id) {
        return Ok(());
    }
    let path = dir.join("pg_wal");
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

/// The error of endpoint `id`, whose files are in `dir`, that did not start.
pub fn not_started(dir: &Path, id: &str, reason: &str) -> Error {
    let log = dir.join("compute.log");
    let text = fs::read_to_string(&log).unwrap_or_default();
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    tracing::warn!(endpoint = id, reason, last, "did not start");
    let hint = format!(
        "hint: `scion doctor` checks what endpoints need; {} and postgres.log beside it say more",
        log.display()
    );
    if format!("{reason}{last}").contains("No space left on device") {
        return Error::disk_full(format!("endpoint {id} did not start: {reason}"));
    }
    Error::unavailable(format!("endpoint {id} did not start: {reason}\n{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_that_said_so_ended_clean() {
        let dir = tempfile::tempdir().unwrap();
        let clean = || ended_clean(dir.path(), "br-a-a-a");
        assert!(clean(), "never started");
        fs::write(dir.path().join("spec.json"), "{}").unwrap();
        assert!(!clean(), "killed, on nobody knows what");
        fs::write(dir.path().join("spec.json"), r#"{"branch": "br-a-a-a"}"#).unwrap();
        assert!(!clean(), "killed");
        fs::write(dir.path().join("status.json"), "{").unwrap();
        assert!(!clean(), "half-written");
        fs::write(dir.path().join("spec.json"), r#"{"branch": "br-b-b-b"}"#).unwrap();
        assert!(clean(), "on what the branch had before");
    }

    #[test]
    fn a_run_says_why_it_failed_and_none_answers_for_another() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(reason(dir.path(), 7), None, "it has said nothing");
        let text = r#"{"state": "failed", "reason": "layer 1 is corrupt", "compute_pid": 7, "port": 1, "restarts": 0,
            "overlay_bytes": 0, "phases": {"tail": 0, "state": 0, "datadir": 0, "mount": 0, "postgres_start": 0, "total": 0}}"#;
        fs::write(dir.path().join("status.json"), text).unwrap();
        assert_eq!(reason(dir.path(), 7).as_deref(), Some("layer 1 is corrupt"));
        assert_eq!(reason(dir.path(), 8), None);
    }

    #[test]
    fn wal_of_other_data_is_removed_and_wal_of_the_same_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let wal = dir.path().join("pg_wal");
        fs::create_dir(&wal).unwrap();
        for spec in ["{}", r#"{"branch": "br-a-a-a"}"#] {
            fs::write(dir.path().join("spec.json"), spec).unwrap();
            forget_other(dir.path(), "br-a-a-a").unwrap();
            assert!(wal.exists(), "{spec}");
        }
        forget_other(dir.path(), "br-b-b-b").unwrap();
        assert!(!wal.exists());
    }
}
