//! Names on the command line -> objects of the server.
//!
//! A name that is not there is never replaced by a default: writing to `main` because `fix` was misspelt is the one
//! mistake a branching tool must not make.

use serde_json::Value;

use crate::args::Global;
use crate::client::Client;
use crate::failure::{Failure, Kind};
use crate::output;
use crate::place;
use crate::wire;

/// A client and the project the command line means.
pub struct Session {
    /// Connection to the server.
    pub client: Client,
    /// The project as the API gives it.
    pub project: Value,
}

/// Finds the server and the project.
pub fn session(global: &Global) -> Result<Session, Failure> {
    let client = Client::new(place::server(global)?)?;
    let project = project(&client, global.project.as_deref())?;
    Ok(Session { client, project })
}

/// The project called `wanted` by name or id, or the only one there is.
pub fn project(client: &Client, wanted: Option<&str>) -> Result<Value, Failure> {
    let mut projects = client.list("/projects", "projects")?;
    let Some(wanted) = wanted else {
        return match projects.len() {
            1 => Ok(projects.remove(0)),
            0 => Err(Failure::new(Kind::NotFound, "the server has no project yet")
                .hint("make one with `scion project create NAME`")),
            count => Err(Failure::new(Kind::Usage, format!("the server has {count} projects"))
                .hint(format!("say which with --project: {}", names(&projects)))),
        };
    };
    pick("project", &projects, wanted).cloned()
}

impl Session {
    /// The project's part of a path.
    pub fn path(&self, rest: &str) -> String {
        format!("/projects/{}{rest}", self.project_id())
    }

    /// The project's id.
    pub fn project_id(&self) -> &str {
        wire::text(&self.project, "id")
    }

    /// All branches of the project.
    pub fn branches(&self) -> Result<Vec<Value>, Failure> {
        self.client.list(&self.path("/branches"), "branches")
    }

    /// Says whose history the moment of `answer` is in, if `field` names a branch: it was before `asked` began.
    pub fn name_history(&self, answer: &Value, field: &str, asked: &str) -> Result<(), Failure> {
        let Some(id) = wire::some_text(answer, field) else { return Ok(()) };
        let branches = self.branches()?;
        let found = branches.iter().find(|branch| wire::text(branch, "id") == id);
        let history = found.map_or(id, |branch| wire::text(branch, "name"));
        output::words(&format!("that was before {asked} began: it is of the history of {history}"));
        Ok(())
    }

    /// The path of a kind of objects that the branch called `branch` has, such as `roles`, and the branch's name.
    pub fn path_in_branch(&self, branch: &str, objects: &str) -> Result<(String, String), Failure> {
        let branch = self.branch(branch)?;
        let id = wire::percent_encoded(wire::text(&branch, "id"));
        Ok((self.path(&format!("/branches/{id}/{objects}")), wire::text(&branch, "name").to_owned()))
    }

    /// All endpoints of the project.
    pub fn endpoints(&self) -> Result<Vec<Value>, Failure> {
        self.client.list(&self.path("/endpoints"), "endpoints")
    }

    /// The branch called `wanted` by name or id.
    pub fn branch(&self, wanted: &str) -> Result<Value, Failure> {
        let branches = self.branches()?;
        pick("branch", &branches, wanted).cloned()
    }

    /// The branch that is the parent of branches that name none.
    pub fn default_branch(&self) -> Result<Value, Failure> {
        let is_default = |branch: &Value| branch.get("default").and_then(Value::as_bool) == Some(true);
        self.branches()?
            .into_iter()
            .find(is_default)
            .ok_or_else(|| Failure::new(Kind::NotFound, "the project has no default branch"))
    }

    /// The read-write endpoint of the branch with id `branch`, if it has one.
    pub fn endpoint_of(&self, branch: &str) -> Result<Option<Value>, Failure> {
        let mut endpoints = self.endpoints()?;
        endpoints.retain(|endpoint| wire::text(endpoint, "branch_id") == branch);
        endpoints.sort_by_key(|endpoint| wire::text(endpoint, "type") != "read_write");
        Ok(endpoints.into_iter().next())
    }

