//! Where files are below a data directory; those of relations both ways: `base/5/16384_vm.1` <-> (1663/5/16384,
//! visibility map, segment 1).
//!
//! Follows `GetRelationPath` in `common/relpath.c` and `_mdfd_segpath` in `storage/smgr/md.c`. Temporary relations
//! (`t3_16384`) have no name here: they are never logged.
//!
//! Not here: the log's files (`wal`).

use crate::{DEFAULT_TABLESPACE, Fork, GLOBAL_TABLESPACE, RelFork, RelTag, SlruKind};

/// Blocks in one segment file of a relation (`RELSEG_SIZE`): 1 GB.
pub const SEGMENT_BLOCKS: u32 = 131_072;
/// Where tablespaces are, one entry each.
pub const TABLESPACES: &str = "pg_tblspc";

/// Name of the directory of a major version's files in a tablespace (`TABLESPACE_VERSION_DIRECTORY`).
pub fn version_directory(major: u32, catalog_version: u32) -> String {
    format!("PG_{major}_{catalog_version}")
}

/// Directory of a database's files in a tablespace, below the data directory (`GetDatabasePath`); `version_dir` is such as
/// `PG_15_202209061`.
pub fn database_directory(tablespace: u32, database: u32, version_dir: &str) -> String {
    match tablespace {
        GLOBAL_TABLESPACE => "global".to_owned(),
        DEFAULT_TABLESPACE => format!("base/{database}"),
        _ => format!("{TABLESPACES}/{tablespace}/{version_dir}/{database}"),
    }
}

/// The path of a segment file below the data directory; `version_dir` is such as `PG_15_202209061`.
pub fn relation_path(rel: RelFork, segment: u32, version_dir: &str) -> String {
    let RelTag { tablespace, database, relation } = rel.rel;
    let directory = database_directory(tablespace, database, version_dir);
    let suffix = rel.fork.suffix();
    match segment {
        0 => format!("{directory}/{relation}{suffix}"),
        _ => format!("{directory}/{relation}{suffix}.{segment}"),
    }
}

/// The path of a segment file of an SLRU below the data directory (`SlruFileName`).
pub fn slru_path(kind: SlruKind, segment: u32) -> String {
    format!("{}/{segment:04X}", kind.directory())
}

/// The relation and segment that a path below the data directory names; `None` for every other file.
pub fn parse_relation_path(path: &str) -> Option<(RelFork, u32)> {
    let parts: Vec<&str> = path.split('/').collect();
    let (tablespace, database, file) = match *parts.as_slice() {
        ["global", file] => (GLOBAL_TABLESPACE, 0, file),
        ["base", database, file] => (DEFAULT_TABLESPACE, number(database)?, file),
        [TABLESPACES, tablespace, _, database, file] => (number(tablespace)?, number(database)?, file),
        _ => return None,
    };
    let (relation, fork, segment) = parse_relation_file(file)?;
    Some((RelFork { rel: RelTag { tablespace, database, relation }, fork }, segment))
}

/// Relation, fork and segment of a file name like `16384_vm.1`; `None` if it is no permanent relation's.
pub fn parse_relation_file(name: &str) -> Option<(u32, Fork, u32)> {
    let (stem, segment) = match name.split_once('.') {
        Some((stem, segment)) => (stem, number(segment)?),
        None => (name, 0),
    };
    let (digits, fork) = match stem.split_once('_') {
        None => (stem, Fork::Main),
        Some((digits, "fsm")) => (digits, Fork::FreeSpace),
        Some((digits, "vm")) => (digits, Fork::Visibility),
        Some((digits, "init")) => (digits, Fork::Init),
        Some(_) => return None,
    };
    Some((number(digits)?, fork, segment))
}

/// A number as Postgres writes them in file names: digits only, no sign, no leading zero, and none of them is zero.
fn number(text: &str) -> Option<u32> {
    let plain = !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relation_path_and_its_parse_are_inverse() {
        for path in [
            "global/1262",
            "base/5/16384",
            "base/5/16384.1",
            "base/5/16384_vm",
            "base/5/4294967295_fsm.31",
            "base/5/16384_init",
            "pg_tblspc/16390/PG_15_202209061/5/16400.2",
        ] {
            let (rel, segment) = parse_relation_path(path).expect(path);
            assert_eq!(relation_path(rel, segment, "PG_15_202209061"), path);
        }
    }

    #[test]
    fn a_relation_file_says_fork_and_segment() {
        assert_eq!(parse_relation_file("16384"), Some((16384, Fork::Main, 0)));
        assert_eq!(parse_relation_file("16384_vm.2"), Some((16384, Fork::Visibility, 2)));
        assert_eq!(parse_relation_file("16384_init"), Some((16384, Fork::Init, 0)));
    }

    #[test]
    fn files_that_are_not_segments_of_permanent_relations_are_not_relations() {
        for path in [
            "base/5/PG_VERSION",
            "base/5/pg_filenode.map",
            "base/5/t3_16384",
            "base/5/16384.0",
            "base/5/16384.x",
            "base/5/016384",
            "base/5/16384_foo",
            "base/5/16384.",
            "base/5/0",
            "base/5/pg_internal.init",
            "base/5/",
            "base/5/99999999999",
            "base/pgsql_tmp/pgsql_tmp12.0",
            "pg_xact/0000",
            "global/pg_control",
            "",
        ] {
            assert_eq!(parse_relation_path(path), None, "{path}");
        }
    }
}
