//! The processes of a server on this machine: how they begin, what they are held to, what they leave.
//!
//! Not here: what is said to a server that runs (`sql`).

pub(crate) mod confine;
pub(crate) mod held;
pub(crate) mod lock;
pub(crate) mod logs;
pub(crate) mod owner_extensions;
pub(crate) mod process;
pub(crate) mod shared_memory;
pub(crate) mod single_user;
pub(crate) mod tablespace_paths;
