//! Records that change transaction status, timestamps and multixacts.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wal::RmgrId;

fuzz_target!(|data: &[u8]| targets::redo(
    &[RmgrId::XACT, RmgrId::CLOG, RmgrId::MULTIXACT, RmgrId::COMMIT_TS],
    data
));
