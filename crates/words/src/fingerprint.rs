//! Fingerprints: 128 bits of xxh3 over a value's `Hash`. The memo key of every unit of work in compile.
//!
//! Not for security: inputs come from people who may already write the objects. 128 bits make an accidental
//! collision less likely than a broken memory bit.

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

/// The identity of a value's content; the default is that of nothing.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fingerprint(pub u128);

impl Fingerprint {
    /// The fingerprint of any hashable value. Equal values give equal fingerprints within one build of the program;
    /// it is not a format to store.
    pub fn of<T: Hash + ?Sized>(value: &T) -> Self {
        let mut state = Streaming(Xxh3::new());
        value.hash(&mut state);
        Self(state.0.digest128())
    }

    /// The fingerprint of bytes; stable across builds and machines, so it can be a resource version.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(xxhash_rust::xxh3::xxh3_128(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

struct Streaming(Xxh3);

impl Hasher for Streaming {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        self.0.digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_equal_fingerprints() {
        assert_eq!(Fingerprint::of(&("a", 1)), Fingerprint::of(&("a", 1)));
        assert_ne!(Fingerprint::of(&("a", 1)), Fingerprint::of(&("a", 2)));
        assert_ne!(Fingerprint::of(&("ab", "c")), Fingerprint::of(&("a", "bc")));
    }

    #[test]
    fn bytes_have_a_stable_version() {
        assert_eq!(Fingerprint::of_bytes(b"").to_string(), "99aa06d3014798d86001c324468d497f");
    }
}
