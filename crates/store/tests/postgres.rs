//! Real PostgreSQL 15 is the judge: its WAL goes in, its data directory must come out.

#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that goes wrong")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use store::{ClusterImport, NewTimeline, Project, StoreError, StoreOptions, TailProgress};
use types::{
    BLOCK_SIZE, BlockNumber, BranchId, Fork, Lsn, Page, PgTime, RelFork, RelTag, SlruKind, TimelineId,
};
use wal::segment::segment_name;

const SEGMENT: u64 = 16 << 20;

/// Directory of PostgreSQL 15's programs: what `SCION_PG_BIN` names, or Debian's.
fn bin() -> PathBuf {
    std::env::var_os("SCION_PG_BIN").map_or_else(|| "/usr/lib/postgresql/15/bin".into(), PathBuf::from)
}

/// A PostgreSQL cluster in a temporary directory, run as a user that is not root.
struct Cluster {
    dir: tempfile::TempDir,
    ids: Option<(u32, u32)>,
}

impl Cluster {
    fn create(settings: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("store-pg-").tempdir_in("/tmp").unwrap();
        let ids = unprivileged();
        if let Some((uid, gid)) = ids {
            std::os::unix::fs::chown(dir.path(), Some(uid), Some(gid)).unwrap();
        }
        let cluster = Self { dir, ids };
        cluster.run("initdb", &["-k", "-N", "-U", "postgres", "-A", "trust", "-D", &cluster.data_arg()]);
        let conf = cluster.data().join("postgresql.conf");
        let mut text = fs::read_to_string(&conf).unwrap();
        text += &format!(
            "\nlisten_addresses=''\nunix_socket_directories='{}'\nfsync=off\nautovacuum=off\nshared_buffers=32MB\n\
             max_wal_size=4GB\nwal_keep_size=4GB\nmax_prepared_transactions=5\nport=5432\n{settings}\n",
            cluster.dir.path().display()
        );
        fs::write(&conf, text).unwrap();
        cluster
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn data_arg(&self) -> String {
        self.data().display().to_string()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(bin().join(program));
        if let Some((uid, gid)) = self.ids {
            command.uid(uid).gid(gid);
        }
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.command(program).args(args).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn start(&self) {
        let log = self.dir.path().join("log").display().to_string();
        self.run("pg_ctl", &["start", "-w", "-D", &self.data_arg(), "-l", &log]);
    }

    fn stop(&self) {
        self.run("pg_ctl", &["stop", "-w", "-m", "fast", "-D", &self.data_arg()]);
    }

    fn sql(&self, database: &str, sql: &str) -> String {
        let host = self.dir.path().display().to_string();
        let args = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", &host, "-U", "postgres"];
        let args: Vec<&str> = args.into_iter().chain(["-d", database, "-c", sql]).collect();
        self.run("psql", &args).trim().to_owned()
    }

    fn pgbench(&self, args: &[&str]) {
        let host = self.dir.path().display().to_string();
        let args: Vec<&str> = ["-h", &host, "-U", "postgres"]
            .into_iter()
            .chain(args.iter().copied())
            .chain(["postgres"])
            .collect();
        self.run("pgbench", &args);
    }

    fn lsn(&self) -> Lsn {
        self.sql("postgres", "select pg_current_wal_flush_lsn()").parse().unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists() {
            let _ = self.command("pg_ctl").args(["stop", "-m", "immediate", "-D", &self.data_arg()]).output();
        }
    }
}

/// The `postgres` user, if this runs as root.
fn unprivileged() -> Option<(u32, u32)> {
    let id = |flag: &str| -> Option<u32> {
        let output = Command::new("id").args([flag, "postgres"]).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    let me = Command::new("id").arg("-u").output().unwrap();
    if String::from_utf8(me.stdout).unwrap().trim() != "0" {
        return None;
    }
    Some((id("-u").unwrap(), id("-g").unwrap()))
}

fn root() -> BranchId {
    "br-root".parse().unwrap()
}

fn id(name: &str) -> BranchId {
    name.parse().unwrap()
}

fn small() -> StoreOptions {
    StoreOptions { memtable_bytes: 4 << 20, ..StoreOptions::default() }
}

fn import(cluster: &Cluster, dir: &Path) -> Project {
    let import = ClusterImport { data_dir: cluster.data(), root: root() };
    Project::create_with(dir, &import, small()).unwrap()
}

/// Sends WAL from the head up to `upto` out of the cluster's own segments.
fn feed(cluster: &Cluster, project: &Project, branch: &BranchId, upto: Lsn, piece: usize) {
    let timeline = TimelineId::new(1);
    let mut at = project.head(branch).unwrap();
    while at < upto {
        let name = segment_name(timeline, at.segment(SEGMENT), SEGMENT);
        let bytes = fs::read(cluster.data().join("pg_wal").join(name)).unwrap();
        let from = at.offset_in_segment(SEGMENT) as usize;
        let left = upto.bytes_since(at).unwrap() as usize;
        let to = (from + left.min(piece)).min(bytes.len());
        at = project.append_wal(branch, timeline, at, &bytes[from..to]).unwrap();
    }
}

/// Every permanent relation file of the cluster: its blocks.
fn relation_files(data: &Path) -> BTreeMap<RelFork, Vec<u8>> {
    let mut found: BTreeMap<RelFork, BTreeMap<u32, PathBuf>> = BTreeMap::new();
    let mut add = |dir: &Path, tablespace: u32, database: u32| {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let (stem, segment) = name.split_once('.').unwrap_or((&name, "0"));
            let (relation, fork) = stem.split_once('_').unwrap_or((stem, "main"));
            let fork = match fork {
                "main" => Fork::Main,
                "vm" => Fork::Visibility,
                "init" => Fork::Init,
                _ => continue,
            };
            if let (Ok(relation), Ok(segment)) = (relation.parse(), segment.parse()) {
                let rel = RelFork { rel: RelTag { tablespace, database, relation }, fork };
                found.entry(rel).or_default().insert(segment, path);
            }
        }
    };
    add(&data.join("global"), 1664, 0);
    for entry in fs::read_dir(data.join("base")).unwrap() {
        let path = entry.unwrap().path();
        if let Ok(database) = path.file_name().unwrap().to_str().unwrap().parse() {
            add(&path, 1663, database);
        }
    }
    let unlogged: Vec<RelTag> =
        found.keys().filter(|rel| rel.fork == Fork::Init).map(|rel| rel.rel).collect();
    found.retain(|rel, _| rel.fork == Fork::Init || !unlogged.contains(&rel.rel));
    found
        .into_iter()
        .map(|(rel, files)| (rel, files.values().flat_map(|path| fs::read(path).unwrap()).collect()))
        .collect()
}

/// The resource manager whose masks fit the page, judged by its special space.
fn masked(rel: RelFork, block: u32, bytes: &[u8]) -> Page {
    let mut page = Page::from_slice(bytes).unwrap();
    if rel.fork == Fork::Visibility {
        page[0..10].fill(0);
        return page;
    }
    let rmgr = redo::mask::owner(&page);
    if rmgr == wal::RmgrId::SEQ {
        // A sequence is logged up to 32 values ahead of what its page says.
        let special = redo::page::special(&page);
        page[24..special].fill(0);
    }
    redo::mask::mask(&mut page, rmgr, BlockNumber::new(block));
    page
}

/// Compares every page and size at `lsn` with the files of the stopped cluster.
fn assert_equal(project: &Project, branch: &BranchId, lsn: Lsn, cluster: &Cluster) {
    let files = relation_files(&cluster.data());
    let state = project.state_at(branch, lsn).unwrap();
    let sizes: BTreeMap<RelFork, u32> = state.relations.iter().copied().collect();
    let mut wrong = Vec::new();
    let (mut pages, mut failed) = (0, 0);
    for (rel, bytes) in &files {
        let blocks = (bytes.len() / BLOCK_SIZE) as u32;
        if sizes.get(rel) != Some(&blocks) {
            wrong.push(format!("{rel} has {blocks} blocks, the store says {:?}", sizes.get(rel)));
            continue;
        }
        for first in (0..blocks).step_by(64) {
            let count = (blocks - first).min(64);
            let mut out = vec![0; count as usize * BLOCK_SIZE];
            if let Err(error) = project.read_pages(branch, lsn, *rel, BlockNumber::new(first), &mut out) {
                failed += 1;
                wrong.push(format!("{rel} from {first}: {error:?}"));
                continue;
            }
            for (index, ours) in out.chunks(BLOCK_SIZE).enumerate() {
                let block = first + index as u32;
                let theirs = &bytes[block as usize * BLOCK_SIZE..][..BLOCK_SIZE];
                pages += 1;
                if ours != theirs {
                    let (ours, theirs) = (masked(*rel, block, ours), masked(*rel, block, theirs));
                    let differ: Vec<_> = (0..BLOCK_SIZE).filter(|&at| ours[at] != theirs[at]).collect();
                    // CREATE DATABASE logs maps as pages whose content is a hole: replay has fewer bits set.
                    let copied_map = rel.fork == Fork::Visibility && rel.rel.database >= 16384;
                    let fewer = differ.iter().all(|&at| ours[at] & !theirs[at] == 0);
                    if let Some(&at) = differ.first().filter(|_| !(copied_map && fewer)) {
                        let (ours, theirs) = (&ours[at..][..1], &theirs[at..][..1]);
                        wrong.push(format!(
                            "block {block} of {rel}: {} bytes, at {at} {ours:?} not {theirs:?}",
                            differ.len()
                        ));
                    }
                }
            }
        }
    }
    for rel in sizes.keys().filter(|rel| !files.contains_key(rel)) {
        wrong.push(format!("{rel} is not on disk"));
    }
    let shown = wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} wrong of {pages} pages, {failed} reads failed:\n{shown}", wrong.len());
    assert!(pages > 500);
    assert_slrus_equal(&state.slru, cluster);
    for (kind, number, page) in &state.slru {
        let mut read = vec![1; 2 * BLOCK_SIZE];
        project.read_slru(branch, lsn, *kind, *number, &mut read).unwrap();
        assert!(read[..BLOCK_SIZE] == page[..], "{kind:?} page {number} read by itself");
    }
    let mut beyond = vec![1; BLOCK_SIZE];
    project.read_slru(branch, lsn, SlruKind::Clog, 1_000_000, &mut beyond).unwrap();
    assert!(beyond.iter().all(|&byte| byte == 0), "a page that is not there");
}

fn assert_slrus_equal(slru: &[(SlruKind, u32, Box<[u8; BLOCK_SIZE]>)], cluster: &Cluster) {
    for kind in [SlruKind::Clog, SlruKind::MultiXactOffsets, SlruKind::MultiXactMembers] {
        let mut pages = 0;
        for entry in fs::read_dir(cluster.data().join(kind.directory())).unwrap() {
            let path = entry.unwrap().path();
            let segment = u32::from_str_radix(path.file_name().unwrap().to_str().unwrap(), 16).unwrap();
            for (index, bytes) in fs::read(&path).unwrap().chunks(BLOCK_SIZE).enumerate() {
                let number = segment * 32 + index as u32;
                let ours = slru.iter().find(|(k, n, _)| (*k, *n) == (kind, number));
                assert!(ours.is_some_and(|(_, _, page)| page[..] == *bytes), "{kind:?} page {number}");
                pages += 1;
            }
        }
        assert_eq!(pages, slru.iter().filter(|(k, ..)| *k == kind).count(), "{kind:?}");
    }
}

const WORKLOAD: [&str; 18] = [
    "create table t (id bigserial primary key, body text, n int)",
    "insert into t (body, n) select repeat(md5(i::text), 20), i from generate_series(1, 8000) i",
    "create index on t (n)",
    "create unlogged table u as select * from t limit 100",
    "update t set n = n + 1 where id % 3 = 0",
    "delete from t where id % 7 = 0",
    "create table gone as select * from t",
    "drop table gone",
    "create table short as select * from t",
    "truncate short",
    "insert into short select * from t limit 50",
    "create table other (n int)",
    "begin; insert into other values (3); prepare transaction 'p1'",
    "begin; savepoint a; insert into t (body, n) values ('sub', 1); rollback to a; commit",
    "vacuum t",
    "delete from t where id > 7000",
    "cluster t using t_pkey",
    "update t set n = 0 where id between 100 and 120",
];

fn work(cluster: &Cluster) {
    for statement in WORKLOAD {
        cluster.sql("postgres", statement);
    }
    for statement in
        ["vacuum (freeze, analyze) t", "delete from t where id > 3000", "vacuum t", "vacuum full short"]
    {
        cluster.sql("postgres", statement);
    }
    cluster.sql("postgres", "create database source");
    cluster.sql("source", "create table s as select i, repeat('x', 100) x from generate_series(1, 3000) i");
    cluster.sql("postgres", "create database copied template source strategy file_copy");
    cluster.sql("copied", "update s set x = 'y' where i < 100; insert into s select * from s limit 500");
    cluster.sql("source", "update s set x = 'z' where i > 2900");
    cluster.sql("postgres", "create database again template copied strategy file_copy");
    cluster.sql("postgres", "create database dropped strategy file_copy");
    cluster.sql("postgres", "drop database dropped");
    cluster.sql("again", "delete from s where i = 2000");
    cluster.sql("again", "create table only_here as select 1");
}

/// Rule 7 of the crate's README.
/// Rule 8 of the crate's README.
/// Rule 10 of the crate's README.
#[test]
fn pages_and_state_equal_the_files_of_the_server_that_wrote_the_wal() {
    let cluster = Cluster::create("");
    let dir = tempfile::tempdir().unwrap();
    let project = import(&cluster, &dir.path().join("p"));
    let imported = project.head(&root()).unwrap();
    assert_equal(&project, &root(), imported, &cluster);

    cluster.start();
    cluster.pgbench(&["-i", "-s", "3", "-q"]);
    cluster.pgbench(&["-c", "4", "-t", "1500", "-n"]);
    work(&cluster);
    let middle = cluster.lsn();
    feed(&cluster, &project, &root(), middle, 1 << 20);
    cluster.pgbench(&["-c", "4", "-t", "300", "-n"]);
    cluster.stop();
    let end = shutdown_end(&cluster);
    feed(&cluster, &project, &root(), end, 777_777);
    assert_eq!(project.head(&root()).unwrap(), end);
    assert_equal(&project, &root(), end, &cluster);
    let before = project.state_at(&root(), end).unwrap();
    assert_eq!(before.two_phase.len(), 1);

    // As if killed: what no layer holds is rebuilt from the WAL.
    drop(project);
    let project = Project::open_with(&dir.path().join("p"), small()).unwrap();
    assert_eq!(project.head(&root()).unwrap(), end);
    assert_eq!(project.state_at(&root(), end).unwrap(), before);
    assert_equal(&project, &root(), end, &cluster);

    project.flush().unwrap();
    assert_equal(&project, &root(), end, &cluster);
    drop(project);
    let project = Project::open(&dir.path().join("p")).unwrap();
    assert_equal(&project, &root(), end, &cluster);
}

/// End of the shutdown checkpoint in `pg_control`.
fn shutdown_end(cluster: &Cluster) -> Lsn {
    let bytes = fs::read(cluster.data().join("global/pg_control")).unwrap();
    wal::ControlFile::parse(&bytes).unwrap().cluster_state().unwrap().lsn
}

/// Reads a whole fork.
fn fork(project: &Project, branch: &BranchId, lsn: Lsn, rel: RelFork) -> Vec<u8> {
    let state = project.state_at(branch, lsn).unwrap();
    let blocks = state.relations.iter().find(|(found, _)| *found == rel).unwrap().1;
    let mut out = vec![0; blocks as usize * BLOCK_SIZE];
    project.read_pages(branch, lsn, rel, BlockNumber::new(0), &mut out).unwrap();
    out
}

fn main_fork(cluster: &Cluster, table: &str) -> RelFork {
    let number = |sql: &str| cluster.sql("postgres", sql).parse().unwrap();
    let database = number("select oid from pg_database where datname = 'postgres'");
    let relation = number(&format!("select pg_relation_filenode('{table}')"));
    RelFork { rel: RelTag { tablespace: 1663, database, relation }, fork: Fork::Main }
}

/// Writes the parent's next records to the child as its own, until one that is damaged.
fn ship_damaged_tail(
    cluster: &Cluster,
    project: &Project,
    child: &BranchId,
    new: &NewTimeline,
) -> TailProgress {
    // What a promotion copies is the parent's segment, byte for byte.
    let name = segment_name(TimelineId::new(1), new.start.segment(SEGMENT), SEGMENT);
    let segment = fs::read(cluster.data().join("pg_wal").join(name)).unwrap();
    let prefix = project.wal_segment_prefix(child, new.start).unwrap();
    assert_eq!(prefix, segment[..new.start.offset_in_segment(SEGMENT) as usize]);

    // The child's own WAL: the parent's next records serve, then the log ends in garbage.
    let mut own = segment[prefix.len()..].to_vec();
    own[100_000] ^= 1;
    project.append_tail(child, new.timeline, new.start, &own).unwrap()
}

/// Rule 5 of the crate's README.
/// Rule 6 of the crate's README.
#[test]
fn branches_see_their_point_and_nothing_after_and_their_timelines_fence_each_other() {
    let cluster = Cluster::create("");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p");
    let project = import(&cluster, &path);
    cluster.start();
    cluster.sql("postgres", "create table t as select i from generate_series(1, 5000) i");
    let rel = main_fork(&cluster, "t");
    let first = cluster.lsn();
    let time = |text: String| PgTime::from_unix_us(text.parse().unwrap());
    let now = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
    let first_time = time(cluster.sql("postgres", now));
    cluster.sql("postgres", "update t set i = -i");
    cluster.sql("postgres", "select pg_switch_wal()");
    cluster.sql("postgres", "truncate t");
    let last = cluster.lsn();
    feed(&cluster, &project, &root(), last, 100_000);

    let point = project.resolve_lsn(&root(), first.advanced(3)).unwrap();
    assert!(point.lsn <= first.advanced(3));
    let by_time = project.resolve_time(&root(), first_time).unwrap();
    assert_eq!(by_time.last_commit, point.last_commit);
    let long_ago = PgTime::from_pg_us(0);
    assert!(matches!(project.resolve_time(&root(), long_ago), Err(StoreError::BeforeHistory { .. })));
    let ahead = project.resolve_lsn(&root(), last.advanced(1 << 20));
    assert!(matches!(ahead, Err(StoreError::Ahead { .. })));

    let before = fork(&project, &root(), point.lsn, rel);
    assert!(before.len() > 10 * BLOCK_SIZE);
    let (child, grandchild) = (id("br-child"), id("br-grandchild"));
    project.create_branch(&child, &root(), point.lsn).unwrap();
    project.create_branch(&grandchild, &child, point.lsn).unwrap();
    assert!(matches!(project.create_branch(&child, &root(), point.lsn), Err(StoreError::Exists { .. })));
    assert!(matches!(project.delete_branch(&child), Err(StoreError::HasChildren { .. })));
    assert_eq!(fork(&project, &grandchild, point.lsn, rel), before);
    let below = Lsn::from_raw(point.lsn.raw() - 8).unwrap();
    let of_the_root = project.resolve_lsn(&grandchild, below).unwrap();
    assert_eq!((&of_the_root.branch, of_the_root.lsn < point.lsn), (&root(), true));
    assert!(matches!(
        project.create_branch(&id("br-x"), &child, of_the_root.lsn),
        Err(StoreError::BeforeStart { .. })
    ));
    let before_all = project.resolve_lsn(&child, Lsn::from_raw(8).unwrap());
    assert!(matches!(before_all, Err(StoreError::BeforeStart { .. })), "{before_all:?}");
    assert_eq!(project.resolve_time(&grandchild, first_time).unwrap().lsn, by_time.lsn);

    let old = project.begin_timeline(&child).unwrap();
    let new = project.begin_timeline(&child).unwrap();
    assert_eq!((old.start, new.start), (point.lsn, point.lsn));
    assert!(new.timeline > old.timeline);
    assert_eq!(new.history, [(TimelineId::new(1), point.lsn)]);
    assert_eq!(new.state.cluster.lsn, point.lsn);
    let fenced = project.append_wal(&child, old.timeline, point.lsn, b"x");
    assert!(matches!(fenced, Err(StoreError::Fenced { .. })));
    let gap = project.append_wal(&child, new.timeline, point.lsn.advanced(8), b"x");
    assert!(matches!(gap, Err(StoreError::Gap { .. })));

    let tail = ship_damaged_tail(&cluster, &project, &child, &new);
    assert!(tail.ended && tail.head > point.lsn);
    drop(project);
    // What killed processes leave behind is listed nowhere and goes.
    let strays = ["layers/00000000000000ff.layer", "tmp/layer-7", "wal/br-stray"].map(|name| path.join(name));
    fs::write(&strays[0], b"half").unwrap();
    fs::write(&strays[1], b"half").unwrap();
    fs::create_dir(&strays[2]).unwrap();
    let project = Project::open_with(&path, small()).unwrap();
    assert!(strays.iter().all(|stray| !stray.exists()));
    assert_eq!(project.head(&child).unwrap(), tail.head);
    let again = project.begin_timeline(&child).unwrap();
    assert_eq!(again.start, tail.head);
    assert_eq!(again.history, [(TimelineId::new(1), point.lsn), (new.timeline, tail.head)]);
    assert_eq!(fork(&project, &grandchild, point.lsn, rel), before);
    assert_ne!(fork(&project, &child, tail.head, rel), before);
    project.delete_branch(&grandchild).unwrap();
    assert!(matches!(project.head(&grandchild), Err(StoreError::NotFound { .. })));
    assert_eq!(project.branches().unwrap().len(), 2);
    assert!(matches!(Project::open(&path), Err(StoreError::Locked { .. })));
}

/// A power failure may keep a file's length and lose its last bytes. Nothing acknowledged is among them; whoever
/// wrote them sends them again.
#[test]
fn wal_torn_by_a_power_failure_is_refused_until_it_is_sent_again() {
    let cluster = Cluster::create("");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p");
    let project = import(&cluster, &path);
    cluster.start();
    cluster.sql("postgres", "create table t as select i from generate_series(1, 500) i");
    let whole = cluster.lsn();
    cluster.sql("postgres", "insert into t select generate_series(1, 500)");
    let last = cluster.lsn();
    feed(&cluster, &project, &root(), last, 100_000);
    let head = project.head(&root()).unwrap();
    drop(project);
    let name = segment_name(TimelineId::new(1), whole.segment(SEGMENT), SEGMENT);
    let file = path.join("wal").join(root().as_str()).join("00000001").join(name);
    let mut bytes = fs::read(&file).unwrap();
    bytes[whole.offset_in_segment(SEGMENT) as usize..].fill(0);
    fs::write(&file, bytes).unwrap();

    let project = Project::open_with(&path, small()).unwrap();
    let torn = project.head(&root()).unwrap();
    assert!(torn <= whole, "{torn} was never written again");
    assert!(matches!(project.begin_timeline(&root()), Err(StoreError::Stuck { .. })));
    feed(&cluster, &project, &root(), last, 100_000);

    assert_eq!(project.head(&root()).unwrap(), head);
    assert_eq!(project.begin_timeline(&root()).unwrap().start, head);
}

#[test]
fn at_a_time_nothing_of_a_transaction_that_ended_later_shows() {
    let cluster = Cluster::create("");
    let dir = tempfile::tempdir().unwrap();
    let project = import(&cluster, &dir.path().join("p"));
    cluster.start();
    let now = || {
        let now = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
        PgTime::from_unix_us(cluster.sql("postgres", now).parse().unwrap())
    };
    let begun = now();
    cluster.sql("postgres", "create database shop");
    cluster.sql("postgres", "create table t (i int)");
    let oid: u32 =
        cluster.sql("postgres", "select oid from pg_database where datname = 'shop'").parse().unwrap();
    let committed = cluster.lsn();
    let before_the_drop = now();
    cluster.sql("postgres", "drop database shop");
    let after_the_drop = now();
    cluster.sql("postgres", "begin; insert into t values (1); prepare transaction 'p'");
    let prepared = now();
    cluster.sql("postgres", "commit prepared 'p'");
    let after_the_commit = now();
    cluster.sql("postgres", "begin; insert into t values (2); rollback");
    cluster.sql("postgres", "select pg_switch_wal()");
    let rolled_back = now();
    // Long records without an end.
    cluster.sql(
        "postgres",
        "select pg_logical_emit_message(false, 'x', repeat('y', 4000)) from generate_series(1, 300)",
    );
    feed(&cluster, &project, &root(), cluster.lsn(), 100_000);

    let at = |time| project.resolve_time(&root(), time).unwrap();
    let state = |time| project.state_at(&root(), at(time).lsn).unwrap();
    assert_eq!(at(begun).lsn, project.branches().unwrap()[0].start, "nothing had ended");
    assert!(at(before_the_drop).lsn <= committed);
    assert!(state(before_the_drop).databases.contains(&(1663, oid)));
    assert!(!state(after_the_drop).databases.contains(&(1663, oid)));
    for time in [before_the_drop, after_the_drop, prepared, after_the_commit] {
        let point = at(time);
        assert_eq!(point.last_commit.map(|(_, lsn)| lsn), Some(point.lsn), "right after a commit");
        assert_eq!(state(time).two_phase.len(), 0);
    }
    assert_eq!(at(prepared), at(after_the_drop));
    assert!(at(after_the_commit).lsn > at(prepared).lsn);
    let end = at(rolled_back);
    assert_eq!(end.last_commit, at(after_the_commit).last_commit);
    assert!(end.lsn > at(after_the_commit).lsn, "right after the rollback");
    assert!(project.head(&root()).unwrap().bytes_since(end.lsn).unwrap() > 1_000_000);

    // Branches answer from the history they have from others, and say whose it is.
    let (child, grandchild) = (id("br-child"), id("br-grandchild"));
    project.create_branch(&child, &root(), at(after_the_drop).lsn).unwrap();
    project.create_branch(&grandchild, &child, at(after_the_drop).lsn).unwrap();
    for branch in [&child, &grandchild] {
        assert_eq!(project.resolve_time(branch, before_the_drop).unwrap(), at(before_the_drop));
        let head = project.resolve_time(branch, rolled_back).unwrap();
        assert_eq!((&head.branch, head.lsn), (branch, at(after_the_drop).lsn));
    }
}

#[test]
fn a_damaged_layer_is_named_and_never_served() {
    let cluster = Cluster::create("");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p");
    drop(import(&cluster, &path));
    let layer = fs::read_dir(path.join("layers")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&layer).unwrap();
    bytes[1000] ^= 1;
    fs::write(&layer, bytes).unwrap();
    let project = Project::open(&path).unwrap();
    let head = project.head(&root()).unwrap();
    let outcome = project.state_at(&root(), head).err().unwrap();
    let name = layer.file_name().unwrap().to_str().unwrap();
    assert!(matches!(&outcome, StoreError::Corrupt { object, .. } if object.contains(name)), "{outcome}");
}

#[test]
fn a_cluster_that_runs_or_crashed_is_not_imported() {
    let cluster = Cluster::create("");
    cluster.start();
    let dir = tempfile::tempdir().unwrap();
    let import = ClusterImport { data_dir: cluster.data(), root: root() };
    let outcome = Project::create(&dir.path().join("p"), &import).err().unwrap();
    assert!(matches!(outcome, StoreError::Import { .. }), "{outcome}");
}

#[test]
fn a_cluster_that_cannot_be_read_is_refused_by_what_it_is_and_what_would_do() {
    let cluster = Cluster::create("");
    let path = cluster.data().join("global/pg_control");
    let sound = fs::read(&path).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let import = ClusterImport { data_dir: cluster.data(), root: root() };
    let refused = |changes: &[(usize, u32)]| {
        let mut bytes = sound.clone();
        for &(at, value) in changes {
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[..288]);
        bytes[288..292].copy_from_slice(&crc.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        let error = Project::create(&dir.path().join("p"), &import).err().unwrap();
        assert!(matches!(error, StoreError::Import { .. }), "{error}");
        error.to_string()
    };
    let check = |changes: &[(usize, u32)], expected: [&str; 2]| {
        let said = refused(changes);
        assert!(expected.iter().all(|words| said.contains(words)), "{said}");
    };
    let supported = "supported are releases of PostgreSQL 15, 16, 17 and 18";
    check(&[(12, 202_107_181)], ["of PostgreSQL 14", supported]);
    check(&[(8, 1900), (12, 202_606_301)], ["version 1900", supported]);
    check(&[(216, 16384)], ["block size 16384", "supported is 8192"]);
    check(&[(224, 65536)], ["WAL block size 65536", "supported is 8192"]);
    check(&[(220, 1000)], ["blocks in a relation segment 1000", "supported is 131072"]);
    check(&[(228, 3 << 20)], ["WAL segments of 3145728 bytes", "powers of 2 from 1 MB to 1 GB"]);
    check(&[(172, 0)], ["wal_level is minimal", "set it to replica"]);
    fs::write(&path, &sound).unwrap();
    Project::create(&dir.path().join("p"), &import).unwrap();
}

/// The bytes of a record that follows the last of `branch`, aligned; it may refer to one block of a relation.
fn made_record(
    project: &Project,
    branch: &BranchId,
    kind: (u8, u8),
    block: Option<RelFork>,
    main: &[u8],
) -> Vec<u8> {
    let state = project.state_at(branch, project.head(branch).unwrap()).unwrap();
    let mut body = Vec::new();
    if let Some(RelFork { rel, .. }) = block {
        body.extend([0, 0, 0, 0]);
        body.extend([rel.tablespace, rel.database, rel.relation, 0].map(u32::to_le_bytes).concat());
    }
    body.extend([255, u8::try_from(main.len()).unwrap()]);
    body.extend(main);
    let mut record = u32::try_from(24 + body.len()).unwrap().to_le_bytes().to_vec();
    record.extend([0; 4]);
    record.extend(state.cluster.last_record.raw().to_le_bytes());
    record.extend([kind.1, kind.0, 0, 0]);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&body), &record);
    record.extend(crc.to_le_bytes());
    record.extend(body);
    record.resize(record.len().next_multiple_of(8), 0);
    record
}

