//! Bytes that are nearly right: what decoders of foreign bytes are tried with in every run of the tests.
//!
//! The functions that are tried are the fuzz targets of the crates (`cargo xtask fuzz`), which a fuzzer knows better how to
//! break; this is what a change is spared of it, and the same in each run.

use std::fmt::Write as _;
use std::fs;

use fastrand::Rng;

use crate::seeds;

/// Changed copies of each sample.
const TRIES: usize = 8_000;
/// What lengths, counts and flags are when they are at an end of what they can be.
const ENDS: [u64; 8] = [0, 1, 0x7F, 0x80, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF];

/// Gives `target` the samples, all that begins one of them, and changed copies. What it panics at is printed.
///
/// Where `SCION_FUZZ_SEEDS` is set, the samples become the first inputs of the fuzz target called `name` instead.
pub fn stands(name: &str, samples: &[Vec<u8>], target: fn(&[u8])) {
    if std::env::var_os("SCION_FUZZ_SEEDS").is_some() {
        fs::create_dir_all(seeds::dir(name)).unwrap();
        for (number, sample) in samples.iter().enumerate() {
            fs::write(seeds::dir(name).join(format!("sample-{number}")), sample).unwrap();
        }
        return;
    }
    let mut random = Rng::with_seed(0x5C10);
    for sample in samples {
        try_one(sample, target);
        let step = (sample.len() / 100).max(1);
        (0..sample.len()).step_by(step).for_each(|len| try_one(&sample[..len], target));
        for _ in 0..TRIES {
            let mut bytes = sample.clone();
            for _ in 0..=random.usize(..3) {
                change(&mut bytes, samples, &mut random);
            }
            try_one(&bytes, target);
        }
    }
}

fn try_one(bytes: &[u8], target: fn(&[u8])) {
    let shown = Shown(bytes);
    target(bytes);
    drop(shown);
}

/// An input, printed if it makes something panic.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut hex = String::new();
            self.0.iter().for_each(|byte| write!(hex, "{byte:02x}").unwrap());
            eprintln!("given {} bytes: {hex}\nas text: {:?}", self.0.len(), String::from_utf8_lossy(self.0));
        }
    }
}

fn change(bytes: &mut Vec<u8>, samples: &[Vec<u8>], random: &mut Rng) {
    let at = random.usize(..=bytes.len());
    let until = (at + random.usize(..20)).min(bytes.len());
    match random.usize(..8) {
        0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.usize(..8),
        2 if at < bytes.len() => bytes[at] = random.u8(..),
        3 => {
            let end = random.choice(ENDS).unwrap_or_default();
            let value = if random.bool() { end.to_le_bytes() } else { end.to_be_bytes() };
            let len = [1, 2, 4, 8][random.usize(..4)].min(bytes.len() - at);
            let from = if value[0] == 0 { 8 - len } else { 0 };
            bytes[at..at + len].copy_from_slice(&value[from..from + len]);
        }
        4 => drop(bytes.drain(at..until)),
        5 => {
            let again = bytes[at..until].to_vec();
            bytes.splice(at..at, again);
        }
        6 => {
            let other = &samples[random.usize(..samples.len())];
            let from = random.usize(..=other.len());
            let part = &other[from..(from + random.usize(..200)).min(other.len())];
            bytes.splice(at..until, part.iter().copied());
        }
        _ => bytes.truncate(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoder_that_believes_a_length_is_found_out() {
        stands("none", &[vec![2, 7, 7]], |bytes| {
            if let [len, rest @ ..] = bytes {
                assert!(rest.get(..usize::from(*len)).is_none_or(|field| field.len() == usize::from(*len)));
            }
        });
        let believes = |bytes: &[u8]| drop(bytes[1..=usize::from(bytes[0])].to_vec());
        assert!(std::panic::catch_unwind(|| stands("none", &[vec![2, 7, 7]], believes)).is_err());
    }
}
