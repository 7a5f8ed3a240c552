//! The core without a kernel: any history of operations agrees with a map from path to bytes.

use crate::content::{Attempt, Content};
use crate::filesystem::{FileSystem, Options};
use crate::source::PageSource;
use crate::tree::{Body, Node, NodeId, Owner, ROOT};
use proptest::collection::vec;
use proptest::prelude::*;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use types::{BlockNumber, DEFAULT_TABLESPACE, Fork, RelFork, RelTag};

type Model = BTreeMap<String, Vec<u8>>;

const OWNER: Owner = Owner { uid: 0, gid: 0, mode: 0o600 };
/// Blocks of base/5/16384 and so on at the start.
const BASE_BLOCKS: [u32; 4] = [1, 3, 17, 0];

#[derive(Clone, Debug)]
enum Op {
    Write { file: usize, at: u64, len: usize, byte: u8 },
    Truncate { file: usize, len: u64 },
    Allocate { file: usize, at: u64, len: u64, keep_len: bool },
    Read { file: usize, at: u64, len: usize },
    Unlink { file: usize },
    Link { from: usize, to: usize },
    Rename { from: usize, to: usize, exclusive: bool },
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..160_000u64,
        (0..40u64).prop_map(|n| n * 4096),
        (0..20u64).prop_map(|n| n * 8192),
        0..9000u64
    ]
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![0..30_000u64, Just(8192u64), Just(4096u64), 0..20u64]
}

fn op() -> impl Strategy<Value = Op> {
    let file = || 0..8usize;
    prop_oneof![
        6 => (file(), offset(), length(), 1..=255u8)
            .prop_map(|(file, at, len, byte)| Op::Write { file, at, len: len as usize, byte }),
        3 => (file(), offset()).prop_map(|(file, len)| Op::Truncate { file, len }),
        1 => (file(), offset(), length(), any::<bool>())
            .prop_map(|(file, at, len, keep_len)| Op::Allocate { file, at, len, keep_len }),
        4 => (file(), offset(), length()).prop_map(|(file, at, len)| Op::Read { file, at, len: len as usize }),
        1 => file().prop_map(|file| Op::Unlink { file }),
        1 => (file(), file()).prop_map(|(from, to)| Op::Link { from, to }),
        1 => (file(), file(), any::<bool>())
            .prop_map(|(from, to, exclusive)| Op::Rename { from, to, exclusive }),
    ]
}

fn rel(relation: u32) -> RelFork {
    let rel = RelTag { tablespace: DEFAULT_TABLESPACE, database: 5, relation };
    RelFork { rel, fork: Fork::Main }
}

fn base_byte(rel: RelFork, at: u64) -> u8 {
    (at / 7 + at / 4096 * 31 + u64::from(rel.rel.relation) * 13) as u8 | 1
}

struct Patterns;

impl PageSource for Patterns {
    fn read(&self, rel: RelFork, first: BlockNumber, out: &mut [u8]) -> io::Result<()> {
        let index = (rel.rel.relation - 16384) as usize;
        let blocks = out.len() / 8192;
        assert!(blocks > 0 && out.len().is_multiple_of(8192), "whole blocks");
        assert!(first.get() as usize + blocks <= BASE_BLOCKS[index] as usize, "no block behind the base");
        for (i, byte) in out.iter_mut().enumerate() {
            *byte = base_byte(rel, u64::from(first.get()) * 8192 + i as u64);
        }
        Ok(())
    }
}

/// The file system under test, driven by paths.
struct Core {
    fs: FileSystem,
    directories: [NodeId; 2],
    _dir: tempfile::TempDir,
}

fn path(file: usize) -> String {
    match file {
        0..4 => format!("base/5/{}", 16384 + file),
        _ => format!("d/f{file}"),
    }
}

impl Core {
    fn new() -> (Self, Model) {
        let dir = tempfile::tempdir().unwrap();
        let version_dir = "PG_15_202209061".to_owned();
        let options = Options { overlay_dir: dir.path().to_owned(), uid: 0, gid: 0, version_dir };
        let fs = FileSystem::new(options, Arc::new(Patterns)).unwrap();
        let mut model = Model::new();
        for (i, &blocks) in BASE_BLOCKS.iter().enumerate() {
            let rel = rel(16384 + i as u32);
            fs.add_relation(rel, blocks, rel).unwrap();
            model.insert(path(i), (0..u64::from(blocks) * 8192).map(|at| base_byte(rel, at)).collect());
        }
        fs.write_file("d/f4", b"small", 0o600).unwrap();
        model.insert(path(4), b"small".to_vec());
        let find = |parent: NodeId, name: &str| fs.tree.peek(parent, OsStr::new(name)).unwrap().id;
        let directories = [find(find(ROOT, "base"), "5"), find(ROOT, "d")];
        (Self { fs, directories, _dir: dir }, model)
    }

