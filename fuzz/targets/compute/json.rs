//! Commands, answers, statuses and specs of endpoints.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| compute::fuzzing::json(data));
