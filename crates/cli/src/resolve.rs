//! Names on the command line -> objects of the server.
//!
//! A name that is not there is never replaced by a default: writing to `main` because `fix` was misspelt is the one
//! mistake a branching tool must not make.

use std::ops::Deref;

use api::branch::{Branch, BranchCount};
use api::endpoint::{Endpoint, EndpointOperations, EndpointState, EndpointType};
use api::percent;
use api::project::Project;
use serde_json::json;

use crate::client::Client;
use crate::failure::{Failure, Kind};
use crate::global::Global;
use crate::output;
use crate::place;
use crate::wire::Said;

/// Names that are shown where there is none like the one that was wanted.
const SHOWN: usize = 12;

/// A client and the project the command line means.
pub struct Session {
    /// Connection to the server.
    pub client: Client,
    /// The project.
    pub project: Said<Project>,
}

/// Finds the server and the project.
pub fn session(global: &Global) -> Result<Session, Failure> {
    let client = Client::new(place::server(global)?)?;
    let project = project(&client, global.project.as_deref())?;
    Ok(Session { client, project })
}

/// The project called `wanted` by name or id, or the only one there is.
pub fn project(client: &Client, wanted: Option<&str>) -> Result<Said<Project>, Failure> {
    let all = || client.list::<Project>("/projects");
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
    let holding = client.list(&format!("/projects?search={}", percent::encoded(wanted)))?;
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
        &self.project.id
    }

    /// All branches of the project.
    pub fn branches(&self) -> Result<Vec<Said<Branch>>, Failure> {
        self.client.list(&self.path("/branches"))
    }

    /// The name of the branch with this id, or the id itself if that branch is gone.
    pub fn branch_name(&self, id: &str) -> Result<String, Failure> {
        match self.client.one::<Branch>(&self.path(&format!("/branches/{}", percent::encoded(id)))) {
            Ok(branch) => Ok(branch.name.clone()),
            Err(failure) if failure.kind == Kind::NotFound => Ok(id.to_owned()),
            Err(failure) => Err(failure),
        }
    }

    /// Says in whose history a moment is, if `history` is the id of a branch: it was before `asked` began.
    pub fn name_history(&self, history: Option<&str>, asked: &str) -> Result<(), Failure> {
        let Some(id) = history else { return Ok(()) };
        let history = self.branch_name(id)?;
        output::words(&format!("that was before {asked} began: it is of the history of {history}"));
        Ok(())
    }

    /// The path of a kind of objects that the branch called `branch` has, such as `roles`, and the branch's name.
    pub fn path_in_branch(&self, branch: &str, objects: &str) -> Result<(String, String), Failure> {
        let branch = self.branch(branch)?;
        let id = percent::encoded(&branch.id);
        Ok((self.path(&format!("/branches/{id}/{objects}")), branch.name.clone()))
    }

    /// All endpoints of the project.
    pub fn endpoints(&self) -> Result<Vec<Said<Endpoint>>, Failure> {
        self.client.list(&self.path("/endpoints"))
    }

    /// The branch called `wanted` by name or id.
    pub fn branch(&self, wanted: &str) -> Result<Said<Branch>, Failure> {
        // The server knows those whose name or id holds what is wanted; which one is meant is decided here. There may be
        // many, and no two of one name.
        let path = self.path(&format!("/branches?search={}", percent::encoded(wanted)));
        let mut by_id = None;
        let by_name = self.client.pages(&path, |page: Vec<Said<Branch>>| {
            by_id = by_id.take().or_else(|| page.iter().find(|branch| branch.id == wanted).cloned());
            page.into_iter().find(|branch| branch.name == wanted)
        })?;
        match by_name.or(by_id) {
            Some(branch) => Ok(branch),
            None => Err(self.no_branch(wanted)?),
        }
    }

    fn no_branch(&self, wanted: &str) -> Result<Failure, Failure> {
        let first = self.client.many::<Branch>(&self.path(&format!("/branches?limit={SHOWN}")))?;
        let count = self.client.get::<BranchCount>(&self.path("/branches/count"))?.count;
        Ok(not_found("branch", wanted, &first, usize::try_from(count).unwrap_or(first.len())))
    }

    /// The branch that is the parent of branches that name none.
    pub fn default_branch(&self) -> Result<Said<Branch>, Failure> {
        // An older server gives all of them.
        let path = self.path("/branches?default=true");
        self.client
            .pages(&path, |page: Vec<Said<Branch>>| page.into_iter().find(|branch| branch.default))?
            .ok_or_else(|| Failure::new(Kind::NotFound, "the project has no default branch"))
    }

    /// The read-write endpoint of the branch with id `branch`, if it has one.
    pub fn endpoint_of(&self, branch: &str) -> Result<Option<Said<Endpoint>>, Failure> {
        let path = self.path(&format!("/branches/{}/endpoints", percent::encoded(branch)));
        let mut endpoints = self.client.many::<Endpoint>(&path)?;
        endpoints.sort_by_key(|endpoint| endpoint.kind != EndpointType::ReadWrite);
        Ok(endpoints.into_iter().next())
    }

    /// The endpoint meant by the name or id of a branch, or by the id of an endpoint.
    pub fn endpoint(&self, wanted: &str) -> Result<Said<Endpoint>, Failure> {
        if let Some(endpoint) = self.endpoint_with_id(wanted)? {
            return Ok(endpoint);
        }
        let branch = self.branch(wanted)?;
        self.endpoint_of(&branch.id)?.ok_or_else(|| no_endpoint(&branch.name))
    }

    /// The endpoint with this id, if there is one.
    pub fn endpoint_with_id(&self, wanted: &str) -> Result<Option<Said<Endpoint>>, Failure> {
        if !wanted.starts_with("ep-") {
            return Ok(None);
        }
        match self.client.one(&self.path(&format!("/endpoints/{}", percent::encoded(wanted)))) {
            Ok(endpoint) => Ok(Some(endpoint)),
            Err(failure) if failure.kind == Kind::NotFound => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Starts `endpoint` unless it runs, and waits until it accepts connections.
    pub fn ensure_active(&self, endpoint: &Endpoint) -> Result<(), Failure> {
        if endpoint.current_state == EndpointState::Active && endpoint.pending_state.is_none() {
            return Ok(());
        }
        let id = &endpoint.id;
        let _progress = crate::progress::start(format!("starting endpoint {id}"));
        let path = self.path(&format!("/endpoints/{id}/start"));
        let answer: Said<EndpointOperations> = self.client.post(&path, json!({}))?;
        self.client.wait(self.project_id(), &answer.operations)
    }
}

/// The branch has no endpoint to connect to.
pub fn no_endpoint(branch: &str) -> Failure {
    Failure::new(Kind::NotFound, format!("branch {branch} has no endpoint"))
        .hint(format!("give it one with `scion endpoint start {branch}`"))
}

/// What people call by a name or an id.
pub trait Called {
    /// Its id.
    fn id(&self) -> &str;
    /// Its name.
    fn name(&self) -> &str;
}

impl Called for Branch {
    fn id(&self) -> &str {
        &self.id
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Called for Project {
    fn id(&self) -> &str {
        &self.id
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// The object called `wanted` by name, or else by id.
///
/// # Errors
/// Not found; usage if several are called so, as projects may be.
pub fn pick<'a, T>(noun: &str, objects: &'a [T], wanted: &str) -> Result<&'a T, Failure>
where
    T: Deref<Target: Called>,
{
    let by_name: Vec<&T> = objects.iter().filter(|object| object.name() == wanted).collect();
    let by_id = objects.iter().find(|object| object.id() == wanted);
    match (by_name.as_slice(), by_id) {
        ([one], _) => Ok(one),
        ([], Some(one)) => Ok(one),
        ([], None) => Err(not_found(noun, wanted, objects, objects.len())),
        (several, _) => {
            let ids: Vec<&str> = several.iter().map(|object| object.id()).collect();
            let text = format!("{} {noun}s are called {wanted:?}", several.len());
            Err(Failure::new(Kind::Usage, text).hint(format!("say which by its id: {}", ids.join(", "))))
        }
    }
}

/// `objects` are all there are, or the first of `count`.
fn not_found(noun: &str, wanted: &str, objects: &[impl Deref<Target: Called>], count: usize) -> Failure {
    let failure = Failure::new(Kind::NotFound, format!("there is no {noun} {wanted:?}"));
    match objects {
        [] => failure.hint(format!("there is no {noun} at all yet")),
        objects => failure.hint(format!("there is: {}", names(objects, count))),
    }
}

fn names(objects: &[impl Deref<Target: Called>], count: usize) -> String {
    let names: Vec<&str> = objects.iter().take(SHOWN).map(|object| object.name()).collect();
    let more = count.saturating_sub(names.len());
    let list = names.join(", ");
    if more == 0 { list } else { format!("{list} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::server_answering;
    use crate::wire::samples::{self, said};
    use serde_json::Value;

    fn session(client: Client) -> Session {
        Session { client, project: said(samples::project(json!({"id": "p"}))) }
    }

    fn called(name: &str, id: &str) -> Value {
        json!({"id": id, "name": name})
    }

    fn branches(called: &[Value]) -> &'static str {
        let branches: Vec<Value> = called.iter().cloned().map(samples::branch).collect();
        json!({ "branches": branches }).to_string().leak()
    }

    fn projects(called: &[Value]) -> Vec<Said<Project>> {
        called.iter().cloned().map(|part| said(samples::project(part))).collect()
    }

    #[test]
    fn one_branch_is_asked_for_and_what_only_holds_its_name_is_not_meant() {
        let page = branches(&[called("main-old", "br-1"), called("main", "br-2")]);
        let (client, thread) = server_answering(vec![(200, page)]);
        let branch = session(client).branch("main").unwrap();
        assert_eq!(branch.id, "br-2");
        assert_eq!(
            thread.join().unwrap(),
            ["GET /api/v2/projects/p/branches?search=main&limit=400 HTTP/1.1"]
        );
    }

    #[test]
    fn one_project_is_asked_for_and_all_are_named_where_none_is_meant() {
        let both = [called("shop-old", "p-1"), called("shop", "p-2")].map(samples::project);
        let holding: &str = json!({ "projects": both }).to_string().leak();
        let (client, thread) = server_answering(vec![(200, holding)]);
        assert_eq!(project(&client, Some("shop")).unwrap().id, "p-2");
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
        let holding = branches(&[called("MAIN", "br-1")]);
        let first = branches(&[called("MAIN", "br-1"), called("dev", "br-2")]);
        let answers = vec![(200, holding), (200, first), (200, r#"{"count":2000}"#)];
        let (client, thread) = server_answering(answers);
        let failure = session(client).branch("main").unwrap_err();
        assert_eq!(failure.kind, Kind::NotFound);
        assert_eq!(failure.hint.as_deref(), Some("there is: MAIN, dev and 1998 more"));
        assert_eq!(thread.join().unwrap().len(), 3);
    }

    #[test]
    fn a_name_wins_over_an_id_and_nothing_wins_over_a_typo() {
        let objects = projects(&[called("main", "br-1"), called("br-1", "br-2")]);
        assert_eq!(pick("branch", &objects, "br-1").map(|object| object.id.as_str()).ok(), Some("br-2"));
        assert_eq!(pick("branch", &objects, "mian").unwrap_err().kind, Kind::NotFound);
    }

    #[test]
    fn of_two_projects_of_one_name_none_is_meant() {
        let objects = projects(&[called("shop", "p-1"), called("shop", "p-2")]);
        let failure = pick("project", &objects, "shop").unwrap_err();
        assert_eq!((failure.kind, failure.message.as_str()), (Kind::Usage, "2 projects are called \"shop\""));
        assert_eq!(failure.hint.as_deref(), Some("say which by its id: p-1, p-2"));
        assert_eq!(pick("project", &objects, "p-2").unwrap().id, "p-2");
    }

    #[test]
    fn what_is_not_there_is_answered_with_what_is() {
        let failure = not_found("branch", "mian", &projects(&[called("main", "br-1")]), 3);
        assert_eq!(failure.kind, Kind::NotFound);
        assert_eq!(failure.hint.as_deref(), Some("there is: main and 2 more"));
    }
}
