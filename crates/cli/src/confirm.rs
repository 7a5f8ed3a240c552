//! Asks before something is destroyed.

use std::io::IsTerminal;

use crate::failure::{Failure, Kind};

/// Returns if `yes` was given or a person at the terminal agrees to `what` ("delete branch x and its data").
pub fn destructive(what: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Failure::new(Kind::Usage, format!("would {what}, but there is no terminal to ask on"))
            .hint("add --yes if that is what you want"));
    }
    let answer = dialoguer::Confirm::new()
        .with_prompt(format!("{what}?", what = capitalized(what)))
        .default(false)
        .wait_for_newline(true)
        .interact();
    match answer {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new(Kind::Failed, "cancelled; nothing was changed")),
        Err(error) => Err(Failure::new(Kind::Failed, format!("could not ask on the terminal: {error}"))
            .hint("add --yes if you are sure")),
    }
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}
