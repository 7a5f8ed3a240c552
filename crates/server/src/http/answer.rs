//! From a request's bytes to work on a blocking thread, and from its result to a response.

use api::error::ErrorBody;
use axum::body::Bytes;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinError;

use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::http::admitted::Admitted;
use crate::http::request_id;
use crate::limits::BODY_BYTES;
use crate::machine::work;

/// Reads a JSON body; an empty one is an empty object.
///
/// # Errors
/// 400 with what is wrong and where.
pub fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T> {
    let bytes: &[u8] = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(bytes).map_err(|error| Error::malformed(format!("the request body: {error}")))
}

/// Does `work` on a blocking thread; its value is the body of a 200.
pub async fn ok<T, W>(work: W) -> Response
where
    T: Serialize + Send + 'static,
    W: FnOnce() -> Result<T> + Send + 'static,
{
    with_status(StatusCode::OK, work).await
}

/// Does `work` on a blocking thread; its value is the body of a 201.
pub async fn created<T, W>(work: W) -> Response
where
    T: Serialize + Send + 'static,
    W: FnOnce() -> Result<T> + Send + 'static,
{
    with_status(StatusCode::CREATED, work).await
}

/// Does `work` on a blocking thread; its value is the body of a 202.
pub async fn accepted<T, W>(work: W) -> Response
where
    T: Serialize + Send + 'static,
    W: FnOnce() -> Result<T> + Send + 'static,
{
    with_status(StatusCode::ACCEPTED, work).await
}

/// Does `work` on a blocking thread; its value is the body of a 200, nothing a 204.
pub async fn ok_or_gone<T, W>(work: W) -> Response
where
    T: Serialize + Send + 'static,
    W: FnOnce() -> Result<Option<T>> + Send + 'static,
{
    match on_thread(work).await {
        Ok(Ok(Some(value))) => json(StatusCode::OK, &value),
        Ok(Ok(None)) => StatusCode::NO_CONTENT.into_response(),
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&Error::internal(format!("a bug: {error}"))),
    }
}

async fn with_status<T, W>(status: StatusCode, work: W) -> Response
where
    T: Serialize + Send + 'static,
    W: FnOnce() -> Result<T> + Send + 'static,
{
    // A client that hangs up does not stop what it asked for half-way.
    match on_thread(work).await {
        Ok(Ok(value)) => json(status, &value),
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&Error::internal(format!("a bug: {error}"))),
    }
}

/// On a thread of the request's lane, whose permits are kept until the work has ended, whether the client waits or not.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> std::result::Result<Result<T>, JoinError> {
    let asked = failpoint::asked();
    let admitted = Admitted::current();
    let _client = admitted.as_ref().map(Admitted::client);
    tokio::task::spawn_blocking(move || {
        let _begun = admitted.as_ref().map(|admitted| work::begin(admitted.unwanted()));
        let _operation = failpoint::begin(asked);
        work()
    })
    .await
}

/// What was said of a request that was not done, for the log: an extension of its response.
#[derive(Clone, Debug)]
pub struct Said(pub String);

/// The response to a request that was not done.
pub fn failed(error: &Error) -> Response {
    let status = match error.kind {
        Kind::Malformed => StatusCode::BAD_REQUEST,
        Kind::Unauthorized => StatusCode::UNAUTHORIZED,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Unknown => StatusCode::PRECONDITION_FAILED,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Refused => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::Busy => StatusCode::LOCKED,
        Kind::TooMany => StatusCode::TOO_MANY_REQUESTS,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = not_done(status, error.code, error.message.clone());
    if let Some(seconds) = error.retry_after_s {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The response to a request that did not reach a handler: its body is too large or too slow, a parameter cannot be read,
/// a route does not have its method.
pub fn not_taken(status: StatusCode, message: impl Into<String>) -> Response {
    let code = match status {
        StatusCode::BAD_REQUEST => "BAD_REQUEST",
        StatusCode::NOT_FOUND => "NOT_FOUND",
        StatusCode::METHOD_NOT_ALLOWED => "METHOD_NOT_ALLOWED",
        StatusCode::REQUEST_TIMEOUT => "REQUEST_TIMEOUT",
        StatusCode::PAYLOAD_TOO_LARGE => "BODY_TOO_LARGE",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "UNSUPPORTED_MEDIA_TYPE",
        status if status.is_client_error() => "REFUSED",
        _ => "INTERNAL",
    };
    not_done(status, code, message.into())
}

/// The response to a request whose body has more than [`BODY_BYTES`].
pub fn too_large() -> Response {
    let text = format!("the request body has more than {BODY_BYTES} bytes");
    not_taken(StatusCode::PAYLOAD_TOO_LARGE, text)
}

fn not_done(status: StatusCode, code: &str, message: String) -> Response {
    let body =
        ErrorBody { request_id: request_id::current(), code: code.to_owned(), message: message.clone() };
    let mut response = json(status, &body);
    response.extensions_mut().insert(Said(message));
    response
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let kind = HeaderValue::from_static("application/json");
    match serde_json::to_vec(value) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, kind)], bytes).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
