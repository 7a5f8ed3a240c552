//! What every handler gets.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::control::Control;
use crate::http::connections::Connections;
use crate::http::lanes::Lanes;
use crate::http::repeats::Repeats;

/// What every handler gets.
#[derive(Clone)]
pub struct Context {
    /// The server.
    pub control: Arc<Control>,
    /// Told when the process is to end.
    pub shutdown: Arc<Notify>,
    /// Who is at work.
    pub lanes: Arc<Lanes>,
    /// Who is connected.
    pub connections: Arc<Connections>,
    /// What was done that may be asked for again.
    pub repeats: Arc<Repeats>,
}

impl Context {
    /// For a server that `shutdown` ends.
    pub fn new(control: Arc<Control>, shutdown: Arc<Notify>) -> Self {
        Self {
            control,
            shutdown,
            lanes: Arc::default(),
            connections: Arc::default(),
            repeats: Arc::default(),
        }
    }
}
