//! The rules about the rooms of one crate: which of them a room may touch.
//!
//! A room is a folder or a single file directly below `src`. It touches another if a file of it needs one of the other's, tests
//! apart (`rooms`); the crate's root is no room. A new edge is a decision: it is made in a table here, and what a table allows
//! and no code needs is taken out of it.
//!
//! Not here: what crates may use of each other (`dependencies`), circles of files (`rooms`).

use std::collections::{BTreeMap, BTreeSet};

use super::rooms::{Needs, needs_of};
use super::source::Source;

/// What the rooms of a crate may touch: each room, and the others that it may.
type Table = &'static [(&'static str, &'static [&'static str])];

/// The crates whose rooms have a table.
const CRATES: [(&str, Table); 2] = [("store", STORE), ("server", SERVER)];

/// From the bottom up: a room touches only rooms before it.
const STORE: Table = &[
    ("limits", &[]),
    ("error", &[]),
    ("disk", &["limits"]),
    ("object", &["disk", "error", "limits"]),
    ("log", &["disk", "error", "limits"]),
    ("manifest", &["error", "limits", "object"]),
    ("memory", &["error", "limits"]),
    ("table", &["disk", "error", "limits", "log", "memory", "object"]),
    ("answer", &["memory"]),
    ("branch", &["error", "log", "manifest", "memory", "table"]),
    ("read", &["answer", "branch", "error", "limits", "log", "table"]),
    (
        "core",
        &[
            "answer", "branch", "disk", "error", "limits", "log", "manifest", "memory", "object", "read",
            "table",
        ],
    ),
    (
        "ingest",
        &["answer", "branch", "core", "error", "limits", "log", "manifest", "memory", "read", "table"],
    ),
    (
        "project",
        &[
            "answer", "branch", "core", "disk", "error", "ingest", "log", "manifest", "memory", "object",
            "read", "table",
        ],
    ),
];

/// From the bottom up: a room touches only rooms before it.
const SERVER: Table = &[
    ("limits", &[]),
    ("clock", &[]),
    ("error", &["clock"]),
    ("failpoint", &["error"]),
    ("names", &["error", "limits"]),
    ("machine", &["error", "failpoint", "limits", "names"]),
    ("metadata", &["clock", "error", "failpoint", "limits", "names"]),
    ("operations", &["clock", "error", "limits", "metadata"]),
    ("access", &["clock", "error", "limits", "machine", "metadata", "names"]),
    ("storage", &["error", "failpoint", "limits", "machine", "metadata"]),
    (
        "fleet",
        &["clock", "error", "failpoint", "limits", "machine", "metadata", "names", "operations", "storage"],
    ),
    (
        "control",
        &[
            "access",
            "clock",
            "error",
            "failpoint",
            "fleet",
            "limits",
            "machine",
            "metadata",
            "names",
            "operations",
            "storage",
        ],
    ),
    ("recover", &["control", "error", "failpoint", "fleet", "metadata", "storage"]),
    (
        "http",
        &[
            "access",
            "clock",
            "control",
            "error",
            "failpoint",
            "fleet",
            "limits",
            "machine",
            "metadata",
            "names",
        ],
    ),
    (
        "serve",
        &[
            "access",
            "control",
            "error",
            "failpoint",
            "fleet",
            "http",
            "limits",
            "machine",
            "metadata",
            "operations",
            "recover",
            "storage",
        ],
    ),
];

