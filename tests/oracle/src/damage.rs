//! Real records and pages with bits flipped: redo may fail or give nonsense, but it returns.

use fastrand::Rng;
use redo::RedoContext;
use types::Page;
use wal::Record;

use crate::replay::Sample;

/// Damaged copies tried of each sample.
const TRIES: u64 = 150;

/// Applies every sample with a few bits flipped, in its record, its page or both.
pub fn damaged_records_and_pages_do_not_panic(samples: &[Sample]) {
    let mut random = Rng::with_seed(0x5C10);
    let (mut failed, mut applied) = (0u64, 0u64);
    for sample in samples {
        for _ in 0..TRIES {
            match apply_damaged(sample, &mut random) {
                true => applied += 1,
                false => failed += 1,
            }
        }
    }
    println!("damaged: {failed} refused, {applied} applied");
    assert!(failed > 1000 && applied > 1000, "{failed} refused, {applied} applied");
}

fn apply_damaged(sample: &Sample, random: &mut Rng) -> bool {
    let mut bytes = sample.record.clone();
    let mut page: Page = sample.before.clone();
    let what = random.usize(..3);
    if what != 1 {
        for _ in 0..=random.usize(..3) {
            let at = 24 + random.usize(..bytes.len() - 24);
            bytes[at] ^= 1 << random.usize(..8);
        }
    }
    if what != 0 {
        for _ in 0..=random.usize(..4) {
            // The header, the first line pointers and the special area are where damage is interesting.
            let at = match random.usize(..4) {
                0 => 8 + random.usize(..16),
                1 => 24 + random.usize(..400),
                2 => 8176 + random.usize(..16),
                _ => random.usize(..8192),
            };
            page[at] ^= 1 << random.usize(..8);
        }
        page[..8].fill(0); // a damaged LSN would only make redo skip the record
    }
    let Ok(record) = Record::decode(sample.start, &bytes) else { return false };
    redo::apply(
        &RedoContext { major: sample.major, checksums: true },
        &sample.key,
        &mut page,
        &record,
        sample.end,
    )
    .is_ok()
}