    /// The endpoint meant by the name or id of a branch, or by the id of an endpoint.
    pub fn endpoint(&self, wanted: &str) -> Result<Value, Failure> {
        if let Some(endpoint) = self.endpoints()?.into_iter().find(|it| wire::text(it, "id") == wanted) {
            return Ok(endpoint);
        }
        let branch = self.branch(wanted)?;
        self.endpoint_of(wire::text(&branch, "id"))?.ok_or_else(|| no_endpoint(wire::text(&branch, "name")))
    }

    /// Starts `endpoint` unless it runs, and waits until it accepts connections.
    pub fn ensure_active(&self, endpoint: &Value) -> Result<(), Failure> {
        let settled = wire::some_text(endpoint, "pending_state").is_none();
        if wire::text(endpoint, "current_state") == "active" && settled {
            return Ok(());
        }
        let id = wire::text(endpoint, "id");
        let _progress = crate::progress::start(format!("starting endpoint {id}"));
        let answer =
            self.client.post(&self.path(&format!("/endpoints/{id}/start")), &serde_json::json!({}))?;
        self.client.wait(self.project_id(), &answer)
    }
}

/// The branch has no endpoint to connect to.
pub fn no_endpoint(branch: &str) -> Failure {
    Failure::new(Kind::NotFound, format!("branch {branch} has no endpoint"))
        .hint(format!("give it one with `scion endpoint start {branch}`"))
}

/// The object called `wanted` by name, or else by id.
///
/// # Errors
/// Not found; usage if several are called so, as projects may be.
pub fn pick<'a>(noun: &str, objects: &'a [Value], wanted: &str) -> Result<&'a Value, Failure> {
    let by =
        |field: &str| objects.iter().filter(|object| wire::text(object, field) == wanted).collect::<Vec<_>>();
    match (by("name").as_slice(), by("id").as_slice()) {
        ([one], _) | ([], [one, ..]) => Ok(one),
        ([], []) => Err(not_found(noun, wanted, objects)),
        (several, _) => {
            let ids: Vec<&str> = several.iter().map(|object| wire::text(object, "id")).collect();
            let text = format!("{} {noun}s are called {wanted:?}", several.len());
            Err(Failure::new(Kind::Usage, text).hint(format!("say which by its id: {}", ids.join(", "))))
        }
    }
}

fn not_found(noun: &str, wanted: &str, objects: &[Value]) -> Failure {
    let failure = Failure::new(Kind::NotFound, format!("there is no {noun} {wanted:?}"));
    match objects {
        [] => failure.hint(format!("there is no {noun} at all yet")),
        objects => failure.hint(format!("there is: {}", names(objects))),
    }
}

fn names(objects: &[Value]) -> String {
    const SHOWN: usize = 12;
    let mut names: Vec<&str> = objects.iter().map(|object| wire::text(object, "name")).collect();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    let list = names.join(", ");
    if more == 0 { list } else { format!("{list} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_wins_over_an_id_and_nothing_wins_over_a_typo() {
        let objects = [json!({"id": "br-1", "name": "main"}), json!({"id": "br-2", "name": "br-1"})];
        assert_eq!(
            pick("branch", &objects, "br-1").map(|object| wire::text(object, "id")).ok(),
            Some("br-2")
        );
        assert_eq!(pick("branch", &objects, "mian").unwrap_err().kind, Kind::NotFound);
    }

    #[test]
    fn of_two_projects_of_one_name_none_is_meant() {
        let objects = [json!({"id": "p-1", "name": "shop"}), json!({"id": "p-2", "name": "shop"})];
        let failure = pick("project", &objects, "shop").unwrap_err();
        assert_eq!((failure.kind, failure.message.as_str()), (Kind::Usage, "2 projects are called \"shop\""));
        assert_eq!(failure.hint.as_deref(), Some("say which by its id: p-1, p-2"));
        assert_eq!(pick("project", &objects, "p-2").ok(), objects.get(1));
    }

    #[test]
    fn what_is_not_there_is_answered_with_what_is() {
        let failure = not_found("branch", "mian", &[json!({"name": "main"})]);
        assert_eq!(failure.kind, Kind::NotFound);
        assert_eq!(failure.hint.as_deref(), Some("there is: main"));
    }
}
