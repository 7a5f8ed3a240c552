//! What may be set of an endpoint: checked, kept, and applied by a clean restart where Postgres has to know.
//!
//! A new endpoint has what its request gives it; what that leaves out, if it is a setting of Postgres, as the endpoint of
//! the branch that its own begins on has it; and what both leave out as the project says.
//!
//! ```text
//!   1. the row says what is tried
//!   2. the endpoint restarts with that      after a crash, the next start looks whether it runs with it
//!   3. the row says that it has it, or what is tried is forgotten and it restarts with what it had
//! ```
//!
//! What must hold: settings that Postgres does not start with are taken back, so that a change never costs an endpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use api::endpoint::{BranchEndpointCreate, EndpointOptions};
use compute::control::State;
use rusqlite::Connection;
use serde_json::{Map, Value};

use crate::clock::now_us;
use crate::control::Control;
use crate::control::endpoint::trial::check_settings;
use crate::control::locks::Held;
use crate::error::{Error, Kind, Result};
use crate::fleet::endpoints::{change_under, observe, start_endpoint, suspend_endpoint};
use crate::fleet::process::clear_leftovers;
use crate::fleet::spec::{in_force, pg_settings, settings_of, text};
use crate::limits::SUSPEND_TIMEOUT_MAX_S;
use crate::machine::settings;
use crate::metadata::branch::{self, BranchRow};
use crate::metadata::endpoint::{self, Desired, EndpointRow};
use crate::metadata::operation::{self, Action, OperationRow};
use crate::metadata::{project, snapshot};

/// What the data of a branch may need of the server that it is in, beside the libraries and the settings of extensions.
const NEEDED: &[&str] = &["max_prepared_transactions", "track_commit_timestamp", "wal_level"];

/// Changes an endpoint; what is left out stays. One that runs is restarted if its Postgres is to have other settings,
/// and stopped if it is disabled.
///
/// # Errors
/// `Malformed` for a value that cannot be, `NotFound`, `Refused` if Postgres does not start with the settings, `Busy`
/// while another request changes the branch. Then everything is as it was.
pub fn update_endpoint(
    control: &Control,
    project: &str,
    id: &str,
    update: &EndpointOptions,
) -> Result<(EndpointRow, Vec<OperationRow>)> {
    check(update)?;
    let began_us = now_us();
    let (_held, row) = endpoint_in_turn(control, project, id)?;
    let new = unset_as_the_project_says(control, overlaid(update.clone(), of(&row)), &row)?;
    check_sizes(&new)?;
    let text = as_text(&new)?;
    let runs = row.desired == Desired::Active;
    let stops = runs && new.disabled == Some(true);
    let changes = pg_settings(&text) != pg_settings(&row.options);
    if changes {
        // Whether it runs or not: it is to start again.
        check_settings(control, project, &pg_settings(&text)).map_err(|error| {
            let text = format!("endpoint {id} keeps its old settings: {}", error.message);
            Error { message: text, ..error }
        })?;
    }
    if runs && !stops && changes {
        let operations = restart_with(control, &row, &text)?;
        return Ok((row, operations));
    }
    let begun = OperationRow::begun(Action::UpdateEndpoint, project, &row.branch_id, began_us)?;
    let ended = control.metadata.write(|change| {
        endpoint::set_options(change, id, &text, now_us())?;
        if stops {
            endpoint::set_desired(change, id, Desired::Idle, now_us())?;
        }
        let ended = begun.about_endpoint(id).ended(None);
        operation::put(change, &ended).map(|()| ended)
    })?;
    let mut operations = vec![ended];
    if stops {
        operations.push(suspend_endpoint(&control.fleet, &row)?);
    }
    Ok((row, operations))
}

fn restart_with(control: &Control, row: &EndpointRow, options: &str) -> Result<Vec<OperationRow>> {
    let (project, branch) = (&row.project_id, &row.branch_id);
    let begun = OperationRow::begun(Action::UpdateEndpoint, project, branch, now_us())?;
    let begun = begun.about_endpoint(&row.id);
    let _shown = control.operations.show(&begun);
    control.metadata.write(|change| endpoint::set_tried(change, &row.id, Some(options)))?;
    let restarted = restart(control, row);
    let ended = begun.ended(restarted.as_ref().err());
    control.metadata.write(|change| {
        operation::put(change, &ended)?;
        match &restarted {
            Ok(_) => endpoint::set_options(change, &row.id, options, now_us()),
            Err(_) => endpoint::set_tried(change, &row.id, None),
        }
    })?;
    let error = match restarted {
        Ok(operations) => return Ok([vec![ended], operations].concat()),
        Err(error) => error,
    };
    restart(control, row)?;
    let id = &row.id;
    let text = format!(
        "endpoint {id} has its old settings again, nothing was changed: with these, {}",
        error.message
    );
    // Out of room, or in the hands of another request: that is not what was asked for.
    if error.kind != Kind::Unavailable {
        return Err(Error { message: text, ..error });
    }
    Err(Error::refused("SETTINGS_REFUSED", text))
}

