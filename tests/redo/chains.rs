//! What a store would have to replay for each page: its newest full version, and the records since.

use std::collections::HashMap;

use redo::RedoContext;
use types::{BlockNumber, Fork, Lsn, Page, RelFork};
use wal::{BlockChange, Change, InterpretContext, RawRecord, Record};

use crate::log::Log;
use crate::standby::Standby;

/// Records after which the store keeps the page itself (`CHAIN_MAX`).
const LONGEST: usize = 128;

/// A page's name.
pub type Name = (RelFork, BlockNumber);

/// A page's newest full version, and the records since.
pub struct Chain<'a> {
    /// The full version.
    pub base: Page,
    /// What changed it since, oldest first.
    pub records: Vec<RawRecord<'a>>,
}

/// The chain of every page of a main fork that `log` changes, as it is at the end. `standby` is the cluster before the
/// log, and afterwards the one after it. `seen` is told the length of a page's chain at the end of each record.
pub fn chains<'a>(
    log: &'a Log,
    standby: &mut Standby,
    interpret: &InterpretContext,
    mut seen: impl FnMut(Name, usize, Lsn),
) -> HashMap<Name, Chain<'a>> {
    let mut chains: HashMap<Name, Chain<'a>> = HashMap::new();
    for raw in log.records() {
        let record = Record::decode(raw.start, raw.bytes).unwrap();
        let mut changed = Vec::new();
        wal::interpret(interpret, &record, raw.end, &mut |change| match change {
            Change::Block { rel, block, how } if rel.fork == Fork::Main => changed.push(((rel, block), how)),
            _ => {}
        })
        .unwrap();
        for (name, how) in &changed {
            if *how == BlockChange::Modifies {
                let page = || standby.page(name.0, name.1).cloned().unwrap_or_else(Page::zeroed);
                let chain =
                    chains.entry(*name).or_insert_with(|| Chain { base: page(), records: Vec::new() });
                chain.records.push(raw);
            }
        }
        standby.apply(&raw);
        for (name, how) in changed {
            let page = || standby.page(name.0, name.1).cloned().unwrap_or_else(Page::zeroed);
            let full = how == BlockChange::Rebuilds
                || chains.get(&name).is_none_or(|chain| chain.records.len() >= LONGEST);
            if full {
                chains.insert(name, Chain { base: page(), records: Vec::new() });
            }
            seen(name, chains[&name].records.len(), raw.end);
        }
    }
    chains
}

impl Chain<'_> {
    /// The page, with its checksum.
    pub fn rebuild(&self, redo: &RedoContext, (rel, block): Name, page: &mut Page) {
        page.copy_from_slice(&self.base[..]);
        for raw in &self.records {
            let record = Record::decode(raw.start, raw.bytes).unwrap();
            redo::apply(redo, &types::Key::RelBlock(rel, block), page, &record, raw.end).unwrap();
        }
        redo::set_checksum(page, block);
    }
}
