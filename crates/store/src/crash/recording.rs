//! A disk that notes every change, and what a crash after any of them would have left.
//!
//! Two things are lost only in a power failure: bytes of a file since its last sync, and names made or removed in a
//! directory since that directory's. Any of them may be kept all the same, in any combination.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{Disk, System};

/// One change. Paths are relative to the recorder's root.
#[derive(Clone, Debug)]
pub(super) enum Op {
    MakeDir(PathBuf),
    Create(PathBuf),
    Write(PathBuf, u64, Arc<[u8]>),
    Sync(PathBuf),
    SetLen(PathBuf, u64),
    Link(PathBuf, PathBuf),
    RemoveFile(PathBuf),
    RemoveDir(PathBuf),
    /// A change that a test took out.
    Nothing,
}

/// Changes real files below `root` and notes how.
pub(super) struct Recorder {
    root: PathBuf,
    ops: Mutex<Vec<Op>>,
}

impl Recorder {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), ops: Mutex::new(Vec::new()) }
    }

    /// Changes so far.
    pub(super) fn count(&self) -> usize {
        self.ops.lock().len()
    }

    pub(super) fn ops(&self) -> Vec<Op> {
        self.ops.lock().clone()
    }

    /// Does one change while no other is under way, so that the order noted is the order on disk.
    fn note(
        &self,
        act: impl FnOnce() -> io::Result<()>,
        op: impl FnOnce(&dyn Fn(&Path) -> PathBuf) -> Op,
    ) -> io::Result<()> {
        let mut ops = self.ops.lock();
        act()?;
        ops.push(op(&|path| path.strip_prefix(&self.root).unwrap().to_owned()));
        Ok(())
    }
}

impl Disk for Recorder {
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.note(|| System.make_dir(dir), |relative| Op::MakeDir(relative(dir)))
    }

    fn create(&self, file: &Path) -> io::Result<()> {
        self.note(|| System.create(file), |relative| Op::Create(relative(file)))
    }

    fn write_at(&self, file: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.note(|| System.write_at(file, at, bytes), |relative| Op::Write(relative(file), at, bytes.into()))
    }

    fn write_durably(&self, file: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_at(file, at, bytes)?;
        self.sync(file)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.note(|| System.sync(path), |relative| Op::Sync(relative(path)))
    }

    fn set_len(&self, file: &Path, len: u64) -> io::Result<()> {
        self.note(|| System.set_len(file, len), |relative| Op::SetLen(relative(file), len))
    }

    fn link(&self, file: &Path, name: &Path) -> io::Result<()> {
        self.note(|| System.link(file, name), |relative| Op::Link(relative(file), relative(name)))
    }

    fn remove_file(&self, file: &Path) -> io::Result<()> {
        self.note(|| System.remove_file(file), |relative| Op::RemoveFile(relative(file)))
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.note(|| System.remove_dir(dir), |relative| Op::RemoveDir(relative(dir)))
    }
}

