//! A hidden branch with an endpoint of its own, for one question: what does a branch look like at its head, at a
//! position or at a time?
//!
//! What must hold: whoever starts one has a place for it (`places`), which is given back when all of it is gone.
//!
//! It has no row. So nobody sees it, the reconciler leaves it alone, and after a crash `recover` finds a branch in a store
//! and a directory of an endpoint that no row knows, and removes both. Otherwise dropping it does.

use std::sync::atomic::Ordering;
use std::time::Instant;

use store::BranchPoint;
use types::BranchId;

use crate::control::branch::create::At;
use crate::error::{Error, Result};
use crate::fleet::places::Taken;
use crate::limits::REAPED_WITHIN;
use crate::machine::clock;
use crate::machine::sql::Client;
use crate::metadata::branch::BranchRow;
use crate::metadata::endpoint::{Desired, EndpointRow};
use crate::names;
use crate::state::{Server, branch_id};
use crate::storage::sweep::Making;

/// A running hidden endpoint. Everything of it ends with it.
pub struct Temporary<'a> {
    server: &'a Server,
    row: EndpointRow,
    /// Keeps its branch from being swept.
    making: Option<Making<'a>>,
    origin: (BranchRow, BranchPoint),
    _place: Taken,
}

impl Server {
    /// A place for a hidden endpoint of a project.
    ///
    /// # Errors
    /// 503 if none is to be had in time.
    pub fn hidden_place(&self, project: &str) -> Result<Taken> {
        self.hidden_servers.take(project, 1)
    }

    /// Starts a hidden endpoint on what `parent` is at `at`.
    ///
    /// # Errors
    /// Those of creating a branch, and of starting an endpoint; 503 while the server is being stopped.
    pub fn temporary(&self, parent: &BranchRow, at: At, place: Taken) -> Result<Temporary<'_>> {
        let data = branch_id(&names::branch_id()?)?;
        let making = self.unborn.make(&data);
        let origin = self.fork(parent, at, &data)?;
        self.hidden(&data, origin, "{}", (Some(making), place))
    }

    /// Starts a hidden endpoint with these options on branch `data` of the store, which was made of `origin` and ends with
    /// it if it has the `making` of that.
    ///
    /// # Errors
    /// Those of starting an endpoint; 503 while the server is being stopped.
    pub fn hidden<'a>(
        &'a self,
        data: &BranchId,
        origin: (BranchRow, BranchPoint),
        options: &str,
        (making, place): (Option<Making<'a>>, Taken),
    ) -> Result<Temporary<'a>> {
        let now_us = clock::now_us();
        let row = EndpointRow {
            id: names::endpoint_id()?,
            project_id: origin.0.project_id.clone(),
            branch_id: data.to_string(),
            port: crate::fleet::ports::HIDDEN,
            read_only: false,
            desired: Desired::Active,
            options: options.to_owned(),
            tried: None,
            started_us: None,
            suspended_us: None,
            created_us: now_us,
            updated_us: now_us,
        };
        let temporary = Temporary { server: self, row, making, origin, _place: place };
        {
            // Whoever stops the server looks for hidden ones after it said so.
            let mut temporaries = self.temporaries.lock();
            if self.closing.load(Ordering::Acquire) {
                drop(temporaries);
                return Err(Error::unavailable("the server is being stopped"));
            }
            temporaries.insert(temporary.row.id.clone(), temporary.row.clone());
        }
        let runtime = self.endpoints.of(&temporary.row.id);
        let _turn = runtime.turn.lock();
        self.launch(&temporary.row, &runtime)?;
        Ok(temporary)
    }
}

impl<'a> Temporary<'a> {
    /// Its endpoint; no row of the metadata.
    pub fn endpoint(&self) -> &EndpointRow {
        &self.row
    }

    /// The branch it was made of, as that was then, and where.
    pub fn origin(&self) -> (BranchRow, BranchPoint) {
        self.origin.clone()
    }

