//! How much of each thing that can grow a mounted file system takes, and what happens beyond.
//!
//! Not here: the overlay's disk, which is as large as its owner lets it be; a write that it cannot take is reported.

use std::time::Duration;

/// Threads that answer the kernel, each with a descriptor of its own.
pub(crate) const ANSWERING_THREADS: usize = 6;

/// Threads that answer the kernel and never wait for the page source, whatever all others do. The others may: handing a
/// read to another thread costs it a few microseconds, which are saved for as long as few reads wait.
pub(crate) const FREE_THREADS: usize = 2;

/// Threads that only wait for the page source, when more reads need it than may wait on a thread that answers the kernel.
/// Together they are the reads of it that are under way at once; what comes on top waits for its turn in a queue, and
/// holds up nobody else. Threads come with the work and go after `IDLE_THREAD`.
pub(crate) const FETCHING_THREADS: usize = 12;

/// Threads that give the space of large overlay files back.
pub(crate) const FREEING_THREADS: usize = 1;

/// Requests that the kernel sends without a process that waits for each: readahead and writeback. They share one count, so
/// it is far above what all reads that wait for the page source can come to: at three quarters of it the kernel leaves
/// readahead and lazy writeback out, at all of it the rest queues in the kernel. With a request for each thread of
/// Postgres that waits itself, it also bounds the queue of `FETCHING_THREADS`.
pub(crate) const BACKGROUND_REQUESTS: u16 = 8192;

/// Largest write, and largest readahead, that the kernel sends as one request.
pub(crate) const REQUEST_BYTES: u32 = 1 << 20;

/// How long a thread of a pool waits for more work before it ends.
pub(crate) const IDLE_THREAD: Duration = Duration::from_secs(20);

/// An overlay file of this many bytes on disk or more is freed where nobody waits for anything else.
pub(crate) const FREED_APART_BYTES: u64 = 8 << 20;
