//! Tests that lack something on this machine: they say so, and fail where it must be there.

use std::fs::File;
use std::io::Write;

/// Says why a test is skipped: to whoever runs it, and to the file that `SCION_SKIPPED` names, as runners of tests keep to
/// themselves what a test says that does not fail.
///
/// # Panics
/// If `SCION_REQUIRE` lists the service that is missing: majors, and names such as `clients`, with commas between.
pub fn skipped(service: &str, why: &str) {
    let required = std::env::var("SCION_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|it| it.trim() == service), "SCION_REQUIRE lists {service}: {why}");
    println!("skipped: {why}");
    if let Some(list) = std::env::var_os("SCION_SKIPPED") {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let mut list = File::options().create(true).append(true).open(list).unwrap();
        list.write_all(format!("{test}: {why}\n").as_bytes()).unwrap();
    }
}
