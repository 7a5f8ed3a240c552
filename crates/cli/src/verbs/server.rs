//! The verbs about the server: its life, its machine, who may ask it.

pub mod admin;
pub mod api_key;
pub mod compute;
pub mod doctor;
pub mod openapi;
pub mod serve;
pub mod status;
pub mod stop;
