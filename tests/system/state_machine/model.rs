//! What the server should be: branches and all that belongs to them after each operation.
//!
//! One slow, obvious definition. It knows nothing of processes, files, or time: a key is the number of a thing in the
//! order it was made, and ids are learned when the API shows them.
//!
//! What must hold: `apply` changes nothing if it gives a refusal, but that `run_schedule` notes that its run failed.

use std::collections::{BTreeMap, BTreeSet};

use crate::state_machine::history::{Data, Point, Rows};
use crate::state_machine::operation::{At, Op};

/// The number of a thing in the order it was made.
pub type Key = usize;

/// Statuses that a request may be refused with: one for each rule that it breaks.
pub type Refusals = BTreeSet<u16>;

/// What the server should be.
#[derive(Clone, Default)]
pub struct Model {
    pub branches: BTreeMap<Key, Branch>,
    pub snapshots: BTreeMap<Key, Snapshot>,
    pub schedules: BTreeMap<Key, Schedule>,
    pub data: BTreeMap<Key, Data>,
    next: Key,
    next_seq: i64,
}

/// How a branch was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    User,
    Ttl,
}

/// A branch that is live or can be brought back.
#[derive(Clone)]
pub struct Branch {
    /// Empty until it is learned.
    pub id: String,
    pub name: String,
    /// Whether its name only begins like that.
    pub name_goes_on: bool,
    pub parent: Option<Key>,
    pub data: Key,
    pub default: bool,
    pub protected: bool,
    pub expires: bool,
    pub schema_only: bool,
    pub deleted: Option<Deleted>,
    pub endpoint: Option<Endpoint>,
    /// Id of a snapshot.
    pub restored_from: Option<String>,
    pub restored_as: Option<Key>,
    pub finalized: bool,
    pub backups: bool,
    /// When it was last restored, if that is known.
    pub reset_at: Option<String>,
    /// It was restored since.
    pub was_reset: bool,
}

/// An endpoint of a branch.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Empty until it is learned.
    pub id: String,
    /// How to connect; empty until it is learned.
    pub uri: String,
    pub runs: bool,
}

#[derive(Clone)]
pub struct Snapshot {
    /// Empty until it is learned.
    pub id: String,
    pub name: String,
    pub name_goes_on: bool,
    pub source: Key,
    pub source_id: String,
    pub data: Key,
    pub manual: bool,
}

#[derive(Clone)]
pub struct Schedule {
    /// Empty until it is learned.
    pub id: String,
    pub name: String,
    pub parent: Option<Key>,
    pub endpoint: bool,
    pub row: Option<(i64, i64)>,
    /// What it made last.
    pub last: Option<Key>,
    /// What it made and has not let go.
    pub made: Vec<Key>,
    pub failed: bool,
}

/// Collects the rules that a request breaks.
#[derive(Default)]
struct Rules(Refusals);

impl Rules {
    fn refuse(&mut self, broken: bool, status: u16) {
        if broken {
            self.0.insert(status);
        }
    }

    fn broken(&self) -> bool {
        !self.0.is_empty()
    }
}

impl Endpoint {
    fn starting() -> Self {
        Self { id: String::new(), uri: String::new(), runs: true }
    }
}

impl Branch {
    fn new(name: &str, data: Key) -> Self {
        Self {
            id: String::new(),
            name: name.to_owned(),
            name_goes_on: false,
            parent: None,
            data,
            default: false,
            protected: false,
            expires: false,
            schema_only: false,
            deleted: None,
            endpoint: None,
            restored_from: None,
            restored_as: None,
            finalized: false,
            backups: false,
            reset_at: None,
            was_reset: false,
        }
    }

    pub fn live(&self) -> bool {
        self.deleted.is_none()
    }

    pub fn runs(&self) -> bool {
        self.endpoint.as_ref().is_some_and(|endpoint| endpoint.runs)
    }
}