/// Rule 1 of the crate's README.
#[test]
fn an_extensions_records_cost_their_blocks_and_nothing_else_and_minimal_wal_stops_the_branch() {
    const NOOP: (u8, u8) = (0, 0x20);
    let cluster = Cluster::create("");
    cluster.start();
    cluster.sql("postgres", "create table t as select 1; create table other as select 1");
    let (rel, other) = (main_fork(&cluster, "t"), main_fork(&cluster, "other"));
    cluster.stop();
    let dir = tempfile::tempdir().unwrap();
    let project = import(&cluster, dir.path());
    let before = project.head(&root()).unwrap();
    let append = |project: &Project, kind, block, main: &[u8]| {
        let record = made_record(project, &root(), kind, block, main);
        let at = project.head(&root()).unwrap();
        project.append_wal(&root(), TimelineId::new(1), at, &record)
    };
    let of = |project: &Project, branch: &BranchId| {
        project.branches().unwrap().into_iter().find(|info| info.id == *branch).unwrap()
    };
    assert_eq!(of(&project, &root()).extension, None);
    let first = append(&project, (138, 0), Some(rel), &[1]).unwrap();
    append(&project, NOOP, None, &[1]).unwrap();
    let head = append(&project, (139, 0), Some(rel), &[1]).unwrap();

    let check = |project: &Project| {
        let mut page = [0; BLOCK_SIZE];
        let mut read = |lsn, rel| project.read_pages(&root(), lsn, rel, BlockNumber::new(0), &mut page);
        read(before, rel).unwrap();
        read(head, other).unwrap();
        let error = read(first, rel).unwrap_err();
        assert!(error.to_string().contains("resource manager 138 of an extension (PGroonga)"), "{error}");
        assert_eq!(of(project, &root()).extension, Some((first, 138)));
        let unreadable = project.unreadable(&root(), 10).unwrap();
        assert_eq!(unreadable.managers, [(138, first), (139, head)]);
        assert_eq!((unreadable.forks, unreadable.more), (vec![(rel, 138, first)], 0));
    };
    check(&project);
    project.create_branch(&id("br-before"), &root(), before).unwrap();
    project.create_branch(&id("br-after"), &root(), head).unwrap();
    assert_eq!(of(&project, &id("br-before")).extension, None);
    assert_eq!(of(&project, &id("br-after")).extension, Some((first, 138)));
    drop(project);
    let project = Project::open(dir.path()).unwrap();
    check(&project);
    project.flush().unwrap();
    drop(project);
    let project = Project::open(dir.path()).unwrap();
    check(&project);

    // What is cut to nothing begins anew.
    let RelTag { tablespace, database, relation } = rel.rel;
    let cut = [0, tablespace, database, relation, 7].map(u32::to_le_bytes).concat();
    let head = append(&project, (2, 0x20), None, &cut).unwrap();
    assert_eq!(project.unreadable(&root(), 10).unwrap().forks, []);
    assert_eq!(project.unreadable(&id("br-after"), 10).unwrap().forks, [(rel, 138, first)]);
    assert_eq!(project.unreadable(&id("br-after"), 0).unwrap().more, 1);

    let minimal = [[100u32, 8, 10, 5, 64, 0].map(u32::to_le_bytes).concat(), vec![0; 2]].concat();
    append(&project, (0, 0x60), None, &minimal).unwrap();
    let info = of(&project, &root());
    assert_eq!(info.head, head);
    assert!(info.stuck.is_some_and(|reason| reason.contains("wal_level became minimal")));
}

#[test]
fn a_cut_table_gets_no_map_that_it_did_not_have() {
    let cluster = Cluster::create("");
    cluster.start();
    cluster.sql("postgres", "create table t as select generate_series(1, 1000)");
    let rel = main_fork(&cluster, "t");
    cluster.stop();
    let dir = tempfile::tempdir().unwrap();
    let project = import(&cluster, dir.path());
    let RelTag { tablespace, database, relation } = rel.rel;
    let cut = [2, tablespace, database, relation, 7].map(u32::to_le_bytes).concat();
    let record = made_record(&project, &root(), (2, 0x20), None, &cut);
    let at = project.head(&root()).unwrap();
    let head = project.append_wal(&root(), TimelineId::new(1), at, &record).unwrap();
    let relations = project.state_at(&root(), head).unwrap().relations;
    let of_table: Vec<_> = relations.into_iter().filter(|(fork, _)| fork.rel == rel.rel).collect();
    assert_eq!(of_table, [(rel, 2)]);
}
