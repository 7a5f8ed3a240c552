//! Any history of puts, freezes, flushes and branches answers as one sorted map would.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use types::{BlockNumber, Fork, Key, Lsn, Page, RelFork, RelTag, SlruKind};

use crate::branch::Branch;
use crate::disk::System;
use crate::error::Result;
use crate::manifest::BranchEntry;
use crate::memory::{Account, BlockCache};
use crate::object::ObjectStore;
use crate::object::memory::Memory;
use crate::table::layer::{Layer, LayerWriter, object_name};
use crate::table::memtable::{Memtable, Older};
use crate::table::value::{Kind, Lookup};

#[derive(Clone, Debug)]
enum Op {
    /// A version of a key on some branch.
    Put { branch: usize, key: u8, kind: u8 },
    /// The open memtable is full.
    Freeze { branch: usize },
    /// The oldest frozen memtable becomes a layer.
    Flush { branch: usize },
    /// A branch at the newest position of another.
    Branch { from: usize },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0usize..8, 0u8..6, 1u8..8).prop_map(|(branch, key, kind)| Op::Put { branch, key, kind }),
        2 => (0usize..8).prop_map(|branch| Op::Freeze { branch }),
        2 => (0usize..8).prop_map(|branch| Op::Flush { branch }),
        1 => (0usize..8).prop_map(|from| Op::Branch { from }),
    ]
}

fn key(number: u8) -> Key {
    let rel = RelTag { tablespace: 1663, database: 5, relation: u32::from(number) };
    let rel = RelFork { rel, fork: Fork::Main };
    match number {
        0..=2 => Key::RelBlock(rel, BlockNumber::new(0)),
        3 => Key::SlruBlock(SlruKind::Clog, u32::from(number)),
        4 => Key::ReplOrigin(u16::from(number)),
        _ => Key::RelSize(rel),
    }
}

fn at(raw: u64) -> Lsn {
    Lsn::from_raw(raw).unwrap()
}

/// No page is stored whole: the model knows of none.
struct Nothing;

impl Older for Nothing {
    fn chain(&self, _: &Key) -> Result<u8> {
        Ok(0)
    }

    fn page(&self, _: &Key, _: Lsn) -> Option<Page> {
        None
    }
}

/// Every version of every branch, and where each branch came from.
#[derive(Default)]
struct Model {
    versions: BTreeMap<(usize, Key, Lsn), (Kind, Vec<u8>)>,
    parents: Vec<Option<(usize, Lsn)>>,
}

impl Model {
    /// Newest first, down to the first full version.
    fn lookup(&self, branch: usize, key: Key, cap: Lsn) -> Vec<(Lsn, Vec<u8>)> {
        let mut found = Vec::new();
        let own = self.versions.range((branch, key, at(1))..=(branch, key, cap)).rev();
        for ((_, _, lsn), (kind, bytes)) in own {
            found.push((*lsn, bytes.clone()));
            if kind.is_full() {
                return found;
            }
        }
        if let Some((parent, start)) = self.parents[branch] {
            found.extend(self.lookup(parent, key, cap.min(start)));
        }
        found
    }
}

struct Real {
    objects: Arc<Memory>,
    cache: Arc<BlockCache>,
    account: Arc<Account>,
    dir: tempfile::TempDir,
    layers: u64,
    branches: Vec<Arc<Branch>>,
}

impl Real {
    fn branch(&mut self, parent: Option<(Arc<Branch>, Lsn)>, start: Lsn) {
        let origin = parent.as_ref().map(|(parent, _)| parent.id.clone());
        let entry = BranchEntry::new(origin.as_ref(), start);
        let id = format!("b{}", self.branches.len()).parse().unwrap();
        let branch = Branch::new(id, origin, &entry, &self.account);
        if let Some((parent, _)) = &parent {
            branch.hold(parent);
        }
        self.branches.push(Arc::new(branch));
    }

    fn freeze(&self, branch: usize) {
        let mut view = self.branches[branch].view.write();
        let table = std::mem::replace(&mut view.active, Memtable::new(&self.account));
        view.frozen.push_back(Arc::new(table));
    }

