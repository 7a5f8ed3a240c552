//! The bytes of a manifest: JSON, then a line that says how long it is and what its checksum is.
//!
//! ```text
//! {"format":2,...}\n
//! scion-manifest 2 00000000000001f3 9d2c6a4e\n
//! ```
//!
//! | bytes of the last line | field     | meaning                                                            |
//! |-----------------------:|-----------|--------------------------------------------------------------------|
//! |                      0 | `\n`      | ends the JSON, which has no line break                             |
//! |                1 to 15 | magic     | `scion-manifest ` with the space                                   |
//! |               16 to 17 | `format`  | `2` and a space; a reader refuses any other                        |
//! |               18 to 34 | `len`     | bytes of the JSON, 16 hexadecimal digits, and a space              |
//! |               35 to 43 | `crc32c`  | of the JSON, 8 hexadecimal digits, and a line break                |
//!
//! A manifest of format 1 has no such line. It is still read; the open that reads it writes format 2.
//!
//! Not here: what the fields mean, and who may write (`manifest`).

use super::content::{FORMAT_VERSION, Manifest};
use crate::error::{Result, StoreError};

/// The format without a trailer.
const FORMAT_BARE: u32 = 1;
const MAGIC: &str = "\nscion-manifest ";
/// Bytes of the trailer.
const TRAILER_BYTES: usize = 44;

pub(super) fn trailer(json: &[u8]) -> String {
    let line = format!("{MAGIC}{FORMAT_VERSION} {:016x} {:08x}\n", json.len(), crc32c::crc32c(json));
    debug_assert_eq!(line.len(), TRAILER_BYTES, "the fields have fixed widths");
    line
}

/// The bytes of a manifest.
pub(super) fn encode(name: &str, manifest: &Manifest) -> Result<Vec<u8>> {
    let mut bytes =
        serde_json::to_vec(manifest).map_err(|error| StoreError::corrupt(name, 0, error.to_string()))?;
    let line = trailer(&bytes);
    bytes.extend(line.as_bytes());
    Ok(bytes)
}

/// The manifest whose bytes are stored under `name`.
pub(super) fn decode(name: &str, bytes: &[u8]) -> Result<Manifest> {
    let corrupt = |at: usize, reason: String| StoreError::corrupt(name, at as u64, reason);
    let split = bytes.len().checked_sub(TRAILER_BYTES).and_then(|at| bytes.split_at_checked(at));
    let (json, format) = match split {
        Some((json, line)) if line.starts_with(MAGIC.as_bytes()) => {
            if line != trailer(json).as_bytes() {
                let found = String::from_utf8_lossy(line);
                let reason = format!("ends with {:?}, expected {:?}", found.trim(), trailer(json).trim());
                return Err(corrupt(json.len(), reason));
            }
            (json, FORMAT_VERSION)
        }
        _ => (bytes, FORMAT_BARE),
    };
    let mut manifest: Manifest =
        serde_json::from_slice(json).map_err(|error| corrupt(error.column(), error.to_string()))?;
    if manifest.format != format {
        let reason = match manifest.format {
            FORMAT_VERSION => "the line with its checksum is missing".to_owned(),
            other => {
                format!("manifest format {other}, this program reads {FORMAT_BARE} and {FORMAT_VERSION}")
            }
        };
        return Err(corrupt(json.len(), reason));
    }
    manifest.format = FORMAT_VERSION;
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::super::tests::full;
    use super::*;

    const NAME: &str = "manifest/0000000000000001.json";

    /// One flipped digit of a start once made a branch read its parent at another moment, and nobody noticed.
    /// Rule 11 of the crate's README.
    #[test]
    fn rule_11_every_flipped_bit_of_a_manifest_is_noticed() {
        let sound = encode(NAME, &full()).unwrap();
        assert_eq!(decode(NAME, &sound).unwrap(), full());
        for at in 0..sound.len() {
            for bit in 0..8 {
                let mut damaged = sound.clone();
                damaged[at] ^= 1 << bit;
                let error = decode(NAME, &damaged).expect_err("it is damaged");
                assert!(matches!(&error, StoreError::Corrupt { object, .. } if object == NAME), "{error}");
            }
        }
    }

    #[test]
    fn rule_11_a_manifest_cut_off_anywhere_is_noticed() {
        let sound = encode(NAME, &full()).unwrap();
        for len in 0..sound.len() {
            assert!(decode(NAME, &sound[..len]).is_err(), "{len} bytes of {}", sound.len());
        }
        assert!(decode(NAME, &[&sound[..], b"\n"].concat()).is_err());
    }

    #[test]
    fn a_manifest_of_the_format_without_a_checksum_is_still_read() {
        let mut text = String::from_utf8(encode(NAME, &full()).unwrap()).unwrap();
        text.truncate(text.len() - TRAILER_BYTES);
        let old = text.replacen("\"format\":2", "\"format\":1", 1);
        assert_ne!(old, text);
        let old = old.replace(",\"nonce\":\"\"", "").replace("\"incarnation\":0,", "");
        let old = old.replace(",\"next_incarnation\":1", "");
        assert!(!old.contains("nonce") && !old.contains("incarnation"), "{old}");
        assert_eq!(decode(NAME, old.as_bytes()).unwrap(), full());
        let unknown = old.replacen("\"format\":1", "\"format\":3", 1);
        assert!(decode(NAME, unknown.as_bytes()).unwrap_err().to_string().contains("format 3"));
    }
}
