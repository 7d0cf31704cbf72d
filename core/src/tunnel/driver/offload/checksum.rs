//! The Internet checksum (RFC 1071).

/// A ones' complement sum in the making.
///
/// Kept in the machine's byte order, as the sum doesn't depend on it (RFC 1071, 2 B).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum(u64);

impl Sum {
    /// Adds bytes that begin at an even place of what is summed. An odd last byte counts as if a zero followed, so
    /// nothing may come after it.
    ///
    /// 32 bits at a time into independent lanes, which compilers turn into vector instructions. 64 bits hold the sums of 2^32
    /// words.
    #[must_use]
    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        let mut lanes = [0_u64; 4];
        let (blocks, rest) = bytes.as_chunks::<16>();
        for block in blocks {
            let (words, _) = block.as_chunks::<4>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane += u64::from(u32::from_ne_bytes(*word));
            }
        }
        let (pairs, odd) = rest.as_chunks::<2>();
        let mut sum = self.0 + lanes.iter().sum::<u64>();
        for pair in pairs {
            sum += u64::from(u16::from_ne_bytes(*pair));
        }
        if let [last] = odd {
            sum += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        Self(sum)
    }

    /// Adds a number that stands, or would stand, in network order.
    #[must_use]
    pub(super) fn number(self, number: u16) -> Self {
        Self(self.0 + u64::from(u16::from_ne_bytes(number.to_be_bytes())))
    }

    /// The sum as it stands in a packet whose checksum somebody else will complete.
    pub(super) fn partial(self) -> [u8; 2] {
        self.folded().to_ne_bytes()
    }

    /// The checksum: the complement of the sum.
    pub(super) fn checksum(self) -> [u8; 2] {
        (!self.folded()).to_ne_bytes()
    }

    /// Whether the bytes, which contained their checksum, are intact.
    pub(super) fn is_valid(self) -> bool {
        self.folded() == u16::MAX
    }

    fn folded(self) -> u16 {
        let mut sum = self.0;
        while sum > u64::from(u16::MAX) {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        // The loop ends only when it fits.
        u16::try_from(sum).unwrap_or(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071, word by word.
    fn by_the_book(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            sum = (sum >> 16) + (sum & 0xffff);
        }
        !u16::try_from(sum).unwrap()
    }

    proptest! {
        #[test]
        fn sums_like_the_book_in_any_parts(
            bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0..100_usize, number: u16
        ) {
            let (first, second) = bytes.split_at((2 * cut).min(bytes.len() / 2 * 2));
            let sum = Sum::default().bytes(first).bytes(second);
            prop_assert_eq!(u16::from_be_bytes(sum.checksum()), by_the_book(&bytes));
            prop_assert_eq!(u16::from_be_bytes(sum.partial()), !by_the_book(&bytes));

            let whole = [&number.to_be_bytes(), &bytes[..]].concat();
            let checksum = sum.number(number).checksum();
            prop_assert_eq!(u16::from_be_bytes(checksum), by_the_book(&whole));
            if whole.len().is_multiple_of(2) {
                prop_assert!(Sum::default().bytes(&whole).bytes(&checksum).is_valid());
            }
        }
    }
}
