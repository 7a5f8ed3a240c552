//! Mends the role that scion's own sessions have, where its users broke it: otherwise no start would ever succeed again.
//!
//! | a superuser ran                                | its first session was      | then                          |
//! |------------------------------------------------|----------------------------|-------------------------------|
//! | `ALTER ROLE postgres NOLOGIN`                  | refused                    | it may log in                 |
//! | `ALTER ROLE postgres NOSUPERUSER`              | refused, or no superuser's | it is a superuser             |
//! | `ALTER ROLE postgres RENAME TO x`              | refused                    | it has its name               |
//! | that, and `CREATE ROLE postgres`               | no superuser's             | the other has `postgres_OID`  |
//!
//! Settings of the role, `VALID UNTIL` and limits of connections do not hold for the sessions of a start (`session`), and
//! stay.
//!
//! What must hold
//! - Only a start whose first session was refused comes here. So where nothing is broken, nothing is written or looked at.
//! - Nothing is given to any role but the one that the cluster was made with. It is known by its OID: names can be taken.
//! - What is written is kept as after a crash: its log is in `pg_wal`, which the next start ships, and its files are not
//!   trusted.
//!
//! Not here: how it runs (`single_user`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use postgres_protocol::escape::escape_literal as literal;
use rustix::process::PidfdFlags;

use crate::control::Phases;
use crate::error::{Error, While};
use crate::limits::MENDED_WITHIN;
use crate::postgres::process;
use crate::postgres::single_user;
use crate::spec::{Admission, EndpointSpec};

use super::known::Agent;
use super::prepare::Closed;
use super::start::{self, Ground, Watch};

/// The role that a cluster was made with (`BOOTSTRAP_SUPERUSERID`).
const MADE_WITH: &str = "10";
/// Between two looks at a Postgres in single-user mode.
const PAUSE: Duration = Duration::from_millis(5);

/// Makes the role what it was, if that is why a session of it was refused in these words.
///
/// # Errors
/// `Barred` with those words if the role is as it should be, or cannot be mended.
pub(super) fn superuser(agent: &Arc<Agent>, refusal: String) -> Result<(), Error> {
    tracing::warn!("postgres refuses its superuser ({refusal}); its role is looked at in single-user mode");
    let spec = single_user::spec(&agent.spec);
    let closed =
        Closed { admission: Admission::Nobody, passwords_due: false, held: agent.held(), guarded: true };
    let ground = start::ground(agent, &spec, closed, &mut Watch::begin(), &mut Phases::default())?;
    let ran = run(agent, &spec, ground);
    agent.file_system.lock().take();
    let printed = ran?;
    let was = what_is_wrong(&printed, "was", &spec.superuser);
    let left = what_is_wrong(&printed, "now", &spec.superuser);
    match (was, left) {
        (Some(was), Some(left)) if !was.is_empty() && left.is_empty() => {
            tracing::warn!("the role of scion's own sessions was mended; what was wrong: {}", was.join("; "));
            Ok(())
        }
        (_, Some(left)) if left.is_empty() => Err(Error::Barred(refusal)),
        (_, left) => {
            let left = left.map_or_else(|| "there is no such role".to_owned(), |left| left.join("; "));
            Err(Error::Barred(format!("{refusal}; mending its role did not help ({left})")))
        }
    }
}

