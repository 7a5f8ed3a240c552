//! The order and the indentation of branches in a list: children below their parent, oldest first.

use serde_json::Value;

use crate::wire;

/// A branch and how its name is drawn.
pub struct Line<'a> {
    /// The branch as the API gives it.
    pub branch: &'a Value,
    /// The branch it was made from, if it is in the list.
    pub parent: Option<&'a Value>,
    /// The name with the lines that lead to it.
    pub drawn: String,
}

const TEE: &str = "\u{251c}\u{2500} ";
const CORNER: &str = "\u{2514}\u{2500} ";
const BAR: &str = "\u{2502}  ";
const GAP: &str = "   ";

/// All `branches`, each once. A branch whose parent is not in the list is drawn as a root.
pub fn lines(branches: &[Value]) -> Vec<Line<'_>> {
    let mut sorted: Vec<&Value> = branches.iter().collect();
    sorted.sort_by_key(|branch| (wire::text(branch, "created_at"), wire::text(branch, "id")));
    let mut out = Vec::with_capacity(sorted.len());
    // Each entry: the branch, its parent, what to draw before its name, what its children are indented by.
    let mut pending: Vec<(&Value, Option<&Value>, String, String)> = Vec::new();
    for root in sorted.iter().rev().filter(|branch| parent_in(branch, &sorted).is_none()) {
        pending.push((root, None, String::new(), String::new()));
    }
    while let Some((branch, parent, lead, indent)) = pending.pop() {
        out.push(Line { branch, parent, drawn: format!("{lead}{}", wire::text(branch, "name")) });
        let children: Vec<&Value> = sorted.iter().copied().filter(|child| is_child(child, branch)).collect();
        for (index, child) in children.iter().enumerate().rev() {
            let last = index + 1 == children.len();
            let lead = format!("{indent}{}", if last { CORNER } else { TEE });
            let below = format!("{indent}{}", if last { GAP } else { BAR });
            pending.push((child, Some(branch), lead, below));
        }
    }
    out
}

fn is_child(child: &Value, parent: &Value) -> bool {
    wire::some_text(child, "parent_id").is_some_and(|id| id == wire::text(parent, "id"))
}

fn parent_in<'a>(branch: &Value, branches: &[&'a Value]) -> Option<&'a Value> {
    branches.iter().copied().find(|parent| is_child(branch, parent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn drawn(branches: &[Value]) -> Vec<String> {
        lines(branches).into_iter().map(|line| line.drawn).collect()
    }

    fn branch(id: &str, parent: Option<&str>, created_at: &str) -> Value {
        json!({"id": id, "name": id, "parent_id": parent, "created_at": created_at})
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
