//! The bytes of test streams: every position has a known value, so that receivers can check what they get.
//!
//! A stream begins with a 16-byte header (request length and response length, big-endian), so that a server knows what
//! is wanted of it. After it follows a fixed pseudo-random block over and over. The block's length is a prime, so a
//! segment that is lost, doubled or misplaced shows.

use std::sync::Arc;

/// Length of the stream header.
pub(crate) const HEADER: usize = 16;
/// The largest prime below 64 KiB: no packet or buffer size divides it.
const BLOCK: usize = 65_521;

/// The repeated block; one per host.
#[derive(Clone)]
pub(crate) struct Pattern(Arc<[u8]>);

impl Pattern {
    pub(crate) fn new() -> Self {
        // Xorshift64 with Marsaglia's first parameter triple.
        let mut x = 0x2545_f491_4f6c_dd1d_u64;
        let block = std::iter::repeat_with(|| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x.to_le_bytes()[7]
        });
        Self(block.take(BLOCK).collect())
    }

    /// Calls `each` with the runs of the pattern from `offset` on that cover `len` bytes, until it returns `false`.
    fn runs(&self, offset: u64, len: usize, mut each: impl FnMut(usize, &[u8]) -> bool) -> bool {
        let mut at = usize::try_from(offset % BLOCK as u64).unwrap_or(0);
        let mut done = 0;
        while done < len {
            let tail = self.0.get(at..).unwrap_or_default();
            let run = tail.get(..len - done).unwrap_or(tail);
            if !each(done, run) {
                return false;
            }
            done += run.len();
            at = 0;
        }
        true
    }
}

/// The content of one stream or datagram.
#[derive(Clone)]
pub(crate) struct Content {
    pattern: Pattern,
    header: [u8; HEADER],
}

impl Content {
    pub(crate) fn new(pattern: &Pattern, request: u64, response: u64) -> Self {
        let mut header = [0; HEADER];
        let (first, second) = header.split_at_mut(HEADER / 2);
        first.copy_from_slice(&request.to_be_bytes());
        second.copy_from_slice(&response.to_be_bytes());
        Self { pattern: pattern.clone(), header }
    }

    pub(crate) fn from_header(pattern: &Pattern, header: [u8; HEADER]) -> Self {
        Self { pattern: pattern.clone(), header }
    }

    /// The two lengths of the header: request and response.
    pub(crate) fn lengths(&self) -> (u64, u64) {
        let value = u128::from_be_bytes(self.header);
        ((value >> 64) as u64, value as u64)
    }

    /// Writes what belongs at `offset`.
    pub(crate) fn fill(&self, offset: u64, into: &mut [u8]) {
        let header = self.header_from(offset);
        let (head, body) = into.split_at_mut(header.len().min(into.len()));
        head.copy_from_slice(header.get(..head.len()).unwrap_or_default());
        let offset = offset + head.len() as u64;
        self.pattern.runs(offset, body.len(), |at, run| {
            if let Some(part) = body.get_mut(at..at + run.len()) {
                part.copy_from_slice(run);
            }
            true
        });
    }

    /// Whether `bytes` is what belongs at `offset`.
    pub(crate) fn matches(&self, offset: u64, bytes: &[u8]) -> bool {
        let header = self.header_from(offset);
        let (head, body) = bytes.split_at(header.len().min(bytes.len()));
        header.starts_with(head)
            && self.pattern.runs(offset + head.len() as u64, body.len(), |at, run| {
                body.get(at..at + run.len()) == Some(run)
            })
    }

    fn header_from(&self, offset: u64) -> &[u8] {
        usize::try_from(offset).ok().and_then(|offset| self.header.get(offset..)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_make_the_same_stream() {
        let content = Content::new(&Pattern::new(), 7, 9);
        let mut whole = vec![0; 200_000];
        content.fill(0, &mut whole);
        let mut pieces = Vec::new();
        for size in [1, 7, 15, 16, 17, 1_200, 65_521, 70_000].into_iter().cycle() {
            let size = size.min(whole.len() - pieces.len());
            if size == 0 {
                break;
            }
            let mut piece = vec![0; size];
            content.fill(pieces.len() as u64, &mut piece);
            assert!(content.matches(pieces.len() as u64, &piece));
            pieces.extend_from_slice(&piece);
        }
        assert_eq!(pieces, whole);
    }

    #[test]
    fn a_changed_or_shifted_byte_is_noticed() {
        let content = Content::new(&Pattern::new(), 7, 9);
        let mut bytes = vec![0; 100_000];
        content.fill(0, &mut bytes);
        for at in [0, 15, 16, 65_537, 99_999] {
            bytes[at] ^= 1;
            assert!(!content.matches(0, &bytes), "byte {at}");
            bytes[at] ^= 1;
        }
        assert!(content.matches(0, &bytes));
        assert!(!content.matches(1, &bytes));
        assert!(!content.matches(1_200, &bytes[2_400..4_800]));
    }

    #[test]
    fn the_header_carries_both_lengths() {
        let content = Content::new(&Pattern::new(), 1, u64::MAX);
        let mut header = [0; HEADER];
        content.fill(0, &mut header);
        assert_eq!(Content::from_header(&Pattern::new(), header).lengths(), (1, u64::MAX));
    }
}