/// Runs what mends the role, and takes the directory apart; what was printed.
fn run(agent: &Agent, spec: &EndpointSpec, ground: Ground) -> Result<String, Error> {
    let Ground { client, pages, new, prepared, mounted, lock, server, .. } = ground;
    let major = wal::control::major_of(&new.control_template)?;
    let proof = (&lock, prepared.wal.wait()?);
    let mut child = single_user::spawn(spec, proof, major, &statements(&spec.superuser))?;
    drop(lock);
    let pid = rustix::process::Pid::from_child(&child);
    let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(std::io::Error::from);
    *server.lock() = Some(Arc::new(handle.while_(|| "watch postgres".to_owned())?));

    let deadline = Instant::now() + MENDED_WITHIN;
    let ended = loop {
        let stopped = agent.stop.load(Ordering::SeqCst);
        match child.try_wait().while_(|| "wait for postgres".to_owned())? {
            Some(status) if status.success() => break Ok(()),
            Some(status) => {
                break Err(Error::Postgres(format!("postgres in single-user mode ended ({status})")));
            }
            None if stopped => break Err(Error::Cancelled),
            None if Instant::now() >= deadline => {
                let text = format!("postgres in single-user mode did not end within {MENDED_WITHIN:?}");
                break Err(Error::Postgres(text));
            }
            None => std::thread::sleep(PAUSE),
        }
    };
    pages.cancel(); // or one that waits for a page could not be killed
    if ended.is_err() {
        client.cancel();
        child.kill().and_then(|()| child.wait()).while_(|| "end postgres".to_owned())?;
        process::kill_orphans(&spec.mount_dir());
    }
    mounted.unmount().while_(|| format!("unmount {}", spec.mount_dir().display()))?;
    ended.and_then(|()| single_user::printed(&mut child))
}

/// Looks at the roles in question, mends, and looks again: one transaction a line.
fn statements(superuser: &str) -> String {
    let name = literal(superuser);
    let look = |column: &str| {
        format!(
            "SELECT concat_ws(' ', oid, rolsuper, rolcanlogin, encode(namesend(rolname), 'hex')) AS {column} \
             FROM pg_authid WHERE oid = {MADE_WITH} OR rolname = {name}"
        )
    };
    let lines = [
        look("was"),
        format!(
            "UPDATE pg_authid SET rolname = left(rolname, 48) || '_' || oid \
             WHERE rolname = {name} AND oid <> {MADE_WITH}"
        ),
        format!(
            "UPDATE pg_authid SET rolname = {name}, rolsuper = true, rolcanlogin = true WHERE oid = {MADE_WITH} \
             AND NOT (rolname = {name} AND rolsuper AND rolcanlogin)"
        ),
        look("now"),
    ];
    lines.map(|line| line + "\n").concat()
}

/// What is wrong with the role and its name, as was printed in `column`; `None` if there is no such role.
fn what_is_wrong(printed: &str, column: &str, superuser: &str) -> Option<Vec<String>> {
    let mut wrong = Vec::new();
    let mut found = false;
    for row in single_user::values(printed, column) {
        let fields: Vec<&str> = row.split(' ').collect();
        let [oid, super_, can_login, name] = fields.as_slice() else { continue };
        if *oid != MADE_WITH {
            wrong.push(format!("role {oid} has its name, and is to be {superuser}_{oid}"));
            continue;
        }
        found = true;
        let hex: String = superuser.bytes().map(|byte| format!("{byte:02x}")).collect();
        if *name != hex {
            wrong.push(format!("its name is {}", text_of(name)));
        }
        if *super_ != "t" {
            wrong.push("it is no superuser".to_owned());
        }
        if *can_login != "t" {
            wrong.push("it cannot log in".to_owned());
        }
    }
    found.then_some(wrong)
}

/// A name that was printed in hexadecimal, as it may hold anything.
fn text_of(hex: &str) -> String {
    let digits: Vec<char> = hex.chars().collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap_or(b'?');
    format!("{:?}", String::from_utf8_lossy(&digits.chunks(2).map(byte).collect::<Vec<u8>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(rows: &[&str]) -> String {
        rows.iter().map(|row| format!("\t 1: was = \"{row}\"\t(typeid = 25, len = -1)\n")).collect()
    }

    #[test]
    fn what_is_wrong_is_said_in_words_and_what_is_right_is_not() {
        let of = |rows: &[&str]| what_is_wrong(&printed(rows), "was", "pg");
        assert_eq!(of(&["10 t t 7067"]).unwrap(), Vec::<String>::new());
        assert_eq!(of(&["10 f f 7067"]).unwrap(), ["it is no superuser", "it cannot log in"]);
        assert_eq!(of(&["10 t t 780a22"]).unwrap(), ["its name is \"x\\n\\\"\""]);
        assert_eq!(of(&["10 t t 78", "16400 t t 7067"]).unwrap().len(), 2);
        assert_eq!(of(&["16400 t t 7067"]), None);
    }
}