impl Model {
    /// A project with its root branch, which runs.
    pub fn new(root: &str) -> Self {
        let mut model = Self { next_seq: 1, ..Self::default() };
        let data = model.add_data(Data::beginning_with(Rows::default(), None));
        let mut branch = Branch { default: true, ..Branch::new(root, data) };
        branch.endpoint = Some(Endpoint::starting());
        let key = model.key();
        model.branches.insert(key, branch);
        model.settle_data();
        model
    }

    fn key(&mut self) -> Key {
        self.next += 1;
        self.next
    }

    fn add_data(&mut self, data: Data) -> Key {
        let key = self.key();
        self.data.insert(key, data);
        key
    }

    /// So many sequence numbers that no row has.
    pub fn take_seqs(&mut self, count: i64) -> i64 {
        let first = self.next_seq;
        self.next_seq += count;
        first
    }

    pub fn branch_id(&self, key: Key) -> String {
        let id = self.branches.get(&key).map(|branch| branch.id.clone());
        id.unwrap_or_else(|| "br-no-such-branch1".to_owned())
    }

    pub fn endpoint_id(&self, branch: Key) -> String {
        let endpoint = self.branches.get(&branch).and_then(|branch| branch.endpoint.as_ref());
        endpoint.map_or_else(|| "ep-no-such-endpoint".to_owned(), |endpoint| endpoint.id.clone())
    }

    pub fn snapshot_id(&self, key: Key) -> String {
        self.snapshots.get(&key).map_or_else(|| "snap-no-such-one".to_owned(), |it| it.id.clone())
    }

    pub fn schedule_id(&self, key: Key) -> String {
        self.schedules.get(&key).map_or_else(|| "sched-no-such-one".to_owned(), |it| it.id.clone())
    }

    /// The live branch `key`.
    pub fn live(&self, key: Key) -> Option<&Branch> {
        self.branches.get(&key).filter(|branch| branch.live())
    }

    pub fn default_branch(&self) -> Key {
        *self.branches.iter().find(|(_, branch)| branch.default).expect("there always is a default branch").0
    }

    /// Live branches whose parent is `key`.
    pub fn children(&self, key: Key) -> Vec<Key> {
        let live = self.branches.iter().filter(|(_, branch)| branch.live() && branch.parent == Some(key));
        live.map(|(key, _)| *key).collect()
    }

    pub fn data_of(&mut self, branch: Key) -> &mut Data {
        let data = self.branches[&branch].data;
        self.data.get_mut(&data).expect("a branch has data")
    }

    fn taken(&self, name: &str) -> bool {
        self.branches.values().any(|branch| branch.live() && branch.name == name)
    }

    fn free_name(&self, name: &str) -> String {
        let numbered = (2..).map(|number| format!("{name} {number}"));
        std::iter::once(name.to_owned())
            .chain(numbered)
            .find(|name| !self.taken(name))
            .expect("numbers do not end")
    }

    fn edit(&mut self, key: Key) -> &mut Branch {
        self.branches.get_mut(&key).expect("it was looked at before")
    }

    /// Data that somebody needs: what rows name, and what that begins on.
    fn needed(&self) -> BTreeSet<Key> {
        let named = self.branches.values().map(|branch| branch.data);
        let mut open: Vec<Key> = named.chain(self.snapshots.values().map(|snapshot| snapshot.data)).collect();
        let mut needed = BTreeSet::new();
        while let Some(key) = open.pop() {
            if needed.insert(key) {
                open.extend(self.data[&key].begins_on);
            }
        }
        needed
    }

    /// How many of them have a log.
    pub fn logs(&self) -> usize {
        self.data.values().filter(|data| data.ran).count()
    }

