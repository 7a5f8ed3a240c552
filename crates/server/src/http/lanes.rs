//! How many requests of one kind are at work at once, and how long one may take.
//!
//! ```text
//!   request --> lane of its kind --> a permit of its project --> a permit of all --> blocking thread
//!                                      too many wait, or for too long: 503 with Retry-After
//! ```
//!
//! What must hold
//! - Every lane has threads of its own, so what fills one never holds up another: a list is answered while every dump
//!   hangs, and a shutdown whatever else there is.
//! - One project takes a part of a lane only, so one whose store or Postgres hangs does not hold up the others.
//! - A permit is given back when the work has ended, not when the client has gone: what still runs is still counted.
//!
//! Not here: connections (`connections`), how often a key may ask (`keys`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};
use crate::http::admitted::Admitted;
use crate::http::answer;
use crate::limits::{LaneLimits, SERVER_LANES};

/// Kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What is answered from rows and the store.
    Read,
    /// What changes something.
    Change,
    /// What asks a Postgres, and may start one for that.
    Ask,
    /// How everything is.
    Status,
    /// The end.
    Shutdown,
}

impl Kind {
    /// The kind of a request; `route` is its path with the names of parameters.
    fn of(method: &Method, route: &str) -> Self {
        match (method, route) {
            (&Method::POST, "/shutdown") => Self::Shutdown,
            (&Method::GET | &Method::HEAD, "/status") => Self::Status,
            (&Method::GET | &Method::HEAD, route) => {
                let words =
                    ["roles", "databases", "schema", "compare_schema", "connection_uri", "replication_slots"];
                let asks = route.split('/').any(|part| words.contains(&part));
                if asks { Self::Ask } else { Self::Read }
            }
            _ => Self::Change,
        }
    }

    /// Whether work that nobody waits for any more may be dropped: it changes nothing.
    const fn only_looks(self) -> bool {
        matches!(self, Self::Read | Self::Ask | Self::Status)
    }
}

/// All lanes.
#[derive(Default)]
pub struct Lanes {
    read: Lane,
    change: Lane,
    ask: Lane,
    status: Lane,
    shutdown: Lane,
}

/// Requests of one kind.
#[derive(Default)]
struct Lane(Mutex<HashMap<String, Arc<Queue>>>);

/// Permits at work, and those who wait for one.
struct Queue {
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Lanes {
    const fn of(&self, kind: Kind) -> (&Lane, &'static LaneLimits) {
        match kind {
            Kind::Read => (&self.read, &SERVER_LANES.read),
            Kind::Change => (&self.change, &SERVER_LANES.change),
            Kind::Ask => (&self.ask, &SERVER_LANES.ask),
            Kind::Status => (&self.status, &SERVER_LANES.status),
            Kind::Shutdown => (&self.shutdown, &SERVER_LANES.shutdown),
        }
    }
}

impl Lane {
    /// A permit of `project`, if there is one, and then one of all.
    async fn admit(&self, limits: &LaneLimits, project: Option<&str>) -> Result<Vec<OwnedSemaphorePermit>> {
        let wait = async {
            let mut permits = Vec::new();
            if let Some(project) = project {
                permits.push(self.queue(project, limits.of_project).permit(limits.waiting_of_project).await?);
            }
            permits.push(self.queue("", limits.at_once).permit(limits.waiting).await?);
            Some(permits)
        };
        let permits = tokio::time::timeout(limits.wait_within, wait).await.ok().flatten();
        permits.ok_or_else(|| {
            let text = format!("the server is busy: too many requests {} are under way or wait", limits.what);
            Error::unavailable(format!("{text}\nhint: try again a little later")).again_after(1)
        })
    }

    /// Those of one project, or all by the name that no project has.
    fn queue(&self, name: &str, permits: usize) -> Arc<Queue> {
        let mut queues = self.0.lock();
        // Whoever waits or works has a copy, of the queue or of its permits.
        queues.retain(|_, queue| Arc::strong_count(queue) > 1 || Arc::strong_count(&queue.permits) > 1);
        let new = || Queue { permits: Arc::new(Semaphore::new(permits)), waiting: AtomicUsize::new(0) };
        Arc::clone(queues.entry(name.to_owned()).or_insert_with(|| Arc::new(new())))
    }
}

impl Queue {
    /// A permit, waited for among `most` at most; `None` if that many wait.
    async fn permit(&self, most: usize) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Some(permit);
        }
        let waiting = Waiting(&self.waiting);
        if waiting.0.fetch_add(1, Ordering::AcqRel) >= most {
            return None;
        }
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }
}

