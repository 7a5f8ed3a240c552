//! Who may use the API: keys are made, are for one project or for all, and end at once.

use std::process::{Command, Output};

use scion_tests::process::scion_binary;
use scion_tests::{Scion, process};

fn cli_with_key(scion: &Scion, key: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(scion_binary());
    command.args(arguments).env("SCION_DATA_DIR", scion.data_dir()).env("SCION_API_KEY", key);
    process::output(&mut command)
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap().trim().to_owned()
}

#[test]
fn a_key_for_one_project_does_what_its_holder_needs_there_and_nothing_else() {
    let mut scion = Scion::start();
    let key = stdout(&scion.cli(&["api-key", "create", "ci", "--for-project", "test"]));
    assert!(key.starts_with("scion_"), "the key and nothing else: {key}");

    stdout(&cli_with_key(&scion, &key, &["branch", "create", "pr-1"]));
    let listed = stdout(&cli_with_key(&scion, &key, &["branch", "list"]));
    assert!(listed.contains("pr-1"), "{listed}");
    let refused = cli_with_key(&scion, &key, &["project", "delete", "test", "--yes"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    for verb in [vec!["status"], vec!["project", "create", "mine"], vec!["api-key", "list"], vec!["stop"]] {
        let refused = cli_with_key(&scion, &key, &verb);
        assert_eq!(refused.status.code(), Some(3), "{verb:?} {refused:?}");
    }

    scion.stop_serve();
    scion.relaunch();
    let listed = stdout(&scion.cli(&["api-key", "list"]));
    assert!(listed.contains("127.0.0.1"), "the last use is known after a restart: {listed}");
    stdout(&scion.cli(&["api-key", "revoke", "ci", "--yes"]));
    let refused = cli_with_key(&scion, &key, &["branch", "list"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    assert!(!String::from_utf8_lossy(&refused.stderr).contains(&key));
}
