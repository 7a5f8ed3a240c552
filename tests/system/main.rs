//! The tests of the whole system: a real server, real Postgres, real clients.
//!
//! One program, because each would link all of scion anew. Every test has a server and a directory of its own, and `nextest`
//! runs each in a process of its own.
//!
//! Not here: what tests share (the library of this package), the judges (`oracle`), loads and measurements.

mod access;
mod ancestors;
mod bad_input;
mod branching;
mod broken_superuser;
mod clients;
mod crash;
mod cut_connections;
mod damage;
mod deletion;
mod directory;
mod endpoints;
mod exhausted;
mod extensions;
mod failpoints;
mod indexes;
mod isolation;
mod lifecycle;
mod logs;
mod majors;
mod oracle_at_lsn;
mod own_sessions;
mod point_in_time;
mod projects;
mod protected;
mod quarantine;
mod read_only;
mod replication;
mod requests;
mod restore;
mod roles;
mod schedules;
mod schema;
mod schema_only;
mod server_away;
mod snapshots;
mod state_machine;
mod tls;
mod transaction_history;
mod unprivileged;
mod unreadable;
