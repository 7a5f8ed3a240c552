//! WAL bytes to records.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| targets::wal_reader(data));
