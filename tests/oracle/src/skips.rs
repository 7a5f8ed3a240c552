//! Tests that lack something on this machine: they say so, and fail where it must be there.

use std::fs::File;
use std::io::Write;

/// Says why a test is skipped: to whoever runs it, and to the file that `SCION_SKIPPED` names, as runners of tests keep to
/// themselves what a test says that does not fail.
///
/// # Panics
/// If `SCION_REQUIRE` lists the service that is missing: majors, and names such as `clients`, with commas between; `all`
/// is every one.
pub fn skipped(service: &str, why: &str) {
    let required = std::env::var("SCION_REQUIRE").unwrap_or_default();
    assert!(!is_required(&required, service), "SCION_REQUIRE={required} wants {service}: {why}");
    println!("skipped: {why}");
    if let Some(list) = std::env::var_os("SCION_SKIPPED") {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let mut list = File::options().create(true).append(true).open(list).unwrap();
        list.write_all(format!("{test}: {why}\n").as_bytes()).unwrap();
    }
}

fn is_required(list: &str, service: &str) -> bool {
    list.split(',').any(|it| [service, "all"].contains(&it.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_is_required_and_with_all_everything() {
        for (list, required) in [("", false), ("15, fuse", true), ("15,fuses", false), ("all", true)] {
            assert_eq!(is_required(list, "fuse"), required, "{list}");
        }
    }
}
