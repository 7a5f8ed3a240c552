//! Sequence, Generic, XLOG and Storage records on pages.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wal::RmgrId;

fuzz_target!(|data: &[u8]| targets::redo(&[RmgrId::SEQ, RmgrId::GENERIC, RmgrId::XLOG, RmgrId::SMGR], data));
