//! The WAL of one busy cluster, with its data files before and after.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use types::{ClusterState, Fork, RelFork, RelTag, SlruKind};
use wal::{ControlFile, WalFormat};

use crate::server::Server;

/// One line of `pg_waldump`.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    pub rmgr: String,
    /// What follows `desc:`; it begins with the record type's word.
    pub desc: String,
    pub len: usize,
    pub xid: u32,
    pub lsn: u64,
    pub prev: u64,
    pub blocks: Vec<String>,
}

/// What a data directory holds of what WAL describes. Unlogged relations are left out.
#[derive(Default)]
pub struct Files {
    pub relations: BTreeMap<RelFork, Vec<u8>>,
    pub unlogged: BTreeSet<RelTag>,
    pub slru: BTreeMap<(SlruKind, u32), Vec<u8>>,
    pub relmaps: BTreeMap<(u32, u32), Vec<u8>>,
    pub prepared: Vec<(u64, Vec<u8>)>,
}

pub struct Recorded {
    pub format: WalFormat,
    pub before: ClusterState,
    pub after: ClusterState,
    pub files_before: Files,
    pub files_after: Files,
    pub waldump: Vec<Line>,
    wal: Vec<u8>,
    wal_start: u64,
}

impl Recorded {
    /// At most `len` bytes of WAL from `at` on.
    pub fn wal_at(&self, at: u64, len: usize) -> &[u8] {
        let rest = &self.wal[(at - self.wal_start) as usize..];
        &rest[..len.min(rest.len())]
    }
}

/// The recording; `None`, and said so, if the release is not there.
pub fn recorded() -> Option<Recorded> {
    if crate::server::is_installed() {
        return Some(record());
    }
    let release = crate::RELEASE;
    let why = format!("there is no PostgreSQL {release}; scripts/postgres-majors {release} installs it");
    oracle::skips::skipped(release, &why);
    None
}

fn record() -> Recorded {
    let mut server = Server::initdb();
    let data = server.data();
    let control = read_control(&data);
    let files_before = read_files(&data);
    first_run(&mut server);
    second_run(&mut server);
    crash_run(&mut server);
    let after = read_control(&data);
    let (wal, wal_start, first, last) = read_wal(&data, control.segment_bytes);
    Recorded {
        format: control.format(),
        before: control.cluster_state().unwrap(),
        after: after.cluster_state().unwrap(),
        files_before,
        files_after: read_files(&data),
        waldump: server.waldump(&first, &last).lines().map(parse_line).collect(),
        wal,
        wal_start,
    }
}

/// Only Debian's server was built with other compressions than Postgres's own.
fn compression(wanted: &str) -> &'static str {
    match wanted {
        "lz4" if crate::RELEASE == "15" => "wal_compression=lz4",
        "zstd" if crate::RELEASE == "15" => "wal_compression=zstd",
        _ => "wal_compression=pglz",
    }
}

/// Statements with records of their own; full-page images compressed with LZ4 where the server can.
fn first_run(server: &mut Server) {
    server.start(&["wal_level=replica", "max_prepared_transactions=10", compression("lz4")]);
    server.pgbench(&["-i", "-q"]);
    server.sql(
        "create table s (id int primary key, t text);
         create unlogged table u (id int primary key); insert into u select generate_series(1, 1000);
         create temp table tt as select generate_series(1, 1000) as id;
         do $$ begin for i in 1..35000 loop
           begin insert into s values (i, 'x'); exception when others then null; end;
         end loop; end $$;
         begin; savepoint a; insert into s values (-1); savepoint b; insert into s values (-2);
           rollback to a; insert into s values (-3); commit;
         begin; insert into s values (-4); rollback;
         begin; insert into s values (-7); create table p (id int); prepare transaction 'gone';
         begin; insert into s values (-8); prepare transaction 'done';
         rollback prepared 'gone'; commit prepared 'done';
         create index on s using gin (to_tsvector('english', t)); create index on s using hash (t);
         create index on s using brin (id); create index on s using gist (point(id, id));
         create index on s using spgist (t);
         create sequence q; select count(nextval('q')) from generate_series(1, 100);",
    );
    server.sql(
        "vacuum freeze s; update s set t = 'y' where id % 100 = 0; delete from s where id > 20000; vacuum s;
         vacuum (index_cleanup off) s; truncate s; insert into s select g, 'z' from generate_series(1, 5000) g;
         vacuum freeze s; select count(*) from (select * from s where id < 100 for update) l;
         drop table u; create unlogged table u2 (id int primary key); insert into u2 values (1);
         create materialized view m as select * from s; refresh materialized view m; drop materialized view m;
         create database copied strategy file_copy; create database logged strategy wal_log;
         create database gone strategy file_copy; drop database gone; vacuum full pg_class; checkpoint;
         set allow_in_place_tablespaces = on; create tablespace ts location '';
         create table in_ts (id int) tablespace ts; insert into in_ts values (1);
         select pg_create_restore_point('here'); select pg_switch_wal();
         create table after_switch as select generate_series(1, 10); select pg_logical_emit_message(true, 'a', 'b');",
    );
    server.stop();
}

