//! Ports for endpoints. An endpoint keeps its own while nobody else takes it, as connection strings name it.

use std::collections::HashSet;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::error::{Error, Result};
use crate::limits::PORTS_TRIED;
use crate::metadata::endpoint;
use crate::names;

/// Where ports are taken from: below those that the system gives to clients.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The port in the name of a hidden endpoint's socket. It listens on no port, so that it takes none from anybody.
pub const HIDDEN: u16 = 5432;

/// A port for a new endpoint that no row and no process has.
///
/// # Errors
/// `Unavailable` if none is found among as many as are tried.
pub fn reserve_port(connection: &Connection) -> Result<u16> {
    let taken: HashSet<u16> = endpoint::ports(connection)?.into_iter().collect();
    free_port(&taken, is_free)
}

fn free_port(taken: &HashSet<u16>, is_free: impl Fn(u16) -> bool) -> Result<u16> {
    let width = PORTS.end - PORTS.start;
    let offset = u16::from_le_bytes(names::random()?) % width;
    let all = (0..width).map(|step| PORTS.start + (u32::from(offset) + u32::from(step)) as u16 % width);
    let mut tried = all.filter(|port| !taken.contains(port)).take(PORTS_TRIED);
    tried.find(|port| is_free(*port)).ok_or_else(|| {
        let hint = "hint: delete endpoints, or end what listens there";
        let text = format!("no free port was found for the endpoint among those of {PORTS:?}");
        Error::unavailable(format!("{text}: other processes have {PORTS_TRIED} in a row\n{hint}"))
    })
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
    use crate::error::Kind;

    #[test]
    fn a_port_is_one_that_no_row_has_and_few_are_tried() {
        let all_but_one: HashSet<u16> = PORTS.filter(|port| *port != 25_000).collect();
        assert_eq!(free_port(&all_but_one, |_| true).unwrap(), 25_000);
        let tried = std::cell::Cell::new(0);
        let busy = |_| {
            tried.set(tried.get() + 1);
            false
        };
        assert_eq!(free_port(&HashSet::new(), busy).unwrap_err().kind, Kind::Unavailable);
        assert_eq!(tried.get(), PORTS_TRIED);
    }

    #[test]
    fn a_port_in_use_is_not_free_until_it_is_let_go() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_free_within(port, Duration::from_millis(1)));
        drop(listener);
        assert!(is_free_within(port, Duration::from_secs(1)));
    }
}
