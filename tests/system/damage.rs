//! A full disk and a damaged layer: a clear error, nothing lost, never a wrong page.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use scion_tests::process::{self, wait_for};
use scion_tests::{Endpoint, Scion, sql};
use serde_json::json;

/// A small file system mounted over a directory, filled by a file.
struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Moves `dir` onto a file system of `mb` megabytes, mounted in its place.
    fn over(dir: &Path, mb: u32) -> Self {
        let aside = dir.with_extension("aside");
        process::run(Command::new("cp").arg("-a").arg(dir).arg(&aside));
        process::run(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", &format!("size={mb}m,mode=0711"), "tmpfs"])
                .arg(dir),
        );
        process::run(Command::new("cp").arg("-a").arg(aside.join(".")).arg(dir));
        std::fs::remove_dir_all(aside).unwrap();
        Self { at: dir.to_owned() }
    }

    /// Takes all but some `kb` kilobytes.
    fn fill_but(&self, kb: u64) {
        self.fill();
        let filler = std::fs::File::options().write(true).open(self.at.join("filler")).unwrap();
        filler.set_len(filler.metadata().unwrap().len() - (kb << 10)).unwrap();
    }

    fn fill(&self) {
        let _ = process::output(
            Command::new("dd")
                .args(["if=/dev/zero", "bs=64k"])
                .arg(format!("of={}/filler", self.at.display())),
        );
    }

    fn free(&self) {
        std::fs::remove_file(self.at.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
    }
}

#[test]
fn a_full_disk_under_the_store_loses_nothing() {
    let (scion, root, disk) = with_a_full_store();
    let error = scion.try_branch("full", json!({}), false).unwrap_err();
    assert_eq!(error.status, 507, "{error:?}");
    assert_eq!(root.number("select count(*) from t"), 20_000);

    disk.free();
    let made = wait_for("a branch after the disk was freed", Duration::from_secs(30), || {
        scion.try_branch("freed", json!({}), true).ok()
    });
    assert_eq!(scion.endpoint_of(&made).number("select count(*) from t"), 20_000);
    root.amcheck();
    drop(scion);
}

/// What was written while the disk was full is shipped before the next start, which needs room in the store.
#[test]
fn a_start_says_that_the_disk_under_the_store_is_full_and_goes_on_when_it_is_not() {
    let (mut scion, root, disk) = with_a_full_store();
    let compute = scion.endpoint_info(&root)["compute_pid"].as_i64().unwrap();
    process::signal(i32::try_from(compute).unwrap(), 9);
    assert_full(&scion, &root, "start");
    // The next server finds it starting, and is not its parent.
    scion.kill_serve();
    scion.relaunch();
    assert_full(&scion, &root, "start");

    disk.free();
    restart(&scion, &root);
    assert_eq!(sql::number(&mut root.reconnect(), "select count(*) from t"), 20_000);
    root.amcheck();
    drop(scion);
}

#[test]
fn a_suspension_says_that_the_disk_under_the_store_is_full_and_goes_on_when_it_is_not() {
    let (scion, root, disk) = with_a_full_store();
    assert_full(&scion, &root, "suspend");

    disk.free();
    wait_for("the endpoint to be idle", Duration::from_secs(60), || {
        (scion.endpoint_info(&root)["current_state"] == "idle").then_some(())
    });
    assert!(!root.dir.join("pg_wal").exists(), "it is idle, and holds what the store does not");
    start(&scion, &root);
    assert_eq!(root.number("select count(*) from t"), 20_000);
    root.amcheck();
    drop(scion);
}

/// The disk holds some megabytes more: the log is taken until a layer has no room. That once was a refusal, for which the
/// endpoint killed its Postgres again and again.
#[test]
fn a_disk_too_full_for_a_layer_makes_a_running_postgres_wait_and_never_ends_it() {
    let (scion, root, disk) = small_disk_under("projects", 192, ("SCION_MEMTABLE_MB", "1"));
    let of = |what: &str| scion.endpoint_info(&root)[what].clone();
    root.execute("create table t(id int primary key, v bytea)");
    let started = "select extract(epoch from pg_postmaster_start_time())::bigint";
    let before = root.number(started);
    disk.fill_but(6 << 10);
    let rows =
        "select g, sha512(g::text::bytea) || sha512((g + 1)::text::bytea) from generate_series(1, 200000) g";
    root.execute(&format!("insert into t {rows}"));
    let reason = wait_for("the reason", Duration::from_secs(60), || {
        of("state_reason").as_str().filter(|reason| reason.contains("waits for the store")).map(str::to_owned)
    });
    assert!(reason.contains("space"), "{reason}");
    assert_eq!(of("current_state"), "active");
    assert_eq!(root.number("select count(*) from t"), 200_000);

    disk.free();
    wait_for("the endpoint to wait no longer", Duration::from_secs(60), || {
        of("state_reason").is_null().then_some(())
    });
    let made = scion.try_branch("after", json!({}), true).unwrap();
    assert_eq!(scion.endpoint_of(&made).number("select count(*) from t"), 200_000);
    assert_eq!(root.number(started), before, "Postgres was started again");
    drop(scion);
}

