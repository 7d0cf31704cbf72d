//! ICMP echo: one request at a time.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use smoltcp::{
    iface::SocketHandle,
    phy::ChecksumCapabilities,
    socket::icmp::{PacketBuffer, PacketMetadata, Socket},
    wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress},
};
use tuntrail::clock::Instant;

use crate::{
    content::Content,
    error::HostError,
    tcp_client::{DEFAULT_WITHIN, Progress, Reply},
    udp::LOST_AFTER,
};

/// One request is on the way at a time; late replies take a few slots more.
const SLOTS: usize = 8;
/// Bytes before the content: type, code, checksum, identifier, sequence number.
pub(crate) const ICMP_HEADER: usize = 8;

/// Echo requests to send.
#[derive(Debug, Clone, Copy)]
pub struct Ping {
    pub(crate) to: IpAddr,
    pub(crate) size: usize,
    pub(crate) count: u16,
    pub(crate) within: Duration,
}

impl Ping {
    /// Sends `count` requests with 56 content bytes to `to`, each after the answer to the one before, or after two
    /// seconds without one.
    #[must_use]
    pub const fn new(to: IpAddr, count: u16) -> Self {
        Self { to, size: 56, count, within: DEFAULT_WITHIN }
    }

    /// Sets the number of content bytes, 0 to what fits into one packet.
    #[must_use]
    pub const fn size(mut self, size: usize) -> Self {
        self.size = size;
        self
    }

    /// Fails with [`HostError::Timeout`] if it takes longer. Default: 30 s.
    #[must_use]
    pub const fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }
}

/// Answers to a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PingReport {
    /// Requests sent.
    pub sent: u64,
    /// Answers received in time and with the right content.
    pub received: u64,
    /// Shortest round trip.
    pub min: Duration,
    /// Longest round trip.
    pub max: Duration,
    /// From the command to the last answer, or to giving it up.
    pub elapsed: Duration,
}

/// An unbound socket for packets of up to `mtu` bytes.
pub(crate) fn socket(mtu: usize) -> Socket<'static> {
    let buffer = || PacketBuffer::new(vec![PacketMetadata::EMPTY; SLOTS], vec![0; SLOTS * mtu]);
    Socket::new(buffer(), buffer())
}

/// A running ping.
pub(crate) struct Client {
    pub(crate) handle: SocketHandle,
    pub(crate) reply: Reply<PingReport>,
    ping: Ping,
    ident: u16,
    content: Vec<u8>,
    started: Instant,
    sent: u16,
    received: u64,
    /// Start of the request that is on the way.
    waiting: Option<Instant>,
    min: Duration,
    max: Duration,
}

impl Client {
    pub(crate) fn new(
        handle: SocketHandle,
        ping: Ping,
        ident: u16,
        content: &Content,
        started: Instant,
        reply: Reply<PingReport>,
    ) -> Self {
        let mut bytes = vec![0; ping.size];
        content.fill(0, &mut bytes);
        Self {
            handle,
            reply,
            ping,
            ident,
            content: bytes,
            started,
            sent: 0,
            received: 0,
            waiting: None,
            min: Duration::MAX,
            max: Duration::ZERO,
        }
    }

    fn end(&self) -> Instant {
        self.started + self.ping.within
    }

    /// When the client must be looked at although nothing arrived.
    pub(crate) fn deadline(&self) -> Instant {
        let end = self.end();
        self.waiting.map_or(end, |since| end.min(since + LOST_AFTER))
    }

    pub(crate) fn service(&mut self, now: Instant, socket: &mut Socket<'_>) -> Progress<PingReport> {
        while let Ok((packet, from)) = socket.recv() {
            if let Some(since) = self.waiting
                && IpAddr::from(from) == self.ping.to
                && is_reply(packet, &from, self.sent.wrapping_sub(1), &self.content)
            {
                let trip = now.saturating_duration_since(since);
                self.received += 1;
                self.min = self.min.min(trip);
                self.max = self.max.max(trip);
                self.waiting = None;
            }
        }
        if self.waiting.is_some_and(|since| now >= since + LOST_AFTER) {
            self.waiting = None;
        }
        if self.waiting.is_none() && self.sent == self.ping.count {
            return Progress::Done(self.report(now));
        }
        if now >= self.end() {
            return Progress::Done(Err(HostError::Timeout {
                to: SocketAddr::new(self.ping.to, 0),
                within: self.ping.within,
                sent: u64::from(self.sent),
                received: self.received,
            }));
        }
        if self.waiting.is_some() {
            return Progress::Idle;
        }
        // The previous request has left the buffer, so there is room.
        if let Ok(buffer) = socket.send(ICMP_HEADER + self.content.len(), self.ping.to.into()) {
            self.write_request(buffer);
        }
        self.sent += 1;
        self.waiting = Some(now);
        Progress::Moved
    }

    /// The stack fills in the checksum when it sends.
    fn write_request(&self, buffer: &mut [u8]) {
        let (ident, seq_no, data) = (self.ident, self.sent, self.content.as_slice());
        let checksums = ChecksumCapabilities::ignored();
        match self.ping.to {
            IpAddr::V4(_) => Icmpv4Repr::EchoRequest { ident, seq_no, data }
                .emit(&mut Icmpv4Packet::new_unchecked(buffer), &checksums),
            IpAddr::V6(to) => Icmpv6Repr::EchoRequest { ident, seq_no, data }.emit(
                &to,
                &to,
                &mut Icmpv6Packet::new_unchecked(buffer),
                &checksums,
            ),
        }
    }

    fn report(&self, now: Instant) -> Result<PingReport, HostError> {
        let sent = u64::from(self.sent);
        if self.received == 0 && sent > 0 {
            return Err(HostError::NoReply { to: self.ping.to, sent });
        }
        Ok(PingReport {
            sent,
            received: self.received,
            min: self.min.min(self.max),
            max: self.max,
            elapsed: now.saturating_duration_since(self.started),
        })
    }
}

/// Whether `packet` answers request `number`. The socket already matched the identifier, the stack the checksum.
fn is_reply(packet: &[u8], from: &IpAddress, number: u16, content: &[u8]) -> bool {
    let checksums = ChecksumCapabilities::ignored();
    match from {
        IpAddress::Ipv4(_) => Icmpv4Packet::new_checked(packet).is_ok_and(|packet| {
            matches!(
                Icmpv4Repr::parse(&packet, &checksums),
                Ok(Icmpv4Repr::EchoReply { seq_no, data, .. }) if seq_no == number && data == content
            )
        }),
        IpAddress::Ipv6(from) => Icmpv6Packet::new_checked(packet).is_ok_and(|packet| {
            matches!(
                Icmpv6Repr::parse(from, from, &packet, &checksums),
                Ok(Icmpv6Repr::EchoReply { seq_no, data, .. }) if seq_no == number && data == content
            )
        }),
    }
}
