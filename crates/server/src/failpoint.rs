//! Where a crash is tried: after every step of an operation that is durable, or starts or ends a process.
//!
//! ```text
//!   SCION_FAILPOINTS=FILE                        each step that an operation takes becomes a line of FILE
//!   Scion-Failpoint: 3   (header of a request)   the server is killed at the third step of that request
//!   Scion-Failpoint: fail 3                      that step fails, if it is one that can, after it was taken
//!   SCION_KILL_AT=deletion=3                     the same, at the third step of what that thread does at a time
//! ```
//!
//! A line is `passed request 3: a transaction changed the metadata`, or begins with `killed` or `failed`.
//!
//! A test that asks for the first step, the second and so on until the operation survives has tried all of them, those
//! included that nobody has thought of. FILE begins with the names of all steps there are, so the test knows which one
//! none of its operations took.
//!
//! What must hold: a build for release has none of this; another one, only if the variable is set.
//!
//! Not here: what a crash within a step leaves, which the store (`store::crash`) and SQLite answer for; steps of threads that
//! an operation starts for several endpoints at once (`stop_all`) and for the two sides of a schema comparison, which are
//! those of stopping one and of a hidden endpoint.

#[cfg(not(debug_assertions))]
pub use nothing::{Asked, asked, at, begin, passed, start, tried};
#[cfg(debug_assertions)]
pub use tried::{Asked, asked, at, begin, passed, start, tried};

