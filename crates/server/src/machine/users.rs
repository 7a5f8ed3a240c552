//! The users of the operating system that Postgres runs as: one for each project, where the server is root.
//!
//! The kernel keeps users from each other's files, sockets, shared memory and processes, so a Postgres that is taken over
//! reaches nothing of another project. They are numbers that no account has: Postgres needs no name for its user.
//!
//! What must hold
//! - A number is of one project for as long as that exists. Two servers on a machine draw from the same range; it is wide
//!   enough for that.
//! - Programs that look at an endpoint (`pg_dump`) run as its Postgres does, which may still be that of an older scion.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::machine::postgres::Postgres;
use crate::metadata::os_user;
use crate::state::Server;

/// The first user. Above what accounts, containers and systemd's own users are given, and below what a signed number holds.
const FIRST: u32 = 0x7000_0000;
/// How many there are.
const COUNT: u32 = 0x0F00_0000;
/// How often another one is drawn if a number is taken.
const DRAWS: u32 = 16;

/// Whether this process can become each of these users: in a container its numbers may not be there.
pub fn are_there() -> bool {
    ["/proc/self/uid_map", "/proc/self/gid_map"]
        .iter()
        .all(|map| std::fs::read_to_string(map).is_ok_and(|text| covers(&text)))
}

/// Whether one line of a map (first inside, first outside, count) holds all of them.
fn covers(map: &str) -> bool {
    let (first, end) = (u64::from(FIRST), u64::from(FIRST) + u64::from(COUNT));
    map.lines().any(|line| {
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        matches!(numbers[..], [inside, _, count] if inside <= first && end <= inside + count)
    })
}

impl Server {
    /// User and group that the Postgres of a project runs as; `None` is this process's own.
    ///
    /// # Errors
    /// Those of SQLite; 500 without random numbers.
    pub fn user_of(&self, project: &str) -> Result<Option<(u32, u32)>> {
        if !self.postgres.own_users {
            return Ok(self.postgres.run_as);
        }
        if let Some(user) = self.metadata.read(|connection| os_user::find(connection, project))? {
            return Ok(Some((user, user)));
        }
        for _ in 0..DRAWS {
            let user = FIRST + drawn()? % COUNT;
            if self.metadata.write(|change| os_user::claim(change, project, user))? {
                return Ok(Some((user, user)));
            }
        }
        Err(Error::internal(format!("no free user for project {project}")))
    }
}

fn drawn() -> Result<u32> {
    getrandom::u32().map_err(|error| Error::internal(format!("random numbers: {error}")))
}

impl Postgres {
    /// The same, as the user whose Postgres has its socket in `directory`.
    pub fn as_owner_of(&self, directory: &Path) -> Self {
        let owner = std::fs::metadata(directory).ok().map(|found| (found.uid(), found.gid()));
        Self { run_as: self.run_as.and(owner).or(self.run_as), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_without_these_numbers_is_told() {
        assert!(covers("         0          0 4294967295\n"));
        assert!(!covers("0 100000 65536\n"));
        assert!(!covers("0 1000 1\n1 100000 1900000000\n"));
        assert!(!covers(""));
    }

    #[test]
    fn clients_run_as_who_has_the_socket_if_that_is_another_user() {
        let postgres = Postgres {
            installed: Default::default(),
            run_as: None,
            own_users: false,
            dump_within: crate::limits::DUMP_WITHIN,
        };
        assert_eq!(postgres.as_owner_of(Path::new("/")).run_as, None);
        let root = Postgres { run_as: Some((7, 8)), ..postgres };
        assert_eq!(root.as_owner_of(Path::new("/")).run_as, Some((0, 0)));
        assert_eq!(root.as_owner_of(Path::new("/nonexistent")).run_as, Some((7, 8)));
    }
}
