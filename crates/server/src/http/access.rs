//! Who may ask for what: every request passes here first.
//!
//! | key | reaches |
//! |-----|---------|
//! | of the server, or the file `api-key` | everything |
//! | of one project | what is below that project, except deleting it; itself in `GET /projects`; the fixed answers |
//! | none, a wrong or a revoked one | nothing, 401 |
//!
//! Who asks too often is told to wait (429), and a body that is too large or too slow is not read on (413, 408).
//!
//! A key of one project may not give settings of extensions that scion does not know.
//!
//! What must hold: a key of one project reaches what is listed here and no more, so a new route is closed to it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequest, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use crate::access::keys::{Key, Keys};
use crate::error::Error;
use crate::failpoint::Asked;
use crate::http::answer;
use crate::limits::BODY_WITHIN;
use crate::machine::settings;

/// Lets a request through if its key may make it; handlers find the key as an `Extension`.
pub async fn check(State(keys): State<Arc<Keys>>, mut request: Request, next: Next) -> Response {
    let sent = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let sent = sent.and_then(bearer).unwrap_or_default();
    let key = match keys.admit(sent) {
        Ok(key) => key,
        Err(error) => return answer::failed(&error),
    };
    key.note_use(&address(&request));
    if let Err(error) = reaches(&key, request.method(), request.uri().path()) {
        return answer::failed(&error);
    }
    request.extensions_mut().insert::<Arc<Key>>(key);
    Asked::of(request.headers()).answer(next.run(request)).await
}

/// Reads the body, whose size `limits::BODY_BYTES` limits, to its end, whether the handler wants it or not: over a body that
/// nobody read the connection is closed, and a client that sends its next request on it fails.
pub async fn read_body(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let reading = Bytes::from_request(Request::from_parts(parts.clone(), body), &());
    match tokio::time::timeout(BODY_WITHIN, reading).await {
        Ok(Ok(bytes)) => match may_give(&parts, &bytes) {
            Ok(()) => next.run(Request::from_parts(parts, bytes.into())).await,
            Err(error) => answer::failed(&error),
        },
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => answer::too_large(),
        Ok(Err(rejection)) => answer::failed(&Error::malformed(rejection.body_text())),
        Err(_) => answer::not_taken(StatusCode::REQUEST_TIMEOUT, "the request body did not arrive in time"),
    }
}

/// What follows the scheme, in whose name case does not matter (RFC 9110, 11.1).
fn bearer(text: &str) -> Option<&str> {
    let (scheme, key) = text.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// Checks the settings of Postgres in a body, wherever they are: a key for one project gives none of an extension that scion
/// does not know, as these may run programs or read files.
fn may_give(parts: &Parts, body: &[u8]) -> Result<(), Error> {
    let scoped = parts.extensions.get::<Arc<Key>>().is_none_or(|key| key.project.is_some());
    // Most requests set nothing.
    if !scoped || !body.windows(b"pg_settings".len()).any(|part| part == b"pg_settings") {
        return Ok(());
    }
    // What is not JSON is refused by the handler.
    let unknown = serde_json::from_slice(body).map(|body| settings::of_unknown_extensions(&body));
    match unknown.unwrap_or_default().first() {
        None => Ok(()),
        Some(name) => {
            let hint = "hint: ask with a key that is not for one project";
            let text =
                format!("nothing was changed: {name} is a setting of an extension that scion does not know");
            Err(Error::refused("SETTING_NOT_ALLOWED", format!("{text}\n{hint}")))
        }
    }
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
