//! Rust source with its strings, character literals and comments blanked out.
//!
//! Every byte that is not code becomes a space and newlines stay, so that offsets and lines are those of the source.

/// The code in `text`, byte for byte in its place.
pub fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out: Vec<u8> = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let length = blank_length(bytes, at);
        if length == 0 {
            out.push(if bytes[at].is_ascii() { bytes[at] } else { b' ' });
            at += 1;
        } else {
            let end = (at + length).min(bytes.len());
            out.extend(bytes[at..end].iter().map(|&byte| if byte == b'\n' { b'\n' } else { b' ' }));
            at = end;
        }
    }
    String::from_utf8(out).unwrap_or_default()
}

/// How many bytes from `at` on are a comment or a literal; 0 if `at` begins neither.
fn blank_length(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        return rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return block_comment(rest);
    }
    let in_word = at > 0 && is_word(bytes[at - 1]);
    match rest[0] {
        b'"' => string(rest, 1),
        b'b' if rest.starts_with(b"b\"") && !in_word => string(rest, 2),
        b'c' if rest.starts_with(b"c\"") && !in_word => string(rest, 2),
        b'r' | b'b' | b'c' if !in_word => raw_string(rest),
        b'\'' => character(rest),
        _ => 0,
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Length of a string whose contents begin at `from`.
fn string(rest: &[u8], from: usize) -> usize {
    let mut at = from;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of `r"..."`, `r#"..."#`, `br"..."`; 0 if it is a word or a raw identifier.
fn raw_string(rest: &[u8]) -> usize {
    let prefix = rest.iter().take_while(|byte| b"rbc".contains(byte)).count();
    let hashes = rest[prefix..].iter().take_while(|&&byte| byte == b'#').count();
    let open = prefix + hashes;
    if prefix > 2 || rest.get(prefix - 1) != Some(&b'r') || rest.get(open) != Some(&b'"') {
        return 0;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let body = &rest[open + 1..];
    body.windows(close.len())
        .position(|window| window == close)
        .map_or(rest.len(), |end| open + 1 + end + close.len())
}

/// Length of a character literal; 0 if it is a lifetime.
fn character(rest: &[u8]) -> usize {
    match rest {
        [_, b'\\', ..] => rest.iter().skip(3).position(|&byte| byte == b'\'').map_or(0, |end| end + 4),
        [_, first, ..] => {
            let width = match first {
                0..=0x7F => 1,
                0x80..=0xDF => 2,
                0xE0..=0xEF => 3,
                _ => 4,
            };
            if rest.get(1 + width) == Some(&b'\'') { width + 2 } else { 0 }
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_is_left_and_it_stays_in_its_place() {
        let cases = [
            ("a // x\nb", "a     \nb"),
            ("a /* x /* y */ z */ b", "a                   b"),
            (r#"f("}\"") + 1"#, "f(     ) + 1"),
            (r##"f(r#"a"}"#)"##, "f(        )"),
            ("'{' 'a '\\'' '\\u{7d}'", "    'a              "),
            ("for_r\"x\"", "for_r   "),
        ];
        for (text, code) in cases {
            assert_eq!(code_of(text), code, "{text}");
        }
    }
}
