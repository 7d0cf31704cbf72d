//! WireGuard keys: 32 bytes, in text as 44 characters of base64.
//!
//! Secret keys are wiped when dropped and never printed: their `Debug` says only that they are there.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use boringtun::x25519;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes of a Curve25519 key and of a preshared key.
const KEY_LEN: usize = 32;
/// Room that the base64 decoder wants for 44 characters, one byte more than a key.
const DECODE_LEN: usize = KEY_LEN + 1;

/// Why a text is not a key. Never carries the text, which may be most of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not 32 bytes in strict base64.
    #[error("not a WireGuard key: expected 44 characters of base64 that stand for 32 bytes")]
    Malformed,
    /// The operating system gave no random bytes.
    #[error("the operating system's random source failed; try again later")]
    NoRandomness,
}

fn decode(text: &str) -> Result<Zeroizing<[u8; KEY_LEN]>, KeyError> {
    let mut decoded = Zeroizing::new([0; DECODE_LEN]);
    match STANDARD.decode_slice(text, decoded.as_mut_slice()) {
        Ok(KEY_LEN) => decoded.first_chunk().map(|key| Zeroizing::new(*key)).ok_or(KeyError::Malformed),
        _ => Err(KeyError::Malformed),
    }
}

/// A peer's identity, also ours as peers know it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_LEN]);

impl PublicKey {
    /// The key with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// Decodes 44 characters of base64.
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|key| Self(*key))
    }

    /// The key's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    pub(super) fn to_x25519(self) -> x25519::PublicKey {
        x25519::PublicKey::from(self.0)
    }
}

impl fmt::Display for PublicKey {
    /// Base64, as in configuration files.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Our secret identity.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PrivateKey([u8; KEY_LEN]);

impl PrivateKey {
    /// The key with these bytes. Copies that the caller keeps are the caller's to wipe.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// Decodes 44 characters of base64.
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|key| Self(*key))
    }

    /// A new random key.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`] if the operating system has none to give.
    pub fn generate() -> Result<Self, KeyError> {
        let mut key = Self([0; KEY_LEN]);
        getrandom::fill(&mut key.0).map_err(|_| KeyError::NoRandomness)?;
        Ok(key)
    }

    /// 44 characters of base64, as in configuration files. A secret; wiped when it is dropped.
    #[must_use]
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0))
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(x25519::PublicKey::from(&self.to_x25519()).to_bytes())
    }

    pub(super) fn to_x25519(&self) -> x25519::StaticSecret {
        x25519::StaticSecret::from(self.0)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(secret)")
    }
}

/// A secret shared with one peer, mixed into the handshake.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PresharedKey([u8; KEY_LEN]);

impl PresharedKey {
    /// The key with these bytes. Copies that the caller keeps are the caller's to wipe.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// Decodes 44 characters of base64.
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|key| Self(*key))
    }

    /// 44 characters of base64, as in configuration files. A secret; wiped when it is dropped.
    #[must_use]
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0))
    }

    pub(super) const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_half_is_that_of_rfc_7748() {
        // Alice's keys of RFC 7748, 6.1.
        let private = PrivateKey::from_base64("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=").unwrap();
        assert_eq!(private.public_key().to_string(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
    }

    #[test]
    fn only_strict_base64_of_32_bytes_is_a_key() {
        let good = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
        assert!(PublicKey::from_base64(good).is_ok());
        for bad in [
            "",
            "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo",
            "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCp=",
            "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo= ",
            "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCoA",
            "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LA==",
            "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25_Co=",
        ] {
            assert_eq!(PublicKey::from_base64(bad), Err(KeyError::Malformed), "{bad}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let text = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
        let shown = format!(
            "{:?} {:?}",
            PrivateKey::from_base64(text).unwrap(),
            PresharedKey::from_base64(text).unwrap()
        );
        assert_eq!(shown, "PrivateKey(secret) PresharedKey(secret)");
    }
}
