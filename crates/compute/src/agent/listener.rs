//! What reaches an endpoint from outside: commands on its control socket, and signals.

use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::IntoRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::control::{Answer, Command, State, write_line};
use crate::error::{Error, While};
use crate::limits::{ACCEPT_PAUSE, CONTROL_CONNECTIONS};
use crate::threads;

use super::known::Agent;

/// Answers commands on the control socket from now on.
pub(super) fn listen(agent: &Arc<Agent>) -> Result<(), Error> {
    let path = agent.spec.control_socket();
    super::known::remove_file(&path);
    let listener = UnixListener::bind(&path).while_(|| format!("listen on {}", path.display()))?;
    let agent = Arc::clone(agent);
    let listening = threads::spawn("answer on its control socket", move || {
        let served = Arc::new(());
        for stream in listener.incoming() {
            match stream {
                Ok(stream) => serve(&agent, &served, stream),
                // There may be no descriptor for it; it waits, and need not be asked for all the time.
                Err(error) => {
                    tracing::warn!("a connection to the control socket: {error}");
                    std::thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    });
    listening.map(|_| ())
}

/// Answers one connection on a thread of its own, or says why not.
fn serve(agent: &Arc<Agent>, served: &Arc<()>, stream: UnixStream) {
    if Arc::strong_count(served) > CONTROL_CONNECTIONS {
        return refuse(&stream, format!("{CONTROL_CONNECTIONS} connections are open already"));
    }
    let stream = Arc::new(stream);
    let (agent, served, asked) = (Arc::clone(agent), Arc::clone(served), Arc::clone(&stream));
    let serving = threads::spawn("answer a command", move || {
        answer_all(&agent, &asked);
        drop(served);
    });
    if let Err(error) = serving {
        tracing::warn!("{error}");
        refuse(&stream, error.to_string());
    }
}

fn refuse(mut stream: &UnixStream, text: String) {
    let _ = write_line(&mut stream, &Answer::Error(text)); // it may not wait for it
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

/// Write end of the pipe that `on_signal` writes to; 0 while there is none.
static SIGNAL_PIPE: AtomicI32 = AtomicI32::new(0);

extern "C" fn on_signal(_: libc::c_int) {
    let pipe = SIGNAL_PIPE.load(Ordering::SeqCst);
    // SAFETY: write is async-signal-safe; the byte is a static; the pipe is never closed.
    unsafe { libc::write(pipe, c"s".as_ptr().cast(), 1) };
}

/// Makes SIGTERM and SIGINT mean "stop".
pub(super) fn take_signals(agent: &Arc<Agent>) -> Result<(), Error> {
    let (mut reader, writer) = io::pipe().while_(|| "make a pipe".to_owned())?;
    SIGNAL_PIPE.store(writer.into_raw_fd(), Ordering::SeqCst);
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: a zeroed sigaction has an empty mask and no flags; the handler only does what handlers may.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as *const () as usize;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
    let agent = Arc::clone(agent);
    let waiting = threads::spawn("wait for signals", move || {
        let mut byte = [0];
        while reader.read_exact(&mut byte).is_ok() {
            tracing::info!("stopping on a signal");
            agent.request_stop();
        }
    });
    waiting.map(|_| ())
}
