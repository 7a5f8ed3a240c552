//! The same request sent twice: a client that lost the answer to a POST sends it again with the `Idempotency-Key` it had,
//! and gets the answer to the first instead of a second object, or of a refusal because there is one.
//!
//! ```text
//!   first  --> done on a task of its own, whether its client waits or not --> answer kept for a while
//!   again  --> waits for the first, if that is under way                 --> the same answer
//! ```
//!
//! What must hold
//! - Only what was done is kept. A request that was not done is done anew when it is sent again.
//! - A key stands for one request of one API key: another request with it is refused.
//! - Answers hold passwords and API keys: they are in memory only, for [`ANSWERS_KEPT_FOR`] at most.
//!
//! Not here: keys of requests that made a branch, which are kept for a day and outlive the server (`metadata::idempotency`).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::access::keys::Key;
use crate::error::Error;
use crate::failpoint;
use crate::http::{answer, request_id};
use crate::limits::{ANSWER_KEPT_BYTES, ANSWERS_KEPT, ANSWERS_KEPT_BYTES, ANSWERS_KEPT_FOR, BODY_BYTES};

/// Whose request, and its `Idempotency-Key`.
type Id = (Option<i64>, String);
type Hash = [u8; 32];
type Outcome = Option<Done>;

/// The answer to a request that was done.
#[derive(Clone)]
struct Done {
    status: StatusCode,
    kind: Option<HeaderValue>,
    body: Bytes,
}

/// A request that is under way or was done.
struct Entry {
    /// Of what it asks for.
    request: Hash,
    outcome: watch::Receiver<Outcome>,
}

/// Requests with a key, until they are forgotten.
#[derive(Default)]
pub struct Repeats(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    by_id: HashMap<Id, Entry>,
    /// Those that were done, oldest first.
    done: VecDeque<(Instant, Id, usize)>,
    bytes: usize,
}

impl Entries {
    /// Forgets what is too old or too much.
    fn prune(&mut self) {
        while let Some((at, _, _)) = self.done.front() {
            let full = self.done.len() > ANSWERS_KEPT || self.bytes > ANSWERS_KEPT_BYTES;
            if !full && at.elapsed() < ANSWERS_KEPT_FOR {
                break;
            }
            let Some((_, id, bytes)) = self.done.pop_front() else { break };
            self.bytes -= bytes;
            self.by_id.remove(&id);
        }
    }
}

/// The first request with a key, which is forgotten when this is dropped without an answer to keep.
struct First {
    repeats: Arc<Repeats>,
    id: Id,
    outcome: watch::Sender<Outcome>,
    kept: bool,
}

impl First {
    fn keep(mut self, done: Done) {
        let mut entries = self.repeats.0.lock();
        let bytes = done.body.len();
        entries.done.push_back((Instant::now(), self.id.clone(), bytes));
        entries.bytes += bytes;
        entries.prune();
        drop(entries);
        self.kept = true;
        self.outcome.send_replace(Some(done));
    }
}

impl Drop for First {
    fn drop(&mut self) {
        if !self.kept {
            self.repeats.0.lock().by_id.remove(&self.id);
        }
    }
}

/// What a request with a key is.
enum Turn {
    First(First),
    Again(watch::Receiver<Outcome>),
    Other,
}

impl Repeats {
    fn turn(self: &Arc<Self>, id: &Id, request: Hash) -> Turn {
        let mut entries = self.0.lock();
        entries.prune();
        match entries.by_id.get(id) {
            Some(entry) if entry.request != request => Turn::Other,
            Some(entry) => Turn::Again(entry.outcome.clone()),
            None => {
                let (outcome, receiver) = watch::channel(None);
                entries.by_id.insert(id.clone(), Entry { request, outcome: receiver });
                Turn::First(First { repeats: Arc::clone(self), id: id.clone(), outcome, kept: false })
            }
        }
    }
}

