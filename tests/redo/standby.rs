//! A cluster's pages in memory, changed by WAL as a standby's are: redo with nothing around it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use oracle::{files, replay};
use redo::RedoContext;
use types::{BLOCK_SIZE, BlockNumber, Fork, Key, Page, RelFork, RelTag, SlruKind};
use wal::{Change, InterpretContext, RawRecord, Record};

/// All pages of a cluster.
pub struct Standby {
    redo: RedoContext,
    interpret: InterpretContext,
    forks: HashMap<RelFork, Vec<Page>>,
    slrus: HashMap<(SlruKind, u32), Page>,
    /// How often a record changed a page.
    pub steps: u64,
}

impl Standby {
    /// The pages of a stopped cluster.
    pub fn load(data: &Path) -> Self {
        let control = replay::control(data);
        let mut standby = Self {
            redo: RedoContext { major: control.major, checksums: true },
            interpret: InterpretContext { format: control.format(), track_commit_timestamp: true },
            forks: HashMap::new(),
            slrus: HashMap::new(),
            steps: 0,
        };
        standby.load_directory(&data.join("global"), types::GLOBAL_TABLESPACE, 0);
        for entry in fs::read_dir(data.join("base")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if let Ok(database) = name.parse() {
                standby.load_directory(&path, types::DEFAULT_TABLESPACE, database);
            }
        }
        for kind in SlruKind::ALL {
            for number in 0.. {
                let Some(page) = files::read_page(data, &Key::SlruBlock(kind, number)) else { break };
                standby.slrus.insert((kind, number), page);
            }
        }
        standby
    }

    /// A new cluster's files have one segment each.
    fn load_directory(&mut self, directory: &Path, tablespace: u32, database: u32) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let (relation, suffix) = name.split_at(name.find('_').unwrap_or(name.len()));
            let fork = Fork::ALL.into_iter().find(|fork| fork.suffix() == suffix);
            let (Ok(relation), Some(fork)) = (relation.parse(), fork) else { continue };
            let rel = RelFork { rel: RelTag { tablespace, database, relation }, fork };
            let bytes = fs::read(&path).unwrap();
            let pages = bytes.chunks(BLOCK_SIZE).map(|page| Page::from_slice(page).unwrap()).collect();
            self.forks.insert(rel, pages);
        }
    }

    /// Applies a record to all of its pages.
    ///
    /// # Panics
    /// If redo fails.
    pub fn apply(&mut self, raw: &RawRecord<'_>) {
        let record = Record::decode(raw.start, raw.bytes).unwrap();
        let interpret = self.interpret;
        wal::interpret(&interpret, &record, raw.end, &mut |change| self.change(change, &record, raw))
            .unwrap();
    }

    fn change(&mut self, change: Change, record: &Record<'_>, raw: &RawRecord<'_>) {
        match change {
            Change::Block { rel, block, .. } => {
                let pages = self.forks.entry(rel).or_default();
                let index = block.get() as usize;
                if pages.len() <= index {
                    pages.resize_with(index + 1, Page::zeroed);
                }
                self.steps += 1;
                redo::apply(&self.redo, &Key::RelBlock(rel, block), &mut pages[index], record, raw.end)
                    .unwrap();
            }
            Change::Slru { kind, page: number, .. } => {
                let page = self.slrus.entry((kind, number)).or_insert_with(Page::zeroed);
                self.steps += 1;
                redo::apply(&self.redo, &Key::SlruBlock(kind, number), page, record, raw.end).unwrap();
            }
            Change::ForkTruncated { rel, blocks } => {
                if let Some(pages) = self.forks.get_mut(&rel) {
                    pages.truncate(blocks as usize);
                }
            }
            Change::RelDropped(rel) => {
                for fork in Fork::ALL {
                    self.forks.remove(&RelFork { rel, fork });
                }
            }
            Change::DatabaseCreated { tablespace, database, copy_of: Some(source) } => {
                self.copy(source, (tablespace, database));
            }
            Change::DatabaseDropped { tablespace, database } => {
                self.forks
                    .retain(|fork, _| (fork.rel.tablespace, fork.rel.database) != (tablespace, database));
            }
            _ => {}
        }
    }

    fn copy(&mut self, source: (u32, u32), to: (u32, u32)) {
        let mut copies = Vec::new();
        for (fork, pages) in &self.forks {
            if (fork.rel.tablespace, fork.rel.database) == source {
                let rel = RelTag { tablespace: to.0, database: to.1, ..fork.rel };
                copies.push((RelFork { rel, ..*fork }, pages.clone()));
            }
        }
        self.forks.extend(copies);
    }

    /// The page of a relation, if it is there.
    pub fn page(&self, rel: RelFork, block: BlockNumber) -> Option<&Page> {
        self.forks.get(&rel)?.get(block.get() as usize)
    }
}
