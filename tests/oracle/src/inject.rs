//! One flipped bit in what redo made, so that a judge can be seen to notice it.

use std::collections::BTreeSet;

use types::{BLOCK_SIZE, Key, Page};
use wal::Record;

use crate::replay::type_name;

/// Flips one bit in the first judged step of each record type.
#[derive(Default)]
pub struct Injection {
    only: Option<String>,
    flipped: BTreeSet<String>,
}

impl Injection {
    /// In the first step of `record_type` only, such as `Heap 00`; of every type if `None`.
    pub fn new(record_type: Option<String>) -> Self {
        Self { only: record_type, flipped: BTreeSet::new() }
    }

    /// The record types in which a bit was flipped.
    pub fn flipped(&self) -> &BTreeSet<String> {
        &self.flipped
    }

    /// To be called with what redo made.
    pub fn flip(&mut self, record: &Record<'_>, key: &Key, page: &mut Page) {
        let name = type_name(record, key);
        if self.only.as_ref().is_some_and(|only| *only != name) || !self.flipped.insert(name) {
            return;
        }
        let at = position(page, key);
        page[at] ^= 1;
    }
}

/// In the newest item if there is one, else in the page's version, which no mask hides.
fn position(page: &Page, key: &Key) -> usize {
    const VERSION: usize = 18;
    const INTO_ITEM: usize = 22;
    let (upper, special) = (redo::page::upper(page), redo::page::special(page));
    match key {
        Key::RelBlock(..) if upper + INTO_ITEM < special && special <= BLOCK_SIZE => upper + INTO_ITEM,
        Key::RelBlock(..) => VERSION,
        _ => 0,
    }
}
