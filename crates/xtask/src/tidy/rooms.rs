//! The rules about the files of one crate: who needs whom, and how many lie side by side.
//!
//! A file needs another if its code, tests apart, names something of it. Files that need each other in a circle can only be
//! read, tested and changed as one; a folder of many files shows nobody what it is made of.
//!
//! Not here: what crates may use of each other (`dependencies`), and rooms of a crate (`edges`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree};

use super::source::Source;

/// The crates whose files have rooms.
const HELD: [&str; 10] = ["types", "wal", "redo", "store", "fs", "compute", "api", "server", "cli", "xtask"];
/// Most files of one folder beside folders.
const FOLDER_FILES_MAX: usize = 15;
/// Two files that are one idea, and which.
const PAIRS: [(&str, [&str; 2], &str); 3] = [
    ("wal", ["interpret", "rmgr::xact"], "what a record changes, and what commits and aborts do"),
    ("wal", ["page", "reader"], "a page of the log, and records that go on over several"),
    ("fs", ["directory", "tree"], "nodes, and the names that lead to them"),
];

/// Checks the files of every such crate.
pub fn check(sources: &[Source<'_>], breaches: &mut Vec<String>) {
    for name in HELD {
        let dir = Path::new("crates").join(name).join("src");
        let files: Vec<&Source<'_>> = sources.iter().filter(|source| source.path.starts_with(&dir)).collect();
        check_folders(&files, breaches);
        check_circles(name, &needs_of(name, sources), breaches);
    }
}

/// What each file of a crate needs, tests apart.
pub fn needs_of(name: &str, sources: &[Source<'_>]) -> Needs {
    let dir = Path::new("crates").join(name).join("src");
    let files = sources.iter().filter(|source| source.path.starts_with(&dir) && !source.is_test_file());
    needs(files.map(|source| (module_of(source.path, &dir), source.text.as_str())))
}

fn check_folders(files: &[&Source<'_>], breaches: &mut Vec<String>) {
    let mut folders: BTreeMap<&Path, usize> = BTreeMap::new();
    for source in files.iter().filter(|source| !source.is_test_file()) {
        *folders.entry(source.path.parent().unwrap_or(source.path)).or_default() += 1;
    }
    for (folder, count) in folders.into_iter().filter(|(_, count)| *count > FOLDER_FILES_MAX) {
        let folder = folder.display();
        breaches.push(format!(
            "{folder}: {count} files side by side; at most {FOLDER_FILES_MAX}, so give them folders"
        ));
    }
}

fn check_circles(name: &str, needs: &Needs, breaches: &mut Vec<String>) {
    for circle in circles(needs) {
        let pair = PAIRS.iter().any(|(of, pair, _)| *of == name && circle == *pair);
        if !pair {
            breaches.push(format!("crates/{name}: these need each other in a circle: {}", circle.join(", ")));
        }
    }
}

/// The files that each file needs, by their modules' paths; the crate's root is neither.
pub type Needs = BTreeMap<String, BTreeSet<String>>;

/// The path of a file's module: `heap::rows` of `heap/rows.rs`, nothing of `lib.rs` and `main.rs`.
fn module_of(path: &Path, dir: &Path) -> String {
    let below = path.strip_prefix(dir).unwrap_or(path).with_extension("");
    let parts: Vec<&str> = below.iter().filter_map(|part| part.to_str()).collect();
    match parts.as_slice() {
        ["lib" | "main"] => String::new(),
        [above @ .., "mod"] => above.join("::"),
        parts => parts.join("::"),
    }
}

fn needs<'a>(files: impl Iterator<Item = (String, &'a str)>) -> Needs {
    // What does not parse does not compile either.
    let files: Vec<_> =
        files.filter_map(|(module, text)| Some((module, syn::parse_file(text).ok()?))).collect();
    let known: BTreeSet<&str> = files.iter().map(|(module, _)| module.as_str()).collect();
    let mut exported = BTreeMap::new();
    for (_, file) in files.iter().filter(|(module, _)| module.is_empty()) {
        let mut names = Names { at: Vec::new(), paths: Vec::new() };
        for item in &file.items {
            if let Item::Use(used) = item {
                names.note_tree(&mut Vec::new(), &used.tree);
            }
        }
        exported.extend(names.paths.into_iter().filter_map(|path| Some((path.last()?.clone(), path))));
    }
    let mut needs = Needs::new();
    for (module, file) in files.iter().filter(|(module, _)| !module.is_empty()) {
        let mut names = Names { at: module.split("::").map(str::to_owned).collect(), paths: Vec::new() };
        names.visit_file(file);
        let needed = names.paths.iter().filter_map(|path| file_of(path, &known, &exported));
        needs.insert(module.clone(), needed.filter(|it| it != module).collect());
    }
    needs
}

/// The file whose module the path leads into, also by a name that the crate's root gives to something in it.
fn file_of(
    path: &[String],
    known: &BTreeSet<&str>,
    exported: &BTreeMap<String, Vec<String>>,
) -> Option<String> {
    let module = |path: &[String]| {
        (1..=path.len())
            .rev()
            .map(|len| path[..len].join("::"))
            .find(|module| known.contains(module.as_str()))
    };
    module(path).or_else(|| module(exported.get(path.first()?)?))
}

/// Collects the paths that begin in the crate, from its root on.
struct Names {
    /// The module that is read.
    at: Vec<String>,
    paths: Vec<Vec<String>>,
}

impl Names {
    fn note(&mut self, path: &[String]) {
        let (first, rest) = match path.split_first() {
            Some((first, rest)) => (first.as_str(), rest),
            None => return,
        };
        let mut from_root = match first {
            "crate" => Vec::new(),
            "self" => self.at.clone(),
            "super" => self.at[..self.at.len().saturating_sub(1)].to_vec(),
            // A module of the file that is read, or another crate; the one is found and the other is not.
            _ => self.at.iter().cloned().chain([first.to_owned()]).collect(),
        };
        let mut rest = rest;
        while let Some(("super", below)) = rest.split_first().map(|(part, below)| (part.as_str(), below)) {
            from_root.pop();
            rest = below;
        }
        from_root.extend(rest.iter().cloned());
        self.paths.push(from_root);
    }

    fn note_tree(&mut self, before: &mut Vec<String>, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.note_tree(before, &path.tree);
                before.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.note_tree(before, tree)),
            UseTree::Glob(_) => self.note(before),
            UseTree::Name(syn::UseName { ident }) | UseTree::Rename(syn::UseRename { ident, .. }) => {
                let whole: Vec<String> = before.iter().cloned().chain([ident.to_string()]).collect();
                self.note(&whole);
            }
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item(&mut self, item: &'ast Item) {
        if !attributes(item).iter().any(is_for_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        self.at.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.at.pop();
    }

    fn visit_item_use(&mut self, used: &'ast ItemUse) {
        // A file that lets others name its modules' items does not need them.
        if matches!(used.vis, syn::Visibility::Inherited) {
            self.note_tree(&mut Vec::new(), &used.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.note(&path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>());
        }
        visit::visit_path(self, path);
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Const(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attribute: &Attribute) -> bool {
    let words = match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => list.tokens.to_string(),
        _ => return false,
    };
    words == "test" || words.starts_with("any (test") || words.starts_with("any(test")
}

/// Those sets of files in which each leads to every other, sorted.
fn circles(needs: &Needs) -> Vec<Vec<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        needs.keys().map(|from| (from, reach(needs, from))).collect();
    let mut found: BTreeSet<Vec<String>> = BTreeSet::new();
    for (from, to) in &reached {
        let back = |other: &&&String| reached.get(**other).is_some_and(|its| its.contains(from));
        let circle: Vec<String> = to.iter().filter(back).map(|file| (**file).clone()).collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

fn reach<'a>(needs: &'a Needs, from: &String) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&String> = needs.get(from).into_iter().flatten().collect();
    while let Some(file) = next.pop() {
        if reached.insert(file) {
            next.extend(needs.get(file).into_iter().flatten());
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs_in(files: &[(&str, &str)]) -> Needs {
        needs(files.iter().map(|(module, text)| ((*module).to_owned(), *text)))
    }

    #[test]
    fn a_file_needs_what_its_code_names_and_not_what_its_tests_do() {
        let needs = needs_in(&[
            ("", "pub use e::Found;"),
            ("a", "use crate::{b::{self, Thing}, c as d}; mod inner; fn f() { crate::e::g(); inner::h() }"),
            ("a::inner", "use super::super::b; fn h() { std::mem::drop(1) }"),
            ("b", "#[cfg(test)] mod tests { use crate::a; } pub use crate::a::inner;"),
            ("c", "fn f(x: crate::b::Thing) {}"),
            ("e", ""),
            ("f", "use crate::Other; fn f() { crate::Found::new() }"),
        ]);
        let of = |file: &str| needs[file].iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        assert_eq!(["a", "a::inner", "b", "c", "e"].map(of), ["a::inner b c e", "b", "", "b", ""]);
        assert_eq!(of("f"), "e", "by a name of the root");
        assert!(circles(&needs).is_empty());
    }

    #[test]
    fn a_circle_is_found_whole_and_once() {
        let needs = needs_in(&[
            ("a", "use crate::b;"),
            ("b", "use crate::c;"),
            ("c", "use crate::a;"),
            ("d", "use crate::a;"),
        ]);
        assert_eq!(circles(&needs), [["a", "b", "c"]]);
        let mut breaches = Vec::new();
        check_circles("redo", &needs, &mut breaches);
        assert_eq!(breaches, ["crates/redo: these need each other in a circle: a, b, c"]);
    }

    #[test]
    fn a_module_is_named_by_its_place() {
        let of = |path: &str| module_of(Path::new(path), Path::new("crates/x/src"));
        let paths = ["crates/x/src/lib.rs", "crates/x/src/a/b.rs", "crates/x/src/verbs/mod.rs"];
        assert_eq!(paths.map(of), ["", "a::b", "verbs"]);
    }

    #[test]
    fn many_files_side_by_side_are_a_breach() {
        let paths: Vec<String> = (0..=FOLDER_FILES_MAX).map(|n| format!("crates/redo/src/f{n}.rs")).collect();
        let sources: Vec<Source<'_>> =
            paths.iter().map(|path| Source::new(Path::new(path), String::new())).collect();
        let mut breaches = Vec::new();
        check(&sources, &mut breaches);
        assert_eq!(breaches.len(), 1, "{breaches:?}");
        breaches.clear();
        check(&sources[1..], &mut breaches);
        assert!(breaches.is_empty(), "{breaches:?}");
    }
}
