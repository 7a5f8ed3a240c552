//! Desired and observed state of an endpoint give the next action. No clock, no process, no file.

use crate::metadata::endpoint::Desired;

/// What a look at an endpoint found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Its process answers and is starting, running or restarting Postgres.
    Alive,
    /// Its process answers that it is stopping, has stopped or has given up.
    Ending,
    /// Its process is there and did not answer in time.
    Silent,
    /// There is no process.
    Dead,
    /// There is no process and nothing was started since this server runs.
    Unknown,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Leave it.
    Nothing,
    /// Clear what is left of it and start it.
    Start,
    /// Stop it cleanly.
    Stop,
    /// Remove every trace of it.
    Remove,
}

/// The next action.
pub fn next(desired: Desired, seen: Seen) -> Action {
    match (desired, seen) {
        (Desired::Gone, _) => Action::Remove,
        (Desired::Active, Seen::Dead | Seen::Unknown) => Action::Start,
        (Desired::Idle, Seen::Alive | Seen::Silent) => Action::Stop,
        // One that is ending ends by itself; a silent one may hold commits that only it can ship.
        (Desired::Active, Seen::Alive | Seen::Ending | Seen::Silent) => Action::Nothing,
        (Desired::Idle, Seen::Ending | Seen::Dead | Seen::Unknown) => Action::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_endpoint_is_adopted_and_not_restarted() {
        assert_eq!(next(Desired::Active, Seen::Alive), Action::Nothing);
        assert_eq!(next(Desired::Active, Seen::Silent), Action::Nothing);
        assert_eq!(next(Desired::Active, Seen::Unknown), Action::Start);
    }

    #[test]
    fn what_should_not_be_is_stopped_or_removed() {
        assert_eq!(next(Desired::Idle, Seen::Alive), Action::Stop);
        assert_eq!(next(Desired::Idle, Seen::Unknown), Action::Nothing);
        assert_eq!(next(Desired::Gone, Seen::Unknown), Action::Remove);
    }
}
