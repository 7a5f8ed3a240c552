//! The interface over a real socket, without a Postgres: keys, errors, lists, and that every documented route is there.

use std::path::PathBuf;
use std::sync::Arc;

use api::routes::{Method, ROUTES, Route};
use serde_json::Value;
use tokio::sync::Notify;

use super::*;
use crate::control::Control;
use crate::machine::installed::{Installation, Installed};
use crate::machine::postgres::Postgres;
use crate::metadata::{branch, project};

const KEY: &str = "scion_test";

struct Served {
    url: String,
    control: Arc<Control>,
    runtime: Option<tokio::runtime::Runtime>,
    _dir: tempfile::TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn served() -> Served {
    served_at(None)
}

fn served_at(rate: Option<std::num::NonZeroU32>) -> Served {
    let temp = tempfile::tempdir().unwrap();
    let gone =
        Installation { major: 15, version: "15.0".to_owned(), bin: PathBuf::from("/nonexistent"), tls: true };
    let installed = Installed { by_major: [(15, gone)].into(), wrong: Vec::new() };
    let dump_within = crate::limits::DUMP_WITHIN;
    let postgres = Postgres { installed, run_as: None, own_users: false, dump_within };
    let fleet = crate::fleet::tests::fleet_with(&temp, postgres);
    let keys = Arc::new(crate::access::keys::Keys::new(rate));
    let control = Arc::new(Control::new(Arc::new(fleet), keys));
    control.keys.load(&control.metadata, KEY).unwrap();
    let app = router(Context::new(Arc::clone(&control), Arc::new(Notify::new())));
    let app = app.into_make_service_with_connect_info::<std::net::SocketAddr>();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}{}", listener.local_addr().unwrap(), api::PREFIX);
    runtime.spawn(async move { axum::serve(listener, app).await });
    Served { url, control, runtime: Some(runtime), _dir: temp }
}

impl Served {
    fn ask(&self, method: &str, path: &str, key: &str, body: &str) -> (u16, Value) {
        let (status, body, _) = self.ask_for_all(method, path, key, body);
        (status, body)
    }

    /// Status, body and headers.
    fn ask_for_all(
        &self,
        method: &str,
        path: &str,
        key: &str,
        body: &str,
    ) -> (u16, Value, ureq::http::HeaderMap) {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("Authorization", format!("Bearer {key}"))
            .body(body.to_owned())
            .unwrap();
        let config =
            ureq::Agent::config_builder().http_status_as_error(false).allow_non_standard_methods(true);
        let agent: ureq::Agent = config.build().into();
        let mut response = agent.run(request).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        let headers = response.headers().clone();
        (response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::Null), headers)
    }

    fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, KEY, "")
    }

    /// The default branch of project `p`, `br-a-a-a`.
    fn add_main(&self) {
        let main = crate::metadata::tests::branch_row("br-a-a-a", "main");
        let main = branch::BranchRow { is_default: true, ..main };
        self.control.metadata.write(|change| branch::insert(change, &main)).unwrap();
    }

    fn add_project(&self, id: &str) {
        let row = project::ProjectRow {
            id: id.to_owned(),
            name: "x".to_owned(),
            state: project::READY.to_owned(),
            pg_version: 15,
            history_retention_s: 1,
            settings: "{}".to_owned(),
            default_endpoint_settings: "{}".to_owned(),
            created_us: 1,
            updated_us: 1,
            deleted_us: None,
        };
        self.control.metadata.write(|change| project::put(change, &row)).unwrap();
    }
}

#[test]
fn without_the_key_nothing_is_told() {
    let served = served();
    for path in ["/projects", "/users/me", "/nothing", "/status"] {
        let (status, body) = served.ask("GET", path, "scion_wrong", "");
        assert_eq!(status, 401, "{path}");
        assert_eq!(body["code"], "UNAUTHORIZED");
    }
    assert_eq!(served.ask("GET", "/projects", "", "").0, 401);
}

const fn method(route: &Route) -> &'static str {
    match route.method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Patch => "PATCH",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
    }
}

#[test]
fn every_documented_route_is_served() {
    let served = served();
    for route in ROUTES.iter().filter(|route| route.path != "/shutdown") {
        let method = method(route);
        let mut path = route.path.to_owned();
        for name in ["project", "branch", "endpoint", "operation", "key", "org", "snapshot", "schedule"] {
            path = path.replace(&format!("{{{name}_id}}"), "none");
        }
        // A body that cannot be read stops requests that would create something.
        let (_, body) =
            served.ask(method, &path.replace("{role_name}", "r").replace("{database_name}", "d"), KEY, "[");
        let message = body["message"].as_str().unwrap_or_default();
        assert!(!message.starts_with("route not found"), "{method} {path}: {body}");
    }
    let (status, body) = served.get("/nothing");
    assert_eq!(status, 404);
    assert!(body["message"].as_str().unwrap().starts_with("route not found"));
    assert_eq!(served.ask("PUT", "/projects", KEY, "").0, 404);
}

