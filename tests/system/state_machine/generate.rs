//! Which operation is next: most of them allowed, some of them not.
//!
//! What keeps a run fast: few endpoints run at a time, and branches, snapshots and schedules stay few.

use fastrand::Rng;
use types::Lsn;

use crate::state_machine::model::{Branch, Key, Model};
use crate::state_machine::operation::{At, Change, NOBODY, Noise, Op, Victim};

/// The most endpoints that run.
const RUNNING_MAX: usize = 6;
/// The most live branches, of which there are fewer in some runs, so that what is done meets what was done before.
const LIVE_MAX: std::ops::RangeInclusive<usize> = 8..=22;
/// The most deleted branches, snapshots and schedules.
const DELETED_MAX: usize = 6;
const SNAPSHOTS_MAX: usize = 6;
const SCHEDULES_MAX: usize = 3;
/// The most rows of one branch.
const ROWS_MAX: usize = 20_000;

/// Draws operations. What is drawn depends on the seed, the step, and what the model is by then.
pub struct Generator {
    seed: u64,
    rng: Rng,
    step: u64,
    live_max: usize,
}

/// A way to draw an operation; `None` if there is nothing to do it on.
type Draw = fn(&mut Generator, &mut Model) -> Option<Op>;

/// How often each kind is drawn.
const DRAWS: [(u32, Draw); 28] = [
    (22, Generator::write),
    (13, Generator::create),
    (6, Generator::reset),
    (8, Generator::restore),
    (3, Generator::rename),
    (3, |it, model| Some(Op::Protect { branch: it.branch(model), on: it.rng.u8(..3) == 0 })),
    (2, |it, model| Some(Op::SetDefault { branch: it.branch(model) })),
    (4, Generator::expire),
    (7, Generator::delete),
    (4, Generator::recover),
    (4, |it, model| Some(Op::CreateEndpoint { branch: it.branch(model) })),
    (2, |it, model| Some(Op::DeleteEndpoint { branch: it.with_endpoint(model) })),
    (4, |it, model| Some(Op::Start { branch: it.with_endpoint(model) })),
    (4, |it, model| Some(Op::Suspend { branch: it.with_endpoint(model) })),
    (5, Generator::snapshot),
    (1, |it, model| Some(Op::RenameSnapshot { snapshot: it.snapshot_key(model), name: it.name("s") })),
    (2, |it, model| Some(Op::DeleteSnapshot { snapshot: it.snapshot_key(model) })),
    (4, Generator::restore_snapshot),
    (4, Generator::finalize),
    (2, Generator::create_schedule),
    (3, |it, model| Some(Op::RunSchedule { schedule: it.schedule_key(model) })),
    (2, |it, model| Some(Op::SetBackups { branch: it.branch(model), on: it.rng.u8(..4) > 0 })),
    (2, |it, model| Some(Op::Load { branch: it.running(model)? })),
    (8, Generator::kill),
    (2, |it, model| Some(Op::ExpireNow { branch: it.branch(model), away: it.rng.bool() })),
    (1, |it, model| Some(Op::ExpireSnapshot { snapshot: it.snapshot_key(model) })),
    (1, |it, model| Some(Op::MissRun { schedule: it.choose(model.schedules.keys().copied().collect())? })),
    (1, |_, model| model.branches.values().any(|it| it.backups).then_some(Op::MissBackups)),
];

impl Generator {
    pub fn new(seed: u64) -> Self {
        let live_max = Rng::with_seed(seed).usize(LIVE_MAX);
        Self { seed, rng: Rng::new(), step: 0, live_max }
    }