/// Row locks by several sessions at once, commit timestamps; images compressed with pglz.
fn second_run(server: &mut Server) {
    server.start(&[
        "max_prepared_transactions=10",
        "wal_compression=pglz",
        "track_commit_timestamp=on",
        "max_connections=40",
    ]);
    let script = server.write(
        "lock.sql",
        "begin; select * from s where id = 1 for key share; select * from s where id = 2 for share;
         update pgbench_branches set bbalance = bbalance + 1; end;\n",
    );
    server.pgbench(&["-n", "-c", "6", "-j", "2", "-t", "500", "-f", &script]);
    server.pgbench(&["-n", "-c", "4", "-t", "200"]);
    updated_row_is_locked(server);
    server.sql("vacuum; checkpoint; update pgbench_accounts set abalance = 1 where aid % 50 = 0;");
    server.stop();
}

/// A row that one session updates without its key while others lock it: the updated version is locked too.
fn updated_row_is_locked(server: &Server) {
    let holder =
        server.psql("begin; select * from s where id = 7 for key share; select pg_sleep(2); commit;");
    std::thread::sleep(Duration::from_millis(500));
    server.sql("update s set t = 'w' where id = 7;");
    let reader = "begin isolation level repeatable read; select count(*) from s;
                  select pg_sleep(1); select * from s where id = 8 for key share; commit;";
    let reader = server.psql(reader);
    std::thread::sleep(Duration::from_millis(300));
    server.sql("update s set t = 'w' where id = 8;");
    for session in [holder, reader] {
        assert!(session.wait_with_output().unwrap().status.success());
    }
}

/// Kills the server while it writes large records, then uses it again; images compressed with zstd, then not at all.
fn crash_run(server: &mut Server) {
    let settings = ["max_prepared_transactions=10", "track_commit_timestamp=on"];
    for round in 0..3 {
        server.start(&[&settings[..], &[compression("zstd")]].concat());
        let write =
            "select pg_logical_emit_message(false, 'x', repeat('x', 700000)) from generate_series(1, 60);
                     update pgbench_accounts set abalance = 2 where aid % 7 = 0;";
        let writers: Vec<_> = (0..3).map(|_| server.psql(write)).collect();
        std::thread::sleep(Duration::from_millis(150 + 50 * round));
        server.kill();
        for writer in writers {
            let _ = writer.wait_with_output().unwrap();
        }
    }
    server.start(&[&settings[..], &["wal_compression=off"]].concat());
    server.sql(
        "update s set t = 'v' where id % 3 = 0; vacuum freeze; insert into s values (-9);
         begin; insert into s values (-5); savepoint c; insert into s values (-6); prepare transaction 'kept';",
    );
    server.stop();
}

fn read_control(data: &Path) -> ControlFile {
    ControlFile::parse(&std::fs::read(data.join("global/pg_control")).unwrap()).unwrap()
}

