//! API keys: which one opens what, how often it may ask, and when each was last used.
//!
//! All of them are in memory, by hash, because every request asks and a write to the metadata may hold that up.
//!
//! What must hold
//! - A key is 256 random bits and is shown once. What is kept, in memory and on disk, is its SHA-256: it opens nothing,
//!   and nobody finds a key of that size to a hash.
//! - A key that was revoked opens nothing from the moment the answer is sent, on connections that are open too.
//! - The key in the file `api-key` opens everything and cannot be revoked here: whoever reads it owns the directory.
//!
//! The time of the last use is exact in memory and written down once a minute; a crash loses at most that.
//!
//! Not here: which routes a key of one project reaches (`http::access`).

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use governor::clock::Clock;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::{Mutex, RwLock};
use sha2::{Digest, Sha256};

use crate::clock::now_us;
use crate::error::{Error, Result};
use crate::limits::{KEY_NAME_CHARACTERS, KEY_USES_EVERY};
use crate::metadata::api_key::{self, ApiKeyRow};
use crate::metadata::{Metadata, project};
use crate::names;

type Hash = [u8; 32];

/// Every key there is.
pub struct Keys {
    by_hash: RwLock<HashMap<Hash, Arc<Key>>>,
    written: Mutex<Option<Instant>>,
    rate: Option<NonZeroU32>,
    /// Of all requests that come with no key, or one that opens nothing.
    keyless: Pace,
}

/// How fast requests may come.
#[derive(Debug)]
struct Pace(Option<DefaultDirectRateLimiter>);

impl Pace {
    fn new(rate: Option<NonZeroU32>) -> Self {
        Self(rate.map(|rate| RateLimiter::direct(Quota::per_second(rate))))
    }

    /// How long the next request has to wait, if this one comes too early.
    fn too_early(&self) -> Option<Duration> {
        let limiter = self.0.as_ref()?;
        limiter.check().err().map(|early| early.wait_time_from(limiter.clock().now()))
    }
}

/// A key that opens something.
#[derive(Debug)]
pub struct Key {
    /// Its id; `None` for the one in the file `api-key`.
    pub id: Option<i64>,
    /// The only project it reaches.
    pub project: Option<String>,
    used: Mutex<Use>,
    pace: Pace,
}

#[derive(Debug, Default)]
struct Use {
    at_us: Option<i64>,
    from: String,
    written: bool,
}

fn hash(key: &str) -> Hash {
    Sha256::digest(key).into()
}

impl Keys {
    /// No keys yet; each will do at most `rate` requests a second, as many at once after a pause.
    pub fn new(rate: Option<NonZeroU32>) -> Self {
        Self { by_hash: RwLock::default(), written: Mutex::default(), rate, keyless: Pace::new(rate) }
    }

