//! Replays the WAL of a recorded load through `redo` and has every step judged.
//!
//! ```text
//!  page before --+-- redo --> ours ---+
//!                |                    +--> equal?   if not, or if redo cannot: the truth is the page from now on
//!  record -------+-- judge --> truth -+
//! ```
//!
//! Pages start from the files of the cluster before the load. WAL is read segment by segment; all pages it touches are
//! kept in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use redo::{RedoContext, RedoError};
use types::{BLOCK_SIZE, BlockNumber, Fork, Key, Lsn, Page, RelFork, RelTag};
use wal::segment::segment_name;
use wal::{
    BlockChange, BlockImage, Change, ControlFile, InterpretContext, RawRecord, Record, RecordReader, RmgrId,
};

use crate::{files, gin, minors};

/// What was seen of one record type on one kind of page, in steps.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Count {
    /// All steps.
    pub applied: u64,
    /// Those whose result the judge confirmed.
    pub verified: u64,
    /// Those that redo says it cannot replay.
    pub unsupported: u64,
    /// Those whose result the judge's differs from, or that failed.
    pub differing: u64,
}

/// One step of the replay, to be repeated with damage.
pub struct Sample {
    pub major: u32,
    pub start: Lsn,
    pub end: Lsn,
    pub record: Vec<u8>,
    pub key: Key,
    pub before: Page,
}

/// Samples kept of each record type: the 1st, 2nd, 4th, 8th ..
const SAMPLES_PER_TYPE: u64 = 12;
/// Mismatches of which the text is kept.
const TEXTS: usize = 500;

/// What replay found.
pub struct Replayed {
    /// Every page as replay left it, by key.
    pub pages: BTreeMap<Key, Page>,
    /// By resource manager and record type.
    pub counts: BTreeMap<String, Count>,
    /// Steps judged by what a record does in more detail than its type says.
    pub parts: BTreeMap<String, u64>,
    /// The first results that differ from the judge's.
    pub mismatches: Vec<String>,
    /// Records read.
    pub records: u64,
    /// Bytes of WAL read.
    pub wal_bytes: u64,
    /// Databases whose pages were copied through WAL: their visibility maps come out empty, as on a standby.
    pub copied_by_wal: BTreeSet<u32>,
    /// Some steps of every kind.
    pub samples: Vec<Sample>,
}

impl Replayed {
    /// The sum of all counts.
    pub fn total(&self) -> Count {
        self.counts.values().fold(Count::default(), |sum, count| Count {
            applied: sum.applied + count.applied,
            verified: sum.verified + count.verified,
            unsupported: sum.unsupported + count.unsupported,
            differing: sum.differing + count.differing,
        })
    }
}

/// One record about to change one page.
pub struct Step<'a> {
    /// The record.
    pub record: &'a Record<'a>,
    /// Its bytes and place.
    pub raw: &'a RawRecord<'a>,
    /// The page.
    pub key: Key,
    /// What the page held.
    pub before: &'a Page,
}

/// What a judge knows of the page after a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Truth {
    /// Nothing.
    Unknown,
    /// All but hints.
    Masked,
    /// Every byte but the checksum, and what is otherwise in every minor ([`minors`]).
    Bytes,
}

/// Says what a page holds after a step.
pub trait Judge {
    /// Puts the page after `step` into `page`, and says how well it is known. `page` holds anything before.
    fn truth(&mut self, step: &Step<'_>, page: &mut Page) -> Truth;

    /// Whether it can judge what `record` does to `key`.
    fn judges(&self, record: &Record<'_>, key: &Key) -> bool;
}

/// The image that `wal_consistency_checking` put into the record.
pub struct Images;

impl Images {
    fn image<'a>(record: &Record<'a>, key: &Key) -> Option<BlockImage<'a>> {
        let Key::RelBlock(rel, block) = *key else { return None };
        let reference = record.blocks().find(|candidate| candidate.rel == rel && candidate.block == block)?;
        reference.image.filter(|image| !image.apply)
    }
}

impl Judge for Images {
    fn truth(&mut self, step: &Step<'_>, page: &mut Page) -> Truth {
        let Some(image) = Self::image(step.record, &step.key) else { return Truth::Unknown };
        wal::image::restore(&image, page).unwrap();
        redo::page::set_lsn(page, step.raw.end);
        Truth::Masked
    }

