//! Two data directories, relation file by relation file.
//!
//! Compared as `wal_consistency_checking` compares: hint bits, checksums and the free space in the middle of a page
//! are masked. Free space maps are left out: Postgres rebuilds them, and they are hardly in the WAL.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use redo::mask;
use types::{BLOCK_SIZE, BlockNumber, Page};
use wal::RmgrId;

/// Fails unless every relation fork of `ours` and `oracle` has the same size and the same pages; gives the number of
/// pages compared.
///
/// # Panics
/// Naming the files and blocks that differ.
pub fn assert_same_relations(ours: &Path, oracle: &Path) -> usize {
    let (pages, faults) = differences(ours, oracle);
    assert!(faults.is_empty(), "{} differences\n{}", faults.len(), faults[..faults.len().min(40)].join("\n"));
    pages
}

/// The number of pages compared, and what differs.
pub fn differences(ours: &Path, oracle: &Path) -> (usize, Vec<String>) {
    let (our_files, oracle_files) = (relation_files(ours), relation_files(oracle));
    let mut faults = Vec::new();
    for name in our_files.keys().filter(|name| !oracle_files.contains_key(*name)) {
        faults.push(format!("{name}: only in ours"));
    }
    let mut pages = 0;
    for (name, path) in &oracle_files {
        match our_files.get(name) {
            Some(ours) => pages += compare(name, ours, path, &mut faults),
            None => faults.push(format!("{name}: missing")),
        }
    }
    (pages, faults)
}

fn compare(name: &str, ours: &Path, oracle: &Path, faults: &mut Vec<String>) -> usize {
    let (a, b) = (fs::read(ours).unwrap(), fs::read(oracle).unwrap());
    if a.len() != b.len() {
        faults.push(format!("{name}: {} bytes, oracle {}", a.len(), b.len()));
    }
    let segment: u32 = name.rsplit_once('.').and_then(|(_, n)| n.parse().ok()).unwrap_or(0);
    for (index, (x, y)) in a.chunks(BLOCK_SIZE).zip(b.chunks(BLOCK_SIZE)).enumerate() {
        let (mut x, mut y) = (Page::from_slice(x).unwrap(), Page::from_slice(y).unwrap());
        let block = segment * 131_072 + u32::try_from(index).unwrap();
        mask_by_shape(name, &mut x, block);
        mask_by_shape(name, &mut y, block);
        if x != y {
            let at: Vec<_> =
                (0..BLOCK_SIZE).filter(|&i| x[i] != y[i]).take(6).map(|i| (i, x[i], y[i])).collect();
            faults.push(format!("{name}: block {block} differs at (byte, ours, oracle) {at:?}"));
        }
    }
    b.len() / BLOCK_SIZE
}

/// Masks a page as its resource manager would; a visibility map's has nothing to mask but what every page has.
fn mask_by_shape(name: &str, page: &mut Page, block: u32) {
    let rmgr = if name.contains("_vm") { RmgrId::SEQ } else { mask::owner(page) };
    mask::mask(page, rmgr, BlockNumber::new(block));
}

/// Relation files below `base`, `global` and the tablespaces, by their path in the data directory.
fn relation_files(data: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let mut open = vec![data.join("base"), data.join("global"), data.join("pg_tblspc")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if fs::metadata(&path).unwrap().is_dir() {
                open.push(path);
                continue;
            }
            let name = path.file_name().unwrap().to_str().unwrap();
            if is_relation(name) && !name.contains("_fsm") {
                let inside = path.strip_prefix(data).unwrap().to_str().unwrap().to_owned();
                found.insert(inside, path);
            }
        }
    }
    found
}

fn is_relation(name: &str) -> bool {
    let stem = name.split(['_', '.']).next().unwrap_or("");
    !stem.is_empty() && stem.bytes().all(|b| b.is_ascii_digit())
}
