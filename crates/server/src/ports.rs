//! Ports for endpoints. An endpoint keeps its own while nobody else takes it, as connection strings name it.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::error::{Error, Result};
use crate::metadata::endpoint;
use crate::names;

/// Where ports are taken from: below those that the system gives to clients.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A port for a new endpoint that no row and no process has.
///
/// # Errors
/// 503 if none is found.
pub fn reserve_port(connection: &Connection) -> Result<u16> {
    let taken: Vec<u16> = endpoint::all(connection)?.into_iter().map(|row| row.port).collect();
    let width = PORTS.end - PORTS.start;
    let offset = u16::from_le_bytes(names::random()?) % width;
    (0..width)
        .map(|step| PORTS.start + (u32::from(offset) + u32::from(step)) as u16 % width)
        .find(|port| !taken.contains(port) && is_free(*port))
        .ok_or_else(|| Error::unavailable(format!("every port of {PORTS:?} is in use")))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// Waits for a port, for it may take a moment until the one who had it has let it go. False if nobody does.
pub fn is_free_within(port: u16, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    while !is_free(port) {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_not_free_until_it_is_let_go() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_free_within(port, Duration::from_millis(1)));
        drop(listener);
        assert!(is_free_within(port, Duration::from_secs(1)));
    }
}
