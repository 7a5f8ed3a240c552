//! The order and the indentation of branches in a list: children below their parent, oldest first.

use std::ops::Deref;

use api::branch::Branch;

/// A branch and how its name is drawn.
pub struct Line<'a> {
    /// The branch.
    pub branch: &'a Branch,
    /// The branch it was made from, if it is in the list.
    pub parent: Option<&'a Branch>,
    /// The name with the lines that lead to it.
    pub drawn: String,
}

const TEE: &str = "\u{251c}\u{2500} ";
const CORNER: &str = "\u{2514}\u{2500} ";
const BAR: &str = "\u{2502}  ";
const GAP: &str = "   ";

/// All `branches`, each once. A branch whose parent is not in the list is drawn as a root.
pub fn lines(branches: &[impl Deref<Target = Branch>]) -> Vec<Line<'_>> {
    let mut sorted: Vec<&Branch> = branches.iter().map(Deref::deref).collect();
    sorted.sort_by_key(|branch| (&branch.created_at, &branch.id));
    let mut out = Vec::with_capacity(sorted.len());
    // Each entry: the branch, its parent, what to draw before its name, what its children are indented by.
    let mut pending: Vec<(&Branch, Option<&Branch>, String, String)> = Vec::new();
    for root in sorted.iter().rev().filter(|branch| parent_in(branch, &sorted).is_none()) {
        pending.push((root, None, String::new(), String::new()));
    }
    while let Some((branch, parent, lead, indent)) = pending.pop() {
        out.push(Line { branch, parent, drawn: format!("{lead}{}", branch.name) });
        let children: Vec<&Branch> = sorted.iter().copied().filter(|child| is_child(child, branch)).collect();
        for (index, child) in children.iter().enumerate().rev() {
            let last = index + 1 == children.len();
            let lead = format!("{indent}{}", if last { CORNER } else { TEE });
            let below = format!("{indent}{}", if last { GAP } else { BAR });
            pending.push((child, Some(branch), lead, below));
        }
    }
    out
}

fn is_child(child: &Branch, parent: &Branch) -> bool {
    child.parent_id.as_deref() == Some(&parent.id)
}

fn parent_in<'a>(branch: &Branch, branches: &[&'a Branch]) -> Option<&'a Branch> {
    branches.iter().copied().find(|parent| is_child(branch, parent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Said, samples};
    use serde_json::json;

    fn drawn(branches: &[Said<Branch>]) -> Vec<String> {
        lines(branches).into_iter().map(|line| line.drawn).collect()
    }

    fn branch(id: &str, parent: Option<&str>, created_at: &str) -> Said<Branch> {
        let part = json!({"id": id, "name": id, "parent_id": parent, "created_at": created_at});
        samples::said(samples::branch(part))
    }

    #[test]
    fn children_hang_below_their_parent_oldest_first() {
        let branches = [
            branch("fix", Some("main"), "3"),
            branch("main", None, "1"),
            branch("rescue", Some("main"), "2"),
            branch("deep", Some("rescue"), "4"),
            branch("deeper", Some("deep"), "5"),
        ];
        assert_eq!(
            drawn(&branches),
            [
                "main",
                "\u{251c}\u{2500} rescue",
                "\u{2502}  \u{2514}\u{2500} deep",
                "\u{2502}     \u{2514}\u{2500} deeper",
                "\u{2514}\u{2500} fix",
            ]
        );
    }

    #[test]
    fn a_branch_whose_parent_is_unknown_is_still_listed() {
        assert_eq!(drawn(&[branch("orphan", Some("gone"), "1")]), ["orphan"]);
    }
}
