//! What a crash left half-made is finished or undone, once, before the server answers.
//!
//! | found                                   | then                        |
//! |-----------------------------------------|-----------------------------|
//! | project row `creating` or `deleting`    | the project is removed      |
//! | project row `deleted`                   | nothing until it is ready again |
//! | branch row `purging`                    | it is removed unless a branch begins on it |
//! | branch of a store without a row         | it is removed unless another begins on it |
//! | endpoint row `gone`                     | the endpoint is removed     |
//! | endpoint row that tries other settings  | it has them if it runs with them |
//! | directory without a row                 | it is removed               |

use std::collections::HashSet;
use std::fs;

use crate::control::Control;
use crate::control::branch::delete::purge;
use crate::control::endpoint::options::end_trials;
use crate::control::project::delete::remove_project;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::fleet::endpoints::{remove_endpoint, remove_endpoint_files};
use crate::fleet::process::clear_leftovers;
use crate::metadata::endpoint::{self, Desired};
use crate::metadata::project;
use crate::storage::sweep::sweep;

/// Brings directories, stores and metadata into agreement.
///
/// # Errors
/// Those of SQLite. What cannot be cleaned up is logged and left for the next start.
pub fn run(control: &Control) -> Result<()> {
    let _recovery = failpoint::at("recover");
    let projects = control.metadata.read(project::all)?;
    let half_made = |state: &str| [project::CREATING, project::DELETING].contains(&state);
    for row in projects.iter().filter(|row| half_made(&row.state)) {
        log("project", &row.id, remove_project(control, &row.id));
    }
    for row in control.metadata.read(endpoint::all)?.iter().filter(|row| row.desired == Desired::Gone) {
        log("endpoint", &row.id, remove_endpoint(&control.fleet, &row.id));
    }
    end_trials(control)?;
    for row in control.metadata.read(project::all)?.into_iter().filter(|row| row.state == project::READY) {
        if let Err(error) = recover_branches(control, &row.id) {
            tracing::error!(project = row.id, %error, "project is not usable");
        }
    }
    remove_unnamed(control)
}

fn recover_branches(control: &Control, project: &str) -> Result<()> {
    purge(control, project);
    sweep(&control.storage, project)
}

fn remove_unnamed(control: &Control) -> Result<()> {
    let projects: HashSet<String> =
        control.metadata.read(project::all)?.into_iter().map(|row| row.id).collect();
    let endpoints: HashSet<String> =
        control.metadata.read(endpoint::all)?.into_iter().map(|row| row.id).collect();
    for id in control.dir.names_in("endpoints")?.iter().filter(|id| !endpoints.contains(*id)) {
        log("endpoint directory", id, remove_endpoint_files(&control.fleet, id));
    }
    for id in control.dir.names_in("projects")?.iter().filter(|id| !projects.contains(*id)) {
        let path = control.dir.project(id);
        log("project directory", id, fs::remove_dir_all(&path).map_err(Error::io("remove")));
    }
    for id in control.dir.names_in("bootstrap")? {
        let path = control.dir.bootstrap(&id);
        clear_leftovers(&path);
        log("bootstrap directory", &id, fs::remove_dir_all(&path).map_err(Error::io("remove")));
    }
    Ok(())
}

fn log(kind: &str, id: &str, result: Result<()>) {
    match result {
        Ok(()) => tracing::info!(kind, id, "removed what a crash left"),
        Err(error) => tracing::error!(kind, id, %error, "cannot remove what a crash left"),
    }
}
