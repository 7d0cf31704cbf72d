//! Which handshake messages are worth the work of answering them.
//!
//! Answering costs up to 0.5 ms, and anybody can send a message that looks right so far: its first MAC needs our public
//! key only. So messages whose source address is not proven are admitted at a low rate, per source and all together;
//! whoever sends more gets a cookie, which proves the address when the next message brings it back (paper, 5.3 and
//! 5.4.7). Messages that do are limited per source alone: no flood from other addresses, real or spoofed, takes
//! anything from them.
//!
//! Owned by the engine and called on its thread with the engine's time. It has no timer and never allocates: buckets
//! are filled up when they are looked at, and tables have a fixed size.

mod sources;

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use boringtun::{
    noise::{TunnResult, errors::WireGuardError, rate_limiter::RateLimiter},
    x25519,
};
use sha2::{Digest, Sha256};

use self::sources::{Bucket, Rate, Sources};
use crate::clock::Instant;

/// A source may start five handshakes at once and then 20 a second, as with Linux and wireguard-go: enough for many
/// clients behind one address.
const PER_SOURCE: Rate = Rate::new(Duration::from_millis(50), 5);
/// All sources that have not proven their address, together: 50 a second, so that a flood takes at most a few per
/// cent of a core.
const UNPROVEN: Rate = Rate::new(Duration::from_millis(20), 50);

/// What to do about a handshake message.
#[derive(Debug)]
pub(super) enum Verdict<'a> {
    /// Handle it.
    Admit,
    /// Send this cookie instead: the source must show that it receives at its address.
    Prove(&'a [u8]),
    /// Drop it: the source, which is where it says, sends too many.
    TooMany,
    /// Drop it: it is not meant for us.
    Refuse(WireGuardError),
}

/// See the module.
pub(super) struct HandshakeLimiter {
    /// Checks both MACs and makes cookies; its own limit is zero, so that it always looks at the cookie.
    macs: RateLimiter,
    /// Sources that showed their cookie. Apart from the others, so that spoofed ones can't push them out.
    proven: Sources,
    unproven: Sources,
    all_unproven: Bucket,
}

impl HandshakeLimiter {
    /// A limiter for messages to the owner of `public_key`.
    pub(super) fn new(public_key: &x25519::PublicKey) -> Self {
        Self {
            macs: RateLimiter::new(public_key, 0),
            proven: Sources::new(),
            unproven: Sources::new(),
            all_unproven: Bucket::default(),
        }
    }

    /// Judges an initiation or response that came `from` there. A cookie is written to `buffer`, of 64 bytes or more.
    pub(super) fn judge<'a>(
        &mut self,
        now: Instant,
        from: SocketAddr,
        message: &[u8],
        buffer: &'a mut [u8],
    ) -> Verdict<'a> {
        match self.macs.verify_packet(Some(cookie_address(from)), message, buffer) {
            Ok(_) if self.proven.take(now, from.ip(), PER_SOURCE) => Verdict::Admit,
            Ok(_) => Verdict::TooMany,
            Err(TunnResult::WriteToNetwork(cookie)) => {
                // The source's own first: who sends too many alone must not make the others prove themselves.
                let admitted =
                    self.unproven.take(now, from.ip(), PER_SOURCE) && self.all_unproven.take(now, UNPROVEN);
                if admitted { Verdict::Admit } else { Verdict::Prove(cookie) }
            }
            Err(TunnResult::Err(error)) => Verdict::Refuse(error),
            Err(_) => Verdict::Refuse(WireGuardError::UnexpectedPacket),
        }
    }
}

/// A stand-in for address and port: cookies must cover both (paper, 5.4.7), and boringtun's cover an address only.
/// Half of a SHA-256, so that nobody finds another source with the same one.
fn cookie_address(from: SocketAddr) -> IpAddr {
    let octets = match from.ip().to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    let digest = Sha256::new().chain_update(octets).chain_update(from.port().to_be_bytes()).finalize();
    let half = digest.first_chunk().copied().unwrap_or_default();
    IpAddr::V6(Ipv6Addr::from_octets(half))
}

#[cfg(test)]
mod tests;
