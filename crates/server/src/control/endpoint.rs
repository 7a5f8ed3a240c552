//! What an endpoint is told: its options and settings.

pub(crate) mod create;
pub(crate) mod options;
pub(crate) mod slots;
pub(crate) mod trial;
