//! The server itself, its machine and who may ask it.

pub mod account;
pub mod api_key;
pub mod platform;
pub mod status;
