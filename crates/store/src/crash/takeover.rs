//! What a project does to one that believes itself in its place: a process that another has taken the project from, a
//! branch that another has taken the name of, and projects that share the descriptors of one process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;
use crate::core::flush;
use crate::error::ErrorKind;
use crate::object::memory::Memory;
use crate::object::{Local, ObjectStore};

/// A copy in memory of a project's objects.
fn in_memory(dir: &Path) -> Arc<dyn ObjectStore> {
    let (local, memory) = (Local::new(dir, Arc::new(System)).unwrap(), Memory::default());
    for prefix in ["manifest/", "layers/"] {
        for name in local.list(prefix).unwrap() {
            memory.put_if_absent(&name, &local.get(&name).unwrap().unwrap()).unwrap();
        }
    }
    Arc::new(memory)
}

#[test]
fn a_process_that_the_project_was_taken_from_acknowledges_nothing_and_changes_nothing() {
    let (data, top) = (data_dir(), scratch());
    drop(create(Arc::new(System), top.path(), data.path()));
    let dir = top.path().join("p");
    let objects = in_memory(&dir);
    let open = || Project::open_beside(&dir, objects.clone(), options()).unwrap();

    let older = open();
    let mut log = Log::imported();
    (0..3).for_each(|number| log.write(number, 5, false));
    let acknowledged = older.append_wal(&root(), log.timeline, log.from, &log.bytes).unwrap();
    let newer = open();
    log.write(3, 6, false);
    let late = || older.append_wal(&root(), log.timeline, acknowledged, log.rest(acknowledged)).map(|_| ());
    let outcomes = [
        ("append", late()),
        ("create", older.create_branch(&id("br-late"), &root(), acknowledged)),
        ("begin", older.begin_timeline(&root()).map(|_| ())),
        ("flush", older.flush()),
        ("append again", late()),
    ];
    for (what, outcome) in outcomes {
        let error = outcome.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Later, "{what}: {error:?}");
        let said = matches!(error, StoreError::Superseded { .. } | StoreError::FlushFailing { .. });
        assert!(said, "{what}: {error:?}");
    }
    assert_eq!(newer.head(&root()).unwrap(), acknowledged);
    assert_eq!(newer.branches().unwrap().len(), 1);
    newer.append_wal(&root(), log.timeline, acknowledged, log.rest(acknowledged)).unwrap();
    assert_eq!(value_of(&newer, &root(), log.end(), 3), 6);
    newer.flush().unwrap();
}

/// The flusher may hold a branch that is deleted while another takes its name.
#[test]
fn a_layer_of_a_deleted_branch_is_not_listed_for_the_next_of_its_name() {
    let (data, top) = (data_dir(), scratch());
    let project = create(Arc::new(System), top.path(), data.path());
    let mut log = Log::imported();
    log.write(0, 1, false);
    let start = project.append_wal(&root(), log.timeline, log.from, &log.bytes).unwrap();
    let mut world = World::new();
    let again = |project: &Project, world: &mut World| {
        project.create_branch(&id("br-a"), &root(), start).unwrap();
        let known =
            Known { start, writes: log.writes.clone(), log: None, acknowledged: start, killed: false };
        world.insert(id("br-a"), known);
        begin(project, &id("br-a"), world);
    };
    again(&project, &mut world);
    project.core.flushes.stop();
    let old = project.core.branch(&id("br-a")).unwrap();
    let first = world[&id("br-a")].log.clone().unwrap();
    let mut first = first;
    (0..2).for_each(|number| first.write(number, 66, true));
    project.append_wal(&id("br-a"), first.timeline, first.from, &first.bytes).unwrap();
    assert!(!old.view.read().frozen.is_empty(), "a memtable waits for the disk");

    project.delete_branch(&id("br-a")).unwrap();
    again(&project, &mut world);
    flush::flush_all(&project.core, &old).unwrap();
    let entry = project.core.manifests.get().branches["br-a"].clone();
    assert!(entry.layers.is_empty(), "{entry:?}");
    assert_eq!(value_of(&project, &id("br-a"), start, 0), 1);
    drop(project);
    let project = Project::open_on(Arc::new(System), &top.path().join("p"), options()).unwrap();
    assert_tidy(&project, &top.path().join("p"));
}

/// Each test has a process of its own, so its limit is nobody else's.
#[test]
fn projects_with_more_layers_than_the_process_may_open_files_are_read_and_written() {
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(48), ..before }).unwrap();
    let data = data_dir();
    let tops = [scratch(), scratch(), scratch()];
    let mut projects = Vec::new();
    for top in &tops {
        let project = create(Arc::new(System), top.path(), data.path());
        let mut log = Log::imported();
        for layer in 0..30 {
            let at = log.end();
            (0..2).for_each(|block| log.write(layer % 5 + 5 * block, u64::from(layer), true));
            project.append_wal(&root(), log.timeline, at, log.rest(at)).unwrap();
        }
        project.flush().unwrap();
        projects.push((project, log));
    }
    for (project, log) in &projects {
        for &(lsn, block, value) in &log.writes {
            assert_eq!(value_of(project, &root(), lsn, block), value);
        }
    }
    for (project, log) in &mut projects {
        let at = log.end();
        (0..4).for_each(|block| log.write(block, 99, true));
        project.append_wal(&root(), log.timeline, at, log.rest(at)).unwrap();
        project.flush().unwrap();
        assert_eq!(value_of(project, &root(), log.end(), 0), 99);
    }
    setrlimit(Resource::Nofile, before).unwrap();
}