    fn flush(&mut self, branch: usize) {
        let mut view = self.branches[branch].view.write();
        let Some(table) = view.frozen.pop_front() else { return };
        self.layers += 1;
        let mut writer = LayerWriter::create(Arc::new(System), &self.dir.path().join("layer")).unwrap();
        table.write(&mut writer, &Nothing).unwrap();
        let file = writer.finish(&[]).unwrap();
        self.objects.put_file_if_absent(&object_name(self.layers), &file).unwrap();
        let layer = Layer::open(self.layers, self.objects.clone(), self.cache.clone()).unwrap();
        let mut layers = view.layers.to_vec();
        layers.push(Arc::new(layer));
        view.layers = Arc::new(layers);
    }
}

fn run(ops: &[Op]) -> (Model, Real) {
    let mut model = Model { parents: vec![None], ..Model::default() };
    let mut real = Real {
        objects: Arc::default(),
        cache: Arc::new(BlockCache::new(1 << 16)),
        account: Arc::new(Account::new(Arc::default())),
        dir: tempfile::tempdir().unwrap(),
        layers: 0,
        branches: Vec::new(),
    };
    real.branch(None, at(1));
    let mut now = 1;
    for op in ops {
        now += 1;
        match *op {
            Op::Put { branch, key: number, kind } => {
                let branch = branch % real.branches.len();
                let kind = Kind::from_raw(kind).filter(|&kind| kind != Kind::Image).unwrap_or(Kind::Zero);
                let bytes = match kind {
                    Kind::Modify | Kind::Rebuild | Kind::Meta => vec![number; (now % 40) as usize + 1],
                    _ => Vec::new(),
                };
                let table = &mut real.branches[branch].view.write().active;
                let place = table.store(&[&bytes]);
                table.add(key(number), at(now), (kind, 0), place);
                model.versions.insert((branch, key(number), at(now)), (kind, bytes));
            }
            Op::Freeze { branch } => real.freeze(branch % real.branches.len()),
            Op::Flush { branch } => {
                let branch = branch % real.branches.len();
                real.flush(branch);
            }
            Op::Branch { from } => {
                let from = from % real.branches.len();
                model.parents.push(Some((from, at(now))));
                let parent = real.branches[from].clone();
                real.branch(Some((parent, at(now))), at(now));
            }
        }
    }
    (model, real)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Rule 1 of the crate's README.
    /// Rule 6 of the crate's README.
    #[test]
    fn tables_of_all_branches_agree_with_one_map(ops in prop::collection::vec(op(), 1..150)) {
        let (model, real) = run(&ops);
        for (number, branch) in real.branches.iter().enumerate() {
            for cap in (1..ops.len() as u64 + 3).step_by(3) {
                // Lookups come sorted by key.
                let mut keys: Vec<Key> = (0..6).map(key).collect();
                keys.sort();
                let mut lookups: Vec<Lookup> = keys.iter().map(|&key| Lookup::new(key, at(cap))).collect();
                branch.lookup(&mut lookups).unwrap();
                for (lookup, key) in lookups.iter().zip(&keys) {
                    let got: Vec<_> =
                        lookup.found.iter().map(|version| (version.lsn, version.bytes.to_vec())).collect();
                    prop_assert_eq!(got, model.lookup(number, *key, at(cap)), "{:?} of {} at {}", key, number, cap);
                }
                let scanned = branch.scan(key(5), key(4), at(cap)).unwrap();
                for number_of in 3..6 {
                    let key = key(number_of);
                    let newest = model.lookup(number, key, at(cap)).first().map(|(lsn, _)| *lsn);
                    let newest = newest.filter(|lsn| {
                        let versions = model.versions.iter();
                        versions.clone().any(|((_, k, l), (kind, _))| {
                            *k == key && l == lsn && *kind != Kind::Tombstone
                        })
                    });
                    prop_assert_eq!(scanned.get(&key).map(|version| version.lsn), newest);
                }
            }
        }
    }
}