    /// Takes in the keys of the metadata, and `own`, the one in the file.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn load(&self, metadata: &Metadata, own: &str) -> Result<()> {
        let rows = metadata.read(api_key::all)?;
        let mut by_hash = self.by_hash.write();
        by_hash.clear();
        by_hash.extend(rows.iter().map(|row| (row.hash, Arc::new(self.key(row)))));
        let pace = Pace::new(self.rate);
        let own_key = Key { id: None, project: None, used: Mutex::default(), pace };
        by_hash.insert(hash(own), Arc::new(own_key));
        Ok(())
    }

    /// What `sent` is, if it opens anything. Looking for its hash tells a guesser nothing by the time it takes.
    ///
    /// # Errors
    /// `Unauthorized` if it opens nothing, `TooMany` if it comes too often; who guesses does not slow down who knows.
    pub fn admit(&self, sent: &str) -> Result<Arc<Key>> {
        let found = self.by_hash.read().get(&hash(sent)).cloned();
        let pace = found.as_ref().map_or(&self.keyless, |key| &key.pace);
        if let Some(wait) = pace.too_early() {
            return Err(Error::too_many(self.rate.map_or(0, NonZeroU32::get), wait));
        }
        found.ok_or_else(Error::unauthorized)
    }

    fn key(&self, row: &ApiKeyRow) -> Key {
        let used = Use { at_us: row.used_us, from: row.used_from.clone(), written: true };
        let pace = Pace::new(self.rate);
        Key { id: Some(row.id), project: row.project_id.clone(), used: Mutex::new(used), pace }
    }

    /// Makes a key that reaches everything, or `project` only; the key itself and its row.
    ///
    /// # Errors
    /// `Malformed` for a name that is none, `NotFound` for a project that is none.
    pub fn create(
        &self,
        metadata: &Metadata,
        name: &str,
        project: Option<&str>,
    ) -> Result<(String, ApiKeyRow)> {
        check_name(name)?;
        let key = names::api_key()?;
        let mut row = ApiKeyRow {
            id: 0,
            name: name.to_owned(),
            hash: hash(&key),
            project_id: project.map(str::to_owned),
            created_us: now_us(),
            used_us: None,
            used_from: String::new(),
        };
        row.id = metadata.write(|change| {
            if let Some(project) = project {
                project::get(change, project)?;
            }
            api_key::insert(change, &row)
        })?;
        self.by_hash.write().insert(row.hash, Arc::new(self.key(&row)));
        tracing::info!(key = row.id, name, project, "API key created");
        Ok((key, row))
    }

    /// Ends a key; what it was.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub fn revoke(&self, metadata: &Metadata, id: i64) -> Result<ApiKeyRow> {
        let row = metadata.write(|change| {
            let row = api_key::get(change, id)?;
            api_key::remove(change, id)?;
            Ok(row)
        })?;
        let gone = self.by_hash.write().remove(&row.hash);
        tracing::info!(key = id, name = row.name, "API key revoked");
        Ok(gone.map_or(row.clone(), |key| key.newest(row)))
    }

    /// Every key of the metadata, oldest first, with its last use.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn list(&self, metadata: &Metadata) -> Result<Vec<ApiKeyRow>> {
        let rows = metadata.read(api_key::all)?;
        let by_hash = self.by_hash.read();
        Ok(rows
            .into_iter()
            .map(|row| match by_hash.get(&row.hash) {
                Some(key) => key.newest(row),
                None => row,
            })
            .collect())
    }

    /// Forgets the keys of a project that is removed; their rows go with its row.
    pub fn forget_project(&self, project: &str) {
        self.by_hash.write().retain(|_, key| key.project.as_deref() != Some(project));
    }

    /// Writes down when keys were last used, if that is due.
    pub fn write_uses_if_due(&self, metadata: &Metadata) {
        let mut written = self.written.lock();
        let now = Instant::now();
        if written.is_none_or(|at| now.duration_since(at) >= KEY_USES_EVERY) {
            *written = Some(now);
            self.write_uses(metadata);
        }
    }

    /// Writes down when keys were last used.
    pub fn write_uses(&self, metadata: &Metadata) {
        let fresh: Vec<(i64, i64, String)> =
            self.by_hash.read().values().filter_map(|key| key.take_unwritten()).collect();
        if fresh.is_empty() {
            return;
        }
        let result = metadata.write(|change| {
            fresh.iter().try_for_each(|(id, at_us, from)| api_key::set_used(change, *id, *at_us, from))
        });
        if let Err(error) = result {
            tracing::warn!(%error, "cannot write down when API keys were used");
        }
    }
}

impl Key {
    /// Notes that a request came with it.
    pub fn note_use(&self, from: &str) {
        let mut used = self.used.lock();
        used.at_us = Some(now_us());
        if used.from != from {
            from.clone_into(&mut used.from);
        }
        used.written = false;
    }

    fn newest(&self, row: ApiKeyRow) -> ApiKeyRow {
        let used = self.used.lock();
        ApiKeyRow { used_us: used.at_us, used_from: used.from.clone(), ..row }
    }

    fn take_unwritten(&self) -> Option<(i64, i64, String)> {
        let mut used = self.used.lock();
        let fresh = !used.written;
        used.written = true;
        fresh.then_some((self.id?, used.at_us?, used.from.clone()))
    }
}