    fn judges(&self, record: &Record<'_>, key: &Key) -> bool {
        Self::image(record, key).is_some()
    }
}

/// Changes a page that redo has just made and that will be judged; for the negative control.
pub type Sabotage<'a> = &'a mut dyn FnMut(&Record<'_>, &Key, &mut Page);

/// The cluster's control file.
pub fn control(data: &Path) -> ControlFile {
    ControlFile::parse(&std::fs::read(data.join("global/pg_control")).unwrap()).unwrap()
}

/// Replays all WAL in `after` from the end of `base` on; judged by the images in the records.
pub fn replay(base: &Path, after: &Path, sabotage: Sabotage<'_>) -> Replayed {
    replay_before(&mut Images, base, after, sabotage)
}

/// Replays all WAL in `after` from the end of `base` on.
///
/// # Panics
/// If the WAL does not end where the server stopped, or holds a record that `wal` does not know.
pub fn replay_before(judge: &mut dyn Judge, base: &Path, after: &Path, sabotage: Sabotage<'_>) -> Replayed {
    let mut replay = Replay {
        base: base.to_owned(),
        redo: RedoContext { major: control(base).major, checksums: true },
        interpret: InterpretContext { format: control(base).format(), track_commit_timestamp: true },
        judge,
        sabotage,
        before: Page::zeroed(),
        truth: Page::zeroed(),
        lost: BTreeSet::new(),
        cut: BTreeMap::new(),
        copies: BTreeMap::new(),
        out: Replayed {
            pages: BTreeMap::new(),
            counts: BTreeMap::new(),
            parts: BTreeMap::new(),
            mismatches: Vec::new(),
            records: 0,
            wal_bytes: 0,
            copied_by_wal: BTreeSet::new(),
            samples: Vec::new(),
        },
    };
    let end = for_each_record(base, after, |raw| replay.record(&raw));
    assert_eq!(end, control(after).cluster_state().unwrap().lsn, "the WAL ends where the server stopped");
    replay.out
}

/// Calls `each` with every record between the two stopped clusters; returns where the last one ends.
pub fn for_each_record(base: &Path, after: &Path, mut each: impl FnMut(RawRecord<'_>)) -> Lsn {
    let control = control(base);
    let (format, state) = (control.format(), control.cluster_state().unwrap());
    let mut reader = RecordReader::new(format, state.timeline, state.lsn, Some(state.last_record));
    let mut at = state.lsn;
    loop {
        let name = segment_name(state.timeline, at.segment(format.segment_bytes), format.segment_bytes);
        let Ok(bytes) = std::fs::read(after.join("pg_wal").join(name)) else { break };
        reader.feed(at, &bytes[at.offset_in_segment(format.segment_bytes) as usize..]).unwrap();
        loop {
            match reader.next_record() {
                Ok(Some(raw)) => each(raw),
                Ok(None) => break,
                Err(_) => return reader.position().unwrap(), // the log ends here; the caller knows where it must
            }
        }
        at = at.advanced(format.segment_bytes - at.offset_in_segment(format.segment_bytes));
    }
    reader.position().unwrap()
}

/// A tablespace and a database in it.
type Place = (u32, u32);

struct Replay<'a> {
    base: PathBuf,
    redo: RedoContext,
    interpret: InterpretContext,
    judge: &'a mut dyn Judge,
    sabotage: Sabotage<'a>,
    /// The page before the step.
    before: Page,
    /// The judge's page.
    truth: Page,
    /// Pages whose content is not known since a record that nobody could replay.
    lost: BTreeSet<Key>,
    /// Where forks of the base were cut: what its files hold from there on is gone.
    cut: BTreeMap<RelFork, u32>,
    /// Databases copied by file: pages that nobody wrote are in the source's files.
    copies: BTreeMap<Place, Place>,
    out: Replayed,
}

impl Replay<'_> {
    fn record(&mut self, raw: &RawRecord<'_>) {
        self.out.records += 1;
        self.out.wal_bytes += raw.bytes.len() as u64;
        let record = Record::decode(raw.start, raw.bytes).unwrap();
        let mut changes = Vec::new();
        wal::interpret(&self.interpret, &record, raw.end, &mut |change| changes.push(change)).unwrap();
        for change in changes {
            match change {
                Change::Block { rel, block, how } => self.step(Key::RelBlock(rel, block), how, &record, raw),
                Change::Slru { kind, page, how } => self.step(Key::SlruBlock(kind, page), how, &record, raw),
                Change::ForkTruncated { rel, blocks } => self.cut(rel, blocks),
                Change::RelDropped(rel) => {
                    Fork::ALL.into_iter().for_each(|fork| self.cut(RelFork { rel, fork }, 0))
                }
                Change::DatabaseCreated { tablespace, database, copy_of: Some(source) } => {
                    self.copy(source, (tablespace, database));
                }
                Change::DatabaseCreated { database, copy_of: None, .. } => {
                    self.out.copied_by_wal.insert(database);
                }
                Change::DatabaseDropped { tablespace, database } => {
                    self.forget(
                        &(database_start(tablespace, database)..database_start(tablespace, database + 1)),
                    );
                }
                _ => {}
            }
        }
    }

    fn cut(&mut self, rel: RelFork, blocks: u32) {
        let kept = self.cut.entry(rel).or_insert(blocks);
        *kept = blocks.min(*kept);
        let from = Key::RelBlock(rel, BlockNumber::new(blocks));
        let to = Key::RelBlock(rel, BlockNumber::new(u32::MAX));
        self.forget(&(from..to));
    }

    fn forget(&mut self, range: &std::ops::Range<Key>) {
        let gone: Vec<Key> = self.out.pages.range(range.clone()).map(|(key, _)| *key).collect();
        for key in gone {
            self.out.pages.remove(&key);
            self.lost.remove(&key);
        }
    }

    fn copy(&mut self, source: Place, copy: Place) {
        let range = database_start(source.0, source.1)..database_start(source.0, source.1 + 1);
        let moved = |key: &Key| match *key {
            Key::RelBlock(RelFork { rel, fork }, block) => {
                let rel = RelTag { tablespace: copy.0, database: copy.1, ..rel };
                Key::RelBlock(RelFork { rel, fork }, block)
            }
            other => other,
        };
        let pages: Vec<_> =
            self.out.pages.range(range).map(|(key, page)| (moved(key), page.clone())).collect();
        self.out.pages.extend(pages);
        self.copies.insert(copy, source);
    }

    /// What the page held before the load.
    fn base_page(&self, key: &Key) -> Page {
        let Key::RelBlock(mut rel, block) = *key else {
            return files::read_page(&self.base, key).unwrap_or_else(Page::zeroed);
        };
        loop {
            if self.cut.get(&rel).is_some_and(|kept| block.get() >= *kept) {
                return Page::zeroed();
            }
            if let Some(page) = files::read_page(&self.base, &Key::RelBlock(rel, block)) {
                return page;
            }
            let Some(&source) = self.copies.get(&(rel.rel.tablespace, rel.rel.database)) else {
                return Page::zeroed();
            };
            (rel.rel.tablespace, rel.rel.database) = source;
        }
    }

    fn step(&mut self, key: Key, how: BlockChange, record: &Record<'_>, raw: &RawRecord<'_>) {
        let mut page = match (self.out.pages.remove(&key), how) {
            (Some(page), _) => page,
            (None, BlockChange::Rebuilds) => Page::from_slice(&[0xAA; BLOCK_SIZE]).unwrap(), // must not matter
            (None, BlockChange::Modifies) => self.base_page(&key),
        };
        self.before.copy_from_slice(&page[..]);
        let name = type_name(record, &key);
        let known = how == BlockChange::Rebuilds || !self.lost.remove(&key);
        let mut outcome =
            if known { redo::apply(&self.redo, &key, &mut page, record, raw.end).err() } else { None };
        if known && outcome.is_none() && self.judge.judges(record, &key) {
            (self.sabotage)(record, &key, &mut page);
        }
        let step = Step { record, raw, key, before: &self.before };
        let truth = self.judge.truth(&step, &mut self.truth);
        let count = self.out.counts.entry(name.clone()).or_default();
        count.applied += 1;
        if known && count.applied.is_power_of_two() && count.applied < 1 << SAMPLES_PER_TYPE {
            let (start, end, record) = (raw.start, raw.end, raw.bytes.to_vec());
            self.out.samples.push(Sample {
                major: self.redo.major,
                start,
                end,
                record,
                key,
                before: self.before.clone(),
            });
        }
        let unsupported = matches!(outcome, Some(RedoError::Unsupported { .. }));
        count.unsupported += u64::from(unsupported);
        let differs =
            (known && outcome.is_none()).then(|| first_difference(truth, &page, &self.truth, record, &key));
        let agreed = differs == Some(None);
        if agreed && truth != Truth::Unknown {
            count.verified += 1;
            if record.rmgr == RmgrId::GIN {
                for action in gin::segment_actions(record) {
                    *self.out.parts.entry(format!("Gin segment {action}")).or_default() += 1;
                }
            }
        }
        let failed = outcome.take().filter(|_| !unsupported).map(|error| error.to_string());
        let text = failed.or_else(|| differs.flatten().map(|at| difference_text(at, &page, &self.truth)));
        if let Some(text) = text {
            count.differing += 1;
            if self.out.mismatches.len() < TEXTS {
                self.out.mismatches.push(format!("{name} at {} on {key:?}: {text}", record.start));
            }
        }
        if !agreed {
            match truth {
                Truth::Unknown => drop(self.lost.insert(key)),
                _ => page.copy_from_slice(&self.truth[..]),
            }
        }
        self.out.pages.insert(key, page);
    }
}

