//! Keeps the logs of an endpoint from filling the disk: a log that has grown past its limit becomes `<log>.1`, in place
//! of the one before, and begins again.
//!
//! The writers, Postgres and this process, hold their logs open to append and cannot be told to open another. So the
//! file stays and is emptied once its content is copied; a line written between the two, microseconds apart, is lost.
//!
//! Not here: what is logged.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Error;
use crate::limits::LOG_BYTES;
use crate::threads;

/// Between two looks at the sizes.
const PAUSE: Duration = Duration::from_secs(1);

/// Watches these logs for as long as the process lives.
///
/// # Errors
/// `Io` if the system has no thread for it.
pub fn watch(logs: Vec<PathBuf>) -> Result<(), Error> {
    let watching = threads::spawn("watch its logs", move || {
        loop {
            for log in &logs {
                if let Err(error) = bound(log, LOG_BYTES) {
                    tracing::warn!("{} cannot be shortened: {error}", log.display());
                }
            }
            std::thread::sleep(PAUSE);
        }
    });
    watching.map(|_| ())
}

/// Takes the logs of an older scion, and those before them, from other users.
pub fn close_to_others(logs: &[PathBuf]) {
    for log in logs.iter().flat_map(|log| [log.clone(), with_suffix(log, ".1")]) {
        if let Err(error) = fs::set_permissions(&log, fs::Permissions::from_mode(0o600))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("{} cannot be closed to others: {error}", log.display());
        }
    }
}

/// Lets the log begin again if it is longer than `limit_bytes`. Absent is fine.
fn bound(log: &Path, limit_bytes: u64) -> io::Result<()> {
    let len = match fs::metadata(log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        meta => meta?.len(),
    };
    if len <= limit_bytes {
        return Ok(());
    }
    let mut content = OpenOptions::new().read(true).write(true).open(log)?;
    let before = with_suffix(log, ".1");
    let new = with_suffix(log, ".new");
    let mut copy = File::create(&new)?;
    copy.set_permissions(content.metadata()?.permissions())?;
    let most = 2 * limit_bytes;
    let len = content.seek(SeekFrom::End(0))?;
    content.seek(SeekFrom::Start(len.saturating_sub(most)))?;
    // To the end that it has now, and what comes meanwhile; a writer faster than the disk must not keep us here.
    io::copy(&mut Read::by_ref(&mut content).take(most), &mut copy)?;
    fs::rename(&new, &before)?;
    content.set_len(0)
}

fn with_suffix(log: &Path, suffix: &str) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_log_past_its_limit_begins_again_under_the_writer_that_holds_it_open() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("postgres.log");
        bound(&log, 100).unwrap();
        assert!(!log.exists(), "a log that is not there is not made");
        let mut writer = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut kept = Vec::new();
        for number in 0..100 {
            writeln!(writer, "line {number}").unwrap();
            bound(&log, 100).unwrap();
            assert!(fs::metadata(&log).unwrap().len() <= 100);
            kept.push(fs::read_dir(dir.path()).unwrap().count());
        }
        assert_eq!(kept.iter().max(), Some(&2), "the log and the one before");
        let before = fs::read_to_string(with_suffix(&log, ".1")).unwrap();
        let text = before + &fs::read_to_string(&log).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let first = 100 - lines.len();
        let expected: Vec<_> = (first..100).map(|number| format!("line {number}")).collect();
        assert_eq!(lines, expected);
        assert!(lines.len() > 10, "only {} lines are left", lines.len());
    }
}
