//! What is done beside requests: memtables become layers, memory is given back, who idles is closed.

pub(crate) mod closing;
pub(crate) mod flush;
pub(crate) mod keeper;
