//! The stores of projects, each opened when it is first asked for, and the trees of their branches.
//!
//! What must hold
//! - One store that opens slowly, or never, is the trouble of its project only. A thread of its own opens it; whoever asks
//!   for it waits a while, and for no other.
//! - A store that nobody holds, asked for or has branches open in for a while is closed, and opened again when it is asked
//!   for. Who asks while it is being closed waits as for one that is being opened: its directory is locked until then.
//! - A store and the rows of its branches change together under the lock of its tree, which is a project's own.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use store::StoreOptions;

use crate::error::{Error, Result, chain};
use crate::limits::STORE_AGAIN_AFTER;
use crate::machine::threads;

/// The stores of all projects, by id.
pub struct Stores<S = store::Project> {
    known: Mutex<HashMap<String, Arc<Slot<S>>>>,
    trees: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

impl<S> Default for Stores<S> {
    fn default() -> Self {
        Self { known: Mutex::default(), trees: Mutex::default() }
    }
}

/// The store of one project.
struct Slot<S> {
    store: Mutex<Opened<S>>,
    changed: Condvar,
}

impl<S> Default for Slot<S> {
    fn default() -> Self {
        Self { store: Mutex::new(Opened::No), changed: Condvar::new() }
    }
}

/// How far it is.
enum Opened<S> {
    No,
    /// Being opened, or closed.
    Since(Instant),
    /// And when it was last asked for.
    Yes(Arc<S>, Instant),
    Failed(Error, Instant),
}

impl<S: Send + Sync + 'static> Stores<S> {
    fn slot(&self, project: &str) -> Arc<Slot<S>> {
        Arc::clone(self.known.lock().entry(project.to_owned()).or_default())
    }

    /// The store of `project`, which `open` opens if it is not open yet; waits `within` at most.
    ///
    /// # Errors
    /// Those of `open`, of this or another caller a moment ago; `Unavailable` if that takes longer.
    pub fn open(
        &self,
        project: &str,
        within: Duration,
        open: impl FnOnce() -> Result<S> + Send + 'static,
    ) -> Result<Arc<S>> {
        let slot = self.slot(project);
        let mut state = slot.store.lock();
        let mut open = Some(open);
        loop {
            let deadline = match &mut *state {
                Opened::Yes(store, asked) => {
                    *asked = Instant::now();
                    return Ok(Arc::clone(store));
                }
                Opened::Failed(error, at) if at.elapsed() < STORE_AGAIN_AFTER => return Err(error.clone()),
                Opened::Since(at) => *at + within,
                Opened::No | Opened::Failed(..) => {
                    let Some(open) = open.take() else {
                        return Err(Error::unavailable(format!("the store of project {project} is gone")));
                    };
                    let now = Instant::now();
                    let own = Arc::clone(&slot);
                    threads::spawn("open store", move || own.opened(open()))?;
                    *state = Opened::Since(now);
                    now + within
                }
            };
            if slot.changed.wait_until(&mut state, deadline).timed_out()
                && let Opened::Since(at) = &*state
            {
                let text = format!(
                    "the store of project {project} is being opened for {} s",
                    at.elapsed().as_secs()
                );
                let hint = "hint: try again later; if that stays so, the disk below it does not answer";
                return Err(Error::unavailable(format!("{text}\n{hint}")).again_after(5));
            }
        }
    }

    /// Keeps a store that was just made.
    pub fn put(&self, project: &str, store: S) {
        self.slot(project).opened(Ok(store));
    }

    /// Closes stores that nobody holds, that were not asked for since `idle`, and that are `unused`.
    pub fn close_idle(&self, idle: Duration, unused: impl Fn(&S) -> bool) {
        let slots: Vec<_> = self.known.lock().values().cloned().collect();
        slots.iter().for_each(|slot| slot.close_if_idle(idle, &unused));
    }

    /// Forgets the store of a project that is deleted.
    pub fn forget(&self, project: &str) {
        self.known.lock().remove(project);
        self.trees.lock().remove(project);
    }

    /// Held by whoever makes or removes branches of a project.
    pub fn tree(&self, project: &str) -> Arc<Mutex<()>> {
        Arc::clone(self.trees.lock().entry(project.to_owned()).or_default())
    }
}

impl<S> Slot<S> {
    fn opened(&self, opened: Result<S>) {
        *self.store.lock() = match opened {
            Ok(store) => Opened::Yes(Arc::new(store), Instant::now()),
            Err(error) => Opened::Failed(error, Instant::now()),
        };
        self.changed.notify_all();
    }