/// What was set before and is not any more is as the project says of new endpoints.
fn unset_as_the_project_says(
    control: &Control,
    new: EndpointOptions,
    row: &EndpointRow,
) -> Result<EndpointOptions> {
    let mut settings = settings_of(&new);
    let had = settings_of(&of(row));
    if had.keys().all(|name| settings.contains_key(name)) {
        return Ok(new);
    }
    let defaults = control.metadata.read(|connection| defaults_in(connection, &row.project_id))?;
    for (name, value) in settings_of(&defaults) {
        if had.contains_key(&name) {
            settings.entry(name).or_insert(value);
        }
    }
    Ok(with_settings(new, settings))
}

/// Checks that the Postgres of new endpoints starts with the settings that a request gives them, on a branch that
/// begins with those of the endpoint of `from`.
///
/// # Errors
/// `Malformed` and `Refused` as `check_settings`.
pub fn check_new(
    control: &Control,
    project: &str,
    from: Option<&str>,
    wanted: &[BranchEndpointCreate],
) -> Result<()> {
    for options in wanted.iter().map(|wanted| &wanted.options) {
        if settings_of(options).is_empty() {
            continue;
        }
        let text = control.metadata.read(|connection| of_new(connection, project, from, options))?;
        check_settings(control, project, &pg_settings(&text))?;
    }
    Ok(())
}

/// Decides what a crash left tried: an endpoint that runs with it has it, and any other is to start with what it had.
///
/// # Errors
/// Those of SQLite.
pub fn end_trials(control: &Control) -> Result<()> {
    for row in control.metadata.read(endpoint::all)? {
        let Some(tried) = &row.tried else { continue };
        let dir = control.dir.endpoint(&row.id);
        let with_it = started_with(&dir) == Some(in_force(tried, &control.fleet.launch.postgres_paths));
        let state = observe(&control.fleet, &row.id).1.map(|status| status.state);
        if with_it && state == Some(State::Running) {
            control.metadata.write(|change| endpoint::set_options(change, &row.id, tried, now_us()))?;
            continue;
        }
        if with_it {
            clear_leftovers(&dir);
        }
        control.metadata.write(|change| endpoint::set_tried(change, &row.id, None))?;
    }
    Ok(())
}

/// Stops an endpoint cleanly and starts it again; starts one that does not run.
///
/// # Errors
/// `NotFound`, `Refused` if it is disabled, `Busy` while another request changes the branch, `Unavailable` if it does
/// not stop or start.
pub fn restart_endpoint(
    control: &Control,
    project: &str,
    id: &str,
) -> Result<(EndpointRow, Vec<OperationRow>)> {
    let (_held, _) = endpoint_in_turn(control, project, id)?;
    let row = desire(control, project, id, Desired::Active)?;
    let operations = restart(control, &row)?;
    Ok((row, operations))
}

/// Starts an endpoint and lets it run.
///
/// # Errors
/// `NotFound`, `Refused` if it is disabled, `Busy` while another request changes the branch, `Unavailable` if it does
/// not start.
pub fn wake_endpoint(control: &Control, project: &str, id: &str) -> Result<(EndpointRow, OperationRow)> {
    let (_held, _) = endpoint_in_turn(control, project, id)?;
    let row = desire(control, project, id, Desired::Active)?;
    let operation = start_endpoint(&control.fleet, &row)?;
    Ok((row, operation))
}

/// Stops an endpoint until somebody starts it.
///
/// # Errors
/// `NotFound`, `Busy` while another request changes the branch, those of stopping.
pub fn put_to_sleep(control: &Control, project: &str, id: &str) -> Result<(EndpointRow, OperationRow)> {
    let (_held, _) = endpoint_in_turn(control, project, id)?;
    let row = desire(control, project, id, Desired::Idle)?;
    let operation = suspend_endpoint(&control.fleet, &row)?;
    Ok((row, operation))
}

