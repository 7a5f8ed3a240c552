//! Why a verb did not do what it was asked: the words, the way out, and the exit code.

use std::process::ExitCode;

/// What the caller of `scion` can do about a failure; the number is the exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Something broke on the way; asking again may help.
    Failed = 1,
    /// The command line or a value in it makes no sense.
    Usage = 2,
    /// The named project, branch or endpoint does not exist.
    NotFound = 3,
    /// A rule forbids it; asking again will not help.
    Refused = 4,
    /// It clashes with something that exists or is under way.
    Conflict = 5,
    /// No server answered.
    Unreachable = 6,
}

/// A failure as it is shown: `error: {message}`, then `hint: {hint}`.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What the caller can do about it.
    pub kind: Kind,
    /// Names the object and the limit.
    pub message: String,
    /// The way out, if there is one.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure of `kind` with no hint yet.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// The same failure with the way out.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The exit code the process ends with.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }
}

/// An input or output step that failed: `what` is a verb phrase such as "read /etc/passwd".
pub fn io(what: impl std::fmt::Display, error: &std::io::Error) -> Failure {
    let reason = match error.kind() {
        std::io::ErrorKind::NotFound => "it does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    Failure::new(Kind::Failed, format!("could not {what}: {reason}"))
}

/// The failure an HTTP answer stands for; `message` is as [`from_words`] takes it.
pub fn from_http(status: u16, message: &str) -> Failure {
    let kind = match status {
        400 => Kind::Usage,
        404 | 410 => Kind::NotFound,
        401 | 403 | 412 | 422 => Kind::Refused,
        409 | 423 => Kind::Conflict,
        _ => Kind::Failed,
    };
    if message.is_empty() {
        return from_words(kind, &format!("the server answered HTTP {status}"));
    }
    let failure = from_words(kind, message);
    let hint = failure.hint.or_else(|| hint_for(status).map(str::to_owned));
    Failure { hint, ..failure }
}

/// A failure whose words may have a second line that begins with `hint:` and says the way out.
pub fn from_words(kind: Kind, words: &str) -> Failure {
    match words.split_once("\nhint:") {
        Some((message, hint)) => Failure::new(kind, message).hint(hint.trim()),
        None => Failure::new(kind, words),
    }
}

fn hint_for(status: u16) -> Option<&'static str> {
    match status {
        401 | 403 => {
            Some("give the key with SCION_API_KEY, or point --data-dir at the server's data directory")
        }
        423 => Some("another operation is under way; try again in a moment"),
        500..=599 => Some("the server's log says more; `scion status` shows whether it is well"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_http_status_has_the_documented_exit_code() {
        let cases = [
            (400, Kind::Usage),
            (404, Kind::NotFound),
            (422, Kind::Refused),
            (409, Kind::Conflict),
            (423, Kind::Conflict),
            (500, Kind::Failed),
        ];
        for (status, kind) in cases {
            assert_eq!(from_http(status, "x").kind, kind, "HTTP {status}");
        }
    }

    #[test]
    fn a_hint_of_the_server_wins_over_ours() {
        let failure = from_http(401, "no key\nhint: ask the owner");
        assert_eq!(failure.message, "no key");
        assert_eq!(failure.hint.as_deref(), Some("ask the owner"));
    }

    #[test]
    fn an_empty_message_still_says_something() {
        assert_eq!(from_http(502, "").message, "the server answered HTTP 502");
    }
}
