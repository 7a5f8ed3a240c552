//! Desired and observed state of an endpoint give the next action, and how it is done. No clock, no process, no file.
//!
//! Whoever acts asks here again with what it sees then: between a look and an act a request may have been faster.

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

impl Seen {
    /// Whether nothing of it runs.
    pub const fn is_gone(self) -> bool {
        matches!(self, Self::Dead | Self::Unknown)
    }
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

/// Whether what was to be done is done by now, or is the work of whoever was faster.
pub const fn is_done(action: Action, seen: Seen) -> bool {
    match action {
        Action::Start => matches!(seen, Seen::Alive),
        Action::Stop => seen.is_gone(),
        Action::Nothing | Action::Remove => false,
    }
}

/// How an endpoint that is to run gets there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Its process is there: wait until it accepts connections.
    Wait,
    /// Wait for the end of its process, and launch it then.
    LaunchAfterEnd,
    /// Launch it.
    Launch,
    /// Not now: a process that does not answer may hold commits that only it can ship.
    NotNow,
}

/// How an endpoint that is to run gets there from what was seen.
pub const fn start(seen: Seen) -> Start {
    match seen {
        Seen::Alive => Start::Wait,
        Seen::Ending => Start::LaunchAfterEnd,
        Seen::Silent => Start::NotNow,
        Seen::Dead | Seen::Unknown => Start::Launch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Seen; 5] = [Seen::Alive, Seen::Ending, Seen::Silent, Seen::Dead, Seen::Unknown];

    #[test]
    fn what_is_done_by_now_would_not_be_planned_any_more() {
        for seen in ALL {
            for (desired, action) in [(Desired::Active, Action::Start), (Desired::Idle, Action::Stop)] {
                assert!(
                    !is_done(action, seen) || next(desired, seen) == Action::Nothing,
                    "{action:?} {seen:?}"
                );
            }
        }
        assert!(is_done(Action::Start, Seen::Alive) && is_done(Action::Stop, Seen::Dead));
    }

    #[test]
    fn only_what_is_gone_or_going_is_launched() {
        for seen in ALL {
            let launched = matches!(start(seen), Start::Launch | Start::LaunchAfterEnd);
            assert_eq!(launched, seen.is_gone() || seen == Seen::Ending, "{seen:?}");
        }
        assert_eq!(start(Seen::Silent), Start::NotNow);
    }

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
