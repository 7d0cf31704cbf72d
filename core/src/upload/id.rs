//! The identity of a log stream.
//!
//! Whoever knows a [`PrivateId`] may write to the stream; its [`PublicId`] only names it. Private ids are secrets:
//! they are wiped from memory when dropped, never printed, and never part of an error. Formats, clamping and
//! derivation are those of Tailscale's logtail, so that its servers and tools accept them.
//!
//! Values only: any thread may use them.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Length of both kinds of id, in bytes. Their text is twice as many hexadecimal digits.
pub const ID_BYTES: usize = 32;

/// What is hashed after the public id of a device's main log to get the private id of its socket statistics.
const SOCKSTAT_LABEL: &[u8] = b"sockstat";

/// Permission to write to one log stream.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PrivateId([u8; ID_BYTES]);

/// The name of a log stream: the SHA-256 of its private id. Safe to print and to hand to support.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicId([u8; ID_BYTES]);

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is too short or too long.
    #[error("a log id has 64 hexadecimal digits, this text has {0} bytes")]
    Length(usize),
    /// A byte is not a hexadecimal digit. The text itself is not repeated: it may be most of a secret.
    #[error("byte {index} of the log id is not a hexadecimal digit")]
    Digit {
        /// Position of the first offending byte, from 0.
        index: usize,
    },
    /// The operating system has no random numbers to give.
    #[error("the system's random number generator failed; no log id can be made")]
    Random,
}

impl PrivateId {
    /// A new id from the system's random number generator.
    ///
    /// # Errors
    /// [`IdError::Random`] if the generator fails.
    pub fn generate() -> Result<Self, IdError> {
        let mut id = Self([0; ID_BYTES]);
        getrandom::fill(&mut id.0).map_err(|_| IdError::Random)?;
        // The bits that logtail clamps, as in a Curve25519 secret.
        let [first, .., last] = &mut id.0;
        *first &= 0xf8;
        *last = (*last & 0x7f) | 0x40;
        Ok(id)
    }

    /// The id with these bytes. Any bytes are an id.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; ID_BYTES]) -> Self {
        Self(bytes)
    }

    /// The secret bytes, for safe keeping by the host.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; ID_BYTES] {
        &self.0
    }

    /// The secret as 64 lower-case hexadecimal digits. The text wipes itself; don't log it.
    #[must_use]
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.0))
    }

    /// The name of the stream that this id writes to.
    #[must_use]
    pub fn public(&self) -> PublicId {
        PublicId(Sha256::digest(self.0).into())
    }
}

impl FromStr for PrivateId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        parse(text).map(Self)
    }
}

impl fmt::Debug for PrivateId {
    /// Shows the beginning of the public id instead of the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let public = self.public().to_string();
        write!(f, "PrivateId(of {}…)", public.get(..8).unwrap_or_default())
    }
}

impl PublicId {
    /// The id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; ID_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes of the id.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; ID_BYTES] {
        &self.0
    }

    /// The private id of the socket statistics that belong to the main log with this public id.
    ///
    /// Tailscale's derivation: whoever knows the public id can compute it, and thus write to that stream.
    #[must_use]
    pub fn sockstat_private(&self) -> PrivateId {
        let mut hash = Sha256::new();
        hash.update(self.to_string());
        hash.update(SOCKSTAT_LABEL);
        PrivateId(hash.finalize().into())
    }
}

impl FromStr for PublicId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        parse(text).map(Self)
    }
}

impl fmt::Display for PublicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicId({self})")
    }
}

fn parse(text: &str) -> Result<[u8; ID_BYTES], IdError> {
    if text.len() != 2 * ID_BYTES {
        return Err(IdError::Length(text.len()));
    }
    let mut bytes = [0; ID_BYTES];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| {
        let index = text.bytes().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(0);
        IdError::Digit { index }
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIVATE: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const PUBLIC: &str = "630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd";
    const SOCKSTAT: &str = "b17be4317c75406c1e8cbc2202e947e13338265cf93e5d34fb788bf5b60af541";
    const SOCKSTAT_PUBLIC: &str = "531d95c809f41f7d9e9b9d9a2091db2030d314a5e56040c2cc47d62a931e0b42";
    const OF_ZEROS: &str = "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925";

    #[test]
    fn ids_are_derived_as_logtail_does() {
        let private: PrivateId = PRIVATE.parse().unwrap();
        assert_eq!(*private.to_hex(), PRIVATE);
        assert_eq!(private.public().to_string(), PUBLIC);
        let sockstat = private.public().sockstat_private();
        assert_eq!(*sockstat.to_hex(), SOCKSTAT);
        assert_eq!(sockstat.public().to_string(), SOCKSTAT_PUBLIC);
        assert_eq!(PrivateId::from_bytes([0; 32]).public().to_string(), OF_ZEROS);
    }

    #[test]
    fn upper_case_is_read_and_lower_case_is_written() {
        assert_eq!(PUBLIC.to_uppercase().parse::<PublicId>().unwrap().to_string(), PUBLIC);
    }

    #[test]
    fn a_malformed_id_says_what_is_wrong_and_where() {
        assert_eq!("".parse::<PrivateId>(), Err(IdError::Length(0)));
        assert_eq!(PRIVATE[1..].parse::<PrivateId>(), Err(IdError::Length(63)));
        assert_eq!(format!("{PRIVATE}0").parse::<PublicId>(), Err(IdError::Length(65)));
        let wrong = PRIVATE.replace("0a", "0g");
        assert_eq!(wrong.parse::<PrivateId>(), Err(IdError::Digit { index: 21 }));
        let wide = format!("é{}", &PRIVATE[2..]);
        assert_eq!(wide.parse::<PrivateId>(), Err(IdError::Digit { index: 0 }));
    }

    #[test]
    fn new_ids_differ_and_carry_the_clamped_bits() {
        let (one, other) = (PrivateId::generate().unwrap(), PrivateId::generate().unwrap());
        assert_ne!(one, other);
        for id in [one, other] {
            assert_eq!(id.as_bytes()[0] & 0x07, 0);
            assert_eq!(id.as_bytes()[31] & 0xc0, 0x40);
        }
    }

    #[test]
    fn a_private_id_is_never_printed() {
        let private: PrivateId = PRIVATE.parse().unwrap();
        assert_eq!(format!("{private:?}"), "PrivateId(of 630dcd29…)");
    }
}
