//! Names in addresses: collections, and the private and public ID of a log stream.

use std::fmt;

use sha2::{Digest, Sha256};

/// The longest collection name: names look like domain names, and those end at 253 bytes.
const MAX_COLLECTION_BYTES: usize = 253;

/// A log stream's public ID: the SHA-256 of its private ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PublicId([u8; 32]);

impl PublicId {
    /// The public ID that belongs to a private ID, given as 64 hexadecimal digits of either case.
    /// The private ID itself is not kept.
    pub(crate) fn of_private(text: &str) -> Option<Self> {
        Some(Self(Sha256::digest(decode(text)?).into()))
    }

    /// A public ID, given as 64 hexadecimal digits of either case.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        decode(text).map(Self)
    }

    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for PublicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// The public ID (64 lower-case hexadecimal digits) of the stream with this private ID, which is given as 64
/// hexadecimal digits; `None` for any other text.
#[must_use]
pub fn public_id(private_id: &str) -> Option<String> {
    PublicId::of_private(private_id).map(|id| id.to_string())
}

/// Whether `name` may name a collection: letters, digits, `-`, `_` and `.`, at most 253 of them.
pub(crate) fn is_collection_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_COLLECTION_BYTES
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn decode(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_id_is_the_sha256_of_the_raw_private_id() {
        let private = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        let public = "630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd";
        assert_eq!(public_id(private).as_deref(), Some(public));
        assert_eq!(public_id(&private.to_uppercase()).as_deref(), Some(public));
    }

    #[test]
    fn anything_but_64_hexadecimal_digits_is_no_id() {
        for text in ["", "00", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(public_id(text), None, "{text}");
        }
    }

    #[test]
    fn collection_names_are_domain_like() {
        for name in ["tailtraffic.log.example.com", "a", "A-b_c.9", "."] {
            assert!(is_collection_name(name), "{name}");
        }
        for name in ["", "a b", "a/b", "é", "a\0", &"a".repeat(254)] {
            assert!(!is_collection_name(name), "{name}");
        }
    }
}
