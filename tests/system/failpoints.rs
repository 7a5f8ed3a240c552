//! The server is killed after every step of every operation: what was asked for is then done or it is not, and nothing is
//! left of it that belongs to nobody.
//!
//! Nobody lists the steps. An operation is asked for again and again, to be killed at its first step, its second and so
//! on, until it is done before that; so a step that is added is tried, too. The server writes down which steps it knows
//! (`crates/server/src/failpoint.rs`), and one that no operation took fails the test.
//!
//! Some are also asked to fail there and not to die: what a request began is undone by itself then, and the same request,
//! with the same key, does it.
//!
//! A build for release has no failpoints, and the test says so.

mod by_itself;
mod operations;
mod world;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use api::routes::{Method, ROUTES};
use operations::{BRANCHES, OTHERS, Operation, Request};
use scion_tests::process;
use scion_tests::server::{abandoned_shared_memory, assert_abandoned_no_more_than};
use serde_json::Value;
use world::World;

/// No operation has more steps.
const STEPS_MAX: usize = 60;
/// Routes that change something and are tried elsewhere, or as another.
const UNTRIED: [&str; 5] = [
    // The end of the server itself.
    "shutdown",
    // Those of a server's keys, by another path.
    "createOrgApiKey",
    "revokeOrgApiKey",
    // A branch whose log is stuck is made by damage, in the tests of the store (`ingest`).
    "retryBranchLog",
    "endBranchLog",
];
/// The requests of all operations, by method and path.
static TRIED: Mutex<BTreeSet<(String, String)>> = Mutex::new(BTreeSet::new());
/// How long an operation may take until it is killed.
const KILLED_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn an_operation_that_a_crash_ends_is_done_or_undone_whichever_step_that_was_after() {
    let abandoned = abandoned_shared_memory();
    let taken = std::thread::scope(|scope| {
        let groups = [
            scope.spawn(|| with_world(|world| try_all(world, BRANCHES))),
            scope.spawn(|| {
                with_world(|world| {
                    try_all(world, OTHERS);
                    FAILING.iter().for_each(|name| try_failure(world, name));
                })
            }),
            scope.spawn(|| with_world(by_itself::try_all)),
        ];
        groups.into_iter().flat_map(|it| it.join().unwrap()).collect::<Vec<String>>()
    });
    let of = |how: &str| -> BTreeSet<String> {
        let lines = taken.iter().filter(|line| line.starts_with(how));
        lines.filter_map(|line| line.split_once(": ")).map(|(_, step)| step.to_owned()).collect()
    };
    let never: Vec<_> = of("known").difference(&of("killed")).cloned().collect();
    assert!(never.is_empty(), "no operation was killed where {never:?}");
    if !taken.is_empty() {
        assert_every_route_was_tried();
    }
    assert_abandoned_no_more_than(&abandoned);
}

/// The steps that a server took meanwhile.
fn with_world(work: impl FnOnce(&mut World)) -> Vec<String> {
    let mut world = World::new();
    if !world.has_failpoints() {
        process::skipped("failpoints", "this scion was built for release, and has no failpoints");
        return Vec::new();
    }
    work(&mut world);
    world.steps()
}

fn try_all(world: &mut World, operations: &[Operation]) {
    for operation in operations {
        let began = Instant::now();
        let kills = try_operation(world, operation);
        println!("{:>6.1} s  {kills:>2} kills  {}", began.elapsed().as_secs_f64(), operation.name);
    }
}

/// Operations whose endpoint is also let down.
const FAILING: [&str; 4] =
    ["create a branch that runs", "create an endpoint", "reset a branch that runs", "restore a snapshot"];

/// Lets an operation fail where its endpoint has just been started.
fn try_failure(world: &mut World, name: &str) {
    let operation = BRANCHES.iter().chain(OTHERS).find(|it| it.name == name).unwrap();
    let before = world.steps().len();
    let undisturbed = undisturbed(world, operation);
    let log = world.steps().split_off(before);
    let text = "an endpoint accepts connections";
    let taken = log.iter().rfind(|line| line.starts_with("passed request") && line.ends_with(text));
    let taken = taken.unwrap_or_else(|| panic!("{name} never comes to where {text}"));
    let step = taken.split_once(": ").unwrap().0.rsplit(' ').next().unwrap();
    let mut request = prepared(world, operation);
    request.headers.push(("Idempotency-Key", format!("failing {name}")));
    let headers = [("Scion-Failpoint", format!("fail {step}"))];
    let (status, body) = ask_with(world, &request, &headers).unwrap();
    assert!(status >= 500, "{name}: {status} {body}");
    check(world, &request, &undisturbed, &format!("{name}, failed at step {step}"));
    world.clean();
}

