//! Random names: ids, passwords, keys, request ids.
//!
//! Ids are two words and eight characters. Neon's clients tell a branch id from a branch name by
//! `^br-[a-z0-9]+-[a-z0-9]+-[a-z0-9]+$`, so no branch may be *named* like that.

use crate::error::{Error, Result};
use crate::limits::{NAME_MAX, NUMBER_ROOM};

const ADJECTIVES: &[&str] = &[
    "amber",
    "blue",
    "bold",
    "brave",
    "bright",
    "broad",
    "calm",
    "clear",
    "cold",
    "cool",
    "crisp",
    "dark",
    "deep",
    "dry",
    "early",
    "fair",
    "fresh",
    "gentle",
    "gold",
    "grand",
    "green",
    "hidden",
    "jolly",
    "keen",
    "late",
    "light",
    "little",
    "lively",
    "long",
    "lucky",
    "misty",
    "mute",
    "noble",
    "odd",
    "old",
    "pale",
    "plain",
    "proud",
    "quick",
    "quiet",
    "rapid",
    "rough",
    "round",
    "royal",
    "sharp",
    "shy",
    "silent",
    "small",
    "snowy",
    "soft",
    "still",
    "sunny",
    "super",
    "sweet",
    "tiny",
    "wandering",
    "warm",
    "white",
    "wild",
    "winter",
    "wise",
    "young",
];

const NOUNS: &[&str] = &[
    "bar",
    "bird",
    "boat",
    "breeze",
    "brook",
    "bush",
    "butterfly",
    "cake",
    "cell",
    "cherry",
    "cloud",
    "dew",
    "dream",
    "dust",
    "feather",
    "field",
    "fire",
    "flower",
    "fog",
    "forest",
    "frog",
    "frost",
    "glade",
    "grass",
    "hall",
    "haze",
    "heart",
    "hill",
    "king",
    "lab",
    "lake",
    "leaf",
    "meadow",
    "moon",
    "morning",
    "mountain",
    "night",
    "paper",
    "pine",
    "poetry",
    "pond",
    "rain",
    "resonance",
    "rice",
    "river",
    "salad",
    "scene",
    "sea",
    "shadow",
    "shape",
    "silence",
    "sky",
    "smoke",
    "snow",
    "sound",
    "star",
    "sun",
    "surf",
    "thunder",
    "tree",
    "truth",
    "voice",
    "water",
    "wave",
    "wind",
    "wood",
];

const BASE36: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const BASE62: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// `N` random bytes from the operating system.
///
/// # Errors
/// `Internal` if it has none.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Error::internal(format!("random numbers: {error}")))?;
    Ok(bytes)
}

/// `length` random characters of `alphabet`, each equally likely.
fn characters(alphabet: &[u8], length: usize) -> Result<String> {
    let fair = 256 - 256 % alphabet.len();
    let mut text = String::new();
    while text.len() < length {
        for byte in random::<32>()? {
            let index = usize::from(byte);
            if index < fair && text.len() < length {
                text.extend(alphabet.get(index % alphabet.len()).map(|&byte| char::from(byte)));
            }
        }
    }
    Ok(text)
}

fn word(words: &[&'static str]) -> Result<&'static str> {
    let index = usize::from(u16::from_le_bytes(random()?));
    Ok(words.get(index % words.len()).copied().unwrap_or("odd"))
}

fn id(prefix: &str) -> Result<String> {
    Ok(format!("{prefix}{}-{}-{}", word(ADJECTIVES)?, word(NOUNS)?, characters(BASE36, 8)?))
}

/// `calm-river-8q2k5x1a`.
pub fn project_id() -> Result<String> {
    id("")
}

/// `br-calm-river-8q2k5x1a`.
pub fn branch_id() -> Result<String> {
    id("br-")
}

/// `ep-calm-river-8q2k5x1a`.
pub fn endpoint_id() -> Result<String> {
    id("ep-")
}

/// `snap-calm-river-8q2k5x1a`.
pub fn snapshot_id() -> Result<String> {
    id("snap-")
}

/// `sched-calm-river-8q2k5x1a`.
pub fn schedule_id() -> Result<String> {
    id("sched-")
}

/// A password for a role: 95 bits that need no escaping anywhere.
pub fn password() -> Result<String> {
    Ok(format!("npg_{}", characters(BASE62, 16)?))
}

/// An API key.
pub fn api_key() -> Result<String> {
    Ok(format!("scion_{}", hex::encode(random::<32>()?)))
}

/// A random UUID (version 4).
pub fn uuid() -> Result<String> {
    let mut bytes: [u8; 16] = random()?;
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    let text = hex::encode(bytes);
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    Ok(format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)))
}