    fn close_if_idle(&self, idle: Duration, unused: impl Fn(&S) -> bool) {
        let mut state = self.store.lock();
        let Opened::Yes(store, asked) = &mut *state else { return };
        let is_idle = asked.elapsed() >= idle && Arc::get_mut(store).is_some_and(|store| unused(store));
        if !is_idle {
            return;
        }
        let closed = std::mem::replace(&mut *state, Opened::Since(Instant::now()));
        drop(state);
        // It may have to wait for its disk: nobody who asks for another store notices.
        drop(closed);
        *self.store.lock() = Opened::No;
        self.changed.notify_all();
    }
}

/// Opens the store of a project.
///
/// # Errors
/// `Unavailable` if it cannot be opened.
pub fn open(path: PathBuf, options: StoreOptions, project: &str) -> Result<store::Project> {
    store::Project::open_with(&path, options).map_err(|error| {
        let text = chain(&error);
        Error::unavailable(format!("the store of project {project} cannot be opened: {text}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    const SOON: Duration = Duration::from_millis(50);

    fn refused() -> Result<store::Project> {
        Err(Error::unavailable("damaged"))
    }

    #[test]
    fn a_store_that_does_not_open_holds_up_no_other() {
        let stores = Stores::<store::Project>::default();
        let (end, wait) = mpsc::channel::<()>();
        let hangs = move || {
            let _ = wait.recv();
            refused()
        };
        let error = stores.open("a", SOON, hangs).err().unwrap();
        assert!(error.message.contains("is being opened"), "{error}");
        assert_eq!(stores.open("b", Duration::from_secs(60), refused).err().unwrap().message, "damaged");
        // Nor is it opened twice.
        let error = stores.open("a", SOON, || unreachable!()).err().unwrap();
        assert!(error.message.contains("is being opened"), "{error}");
        drop(end);
        let error = stores.open("a", Duration::from_secs(60), || unreachable!()).err().unwrap();
        assert_eq!(error.message, "damaged", "who comes later is told how it ended");
    }

    /// A store whose directory is locked until it is gone, which takes until the test lets it.
    struct Locking {
        number: usize,
        locked: Arc<AtomicBool>,
        going: mpsc::Sender<()>,
        may_go: Mutex<mpsc::Receiver<()>>,
    }

    impl Drop for Locking {
        fn drop(&mut self) {
            let _ = self.going.send(());
            let _ = self.may_go.lock().recv();
            self.locked.store(false, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_store_that_is_being_closed_is_waited_for_and_opened_again() {
        const LONG: Duration = Duration::from_secs(60);
        let stores = Arc::new(Stores::<Locking>::default());
        let locked = Arc::new(AtomicBool::new(false));
        let (going, is_going) = mpsc::channel();
        let open = |number: usize| {
            let (locked, going) = (Arc::clone(&locked), going.clone());
            let (let_go, may_go) = mpsc::channel();
            let open = move || {
                assert!(!locked.swap(true, Ordering::SeqCst), "it is open already");
                Ok(Locking { number, locked, going, may_go: Mutex::new(may_go) })
            };
            (let_go, open)
        };
        let (let_go, first) = open(1);
        let held = stores.open("a", LONG, first).ok().unwrap();
        stores.close_idle(Duration::ZERO, |_| true);
        drop(held);
        stores.close_idle(Duration::ZERO, |_| false);
        stores.close_idle(LONG, |_| true);
        assert!(locked.load(Ordering::SeqCst), "somebody held it, used it, asked for it lately");

        let closer = Arc::clone(&stores);
        let closer = std::thread::spawn(move || closer.close_idle(Duration::ZERO, |_| true));
        is_going.recv().unwrap();
        assert_eq!(stores.open("a", SOON, open(2).1).err().unwrap().kind, Kind::Unavailable);
        let (let_go_again, again) = open(3);
        let other = Arc::clone(&stores);
        let opener = std::thread::spawn(move || other.open("a", LONG, again).ok().unwrap().number);
        let_go.send(()).unwrap();
        assert_eq!(opener.join().unwrap(), 3);
        closer.join().unwrap();
        drop(let_go_again);
    }

    #[test]
    fn branches_of_one_project_take_turns_and_those_of_two_do_not() {
        let stores = Stores::<store::Project>::default();
        let (a, again, b) = (stores.tree("a"), stores.tree("a"), stores.tree("b"));
        let _held = a.lock();
        assert!(again.try_lock().is_none());
        assert!(b.try_lock().is_some());
    }
}
