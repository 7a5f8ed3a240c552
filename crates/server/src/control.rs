//! What a user asks for, a folder for each kind of object: what is decided, the one transaction that writes it, and what is
//! done then.
//!
//! Not here: HTTP (`http`), rows (`metadata`), processes (`fleet`), stores (`storage`).

use std::sync::Arc;

use crate::access::keys::Keys;
use crate::clock;
use crate::control::catalog::turn::Catalogs;
use crate::control::locks::Locks;
use crate::fleet::Fleet;
use crate::machine::data_dir::DataDir;
use crate::machine::life::Life;
use crate::machine::postgres::Postgres;
use crate::machine::settings::Known;
use crate::metadata::Metadata;
use crate::operations::Operations;
use crate::storage::Storage;

pub(crate) mod branch;
pub(crate) mod catalog;
pub(crate) mod endpoint;
pub(crate) mod locks;
pub(crate) mod project;
pub(crate) mod schedule;
pub(crate) mod shutdown;
pub(crate) mod snapshot;

/// What the control plane works with. It does nothing itself: functions take it, or those of its parts that they use.
pub struct Control {
    /// The data directory.
    pub dir: Arc<DataDir>,
    /// The metadata.
    pub metadata: Arc<Metadata>,
    /// The Postgres installations.
    pub postgres: Arc<Postgres>,
    /// The stores.
    pub storage: Arc<Storage>,
    /// The endpoints.
    pub fleet: Arc<Fleet>,
    /// What is done now.
    pub operations: Arc<Operations>,
    /// How far the server is in its life.
    pub life: Arc<Life>,
    /// The API keys.
    pub keys: Arc<Keys>,
    /// Which branches are being changed.
    pub locks: Locks,
    /// Who looks at or changes the catalog of a branch.
    pub catalogs: Catalogs,
    /// What the installations of Postgres say of their settings.
    pub settings: Known,
    /// When the server started, microseconds since 1970.
    pub started_us: i64,
}

impl Control {
    /// A control plane over these endpoints and what they use.
    pub fn new(fleet: Arc<Fleet>, keys: Arc<Keys>) -> Self {
        Self {
            dir: Arc::clone(&fleet.dir),
            metadata: Arc::clone(&fleet.metadata),
            postgres: Arc::clone(&fleet.postgres),
            storage: Arc::clone(&fleet.storage),
            operations: Arc::clone(&fleet.operations),
            life: Arc::clone(&fleet.life),
            fleet,
            keys,
            locks: Locks::default(),
            catalogs: Catalogs::default(),
            settings: Known::default(),
            started_us: clock::now_us(),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::branch::point::At;
    use crate::control::branch::schema_only::copy_schema;
    use crate::control::catalog::schema::{Side, compare_schema, schema, schema_tables};
    use crate::control::endpoint::trial::check_settings_of;
    use crate::control::project::create::create_project;
    use crate::error::{Error, Kind};
    use crate::fleet;
    use crate::fleet::hidden::hidden_permit;
    use crate::limits::{HIDDEN_SERVERS, PermitLimits};
    use crate::machine::permits::Permits;
    use crate::metadata::tests::{branch_row, project_row};
    use crate::metadata::{branch, project};

    /// A control plane in `dir` with empty metadata, which no request reaches.
    pub fn control(dir: &tempfile::TempDir) -> Control {
        control_of(fleet::tests::fleet(dir))
    }

    /// The same over a fleet that a test made.
    pub fn control_of(fleet: Fleet) -> Control {
        Control::new(Arc::new(fleet), Arc::new(Keys::new(None)))
    }

    #[test]
    fn whatever_starts_a_postgres_waits_for_a_place_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut fleet = fleet::tests::fleet(&dir);
        let wait_within = Duration::from_millis(20);
        let limits = PermitLimits { at_once: 2, of_project: 2, wait_within, ..HIDDEN_SERVERS };
        fleet.hidden_servers = Permits::new(limits);
        let control = control_of(fleet);
        let write = control.metadata.write(|change| {
            project::put(change, &project_row("p", project::READY))?;
            branch::insert(change, &branch_row("br-a-a-a", "main"))
        });
        write.unwrap();
        let row = control.metadata.read(|connection| branch::get(connection, "p", "br-a-a-a")).unwrap();
        let side = Side { branch: "br-a-a-a", lsn: Some("0/9"), time: None };
        let data = "br-b-b-b".parse().unwrap();
        let settings = [("work_mem".to_owned(), "8MB".to_owned())].into();
        let major = *control.postgres.installed.by_major.keys().next().unwrap();

        let first = hidden_permit(&control.fleet, "q").unwrap();
        let crowded = |what: &str, error: Option<Error>| {
            let error = error.unwrap();
            assert!(error.is_crowded() && error.kind == Kind::Unavailable, "{what}: {error}");
            assert!(error.message.contains("a hidden Postgres server"), "{what}: {error}");
        };
        // One is free: that of a comparison is not enough, and it does not keep what it did not get a second for.
        crowded("comparison", compare_schema(&control, "p", &side, &side, "db").err());
        let second = hidden_permit(&control.fleet, "q").unwrap();
        crowded("schema", schema(&control, "p", &side, "db").err());
        crowded("tables", schema_tables(&control, "p", &side, "db").err());
        crowded("copy", copy_schema(&control, &row, At::Head, &data).err());
        crowded("trial", check_settings_of(&control, ("p", major), &settings, &[]).err());
        crowded("cluster", create_project(&control, &api::project::ProjectCreate::default()).err());
        drop((first, second));
        assert!(control.fleet.hidden_servers.take("p", 2).is_ok());
    }
}