fn check_name(name: &str) -> Result<()> {
    let length = name.chars().count();
    if name.trim().is_empty() || length > KEY_NAME_CHARACTERS || name.chars().any(char::is_control) {
        let text = format!(
            "the name of an API key has 1 to {KEY_NAME_CHARACTERS} characters, this one has {length}"
        );
        return Err(Error::malformed(text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::metadata::tests::project_row;

    fn opened(dir: &tempfile::TempDir) -> (Metadata, Keys) {
        let metadata = Metadata::open(&dir.path().join("m.sqlite")).unwrap();
        let keys = Keys::new(None);
        keys.load(&metadata, "own").unwrap();
        (metadata, keys)
    }

    #[test]
    fn a_key_opens_until_it_is_revoked_and_only_its_hash_is_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let (metadata, keys) = opened(&dir);
        let (key, row) = keys.create(&metadata, "ci", None).unwrap();
        assert_eq!(keys.admit(&key).unwrap().id, Some(row.id));
        assert!(keys.admit(&key[1..]).is_err());
        assert!(keys.admit("own").unwrap().id.is_none());
        drop((metadata, keys));
        let (metadata, keys) = opened(&dir);
        assert!(keys.admit(&key).is_ok(), "it is there after a restart");
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(key.len()).any(|part| part == key.as_bytes()));
        }
        assert_eq!(keys.revoke(&metadata, row.id).unwrap().name, "ci");
        assert!(keys.admit(&key).is_err());
        assert_eq!(keys.revoke(&metadata, row.id).unwrap_err().kind, Kind::NotFound);
        drop((metadata, keys));
        assert!(opened(&dir).1.admit(&key).is_err(), "it stays revoked");
    }

    #[test]
    fn the_last_use_is_told_at_once_and_kept_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (metadata, keys) = opened(&dir);
        let (key, row) = keys.create(&metadata, "ci", None).unwrap();
        assert_eq!(keys.list(&metadata).unwrap()[0].used_us, None);
        keys.admit(&key).unwrap().note_use("127.0.0.1");
        let used = keys.list(&metadata).unwrap().remove(0);
        assert!(used.used_us.unwrap() >= row.created_us);
        assert_eq!(used.used_from, "127.0.0.1");
        keys.write_uses(&metadata);
        drop((metadata, keys));
        let (metadata, keys) = opened(&dir);
        assert_eq!(keys.list(&metadata).unwrap(), [used]);
    }

    #[test]
    fn a_key_of_a_project_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let (metadata, keys) = opened(&dir);
        assert_eq!(keys.create(&metadata, "ci", Some("p")).unwrap_err().kind, Kind::NotFound);
        metadata.write(|change| project::put(change, &project_row("p", project::READY))).unwrap();
        let (key, _) = keys.create(&metadata, "ci", Some("p")).unwrap();
        assert_eq!(keys.admit(&key).unwrap().project.as_deref(), Some("p"));
        metadata.write(|change| project::remove(change, "p")).unwrap();
        keys.forget_project("p");
        assert!(keys.admit(&key).is_err());
        assert_eq!(keys.list(&metadata).unwrap(), []);
    }

    #[test]
    fn a_key_has_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let (metadata, keys) = opened(&dir);
        for name in ["", " ", "a\nb", &"x".repeat(65)] {
            assert_eq!(keys.create(&metadata, name, None).unwrap_err().kind, Kind::Malformed, "{name:?}");
        }
    }

    #[test]
    fn who_asks_too_often_is_told_when_to_ask_again_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = Metadata::open(&dir.path().join("m.sqlite")).unwrap();
        let keys = Keys::new(NonZeroU32::new(5));
        keys.load(&metadata, "own").unwrap();
        let refused = |key: &str| (0..20).find_map(|_| keys.admit(key).err()).unwrap();
        assert_eq!(refused("wrong").kind, Kind::Unauthorized);
        let error = (0..20).filter_map(|_| keys.admit("wrong").err()).last().unwrap();
        assert_eq!((error.kind, error.retry_after_s), (Kind::TooMany, Some(1)));
        assert!(keys.admit("own").is_ok(), "guessers use up what is theirs");
        assert_eq!(refused("own").kind, Kind::TooMany);
        std::thread::sleep(Duration::from_millis(300));
        assert!(keys.admit("own").is_ok());
    }
}
