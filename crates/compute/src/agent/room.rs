//! Watches, for one run, how much WAL the store does not have yet, and lets the writing of more wait.
//!
//! Not here: how much that may be (`shipping::room`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use fs::FileSystem;

use crate::error::Error;
use crate::shipping::room::{self, Measured, Room, SLOW};
use crate::shipping::stream::{Alive, Progress};
use crate::threads;

use super::known::Agent;

/// Between two looks. What Postgres can write meanwhile comes on top of the limit.
const PAUSE: Duration = Duration::from_secs(1);

/// Watches for as long as there is a server.
pub(super) fn watch(
    agent: &Arc<Agent>,
    file_system: &Arc<FileSystem>,
    progress: &Arc<Progress>,
    alive: &Arc<Alive>,
) -> Result<JoinHandle<()>, Error> {
    let (agent, file_system) = (Arc::clone(agent), Arc::clone(file_system));
    let (progress, alive) = (Arc::clone(progress), Arc::clone(alive));
    threads::spawn("watch pg_wal", move || {
        let limit = room::limit_bytes();
        let mut flushed = None;
        let mut room = Room::Enough;
        while alive.after(PAUSE) {
            let keeps_up = !progress.take_bulk() && progress.appending_for() < SLOW;
            if room == Room::Enough && keeps_up {
                continue; // without asking Postgres, which may sleep
            }
            flushed = agent.flush_lsn().ok().or(flushed);
            let Some(now) = measure(&agent, &progress, flushed.as_deref()) else { continue };
            let next = room::room(room, now, limit);
            let notice = room::notice(next, now, limit);
            if next != room {
                let text = notice.as_deref().unwrap_or("the store has nearly all WAL again");
                tracing::warn!("endpoint {}: {text}", agent.spec.endpoint);
                match (room, next) {
                    (_, Room::None) => hold(&file_system, &progress),
                    (Room::None, _) => file_system.release_links(),
                    _ => {}
                }
            }
            room = next;
            *agent.wal_notice.lock() = notice;
        }
        file_system.release_links();
        *agent.wal_notice.lock() = None;
    })
}

fn measure(agent: &Agent, progress: &Progress, flushed: Option<&str>) -> Option<Measured> {
    let unshipped = room::unshipped(flushed?, agent.shipped.load(Ordering::SeqCst))?;
    let (free, disk) = room::disk(&agent.spec.wal_dir());
    Some(Measured { unshipped, away: progress.appending_for() >= SLOW, free, disk })
}

/// Nobody opens another file of `pg_wal` but the sender that feeds the store.
fn hold(file_system: &FileSystem, progress: &Arc<Progress>) {
    let progress = Arc::clone(progress);
    file_system.hold_links(Arc::new(move |pid| pid == progress.sender()));
}
