//! A directory in memory for what tests of the whole system make and throw away.
//!
//! Each of them makes clusters of a thousand files and deletes them. ext4 without a journal does not give the numbers of files
//! that were deleted in the last minutes to new ones, and looks at each of them again for every file that is made
//! (`recently_deleted` of fs/ext4/ialloc.c): some third of the time of these tests went there.
//!
//! What must hold
//! - Nothing that is tested needs a disk: a `kill -9` loses no memory of the kernel's, and disks that are full or fail are made by
//!   the tests that need one.
//! - The mount is in a mount namespace of its own, so that no mount is left, whatever is killed.
//!
//! Not here: the tests of the crates, which crash and fill a real disk.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Memory that must be available, in KB.
const AVAILABLE_KB: u64 = 12 << 20;

/// The empty directory on which the memory is mounted, removed in the end.
pub struct MemoryDisk(Option<PathBuf>);

impl MemoryDisk {
    /// A place for it, if this user may mount something and there is memory enough; else what is run uses the disk.
    pub fn if_possible() -> Self {
        let place = std::env::temp_dir().join(format!("st{}", std::process::id()));
        let enough = available_kb().is_some_and(|available| available >= AVAILABLE_KB);
        if !enough || fs::create_dir(&place).is_err() {
            return Self(None);
        }
        let disk = Self(Some(place));
        let mounts = disk.around(Command::new("true")).output().is_ok_and(|output| output.status.success());
        if mounts { disk } else { Self(None) }
    }

    /// The same command with its temporary files there.
    pub fn around(&self, command: Command) -> Command {
        let Some(place) = &self.0 else { return command };
        let script = "mount -t tmpfs -o mode=1777 tests \"$TMPDIR\" && exec \"$@\"";
        let mut inside = Command::new("unshare");
        inside.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
        inside.arg(command.get_program()).args(command.get_args()).env("TMPDIR", place);
        if let Some(dir) = command.get_current_dir() {
            inside.current_dir(dir);
        }
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }
}

impl Drop for MemoryDisk {
    fn drop(&mut self) {
        if let Some(place) = &self.0 {
            let _ = fs::remove_dir(place);
        }
    }
}

fn available_kb() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_finds_memory_where_it_may_and_the_disk_where_not() {
        let disk = MemoryDisk::if_possible();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "stat -f -c %T \"${TMPDIR:-/tmp}\"; echo \"$WORD\""])
            .env("WORD", "two words")
            .current_dir("/");
        let output = disk.around(shell).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.lines().nth(1), Some("two words"));
        if let Some(place) = disk.0.clone() {
            assert_eq!(text.lines().next(), Some("tmpfs"));
            assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
            drop(disk);
            assert!(!place.exists(), "the directory is left");
        }
    }
}
