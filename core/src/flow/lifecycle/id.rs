//! Names for flows that never meet again.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Names one flow in all its events: 128 random bits, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId([u8; Self::LEN]);

impl FlowId {
    const LEN: usize = 16;

    /// The bits.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no flow ID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a flow ID has 32 hexadecimal digits")]
pub struct FlowIdError;

impl FromStr for FlowId {
    type Err = FlowIdError;

    fn from_str(text: &str) -> Result<Self, FlowIdError> {
        let mut bytes = [0; Self::LEN];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| FlowIdError)?;
        Ok(Self(bytes))
    }
}

impl Serialize for FlowId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FlowId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// IDs drawn at once: asking the operating system costs about as much for one as for many.
const POOL: usize = 64;

/// Where new IDs come from. Allocates nothing.
pub(super) struct FlowIds {
    pool: [u8; POOL * FlowId::LEN],
    used: usize,
    /// Stands in where the operating system gives no random bytes: unique, though not as hard to guess.
    fallback: RandomState,
    counter: u64,
}

impl FlowIds {
    pub(super) fn new() -> Self {
        Self { pool: [0; POOL * FlowId::LEN], used: POOL, fallback: RandomState::new(), counter: 0 }
    }

    pub(super) fn next(&mut self) -> FlowId {
        if self.used >= POOL && getrandom::fill(&mut self.pool).is_ok() {
            self.used = 0;
        }
        let (ids, _) = self.pool.as_chunks::<{ FlowId::LEN }>();
        if let Some(id) = ids.get(self.used) {
            self.used += 1;
            return FlowId(*id);
        }
        self.counter += 1;
        let [high, low] = [0, 1].map(|half| self.fallback.hash_one((self.counter, half)));
        FlowId(((u128::from(high) << 64) | u128::from(low)).to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_ids_are_the_same_and_each_is_read_back_from_its_text() {
        let mut ids = FlowIds::new();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..3 * POOL {
            let id = ids.next();
            assert_eq!(id.to_string().len(), 32);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert!(seen.insert(id));
        }
        assert_eq!("0123".parse::<FlowId>(), Err(FlowIdError));
    }
}