/// True for text that clients take for a branch id.
pub fn looks_like_branch_id(text: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    text.strip_prefix("br-").is_some_and(|rest| {
        let parts: Vec<&str> = rest.split('-').collect();
        parts.len() == 3 && parts.into_iter().all(plain)
    })
}

/// `name` with a note behind it, cut where that would be too long for a name with a number behind it.
pub fn noted(name: &str, note: &str) -> String {
    let room = NAME_MAX.saturating_sub(note.chars().count() + NUMBER_ROOM);
    name.chars().take(room).chain(note.chars()).collect()
}

/// Checks that `field` of a request, which names something by its id, is not empty: what a script left empty by mistake
/// must not mean that nothing was named.
///
/// # Errors
/// `Malformed` if it is.
pub fn check_id(field: &str, id: Option<&str>) -> Result<()> {
    if id == Some("") {
        return Err(Error::malformed(format!("{field} is empty\nhint: give an id, or leave {field} out")));
    }
    Ok(())
}

/// Checks the name of a project or branch.
///
/// # Errors
/// `Malformed` unless it has 1 to 256 characters and none of them is a control character.
pub fn check_name(kind: &str, name: &str) -> Result<()> {
    let length = name.chars().count();
    if !(1..=NAME_MAX).contains(&length) || name.trim().is_empty() {
        return Err(Error::malformed(format!(
            "a {kind} name has 1 to {NAME_MAX} characters, this one has {length}"
        )));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::malformed(format!("the {kind} name {name:?} holds a control character")));
    }
    if kind == "branch" && looks_like_branch_id(name) {
        return Err(Error::malformed(format!(
            "a branch cannot be named {name:?}: branch ids look like that"
        )));
    }
    Ok(())
}

/// Checks the name of a role or database that is to be made.
///
/// # Errors
/// `Malformed` unless Postgres would keep it whole and does not reserve it.
pub fn check_sql_name(kind: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.len() > 63 || name.chars().any(char::is_control) {
        return Err(Error::malformed(format!(
            "{name:?} is not a valid {kind} name: 1 to 63 bytes, no control characters"
        )));
    }
    let reserved = ["postgres", "template0", "template1", "public", "none"].contains(&name);
    if reserved || name.starts_with("pg_") {
        return Err(Error::malformed(format!("the {kind} name {name:?} is reserved")));
    }
    Ok(())
}

/// A branch id out of the metadata or of a generator.
///
/// # Errors
/// `NotFound` for text that cannot be one.
pub fn parse_branch(text: &str) -> Result<types::BranchId> {
    text.parse().map_err(|_| Error::not_found("branch", text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_name_with_a_note_is_a_name_whatever_number_comes_behind_it() {
        assert_eq!(noted("dev", " (old)"), "dev (old)");
        let long = noted(&"x".repeat(NAME_MAX), " (old)");
        assert!(long.ends_with("x (old)"));
        assert_eq!(check_name("branch", &format!("{long} 1000000")), Ok(()));
    }

    #[test]
    fn generated_ids_are_valid_and_told_apart_from_names() {
        for _ in 0..200 {
            let branch = branch_id().unwrap();
            assert!(looks_like_branch_id(&branch), "{branch}");
            assert!(branch.parse::<types::BranchId>().is_ok(), "{branch}");
            assert!(project_id().unwrap().parse::<types::ProjectId>().is_ok());
            assert!(endpoint_id().unwrap().starts_with("ep-"));
            assert_eq!(password().unwrap().len(), 20);
        }
        for name in ["br-1", "main", "br-a-b", "br-a-b-c-d", "br-A-b-c", "feature/x"] {
            assert!(!looks_like_branch_id(name), "{name}");
        }
    }

    #[test]
    fn a_uuid_says_its_version() {
        let uuid = uuid().unwrap();
        assert_eq!(uuid.len(), 36);
        assert_eq!(uuid.as_bytes()[14], b'4');
    }

    #[test]
    fn names_that_would_confuse_are_refused() {
        for name in ["", "  ", "a\nb", "br-calm-river-12345678", &"x".repeat(257)] {
            assert_eq!(check_name("branch", name).unwrap_err().kind, Kind::Malformed, "{name:?}");
        }
        assert!(check_name("branch", "feature/with-slash").is_ok());
        for name in ["", "postgres", "pg_x", &"x".repeat(64)] {
            assert!(check_sql_name("role", name).is_err(), "{name:?}");
        }
    }
}
