//! Two writers that both believe the project is theirs: whatever one is told is stored, the other's write does not undo.

use std::sync::Barrier;

use parking_lot::Condvar;

use super::tests::empty;
use super::*;
use crate::disk::System;
use crate::object::Local;
use crate::object::memory::Memory;

/// What two writers do.
#[derive(Clone, Copy)]
struct Plan {
    /// Times each takes the project over.
    sessions: usize,
    /// Changes it makes each time.
    changes: usize,
    /// Changes of turn; they are tried at every place.
    switches: usize,
}

/// Lets one of two writers run at a time; after given operations it is the other's turn.
struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    now: usize,
    done: usize,
    switches: Vec<usize>,
    gone: [bool; 2],
}

impl Turns {
    fn operation<T>(&self, writer: usize, act: impl FnOnce() -> T) -> T {
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| state.now != writer);
        let outcome = act();
        state.done += 1;
        if state.switches.contains(&state.done) && !state.gone[1 - writer] {
            state.now = 1 - writer;
            self.changed.notify_all();
        }
        outcome
    }

    fn leave(&self, writer: usize) {
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| state.now != writer);
        state.gone[writer] = true;
        state.now = 1 - writer;
        self.changed.notify_all();
    }
}

/// The objects as one writer reaches them. A list shows what is there from its beginning to its end and nothing that
/// comes or goes meanwhile, as a directory may.
struct Seat {
    writer: usize,
    turns: Arc<Turns>,
    objects: Arc<Memory>,
}

impl Seat {
    fn operation<T>(&self, act: impl FnOnce(&Memory) -> T) -> T {
        self.turns.operation(self.writer, || act(&self.objects))
    }
}

impl ObjectStore for Seat {
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.operation(|objects| objects.get(name))
    }

    fn get_range(&self, name: &str, at: u64, len: usize) -> Result<Vec<u8>> {
        self.operation(|objects| objects.get_range(name, at, len))
    }

    fn len(&self, name: &str) -> Result<Option<u64>> {
        self.operation(|objects| objects.len(name))
    }

    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<Put> {
        self.operation(|objects| objects.put_if_absent(name, bytes))
    }

    fn put_file_if_absent(&self, name: &str, file: &std::path::Path) -> Result<Put> {
        self.operation(|objects| objects.put_file_if_absent(name, file))
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let mut listed = self.operation(|objects| objects.list(prefix))?;
        let at_the_end = self.operation(|objects| objects.list(prefix))?;
        listed.retain(|name| at_the_end.contains(name));
        Ok(listed)
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.operation(|objects| objects.delete(name))
    }

    fn settle(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.operation(|objects| objects.settle(name))
    }
}

/// Takes the project over and draws numbers from it until another takes it over; gives the numbers it was told are
/// its own.
fn draw(plan: Plan, objects: &Arc<dyn ObjectStore>) -> Vec<u64> {
    let mut drawn = Vec::new();
    for _ in 0..plan.sessions {
        let store = match ManifestStore::open(objects.clone()) {
            Err(StoreError::Superseded { .. }) => continue,
            opened => opened.unwrap(),
        };
        for _ in 0..plan.changes {
            let number = store.commit(|manifest| {
                manifest.next_layer += 1;
                Ok(manifest.next_layer)
            });
            match number {
                Ok(number) => drawn.push(number),
                Err(StoreError::Superseded { .. }) => break,
                Err(error) => panic!("{error:?}"),
            }
        }
    }
    drawn
}

/// Runs both writers with the turn changing after these operations. Gives how many operations there were.
fn race(plan: Plan, first: usize, switches: &[usize]) -> usize {
    let objects = Arc::new(Memory::default());
    ManifestStore::create(objects.clone(), empty()).unwrap();
    let state = State { now: first, done: 0, switches: switches.to_vec(), gone: [false; 2] };
    let turns = Arc::new(Turns { state: Mutex::new(state), changed: Condvar::new() });
    let drawn = std::thread::scope(|scope| {
        let run = |writer| {
            let seat: Arc<dyn ObjectStore> =
                Arc::new(Seat { writer, turns: turns.clone(), objects: objects.clone() });
            let turns = turns.clone();
            scope.spawn(move || {
                let drawn = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| draw(plan, &seat)));
                turns.leave(writer);
                drawn.unwrap()
            })
        };
        [run(0), run(1)].map(|writer| writer.join().unwrap())
    });
    let last = ManifestStore::open(objects).unwrap().get().next_layer;
    let mut all = drawn.concat();
    all.sort_unstable();
    let distinct = all.windows(2).all(|pair| pair[0] < pair[1]);
    assert!(
        distinct && all.iter().all(|&number| number <= last),
        "{drawn:?} of {last}; turns {first} {switches:?}"
    );
    turns.state.lock().done
}

fn race_with_more(plan: Plan, first: usize, switches: &mut Vec<usize>, races: &mut usize) {
    let done = race(plan, first, switches);
    *races += 1;
    if switches.len() == plan.switches {
        return;
    }
    for next in switches.last().map_or(1, |last| last + 1)..done {
        switches.push(next);
        race_with_more(plan, first, switches, races);
        switches.pop();
    }
}

fn no_update_is_lost(plan: Plan) {
    let mut races = 0;
    for first in 0..2 {
        race_with_more(plan, first, &mut Vec::new(), &mut races);
    }
    eprintln!("{races} races");
    assert!(races > 10_000);
}

#[test]
fn however_two_writers_that_come_back_take_turns_no_update_is_lost() {
    no_update_is_lost(Plan { sessions: 2, changes: 1, switches: 3 });
}

#[test]
fn however_two_writers_that_go_on_take_turns_no_update_is_lost() {
    no_update_is_lost(Plan { sessions: 1, changes: 3, switches: 3 });
}

#[test]
fn of_two_processes_that_write_the_same_number_one_wins_and_its_bytes_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let open = || -> Arc<dyn ObjectStore> { Arc::new(Local::new(dir.path(), Arc::new(System)).unwrap()) };
    let processes = [open(), open()];
    ManifestStore::create(processes[0].clone(), empty()).unwrap();
    let barrier = Barrier::new(2);
    for _ in 0..500 {
        let (sequence, bytes) = newest(&*processes[0]).unwrap();
        let manifest = format::decode("newest", &bytes).unwrap();
        let write = |process: usize| {
            let store = ManifestStore::at(processes[process].clone(), sequence, manifest.clone());
            barrier.wait();
            store.commit(|manifest| {
                manifest.next_layer += 1 + process as u64;
                Ok(manifest.next_layer)
            })
        };
        let outcomes = std::thread::scope(|scope| {
            let other = scope.spawn(|| write(1));
            [write(0), other.join().unwrap()]
        });
        let found = format::decode("newest", &newest(&*processes[1]).unwrap().1).unwrap().next_layer;
        let [one, other] = &outcomes;
        match (one, other) {
            (Ok(won), Err(StoreError::Superseded { .. })) | (Err(StoreError::Superseded { .. }), Ok(won)) => {
                assert_eq!(found, *won);
            }
            outcomes => panic!("{outcomes:?}"),
        }
    }
}
