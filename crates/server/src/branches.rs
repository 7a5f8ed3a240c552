//! Branches: create from the head, an LSN or a time; list; change; delete.
//!
//! The path of creating one is kept short: ask the parent's Postgres how far it has flushed, wait until the store has
//! that, one manifest write in the store, one SQLite transaction.

use std::time::{Duration, Instant};

use api::branch::{BranchCreateRequest, BranchUpdate};
use api::endpoint::{BranchEndpointCreate, EndpointType};
use store::{BranchPoint, StoreError};
use types::{BranchId, Lsn, PgTime};

use crate::clock;
use crate::error::{Error, Result};
use crate::metadata::branch::{self, BranchRow};
use crate::metadata::endpoint::{self, Desired, EndpointRow};
use crate::metadata::operation::{self, Action, OperationRow};
use crate::metadata::{project, role};
use crate::names;
use crate::state::{Server, branch_id};

/// How long the store may lag behind the parent's Postgres before a branch is refused.
const DURABLE_WITHIN: Duration = Duration::from_secs(20);
/// How often the wait for that looks whether the disk is full.
const DURABLE_LOOK: Duration = Duration::from_secs(2);
/// A store that lags and has less room than one WAL segment is taken to be full.
const FULL_BELOW_BYTES: u64 = 16 << 20;

/// A branch that was made.
#[derive(Debug)]
pub struct Created {
    /// Its row.
    pub branch: BranchRow,
    /// Rows of its endpoints.
    pub endpoints: Vec<EndpointRow>,
    /// What was done.
    pub operations: Vec<OperationRow>,
}

/// Where a branch is to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// At everything committed before the request.
    Head,
    /// At this position, or the record boundary below it.
    Lsn(Lsn),
    /// Before the first commit later than this.
    Time(PgTime),
}

/// Where a request wants the branch to begin.
///
/// # Errors
/// 400 for text that is neither, or for both.
pub fn parse_at(lsn: Option<&str>, time: Option<&str>) -> Result<At> {
    match (lsn.filter(|text| !text.is_empty()), time.filter(|text| !text.is_empty())) {
        (Some(_), Some(_)) => Err(Error::malformed("give parent_lsn or parent_timestamp, not both")),
        (Some(text), None) => {
            let lsn =
                text.parse().map_err(|error: types::ParseLsnError| Error::malformed(error.to_string()))?;
            Ok(At::Lsn(lsn))
        }
        (None, Some(text)) => clock::parse(text).map(|us| At::Time(PgTime::from_unix_us(us))),
        (None, None) => Ok(At::Head),
    }
}

impl Server {
    /// Makes a branch and starts its endpoints.
    ///
    /// # Errors
    /// 400, 404, 409, 422 for a request that cannot be done; 503 and 507 for what failed. Then nothing is left of it.
    pub fn create_branch(&self, project: &str, request: &BranchCreateRequest) -> Result<Created> {
        let began_us = clock::now_us();
        check_request(request)?;
        let id = names::branch_id()?;
        let name = request.branch.name.clone().unwrap_or_else(|| id.clone());
        let parent = self.metadata.read(|connection| {
            project::get(connection, project)?;
            branch::check_free(connection, project, &name)?;
            match &request.branch.parent_id {
                Some(parent) => branch::get(connection, project, parent),
                None => branch::default(connection, project),
            }
        })?;
        let at = parse_at(request.branch.parent_lsn.as_deref(), request.branch.parent_timestamp.as_deref())?;
        let point = self.resolve(project, &parent, at)?;
        let row = new_row(id, name, &parent, at, &point, request);
        let (endpoints, operation) = self.record_branch(&row, &point, request, began_us)?;
        let mut operations = vec![operation];
        for endpoint in &endpoints {
            match self.start_endpoint(endpoint) {
                Ok(operation) => operations.push(operation),
                Err(error) => {
                    self.undo_branch(&row, &endpoints);
                    return Err(error);
                }
            }
        }
        tracing::info!(branch = row.id, parent = parent.id, lsn = %point.lsn, "branch created");
        Ok(Created { branch: row, endpoints, operations })
    }

