//! Who may ask, and how a client knows the server: keys and certificates.

pub(crate) mod keys;
pub(crate) mod tls;
