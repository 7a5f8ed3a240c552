//! Redo does not allocate: counted, for steps of every kind, by the allocator itself.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;

use oracle::replay::{Sample, type_name};
use redo::RedoContext;
use wal::Record;

/// References that a decoded record holds without an allocation.
const FEW: usize = 4;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything is left to the system's allocator; counting touches no memory of its own but a thread's cell.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`, which is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc`, so from the system's allocator with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs `what`; gives what it returns and how often it allocated.
fn counted<T>(what: impl FnOnce() -> T) -> (T, u64) {
    let before = COUNT.get();
    let result = what();
    (result, COUNT.get() - before)
}

/// Applies steps of every kind once more. Only decoding a record with more than four references may allocate.
pub fn no_step_allocates(samples: &[Sample]) {
    let mut kinds: BTreeMap<String, [u64; 3]> = BTreeMap::new();
    for sample in samples {
        let mut page = sample.before.clone();
        let cx = RedoContext { major: sample.major, checksums: true };
        let (record, decoding) = counted(|| Record::decode(sample.start, &sample.record));
        let record = record.unwrap();
        let (applied, applying) = counted(|| redo::apply(&cx, &sample.key, &mut page, &record, sample.end));
        assert!(applied.is_ok(), "{applied:?}");
        let few = record.blocks().count() <= FEW;
        let sum = kinds.entry(type_name(&record, &sample.key)).or_default();
        sum[0] += 1;
        sum[1] += if few { decoding } else { 0 };
        sum[2] += applying;
    }
    let (_, made) = counted(|| std::hint::black_box(samples[0].before.clone()));
    assert!(made > 0, "the counter does not count");
    let allocating: Vec<_> =
        kinds.iter().filter(|(_, [_, decoding, applying])| decoding + applying > 0).collect();
    println!("{} steps of {} kinds applied without an allocation", samples.len(), kinds.len());
    assert!(allocating.is_empty(), "steps, allocations to decode and to apply: {allocating:#?}");
}
