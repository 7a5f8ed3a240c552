//! The users of the operating system that Postgres runs as: one for each project, where the server is root.
//!
//! The kernel keeps users from each other's files, sockets, shared memory and processes, so a Postgres that is taken over
//! reaches nothing of another project. They are numbers that no account has: Postgres needs no name for its user.
//!
//! Two servers on a machine draw from the same range; it is wide enough for that.
//!
//! Not here: which project has which (`fleet::spec`).

/// The first user. Above what accounts, containers and systemd's own users are given, and below what a signed number holds.
pub const FIRST: u32 = 0x7000_0000;
/// How many there are.
pub const COUNT: u32 = 0x0F00_0000;

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
}