/// One who waits, until this is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Lets a request to work once its lane has permits for it, and answers for it if it takes too long.
pub async fn enter(State(lanes): State<Arc<Lanes>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.as_deref().unwrap_or_default();
    let kind = Kind::of(request.method(), route.strip_prefix(api::PREFIX).unwrap_or(route));
    let mut parts = request.uri().path().split('/').skip_while(|part| *part != "projects").skip(1);
    let project = parts.next().filter(|_| route.contains("{project_id}")).map(str::to_owned);
    let (lane, limits) = lanes.of(kind);
    let permits = match lane.admit(limits, project.as_deref()).await {
        Ok(permits) => permits,
        Err(error) => return answer::failed(&error),
    };
    let answering = Admitted::new(permits, kind.only_looks()).answer(next.run(request));
    tokio::time::timeout(limits.answer_within, answering)
        .await
        .unwrap_or_else(|_| answer::failed(&too_slow(limits.answer_within, kind)))
}

fn too_slow(within: Duration, kind: Kind) -> Error {
    let seconds = within.as_secs();
    let then =
        if kind.only_looks() { "try again" } else { "it goes on; the project's operations show its end" };
    Error::unavailable(format!("the request did not end within {seconds} s\nhint: {then}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: LaneLimits = LaneLimits {
        what: "that test",
        at_once: 3,
        of_project: 2,
        waiting: 4,
        waiting_of_project: 1,
        wait_within: Duration::from_millis(50),
        answer_within: Duration::from_secs(1),
    };

    #[test]
    fn every_request_is_of_one_kind() {
        let of = |method: Method, route: &str| Kind::of(&method, route);
        assert_eq!(of(Method::GET, "/projects"), Kind::Read);
        assert_eq!(of(Method::GET, "/projects/{project_id}/branches"), Kind::Read);
        assert_eq!(of(Method::GET, "/projects/{project_id}/branches/{branch_id}/schema"), Kind::Ask);
        assert_eq!(
            of(Method::GET, "/projects/{project_id}/branches/{branch_id}/roles/{role_name}"),
            Kind::Ask
        );
        assert_eq!(of(Method::POST, "/projects/{project_id}/branches/{branch_id}/roles"), Kind::Change);
        assert_eq!(of(Method::DELETE, "/projects/{project_id}"), Kind::Change);
        assert_eq!(of(Method::GET, "/status"), Kind::Status);
        assert_eq!(of(Method::POST, "/shutdown"), Kind::Shutdown);
    }

    #[tokio::test]
    async fn one_project_takes_a_part_of_a_lane_and_all_of_them_take_no_more_than_there_is() {
        let lane = Lane::default();
        let a1 = lane.admit(&LIMITS, Some("a")).await.unwrap();
        let a2 = lane.admit(&LIMITS, Some("a")).await.unwrap();
        let error = lane.admit(&LIMITS, Some("a")).await.unwrap_err();
        assert_eq!((error.kind, error.retry_after_s), (crate::error::Kind::Unavailable, Some(1)), "{error}");
        let b1 = lane.admit(&LIMITS, Some("b")).await.unwrap();
        assert!(lane.admit(&LIMITS, Some("b")).await.is_err(), "three are at work");
        drop(a1);
        let b2 = lane.admit(&LIMITS, Some("b")).await.unwrap();
        drop((a2, b1, b2));
        drop(lane.queue("c", 1));
        assert!(lane.0.lock().len() <= 2, "what nobody uses is forgotten: {}", lane.0.lock().len());
    }

    #[tokio::test]
    async fn more_than_may_wait_are_told_at_once() {
        let lane = Lane::default();
        let limits = LaneLimits { wait_within: Duration::from_secs(3600), ..LIMITS };
        let held =
            (lane.admit(&limits, Some("a")).await.unwrap(), lane.admit(&limits, Some("a")).await.unwrap());
        let (second, third) = (lane.admit(&limits, Some("a")), lane.admit(&limits, Some("a")));
        tokio::select! {
            biased;
            _ = second => panic!("there is no place"),
            refused = third => assert!(refused.is_err()),
        }
        drop(held);
        assert!(lane.admit(&limits, Some("a")).await.is_ok(), "who waited in vain is not counted any more");
    }
}
