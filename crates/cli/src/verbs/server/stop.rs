//! `scion stop`: stops the endpoints, each cleanly, then the server.
//!
//! Endpoints outlive their server by design, and hand over their last WAL before they end, so without a server there is
//! nobody to stop them cleanly; then this verb says so and stops nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use api::endpoint::EndpointState;
use api::status::{EndpointStatus, Status};
use clap::Args;
use compute::control::{self, Command};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::client::Client;
use crate::failure::{self, Failure, Kind};
use crate::global::Global;
use crate::wire::Said;
use crate::{output, place, progress};

/// How long a process may take to end after it was asked.
const ENDING_LIMIT: Duration = Duration::from_secs(60);

/// How long an endpoint may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Stop the server and its endpoints.
#[derive(Args)]
pub struct Stop {
    /// Stop the server only; its endpoints go on and are taken over by the next server.
    #[arg(long)]
    keep_endpoints: bool,
}

impl Stop {
    /// Runs the verb.
    pub fn run(&self, global: &Global) -> Result<(), Failure> {
        if global.api.is_some() {
            return self.run_remote(global);
        }
        let dir = place::data_dir(global)?;
        let pid = place::server_json(&dir)?.map(|file| file.pid).filter(|pid| is_server(*pid));
        let Some(pid) = pid else {
            return nothing_to_stop(&dir);
        };
        if self.keep_endpoints {
            terminate(pid)?;
            wait_for_end(pid)?;
            output::words(&format!("stopped the server (process {pid}); its endpoints go on"));
            return Ok(());
        }
        let stopped = shut_down(&Client::new(place::server(global)?)?)?;
        wait_for_end(pid)?;
        output::words(&format!("stopped {stopped} endpoints and the server (process {pid})"));
        Ok(())
    }

    fn run_remote(&self, global: &Global) -> Result<(), Failure> {
        if self.keep_endpoints {
            return Err(Failure::new(Kind::Usage, "--keep-endpoints works on the server's own machine only")
                .hint("run `scion stop --keep-endpoints --data-dir DIR` there"));
        }
        let stopped = shut_down(&Client::new(place::server(global)?)?)?;
        output::words(&format!("stopped {stopped} endpoints and the server"));
        Ok(())
    }
}

/// There is no server. Endpoints may still run, but to stop cleanly they need one that takes their last WAL.
fn nothing_to_stop(dir: &Path) -> Result<(), Failure> {
    let place = dir.display();
    match living(&dir.join("endpoints")) {
        0 => {
            output::words(&format!("no server and no endpoint runs on {place}"));
            Ok(())
        }
        count => Err(Failure::new(
            Kind::Unreachable,
            format!(
                "{count} endpoints run on {place} without a server, and wait for one to take their last WAL"
            ),
        )
        .hint(format!("start it with `scion serve --data-dir {place}`, then run `scion stop` again"))),
    }
}

/// Asks the server to stop its endpoints and then itself; returns how many endpoints ran.
fn shut_down(client: &Client) -> Result<usize, Failure> {
    let _progress = progress::start("stopping endpoints: waiting for their last WAL to be stored");
    let status: Said<Status> = client.get("/status")?;
    let runs = |endpoint: &&EndpointStatus| endpoint.current_state != EndpointState::Idle;
    let running = status.endpoints.iter().filter(runs).count();
    client.post::<Value>("/shutdown", json!({}))?;
    Ok(running)
}

/// Endpoints in `endpoints` that answer on their control sockets.
fn living(endpoints: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(endpoints) else { return 0 };
    let answers =
        |dir: &Path| control::ask(&compute::control_socket(dir), Command::Status, ANSWER_LIMIT).is_ok();
    entries.flatten().filter(|entry| answers(&entry.path())).count()
}

/// Whether `pid` is a live `scion serve`, whatever the binary is called; a process id in a file may have been given to
/// another program since.
fn is_server(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    !is_zombie(&stat) && arguments.split(|byte| *byte == 0).skip(1).any(|argument| argument == b"serve")
}

/// Whether a line of `/proc/PID/stat` is of a process that has ended. Its name, in parentheses, may hold anything.
fn is_zombie(stat: &str) -> bool {
    stat.rsplit_once(')').is_none_or(|(_, tail)| tail.trim_start().starts_with('Z'))
}

fn terminate(pid: u32) -> Result<(), Failure> {
    let Some(process) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Err(Failure::new(Kind::Failed, format!("{pid} in server.json is not a process id")));
    };
    kill_process(process, Signal::TERM).map_err(|error| {
        failure::io(format!("stop process {pid}"), &error.into())
            .hint("run this as the user who runs `scion serve`")
    })
}

fn wait_for_end(pid: u32) -> Result<(), Failure> {
    let _progress = progress::start("waiting for the server to end");
    let asked = Instant::now();
    while is_server(pid) {
        if asked.elapsed() > ENDING_LIMIT {
            let limit_s = ENDING_LIMIT.as_secs();
            return Err(Failure::new(
                Kind::Failed,
                format!("the server (process {pid}) runs on after {limit_s} s"),
            )
            .hint("its log says what it waits for"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_by_its_verb_and_that_it_lives() {
        assert!(!is_zombie("12 (scion) S 1 12"));
        assert!(is_zombie("12 (a) b) Z 1"));
        assert!(!is_server(std::process::id()), "the test program serves nothing");
    }

    #[test]
    fn directories_without_a_listener_are_passed_over() {
        assert_eq!(living(Path::new("/nonexistent")), 0);
        assert_eq!(living(Path::new("/usr")), 0);
    }
}
