//! What reaches an endpoint from outside: commands on its control socket, and signals.

use std::io::{BufRead, BufReader};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use crate::control::{Answer, Command, State, write_line};
use crate::error::{Error, While};

use super::Agent;

/// Answers commands on the control socket from now on.
pub(super) fn listen(agent: &Arc<Agent>) -> Result<(), Error> {
    let path = agent.spec.control_socket();
    super::remove_file(&path);
    let listener = UnixListener::bind(&path).while_(|| format!("listen on {}", path.display()))?;
    let agent = Arc::clone(agent);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let agent = Arc::clone(&agent);
            std::thread::spawn(move || answer_all(&agent, &stream));
        }
    });
    Ok(())
}

fn answer_all(agent: &Agent, stream: &UnixStream) {
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        *agent.answering.lock() += 1;
        let answer = match serde_json::from_str(&line) {
            Ok(command) => answer(agent, command),
            Err(error) => Answer::Error(error.to_string()),
        };
        let mut out = stream;
        let sent = write_line(&mut out, &answer);
        *agent.answering.lock() -= 1;
        agent.answered.notify_all();
        if sent.is_err() {
            return;
        }
    }
}

fn answer(agent: &Agent, command: Command) -> Answer {
    match command {
        Command::Status => Answer::Status(agent.status()),
        Command::WaitReady => Answer::Status(agent.wait_past(&[State::Starting])),
        Command::FlushLsn => agent.flush_lsn().map_or_else(Answer::Error, Answer::FlushLsn),
        Command::Stop => {
            agent.request_stop();
            Answer::Status(agent.wait_past(&[State::Starting, State::Running, State::Stopping]))
        }
    }
}

/// Makes SIGTERM and SIGINT mean "stop". Must run before other threads start: they inherit the blocked signals.
pub(super) fn take_signals(agent: &Arc<Agent>) {
    // SAFETY: a zeroed sigset_t is filled by sigemptyset before use; the mask of this thread alone is changed.
    let signals = unsafe {
        let mut signals: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut signals);
        libc::sigaddset(&raw mut signals, libc::SIGTERM);
        libc::sigaddset(&raw mut signals, libc::SIGINT);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, std::ptr::null_mut());
        signals
    };
    let agent = Arc::clone(agent);
    std::thread::spawn(move || {
        loop {
            let mut signal = 0;
            // SAFETY: both pointers are to initialised locals.
            if unsafe { libc::sigwait(&raw const signals, &raw mut signal) } == 0 {
                tracing::info!("signal {signal}: stopping");
                agent.request_stop();
            }
        }
    });
}
