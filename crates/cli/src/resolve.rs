//! Names on the command line -> objects of the server.
//!
//! A name that is not there is never replaced by a default: writing to `main` because `fix` was misspelt is the one
//! mistake a branching tool must not make.

use api::percent;
use serde_json::Value;

use crate::client::Client;
use crate::failure::{Failure, Kind};
use crate::global::Global;
use crate::output;
use crate::place;
use crate::wire;

/// Names that are shown where there is none like the one that was wanted.
const SHOWN: usize = 12;

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
    let all = || client.list("/projects", "projects");
    let Some(wanted) = wanted else {
        let mut projects = all()?;
        return match projects.len() {
            1 => Ok(projects.remove(0)),
            0 => Err(Failure::new(Kind::NotFound, "the server has no project yet")
                .hint("make one with `scion project create NAME`")),
            count => Err(Failure::new(Kind::Usage, format!("the server has {count} projects"))
                .hint(format!("say which with --project: {}", names(&projects, count)))),
        };
    };
    // The server knows those whose name or id holds what is wanted; which one is meant is decided here.
    let holding = client.list(&format!("/projects?search={}", percent::encoded(wanted)), "projects")?;
    match pick("project", &holding, wanted) {
        Err(failure) if failure.kind == Kind::NotFound => pick("project", &all()?, wanted).cloned(),
        picked => picked.cloned(),
    }
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

    /// The name of the branch with this id, or the id itself if that branch is gone.
    pub fn branch_name(&self, id: &str) -> Result<String, Failure> {
        match self.client.get(&self.path(&format!("/branches/{}", percent::encoded(id)))) {
            Ok(answer) => Ok(wire::text(answer.get("branch").unwrap_or(&Value::Null), "name").to_owned()),
            Err(failure) if failure.kind == Kind::NotFound => Ok(id.to_owned()),
            Err(failure) => Err(failure),
        }
    }

    /// Says whose history the moment of `answer` is in, if `field` names a branch: it was before `asked` began.
    pub fn name_history(&self, answer: &Value, field: &str, asked: &str) -> Result<(), Failure> {
        let Some(id) = wire::some_text(answer, field) else { return Ok(()) };
        let history = self.branch_name(id)?;
        output::words(&format!("that was before {asked} began: it is of the history of {history}"));
        Ok(())
    }

    /// The path of a kind of objects that the branch called `branch` has, such as `roles`, and the branch's name.
    pub fn path_in_branch(&self, branch: &str, objects: &str) -> Result<(String, String), Failure> {
        let branch = self.branch(branch)?;
        let id = percent::encoded(wire::text(&branch, "id"));
        Ok((self.path(&format!("/branches/{id}/{objects}")), wire::text(&branch, "name").to_owned()))
    }

    /// All endpoints of the project.
    pub fn endpoints(&self) -> Result<Vec<Value>, Failure> {
        self.client.list(&self.path("/endpoints"), "endpoints")
    }

    /// The branch called `wanted` by name or id.
    pub fn branch(&self, wanted: &str) -> Result<Value, Failure> {
        // The server knows those whose name or id holds what is wanted; which one is meant is decided here. There may be
        // many, and no two of one name.
        let path = self.path(&format!("/branches?search={}", percent::encoded(wanted)));
        let mut by_id = None;
        let by_name = self.client.pages(&path, "branches", |page| {
            let is = |field: &str| page.iter().find(|branch| wire::text(branch, field) == wanted).cloned();
            by_id = by_id.take().or_else(|| is("id"));
            is("name")
        })?;
        match by_name.or(by_id) {
            Some(branch) => Ok(branch),
            None => Err(self.no_branch(wanted)?),
        }
    }

    fn no_branch(&self, wanted: &str) -> Result<Failure, Failure> {
        let first = self.client.get(&self.path(&format!("/branches?limit={SHOWN}")))?;
        let count = self.client.get(&self.path("/branches/count"))?;
        let count = wire::number(&count, "count").and_then(|count| usize::try_from(count).ok());
        let first = wire::list(&first, "branches");
        Ok(not_found("branch", wanted, first, count.unwrap_or(first.len())))
    }

    /// The branch that is the parent of branches that name none.
    pub fn default_branch(&self) -> Result<Value, Failure> {
        // An older server gives all of them.
        let is_default = |branch: &&Value| branch.get("default").and_then(Value::as_bool) == Some(true);
        let path = self.path("/branches?default=true");
        self.client
            .pages(&path, "branches", |page| page.iter().find(is_default).cloned())?
            .ok_or_else(|| Failure::new(Kind::NotFound, "the project has no default branch"))
    }

    /// The read-write endpoint of the branch with id `branch`, if it has one.
    pub fn endpoint_of(&self, branch: &str) -> Result<Option<Value>, Failure> {
        let path = self.path(&format!("/branches/{}/endpoints", percent::encoded(branch)));
        let mut endpoints = wire::list(&self.client.get(&path)?, "endpoints").to_vec();
        endpoints.sort_by_key(|endpoint| wire::text(endpoint, "type") != "read_write");
        Ok(endpoints.into_iter().next())
    }

    /// The endpoint meant by the name or id of a branch, or by the id of an endpoint.
    pub fn endpoint(&self, wanted: &str) -> Result<Value, Failure> {
        if let Some(endpoint) = self.endpoint_with_id(wanted)? {
            return Ok(endpoint);
        }
        let branch = self.branch(wanted)?;
        self.endpoint_of(wire::text(&branch, "id"))?.ok_or_else(|| no_endpoint(wire::text(&branch, "name")))
    }

    /// The endpoint with this id, if there is one.
    pub fn endpoint_with_id(&self, wanted: &str) -> Result<Option<Value>, Failure> {
        if !wanted.starts_with("ep-") {
            return Ok(None);
        }
        match self.client.get(&self.path(&format!("/endpoints/{}", percent::encoded(wanted)))) {
            Ok(answer) => Ok(answer.get("endpoint").cloned()),
            Err(failure) if failure.kind == Kind::NotFound => Ok(None),
            Err(failure) => Err(failure),
        }
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
        ([], []) => Err(not_found(noun, wanted, objects, objects.len())),
        (several, _) => {
            let ids: Vec<&str> = several.iter().map(|object| wire::text(object, "id")).collect();
            let text = format!("{} {noun}s are called {wanted:?}", several.len());
            Err(Failure::new(Kind::Usage, text).hint(format!("say which by its id: {}", ids.join(", "))))
        }
    }
}