    /// What a request does; if it gives statuses, it is refused with one of them.
    pub fn apply(&mut self, op: &Op) -> Refusals {
        let rules = match op {
            Op::Create { .. } => self.create(op),
            Op::Restore { branch, source, at, keep_as } => {
                self.restore(*branch, *source, at, keep_as.as_deref())
            }
            Op::Rename { branch, name } => {
                let mut rules = self.change(*branch);
                let own = self.live(*branch).is_some_and(|branch| branch.name == *name);
                rules.refuse(!own && self.taken(name), 409);
                if !rules.broken() {
                    self.edit(*branch).name.clone_from(name);
                }
                rules
            }
            Op::Protect { branch, on } => {
                let mut rules = self.change(*branch);
                rules.refuse(*on && self.live(*branch).is_some_and(|branch| branch.expires), 422);
                if !rules.broken() {
                    self.edit(*branch).protected = *on;
                }
                rules
            }
            Op::SetDefault { branch } => {
                let mut rules = self.change(*branch);
                rules.refuse(self.live(*branch).is_some_and(|branch| branch.expires), 422);
                if !rules.broken() {
                    let before = self.default_branch();
                    self.edit(before).default = false;
                    self.edit(*branch).default = true;
                }
                rules
            }
            Op::Expire { branch, on } => self.expire(*branch, *on),
            Op::ExpireNow { branch, .. } => {
                let rules = self.expire(*branch, true);
                if !rules.broken() {
                    self.remove(&[*branch], Deleted::Ttl, false);
                }
                rules
            }
            Op::Delete { branch, recursive, hard } => self.delete(*branch, *recursive, *hard),
            Op::Recover { branch, name } => self.recover(*branch, name.as_deref()),
            Op::CreateEndpoint { branch } => self.create_endpoint(*branch),
            Op::DeleteEndpoint { branch } => self.with_endpoint(*branch, |endpoint| *endpoint = None),
            Op::Start { branch } => self.with_endpoint(*branch, |endpoint| set_runs(endpoint, true)),
            Op::Suspend { branch } => self.with_endpoint(*branch, |endpoint| set_runs(endpoint, false)),
            Op::SetBackups { branch, on } => {
                let rules = self.change(*branch);
                if !rules.broken() {
                    self.edit(*branch).backups = *on;
                }
                rules
            }
            Op::Interrupt { op, .. } => return self.apply(op),
            _ => return self.apply_to_others(op),
        };
        self.settle_data();
        rules.0
    }

    fn apply_to_others(&mut self, op: &Op) -> Refusals {
        let rules = match op {
            Op::Snapshot { branch, at, name } => self.snapshot(*branch, at, name),
            Op::RenameSnapshot { snapshot, name } => {
                let mut rules = self.change_snapshot(*snapshot);
                let other = |(key, it): (&Key, &Snapshot)| key != snapshot && it.name == *name;
                rules.refuse(self.snapshots.iter().any(other), 409);
                if let Some(it) = self.snapshots.get_mut(snapshot).filter(|_| !rules.broken()) {
                    it.name.clone_from(name);
                }
                rules
            }
            Op::DeleteSnapshot { snapshot } | Op::ExpireSnapshot { snapshot } => {
                let rules = self.change_snapshot(*snapshot);
                self.snapshots.remove(snapshot);
                rules
            }
            Op::RestoreSnapshot { .. } => self.restore_snapshot(op),
            Op::Finalize { branch, name } => self.finalize(*branch, name.as_deref()),
            Op::CreateSchedule { name, parent, endpoint, row } => {
                self.create_schedule(name, *parent, *endpoint, *row)
            }
            Op::DeleteSchedule { schedule } => {
                let mut rules = Rules::default();
                rules.refuse(self.schedules.remove(schedule).is_none(), 404);
                rules
            }
            Op::RunSchedule { schedule } => self.run_schedule(*schedule),
            Op::MissRun { schedule } => {
                self.run_schedule(*schedule);
                Rules::default()
            }
            Op::MissBackups => self.make_backups(),
            _ => Rules::default(),
        };
        self.settle_data();
        rules.0
    }

