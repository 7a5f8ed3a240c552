//! The logs of an endpoint stay small however much is logged.

use std::time::Duration;

use scion_tests::Scion;
use scion_tests::process::wait_for;

/// What is kept of a log: two files of 8 MB, and what comes within a second or two.
const KEPT_BYTES: u64 = 8 << 20;

#[test]
fn an_endpoint_that_logs_without_end_keeps_a_bounded_log_and_goes_on() {
    let scion = Scion::start();
    let root = scion.root();
    let size = |name: &str| std::fs::metadata(root.dir.join(name)).map_or(0, |meta| meta.len());
    for round in 0..3 {
        root.psql(
            "postgres",
            "do $$ begin for i in 1..11000 loop raise log '%', repeat('x', 1000); end loop; end $$",
        );
        let what = format!("the log to begin again, round {round}");
        wait_for(&what, Duration::from_secs(20), || (size("postgres.log") < KEPT_BYTES).then_some(()));
    }
    assert!(size("postgres.log.1") > KEPT_BYTES, "the log before is kept");
    assert!(size("postgres.log") + size("postgres.log.1") < 30_000_000, "three rounds would be 36 MB");
    root.psql("postgres", "do $$ begin raise log 'the last words'; end $$");
    assert!(std::fs::read_to_string(root.dir.join("postgres.log")).unwrap().contains("the last words"));
    assert_eq!(root.number("select 1::bigint"), 1);
}
