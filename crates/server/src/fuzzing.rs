//! Every text of a request that this crate reads itself, as functions of bytes: what fuzzers and, in each run of the tests,
//! changed samples are given to. A panic is a bug. Only tests and fuzzers are built with this.
//!
//! Not here: the shapes of requests beyond what is made of their JSON.

use serde::de::DeserializeOwned;

use crate::control::branch::expiry;
use crate::control::branch::point::parse_at;
use crate::control::endpoint::options;
use crate::control::schedule::timetable::Timetable;
use crate::machine::settings;
use crate::metadata::cursor::Cursor;
use crate::{clock, names};

/// A moment that is the present: 2026-03-01T12:00:00Z.
const NOW_US: i64 = 1_772_366_400_000_000;

/// Moments, positions, cursors of lists, and names.
pub fn text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(us) = clock::parse(&text) {
        assert_eq!(clock::parse(&clock::show(us)).ok(), Some(us), "a time came out changed");
    }
    // That it is refused is as good, here and below.
    let _ = (parse_at(Some(&text), None), parse_at(None, Some(&text)));
    let _ = expiry::parse(Some(&text), NOW_US);
    if let Ok(Some(cursor)) = Cursor::parse(&text) {
        assert_eq!(Cursor::parse(&cursor.to_string()).ok(), Some(Some(cursor)), "a cursor came out changed");
    }
    for kind in ["branch", "role"] {
        let _ = (names::check_name(kind, &text), names::check_sql_name(kind, &text));
    }
    names::noted(&text, " (old)");
}

/// A cron line, and a time zone behind a line break.
pub fn cron(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (line, zone) = text.split_once('\n').unwrap_or((&text, ""));
    let Ok(table) = Timetable::parse(line, Some(zone)) else { return };
    for now_us in [i64::MIN, 0, NOW_US, i64::MAX] {
        if let Some(next_us) = table.next(now_us) {
            assert!(next_us > now_us, "{line:?}: {next_us} comes after {now_us}");
        }
        let _ = table.due(0, now_us);
    }
}

/// Bodies of requests, and the settings in them.
pub fn body(data: &[u8]) {
    fn read<T: DeserializeOwned>(data: &[u8]) -> Option<T> {
        serde_json::from_slice(data).ok()
    }
    if let Some(value) = read::<serde_json::Value>(data) {
        settings::of_unknown_extensions(&value);
        let _ = options::default_settings(&value);
    }
    if let Some(options) = read::<api::endpoint::EndpointOptions>(data) {
        let _ = options::check(&options);
    }
    read::<api::project::ProjectCreateRequest>(data);
    read::<api::branch::BranchCreateRequest>(data);
    read::<api::branch::BranchUpdateRequest>(data);
    read::<api::branch::BranchRestoreRequest>(data);
    read::<api::endpoint::EndpointUpdateRequest>(data);
    read::<api::snapshot::SnapshotRestoreRequest>(data);
    read::<api::schedule::BranchScheduleCreateRequest>(data);
}

#[cfg(test)]
mod tests {
    use oracle::mutate::stands;

    use super::*;

    fn samples(all: &[&str]) -> Vec<Vec<u8>> {
        all.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    #[test]
    fn changed_moments_positions_cursors_and_names_are_refused_or_understood() {
        let cursor = Cursor::at(NOW_US, "br-calm-river-8q2k").to_string();
        let all = samples(&[
            "2026-03-01T14:03:07.512Z",
            "9999-12-30T22:00:00.9+02:00",
            "2026-03-01 14:03:07+01:00[Europe/Berlin]",
            "16/B374D848",
            "neondb_owner",
            &cursor,
        ]);
        stands("server_text", &all, text);
    }

    #[test]
    fn changed_cron_lines_are_refused_or_plan_what_is_to_come() {
        let all = samples(&["0 3 * * 1-5\n", "*/5 0 1,15 * ?\nEurope/Berlin", "0 0 12 L 2 MON#2", "@weekly"]);
        stands("server_cron", &all, cron);
    }

    #[test]
    fn changed_bodies_are_refused_or_understood() {
        let all = samples(&[
            r#"{"project":{"name":"a","pg_version":16,"branch":{"name":"main"},"settings":{"x":true},
                "default_endpoint_settings":{"pg_settings":{"work_mem":"5MB"},"autoscaling_limit_min_cu":0.25}}}"#,
            r#"{"branch":{"name":"b","parent_id":"br-a","parent_lsn":"0/1","expires_at":"2026-03-01T14:03:07Z",
                "protected":false,"init_source":"schema-only"},"endpoints":[{"type":"read_only"}]}"#,
            r#"{"source_branch_id":"br-a","source_lsn":"0/1","preserve_under_name":"kept"}"#,
            r#"{"endpoint":{"suspend_timeout_seconds":-1,"settings":{"pg_settings":{"jit":"off"}}}}"#,
            r#"{"settings":{"pg_settings":{"shared_preload_libraries":"a,b"}},"suspend_timeout_seconds":5}"#,
            r#"{"branch_schedule":{"name":"n","cron":"0 3 * * *","template":{"sql":"select 1","endpoints":[]}}}"#,
        ]);
        stands("server_body", &all, body);
    }
}