fn database_start(tablespace: u32, database: u32) -> Key {
    let rel = RelTag { tablespace, database, relation: 0 };
    Key::RelBlock(RelFork { rel, fork: Fork::Main }, BlockNumber::new(0))
}

fn first_difference(
    truth: Truth,
    ours: &Page,
    theirs: &Page,
    record: &Record<'_>,
    key: &Key,
) -> Option<usize> {
    match (truth, key) {
        (Truth::Masked, Key::RelBlock(_, block)) => difference(ours, theirs, record.rmgr, *block),
        (Truth::Unknown | Truth::Masked, _) => None,
        (Truth::Bytes, Key::RelBlock(..)) => {
            let mut ours = ours.clone();
            if record.rmgr == RmgrId::GIST {
                minors::take_tuples_deleted(&mut ours, theirs);
            }
            (0..BLOCK_SIZE).find(|at| ours[*at] != theirs[*at] && !(8..10).contains(at))
        }
        (Truth::Bytes, _) => (0..BLOCK_SIZE).find(|at| ours[*at] != theirs[*at]),
    }
}

fn difference_text(at: usize, ours: &Page, theirs: &Page) -> String {
    let end = (at + 16).min(BLOCK_SIZE);
    format!("first at byte {at}: {:02x?}, should be {:02x?}", &ours[at..end], &theirs[at..end])
}