    /// What nobody needs goes, and what an endpoint runs on has a log.
    fn settle_data(&mut self) {
        let needed = self.needed();
        self.data.retain(|key, _| needed.contains(key));
        let running: Vec<Key> = self.branches.values().filter(|it| it.runs()).map(|it| it.data).collect();
        for key in running {
            self.data.get_mut(&key).expect("a branch has data").ran = true;
        }
    }

    fn change(&self, branch: Key) -> Rules {
        let mut rules = Rules::default();
        rules.refuse(self.live(branch).is_none(), 404);
        rules
    }

    /// Data that begins on that of `source`.
    fn fork(&mut self, source: Key, at: &At) -> Key {
        let key = self.branches[&source].data;
        let from = &self.data[&key];
        let data = from.begun_at(key, at.point(from.last()));
        self.add_data(data)
    }

    fn create(&mut self, op: &Op) -> Rules {
        let Op::Create { name, parent, at, endpoint, protected, expires, schema_only } = op else {
            return Rules::default();
        };
        let parent = parent.unwrap_or_else(|| self.default_branch());
        let mut rules = self.change(parent);
        rules.refuse(self.taken(name), 409);
        rules.refuse(matches!(at, At::Nowhere(_)), 422);
        rules.refuse(*expires && *protected, 422);
        rules.refuse(!schema_only && self.live(parent).is_some_and(|parent| parent.expires), 422);
        if rules.broken() {
            return rules;
        }
        let data = if *schema_only {
            let first =
                *self.data.iter().find(|(_, data)| data.begins_on.is_none()).expect("all began somewhere").0;
            self.add_data(Data { ran: true, ..Data::beginning_with(Rows::default(), Some(first)) })
        } else {
            self.fork(parent, at)
        };
        let mut branch = Branch::new(name, data);
        branch.parent = (!schema_only).then_some(parent);
        (branch.protected, branch.expires, branch.schema_only) = (*protected, *expires, *schema_only);
        branch.endpoint = endpoint.then(Endpoint::starting);
        let key = self.key();
        self.branches.insert(key, branch);
        rules
    }

    fn restore(&mut self, key: Key, source: Key, at: &At, keep_as: Option<&str>) -> Rules {
        let mut rules = self.change(key);
        rules.refuse(self.live(source).is_none(), 404);
        rules.refuse(matches!(at, At::Nowhere(_)), 422);
        rules.refuse(keep_as.is_some_and(|name| self.taken(name)), 409);
        rules.refuse(self.live(key).is_some_and(|branch| branch.protected), 422);
        rules.refuse(source != key && self.live(source).is_some_and(|source| source.expires), 422);
        rules.refuse(source == key && (matches!(at, At::Head) || keep_as.is_none()), 422);
        if rules.broken() {
            return rules;
        }
        let data = self.fork(source, at);
        let old = self.branches[&key].clone();
        let mut parent = source;
        let for_children =
            || (!self.children(key).is_empty()).then(|| self.free_name(&format!("{} (old)", old.name)));
        if let Some(name) = keep_as.map(str::to_owned).or_else(for_children) {
            let mut backup =
                Branch { parent: old.parent, schema_only: old.schema_only, ..Branch::new(&name, old.data) };
            (backup.reset_at, backup.was_reset) = (old.reset_at, old.was_reset);
            let backup_key = self.key();
            for child in self.branches.values_mut().filter(|branch| branch.parent == Some(key)) {
                child.parent = Some(backup_key);
            }
            self.branches.insert(backup_key, backup);
            if source == key {
                parent = backup_key;
            }
        }
        let branch = self.edit(key);
        (branch.data, branch.parent, branch.schema_only, branch.was_reset) =
            (data, Some(parent), false, true);
        rules
    }

