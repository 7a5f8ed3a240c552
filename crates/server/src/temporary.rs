//! A hidden branch with an endpoint of its own, for one question: what does a branch look like at its head, at a
//! position or at a time?
//!
//! It has no row. So nobody sees it, the reconciler leaves it alone, and after a crash `recover` finds a branch in a store
//! and a directory of an endpoint that no row knows, and removes both. Otherwise dropping it does.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use postgres::Client;

use crate::branches::At;
use crate::clock;
use crate::error::{Error, Result};
use crate::metadata::branch::{self, BranchRow};
use crate::metadata::endpoint::{Desired, EndpointRow};
use crate::names;
use crate::sql;
use crate::state::{Server, branch_id};

/// How long a branch that is to be removed waits for questions about it.
const ASKED_WITHIN: Duration = Duration::from_secs(120);

/// What is known of a hidden endpoint.
#[derive(Clone, Debug)]
pub struct Hidden {
    /// It, as if it had a row; its branch is a name of the store only.
    pub row: EndpointRow,
    /// The branch it was made from.
    parent: String,
}

/// A running hidden endpoint. Everything of it ends with it.
pub struct Temporary<'a> {
    server: &'a Server,
    row: EndpointRow,
}

impl Server {
    /// Starts a hidden endpoint on what `parent` is at `at`.
    ///
    /// # Errors
    /// Those of creating a branch, and of starting an endpoint; 503 while the server is being stopped.
    pub fn temporary(&self, parent: &BranchRow, at: At) -> Result<Temporary<'_>> {
        let project = &parent.project_id;
        let point = self.resolve(project, parent, at)?;
        let now_us = clock::now_us();
        let row = EndpointRow {
            id: names::endpoint_id()?,
            project_id: project.clone(),
            branch_id: names::branch_id()?,
            port: self.metadata.read(crate::endpoints::reserve_port)?,
            desired: Desired::Active,
            options: "{}".to_owned(),
            started_us: None,
            suspended_us: None,
            created_us: now_us,
            updated_us: now_us,
        };
        {
            let _tree = self.tree.lock();
            if self.closing.load(Ordering::Acquire) {
                return Err(Error::unavailable("the server is being stopped"));
            }
            // It may be on its way out since it was looked up.
            self.metadata.read(|connection| branch::get(connection, project, &parent.id))?;
            self.store(project)?.create_branch(
                &branch_id(&row.branch_id)?,
                &branch_id(&parent.id)?,
                point.lsn,
            )?;
            let hidden = Hidden { row: row.clone(), parent: parent.id.clone() };
            self.temporaries.lock().insert(row.id.clone(), hidden);
        }
        let temporary = Temporary { server: self, row };
        let runtime = self.endpoints.of(&temporary.row.id);
        let _turn = runtime.turn.lock();
        self.launch(&temporary.row, &runtime)?;
        Ok(temporary)
    }

    /// Waits until no hidden endpoint runs on a branch that no new one can be made from.
    pub fn wait_unasked(&self, branch: &str) {
        let deadline = Instant::now() + ASKED_WITHIN;
        while self.temporaries.lock().values().any(|it| it.parent == branch) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Temporary<'_> {
    /// Its endpoint; no row of the metadata.
    pub fn endpoint(&self) -> &EndpointRow {
        &self.row
    }

    /// Connects as superuser.
    ///
    /// # Errors
    /// As [`sql::connect`].
    pub fn connect(&self, database: &str) -> Result<Client> {
        sql::connect(&self.server.dir.endpoint(&self.row.id), self.row.port, database)
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        let began = Instant::now();
        let (server, row) = (self.server, &self.row);
        // Nothing on it is worth keeping, so it is killed.
        let files = server.remove_endpoint_files(&row.id);
        server.endpoints.of(&row.id).reap(Duration::from_secs(5));
        server.endpoints.forget(&row.id);
        let _tree = server.tree.lock();
        server.temporaries.lock().remove(&row.id);
        let branch =
            branch_id(&row.branch_id).and_then(|id| Ok(server.store(&row.project_id)?.delete_branch(&id)?));
        if let Err(error) = files.and(branch) {
            tracing::error!(endpoint = row.id, %error, "cannot remove a hidden branch; the next start will");
        }
        tracing::debug!(endpoint = row.id, ms = began.elapsed().as_millis(), "hidden endpoint removed");
    }
}
