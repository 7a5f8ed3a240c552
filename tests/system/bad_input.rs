//! Bad input gets an error that names the object and says what to do; nothing is lost, nothing is half-made.

use scion_tests::{ApiError, Scion};
use serde_json::{Value, json};

fn refused(scion: &Scion, branch: Value) -> ApiError {
    let before = branch_names(scion);
    let error = scion.try_branch("refused", branch, true).expect_err("the request must be refused");
    assert_eq!(branch_names(scion), before, "something half-made was left");
    error
}

fn branch_names(scion: &Scion) -> Vec<String> {
    let listed = scion.api().get(&scion.path("/branches")).unwrap();
    listed["branches"].as_array().unwrap().iter().map(|b| b["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_point_outside_the_history_is_refused_by_name() {
    let scion = Scion::start();
    scion.root().execute("create table t(x int)");
    let child = scion.branch("child", json!({}));

    let ahead = refused(&scion, json!({"parent_lsn": "F/FFFFFFFF"}));
    assert_eq!(ahead.status, 422, "{ahead:?}");
    assert!(ahead.message.contains("F/FFFFFFFF") && ahead.message.contains("main"), "{ahead:?}");

    let below = refused(&scion, json!({"parent_id": child.branch, "parent_lsn": "0/1000028"}));
    assert_eq!(below.status, 422, "{below:?}");
    assert!(below.message.contains("of branch main"), "whose history ends there: {below:?}");

    let early = refused(&scion, json!({"parent_timestamp": "2001-01-01T00:00:00Z"}));
    assert_eq!(early.status, 422, "{early:?}");

    let future = refused(&scion, json!({"parent_timestamp": "2100-01-01T00:00:00Z"}));
    assert_eq!(future.status, 422, "{future:?}");
}

#[test]
fn what_is_not_an_lsn_a_time_or_a_branch_is_refused() {
    let scion = Scion::start();
    assert_eq!(refused(&scion, json!({"parent_lsn": "not-an-lsn"})).status, 400);
    assert_eq!(refused(&scion, json!({"parent_timestamp": "yesterday-ish"})).status, 400);
    assert_eq!(refused(&scion, json!({"parent_id": "br-not-there-1234"})).status, 404);
    // What a script left empty is no branch, and not the default one either.
    let empty = refused(&scion, json!({"parent_id": ""}));
    assert!(empty.status == 400 && empty.message.contains("parent_id is empty"), "{empty:?}");
    let restore = scion.path(&format!("/branches/{}/restore", scion.root_branch()));
    let empty = scion.api().post(&restore, json!({"source_branch_id": ""})).unwrap_err();
    assert!(empty.status == 400 && empty.message.contains("source_branch_id is empty"), "{empty:?}");
    let endpoint = json!({"endpoint": {"branch_id": "", "type": "read_write"}});
    assert_eq!(scion.api().post(&scion.path("/endpoints"), endpoint).unwrap_err().status, 400);
    assert_eq!(scion.api().get(&scion.path("/connection_uri?branch_id=")).unwrap_err().status, 400);
    assert_eq!(scion.api().get("/projects/no-such-project").unwrap_err().status, 404);
    assert_eq!(scion.api().get(&scion.path("/branches/br-not-there-1234")).unwrap_err().status, 404);
}

#[test]
fn an_lsn_inside_a_record_is_rounded_down_and_the_response_says_so() {
    let scion = Scion::start();
    let root = scion.root();
    root.execute("create table t(x int); insert into t values (1)");
    let head: String = root.psql("postgres", "select pg_current_wal_flush_lsn()");
    root.execute("insert into t select generate_series(1, 1000)");
    let inside: types::Lsn = head.parse().unwrap();
    let inside = inside.advanced(9);

    let made = scion.try_branch("rounded", json!({"parent_lsn": inside.to_string()}), false).unwrap();

    let at: types::Lsn = made["branch"]["parent_lsn"].as_str().unwrap().parse().unwrap();
    assert!(at <= inside, "{at} is above {inside}");
    assert_eq!(made["branch"]["requested_lsn"].as_str(), Some(inside.to_string().as_str()), "{made}");
}

#[test]
fn a_taken_name_and_a_parent_with_children_are_refused() {
    let scion = Scion::start();
    let child = scion.branch("child", json!({}));
    scion.branch("grandchild", json!({"parent_id": child.branch}));

    let taken = scion.try_branch("child", json!({}), true).unwrap_err();
    assert_eq!(taken.status, 409, "{taken:?}");
    assert!(taken.message.contains("child"), "{taken:?}");

    let error = scion.api().delete(&scion.path(&format!("/branches/{}", child.branch))).unwrap_err();
    assert_eq!(error.status, 422, "{error:?}");
    assert!(error.message.contains("grandchild"), "{error:?}");
    child.execute("create table still_works(x int)");
    let root = scion.api().delete(&scion.path(&format!("/branches/{}", scion.root_branch()))).unwrap_err();
    assert_eq!(root.status, 422, "{root:?}");
}

#[test]
fn the_key_is_needed_and_private() {
    use std::os::unix::fs::PermissionsExt;
    let scion = Scion::start();
    let mode = std::fs::metadata(scion.data_dir().join("api-key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let server: Value =
        serde_json::from_slice(&std::fs::read(scion.data_dir().join("server.json")).unwrap()).unwrap();
    let stranger = scion_tests::Api::new(server["url"].as_str().unwrap(), "scion_wrong");
    assert_eq!(stranger.get("/projects").unwrap_err().status, 401);
}

#[test]
fn the_command_line_gives_each_refusal_its_exit_code() {
    let scion = Scion::start();
    assert!(scion.cli(&["branch", "create", "child", "--no-compute"]).status.success());
    assert!(
        scion.cli(&["branch", "create", "grandchild", "--parent", "child", "--no-compute"]).status.success()
    );
    let refusals: [(&[&str], i32, &str); 7] = [
        (&["branch", "create", "x", "--at", "F/FFFFFFFF"], 4, "ahead of"),
        (&["branch", "create", "x", "--at", "2001-01-01T00:00:00Z"], 4, "before the history"),
        (&["branch", "create", "x", "--at", "2100-01-01T00:00:00Z"], 4, "in the future"),
        (&["branch", "create", "x", "--at", "nonsense"], 2, "nonsense"),
        (&["branch", "create", "x", "--parent", "nobody"], 3, "nobody"),
        (&["branch", "create", "child"], 5, "child"),
        (&["branch", "delete", "child", "--yes"], 4, "grandchild"),
    ];
    for (arguments, code, words) in refusals {
        let output = scion.cli(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?} says {said:?}, not {words:?}");
        assert!(output.stdout.is_empty(), "{arguments:?} wrote data");
    }
}

#[test]
fn a_second_server_on_a_data_directory_is_refused_and_the_first_goes_on() {
    let scion = Scion::start();
    let server_json = std::fs::read(scion.data_dir().join("server.json")).unwrap();

    let output = scion.cli(&["serve", "--http", "127.0.0.1:0"]);

    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(5), "{said}");
    let words =
        format!("error: another scion serve uses {}", scion.data_dir().canonicalize().unwrap().display());
    assert!(said.contains(&words) && said.contains("`scion status` shows it"), "{said}");
    assert_eq!(std::fs::read(scion.data_dir().join("server.json")).unwrap(), server_json);
    assert_eq!(scion.root().number("select 1::bigint"), 1);
    scion.branch("child", json!({}));
}
