//! The stores of projects: open ones, what nobody names any more, and the service by which endpoints reach them.
//!
//! Not here: who decides what a store is to hold (`control`).

pub(crate) mod page_service;
pub(crate) mod stores;
pub(crate) mod sweep;
