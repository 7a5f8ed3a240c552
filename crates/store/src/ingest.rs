//! What comes into a branch: WAL that is appended, and what its records become.

pub(crate) mod append;
pub(crate) mod catch_up;
pub(crate) mod filing;
pub(crate) mod import;
pub(crate) mod opening;
pub(crate) mod slru;

#[cfg(test)]
mod tests;
