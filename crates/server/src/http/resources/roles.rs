//! Routes of the roles of a branch and their passwords.

use api::role::{RoleCreateRequest, RoleList, RoleOperations, RolePassword, RoleResponse};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::Response;

use super::view;
use crate::control::catalog::change::{self, Changed, create_role, delete_role, read_catalog};
use crate::error::{Error, Result};
use crate::http::answer;
use crate::http::context::Context;
use crate::metadata::role::{RoleRow, named_role};

/// A branch of a project.
type Branch = Path<(String, String)>;
/// A role of a branch of a project.
type Named = Path<(String, String, String)>;

fn show(changed: &Changed<RoleRow>, with_password: bool) -> RoleOperations {
    RoleOperations {
        role: view::role(&changed.value, with_password),
        operations: view::operations(&changed.operations),
    }
}

/// `GET /projects/{project_id}/branches/{branch_id}/roles`.
pub async fn list(State(context): State<Context>, Path((project, id)): Branch) -> Response {
    answer::ok(move || {
        let (rows, _) = read_catalog(&context.control, &project, &id)?;
        Ok(RoleList { roles: rows.iter().map(|row| view::role(row, false)).collect() })
    })
    .await
}

/// `POST /projects/{project_id}/branches/{branch_id}/roles`.
pub async fn create(State(context): State<Context>, Path((project, id)): Branch, bytes: Bytes) -> Response {
    answer::created(move || {
        let wanted = answer::body::<RoleCreateRequest>(&bytes)?.role;
        let made = create_role(&context.control, &project, &id, &wanted.name, !wanted.no_login)?;
        Ok(show(&made, true))
    })
    .await
}

/// `GET /projects/{project_id}/branches/{branch_id}/roles/{role_name}`.
pub async fn get(State(context): State<Context>, Path((project, id, name)): Named) -> Response {
    answer::ok(move || {
        let (rows, _) = read_catalog(&context.control, &project, &id)?;
        Ok(RoleResponse { role: view::role(&named_role(rows, &name)?, false) })
    })
    .await
}

/// `DELETE /projects/{project_id}/branches/{branch_id}/roles/{role_name}`.
pub async fn delete(State(context): State<Context>, Path((project, id, name)): Named) -> Response {
    answer::ok_or_gone(move || {
        let done = delete_role(&context.control, &project, &id, &name)?;
        Ok(done.map(|changed| show(&changed, false)))
    })
    .await
}

/// `GET /projects/{project_id}/branches/{branch_id}/roles/{role_name}/reveal_password`.
pub async fn reveal_password(State(context): State<Context>, Path((project, id, name)): Named) -> Response {
    answer::ok(move || {
        let (rows, _) = read_catalog(&context.control, &project, &id)?;
        password(named_role(rows, &name)?).map(|password| RolePassword { password })
    })
    .await
}

fn password(row: RoleRow) -> Result<String> {
    let name = row.name;
    row.password.ok_or_else(|| {
        let text = if row.login {
            format!("the password of role {name} is not known: SQL set it\nhint: give it a new one with reset_password")
        } else {
            format!("role {name} may not log in, so it has no password")
        };
        Error::unknown(text)
    })
}

/// `POST /projects/{project_id}/branches/{branch_id}/roles/{role_name}/reset_password`.
pub async fn reset_password(State(context): State<Context>, Path((project, id, name)): Named) -> Response {
    answer::ok(move || Ok(show(&change::reset_password(&context.control, &project, &id, &name)?, true))).await
}