    /// Ends it and keeps its data with all that was written on it; what the store calls that.
    ///
    /// # Errors
    /// 503 if what was written could not be brought to the store.
    pub fn keep(mut self) -> Result<(String, Option<Making<'a>>)> {
        self.server.stop_endpoint(&self.row)?;
        Ok((self.row.branch_id.clone(), self.making.take()))
    }

    /// Connects as superuser to a database.
    ///
    /// # Errors
    /// As [`crate::machine::sql::Place::connect`].
    pub fn connect(&self, database: &str) -> Result<Client> {
        self.server.at(&self.row, |place| place.connect(database))
    }

    /// Connects as superuser, for what all databases share.
    ///
    /// # Errors
    /// As [`crate::machine::sql::Place::connect_any`].
    pub fn connect_any(&self) -> Result<Client> {
        self.server.at(&self.row, |place| place.connect_any())
    }

    /// Connects as `role`.
    ///
    /// # Errors
    /// As [`crate::machine::sql::Place::connect_as`].
    pub fn connect_as(&self, database: &str, role: &str) -> Result<Client> {
        self.server.at(&self.row, |place| place.connect_as(database, role))
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        let began = Instant::now();
        let (server, row) = (self.server, &self.row);
        // Nothing on it is worth keeping, so it is killed.
        let files = server.remove_endpoint_files(&row.id);
        server.endpoints.of(&row.id).reap(REAPED_WITHIN);
        server.endpoints.forget(&row.id);
        server.temporaries.lock().remove(&row.id);
        if let Err(error) = files {
            tracing::error!(endpoint = row.id, %error, "cannot remove a hidden endpoint; the next start will");
        }
        // With it goes what was only kept because it began there.
        drop(self.making.take());
        server.sweep_after(&row.project_id);
        tracing::debug!(endpoint = row.id, ms = began.elapsed().as_millis(), "hidden endpoint removed");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::catalog::schema::Side;
    use crate::fleet::places::Places;
    use crate::limits::{HIDDEN_SERVERS, PlaceLimits};
    use crate::metadata::branch;
    use crate::metadata::project;
    use crate::metadata::tests::{branch_row, project_row};

    #[test]
    fn whatever_starts_a_postgres_waits_for_a_place_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut server = crate::state::tests::server(&dir);
        let wait_within = Duration::from_millis(20);
        let limits = PlaceLimits { at_once: 2, of_project: 2, wait_within, ..HIDDEN_SERVERS };
        server.hidden_servers = Places::new(limits);
        let write = server.metadata.write(|change| {
            project::put(change, &project_row("p", project::READY))?;
            branch::insert(change, &branch_row("br-a-a-a", "main"))
        });
        write.unwrap();
        let row = server.metadata.read(|connection| branch::get(connection, "p", "br-a-a-a")).unwrap();
        let side = Side { branch: "br-a-a-a", lsn: Some("0/9"), time: None };
        let data = "br-b-b-b".parse().unwrap();
        let settings = [("work_mem".to_owned(), "8MB".to_owned())].into();
        let major = *server.postgres.installed.by_major.keys().next().unwrap();

        let first = server.hidden_place("q").unwrap();
        let crowded = |what: &str, error: Option<Error>| {
            let error = error.unwrap();
            assert!(error.is_crowded() && error.status == 503, "{what}: {error}");
            assert!(error.message.contains("a hidden Postgres server"), "{what}: {error}");
        };
        // One is free: that of a comparison is not enough, and it does not keep what it did not get a second for.
        crowded("comparison", server.compare_schema("p", &side, &side, "db").err());
        let second = server.hidden_place("q").unwrap();
        crowded("schema", server.schema("p", &side, "db").err());
        crowded("tables", server.schema_tables("p", &side, "db").err());
        crowded("copy", server.copy_schema(&row, At::Head, &data).err());
        crowded("trial", server.check_settings_of(("p", major), &settings, &[]).err());
        crowded("cluster", server.create_project(&api::project::ProjectCreate::default()).err());
        drop((first, second));
        assert!(server.hidden_servers.take("p", 2).is_ok());
    }
}
