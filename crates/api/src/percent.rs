//! Names as parts of an address: in a path, in a query, in a connection string.
//!
//! What RFC 3986 calls unreserved stays as it is, and nothing else.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `text` without anything that could mean something in an address.
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// The inverse of [`encoded`]; a stray `%` stays as it is.
pub fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_mean_something_is_encoded() {
        assert_eq!(encoded("neondb_owner"), "neondb_owner");
        assert_eq!(encoded("a b/@:"), "a%20b%2F%40%3A");
        assert_eq!(encoded("br-a.b~c"), "br-a.b~c");
    }

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        for text in ["main", "feature/with slash", "p%q&r=s", "gr\u{fc}n"] {
            assert_eq!(decoded(&encoded(text)), text);
        }
        assert_eq!(decoded("100%"), "100%");
        assert_eq!(decoded("%zz%4"), "%zz%4");
    }
}
