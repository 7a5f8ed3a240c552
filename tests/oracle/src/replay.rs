//! Replays the WAL of a recorded workload and compares with what Postgres wrote.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use redo::RedoContext;
use types::{BLOCK_SIZE, BlockNumber, Fork, GLOBAL_TABLESPACE, Key, Lsn, Page, RelFork, SlruKind};
use wal::{BlockChange, Change, ControlFile, InterpretContext, RawRecord, Record, RecordReader, RmgrId};

use crate::gin;

/// Pages in one segment file of a relation.
const PAGES_PER_FILE: u32 = 131_072;

/// What was seen of one record type: how often it changed a page, and how often an image confirmed the result.
#[derive(Default, Clone, Copy)]
pub struct Count {
    pub applied: u64,
    pub verified: u64,
}

/// One step of the replay, to be repeated with damage.
pub struct Sample {
    pub start: Lsn,
    pub end: Lsn,
    pub record: Vec<u8>,
    pub key: Key,
    pub before: Page,
}

/// Samples kept of each record type: the 1st, 2nd, 4th, 8th ..
const SAMPLES_PER_TYPE: u64 = 12;

/// What replay found.
pub struct Replayed {
    /// Every page as replay left it, by key.
    pub pages: HashMap<Key, Page>,
    /// By resource manager and record type.
    pub counts: BTreeMap<String, Count>,
    /// Results that differ from the image in the record.
    pub mismatches: Vec<String>,
    /// Records read.
    pub records: u64,
    /// Some steps of every kind.
    pub samples: Vec<Sample>,
}