#[test]
fn a_full_disk_under_an_endpoint_stops_it_and_loses_no_acknowledged_commit() {
    let (scion, root, disk) = on_a_small_disk("endpoints", 256);
    root.execute("create table acked(id int primary key); create table big(v text)");
    let mut client = root.connect();
    client.batch_execute("insert into acked select generate_series(1, 100)").unwrap();
    disk.fill();
    let mut acknowledged = 100;
    for id in 101..2000 {
        let filler = format!(
            "insert into big select repeat('x', 1000) from generate_series(1, 200); insert into acked values ({id})"
        );
        if client.batch_execute(&filler).is_err() {
            break;
        }
        acknowledged = id;
    }
    drop(client);
    disk.free();

    restart(&scion, &root);
    let mut client = root.reconnect();
    assert!(sql::number(&mut client, "select count(*) from acked") >= acknowledged);
    root.amcheck();
    drop(scion);
}

#[test]
fn a_damaged_layer_is_reported_by_name_and_never_served() {
    let mut scion = Scion::start();
    let root = scion.root().clone();
    root.execute("create table t as select generate_series(1, 1000) as id");
    suspend(&scion, &root);
    scion.stop_serve();
    let layers = scion.data_dir().join("projects").join(scion.project()).join("layers");
    let layer = std::fs::read_dir(&layers).unwrap().next().unwrap().unwrap().path();
    let sound = std::fs::read(&layer).unwrap();
    let mut damaged = sound.clone();
    for at in (0..damaged.len() / 2).step_by(20_000) {
        damaged[at] ^= 1;
    }
    std::fs::write(&layer, damaged).unwrap();
    scion.relaunch();

    let path = scion.path(&format!("/endpoints/{}/start", root.id));
    let name = layer.file_stem().unwrap().to_str().unwrap();
    let error = scion.api().post(&path, json!({})).expect_err("an endpoint cannot start on a damaged layer");
    assert!(error.message.contains(name), "{error:?} does not name {name}");

    scion.stop_serve();
    std::fs::write(&layer, sound).unwrap();
    scion.relaunch();
    restart(&scion, &root);
    assert_eq!(sql::number(&mut root.reconnect(), "select count(*) from t"), 1000);
}

/// A server that has this part of its data directory on a disk of `mb` megabytes.
fn on_a_small_disk(part: &str, mb: u32) -> (Scion, Endpoint, SmallDisk) {
    small_disk_under(part, mb, ("SCION_MEMTABLE_MB", "32"))
}

fn small_disk_under(part: &str, mb: u32, (name, value): (&str, &str)) -> (Scion, Endpoint, SmallDisk) {
    let environment = vec![(name.to_owned(), value.to_owned())];
    let mut scion = Scion::start_in(&[], json!({"name": "test"}), |_| environment);
    let root = scion.root().clone();
    suspend(&scion, &root);
    scion.stop_serve();
    let disk = SmallDisk::over(&scion.data_dir().join(part), mb);
    scion.relaunch();
    start(&scion, &root);
    (scion, root, disk)
}

/// A table of 20,000 rows, of which the store could not take all.
fn with_a_full_store() -> (Scion, Endpoint, SmallDisk) {
    let (scion, root, disk) = on_a_small_disk("projects", 160);
    root.execute("create table t(id int primary key, v text)");
    disk.fill();
    root.execute("insert into t select g, repeat('x', 100) from generate_series(1, 20000) g");
    (scion, root, disk)
}

/// The answer comes long before anybody would give up, and says where there is no space.
fn assert_full(scion: &Scion, endpoint: &Endpoint, verb: &str) {
    let began = Instant::now();
    let path = scion.path(&format!("/endpoints/{}/{verb}", endpoint.id));
    let error = wait_for("the reason", Duration::from_secs(60), || {
        scion.api().post(&path, json!({})).err().filter(|error| error.status != 423)
    });
    assert_eq!(error.status, 507, "{error:?}");
    let full = scion.data_dir().join("projects");
    assert!(error.message.contains(full.to_str().unwrap()), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(60), "{verb}: {:?}", began.elapsed());
}

fn suspend(scion: &Scion, endpoint: &Endpoint) {
    scion.api().post(&scion.path(&format!("/endpoints/{}/suspend", endpoint.id)), json!({})).unwrap();
}

fn start(scion: &Scion, endpoint: &Endpoint) {
    scion.api().post(&scion.path(&format!("/endpoints/{}/start", endpoint.id)), json!({})).unwrap();
    endpoint.reconnect();
}

/// Starts an endpoint that may still be failing.
fn restart(scion: &Scion, endpoint: &Endpoint) {
    wait_for("the endpoint to start again", Duration::from_secs(60), || {
        let _ = scion.api().post(&scion.path(&format!("/endpoints/{}/start", endpoint.id)), json!({}));
        endpoint.try_connect().ok()
    });
}
