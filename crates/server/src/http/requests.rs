//! What every request gets, whoever answers it: an id, a line in the log if it was not done, and an error as JSON.
//!
//! What must hold: whatever is not a success has the shape of [`ErrorBody`](api::error::ErrorBody), from a handler, a
//! refused parameter or a route that is not there, and its `request_id` is in the log with method, path and status.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::http::answer::{self, Said};
use crate::http::connections::Connections;
use crate::http::request_id;
use crate::limits::REQUEST_TEXT_BYTES;
use crate::names;

/// The header that names a request.
const REQUEST_ID: &str = "x-request-id";

/// Answers a request, and says in the log what was not done.
pub async fn follow(State(connections): State<Arc<Connections>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer);
    let _busy = peer.map(|peer| connections.request(peer));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let id = names::uuid().unwrap_or_default();
    let answering = async { as_json(next.run(request).await).await };
    let mut response = request_id::of(id.clone(), answering).await;
    let status = response.status().as_u16();
    let message = response.extensions().get::<Said>().map(|said| said.0.clone());
    let message = message.as_deref().unwrap_or_default();
    match status {
        ..400 => {}
        400..500 => tracing::info!(request_id = id, %method, path, status, message, "request refused"),
        _ => tracing::error!(request_id = id, %method, path, status, message, "request failed"),
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// The response, with an error that a library wrote as one of ours.
async fn as_json(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if is_json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = to_bytes(body, REQUEST_TEXT_BYTES).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    let reason = || status.canonical_reason().unwrap_or("the request was not done").to_owned();
    let ours = answer::not_taken(status, if text.is_empty() { reason() } else { text });
    // `Allow` says what else to ask for.
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::CONTENT_TYPE);
    let (mut own, body) = ours.into_parts();
    own.headers.extend(parts.headers);
    Response::from_parts(own, body)
}
