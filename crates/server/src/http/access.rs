//! Who may ask for what: every request passes here first.
//!
//! | key | reaches |
//! |-----|---------|
//! | of the server, or the file `api-key` | everything |
//! | of one project | what is below that project, except deleting it; itself in `GET /projects`; the fixed answers |
//! | none, a wrong or a revoked one | nothing, 401 |
//!
//! What must hold: a key of one project reaches what is listed here and no more, so a new route is closed to it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;

use super::{Context, answer};
use crate::error::Error;
use crate::keys::Key;

/// Lets a request through if its key may make it; handlers find the key as an `Extension`.
pub async fn check(State(context): State<Context>, mut request: Request, next: Next) -> Response {
    let sent = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let sent = sent.and_then(|text| text.strip_prefix("Bearer ")).map(str::trim).unwrap_or_default();
    let Some(key) = context.server.keys.find(sent) else {
        return answer::failed(&Error::unauthorized());
    };
    key.note_use(&address(&request));
    if let Err(error) = reaches(&key, request.method(), request.uri().path()) {
        return answer::failed(&error);
    }
    request.extensions_mut().insert::<Arc<Key>>(key);
    next.run(request).await
}

fn address(request: &Request) -> String {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    peer.map(|ConnectInfo(address)| address.ip().to_string()).unwrap_or_default()
}

/// Whether `key` may ask for `path`, which comes without the prefix.
fn reaches(key: &Key, method: &Method, path: &str) -> Result<(), Error> {
    let Some(project) = key.project.as_deref() else { return Ok(()) };
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    // Ids need no escapes; an escaped one is not compared, and so not reached.
    let allowed = match (method, parts.as_slice()) {
        (&Method::POST, ["projects"]) => {
            return Err(Error::gone("project-scoped keys are not allowed to create projects"));
        }
        (&Method::DELETE, ["projects", id]) | (&Method::POST, ["projects", id, "recover"])
            if *id == project =>
        {
            return Err(Error::gone(
                "project-scoped keys are not allowed to delete or recover their project",
            ));
        }
        (&Method::GET, ["projects"] | ["projects", "shared"]) => true,
        (&Method::GET, ["users", "me"] | ["users", "me", "organizations"] | ["regions"] | ["auth"]) => true,
        (_, ["projects", id, ..]) => *id == project,
        _ => false,
    };
    if allowed {
        return Ok(());
    }
    // Neon's words, which its clients look for.
    let text = "not allowed to perform actions outside the project this key is scoped to";
    Err(Error::gone(format!("{text}; subject_project_id:{project:?}")))
}