macro_rules! steps {
    ($($name:ident: $text:literal,)*) => {
        /// What was done just now.
        #[derive(Clone, Copy, Debug)]
        pub enum Step {
            $(#[doc = $text] $name,)*
        }

        impl Step {
            /// All of them, in words.
            #[cfg(debug_assertions)]
            const ALL: &[&str] = &[$($text,)*];

            #[cfg(debug_assertions)]
            const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

steps! {
    MetadataChanged: "a transaction changed the metadata",
    ClusterMade: "initdb made a cluster",
    OwnerMade: "the cluster got its owner and database",
    ClusterRemoved: "the cluster was removed",
    StoreMade: "a store took a cluster in",
    StoreRemoved: "a store was removed",
    BranchMade: "a branch of a store was made",
    BranchRemoved: "a branch of a store was removed",
    DirectoryMade: "the directory of an endpoint was made",
    SpecWritten: "the spec of an endpoint was written",
    ComputeStarted: "the process of an endpoint was started",
    ComputeReady: "an endpoint accepts connections",
    ComputeStopped: "an endpoint was stopped",
    ComputeKilled: "what ran of an endpoint was killed",
    FilesRemoved: "the directory of an endpoint was removed",
    StatementRun: "Postgres of a branch ran a statement",
    TemplateRun: "SQL of a template was run",
    SchemaCopied: "a schema was copied",
}

#[cfg(debug_assertions)]
mod tried {
    use std::cell::RefCell;
    use std::fs::File;
    use std::io::Write;
    use std::marker::PhantomData;
    use std::sync::OnceLock;

    use parking_lot::Mutex;

    use super::Step;
    use crate::error::{Error, Result};

    /// Set once, if at all.
    static TRIED: OnceLock<Tried> = OnceLock::new();

    struct Tried {
        log: Mutex<File>,
        /// A thread, and at which of its steps it ends the server.
        thread: Option<(String, u32)>,
    }

    struct Operation {
        name: &'static str,
        steps: u32,
        asked: Asked,
    }

    thread_local! {
        static UNDER_WAY: RefCell<Option<Operation>> = const { RefCell::new(None) };
    }

    tokio::task_local! {
        static ASKED: Asked;
    }

    /// At which of its steps a request is to end the server, or to fail.
    #[derive(Clone, Copy, Debug, Default)]
    pub struct Asked {
        step: Option<u32>,
        fails: bool,
    }

    impl Asked {
        /// What a request asks for by a header.
        pub fn of(headers: &axum::http::HeaderMap) -> Self {
            let value = TRIED.get().and_then(|_| headers.get("scion-failpoint"));
            let text = value.and_then(|value| value.to_str().ok()).unwrap_or_default();
            let failing = text.strip_prefix("fail ");
            Self { step: failing.unwrap_or(text).parse().ok(), fails: failing.is_some() }
        }

        /// Answers a request that asks for it.
        pub async fn answer<F: Future>(self, answering: F) -> F::Output {
            ASKED.scope(self, answering).await
        }
    }

    /// What the request that is being answered asks for.
    pub fn asked() -> Asked {
        ASKED.try_with(|asked| *asked).unwrap_or_default()
    }

    /// An operation of this thread, until this is dropped.
    #[derive(Debug)]
    pub struct UnderWay(PhantomData<*const ()>);

    impl Drop for UnderWay {
        fn drop(&mut self) {
            UNDER_WAY.set(None);
        }
    }

    /// Reads the environment.
    pub fn start() {
        let Some(path) = std::env::var_os("SCION_FAILPOINTS") else { return };
        let log = File::options().create(true).append(true).open(path);
        let Ok(mut log) = log.inspect_err(|error| tracing::error!(%error, "no failpoints")) else { return };
        for text in Step::ALL {
            let _ = writeln!(log, "known: {text}");
        }
        let thread = std::env::var("SCION_KILL_AT").ok().and_then(|text| {
            let (name, at) = text.split_once('=')?;
            Some((name.to_owned(), at.parse().ok()?))
        });
        let _ = TRIED.set(Tried { log: Mutex::new(log), thread });
    }

    /// Begins an operation that a request asked for.
    pub fn begin(asked: Asked) -> UnderWay {
        under_way("request", asked)
    }

    /// Begins what the thread `name` does by itself.
    pub fn at(name: &'static str) -> UnderWay {
        let thread = TRIED.get().and_then(|tried| tried.thread.as_ref());
        let step = thread.filter(|(wanted, _)| wanted == name).map(|(_, at)| *at);
        under_way(name, Asked { step, fails: false })
    }

    fn under_way(name: &'static str, asked: Asked) -> UnderWay {
        UNDER_WAY.set(TRIED.get().map(|_| Operation { name, steps: 0, asked }));
        UnderWay(PhantomData)
    }

    /// A step was taken; perhaps the last one.
    pub fn passed(step: Step) {
        take(step, false);
    }

    /// A step was taken whose end may be lost; perhaps it was.
    ///
    /// # Errors
    /// `Unavailable` if a test asked for it.
    pub fn tried(step: Step) -> Result<()> {
        match take(step, true) {
            true => Err(Error::unavailable(format!("a test lets this fail: {}", step.text()))),
            false => Ok(()),
        }
    }

    /// Counts a step; whether it is to fail.
    fn take(step: Step, can_fail: bool) -> bool {
        UNDER_WAY.with_borrow_mut(|operation| {
            let (Some(operation), Some(tried)) = (operation.as_mut(), TRIED.get()) else { return false };
            operation.steps += 1;
            let reached = operation.asked.step == Some(operation.steps);
            let ends = reached && !operation.asked.fails;
            let fails = reached && operation.asked.fails && can_fail;
            let how = match (ends, fails) {
                (true, _) => "killed",
                (_, true) => "failed",
                _ => "passed",
            };
            let (name, steps) = (operation.name, operation.steps);
            let _ = writeln!(tried.log.lock(), "{how} {name} {steps}: {}", step.text());
            if ends {
                // Not an abort, which would run handlers and leave a core: nothing of this process does anything any more.
                let _ =
                    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            }
            fails
        })
    }
}

// Built, and not used, where tests are, so that what a release is made of is what was checked.
#[cfg_attr(debug_assertions, expect(dead_code, reason = "a build for release uses it"))]
mod nothing {
    use super::Step;
    use crate::error::Result;

    /// Nothing.
    #[derive(Clone, Copy, Debug, Default)]
    pub struct Asked;

    impl Asked {
        /// Nothing.
        pub fn of(_: &axum::http::HeaderMap) -> Self {
            Self
        }

        /// Answers a request.
        pub fn answer<F: Future>(self, answering: F) -> F {
            answering
        }
    }

    /// Nothing.
    pub fn asked() -> Asked {
        Asked
    }

    /// Nothing.
    pub fn start() {}

    /// Nothing.
    pub fn begin(_: Asked) {}

    /// Nothing.
    pub fn at(_: &'static str) {}

    /// Nothing.
    pub fn passed(_: Step) {}

    /// Nothing.
    ///
    /// # Errors
    /// None.
    #[expect(clippy::unnecessary_wraps, reason = "the other one fails if a test asks for it")]
    pub fn tried(_: Step) -> Result<()> {
        Ok(())
    }
}
