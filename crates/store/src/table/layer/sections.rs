//! A layer of one data block and one index block, made of its sections as they are before compression, and taken apart again:
//! so that a fuzzer changes what is behind the checksums.

use super::format::{Footer, VERSION, frame};
use crate::error::Result;

/// The file of these sections, with right checksums. What its footer says of keys and positions admits every question.
pub(crate) fn joined(data: &[u8], index: &[u8], top: &[u8], waypoints: &[u8]) -> Result<Vec<u8>> {
    let mut file = Vec::new();
    let mut starts = [0; 4];
    for (start, section) in starts.iter_mut().zip([data, index, top, waypoints]) {
        *start = file.len() as u64;
        file.extend(frame(VERSION, *start, section)?);
    }
    let [_, _, top_at, waypoints_at] = starts;
    let footer = Footer {
        version: VERSION,
        top_at,
        waypoints_at,
        entries: 1,
        lsn_first: 0,
        lsn_last: u64::MAX,
        key_last: [0xFF; 18],
    };
    let len = file.len() + Footer::BYTES;
    file.extend(footer.encode(len as u64));
    Ok(file)
}

/// The sections of such a file.
#[cfg(test)]
pub(crate) fn of(file: &[u8]) -> [Vec<u8>; 4] {
    use super::format::{unframe, wide, word};

    let end = file.len() - Footer::BYTES;
    let footer = Footer::decode("a layer", file.len() as u64, &file[end..]).unwrap();
    let section = |from: u64, to: u64| {
        unframe(footer.version, "a layer", from, &file[from as usize..to as usize]).unwrap()
    };
    let top = section(footer.top_at, footer.waypoints_at);
    let (index_at, index_len) = (wide(&top, 26).unwrap(), word(&top, 34).unwrap());
    assert_eq!(index_at + u64::from(index_len), footer.top_at, "it has one index block");
    [
        section(0, index_at),
        section(index_at, footer.top_at),
        top.clone(),
        section(footer.waypoints_at, end as u64),
    ]
}