    fn split(&self, file: usize) -> (NodeId, String) {
        let path = path(file);
        let name = path.rsplit('/').next().unwrap().to_owned();
        (self.directories[usize::from(file >= 4)], name)
    }

    fn node(&self, file: usize) -> Result<Arc<Node>, Errno> {
        let (parent, name) = self.split(file);
        self.fs.tree.peek(parent, OsStr::new(&name))
    }

    fn open(&self, file: usize) -> Arc<Node> {
        let (parent, name) = self.split(file);
        let body = Body::Regular(Content::plain(&[]));
        match self.fs.tree.create(parent, OsStr::new(&name), OWNER, body) {
            Ok(node) => {
                self.fs.tree.forget(node.id, 1);
                node
            }
            Err(errno) => {
                assert_eq!(errno, Errno::EXIST);
                self.node(file).unwrap()
            }
        }
    }

    fn listing(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (id, prefix) in self.directories.iter().zip(["base/5", "d"]) {
            let mut names = Vec::new();
            self.fs
                .tree
                .list(*id, 0, |_, name, _| {
                    names.push(format!("{prefix}/{}", name.to_str().unwrap()));
                    true
                })
                .unwrap();
            found.extend(names.split_off(2));
        }
        found.sort();
        found
    }
}

/// What the file system should hold: names, each leading to a file; files, by a number.
struct Expected {
    names: BTreeMap<String, usize>,
    files: Vec<Vec<u8>>,
}

impl Expected {
    fn new(model: Model) -> Self {
        let names = model.keys().cloned().enumerate().map(|(i, name)| (name, i)).collect();
        Self { names, files: model.into_values().collect() }
    }

    fn get(&mut self, file: usize) -> Option<&mut Vec<u8>> {
        let index = *self.names.get(&path(file))?;
        self.files.get_mut(index)
    }

    fn open(&mut self, file: usize) -> &mut Vec<u8> {
        let index = *self.names.entry(path(file)).or_insert_with(|| {
            self.files.push(Vec::new());
            self.files.len() - 1
        });
        &mut self.files[index]
    }

    fn rename(&mut self, from: usize, to: usize, exclusive: bool) -> Result<(), Errno> {
        let index = *self.names.get(&path(from)).ok_or(Errno::NOENT)?;
        match self.names.get(&path(to)) {
            Some(_) if exclusive => Err(Errno::EXIST),
            Some(&other) if other == index => Ok(()),
            _ => {
                self.names.remove(&path(from));
                self.names.insert(path(to), index);
                Ok(())
            }
        }
    }
}