/// Answers a POST with an `Idempotency-Key` once.
pub async fn once(State(repeats): State<Arc<Repeats>>, request: Request, next: Next) -> Response {
    let Some(key) = request.headers().get("idempotency-key").filter(|_| request.method() == Method::POST)
    else {
        return next.run(request).await;
    };
    let Some(key) = key.to_str().ok().filter(|key| (1..=255).contains(&key.len())) else {
        return answer::failed(&Error::malformed("an Idempotency-Key has 1 to 255 printable characters"));
    };
    let asks = request.extensions().get::<Arc<Key>>().and_then(|key| key.id);
    let id = (asks, key.to_owned());
    let (parts, body) = request.into_parts();
    // It was read to its end before.
    let Ok(body) = to_bytes(body, BODY_BYTES).await else {
        return answer::too_large();
    };
    let mut hash = Sha256::new();
    hash.update(parts.uri.to_string());
    hash.update([0]);
    hash.update(&body);
    let hash: Hash = hash.finalize().into();
    loop {
        match repeats.turn(&id, hash) {
            Turn::Other => {
                let text = format!("Idempotency-Key {:?} was used for another request", id.1);
                return answer::failed(&Error::refused("IDEMPOTENCY_KEY_REUSED", text));
            }
            Turn::Again(mut outcome) => {
                let done = outcome.wait_for(Option::is_some).await.ok().and_then(|done| done.clone());
                if let Some(done) = done {
                    return done.into_response();
                }
                // The first was not done.
            }
            Turn::First(first) => {
                let asked = failpoint::asked();
                let answering = next.run(Request::from_parts(parts, body.into()));
                let whole = asked.answer(async { finish(first, answering.await).await });
                let task = tokio::spawn(request_id::same(whole));
                return task
                    .await
                    .unwrap_or_else(|error| answer::failed(&Error::internal(format!("a bug: {error}"))));
            }
        }
    }
}

/// Keeps an answer that says that the request was done.
async fn finish(first: First, response: Response) -> Response {
    if !response.status().is_success() {
        return response;
    }
    let (parts, body) = response.into_parts();
    match to_bytes(body, usize::MAX).await {
        Ok(body) => {
            let kind = parts.headers.get(header::CONTENT_TYPE).cloned();
            if body.len() <= ANSWER_KEPT_BYTES {
                first.keep(Done { status: parts.status, kind, body: body.clone() });
            }
            Response::from_parts(parts, body.into())
        }
        Err(error) => answer::failed(&Error::internal(format!("the answer: {error}"))),
    }
}

impl IntoResponse for Done {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        response.headers_mut().remove(header::CONTENT_TYPE);
        if let Some(kind) = self.kind {
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(repeats: &Arc<Repeats>, key: &str) -> First {
        match repeats.turn(&(None, key.to_owned()), [0; 32]) {
            Turn::First(first) => first,
            Turn::Again(_) | Turn::Other => panic!("{key} is not new"),
        }
    }

    fn done(bytes: usize) -> Done {
        Done { status: StatusCode::OK, kind: None, body: vec![b'x'; bytes].into() }
    }

    #[test]
    fn what_was_not_done_is_forgotten_and_what_was_done_is_known_to_its_key_only() {
        let repeats = Arc::new(Repeats::default());
        let id = (None, "a".to_owned());
        let under_way = first(&repeats, "a");
        assert!(matches!(repeats.turn(&id, [0; 32]), Turn::Again(_)));
        drop(under_way);
        first(&repeats, "a").keep(done(1));
        assert!(matches!(repeats.turn(&id, [0; 32]), Turn::Again(outcome) if outcome.borrow().is_some()));
        assert!(matches!(repeats.turn(&id, [1; 32]), Turn::Other));
        let of_another = (Some(7), "a".to_owned());
        assert!(matches!(repeats.turn(&of_another, [1; 32]), Turn::First(_)));
    }

    #[test]
    fn the_oldest_answers_are_forgotten_once_there_are_too_many_or_they_are_too_large() {
        let repeats = Arc::new(Repeats::default());
        let under_way = first(&repeats, "under way");
        for number in 0..ANSWERS_KEPT + 5 {
            first(&repeats, &number.to_string()).keep(done(1));
        }
        assert_eq!(repeats.0.lock().done.len(), ANSWERS_KEPT);
        assert_eq!(repeats.0.lock().by_id.len(), ANSWERS_KEPT + 1);
        for number in 0..=ANSWERS_KEPT_BYTES / ANSWER_KEPT_BYTES {
            first(&repeats, &format!("large {number}")).keep(done(ANSWER_KEPT_BYTES));
        }
        assert!(repeats.0.lock().bytes <= ANSWERS_KEPT_BYTES);
        let id = (None, "under way".to_owned());
        assert!(matches!(repeats.turn(&id, [0; 32]), Turn::Again(_)), "it is not done yet");
        drop(under_way);
        drop(first(&repeats, "0"));
    }
}
