//! One Rust file: its text, its code, and which of its lines are tests.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::lexer;

/// A Rust file.
pub struct Source<'a> {
    /// Path from the root of the workspace.
    pub path: &'a Path,
    /// The file as it is.
    pub text: String,
    /// The file without strings and comments, byte for byte in its place.
    pub code: String,
    /// Byte ranges of `#[cfg(test)]` items and `#[test]` functions.
    tests: Vec<Range<usize>>,
    /// Whether the module is declared for tests only.
    for_tests: bool,
}

/// A function and where it is.
pub struct Function<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its first line, from 1.
    pub line: usize,
    /// Lines from the one with `fn` to the closing brace.
    pub lines: usize,
    /// Byte at which it begins.
    pub at: usize,
}

impl<'a> Source<'a> {
    /// Reads `text`, the contents of `path`.
    pub fn new(path: &'a Path, text: String) -> Self {
        let code = lexer::code_of(&text);
        let mut tests: Vec<Range<usize>> = Vec::new();
        for marker in ["#[cfg(test)]", "#[test]", "#[cfg(any(test"] {
            for (at, _) in code.match_indices(marker) {
                tests.push(at..item_end(&code, at + marker.len()));
            }
        }
        Self { path, text, code, tests, for_tests: false }
    }

    /// Whether the whole file exists for tests.
    pub fn is_test_file(&self) -> bool {
        let in_dir = |name: &str| self.path.components().any(|part| part.as_os_str() == name);
        let name = self.path.file_stem().and_then(|name| name.to_str()).unwrap_or("");
        self.for_tests
            || in_dir("tests")
            || in_dir("benches")
            || in_dir("examples")
            || name == "tests"
            || name.ends_with("_tests")
    }

    /// Whether the byte at `at` belongs to a test.
    pub fn is_test(&self, at: usize) -> bool {
        self.is_test_file() || self.tests.iter().any(|range| range.contains(&at))
    }

    /// The line of the byte at `at`, from 1.
    pub fn line_of(&self, at: usize) -> usize {
        1 + self.code.as_bytes().iter().take(at).filter(|&&byte| byte == b'\n').count()
    }

    /// Every function that has a body.
    pub fn functions(&self) -> Vec<Function<'_>> {
        let mut functions = Vec::new();
        for (at, _) in self.code.match_indices("fn ") {
            let before = self.code[..at].chars().next_back();
            if before.is_some_and(|before| before.is_alphanumeric() || before == '_') {
                continue;
            }
            let rest = &self.code[at + 3..];
            let name = rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or("");
            if let Some(body) = body(&self.code, at + 3).filter(|_| !name.is_empty()) {
                let lines = 1 + self.code[at..body.end].matches('\n').count();
                functions.push(Function { name, line: self.line_of(at), lines, at });
            }
        }
        functions
    }
}

/// Marks the files of modules that another file declares as `#[cfg(test)] mod name;`.
pub fn mark_test_modules(sources: &mut [Source<'_>]) {
    let mut marked: BTreeSet<PathBuf> = BTreeSet::new();
    for source in sources.iter() {
        for range in &source.tests {
            let item = source.code.get(range.clone()).unwrap_or("");
            let name =
                item.strip_suffix(';').and_then(|item| item.rsplit_once("mod ")).map(|(_, name)| name.trim());
            marked.extend(name.into_iter().flat_map(|name| files_of(source.path, name)));
        }
    }
    for source in sources {
        // The submodules of a test module are in the directory of its name.
        let inside = |file: &PathBuf| source.path == file || source.path.starts_with(file.with_extension(""));
        source.for_tests = marked.iter().any(inside);
    }
}

/// Where the module `name` declared in `parent` may be.
fn files_of(parent: &Path, name: &str) -> Vec<PathBuf> {
    let beside = parent.with_file_name(name);
    let below = parent.with_extension("").join(name);
    if parent.file_stem().is_some_and(|stem| stem == "lib" || stem == "main" || stem == "mod") {
        vec![beside.with_extension("rs"), beside.join("mod.rs")]
    } else {
        vec![below.with_extension("rs"), below.join("mod.rs")]
    }
}

/// The braces of the function whose signature goes on at `from`; `None` if it has no body.
fn body(code: &str, from: usize) -> Option<Range<usize>> {
    let mut nesting = 0i32;
    for (offset, byte) in code.as_bytes().iter().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => nesting += 1,
            b')' | b']' => nesting -= 1,
            b';' if nesting == 0 => return None,
            b'{' if nesting == 0 => return Some(offset..closing_brace(code, offset)),
            _ => {}
        }
    }
    None
}

/// One past the brace that closes the one at `open`.
fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0i32;
    for (offset, byte) in code.as_bytes().iter().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return offset + 1;
        }
    }
    code.len()
}

/// Where the item after an attribute ends: at its closing brace, or at its semicolon.
fn item_end(code: &str, from: usize) -> usize {
    match body(code, from) {
        Some(body) => body.end,
        None => code[from..].find(';').map_or(code.len(), |end| from + end + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "fn a(x: [u8; 2]) {\n  let s = \"}\";\n}\ntrait T { fn b(); }\n#[cfg(test)]\nmod t {\n  fn c() {}\n}\n";

    #[test]
    fn functions_are_measured_from_fn_to_closing_brace() {
        let source = Source::new(Path::new("x.rs"), TEXT.to_owned());
        let found: Vec<_> =
            source.functions().iter().map(|it| (it.name.to_owned(), it.line, it.lines)).collect();
        assert_eq!(found, [("a".to_owned(), 1, 3), ("c".to_owned(), 7, 1)]);
    }

    #[test]
    fn what_is_compiled_for_tests_only_is_a_test() {
        let source = Source::new(Path::new("x.rs"), TEXT.to_owned());
        let tests: Vec<bool> = source.functions().iter().map(|it| source.is_test(it.at)).collect();
        assert_eq!(tests, [false, true]);
        assert!(Source::new(Path::new("crates/x/tests/y.rs"), String::new()).is_test_file());
    }

    #[test]
    fn a_module_declared_for_tests_is_a_test_file() {
        let parent =
            Source::new(Path::new("a/object.rs"), "#[cfg(test)]\nmod contract;\nmod real;\n".to_owned());
        let child = Source::new(Path::new("a/object/contract.rs"), String::new());
        let real = Source::new(Path::new("a/object/real.rs"), String::new());
        let grandchild = Source::new(Path::new("a/object/contract/cases.rs"), String::new());
        let mut sources = [parent, child, real, grandchild];
        mark_test_modules(&mut sources);
        assert_eq!(sources.each_ref().map(Source::is_test_file), [false, true, false, true]);
    }
}
