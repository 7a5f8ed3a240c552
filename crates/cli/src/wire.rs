//! What the server says: its own JSON, and what this program understands of it.
//!
//! ```text
//!   answer --> JSON ----------------> `--output json`, as it came
//!               \--> a type of `api` --> tables, words, and what is asked next
//! ```
//!
//! The server may be newer than this program: a field that the type does not have is passed over, and still printed as
//! JSON. What the interface promises has to be there; an answer without it is refused.
//!
//! Not here: how answers are got (`client`).

use std::ops::Deref;

use api::branch::Branch;
use api::database::Database;
use api::endpoint::Endpoint;
use api::operation::Operation;
use api::project::Project;
use api::role::Role;
use api::schedule::BranchSchedule;
use api::snapshot::Snapshot;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::{Failure, Kind};

/// An answer of the server, or an object in one.
#[derive(Clone, Debug)]
pub struct Said<T> {
    json: Value,
    understood: T,
}

impl<T: DeserializeOwned> Said<T> {
    /// What `json` says.
    ///
    /// # Errors
    /// When something is missing that the interface promises, or is of another kind.
    pub fn of(json: Value) -> Result<Self, Failure> {
        match T::deserialize(&json) {
            Ok(understood) => Ok(Self { json, understood }),
            Err(error) => Err(not_understood(&error.to_string())),
        }
    }
}

impl<T> Said<T> {
    /// The JSON as it came.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// The JSON of the object that the answer is about.
    pub fn json_of<P: Object>(&self) -> &Value {
        self.json.get(P::ONE).unwrap_or(&Value::Null)
    }

    /// Puts a newer state of an object into the answer; `place` is where its type has it.
    pub fn renew<P: Object>(&mut self, newer: Said<P>, place: impl FnOnce(&mut T) -> &mut P) {
        if let Some(json) = self.json.get_mut(P::ONE) {
            *json = newer.json;
        }
        *place(&mut self.understood) = newer.understood;
    }
}

impl<T> Deref for Said<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.understood
    }
}

/// An object of the interface, by the names that answers have for one and for several.
pub trait Object: DeserializeOwned {
    /// The field of one.
    const ONE: &'static str;
    /// The field of several.
    const MANY: &'static str;
}

macro_rules! objects {
    ($($object:ty: $one:literal, $many:literal;)*) => {
        $(impl Object for $object {
            const ONE: &'static str = $one;
            const MANY: &'static str = $many;
        })*
    };
}

objects! {
    Branch: "branch", "branches";
    BranchSchedule: "branch_schedule", "branch_schedules";
    Database: "database", "databases";
    Endpoint: "endpoint", "endpoints";
    Operation: "operation", "operations";
    Project: "project", "projects";
    Role: "role", "roles";
    Snapshot: "snapshot", "snapshots";
}

/// The object that an answer is about.
///
/// # Errors
/// When there is none, or it is not understood.
pub fn one<T: Object>(mut answer: Value) -> Result<Said<T>, Failure> {
    let missing = || not_understood(&format!("it has no {}", T::ONE));
    Said::of(answer.get_mut(T::ONE).map(Value::take).ok_or_else(missing)?)
}

/// The objects that an answer lists.
///
/// # Errors
/// When it lists none of that kind, or one is not understood.
pub fn many<T: Object>(mut answer: Value) -> Result<Vec<Said<T>>, Failure> {
    match answer.get_mut(T::MANY).map(Value::take) {
        Some(Value::Array(objects)) => objects.into_iter().map(Said::of).collect(),
        _ => Err(not_understood(&format!("it has no {}", T::MANY))),
    }
}

fn not_understood(reason: &str) -> Failure {
    Failure::new(Kind::Failed, format!("the server's answer is not understood: {reason}"))
        .hint("is the server of another version than this program? `scion --version` tells this one's")
}

/// The JSON of several objects, each as it came.
pub fn array<T>(objects: &[Said<T>]) -> Value {
    Value::Array(objects.iter().map(|object| object.json.clone()).collect())
}

/// The JSON of an answer that may be empty.
pub fn json_or_null<T>(answer: Option<&Said<T>>) -> &Value {
    answer.map_or(&Value::Null, Said::json)
}

