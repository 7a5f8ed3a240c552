//! The rules about single files.

use std::path::Path;

use super::source::Source;

/// Longest file, in lines.
const FILE_LINES_MAX: usize = 800;
/// Longest function, in lines.
const FUNCTION_LINES_MAX: usize = 70;
/// Shortest text an `expect` may have: less cannot say why it cannot fail.
const EXPECT_TEXT_MIN: usize = 8;

/// Words that say a thing is unfinished. Split, so that this file does not break its own rule.
const UNFINISHED: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
/// Calls that have no place in production code, and what to write instead.
const CALLS: [(&str, &str); 6] = [
    (".unwrap()", "say why it cannot fail with expect, or return an error"),
    ("todo!(", "a stub must not look finished"),
    ("unimplemented!(", "a stub must not look finished"),
    ("dbg!(", "left over from debugging"),
    ("thread::spawn(", NO_THREAD),
    ("scope.spawn(", NO_THREAD),
];
/// Why a thread is started by a builder.
const NO_THREAD: &str =
    "it panics where the system has no thread left; use std::thread::Builder and answer for the error";
/// Names that say nothing about the domain.
const EMPTY_NAMES: [&str; 7] = ["utils", "util", "common", "helpers", "helper", "manager", "misc"];

/// Checks a Rust file.
pub fn check(source: &Source<'_>, breaches: &mut Vec<String>) {
    check_ascii(source.path, &source.text, breaches);
    check_shape(source, breaches);
    check_calls(source, breaches);
    check_expects(source, breaches);
}

/// Checks that a file is ASCII: what looks alike must be alike.
pub fn check_ascii(path: &Path, text: &str, breaches: &mut Vec<String>) {
    for (index, line) in text.lines().enumerate() {
        if let Some(odd) = line.chars().find(|char| !char.is_ascii()) {
            breaches.push(format!("{}:{}: {odd:?} is not ASCII", path.display(), index + 1));
        }
    }
}

fn check_shape(source: &Source<'_>, breaches: &mut Vec<String>) {
    let path = source.path.display();
    if !source.text.starts_with("//!") {
        breaches
            .push(format!("{path}:1: no module doc; begin with //! and say which question the file answers"));
    }
    let lines = source.text.lines().count();
    if lines > FILE_LINES_MAX {
        breaches.push(format!("{path}:{lines}: {lines} lines; at most {FILE_LINES_MAX}"));
    }
    let name = source.path.file_stem().and_then(|name| name.to_str()).unwrap_or("");
    let dir = source.path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or("");
    for empty in EMPTY_NAMES.iter().filter(|empty| [name, dir].contains(*empty)) {
        breaches.push(format!("{path}:1: {empty:?} names nothing in the domain"));
    }
    for function in source.functions() {
        if function.lines > FUNCTION_LINES_MAX && !source.is_test(function.at) {
            let (line, name, lines) = (function.line, function.name, function.lines);
            breaches
                .push(format!("{path}:{line}: fn {name} has {lines} lines; at most {FUNCTION_LINES_MAX}"));
        }
    }
}

fn check_calls(source: &Source<'_>, breaches: &mut Vec<String>) {
    let path = source.path.display();
    for (call, why) in CALLS {
        for (at, _) in source.code.match_indices(call).filter(|(at, _)| !source.is_test(*at)) {
            breaches.push(format!("{path}:{}: {call}: {why}", source.line_of(at)));
        }
    }
    for word in UNFINISHED {
        let marked =
            source.text.match_indices(word).filter(|(at, _)| is_whole_word(&source.text, *at, word.len()));
        for (at, _) in marked.filter(|(at, _)| !source.is_test(*at)) {
            breaches.push(format!("{path}:{}: {word}: finish it or open an issue", source.line_of(at)));
        }
    }
}

fn is_whole_word(text: &str, at: usize, length: usize) -> bool {
    let word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let bytes = text.as_bytes();
    !word(at.checked_sub(1).and_then(|before| bytes.get(before))) && !word(bytes.get(at + length))
}

fn check_expects(source: &Source<'_>, breaches: &mut Vec<String>) {
    const CALL: &str = ".expect(";
    for (at, _) in source.code.match_indices(CALL).filter(|(at, _)| !source.is_test(*at)) {
        let argument = source.text[at + CALL.len()..].trim_start();
        let Some(literal) = argument.strip_prefix('"') else { continue };
        let text = literal.split('"').next().unwrap_or("");
        if text.len() < EXPECT_TEXT_MIN || !text.contains(' ') {
            let line = source.line_of(at);
            breaches.push(format!(
                "{}:{line}: expect({text:?}) does not say why it cannot fail",
                source.path.display()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches(text: &str) -> Vec<String> {
        let mut breaches = Vec::new();
        check(&Source::new(Path::new("crates/x/src/y.rs"), text.to_owned()), &mut breaches);
        breaches
    }

    #[test]
    fn a_good_file_breaks_nothing() {
        let text = "//! Doc.\nfn f() { g().expect(\"the footer was just checked\"); }\n#[test]\nfn t() { x.unwrap() }\n";
        assert_eq!(breaches(text), [""; 0]);
    }

    #[test]
    fn each_rule_finds_its_breach() {
        let long = format!("//! Doc.\nfn f() {{\n{}}}\n", "    g();\n".repeat(FUNCTION_LINES_MAX));
        let cases = [
            ("fn f() {}\n".to_owned(), "no module doc"),
            ("//! Doc.\nfn f() { x.unwrap() }\n".to_owned(), ".unwrap()"),
            ("//! Doc.\nfn f() { std::thread::spawn(g); }\n".to_owned(), "no thread left"),
            ("//! Doc.\nfn f() { x.expect(\"ok\") }\n".to_owned(), "does not say why"),
            ("//! Gr\u{fc}n.\n".to_owned(), "not ASCII"),
            (format!("//! Doc.\n// {}: later\n", UNFINISHED[0]), "finish it"),
            ("//! Doc.\n".repeat(FILE_LINES_MAX + 1), "at most 800"),
            (long, "fn f has 72 lines"),
        ];
        for (text, expected) in cases {
            let found = breaches(&text);
            assert!(found.len() == 1 && found[0].contains(expected), "{expected}: {found:?}");
        }
    }

    #[test]
    fn words_in_strings_are_not_calls() {
        assert_eq!(breaches("//! Doc.\nconst A: &str = \".unwrap() dbg!(\";\n"), [""; 0]);
    }
}