/// An endpoint, and the turn of its branch, in which nobody else starts, stops or changes it.
fn endpoint_in_turn<'a>(control: &'a Control, project: &str, id: &str) -> Result<(Held<'a>, EndpointRow)> {
    let read = || control.metadata.read(|connection| endpoint::get(connection, project, id));
    let mut row = read()?;
    loop {
        let held = control.locks.take_turn(&row.branch_id)?;
        let now = read()?;
        if now.branch_id == row.branch_id {
            return Ok((held, now));
        }
        // A finalized restore gave it to another branch.
        row = now;
    }
}

/// The same, by a caller that holds the branch.
///
/// # Errors
/// The same.
pub fn restart(control: &Control, row: &EndpointRow) -> Result<Vec<OperationRow>> {
    change_under(&control.fleet, std::slice::from_ref(row), true, || Ok(()))
}

/// Says what an endpoint should be; the row as it was before.
///
/// # Errors
/// `NotFound`, `Refused` if a disabled one is to run.
fn desire(control: &Control, project: &str, id: &str, desired: Desired) -> Result<EndpointRow> {
    control.metadata.write(|change| {
        let row = endpoint::get(change, project, id)?;
        set_desired(change, &row, desired).map(|()| row)
    })
}

/// Says what an endpoint should be.
///
/// # Errors
/// `Refused` if a disabled one is to run.
pub fn set_desired(change: &Connection, row: &EndpointRow, desired: Desired) -> Result<()> {
    if desired == Desired::Active && of(row).disabled == Some(true) {
        let hint = "hint: enable it first, with `disabled: false`";
        let text = format!("endpoint {} is disabled\n{hint}", row.id);
        return Err(Error::refused("ENDPOINT_DISABLED", text));
    }
    endpoint::set_desired(change, &row.id, desired, now_us())
}

/// The settings that the endpoint in `dir` was started with last, as far as can be told.
fn started_with(dir: &Path) -> Option<BTreeMap<String, String>> {
    // Leniently, as another version may have written it.
    let spec: Value = serde_json::from_slice(&std::fs::read(dir.join("spec.json")).ok()?).ok()?;
    serde_json::from_value(spec.get("settings")?.clone()).ok()
}

fn of(row: &EndpointRow) -> EndpointOptions {
    serde_json::from_str(&row.options).unwrap_or_default()
}

/// `options` with these settings of Postgres.
fn with_settings(mut options: EndpointOptions, settings: Map<String, Value>) -> EndpointOptions {
    let mut all = options.settings.take().unwrap_or_else(|| Value::Object(Map::new()));
    // Checked to be one, if a client sent it.
    if let Some(all) = all.as_object_mut() {
        all.insert("pg_settings".to_owned(), Value::Object(settings));
    }
    options.settings = Some(all);
    options
}

/// The options of a new endpoint as they are kept: what is left out is as the endpoint of branch `from` has it, if it is a
/// setting of Postgres, or else as the project says.
///
/// # Errors
/// Those of SQLite.
pub fn of_new(
    connection: &Connection,
    project: &str,
    from: Option<&str>,
    wanted: &EndpointOptions,
) -> Result<String> {
    let inherited = inherited(connection, project, from)?;
    let options = with_defaults(wanted, inherited, defaults_in(connection, project)?);
    check_sizes(&options)?;
    as_text(&options)
}

/// What a project says of new endpoints.
fn defaults_in(connection: &Connection, project: &str) -> Result<EndpointOptions> {
    let row = project::find(connection, project)?.ok_or_else(|| Error::not_found("project", project))?;
    let defaults: Value = serde_json::from_str(&row.default_endpoint_settings).unwrap_or_default();
    Ok(defaults_of(defaults).unwrap_or_default())
}

/// The settings of Postgres that what begins on branch `from` begins with: those of its endpoint, which another branch may
/// have that took its place, or those of the next branch above it that has one. A branch is above its snapshot and below
/// whoever took its place, which may be made of that snapshot: so the way may come back to where it was.
fn inherited(connection: &Connection, project: &str, from: Option<&str>) -> Result<Map<String, Value>> {
    let mut next = from.map(str::to_owned);
    let mut passed = BTreeSet::new();
    while let Some(id) = next.filter(|id| passed.insert(id.clone())) {
        if let Some(row) = endpoint::of_branch(connection, &id)?.first() {
            let settings = settings_of(&of(row)).into_iter();
            return Ok(settings.filter(|(name, _)| settings::never(name).is_none()).collect());
        }
        let Some(row) = branch::find(connection, project, &id)? else { break };
        next = match branch::who_took_the_place_of(connection, &id)? {
            Some(taker) if !passed.contains(&taker) => Some(taker),
            _ => begins_on(connection, &row)?,
        };
    }
    Ok(Map::new())
}

