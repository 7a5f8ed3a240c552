//! File names of relations, both ways: `base/5/16384_vm.1` <-> (1663/5/16384, visibility map, segment 1).
//!
//! Follows `GetRelationPath` in `common/relpath.c` and `_mdfd_segpath` in `storage/smgr/md.c`. Temporary relations
//! (`t3_16384`) have no name here: they never come from a page source.

use types::{DEFAULT_TABLESPACE, Fork, GLOBAL_TABLESPACE, RelFork, RelTag, SlruKind};

/// Blocks in one segment file (`RELSEG_SIZE`): 1 GB.
pub const SEGMENT_BLOCKS: u32 = 131_072;
/// Where tablespaces are, one entry each.
pub(crate) const TABLESPACES: &str = "pg_tblspc";

/// The path of a segment file below the data directory; `version_dir` is such as `PG_15_202209061`.
pub fn relation_path(rel: RelFork, segment: u32, version_dir: &str) -> String {
    let RelTag { tablespace, database, relation } = rel.rel;
    let directory = match tablespace {
        GLOBAL_TABLESPACE => "global".to_owned(),
        DEFAULT_TABLESPACE => format!("base/{database}"),
        _ => format!("{TABLESPACES}/{tablespace}/{version_dir}/{database}"),
    };
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
    let (stem, segment) = match file.split_once('.') {
        Some((stem, segment)) => (stem, number(segment).filter(|&n| n > 0)?),
        None => (file, 0),
    };
    let (digits, fork) = match stem.split_once('_') {
        None => (stem, Fork::Main),
        Some((digits, "fsm")) => (digits, Fork::FreeSpace),
        Some((digits, "vm")) => (digits, Fork::Visibility),
        Some((digits, "init")) => (digits, Fork::Init),
        Some(_) => return None,
    };
    let rel = RelTag { tablespace, database, relation: number(digits)? };
    Some((RelFork { rel, fork }, segment))
}

/// A number as Postgres writes them in file names: digits only, no sign, no leading zero.
fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
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
    fn files_that_are_not_segments_of_permanent_relations_are_not_relations() {
        for path in [
            "base/5/PG_VERSION",
            "base/5/pg_filenode.map",
            "base/5/t3_16384",
            "base/5/16384.0",
            "base/5/16384.x",
            "base/5/016384",
            "base/5/16384_foo",
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