    fn expire(&mut self, key: Key, on: bool) -> Rules {
        let mut rules = self.change(key);
        if let Some(branch) = self.live(key).filter(|_| on) {
            rules.refuse(branch.protected || branch.default || !self.children(key).is_empty(), 422);
        }
        if !rules.broken() {
            self.edit(key).expires = on;
        }
        rules
    }

    fn delete(&mut self, key: Key, recursive: bool, hard: bool) -> Rules {
        let mut rules = Rules::default();
        let Some(branch) = self.branches.get(&key) else {
            rules.refuse(true, 404);
            return rules;
        };
        if !branch.live() && !hard {
            return rules;
        }
        rules.refuse(!self.children(key).is_empty() && !recursive, 422);
        let mut going = vec![key];
        let mut at = 0;
        while at < going.len() {
            let below =
                self.branches.iter().filter(|(_, it)| it.parent == Some(going[at]) && (it.live() || hard));
            let below: Vec<Key> = below.map(|(key, _)| *key).filter(|key| !going.contains(key)).collect();
            going.extend(below);
            at += 1;
        }
        for branch in going.iter().filter_map(|key| self.live(*key)) {
            rules.refuse(branch.protected || branch.default, 422);
        }
        if !rules.broken() {
            self.remove(&going, Deleted::User, hard);
        }
        rules
    }

    fn remove(&mut self, going: &[Key], how: Deleted, hard: bool) {
        for key in going {
            if hard {
                self.branches.remove(key);
                for schedule in self.schedules.values_mut() {
                    schedule.made.retain(|made| made != key);
                }
                continue;
            }
            let branch = self.edit(*key);
            branch.deleted = branch.deleted.or(Some(how));
            branch.endpoint = None;
        }
    }

    fn recover(&mut self, key: Key, name: Option<&str>) -> Rules {
        let mut rules = Rules::default();
        let Some(branch) = self.branches.get(&key) else {
            rules.refuse(true, 404);
            return rules;
        };
        rules.refuse(branch.live(), 422);
        let parent = branch.parent.and_then(|parent| self.branches.get(&parent));
        rules.refuse(parent.is_some_and(|parent| !parent.live() || parent.expires), 422);
        let name = name.unwrap_or(&branch.name).to_owned();
        rules.refuse(self.taken(&name), 409);
        if !rules.broken() {
            let branch = self.edit(key);
            (branch.deleted, branch.expires, branch.name) = (None, false, name);
        }
        rules
    }

    fn create_endpoint(&mut self, key: Key) -> Rules {
        let mut rules = self.change(key);
        rules.refuse(self.live(key).is_some_and(|branch| branch.endpoint.is_some()), 422);
        if !rules.broken() {
            self.edit(key).endpoint = Some(Endpoint::starting());
        }
        rules
    }

    fn with_endpoint(&mut self, key: Key, change: impl FnOnce(&mut Option<Endpoint>)) -> Rules {
        let mut rules = Rules::default();
        match self.branches.get_mut(&key).filter(|branch| branch.endpoint.is_some()) {
            Some(branch) => change(&mut branch.endpoint),
            None => rules.refuse(true, 404),
        }
        rules
    }

    fn change_snapshot(&self, key: Key) -> Rules {
        let mut rules = Rules::default();
        rules.refuse(!self.snapshots.contains_key(&key), 404);
        rules
    }

    fn snapshot(&mut self, source: Key, at: &At, name: &str) -> Rules {
        let mut rules = self.change(source);
        rules.refuse(matches!(at, At::Nowhere(_)), 422);
        rules.refuse(self.snapshots.values().any(|it| it.name == name), 409);
        if !rules.broken() {
            self.add_snapshot(source, at, name, true);
        }
        rules
    }

    fn add_snapshot(&mut self, source: Key, at: &At, name: &str, manual: bool) {
        let (data, key) = (self.fork(source, at), self.key());
        let (name, source_id) = (name.to_owned(), self.branch_id(source));
        let name_goes_on = !manual;
        let snapshot = Snapshot { id: String::new(), name, name_goes_on, source, source_id, data, manual };
        self.snapshots.insert(key, snapshot);
    }

