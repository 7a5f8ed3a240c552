//! Control files that the store gives.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| compute::fuzzing::control(data));
