//! Fuzzer bytes as a supply of small decisions.

/// Hands out the bytes of an input in order.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte, or `None` at the end.
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: u8) -> Option<usize> {
        self.byte().map(|byte| usize::from(byte % end))
    }

    /// The next `len` bytes, or what is left of them.
    pub(super) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