/// First byte at which two pages differ in more than hints.
pub fn difference(ours: &Page, theirs: &Page, rmgr: RmgrId, block: BlockNumber) -> Option<usize> {
    let (mut ours, mut theirs) = (**ours, **theirs);
    redo::mask::mask(&mut ours, rmgr, block);
    redo::mask::mask(&mut theirs, rmgr, block);
    ours.iter().zip(&theirs).position(|(a, b)| a != b)
}

/// `Heap 20`, or `Heap 20 vm` for what a record does to a map it does not refer to. Where a record does something
/// else to each of its blocks, the block's number or role follows.
pub fn type_name(record: &Record<'_>, key: &Key) -> String {
    let mask = if [RmgrId::HEAP, RmgrId::HEAP2, RmgrId::XACT].contains(&record.rmgr) { 0x70 } else { 0xF0 };
    let what = match key {
        Key::RelBlock(RelFork { fork: Fork::Visibility, .. }, _) => " vm".to_owned(),
        Key::SlruBlock(kind, _) => format!(" {}", kind.directory()),
        Key::RelBlock(rel, block) => record
            .blocks()
            .find(|reference| reference.rel == *rel && reference.block == *block)
            .map_or_else(String::new, |reference| role(record, reference.id)),
        _ => String::new(),
    };
    format!("{} {:02X}{what}", record.rmgr.name(), record.info & mask)
}

/// Resource managers whose records do something else to each of their blocks.
const NUMBERED: [RmgrId; 6] =
    [RmgrId::HASH, RmgrId::GIN, RmgrId::GIST, RmgrId::SPGIST, RmgrId::BRIN, RmgrId::GENERIC];

fn role(record: &Record<'_>, block_id: u8) -> String {
    match (record.rmgr, block_id) {
        (RmgrId::GIN, 0) => gin::tree(record).map_or_else(String::new, |tree| format!(" {tree}")),
        (rmgr, 1..) if NUMBERED.contains(&rmgr) => format!(" block {block_id}"),
        _ => String::new(),
    }
}