/// What an operation does when nothing is in its way.
struct Undisturbed {
    before: Value,
    after: Value,
    /// The status of the answer to the same request when it was done, and what there is then.
    again: (u16, Value),
}

fn try_operation(world: &mut World, operation: &Operation) -> usize {
    let name = operation.name;
    let undisturbed = undisturbed(world, operation);
    for step in 1..=STEPS_MAX {
        let request = prepared(world, operation);
        world.settled(&[&undisturbed.before], &format!("{name}: what it needs"));
        let Some((status, body)) = ask(world, &request, Some(step)) else {
            world.scion.wait_for_its_end(KILLED_WITHIN);
            world.scion.relaunch();
            check(world, &request, &undisturbed, &format!("{name}, {}", world.last_kill()));
            continue;
        };
        assert!((200..300).contains(&status), "{name}: {status} {body}");
        world.settled(&[&undisturbed.after], name);
        world.clean();
        return step - 1;
    }
    panic!("{name} has more than {STEPS_MAX} steps");
}

fn undisturbed(world: &World, operation: &Operation) -> Undisturbed {
    let request = prepared(world, operation);
    let before = world.now();
    let (status, body) = ask(world, &request, None).unwrap();
    assert!((200..300).contains(&status), "{}: {status} {body}", operation.name);
    let after = world.now();
    let (status, _) = ask(world, &request, None).unwrap();
    assert!(status < 500, "{}: {status} the second time", operation.name);
    let again = (status, world.now());
    Undisturbed { before, after, again }
}

fn prepared(world: &World, operation: &Operation) -> Request {
    world.clean();
    let request = (operation.prepare)(world);
    TRIED.lock().unwrap().insert((request.method.to_uppercase(), request.path.clone()));
    request
}

/// Every route that changes something is that of an operation.
fn assert_every_route_was_tried() {
    let tried = TRIED.lock().unwrap();
    let untried = ROUTES.iter().filter(|route| route.method != Method::Get).filter(|route| {
        let method = format!("{:?}", route.method).to_uppercase();
        let is_it = |path: &str| {
            let path = path.split('?').next().unwrap_or_default();
            let mut parts = route.path.split('/').zip(path.split('/'));
            route.path.split('/').count() == path.split('/').count()
                && parts.all(|(of_route, part)| of_route.starts_with('{') || of_route == part)
        };
        !tried.iter().any(|(with, path)| *with == method && is_it(path))
    });
    let untried: Vec<&str> = untried.map(|route| route.id).filter(|id| !UNTRIED.contains(id)).collect();
    assert!(untried.is_empty(), "no operation of `operations.rs` is of the routes {untried:?}");
}

fn ask(world: &World, request: &Request, step: Option<usize>) -> Option<(u16, Value)> {
    let step = step.map(|step| ("Scion-Failpoint", step.to_string()));
    ask_with(world, request, step.as_slice())
}

fn ask_with(world: &World, request: &Request, more: &[(&'static str, String)]) -> Option<(u16, Value)> {
    let headers = [request.headers.as_slice(), more].concat();
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    world.scion.api().ask_with(request.method, &request.path, &headers, &request.body)
}

/// It is done or undone, and the same request makes it done.
fn check(world: &World, request: &Request, undisturbed: &Undisturbed, when: &str) {
    let done = world.settled(&[&undisturbed.before, &undisturbed.after], when) == 1;
    let (status, body) = ask(world, request, None).unwrap();
    if done {
        assert_eq!(status, undisturbed.again.0, "{when}: it was done, but the same request: {body}");
        world.settled(&[&undisturbed.again.1], &format!("{when}, asked for again"));
    } else {
        assert!((200..300).contains(&status), "{when}: it was undone, but the same request: {status} {body}");
        world.settled(&[&undisturbed.after], &format!("{when}, asked for again"));
    }
}
