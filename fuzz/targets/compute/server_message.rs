//! What Postgres says to a replication client.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| compute::fuzzing::server_message(data));
