//! The files of `pg_wal` that a start makes, on their way to the disk.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use crate::error::{Error, While};
use crate::threads::{self, Beside};

/// The files of `pg_wal` that a start made. A commit relies on them being durable, names included, so no Postgres runs
/// before `wait` has returned; they are synced while everything else is made.
pub(crate) struct SyncedWal(Beside<io::Result<()>>);

/// What `Server::spawn` asks for: `pg_wal` is durable.
pub(crate) struct WalIsDurable(());

impl SyncedWal {
    /// Begins to.
    pub fn begin(files: Vec<PathBuf>) -> Self {
        Self(threads::beside(move || {
            #[cfg(test)]
            hold::wait();
            files.iter().try_for_each(|path| File::open(path)?.sync_all())
        }))
    }

    /// Waits until they are.
    pub fn wait(self) -> Result<WalIsDurable, Error> {
        self.0.join().map(|()| WalIsDurable(())).while_(|| "sync pg_wal".to_owned())
    }
}

/// Lets a test make the sync take as long as it likes.
#[cfg(test)]
pub(crate) mod hold {
    use parking_lot::{Condvar, Mutex};

    static HELD: Mutex<bool> = Mutex::new(false);
    static CHANGED: Condvar = Condvar::new();

    pub(crate) fn set(held: bool) {
        *HELD.lock() = held;
        CHANGED.notify_all();
    }

    pub(super) fn wait() {
        let mut held = HELD.lock();
        while *held {
            CHANGED.wait(&mut held);
        }
    }
}