/// The branch that a branch begins on, itself or by a snapshot of it.
///
/// # Errors
/// Those of SQLite.
pub fn begins_on(connection: &Connection, row: &BranchRow) -> Result<Option<String>> {
    let Some(snapshot) = row.restored_from.as_ref().filter(|_| row.parent_id.is_none()) else {
        return Ok(row.parent_id.clone());
    };
    let found = snapshot::get(connection, &row.project_id, snapshot);
    // The snapshot may be gone by now.
    Ok(found.ok().map(|snapshot| snapshot.source_branch_id).filter(|source| *source != row.id))
}

/// Gives the endpoints of `branch`, whose data is another's from now on, what that data needs and they do not have: the
/// libraries, the settings of extensions, and some of the server, of the endpoint of `from`.
///
/// # Errors
/// Those of SQLite.
pub fn adopt(connection: &Connection, project: &str, branch: &str, from: &str) -> Result<()> {
    if branch == from {
        return Ok(());
    }
    let theirs = inherited(connection, project, Some(from))?;
    for row in endpoint::of_branch(connection, branch)? {
        let ours = settings_of(&of(&row));
        let all = with_needed(ours.clone(), &theirs);
        if all != ours {
            let text = as_text(&with_settings(of(&row), all))?;
            endpoint::set_options(connection, &row.id, &text, now_us())?;
        }
    }
    Ok(())
}

fn with_needed(mut ours: Map<String, Value>, theirs: &Map<String, Value>) -> Map<String, Value> {
    for (name, value) in theirs {
        let mine = ours.get(name).map(text);
        match mine {
            Some(mine) if name == "shared_preload_libraries" => {
                let both = mine.split(',').chain(text(value).split(',').map(str::trim)).fold(
                    Vec::new(),
                    |mut all: Vec<String>, name| {
                        let name = name.trim();
                        if !name.is_empty() && !all.iter().any(|it| it == name) {
                            all.push(name.to_owned());
                        }
                        all
                    },
                );
                ours.insert(name.clone(), Value::String(both.join(",")));
            }
            Some(_) => {}
            None if name.contains('.')
                || name.ends_with("_preload_libraries")
                || NEEDED.contains(&name.as_str()) =>
            {
                ours.insert(name.clone(), value.clone());
            }
            None => {}
        }
    }
    ours
}

fn with_defaults(
    wanted: &EndpointOptions,
    inherited: Map<String, Value>,
    defaults: EndpointOptions,
) -> EndpointOptions {
    let mut settings = settings_of(&defaults);
    settings.extend(inherited);
    settings.extend(settings_of(wanted));
    let options = overlaid(wanted.clone(), defaults);
    if settings.is_empty() { options } else { with_settings(options, settings) }
}

fn as_text(options: &EndpointOptions) -> Result<String> {
    serde_json::to_string(options).map_err(|error| Error::internal(error.to_string()))
}

/// Checks what a project says of its new endpoints.
///
/// # Errors
/// `Malformed` for a value that cannot be.
pub fn check_defaults(settings: Option<&Value>) -> Result<()> {
    settings.map_or(Ok(()), |settings| check(&defaults_of(settings.clone())?))
}

/// The settings of Postgres in what a project says of its new endpoints.
///
/// # Errors
/// `Malformed` for what cannot be.
pub fn default_settings(settings: &Value) -> Result<BTreeMap<String, String>> {
    Ok(pg_settings(&as_text(&defaults_of(settings.clone())?)?))
}

/// What of a project's default endpoint settings an endpoint is made with. They are the options of an endpoint, but
/// for the settings of Postgres, which are not in `settings`.
fn defaults_of(settings: Value) -> Result<EndpointOptions> {
    let refused = |text: String| Error::malformed(format!("default_endpoint_settings: {text}"));
    if !settings.is_object() {
        return Err(refused("an object is expected".to_owned()));
    }
    let pg_settings = settings.get("pg_settings").filter(|settings| !settings.is_null()).cloned();
    let options: EndpointOptions =
        serde_json::from_value(settings).map_err(|error| refused(error.to_string()))?;
    let settings = pg_settings.map(|settings| serde_json::json!({ "pg_settings": settings }));
    // What one endpoint is and not all are.
    Ok(EndpointOptions { settings, name: None, disabled: None, ..options })
}