    /// The next operation.
    pub fn next(&mut self, model: &mut Model) -> Op {
        self.step += 1;
        // What was drawn for one step does not move what is drawn for the next.
        self.rng.seed(self.seed ^ self.step.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        if let Some(op) = self.make_room(model) {
            return op;
        }
        loop {
            let Some(op) = self.draw(model) else { continue };
            if !is_plain(&op, model) {
                return op;
            }
            match self.rng.u8(..24) {
                0 | 1 => {
                    // Most requests take a few milliseconds.
                    let root = self.rng.u64(..22);
                    return Op::Interrupt { op: Box::new(op), after_ms: root * root };
                }
                2 | 3 => {
                    let other = self.draw(model).filter(|it| is_plain(it, model));
                    let Some(other) = other else { continue };
                    // Where a branch has other data by then, a place in its log means something else.
                    if [(&op, &other), (&other, &op)]
                        .iter()
                        .any(|(a, b)| a.has_place() && b.gives_other_data())
                    {
                        continue;
                    }
                    let gap_ms = self.rng.u64(..100);
                    return Op::Together { ops: [Box::new(op), Box::new(other)], gap_ms };
                }
                _ => return op,
            }
        }
    }

    fn draw(&mut self, model: &mut Model) -> Option<Op> {
        let all: u32 = DRAWS.iter().map(|(weight, _)| weight).sum();
        let mut at = self.rng.u32(..all);
        for (weight, draw) in DRAWS {
            if at < weight {
                return draw(self, model);
            }
            at -= weight;
        }
        None
    }

    /// Something is removed if there is too much of it.
    fn make_room(&mut self, model: &Model) -> Option<Op> {
        let running = keys(model, |branch| branch.live() && branch.runs());
        if running.len() > RUNNING_MAX {
            return Some(Op::Suspend { branch: self.choose(running)? });
        }
        let live = keys(model, Branch::live);
        if live.len() > self.live_max && self.rng.bool() {
            let branch = self.choose(keys(model, |it| it.live() && !it.default && !it.protected))?;
            return Some(Op::Delete { branch, recursive: true, hard: self.rng.bool() });
        }
        let deleted = keys(model, |branch| !branch.live());
        if deleted.len() > DELETED_MAX {
            return Some(Op::Delete { branch: self.choose(deleted)?, recursive: false, hard: true });
        }
        if model.snapshots.len() > SNAPSHOTS_MAX {
            return Some(Op::DeleteSnapshot {
                snapshot: self.choose(model.snapshots.keys().copied().collect())?,
            });
        }
        if model.schedules.len() > SCHEDULES_MAX {
            return Some(Op::DeleteSchedule {
                schedule: self.choose(model.schedules.keys().copied().collect())?,
            });
        }
        None
    }

    fn choose(&mut self, keys: Vec<Key>) -> Option<Key> {
        self.rng.choice(keys)
    }

    /// A live branch, or rarely one that is not.
    fn branch(&mut self, model: &Model) -> Key {
        match self.rng.u8(..40) {
            0 => NOBODY,
            1 | 2 => self.choose(keys(model, |_| true)).unwrap_or(NOBODY),
            3..18 => {
                let special = special(model);
                let special = if special.is_empty() { keys(model, Branch::live) } else { special };
                self.choose(special).unwrap_or(NOBODY)
            }
            _ => self.choose(keys(model, Branch::live)).unwrap_or(NOBODY),
        }
    }

    fn running(&mut self, model: &Model) -> Option<Key> {
        self.choose(keys(model, |branch| branch.live() && branch.runs()))
    }

    fn with_endpoint(&mut self, model: &Model) -> Key {
        let some = self.choose(keys(model, |branch| branch.endpoint.is_some()));
        some.filter(|_| self.rng.u8(..20) > 0).unwrap_or(NOBODY)
    }

    fn snapshot_key(&mut self, model: &Model) -> Key {
        let some = self.choose(model.snapshots.keys().copied().collect());
        some.filter(|_| self.rng.u8(..20) > 0).unwrap_or(NOBODY)
    }

    fn schedule_key(&mut self, model: &Model) -> Key {
        let some = self.choose(model.schedules.keys().copied().collect());
        some.filter(|_| self.rng.u8(..20) > 0).unwrap_or(NOBODY)
    }

    /// A new name, or rarely one that may be taken.
    fn name(&mut self, kind: &str) -> String {
        let step = if self.rng.u8(..12) == 0 { self.rng.u64(..=self.step) } else { self.step };
        format!("{kind}{step}")
    }

    /// Where something of `source` may begin.
    fn at(&mut self, model: &Model, source: Key) -> At {
        let Some(data) = model.branches.get(&source).map(|branch| &model.data[&branch.data]) else {
            return At::Head;
        };
        match self.rng.u8(..10) {
            0..4 => At::Head,
            4..8 => match self.rng.choice(data.places()) {
                None => At::Head,
                Some((point, from, upto)) => {
                    let raw = match self.rng.u8(..4) {
                        0 => from.raw(),
                        1 => upto.raw(),
                        _ => self.rng.u64(from.raw()..=upto.raw()),
                    };
                    At::Lsn { point, lsn: Lsn::from_raw(raw).expect("it is not before a position") }
                }
            },
            8 => match self.rng.choice(data.times()) {
                None => At::Head,
                Some((point, time)) => At::Time { point, time },
            },
            _ if self.rng.u8(..3) > 0 => At::Head,
            _ => {
                let ahead = Lsn::MAX.raw() / 2;
                At::Nowhere(
                    Lsn::from_raw(if self.rng.bool() { 1 << 16 } else { ahead }).expect("it is not zero"),
                )
            }
        }
    }

    fn write(&mut self, model: &mut Model) -> Option<Op> {
        let branch = self.running(model)?;
        let many = self.rng.u8(..12) == 0;
        let count = if many { self.rng.i64(500..3000) } else { self.rng.i64(1..20) };
        let first = model.take_seqs(count);
        let token = |it: &mut Self| it.rng.i64(0..1 << 40);
        let mut puts: Vec<(i64, i64)> = (first..first + count).map(|seq| (seq, token(self))).collect();
        let known: Vec<i64> = model.data_of(branch).rows().keys().copied().collect();
        let mut removes = Vec::new();
        for _ in 0..self.rng.usize(..8) {
            let Some(seq) = self.rng.choice(known.iter().copied()) else { break };
            if self.rng.bool() {
                removes.push(seq);
            } else if !puts.iter().any(|row| row.0 == seq) {
                puts.push((seq, token(self)));
            }
        }
        if known.len() > ROWS_MAX {
            removes.extend(known.iter().step_by(2));
        }
        let noises = [Noise::None, Noise::Rollback, Noise::Savepoint, Noise::Vacuum, Noise::Table];
        let noise = noises[self.rng.usize(..noises.len())];
        Some(Op::Write { branch, change: Change { puts, removes, noise } })
    }

    fn create(&mut self, model: &mut Model) -> Option<Op> {
        let parent = if self.rng.u8(..4) == 0 { None } else { Some(self.branch(model)) };
        let schema_only = self.rng.u8(..20) == 0;
        Some(Op::Create {
            name: self.name("b"),
            parent,
            at: self.at(model, parent.unwrap_or_else(|| model.default_branch())),
            endpoint: self.rng.u8(..5) > 1,
            protected: self.rng.u8(..15) == 0,
            expires: self.rng.u8(..10) == 0,
            schema_only,
        })
    }

    fn reset(&mut self, model: &mut Model) -> Option<Op> {
        let branch = self.branch(model);
        let source = model.branches.get(&branch)?.parent?;
        let keep_as = (self.rng.u8(..4) == 0 || !model.children(branch).is_empty()).then(|| self.name("k"));
        Some(Op::Restore { branch, source, at: At::Head, keep_as: keep_as.filter(|_| self.rng.u8(..10) > 0) })
    }

    fn restore(&mut self, model: &mut Model) -> Option<Op> {
        let branch = self.branch(model);
        let source = if self.rng.u8(..5) < 2 { branch } else { self.branch(model) };
        let keep = source == branch || !model.children(branch).is_empty() || self.rng.bool();
        let keep_as = (keep && self.rng.u8(..12) > 0).then(|| self.name("k"));
        Some(Op::Restore { branch, source, at: self.at(model, source), keep_as })
    }

    fn rename(&mut self, model: &mut Model) -> Option<Op> {
        Some(Op::Rename { branch: self.branch(model), name: self.name("b") })
    }

    /// A branch without children, or rarely another one.
    fn leaf(&mut self, model: &Model) -> Option<Key> {
        let leaves = keys(model, |branch| branch.live() && !branch.default);
        let mut leaves: Vec<Key> = leaves.into_iter().filter(|key| model.children(*key).is_empty()).collect();
        match self.rng.u8(..3) {
            0 => return Some(self.branch(model)),
            1 => {
                let special = special(model);
                leaves.retain(|key| special.contains(key));
            }
            _ => {}
        }
        self.choose(leaves)
    }

    fn expire(&mut self, model: &mut Model) -> Option<Op> {
        Some(Op::Expire { branch: self.leaf(model)?, on: self.rng.u8(..3) > 0 })
    }

    fn delete(&mut self, model: &mut Model) -> Option<Op> {
        let branch = self.leaf(model)?;
        Some(Op::Delete { branch, recursive: self.rng.u8(..4) == 0, hard: self.rng.u8(..3) == 0 })
    }

    fn recover(&mut self, model: &mut Model) -> Option<Op> {
        let branch = match self.choose(keys(model, |branch| !branch.live())) {
            Some(branch) if self.rng.u8(..8) > 0 => branch,
            _ => self.branch(model),
        };
        let name = self.rng.bool().then(|| self.name("r"));
        Some(Op::Recover { branch, name })
    }

    fn snapshot(&mut self, model: &mut Model) -> Option<Op> {
        let branch = self.branch(model);
        Some(Op::Snapshot { branch, at: self.at(model, branch), name: self.name("s") })
    }

    fn restore_snapshot(&mut self, model: &mut Model) -> Option<Op> {
        Some(Op::RestoreSnapshot {
            snapshot: self.snapshot_key(model),
            name: self.rng.bool().then(|| self.name("b")),
            target: (self.rng.u8(..3) == 0).then(|| self.branch(model)),
            endpoint: self.rng.u8(..5) > 1,
            finalize: self.rng.u8(..4) == 0,
        })
    }

    fn finalize(&mut self, model: &mut Model) -> Option<Op> {
        let restored =
            keys(model, |branch| branch.live() && branch.restored_as.is_some() && !branch.finalized);
        let branch = if self.rng.u8(..10) == 0 { self.branch(model) } else { self.choose(restored)? };
        Some(Op::Finalize { branch, name: self.rng.bool().then(|| self.name("o")) })
    }

    fn create_schedule(&mut self, model: &mut Model) -> Option<Op> {
        let row = self.rng.bool().then(|| (model.take_seqs(1), self.rng.i64(0..1 << 40)));
        let parent = self.rng.bool().then(|| self.branch(model));
        Some(Op::CreateSchedule { name: self.name("c"), parent, endpoint: self.rng.bool(), row })
    }

    fn kill(&mut self, model: &mut Model) -> Option<Op> {
        let branch = self.running(model)?;
        let victim = match self.rng.u8(..8) {
            0 | 1 => Victim::Postgres,
            2 => Victim::Backend(self.rng.usize(..8)),
            3 => Victim::Compute,
            4 => Victim::Endpoint,
            5 | 6 => Victim::Serve,
            _ => Victim::Everything,
        };
        Some(Op::Kill { branch, victim, writing: self.rng.bool() })
    }
}

/// Whether it is one request that shows in what is listed when it is done.
fn is_plain(op: &Op, model: &Model) -> bool {
    let shows_later = matches!(op, Op::ExpireNow { .. } | Op::ExpireSnapshot { .. } | Op::SetBackups { .. });
    op.request(model).is_some() && !shows_later
}

/// Live branches of which more than usual must stay true.
fn special(model: &Model) -> Vec<Key> {
    let waits = |branch: &Branch| branch.live() && branch.restored_as.is_some() && !branch.finalized;
    let places: Vec<Key> =
        model.branches.values().filter(|it| waits(it)).filter_map(|it| it.restored_as).collect();
    let below: Vec<Key> =
        model.branches.values().filter(|it| !it.live()).filter_map(|it| it.parent).collect();
    let states = keys(model, |it| it.default || it.expires || it.protected || it.backups || waits(it));
    let all = [places, below, states].concat();
    all.into_iter().filter(|key| model.live(*key).is_some()).collect()
}

fn keys(model: &Model, wanted: impl Fn(&Branch) -> bool) -> Vec<Key> {
    model.branches.iter().filter(|(_, branch)| wanted(branch)).map(|(key, _)| *key).collect()
}