/// How the interface spells a value of an enumeration.
pub fn word(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

/// A size or count that the interface gives with a sign.
pub fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Whole objects for tests, which say of them only what they are about.
#[cfg(test)]
pub mod samples {
    use serde_json::json;

    use super::*;

    fn with(mut whole: Value, part: Value) -> Value {
        let part = part.as_object().cloned().unwrap();
        whole.as_object_mut().unwrap().extend(part);
        whole
    }

    /// A branch that is what `part` says.
    pub fn branch(part: Value) -> Value {
        let whole = json!({
            "id": "br-1", "project_id": "p", "name": "main", "current_state": "ready",
            "state_changed_at": "2026-03-01T12:00:00Z", "creation_source": "console", "primary": false, "default": false,
            "protected": false, "init_source": "parent-data", "cpu_used_sec": 0, "compute_time_seconds": 0,
            "active_time_seconds": 0, "written_data_bytes": 0, "data_transfer_bytes": 0,
            "created_at": "2026-03-01T12:00:00Z", "updated_at": "2026-03-01T12:00:00Z"
        });
        with(whole, part)
    }

    /// An endpoint that is what `part` says.
    pub fn endpoint(part: Value) -> Value {
        let whole = json!({
            "id": "ep-1", "host": "h", "proxy_host": "h", "project_id": "p", "branch_id": "br-1",
            "autoscaling_limit_min_cu": 1.0, "autoscaling_limit_max_cu": 1.0, "region_id": "r", "type": "read_write",
            "current_state": "idle", "settings": {}, "pooler_enabled": false, "pooler_mode": "transaction",
            "disabled": false, "passwordless_access": false, "suspend_timeout_seconds": 0, "provisioner": "k8s-pod",
            "creation_source": "console", "created_at": "2026-03-01T12:00:00Z", "updated_at": "2026-03-01T12:00:00Z"
        });
        with(whole, part)
    }

    /// An operation that is what `part` says.
    pub fn operation(part: Value) -> Value {
        let whole = json!({
            "id": "op-1", "project_id": "p", "action": "start_compute", "status": "finished", "failures_count": 0,
            "created_at": "2026-03-01T12:00:00Z", "updated_at": "2026-03-01T12:00:00Z", "total_duration_ms": 1
        });
        with(whole, part)
    }

    /// A project that is what `part` says.
    pub fn project(part: Value) -> Value {
        let whole = json!({
            "id": "p", "name": "demo", "region_id": "r", "platform_id": "p", "pg_version": 15, "provisioner": "k8s-pod",
            "proxy_host": "h", "history_retention_seconds": 0, "store_passwords": true,
            "default_endpoint_settings": {}, "settings": {}, "org_id": "o", "owner_id": "u",
            "creation_source": "console", "written_data_bytes": 0, "data_transfer_bytes": 0,
            "compute_time_seconds": 0, "active_time_seconds": 0, "active_time": 0, "data_storage_bytes_hour": 0,
            "cpu_used_sec": 0, "branch_logical_size_limit": 0, "branch_logical_size_limit_bytes": 0,
            "consumption_period_start": "2026-03-01T12:00:00Z", "consumption_period_end": "2026-03-01T12:00:00Z",
            "created_at": "2026-03-01T12:00:00Z", "updated_at": "2026-03-01T12:00:00Z"
        });
        with(whole, part)
    }

    /// The same, understood.
    pub fn said<T: DeserializeOwned>(json: Value) -> Said<T> {
        Said::of(json).unwrap_or_else(|failure| panic!("{}", failure.message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_newer_server_adds_is_passed_over_and_printed() {
        let json = samples::branch(json!({"name": "dev", "colour": "green"}));
        let branch: Said<Branch> = samples::said(json.clone());
        assert_eq!((branch.name.as_str(), branch.json()), ("dev", &json));
        assert_eq!(array(&[branch]), json!([json]));
    }

    #[test]
    fn an_answer_without_what_is_promised_is_refused() {
        let failure = Said::<Branch>::of(json!({"name": "dev"})).unwrap_err();
        assert_eq!(failure.kind, Kind::Failed);
        assert!(failure.message.contains("missing field"), "{}", failure.message);
        assert!(one::<Branch>(json!({})).unwrap_err().message.contains("it has no branch"));
        assert!(many::<Branch>(json!({"branches": {}})).is_err());
    }

    #[test]
    fn objects_are_found_where_answers_have_them() {
        let branch = samples::branch(json!({}));
        let made: Said<api::branch::BranchOperations> =
            samples::said(json!({"branch": branch, "operations": [samples::operation(json!({}))]}));
        assert_eq!(made.json_of::<Branch>(), &branch);
        assert_eq!(many::<Operation>(made.json().clone()).unwrap().len(), 1);
        let list = api::project::ProjectList::default();
        assert!(many::<Project>(serde_json::to_value(list).unwrap()).unwrap().is_empty());
        let list = api::database::DatabaseList { databases: Vec::new() };
        assert!(many::<Database>(serde_json::to_value(list).unwrap()).unwrap().is_empty());
        let list = api::role::RoleList { roles: Vec::new() };
        assert!(many::<Role>(serde_json::to_value(list).unwrap()).unwrap().is_empty());
        let list = api::snapshot::SnapshotList { snapshots: Vec::new() };
        assert!(many::<Snapshot>(serde_json::to_value(list).unwrap()).unwrap().is_empty());
        let list = api::schedule::BranchScheduleList { branch_schedules: Vec::new() };
        assert!(many::<BranchSchedule>(serde_json::to_value(list).unwrap()).unwrap().is_empty());
        let list = api::endpoint::EndpointList { endpoints: Vec::new(), pagination: None };
        assert!(many::<Endpoint>(serde_json::to_value(list).unwrap()).unwrap().is_empty());
    }

    #[test]
    fn a_newer_state_takes_the_place_of_an_older_one() {
        let answer = json!({"branch": samples::branch(json!({})), "operations": []});
        let mut answer: Said<api::branch::BranchOperations> = samples::said(answer);
        let newer = samples::branch(json!({"name": "dev"}));
        answer.renew(samples::said::<Branch>(newer.clone()), |it| &mut it.branch);
        assert_eq!((answer.branch.name.as_str(), answer.json_of::<Branch>()), ("dev", &newer));
    }

    #[test]
    fn a_word_is_spelt_as_the_interface_spells_it() {
        assert_eq!(word(api::endpoint::EndpointType::ReadOnly), "read_only");
    }
}