    fn make_backups(&mut self) -> Rules {
        let due: Vec<Key> =
            self.branches.iter().filter(|(_, it)| it.live() && it.backups).map(|it| *it.0).collect();
        for key in due {
            let name = format!("{} yearly ", self.branches[&key].name);
            self.add_snapshot(key, &At::Head, &name, false);
        }
        Rules::default()
    }

    /// The branch whose place what is made of a snapshot would take.
    fn target(&self, snapshot: &Snapshot) -> Option<Key> {
        let mut key = snapshot.source;
        let next =
            |key: Key| self.branches.iter().find(|(_, it)| it.finalized && it.restored_as == Some(key));
        while let Some((next, _)) = next(key) {
            key = *next;
        }
        self.live(key).map(|_| key)
    }

    fn restore_snapshot(&mut self, op: &Op) -> Rules {
        let Op::RestoreSnapshot { snapshot: key, name, target, endpoint, finalize } = op else {
            return Rules::default();
        };
        let mut rules = self.change_snapshot(*key);
        let Some(snapshot) = self.snapshots.get(key).cloned() else { return rules };
        rules.refuse(target.is_some_and(|target| self.live(target).is_none()), 404);
        let target = target.or_else(|| self.target(&snapshot));
        rules.refuse(target.is_none() && *finalize, 422);
        rules.refuse(name.as_ref().is_some_and(|name| self.taken(name)), 409);
        if rules.broken() {
            return rules;
        }
        let name = name.clone().unwrap_or_else(|| self.free_name(&format!("{} (restored)", snapshot.name)));
        let from = &self.data[&snapshot.data];
        let data = Data { begin: from.begin, ..from.begun_at(snapshot.data, from.last()) };
        let mut branch = Branch::new(&name, self.add_data(data));
        (branch.restored_from, branch.restored_as) = (Some(snapshot.id), target);
        branch.endpoint = (*endpoint && !finalize).then(Endpoint::starting);
        let key = self.key();
        self.branches.insert(key, branch);
        if *finalize { self.finalize(key, None) } else { rules }
    }

    fn finalize(&mut self, key: Key, name: Option<&str>) -> Rules {
        let mut rules = self.change(key);
        let Some(new) = self.live(key) else { return rules };
        let target = new.restored_as.filter(|target| self.live(*target).is_some());
        rules.refuse(new.finalized || target.is_none(), 422);
        rules.refuse(name.is_some_and(|name| self.taken(name)), 409);
        let Some(target) = target.filter(|_| !rules.broken()) else { return rules };
        let (new, old) = (self.branches[&key].clone(), self.branches[&target].clone());
        // What expires has no children.
        rules.refuse(old.expires && !self.children(key).is_empty(), 422);
        if rules.broken() {
            return rules;
        }
        let left = name.map_or_else(|| self.free_name(&format!("{} (old)", old.name)), str::to_owned);
        let place =
            (old.name.clone(), old.default, old.protected, old.expires, old.endpoint.clone(), old.backups);
        let branch = self.edit(target);
        (branch.name, branch.default, branch.protected, branch.expires) =
            (left, new.default, new.protected, false);
        // Its endpoint has the passwords of the branch that it serves now.
        let endpoint = new.endpoint.map(|endpoint| Endpoint { uri: String::new(), ..endpoint });
        (branch.endpoint, branch.backups) = (endpoint, new.backups);
        let branch = self.edit(key);
        (branch.name, branch.default, branch.protected, branch.expires, branch.endpoint, branch.backups) =
            place;
        branch.finalized = true;
        for schedule in self.schedules.values_mut().filter(|it| it.parent == Some(target)) {
            schedule.parent = Some(key);
        }
        rules
    }