/// How a machine stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Crash {
    /// The process is killed: all it did is there.
    Killed,
    /// The power fails: what was not synced is gone.
    PowerLost,
    /// The power fails: names and lengths are there, bytes that were not synced are zeros.
    Zeroed,
    /// The power fails: of what was not synced, chance keeps some.
    Chance(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Node {
    Dir,
    File(usize),
}

#[derive(Clone, Default)]
struct Content {
    written: Vec<u8>,
    synced: Vec<u8>,
}

/// All files after some changes, and which part of them is durable.
#[derive(Clone, Default)]
pub(super) struct Files {
    contents: Vec<Content>,
    names: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    /// Changes of names whose directory was not synced since, in order.
    pending: Vec<(PathBuf, Option<Node>)>,
}

impl Files {
    pub(super) fn after(mut self, ops: &[Op]) -> Self {
        for op in ops {
            self.apply(op);
        }
        self
    }

    fn content(&mut self, file: &Path) -> &mut Content {
        let Some(&Node::File(number)) = self.names.get(file) else { panic!("{} is no file", file.display()) };
        &mut self.contents[number]
    }

    fn name(&mut self, path: &Path, node: Option<Node>) {
        set(&mut self.names, path, node);
        self.pending.push((path.to_owned(), node));
    }

    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::MakeDir(dir) => self.name(dir, Some(Node::Dir)),
            Op::Create(file) if self.names.contains_key(file) => self.content(file).written.clear(),
            Op::Create(file) => {
                self.contents.push(Content::default());
                self.name(file, Some(Node::File(self.contents.len() - 1)));
            }
            Op::Write(file, at, bytes) => {
                let written = &mut self.content(file).written;
                let (at, end) = (*at as usize, *at as usize + bytes.len());
                written.resize(written.len().max(end), 0);
                written[at..end].copy_from_slice(bytes);
            }
            Op::SetLen(file, len) => self.content(file).written.resize(*len as usize, 0),
            Op::Sync(path) if matches!(self.names.get(path), Some(Node::File(_))) => {
                let content = self.content(path);
                content.synced.clone_from(&content.written);
            }
            Op::Sync(dir) => {
                let (now, later) = std::mem::take(&mut self.pending)
                    .into_iter()
                    .partition(|(path, _)| path.parent() == Some(dir));
                self.pending = later;
                let now: Vec<_> = now;
                now.iter().for_each(|(path, node)| set(&mut self.durable, path, *node));
            }
            Op::Link(file, name) => {
                let node = self.names.get(file).copied();
                self.name(name, node);
            }
            Op::RemoveFile(path) | Op::RemoveDir(path) => self.name(path, None),
            Op::Nothing => {}
        }
    }

    /// What is found after the crash, as files that are all durable.
    pub(super) fn crashed(&self, crash: Crash) -> Self {
        let mut chance = Chance(if let Crash::Chance(seed) = crash { seed } else { 0 });
        let names = match crash {
            Crash::Killed | Crash::Zeroed => self.names.clone(),
            Crash::PowerLost => self.durable.clone(),
            Crash::Chance(_) => {
                let mut names = self.durable.clone();
                for (path, node) in &self.pending {
                    if chance.below(2) == 0 {
                        set(&mut names, path, *node);
                    }
                }
                names
            }
        };
        let contents = self.contents.iter().map(|content| {
            let zeroed = || {
                let mut bytes = content.synced.clone();
                bytes.resize(content.written.len(), 0);
                bytes
            };
            match crash {
                Crash::Killed => content.written.clone(),
                Crash::PowerLost => content.synced.clone(),
                Crash::Zeroed => zeroed(),
                Crash::Chance(_) => match chance.below(4) {
                    0 => content.written.clone(),
                    1 => content.synced.clone(),
                    2 => zeroed(),
                    _ => {
                        let mut bytes = zeroed();
                        let kept = chance.below(bytes.len() + 1);
                        bytes[..kept].copy_from_slice(&content.written[..kept]);
                        bytes
                    }
                },
            }
        });
        let contents: Vec<_> =
            contents.map(|bytes| Content { written: bytes.clone(), synced: bytes }).collect();
        // A name in a directory that is not there is not there either.
        let reachable = |path: &PathBuf| {
            path.ancestors()
                .skip(1)
                .all(|dir| dir.as_os_str().is_empty() || names.get(dir) == Some(&Node::Dir))
        };
        let names: BTreeMap<_, _> = names
            .iter()
            .filter(|(path, _)| reachable(path))
            .map(|(path, node)| (path.clone(), *node))
            .collect();
        Self { contents, durable: names.clone(), names, pending: Vec::new() }
    }

    /// Makes these files below the empty directory `root`.
    pub(super) fn write(&self, root: &Path) {
        for (path, node) in &self.names {
            let path = root.join(path);
            match node {
                Node::Dir => fs::create_dir(path).unwrap(),
                Node::File(number) => fs::write(path, &self.contents[*number].written).unwrap(),
            }
        }
    }

    /// Every file and its bytes; directories have none.
    pub(super) fn listing(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let bytes = |node: &Node| match node {
            Node::Dir => None,
            Node::File(number) => Some(self.contents[*number].written.clone()),
        };
        self.names.iter().map(|(path, node)| (path.clone(), bytes(node))).collect()
    }
}

fn set(names: &mut BTreeMap<PathBuf, Node>, path: &Path, node: Option<Node>) {
    match node {
        Some(node) => names.insert(path.to_owned(), node),
        None => names.remove(path),
    };
}

/// Numbers that depend on a seed alone (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }
}