/// `over`, and what it leaves out from `under`.
fn overlaid(over: EndpointOptions, under: EndpointOptions) -> EndpointOptions {
    EndpointOptions {
        name: over.name.or(under.name),
        autoscaling_limit_min_cu: over.autoscaling_limit_min_cu.or(under.autoscaling_limit_min_cu),
        autoscaling_limit_max_cu: over.autoscaling_limit_max_cu.or(under.autoscaling_limit_max_cu),
        suspend_timeout_seconds: over.suspend_timeout_seconds.or(under.suspend_timeout_seconds),
        settings: over.settings.or(under.settings),
        disabled: over.disabled.or(under.disabled),
    }
}

/// Checks what may be set of an endpoint.
///
/// # Errors
/// `Malformed` for a value that cannot be.
pub fn check(options: &EndpointOptions) -> Result<()> {
    if let Some(name) = &options.name {
        let length = name.chars().count();
        if !(1..=64).contains(&length) || name.chars().any(char::is_control) {
            return Err(Error::malformed("the name of an endpoint has 1 to 64 characters"));
        }
    }
    if options.suspend_timeout_seconds.is_some_and(|s| !(-1..=SUSPEND_TIMEOUT_MAX_S).contains(&s)) {
        return Err(Error::malformed(format!("suspend_timeout_seconds is -1 to {SUSPEND_TIMEOUT_MAX_S}")));
    }
    check_sizes(options)?;
    let Some(settings) = &options.settings else { return Ok(()) };
    if !settings.is_object() {
        return Err(Error::malformed("settings is an object"));
    }
    match settings.get("pg_settings") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Object(settings)) => settings.iter().try_for_each(check_setting),
        Some(_) => Err(Error::malformed("settings.pg_settings is an object of names and values")),
    }
}

fn check_sizes(options: &EndpointOptions) -> Result<()> {
    let (min, max) = (options.autoscaling_limit_min_cu, options.autoscaling_limit_max_cu);
    if [min, max].into_iter().flatten().any(|size| !(size > 0.0 && size.is_finite()))
        || min.zip(max).is_some_and(|(min, max)| min > max)
    {
        return Err(Error::malformed(
            "autoscaling limits are above 0, and the lower one is not above the upper",
        ));
    }
    Ok(())
}