#[test]
fn an_error_has_the_shape_that_clients_print() {
    let served = served();
    let (status, body) = served.get("/projects/calm-river-00000000");
    assert_eq!(status, 404);
    assert_eq!(body["code"], "PROJECT_NOT_FOUND");
    assert_eq!(body["message"], "project not found: calm-river-00000000");
    assert_eq!(body["request_id"].as_str().unwrap().len(), 36);
}

#[test]
fn a_malformed_request_is_400_and_says_where() {
    let served = served();
    let (status, body) = served.ask("POST", "/projects", KEY, "{\"project\": 7}");
    assert_eq!(status, 400);
    assert!(body["message"].as_str().unwrap().contains("line 1 column"), "{body}");
    let (status, _) = served.ask("POST", "/projects", KEY, r#"{"project": {"name": ""}}"#);
    assert_eq!(status, 400);
}

#[test]
fn a_failed_creation_leaves_no_project() {
    let served = served();
    let (status, body) = served.ask("POST", "/projects", KEY, "");
    assert_eq!(status, 503, "{body}");
    assert_eq!(served.get("/projects").1["projects"], serde_json::json!([]));
    for kind in ["projects", "bootstrap", "endpoints"] {
        assert_eq!(served.control.dir.names_in(kind).unwrap(), Vec::<String>::new(), "{kind}");
    }
}

#[test]
fn lists_of_projects_end_for_clients_that_follow_the_cursor() {
    let served = served();
    for i in 0..7 {
        served.add_project(&format!("p{i}"));
    }
    let (mut cursor, mut seen) = (String::new(), 0);
    loop {
        let (_, body) = served.get(&format!("/projects?limit=3&cursor={cursor}"));
        let page = body["projects"].as_array().unwrap().len();
        seen += page;
        if page == 0 {
            assert!(body["pagination"].is_null());
            break;
        }
        cursor = body["pagination"]["cursor"].as_str().unwrap().to_owned();
    }
    assert_eq!(seen, 7);
}

#[test]
fn a_project_can_be_renamed() {
    let served = served();
    served.add_project("p");
    let sent =
        r#"{"project": {"name": "new", "default_endpoint_settings": {"autoscaling_limit_max_cu": 1}}}"#;
    let (status, body) = served.ask("PATCH", "/projects/p", KEY, sent);
    assert_eq!((status, &body["project"]["name"]), (200, &Value::from("new")));
    assert_eq!(
        served.get("/projects/p").1["project"]["default_endpoint_settings"]["autoscaling_limit_max_cu"],
        1
    );
}

#[test]
fn what_a_branch_cannot_be_is_refused_before_anything_is_done() {
    let served = served();
    served.add_project("p");
    served.add_main();
    let create = |body: &str| served.ask("POST", "/projects/p/branches", KEY, body);
    assert_eq!(create(r#"{"branch": {"name": "main"}}"#).0, 409);
    assert_eq!(create(r#"{"branch": {"parent_id": "br-x-y-z"}}"#).0, 404);
    assert_eq!(create(r#"{"branch": {"parent_lsn": "rubbish"}}"#).0, 400);
    assert_eq!(create(r#"{"branch": {"parent_timestamp": "rubbish"}}"#).0, 400);
    assert_eq!(create(r#"{"branch": {"name": "br-calm-river-12345678"}}"#).0, 400);
    assert_eq!(create(r#"{"endpoints": [{"type": "read_only"}, {"type": "read_write"}]}"#).0, 422);
    assert_eq!(create(r#"{"endpoints": [{"type": "neither"}]}"#).0, 400);
    assert_eq!(create(r#"{"branch": {}}"#).0, 503, "a project whose store is gone");
    assert_eq!(served.ask("DELETE", "/projects/p/branches/br-a-a-a", KEY, "").0, 422);
}

#[test]
fn nothing_of_a_deleted_project_is_answered() {
    let served = served();
    served.add_project("p");
    served.add_main();
    served.control.metadata.write(|change| project::set_state(change, "p", project::DELETED)).unwrap();
    let path = "/projects/p/branches?on_conflict=return";
    let (status, body) = served.ask("POST", path, KEY, r#"{"branch": {"name": "main"}}"#);
    assert_eq!(status, 404, "{body}");
}

#[test]
fn the_clients_find_one_user_with_one_organization() {
    let served = served();
    assert!(served.get("/users/me").1["projects_limit"].is_number());
    let (_, body) = served.get("/users/me/organizations");
    assert_eq!(body["organizations"].as_array().unwrap().len(), 1);
    assert_eq!(served.get("/projects/shared").1["projects"], serde_json::json!([]));
    assert_eq!(served.get("/status").1["projects"], 0);
}

impl Served {
    fn make_key(&self, wanted: &Value) -> (String, i64) {
        let (status, made) = self.ask("POST", "/api_keys", KEY, &wanted.to_string());
        assert_eq!(status, 200, "{made}");
        (made["key"].as_str().unwrap().to_owned(), made["id"].as_i64().unwrap())
    }
}

#[test]
fn a_key_is_shown_once_and_opens_everything_until_it_is_revoked() {
    let served = served();
    let (key, id) = served.make_key(&serde_json::json!({"key_name": "ci"}));
    let listed = served.get("/api_keys").1[0].clone();
    assert_eq!((&listed["name"], &listed["last_used_at"]), (&Value::from("ci"), &Value::Null));
    assert!(!listed.to_string().contains(&key));
    assert_eq!(served.ask("GET", "/status", &key, "").0, 200);
    let used = served.get("/api_keys").1[0].clone();
    assert!(used["last_used_at"].is_string(), "{used}");
    assert_eq!(used["last_used_from_addr"], "127.0.0.1");
    assert_eq!(served.get(&format!("/organizations/{}/api_keys", fixed::ORGANIZATION)).1[0], used);
    assert_eq!(served.get("/organizations/org-other/api_keys").0, 404);
    let (status, revoked) = served.ask("DELETE", &format!("/api_keys/{id}"), &key, "");
    assert_eq!((status, &revoked["revoked"]), (200, &Value::from(true)), "a key may end itself");
    assert_eq!(served.ask("GET", "/status", &key, "").0, 401);
    assert_eq!(served.ask("DELETE", &format!("/api_keys/{id}"), KEY, "").0, 404);
    assert_eq!(served.ask("DELETE", "/api_keys/x", KEY, "").0, 404);
    assert_eq!(served.get("/api_keys").1, serde_json::json!([]));
}

#[test]
fn a_key_of_a_project_reaches_nothing_else() {
    let served = served();
    served.add_project("mine");
    served.add_project("other");
    let (key, _) = served.make_key(&serde_json::json!({"key_name": "ci", "project_id": "mine"}));
    let open = ["/projects", "/projects/shared", "/users/me", "/users/me/organizations", "/regions", "/auth"];
    let outside = |body: &Value| {
        body["message"].as_str().unwrap_or_default().starts_with("not allowed to perform actions outside")
    };
    for route in ROUTES {
        let path = |project: &str| {
            let path = route.path.replace("{project_id}", project).replace("{org_id}", fixed::ORGANIZATION);
            path.replace(['{', '}'], "")
        };
        let (status, body) = served.ask(method(route), &path("other"), &key, "[");
        if method(route) == "GET" && open.contains(&route.path) {
            assert_eq!(status, 200, "{}", route.id);
            continue;
        }
        assert_eq!(status, 404, "{} {body}", route.id);
        assert!(outside(&body) || route.id == "createProject", "{} {body}", route.id);
        if route.path.starts_with("/projects/{project_id}") {
            let (_, body) = served.ask(method(route), &path("mine"), &key, "[");
            assert!(!outside(&body), "{} {body}", route.id);
        }
    }
    let (_, list) = served.ask("GET", "/projects", &key, "");
    assert_eq!(list["projects"].as_array().unwrap().len(), 1);
    assert_eq!(list["projects"][0]["id"], "mine");
    assert_eq!(served.ask("DELETE", "/projects/mine", &key, "").0, 404);
    assert_eq!(served.get("/projects/mine").0, 200, "the project is still there");
    for path in ["/projects/%6fther", "/projects//other", "/projects/mine/../other", "/projects/other/"] {
        assert_eq!(served.ask("GET", path, &key, "").0, 404, "{path}");
    }
    let stranger = branch::BranchRow {
        project_id: "other".to_owned(),
        ..crate::metadata::tests::branch_row("br-a-a-a", "main")
    };
    served.control.metadata.write(|change| branch::insert(change, &stranger)).unwrap();
    assert_eq!(served.get("/projects/other/branches/br-a-a-a/endpoints").0, 200);
    assert_eq!(served.ask("GET", "/projects/mine/branches/br-a-a-a/endpoints", &key, "").0, 404);
    let sent = r#"{"branch": {"parent_id": "br-a-a-a"}}"#;
    assert_eq!(served.ask("POST", "/projects/mine/branches", &key, sent).0, 404);
}

#[test]
fn a_body_that_is_too_large_is_refused_in_clear_words() {
    let served = served();
    served.add_project("p");
    let of = |bytes: usize| {
        let (head, tail) = (r#"{"project": {"name": ""#, r#""}}"#);
        let name = "x".repeat(bytes - head.len() - tail.len());
        format!("{head}{name}{tail}")
    };
    let (status, body) = served.ask("PATCH", "/projects/p", KEY, &of(BODY_BYTES));
    assert_eq!(status, 400, "the name is too long, the body is not: {body}");
    let (status, body) = served.ask("PATCH", "/projects/p", KEY, &of(BODY_BYTES + 1));
    assert_eq!((status, &body["code"]), (413, &Value::from("BODY_TOO_LARGE")));
    assert_eq!(body["message"], "the request body has more than 1048576 bytes");
}

#[test]
fn who_asks_too_often_is_told_to_wait() {
    let served = served_at(std::num::NonZeroU32::new(2));
    let (status, body) = (0..200).map(|_| served.get("/auth")).find(|(status, _)| *status != 200).unwrap();
    assert_eq!((status, &body["code"]), (429, &Value::from("TOO_MANY_REQUESTS")));
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let ask =
        || agent.get(format!("{}/auth", served.url)).header("Authorization", format!("Bearer {KEY}")).call();
    let refused = (0..200).map(|_| ask().unwrap()).find(|it| it.status() == 429).unwrap();
    assert_eq!(refused.headers()["Retry-After"], "1");
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert_eq!(served.get("/auth").0, 200, "what it said is enough");
}

/// Of a library or of a handler: each error is an object with the id that its header and the log have.
#[test]
fn every_error_is_an_object_with_the_id_of_its_request() {
    let served = served();
    served.add_project("p");
    served.add_main();
    let big = "x".repeat(crate::limits::BODY_BYTES + 1);
    let asked = [
        ("GET", "/projects?limit=x", "", 400, "BAD_REQUEST"),
        ("GET", "/projects?limit=99999999999999999999", "", 400, "BAD_REQUEST"),
        ("GET", "/projects/p/branches?limit=-1", "", 400, "BAD_REQUEST"),
        ("GET", "/projects/p/operations?limit=x", "", 400, "BAD_REQUEST"),
        ("GET", "/projects/p/operations?cursor=no-such-page", "", 400, "BAD_REQUEST"),
        ("GET", "/projects/p/branches/br-a-a-a/schema", "", 400, "BAD_REQUEST"),
        ("GET", "/projects/p/branches/br-a-a-a/compare_schema?lsn=1&lsn=2", "", 400, "BAD_REQUEST"),
        ("DELETE", "/projects/p?hard_delete=maybe", "", 400, "BAD_REQUEST"),
        ("GET", "/projects/%ff", "", 400, "BAD_REQUEST"),
        ("POST", "/projects", "{", 400, "BAD_REQUEST"),
        ("POST", "/projects", &big, 413, "BODY_TOO_LARGE"),
        ("GET", "/no/such/route", "", 404, "NOT_FOUND"),
        ("PUT", "/projects", "", 404, "NOT_FOUND"),
    ];
    for (method, path, body, status, code) in asked {
        let (got, answer, headers) = served.ask_for_all(method, path, KEY, body);
        assert_eq!((got, answer["code"].as_str()), (status, Some(code)), "{method} {path}: {answer}");
        assert_eq!(answer["request_id"].as_str(), headers["x-request-id"].to_str().ok(), "{method} {path}");
        assert!(answer["message"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}: {answer}");
    }
}

#[test]
fn the_name_of_the_scheme_is_read_whatever_its_case() {
    let served = served();
    for (scheme, status) in [("Bearer", 200), ("bearer", 200), ("BEARER ", 200), ("Basic", 401), ("", 401)] {
        let url = format!("{}/projects", served.url);
        let asked = ureq::get(&url).config().http_status_as_error(false).build();
        let answer = asked.header("Authorization", format!("{scheme} {KEY}")).call().unwrap();
        assert_eq!(answer.status().as_u16(), status, "{scheme:?}");
    }
}

#[test]
fn a_project_whose_store_cannot_be_opened_is_named_in_the_status() {
    let served = served();
    served.add_project("p");
    let (status, body) = served.get("/status");
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["unusable_projects"][0]["project_id"], "p");
    assert!(body["unusable_projects"][0]["reason"].as_str().unwrap().contains("cannot be opened"), "{body}");
}