    /// The record boundary that `at` means on `parent`, with everything in the store that it needs.
    ///
    /// # Errors
    /// 422 for what is not in its history; 503 and 507 for what the store does not have.
    pub fn resolve(&self, project: &str, parent: &BranchRow, at: At) -> Result<BranchPoint> {
        let store = self.store(project)?;
        let id = branch_id(&parent.id)?;
        let explain = |error: StoreError| name_branch(error, parent);
        let catch_up = || -> Result<Option<Lsn>> {
            let flushed = self.flushed_lsn(&parent.id)?;
            if let Some(flushed) = flushed {
                self.wait_durable(&store, &id, flushed).map_err(|error| rename(error, parent))?;
            }
            Ok(flushed)
        };
        match at {
            At::Head => {
                let upto = match catch_up()? {
                    Some(flushed) => flushed,
                    None => store.head(&id).map_err(explain)?,
                };
                store.resolve_lsn(&id, upto).map_err(explain)
            }
            At::Lsn(lsn) => match store.resolve_lsn(&id, lsn) {
                Err(StoreError::Ahead { .. }) => {
                    catch_up()?;
                    store.resolve_lsn(&id, lsn).map_err(explain)
                }
                found => found.map_err(explain),
            },
            At::Time(time) => {
                let now = PgTime::from_unix_us(clock::now_us());
                if time > now {
                    let hint = "hint: leave out parent_timestamp to branch from the head";
                    let text = format!(
                        "{} is in the future, now is {}\n{hint}",
                        clock::show_pg(time),
                        clock::show_pg(now)
                    );
                    return Err(Error::refused("TIME_IN_FUTURE", text));
                }
                self.check_history(project, parent, time)?;
                catch_up()?;
                store.resolve_time(&id, time).map_err(explain)
            }
        }
    }

    /// Waits until the store holds the parent's WAL up to `upto`. A store that cannot grow says so at once.
    fn wait_durable(&self, store: &store::Project, id: &BranchId, upto: Lsn) -> Result<()> {
        let deadline = Instant::now() + DURABLE_WITHIN;
        loop {
            match store.wait_durable(id, upto, DURABLE_LOOK) {
                Err(StoreError::Timeout { .. }) if self.store_is_full() => {
                    return Err(Error::disk_full(format!(
                        "the store of branch {id} cannot take its latest WAL"
                    )));
                }
                Err(StoreError::Timeout { .. }) if Instant::now() < deadline => {}
                result => return result.map_err(Error::from),
            }
        }
    }

