//! Gin records on pages.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wal::RmgrId;

fuzz_target!(|data: &[u8]| targets::redo(&[RmgrId::GIN], data));
