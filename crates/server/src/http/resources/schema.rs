//! Routes of the schema of a database on a branch.

use api::schema::SchemaAnswer;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde::Deserialize;

use crate::control::catalog::schema::{Side, compare_schema, schema, schema_tables};
use crate::error::{Error, Result};
use crate::http::answer;
use crate::http::context::Context;
use crate::metadata::branch;

/// Which database, when, and compared with what.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wanted {
    db_name: String,
    lsn: Option<String>,
    timestamp: Option<String>,
    format: Option<String>,
    base_branch_id: Option<String>,
    base_lsn: Option<String>,
    base_timestamp: Option<String>,
}

impl Wanted {
    fn check(&self) -> Result<()> {
        if self.db_name.is_empty() {
            return Err(Error::malformed("db_name is missing: say which database"));
        }
        match self.format.as_deref() {
            None | Some("sql" | "json") => Ok(()),
            Some(other) => Err(Error::malformed(format!("format {other:?} is neither sql nor json"))),
        }
    }

    fn side<'a>(&'a self, branch: &'a str) -> Side<'a> {
        Side { branch, lsn: self.lsn.as_deref(), time: self.timestamp.as_deref() }
    }
}

/// `GET /projects/{project_id}/branches/{branch_id}/schema`.
pub async fn get(
    State(context): State<Context>,
    Path((project, id)): Path<(String, String)>,
    Query(wanted): Query<Wanted>,
) -> Response {
    answer::ok(move || {
        wanted.check()?;
        let (control, side) = (&context.control, wanted.side(&id));
        if wanted.format.as_deref() == Some("json") {
            let seen = schema_tables(control, &project, &side, &wanted.db_name)?;
            return Ok(SchemaAnswer { json: Some(seen.what), sql: None, history_branch_id: seen.history });
        }
        let seen = schema(control, &project, &side, &wanted.db_name)?;
        Ok(SchemaAnswer { sql: Some(seen.what), json: None, history_branch_id: seen.history })
    })
    .await
}

/// `GET /projects/{project_id}/branches/{branch_id}/compare_schema`.
pub async fn compare(
    State(context): State<Context>,
    Path((project, id)): Path<(String, String)>,
    Query(wanted): Query<Wanted>,
) -> Response {
    answer::ok(move || {
        wanted.check()?;
        let control = &context.control;
        let row = control.metadata.read(|connection| branch::get(connection, &project, &id))?;
        let base = wanted.base_branch_id.clone().or(row.parent_id).ok_or_else(|| {
            let hint = "hint: name a branch to compare it with in base_branch_id";
            Error::refused("BRANCH_HAS_NO_PARENT", format!("branch {} has no parent\n{hint}", row.name))
        })?;
        let base =
            Side { branch: &base, lsn: wanted.base_lsn.as_deref(), time: wanted.base_timestamp.as_deref() };
        compare_schema(control, &project, &wanted.side(&id), &base, &wanted.db_name)
    })
    .await
}