    fn store_is_full(&self) -> bool {
        let disk = rustix::fs::statvfs(self.dir.project(""));
        disk.is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < FULL_BELOW_BYTES)
    }

    /// Checks that `time` is not before the project, nor before the parent itself began.
    fn check_history(&self, project: &str, parent: &BranchRow, time: PgTime) -> Result<()> {
        let rows = self.metadata.read(|connection| branch::all(connection, project))?;
        let first_us = rows.iter().filter(|row| row.parent_id.is_none()).map(|row| row.created_us).min();
        let began_us = parent.parent_time_us.or(first_us).unwrap_or(parent.created_us);
        if time.unix_us() >= began_us {
            return Ok(());
        }
        let hint = match &parent.parent_id {
            Some(id) => format!("hint: ask for a branch of its parent {id}"),
            None => "hint: nothing older is there".to_owned(),
        };
        let (asked, began) = (clock::show_pg(time), clock::show(began_us));
        let text =
            format!("{asked} is before the history of {}, which begins at {began}\n{hint}", parent.name);
        Err(Error::refused("TIME_BEFORE_HISTORY", text))
    }

    /// Makes the branch in the store and writes its rows: the two durable writes of a new branch.
    fn record_branch(
        &self,
        row: &BranchRow,
        point: &BranchPoint,
        request: &BranchCreateRequest,
        began_us: i64,
    ) -> Result<(Vec<EndpointRow>, OperationRow)> {
        let (id, parent) = (branch_id(&row.id)?, branch_id(row.parent_id.as_deref().unwrap_or_default())?);
        let store = self.store(&row.project_id)?;
        let begun = OperationRow::begun(Action::CreateBranch, &row.project_id, &row.id, began_us)?;
        let _tree = self.tree.lock();
        // The parent may have been deleted, or the name taken, since the request came in.
        self.metadata.read(|connection| {
            branch::get(connection, &row.project_id, parent.as_str())?;
            branch::check_free(connection, &row.project_id, &row.name)
        })?;
        store.create_branch(&id, &parent, point.lsn)?;
        let written = self.metadata.write(|change| {
            branch::insert(change, row)?;
            role::inherit(change, parent.as_str(), &row.id, point.lsn)?;
            let endpoints = request
                .endpoints
                .iter()
                .map(|wanted| insert_endpoint(change, row, wanted))
                .collect::<Result<Vec<EndpointRow>>>()?;
            let ended = begun.ended(None);
            operation::put(change, &ended)?;
            Ok((endpoints, ended))
        });
        written.inspect_err(|_| {
            if let Err(error) = store.delete_branch(&id) {
                tracing::error!(branch = row.id, %error, "cannot undo a branch; the next start will");
            }
        })
    }

    fn undo_branch(&self, row: &BranchRow, endpoints: &[EndpointRow]) {
        let undone = endpoints
            .iter()
            .try_for_each(|endpoint| {
                self.metadata.write(|change| {
                    endpoint::set_desired(change, &endpoint.id, Desired::Gone, clock::now_us())
                })?;
                self.remove_endpoint(&endpoint.id)
            })
            .and_then(|()| self.remove_branch(row));
        if let Err(error) = undone {
            tracing::error!(branch = row.id, %error, "cannot undo a branch; the next start will");
        }
    }

    /// Renames or protects a branch.
    ///
    /// # Errors
    /// 404 if it does not exist, 409 if the name is taken.
    pub fn update_branch(&self, project: &str, id: &str, update: &BranchUpdate) -> Result<BranchRow> {
        if let Some(name) = &update.name {
            names::check_name("branch", name)?;
        }
        self.metadata.write(|change| {
            let mut row = branch::get(change, project, id)?;
            if let Some(name) = update.name.as_ref().filter(|name| **name != row.name) {
                branch::check_free(change, project, name)?;
                row.name.clone_from(name);
            }
            row.protected = update.protected.unwrap_or(row.protected);
            row.updated_us = clock::now_us();
            branch::update(change, &row)?;
            Ok(row)
        })
    }

    /// Deletes a branch with its endpoints.
    ///
    /// # Errors
    /// 404 if it does not exist; 422 for the root, the default, a protected branch and one with children.
    pub fn delete_branch(&self, project: &str, id: &str) -> Result<(BranchRow, Vec<OperationRow>)> {
        let began_us = clock::now_us();
        let (row, endpoints) = {
            let _tree = self.tree.lock();
            self.metadata.write(|change| {
                let row = branch::get(change, project, id)?;
                check_deletable(&row, &branch::children(change, id)?)?;
                let endpoints = endpoint::of_branch(change, id)?;
                for endpoint in &endpoints {
                    endpoint::set_desired(change, &endpoint.id, Desired::Gone, began_us)?;
                }
                branch::set_deleting(change, id)?;
                Ok((row, endpoints))
            })?
        };
        let mut operations = Vec::new();
        for endpoint in &endpoints {
            let begun = OperationRow::begun(Action::SuspendCompute, project, id, clock::now_us())?;
            self.remove_endpoint(&endpoint.id)?;
            operations.push(begun.about_endpoint(&endpoint.id).ended(None));
        }
        let begun = OperationRow::begun(Action::DeleteTimeline, project, id, began_us)?;
        self.remove_branch(&row)?;
        operations.push(begun.ended(None));
        self.metadata.write(|change| operations.iter().try_for_each(|row| operation::put(change, row)))?;
        tracing::info!(branch = id, "branch deleted");
        Ok((row, operations))
    }

    /// Removes a branch without endpoints from the store and the metadata.
    ///
    /// # Errors
    /// Those of either.
    pub fn remove_branch(&self, row: &BranchRow) -> Result<()> {
        self.wait_unasked(&row.id);
        let _tree = self.tree.lock();
        match self.store(&row.project_id)?.delete_branch(&branch_id(&row.id)?) {
            Ok(()) | Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        self.metadata.write(|change| branch::remove(change, &row.id))
    }
}

fn check_request(request: &BranchCreateRequest) -> Result<()> {
    if let Some(name) = &request.branch.name {
        names::check_name("branch", name)?;
    }
    check_endpoints(&request.endpoints)?;
    if request.branch.init_source.as_deref().is_some_and(|source| source != "parent-data") {
        let text = "only init_source parent-data is supported\nhint: leave it out";
        return Err(Error::refused("NOT_SUPPORTED", text));
    }
    if request.branch.expires_at.is_some() {
        let text = "branches that expire are not supported yet\nhint: leave out expires_at";
        return Err(Error::refused("NOT_SUPPORTED", text));
    }
    Ok(())
}

/// Checks the endpoints of a new branch.
///
/// # Errors
/// 422 for what a branch cannot have.
pub fn check_endpoints(endpoints: &[BranchEndpointCreate]) -> Result<()> {
    if endpoints.iter().any(|endpoint| endpoint.kind == EndpointType::ReadOnly) {
        let text = "read-only endpoints are not supported yet\nhint: ask for type read_write";
        return Err(Error::refused("NOT_SUPPORTED", text));
    }
    if endpoints.len() > 1 {
        return Err(Error::refused("TOO_MANY_ENDPOINTS", "a branch has at most one read_write endpoint"));
    }
    Ok(())
}