/// Checks the rooms of every crate that has a table.
pub fn check(sources: &[Source<'_>], breaches: &mut Vec<String>) {
    for (name, table) in CRATES {
        compare(name, table, &needs_of(name, sources), breaches);
    }
}

fn compare(name: &str, table: &[(&str, &[&str])], needs: &Needs, breaches: &mut Vec<String>) {
    const HERE: &str = "crates/xtask/src/tidy/edges.rs";
    let rooms: BTreeSet<&str> = needs.keys().map(|file| room_of(file)).collect();
    let edges = edges(needs);
    let allowed = |room: &str| table.iter().find(|(known, _)| *known == room).map(|(_, allowed)| *allowed);
    for room in &rooms {
        if allowed(room).is_none() {
            breaches.push(format!("crates/{name}: {HERE} does not say what the room {room} may touch"));
        }
    }
    for ((from, to), (file, needed)) in &edges {
        if allowed(from).is_some_and(|allowed| !allowed.contains(to)) {
            breaches.push(format!(
                "crates/{name}: {file} needs {needed}, but {from} may not touch {to} ({HERE})"
            ));
        }
    }
    for (room, allowed) in table {
        if !rooms.contains(room) {
            breaches.push(format!("crates/{name}: there is no room {room}, which {HERE} names"));
            continue;
        }
        for other in allowed.iter().filter(|other| !edges.contains_key(&(*room, **other))) {
            breaches.push(format!("crates/{name}: {room} touches nothing of {other}, as {HERE} lets it"));
        }
    }
}

/// The room that a file is in, by their modules' paths.
fn room_of(file: &str) -> &str {
    file.split_once("::").map_or(file, |(room, _)| room)
}

/// The rooms that each room touches, and by which file of it and of the other.
fn edges(needs: &Needs) -> BTreeMap<(&str, &str), (&str, &str)> {
    let all =
        needs.iter().flat_map(|(file, needed)| needed.iter().map(move |it| (file.as_str(), it.as_str())));
    let mut edges = BTreeMap::new();
    for (file, needed) in all.filter(|(file, needed)| room_of(file) != room_of(needed)) {
        edges.entry((room_of(file), room_of(needed))).or_insert((file, needed));
    }
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[(&str, &[&str])] = &[("low", &[]), ("high", &["low"])];

    /// What is wrong with files that need others.
    fn breaches_of(table: &[(&str, &[&str])], files: &[(&str, &[&str])]) -> Vec<String> {
        let needed = |needed: &[&str]| needed.iter().map(|file| (*file).to_owned()).collect();
        let needs = files.iter().map(|(file, of)| ((*file).to_owned(), needed(of))).collect();
        let mut breaches = Vec::new();
        compare("x", table, &needs, &mut breaches);
        breaches
    }

    #[test]
    fn what_the_table_says_is_no_breach_and_a_room_may_touch_itself() {
        let files: [(&str, &[&str]); 3] =
            [("low", &["low::inner"]), ("low::inner", &[]), ("high::inner", &["low::inner"])];
        assert!(breaches_of(TABLE, &files).is_empty());
    }

    #[test]
    fn a_room_that_the_table_lacks_is_a_breach() {
        let files: [(&str, &[&str]); 3] = [("low", &[]), ("high", &["low"]), ("new::inner", &["low"])];
        let breach = "crates/x: crates/xtask/src/tidy/edges.rs does not say what the room new may touch";
        assert_eq!(breaches_of(TABLE, &files), [breach]);
    }

    #[test]
    fn an_edge_that_the_table_lacks_is_a_breach_and_names_the_files() {
        let files: [(&str, &[&str]); 2] = [("low::inner", &["high"]), ("high", &["low::inner"])];
        let breach =
            "crates/x: low::inner needs high, but low may not touch high (crates/xtask/src/tidy/edges.rs)";
        assert_eq!(breaches_of(TABLE, &files), [breach]);
    }

    #[test]
    fn what_the_table_allows_and_no_code_needs_is_a_breach() {
        let files: [(&str, &[&str]); 2] = [("low", &[]), ("high", &[])];
        let breach = "crates/x: high touches nothing of low, as crates/xtask/src/tidy/edges.rs lets it";
        assert_eq!(breaches_of(TABLE, &files), [breach]);
    }

    #[test]
    fn a_room_that_is_gone_is_a_breach() {
        let breach = "crates/x: there is no room high, which crates/xtask/src/tidy/edges.rs names";
        assert_eq!(breaches_of(TABLE, &[("low", &[])]), [breach]);
    }
}