fn apply(core: &Core, expected: &mut Expected, op: Op) {
    let backing = &core.fs.backing;
    match op {
        Op::Write { file, at, len, byte } => {
            let data = vec![byte; len];
            let node = core.open(file);
            let content = node.content().unwrap();
            if content.try_write(backing, at, &data).unwrap() == Attempt::NeedsSource {
                assert!(!at.is_multiple_of(4096) || !(at + len as u64).is_multiple_of(4096), "whole pages");
                content.write(backing, at, &data).unwrap();
            }
            let bytes = expected.open(file);
            if len > 0 {
                let end = at as usize + len;
                bytes.resize(bytes.len().max(end), 0);
                bytes[at as usize..end].fill(byte);
            }
        }
        Op::Truncate { file, len } => {
            let node = core.open(file);
            let content = node.content().unwrap();
            if matches!(content.try_set_len(backing, len), Ok(Attempt::NeedsSource)) {
                assert!(!len.is_multiple_of(4096), "whole pages");
                content.set_len(backing, len).unwrap();
            }
            expected.open(file).resize(len as usize, 0);
        }
        Op::Allocate { file, at, len, keep_len } => {
            let len = len.max(1);
            core.open(file).content().unwrap().allocate(backing, at, len, keep_len).unwrap();
            let bytes = expected.open(file);
            if !keep_len {
                bytes.resize(bytes.len().max((at + len) as usize), 0);
            }
        }
        Op::Read { file, at, len } => {
            let found = core.node(file).map(|node| {
                let mut out = vec![0xEE; len];
                let content = node.content().unwrap();
                let n = match content.try_read(at, &mut out).unwrap() {
                    Attempt::Done(n) => n,
                    Attempt::NeedsSource => content.read(backing, at, &mut out).unwrap(),
                };
                out.truncate(n);
                out
            });
            let bytes = expected.get(file).map(|bytes| {
                let from = (at as usize).min(bytes.len());
                bytes[from..(from + len).min(bytes.len())].to_vec()
            });
            assert!(found.ok() == bytes, "reading {} at {at}, {len} bytes", path(file));
        }
        Op::Unlink { file } => {
            let (parent, name) = core.split(file);
            let removed = core.fs.tree.unlink(parent, OsStr::new(&name)).is_ok();
            assert_eq!(removed, expected.names.remove(&path(file)).is_some());
        }
        Op::Link { from, to } => {
            let (parent, name) = core.split(to);
            let Ok(node) = core.node(from) else { return };
            let linked = core.fs.tree.link(node.id, parent, OsStr::new(&name));
            assert_eq!(linked.is_err(), expected.names.contains_key(&path(to)));
            if linked.is_ok() {
                core.fs.tree.forget(node.id, 1);
                let index = expected.names[&path(from)];
                expected.names.insert(path(to), index);
            }
        }
        Op::Rename { from, to, exclusive } => {
            let ((parent, name), (new_parent, new_name)) = (core.split(from), core.split(to));
            let (name, new_name) = (OsStr::new(&name), OsStr::new(&new_name));
            let renamed = core.fs.tree.rename(parent, name, new_parent, new_name, exclusive);
            assert_eq!(renamed.map(drop), expected.rename(from, to, exclusive));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_core_agrees_with_a_map(ops in vec(op(), 1..80)) {
        let (core, model) = Core::new();
        let mut expected = Expected::new(model);
        for op in ops {
            apply(&core, &mut expected, op);
        }
        prop_assert_eq!(core.listing(), expected.names.keys().cloned().collect::<Vec<_>>());
        for (path, &index) in &expected.names {
            prop_assert!(core.fs.read_file(path).unwrap() == expected.files[index], "{} differs", path);
        }
    }
}

#[test]
fn extending_after_a_truncation_gives_zeros_not_base_pages() {
    let (core, _) = Core::new();
    let node = core.node(2).unwrap();
    let content = node.content().unwrap();
    content.set_len(&core.fs.backing, 10_000).unwrap();
    content.set_len(&core.fs.backing, 17 * 8192).unwrap();
    let bytes = core.fs.read_file(&path(2)).unwrap();
    assert_eq!(bytes.len(), 17 * 8192);
    assert!(bytes[..10_000].iter().enumerate().all(|(at, &b)| b == base_byte(rel(16386), at as u64)));
    assert!(bytes[10_000..].iter().all(|&b| b == 0));
}

#[test]
fn a_removed_file_goes_when_it_is_forgotten_and_not_before() {
    let (core, _) = Core::new();
    let (parent, name) = core.split(1);
    let node = core.fs.tree.lookup(parent, OsStr::new(&name)).unwrap();
    core.fs.tree.unlink(parent, OsStr::new(&name)).unwrap();
    assert!(core.fs.tree.node(node.id).is_ok());
    core.fs.tree.forget(node.id, 1);
    assert_eq!(core.fs.tree.node(node.id).err(), Some(Errno::STALE));
}

/// Freeing a file takes as long as it is large. It ends with what the tree gives back, and not under the tree's lock.
#[test]
fn a_removed_file_is_freed_by_whoever_drops_it_and_meanwhile_the_tree_answers() {
    let (core, _) = Core::new();
    let large = |file: usize| {
        let node = core.open(file);
        node.content().unwrap().write(&core.fs.backing, 0, &vec![1; 9 << 20]).unwrap();
        Arc::downgrade(&node)
    };
    let (parent, name) = core.split(5);
    let (_, other) = core.split(6);
    let (name, other) = (OsStr::new(&name), OsStr::new(&other));

    let node = large(5);
    let unlinked = core.fs.tree.unlink(parent, name).unwrap();
    assert!(unlinked.is_large() && node.upgrade().is_some());
    let replaced = large(5);
    core.open(6);
    let renamed = core.fs.tree.rename(parent, other, parent, name, false).unwrap();
    assert!(renamed.is_large() && replaced.upgrade().is_some());
    let node = large(6);
    let id = core.fs.tree.lookup(parent, other).unwrap().id;
    assert!(!core.fs.tree.unlink(parent, other).unwrap().is_large(), "it is still known");
    let forgotten = core.fs.tree.forget(id, 1);
    assert!(forgotten.is_large() && node.upgrade().is_some());
    drop((unlinked, renamed, forgotten));
    assert!(node.upgrade().is_none() && replaced.upgrade().is_none());
}

#[test]
fn small_files_need_no_overlay_file() {
    let (core, _) = Core::new();
    let content = core.open(5);
    content.content().unwrap().write(&core.fs.backing, 0, &[1; 8192]).unwrap();
    assert_eq!(core.fs.stats().overlay_files, 0);
    content.content().unwrap().write(&core.fs.backing, 8192, &[1]).unwrap();
    assert_eq!(core.fs.stats().overlay_files, 1);
    content.content().unwrap().set_len(&core.fs.backing, 0).unwrap();
    assert_eq!(core.fs.stats().overlay_files, 0);
}