    fn create_schedule(
        &mut self,
        name: &str,
        parent: Option<Key>,
        endpoint: bool,
        row: Option<(i64, i64)>,
    ) -> Rules {
        let mut rules = Rules::default();
        rules.refuse(self.schedules.values().any(|it| it.name == name), 409);
        if let Some(parent) = parent {
            rules.refuse(self.live(parent).is_none(), 404);
            rules.refuse(self.live(parent).is_some_and(|parent| parent.expires), 422);
        }
        if !rules.broken() {
            let (id, name, made) = (String::new(), name.to_owned(), Vec::new());
            let schedule = Schedule { id, name, parent, endpoint, row, last: None, made, failed: false };
            let key = self.key();
            self.schedules.insert(key, schedule);
        }
        rules
    }

    fn run_schedule(&mut self, key: Key) -> Rules {
        let mut rules = Rules::default();
        let Some(schedule) = self.schedules.get(&key).cloned() else {
            rules.refuse(true, 404);
            return rules;
        };
        let parent = schedule.parent.unwrap_or_else(|| self.default_branch());
        rules.refuse(self.live(parent).is_none(), 404);
        rules.refuse(self.live(parent).is_some_and(|parent| parent.expires), 422);
        let before =
            self.branches.iter().find(|(_, it)| it.live() && it.name == schedule.name).map(|it| *it.0);
        rules.refuse(before.is_some_and(|before| !schedule.made.contains(&before)), 409);
        if rules.broken() {
            self.schedules.get_mut(&key).expect("it was just found").failed = true;
            return rules;
        }
        if let Some(before) = before {
            let branch = self.edit(before);
            (branch.name, branch.name_goes_on) = (format!("{} until ", schedule.name), true);
        }
        let data = self.fork(parent, &At::Head);
        if let Some((seq, token)) = schedule.row {
            let data = self.data.get_mut(&data).expect("it was just made");
            let mut rows = Rows::clone(data.rows());
            Rows::make_mut(&mut rows).insert(seq, token);
            data.ran = true;
            data.push(Point { after: None, by: None, time: None, rows });
        }
        let mut branch = Branch { parent: Some(parent), ..Branch::new(&schedule.name, data) };
        branch.endpoint = schedule.endpoint.then(Endpoint::starting);
        let made = self.key();
        self.branches.insert(made, branch);
        // What it made before is disposed of, unless somebody needs it.
        for before in schedule.made {
            self.delete(before, false, false);
        }
        let schedule = self.schedules.get_mut(&key).expect("it was just found");
        (schedule.last, schedule.made, schedule.failed) = (Some(made), vec![made], false);
        rules
    }

    /// The states in which two requests may leave the server that it answered with these statuses: as if it had done one
    /// after the other, except what it refused because the other one was under way.
    pub fn either_order(&self, ops: [&Op; 2], statuses: [u16; 2]) -> Vec<Self> {
        let in_order = |order: [usize; 2]| {
            let mut model = self.clone();
            for at in order.into_iter().filter(|at| statuses[*at] != 423) {
                if !is_answer(statuses[at], &model.apply(ops[at])) {
                    return None;
                }
            }
            Some(model)
        };
        [[0, 1], [1, 0]].into_iter().filter_map(in_order).collect()
    }

    /// Every state that a server killed during a request may be found in.
    pub fn outcomes(&self, op: &Op) -> Vec<Self> {
        let mut after = self.clone();
        // What a run was refused for may have been noted.
        after.apply(op);
        vec![self.clone(), after]
    }
}

/// Whether a request that breaks these rules may be answered with this status.
pub fn is_answer(status: u16, refusals: &Refusals) -> bool {
    if refusals.is_empty() { (200..300).contains(&status) } else { refusals.contains(&status) }
}

fn set_runs(endpoint: &mut Option<Endpoint>, runs: bool) {
    if let Some(endpoint) = endpoint {
        endpoint.runs = runs;
    }
}
