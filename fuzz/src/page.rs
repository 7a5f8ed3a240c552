//! One record and one page: redo, and its rules.

use redo::RedoContext;
use types::{BLOCK_SIZE, Key, PAGE_HEADER_SIZE, Page};
use wal::record::RECORD_HEADER_SIZE;
use wal::{BlockChange, Change, InterpretContext, Record, RmgrId};

/// Pages of one record that are tried.
const PAGES: usize = 6;

/// Applies the record of an input, made one of `rmgrs`, to the page of the input under each key that it changes.
pub fn redo(rmgrs: &[RmgrId], data: &[u8]) {
    let Some((major, record, page)) = crate::split(data) else { return };
    let mut bytes = record.to_vec();
    if bytes.len() < RECORD_HEADER_SIZE {
        return;
    }
    if !rmgrs.contains(&RmgrId(bytes[17])) {
        bytes[17] = rmgrs[usize::from(bytes[17]) % rmgrs.len()].0;
    }
    let (start, end) = crate::positions();
    let Ok(record) = Record::decode(start, &bytes) else { return };
    let format = crate::format(major);
    let mut steps = Vec::new();
    let cx = InterpretContext { format, track_commit_timestamp: true };
    // What was reported before an error is tried all the same.
    let _ = wal::interpret(&cx, &record, end, &mut |change| match change {
        Change::Block { rel, block, how } => steps.push((Key::RelBlock(rel, block), how)),
        Change::Slru { kind, page, how } => steps.push((Key::SlruBlock(kind, page), how)),
        _ => {}
    });
    if named_twice(&record) {
        return;
    }
    let cx = RedoContext { major: format.major, checksums: true };
    for (key, how) in steps.into_iter().take(PAGES) {
        let mut ours = page_of(page);
        let Ok(()) = redo::apply(&cx, &key, &mut ours, &record, end) else { continue };
        let Key::RelBlock(_, block) = key else { continue };
        redo::mask::mask(&mut ours.clone(), record.rmgr, block);
        if how == BlockChange::Rebuilds {
            let mut other = filled(0xAA);
            redo::apply(&cx, &key, &mut other, &record, end).expect("it was just applied to another page");
            assert!(*ours == *other, "a page made anew must not depend on what was there");
        } else if redo::page::lsn(&ours) >= Some(end) {
            let mut again = ours.clone();
            redo::apply(&cx, &key, &mut again, &record, end).expect("a page that has the record");
            assert!(*ours == *again, "a record that the page has must change nothing");
        }
    }
}

/// Whether two references are to one page. Postgres makes no such record: inserting it would fail an assertion.
fn named_twice(record: &Record<'_>) -> bool {
    let pages: Vec<_> = record.blocks().map(|block| (block.rel, block.block)).collect();
    pages.iter().enumerate().any(|(index, page)| pages.iter().take(index).any(|before| before == page))
}

/// The page of an input, with an LSN that lets the record in.
fn page_of(bytes: &[u8]) -> Page {
    let mut page = filled(0);
    let len = bytes.len().min(BLOCK_SIZE);
    page[..len].copy_from_slice(&bytes[..len]);
    page[..PAGE_HEADER_SIZE / 3].fill(0);
    page
}

fn filled(byte: u8) -> Page {
    let mut page = Page::zeroed();
    page.fill(byte);
    page
}