/// `objects` are all there are, or the first of `count`.
fn not_found(noun: &str, wanted: &str, objects: &[Value], count: usize) -> Failure {
    let failure = Failure::new(Kind::NotFound, format!("there is no {noun} {wanted:?}"));
    match objects {
        [] => failure.hint(format!("there is no {noun} at all yet")),
        objects => failure.hint(format!("there is: {}", names(objects, count))),
    }
}

fn names(objects: &[Value], count: usize) -> String {
    let names: Vec<&str> = objects.iter().take(SHOWN).map(|object| wire::text(object, "name")).collect();
    let more = count.saturating_sub(names.len());
    let list = names.join(", ");
    if more == 0 { list } else { format!("{list} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::server_answering;
    use serde_json::json;

    fn session(client: Client) -> Session {
        Session { client, project: json!({"id": "p"}) }
    }

    #[test]
    fn one_branch_is_asked_for_and_what_only_holds_its_name_is_not_meant() {
        let page = r#"{"branches":[{"id":"br-1","name":"main-old"},{"id":"br-2","name":"main"}]}"#;
        let (client, thread) = server_answering(vec![(200, page)]);
        let branch = session(client).branch("main").unwrap();
        assert_eq!(wire::text(&branch, "id"), "br-2");
        assert_eq!(
            thread.join().unwrap(),
            ["GET /api/v2/projects/p/branches?search=main&limit=400 HTTP/1.1"]
        );
    }

    #[test]
    fn one_project_is_asked_for_and_all_are_named_where_none_is_meant() {
        let holding = r#"{"projects":[{"id":"p-1","name":"shop-old"},{"id":"p-2","name":"shop"}]}"#;
        let (client, thread) = server_answering(vec![(200, holding)]);
        assert_eq!(wire::text(&project(&client, Some("shop")).unwrap(), "id"), "p-2");
        assert_eq!(thread.join().unwrap(), ["GET /api/v2/projects?search=shop&limit=400 HTTP/1.1"]);
        let (client, thread) = server_answering(vec![(200, r#"{"projects":[]}"#), (200, holding)]);
        let failure = project(&client, Some("shpo")).unwrap_err();
        assert_eq!(
            (failure.kind, failure.hint.as_deref()),
            (Kind::NotFound, Some("there is: shop-old, shop"))
        );
        assert_eq!(thread.join().unwrap().len(), 2);
    }

    #[test]
    fn where_no_branch_is_meant_the_first_are_named_and_the_others_counted() {
        let (holding, first) = (
            r#"{"branches":[{"id":"br-1","name":"MAIN"}]}"#,
            r#"{"branches":[{"name":"MAIN"},{"name":"dev"}]}"#,
        );
        let answers = vec![(200, holding), (200, first), (200, r#"{"count":2000}"#)];
        let (client, thread) = server_answering(answers);
        let failure = session(client).branch("main").unwrap_err();
        assert_eq!(failure.kind, Kind::NotFound);
        assert_eq!(failure.hint.as_deref(), Some("there is: MAIN, dev and 1998 more"));
        assert_eq!(thread.join().unwrap().len(), 3);
    }

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
        let failure = not_found("branch", "mian", &[json!({"name": "main"})], 3);
        assert_eq!(failure.kind, Kind::NotFound);
        assert_eq!(failure.hint.as_deref(), Some("there is: main and 2 more"));
    }
}
