//! Shows that something takes time, once it has taken most of a second.
//!
//! Nothing is drawn for quick work, and nothing at all when stderr is not a terminal. While something is being waited
//! for, Ctrl-C says that the server carries the step through on its own: the server never leaves one half-made.

use std::io::IsTerminal;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How long work stays silent.
const SILENT: Duration = Duration::from_millis(700);

/// Work under way; drop it when the work is done.
pub struct Progress {
    done: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts showing `what` ("waiting for ...") if the work outlasts the silence.
pub fn start(what: impl Into<String>) -> Progress {
    if !std::io::stderr().is_terminal() {
        return Progress { done: None, thread: None };
    }
    say_so_when_interrupted();
    let what = what.into();
    let (done, wait) = mpsc::channel::<()>();
    // Without one there is no progress to be seen, and all else goes on.
    let thread = std::thread::Builder::new().spawn(move || {
        if wait.recv_timeout(SILENT) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}  {elapsed}") {
            bar.set_style(style.tick_chars("|/-\\ "));
        }
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(120));
        let _ = wait.recv();
        bar.finish_and_clear();
    });
    Progress { done: Some(done), thread: thread.ok() }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.done.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

extern "C" fn interrupted(_signal: libc::c_int) {
    const WORDS: &[u8] =
        b"\ninterrupted: the server finishes this step or undoes it; `scion status` shows which\n";
    // SAFETY: write and _exit are async-signal-safe, and WORDS is a static of the given length.
    unsafe {
        libc::write(libc::STDERR_FILENO, WORDS.as_ptr().cast(), WORDS.len());
        libc::_exit(130);
    }
}

fn say_so_when_interrupted() {
    let handler: extern "C" fn(libc::c_int) = interrupted;
    // SAFETY: the handler only calls async-signal-safe functions; exec resets it, so psql gets the default back.
    unsafe {
        libc::signal(libc::SIGINT, handler as libc::sighandler_t);
    }
}