/// Changes a page that redo has just made; for the negative control.
pub type Sabotage<'a> = &'a mut dyn FnMut(&Record<'_>, &Key, &mut Page);

/// The cluster's control file.
pub fn control(data: &Path) -> ControlFile {
    ControlFile::parse(&std::fs::read(data.join("global/pg_control")).unwrap()).unwrap()
}

/// Replays all WAL in `after` from the end of `base` on.
pub fn replay(base: &Path, after: &Path, sabotage: Sabotage<'_>) -> Replayed {
    let mut replay = Replay {
        base: base.to_owned(),
        redo: RedoContext { major: 15, checksums: true },
        interpret: InterpretContext { format: control(base).format(), track_commit_timestamp: true },
        sabotage,
        out: Replayed {
            pages: HashMap::new(),
            counts: BTreeMap::new(),
            mismatches: Vec::new(),
            records: 0,
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
        let number = at.segment(format.segment_bytes);
        let per_log = (1u64 << 32) / format.segment_bytes;
        let name = format!("{:08X}{:08X}{:08X}", state.timeline.get(), number / per_log, number % per_log);
        let Ok(bytes) = std::fs::read(after.join("pg_wal").join(name)) else { break };
        reader.feed(at, &bytes[at.offset_in_segment(format.segment_bytes) as usize..]).unwrap();
        loop {
            match reader.next_record() {
                Ok(Some(raw)) => each(raw),
                Ok(None) => break,
                Err(_) => return reader.position().unwrap(), // the log ends here; the caller knows where it must
            }
        }
        at = Lsn::from_raw((number + 1) * format.segment_bytes).unwrap();
    }
    reader.position().unwrap()
}

struct Replay<'a> {
    base: PathBuf,
    redo: RedoContext,
    interpret: InterpretContext,
    sabotage: Sabotage<'a>,
    out: Replayed,
}

impl Replay<'_> {
    fn record(&mut self, raw: &RawRecord<'_>) {
        self.out.records += 1;
        let record = Record::decode(raw.start, raw.bytes).unwrap();
        let mut changes = Vec::new();
        wal::interpret(&self.interpret, &record, raw.end, &mut |change| changes.push(change)).unwrap();
        for change in changes {
            match change {
                Change::Block { rel, block, how } => self.page(Key::RelBlock(rel, block), how, &record, raw),
                Change::Slru { kind, page, how } => self.page(Key::SlruBlock(kind, page), how, &record, raw),
                Change::ForkTruncated { rel, blocks } => self.out.pages.retain(|key, _| {
                    !matches!(key, Key::RelBlock(other, block) if *other == rel && block.get() >= blocks)
                }),
                Change::RelDropped(rel) => {
                    self.out.pages.retain(|key, _| !matches!(key, Key::RelBlock(other, _) if other.rel == rel));
                }
                _ => {}
            }
        }
    }

    fn page(&mut self, key: Key, how: BlockChange, record: &Record<'_>, raw: &RawRecord<'_>) {
        let base = &self.base;
        let page = self.out.pages.entry(key).or_insert_with(|| match how {
            BlockChange::Rebuilds => Page::from_slice(&[0xAA; BLOCK_SIZE]).unwrap(), // must not matter
            BlockChange::Modifies => read_page(base, &key).unwrap_or_else(Page::zeroed),
        });
        let name = type_name(record, &key);
        let count = self.out.counts.entry(name.clone()).or_default();
        count.applied += 1;
        if count.applied.is_power_of_two() && count.applied < 1 << SAMPLES_PER_TYPE {
            let (start, end, record) = (raw.start, raw.end, raw.bytes.to_vec());
            self.out.samples.push(Sample { start, end, record, key, before: page.clone() });
        }
        redo::apply(&self.redo, &key, page, record, raw.end)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        (self.sabotage)(record, &key, page);
        let Key::RelBlock(rel, block) = key else { return };
        let reference = record.blocks().find(|candidate| candidate.rel == rel && candidate.block == block);
        let Some(image) = reference.and_then(|found| found.image).filter(|image| !image.apply) else {
            return;
        };
        let mut expected = Page::zeroed();
        wal::image::restore(&image, &mut expected).unwrap();
        match difference(page, &expected, record.rmgr, block) {
            None => {
                count.verified += 1;
                if record.rmgr == RmgrId::GIN {
                    for action in gin::segment_actions(record) {
                        let count = self.out.counts.entry(format!("Gin segment {action}")).or_default();
                        count.applied += 1;
                        count.verified += 1;
                    }
                }
            }
            Some(at) => {
                self.out
                    .mismatches
                    .push(format!("{name} at {} on {key:?}: first at byte {at}", record.start));
                **page = *expected;
                redo::page::set_lsn(page, raw.end);
            }
        }
    }
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
fn type_name(record: &Record<'_>, key: &Key) -> String {
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

fn role(record: &Record<'_>, block_id: u8) -> String {
    match (record.rmgr, block_id) {
        (RmgrId::GIN, 0) => gin::tree(record).map_or_else(String::new, |tree| format!(" {tree}")),
        (RmgrId::GIN | RmgrId::GENERIC, 1..) => format!(" block {block_id}"),
        _ => String::new(),
    }
}

/// The page `key` in a stopped cluster's files; `None` if its file is not there or ends before it.
pub fn read_page(data: &Path, key: &Key) -> Option<Page> {
    let (path, index) = match *key {
        Key::RelBlock(rel, block) => (relation_path(rel, block), block.get() % PAGES_PER_FILE),
        Key::SlruBlock(kind, page) => (slru_path(kind, page), page % types::SLRU_PAGES_PER_SEGMENT),
        _ => return None,
    };
    let mut bytes = [0; BLOCK_SIZE];
    let file = File::open(data.join(path)).ok()?;
    file.read_exact_at(&mut bytes, u64::from(index) * BLOCK_SIZE as u64).ok()?;
    Page::from_slice(&bytes)
}

fn relation_path(RelFork { rel, fork }: RelFork, block: BlockNumber) -> String {
    let suffix = fork.suffix();
    let directory = match rel.tablespace {
        GLOBAL_TABLESPACE => "global".to_owned(),
        _ => format!("base/{}", rel.database),
    };
    match block.get() / PAGES_PER_FILE {
        0 => format!("{directory}/{}{suffix}", rel.relation),
        segment => format!("{directory}/{}{suffix}.{segment}", rel.relation),
    }
}

fn slru_path(kind: SlruKind, page: u32) -> String {
    format!("{}/{:04X}", kind.directory(), page / types::SLRU_PAGES_PER_SEGMENT)
}