fn check_deletable(row: &BranchRow, children: &[String]) -> Result<()> {
    if row.protected {
        return Err(Error::refused("BRANCH_PROTECTED", "cannot delete protected branch"));
    }
    if !children.is_empty() {
        let text = format!(
            "branch {} has children: {}\nhint: delete all children first",
            row.name,
            children.join(", ")
        );
        return Err(Error::refused("BRANCH_HAS_CHILDREN", text));
    }
    if row.parent_id.is_none() {
        let text = format!("cannot delete root branch {}\nhint: delete the project", row.name);
        return Err(Error::refused("BRANCH_IS_ROOT", text));
    }
    if row.is_default {
        return Err(Error::refused(
            "BRANCH_IS_DEFAULT",
            format!("cannot delete default branch {}", row.name),
        ));
    }
    Ok(())
}

/// Writes the row of an endpoint that is to run on `branch`.
///
/// # Errors
/// 503 without a free port.
pub fn insert_endpoint(
    change: &rusqlite::Connection,
    branch: &BranchRow,
    wanted: &BranchEndpointCreate,
) -> Result<EndpointRow> {
    let now_us = clock::now_us();
    let row = EndpointRow {
        id: names::endpoint_id()?,
        project_id: branch.project_id.clone(),
        branch_id: branch.id.clone(),
        port: crate::endpoints::reserve_port(change)?,
        desired: Desired::Active,
        options: serde_json::to_string(&wanted.options)
            .map_err(|error| Error::internal(error.to_string()))?,
        started_us: None,
        suspended_us: None,
        created_us: now_us,
        updated_us: now_us,
    };
    endpoint::insert(change, &row)?;
    Ok(row)
}

fn new_row(
    id: String,
    name: String,
    parent: &BranchRow,
    at: At,
    point: &BranchPoint,
    request: &BranchCreateRequest,
) -> BranchRow {
    let now_us = clock::now_us();
    let requested = match at {
        At::Lsn(asked) if asked != point.lsn => Some(asked.to_string()),
        _ => None,
    };
    BranchRow {
        id,
        project_id: parent.project_id.clone(),
        name,
        parent_id: Some(parent.id.clone()),
        parent_lsn: Some(point.lsn.to_string()),
        parent_time_us: point.last_commit.map(|(time, _)| time.unix_us()),
        requested_lsn: requested,
        is_default: false,
        protected: request.branch.protected.unwrap_or(false),
        deleting: false,
        annotation: request.annotation_value.as_ref().map(ToString::to_string),
        created_us: now_us,
        updated_us: now_us,
    }
}

/// The store knows branches by id, people by name.
fn name_branch(error: StoreError, branch: &BranchRow) -> Error {
    rename(error.into(), branch)
}

fn rename(mut error: Error, branch: &BranchRow) -> Error {
    if error.status != 404 {
        error.message = error.message.replace(&branch.id, &branch.name);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_begins_at_one_place() {
        assert_eq!(parse_at(None, None).unwrap(), At::Head);
        assert_eq!(parse_at(Some(""), None).unwrap(), At::Head);
        assert!(matches!(parse_at(Some("0/16B3748"), None).unwrap(), At::Lsn(_)));
        assert!(matches!(parse_at(None, Some("2026-03-01T14:03:07Z")).unwrap(), At::Time(_)));
        assert_eq!(parse_at(Some("0/1"), Some("2026-03-01T14:03:07Z")).unwrap_err().status, 400);
        assert_eq!(parse_at(Some("rubbish"), None).unwrap_err().status, 400);
        assert_eq!(parse_at(None, Some("rubbish")).unwrap_err().status, 400);
    }

    #[test]
    fn errors_name_the_branch_as_people_do() {
        let row = crate::metadata::tests::branch_row("br-a-b-c", "main");
        let at = |raw| Lsn::from_raw(raw).unwrap();
        let ahead = StoreError::Ahead { branch: "br-a-b-c".parse().unwrap(), asked: at(9), head: at(5) };
        let error = name_branch(ahead, &row);
        assert!(
            error.message.starts_with("0/9 is ahead of branch main, which ends at 0/5"),
            "{}",
            error.message
        );
    }

    #[test]
    fn roots_parents_defaults_and_protected_branches_stay() {
        let mut row = crate::metadata::tests::branch_row("br-a-b-c", "dev");
        assert_eq!(check_deletable(&row, &[]).unwrap_err().code, "BRANCH_IS_ROOT");
        row.parent_id = Some("br-x-y-z".to_owned());
        assert!(check_deletable(&row, &[]).is_ok());
        assert_eq!(check_deletable(&row, &["kid".to_owned()]).unwrap_err().code, "BRANCH_HAS_CHILDREN");
        row.is_default = true;
        assert_eq!(check_deletable(&row, &[]).unwrap_err().code, "BRANCH_IS_DEFAULT");
        row.protected = true;
        assert_eq!(check_deletable(&row, &[]).unwrap_err().message, "cannot delete protected branch");
    }
}