fn check_setting((name, value): (&String, &Value)) -> Result<()> {
    // Extensions have settings with a dot in their names.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(Error::malformed(format!("{name:?} is not the name of a setting of Postgres")));
    }
    if let Some(why) = settings::never(&name.to_ascii_lowercase()) {
        return Err(Error::malformed(format!("nothing was changed: {name} cannot be set: {why}")));
    }
    if value.is_string() || value.is_number() || value.is_boolean() {
        return Ok(());
    }
    Err(Error::malformed(format!("the setting {name} is a text, a number or true or false")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn options(value: Value) -> EndpointOptions {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn settings_reach_postgres_as_text() {
        let settings = json!({"work_mem": "8MB", "max_connections": 50, "fsync": true});
        let settings = pg_settings(&json!({"settings": {"pg_settings": settings}}).to_string());
        assert_eq!(settings.get("work_mem").unwrap(), "8MB");
        assert_eq!(settings.get("max_connections").unwrap(), "50");
        assert_eq!(settings.get("fsync").unwrap(), "true");
        let settings = pg_settings(&json!({"settings": {"pg_settings": {"Work_Mem": "8MB"}}}).to_string());
        assert_eq!(settings.get("work_mem").unwrap(), "8MB");
        assert!(pg_settings("{}").is_empty());
    }

    #[test]
    fn what_a_new_endpoint_leaves_out_is_as_the_project_says() {
        let says = json!({
            "autoscaling_limit_max_cu": 1, "disabled": true, "pg_settings": {"work_mem": "8MB", "jit": "off"}
        });
        let new =
            |wanted: Value| with_defaults(&options(wanted), Map::new(), defaults_of(says.clone()).unwrap());
        let made = new(json!({"name": "x", "autoscaling_limit_max_cu": 2}));
        assert_eq!((made.name.as_deref(), made.autoscaling_limit_max_cu), (Some("x"), Some(2.0)));
        assert_eq!(settings_of(&made)["work_mem"], "8MB");
        assert_eq!(made.disabled, None, "that is about one endpoint");
        let made = new(json!({"settings": {"pg_settings": {"WORK_MEM": "2MB"}}}));
        assert_eq!(settings_of(&made)["work_mem"], "2MB");
        let made = new(json!({"settings": {"pg_settings": {"work_mem": "1MB"}, "other": 1}}));
        let kept = made.settings.unwrap();
        assert_eq!(kept, json!({"pg_settings": {"work_mem": "1MB", "jit": "off"}, "other": 1}));
    }

    #[test]
    fn the_parents_settings_come_before_the_projects_and_after_the_requests() {
        let says = json!({"pg_settings": {"work_mem": "1MB", "jit": "off", "geqo": "off"}});
        let parents =
            settings_of(&options(json!({"settings": {"pg_settings": {"work_mem": "2MB", "jit": "on"}}})));
        let wanted = options(json!({"settings": {"pg_settings": {"work_mem": "3MB"}}}));
        let made = with_defaults(&wanted, parents, defaults_of(says).unwrap());
        assert_eq!(Value::Object(settings_of(&made)), json!({"work_mem": "3MB", "jit": "on", "geqo": "off"}));
    }

    #[test]
    fn other_data_brings_what_it_needs_and_leaves_the_rest() {
        let object = |value: Value| value.as_object().cloned().unwrap();
        let ours =
            object(json!({"shared_preload_libraries": "a, b", "work_mem": "1MB", "wal_level": "replica"}));
        let theirs = object(json!({"shared_preload_libraries": "b,c", "work_mem": "2MB", "jit": "off",
            "wal_level": "logical", "track_commit_timestamp": "on", "cron.database_name": "x"}));
        let needed = json!({"shared_preload_libraries": "a,b,c", "work_mem": "1MB", "wal_level": "replica",
            "track_commit_timestamp": "on", "cron.database_name": "x"});
        assert_eq!(Value::Object(with_needed(ours, &theirs)), needed);
    }

    #[test]
    fn limits_that_fit_alone_are_refused_where_they_do_not_fit_together() {
        let had = options(json!({"autoscaling_limit_max_cu": 1}));
        let new = overlaid(options(json!({"autoscaling_limit_min_cu": 4})), had);
        assert_eq!(check_sizes(&new).unwrap_err().kind, Kind::Malformed);
    }

    #[test]
    fn what_no_endpoint_can_be_is_no_default() {
        for bad in [json!([]), json!({"suspend_timeout_seconds": "x"}), json!({"pg_settings": {"a b": 1}})] {
            assert_eq!(check_defaults(Some(&bad)).unwrap_err().kind, Kind::Malformed, "{bad}");
        }
        assert_eq!(
            check_defaults(Some(&json!({"pg_settings": {"jit": "off"}, "pgbouncer_settings": {}}))),
            Ok(())
        );
        assert_eq!(check_defaults(None), Ok(()));
    }

    #[test]
    fn what_an_endpoint_cannot_be_is_refused() {
        for good in [
            json!({}),
            json!({"name": "x", "suspend_timeout_seconds": -1, "autoscaling_limit_min_cu": 0.25}),
            json!({"settings": {"pg_settings": {"work_mem": "8MB", "pgaudit.log": "all", "max_connections": 5}}}),
        ] {
            assert_eq!(check(&options(good.clone())), Ok(()), "{good}");
        }
        for bad in [
            json!({"name": ""}),
            json!({"suspend_timeout_seconds": -2}),
            json!({"autoscaling_limit_min_cu": 2, "autoscaling_limit_max_cu": 1}),
            json!({"autoscaling_limit_max_cu": 0}),
            json!({"settings": []}),
            json!({"settings": {"pg_settings": ["work_mem"]}}),
            json!({"settings": {"pg_settings": {"Archive_Command": "rm -rf /"}}}),
            json!({"settings": {"pg_settings": {"work_mem": null}}}),
            json!({"settings": {"pg_settings": {"a = 1\nb": "2"}}}),
        ] {
            assert_eq!(check(&options(bad.clone())).unwrap_err().kind, Kind::Malformed, "{bad}");
        }
    }
}
