//! Pages of `pg_authid`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| compute::fuzzing::roles(data));
