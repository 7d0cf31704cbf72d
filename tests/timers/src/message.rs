//! What an observer sees of a datagram.

/// Message types, with keepalives told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Type 1.
    Initiation,
    /// Type 2.
    Response,
    /// Type 3.
    Cookie,
    /// Type 4 without content.
    Keepalive,
    /// Type 4 with content.
    Data,
}

impl Kind {
    /// The kind of a datagram that a node has sent.
    pub fn of(datagram: &[u8]) -> Self {
        match (datagram[0], datagram.len()) {
            (1, 148) => Self::Initiation,
            (2, 92) => Self::Response,
            (3, 64) => Self::Cookie,
            (4, 32) => Self::Keepalive,
            (4, 33..) => Self::Data,
            other => panic!("no WireGuard message: {other:?}"),
        }
    }
}

/// The index at byte 4: the sender's in handshake messages, otherwise the receiver's.
pub(crate) fn first_index(datagram: &[u8]) -> u32 {
    index_at(datagram, 4)
}

/// The index at byte 8: the receiver's in a response.
pub(crate) fn second_index(datagram: &[u8]) -> u32 {
    index_at(datagram, 8)
}

fn index_at(datagram: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(datagram[at..at + 4].try_into().expect("four bytes"))
}