fn read_wal(data: &Path, segment_bytes: u64) -> (Vec<u8>, u64, String, String) {
    let mut names: Vec<String> = file_names(&data.join("pg_wal"));
    names.retain(|name| name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let number = |name: &str| {
        (u64::from_str_radix(&name[8..16], 16).unwrap() << 32)
            + u64::from_str_radix(&name[16..], 16).unwrap() * segment_bytes
    };
    let start = number(&names[0]);
    let mut bytes = Vec::new();
    for name in &names {
        assert_eq!(number(name), start + bytes.len() as u64, "a segment is missing");
        bytes.extend(std::fs::read(data.join("pg_wal").join(name)).unwrap());
    }
    (bytes, start, names[0].clone(), names[names.len() - 1].clone())
}

fn file_names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn read_files(data: &Path) -> Files {
    let mut files = Files::default();
    read_directory(&mut files, &data.join("global"), 1664, 0);
    read_databases(&mut files, &data.join("base"), 1663);
    for tablespace in file_names(&data.join("pg_tblspc")) {
        let oid = tablespace.parse().unwrap();
        for version in file_names(&data.join("pg_tblspc").join(&tablespace)) {
            read_databases(&mut files, &data.join("pg_tblspc").join(&tablespace).join(version), oid);
        }
    }
    let unlogged = std::mem::take(&mut files.unlogged);
    files.relations.retain(|rel, _| rel.fork == Fork::Init || !unlogged.contains(&rel.rel));
    files.unlogged = unlogged;
    for kind in SlruKind::ALL {
        for name in file_names(&data.join(kind.directory())) {
            let first = u32::from_str_radix(&name, 16).unwrap() * 32;
            let bytes = std::fs::read(data.join(kind.directory()).join(&name)).unwrap();
            let pages = (first..).zip(bytes.chunks(8192));
            files.slru.extend(pages.map(|(page, bytes)| ((kind, page), bytes.to_vec())));
        }
    }
    for name in file_names(&data.join("pg_twophase")) {
        let bytes = std::fs::read(data.join("pg_twophase").join(&name)).unwrap();
        let xid = u64::from_str_radix(&name, 16).unwrap() & u64::from(u32::MAX);
        files.prepared.push((xid, bytes[..bytes.len() - 4].to_vec()));
    }
    files
}

fn read_databases(files: &mut Files, dir: &Path, tablespace: u32) {
    for name in file_names(dir) {
        if let Ok(database) = name.parse() {
            read_directory(files, &dir.join(name), tablespace, database);
        }
    }
}

/// No relation here is as long as a segment file.
fn read_directory(files: &mut Files, dir: &Path, tablespace: u32, database: u32) {
    for name in file_names(dir) {
        let bytes = || std::fs::read(dir.join(&name)).unwrap();
        if name == "pg_filenode.map" {
            files.relmaps.insert((tablespace, database), bytes());
            continue;
        }
        let (number, suffix) = name.split_at(name.find('_').unwrap_or(name.len()));
        let Ok(relation) = number.parse() else { continue };
        let Some(fork) = Fork::ALL.into_iter().find(|fork| fork.suffix() == suffix) else { continue };
        let rel = RelTag { tablespace, database, relation };
        if fork == Fork::Init {
            files.unlogged.insert(rel);
        }
        if fork != Fork::FreeSpace {
            files.relations.insert(RelFork { rel, fork }, bytes());
        }
    }
}

fn parse_line(line: &str) -> Line {
    let field = |name: &str| -> String {
        let rest = &line[line.find(name).unwrap_or_else(|| panic!("no {name} in {line}")) + name.len()..];
        rest.trim_start().split([',', ' ']).next().unwrap().to_owned()
    };
    let lsn = |text: String| text.parse::<types::Lsn>().map_or(0, types::Lsn::raw);
    let total = &line[line.find('/').unwrap() + 1..];
    let total = &total[total.find('/').unwrap() + 1..];
    let blocks = line.split(", blkref #").skip(1).map(|block| {
        let block = block.split_once(": ").unwrap().1;
        block.split([',', ';', '(']).next().unwrap().trim().to_owned()
    });
    Line {
        rmgr: field("rmgr:"),
        desc: line.split_once("desc: ").unwrap().1.to_owned(),
        len: total.trim_start().split(',').next().unwrap().parse().unwrap(),
        xid: field("tx:").parse().unwrap(),
        lsn: lsn(field("lsn:")),
        prev: lsn(field("prev")),
        blocks: blocks.collect(),
    }
}
