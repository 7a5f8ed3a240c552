//! Routes of branches.

use api::branch::{
    BranchCreateRequest, BranchCreated, BranchList, BranchOperations, BranchPagination, BranchResponse,
    BranchUpdateRequest,
};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde::Deserialize;

use super::{Context, answer, view};
use crate::metadata::{branch, project, role};

/// Which branches of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wanted {
    search: String,
    limit: Option<usize>,
    cursor: String,
}

impl Wanted {
    /// The page asked for, and where the next one starts. `rows` are all branches, oldest first.
    fn page(&self, rows: Vec<branch::BranchRow>) -> (Vec<branch::BranchRow>, Option<String>) {
        let search = self.search.to_lowercase();
        let after = rows.iter().position(|row| row.id == self.cursor).map_or(0, |at| at + 1);
        let matches =
            |row: &branch::BranchRow| row.name.to_lowercase().contains(&search) || row.id.contains(&search);
        let mut left = rows.into_iter().skip(after).filter(|row| !row.deleting && matches(row)).peekable();
        // Some clients send no limit and expect everything.
        let limit = self.limit.unwrap_or(usize::MAX).clamp(1, 10_000);
        let page: Vec<_> = left.by_ref().take(limit).collect();
        let next = left.peek().and(page.last()).map(|row| row.id.clone());
        (page, next)
    }
}

/// `GET /projects/{project_id}/branches`.
pub async fn list(
    State(context): State<Context>,
    Path(project): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Response {
    answer::ok(move || {
        let rows = context.server.metadata.read(|connection| {
            project::get(connection, &project)?;
            branch::all(connection, &project)
        })?;
        let (rows, next) = wanted.page(rows);
        let infos = view::store_infos(&context.server, &project)?;
        let annotations =
            rows.iter().filter_map(|row| Some((row.id.clone(), view::annotation(row)?))).collect();
        Ok(BranchList {
            branches: rows.iter().map(|row| view::branch(row, infos.get(&row.id))).collect(),
            annotations,
            pagination: BranchPagination {
                next,
                sort_by: "created_at".to_owned(),
                sort_order: "ASC".to_owned(),
            },
        })
    })
    .await
}

/// `POST /projects/{project_id}/branches`.
pub async fn create(State(context): State<Context>, Path(project): Path<String>, bytes: Bytes) -> Response {
    answer::created(move || {
        let server = &context.server;
        let request: BranchCreateRequest = answer::body(&bytes)?;
        let made = server.create_branch(&project, &request)?;
        let (roles, databases) = server.metadata.read(|connection| {
            Ok((role::roles(connection, &made.branch.id)?, role::databases(connection, &made.branch.id)?))
        })?;
        let mut endpoints = Vec::new();
        for row in &made.endpoints {
            endpoints.push(super::endpoints::fresh(server, row)?);
        }
        Ok(BranchCreated {
            branch: view::branch(&made.branch, None),
            connection_uris: view::connections(&endpoints, &roles, &databases, server.offers_tls(&project)?),
            endpoints: endpoints.iter().map(|row| view::endpoint(server, row)).collect(),
            operations: view::operations(&made.operations),
            roles: roles.iter().map(|row| view::role(row, true)).collect(),
            databases: databases.iter().map(view::database).collect(),
        })
    })
    .await
}

/// `GET /projects/{project_id}/branches/{branch_id}`.
pub async fn get(State(context): State<Context>, Path((project, id)): Path<(String, String)>) -> Response {
    answer::ok(move || {
        let row = context.server.metadata.read(|connection| {
            project::get(connection, &project)?;
            branch::get(connection, &project, &id)
        })?;
        let infos = view::store_infos(&context.server, &project)?;
        let annotation = view::annotation(&row);
        let mut branch = view::branch(&row, infos.get(&id));
        if let Some(info) = infos.get(&id) {
            branch.warnings = view::warnings_in_full(&context.server, &project, info)?;
        }
        Ok(BranchResponse { branch, annotation })
    })
    .await
}

/// `PATCH /projects/{project_id}/branches/{branch_id}`.
pub async fn update(
    State(context): State<Context>,
    Path((project, id)): Path<(String, String)>,
    bytes: Bytes,
) -> Response {
    answer::ok(move || {
        let request: BranchUpdateRequest = answer::body(&bytes)?;
        let row = context.server.update_branch(&project, &id, &request.branch)?;
        let infos = view::store_infos(&context.server, &project)?;
        Ok(BranchOperations { branch: view::branch(&row, infos.get(&id)), operations: Vec::new() })
    })
    .await
}

/// `DELETE /projects/{project_id}/branches/{branch_id}`.
pub async fn delete(State(context): State<Context>, Path((project, id)): Path<(String, String)>) -> Response {
    answer::ok(move || {
        let (row, operations) = context.server.delete_branch(&project, &id)?;
        let mut branch = view::branch(&row, None);
        branch.pending_state = Some("storage_deleted".to_owned());
        Ok(BranchOperations { branch, operations: view::operations(&operations) })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_branches_end() {
        let row = |id: &str, name: &str| crate::metadata::tests::branch_row(id, name);
        let rows = || vec![row("br-a", "main"), row("br-b", "dev"), row("br-c", "Dev2")];
        let wanted = Wanted { limit: Some(2), ..Wanted::default() };
        let (page, next) = wanted.page(rows());
        assert_eq!((page.len(), next.as_deref()), (2, Some("br-b")));
        let wanted = Wanted { limit: Some(2), cursor: "br-b".to_owned(), ..Wanted::default() };
        let (page, next) = wanted.page(rows());
        assert_eq!((page.len(), next), (1, None));
        let (page, next) = Wanted { search: "dev".to_owned(), ..Wanted::default() }.page(rows());
        assert_eq!((page.len(), next), (2, None));
    }
}
