//! The plain parts of WireGuard messages (paper, 5.4): type and session indexes.

/// Bytes of a transport message around the packet: header and authentication tag. One that carries nothing else is a
/// keepalive, and no message is shorter.
pub(super) const TRANSPORT_OVERHEAD: usize = 32;
/// No session lives beyond this many messages (paper, 6.1: Reject-After-Messages). Higher counters are forged, and
/// would overflow boringtun's replay window.
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);

const INITIATION_LEN: usize = 148;
const RESPONSE_LEN: usize = 92;
const COOKIE_REPLY_LEN: usize = 64;

/// Message types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Type 1.
    Initiation,
    /// Type 2.
    Response,
    /// Type 3.
    CookieReply,
    /// Type 4.
    Transport,
    /// Anything else.
    Unknown,
}

/// The type that the first four bytes name.
#[inline]
pub(super) fn kind(message: &[u8]) -> Kind {
    match message {
        [1, 0, 0, 0, ..] => Kind::Initiation,
        [2, 0, 0, 0, ..] => Kind::Response,
        [3, 0, 0, 0, ..] => Kind::CookieReply,
        [4, 0, 0, 0, ..] => Kind::Transport,
        _ => Kind::Unknown,
    }
}

/// The type of a received message, if its length and counter are possible.
#[inline]
pub(super) fn checked_kind(message: &[u8]) -> Kind {
    let kind = kind(message);
    let valid = match kind {
        Kind::Initiation => message.len() == INITIATION_LEN,
        Kind::Response => message.len() == RESPONSE_LEN,
        Kind::CookieReply => message.len() == COOKIE_REPLY_LEN,
        Kind::Transport => message.len() >= TRANSPORT_OVERHEAD && counter(message) < REJECT_AFTER_MESSAGES,
        Kind::Unknown => false,
    };
    if valid { kind } else { Kind::Unknown }
}

/// The sender's index in an initiation or response.
#[inline]
pub(super) fn sender(message: &[u8]) -> u32 {
    index_at(message, 4)
}

/// The receiver's index in a transport message or cookie reply.
#[inline]
pub(super) fn receiver(message: &[u8]) -> u32 {
    index_at(message, 4)
}

/// The receiver's index in a response.
#[inline]
pub(super) fn response_receiver(message: &[u8]) -> u32 {
    index_at(message, 8)
}

/// 0, which no session has, if the message is too short.
#[inline]
fn index_at(message: &[u8], at: usize) -> u32 {
    message.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

#[inline]
fn counter(message: &[u8]) -> u64 {
    message.get(8..).and_then(|rest| rest.first_chunk()).map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes))
}
