//! What is done again and again: backups, and branches made by a schedule.

pub(crate) mod backups;
pub(crate) mod branches;
pub(crate) mod deletion;
pub(crate) mod timetable;
