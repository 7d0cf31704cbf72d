//! The seam between tunnels and counters.
//!
//! A tunnel, ours or an app's own, implements [`Device`] and calls the counter it was given for every packet. What
//! the counter does with that is not the tunnel's business, and which tunnel it is not the counter's.
//!
//! Both run on the thread that moves the packets. A counter must not block, allocate per packet or take a lock that
//! another thread holds for long.

use std::{fmt, net::SocketAddr};

use crate::{clock::Instant, packet::Header};

/// An IP protocol number (IANA "Assigned Internet Protocol Numbers").
///
/// 0 stands for "not known" in counters, as in Tailscale's flow logs; physical traffic uses it too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Protocol(pub u8);

impl Protocol {
    /// Not decodable, or not applicable.
    pub const UNKNOWN: Self = Self(0);
    /// ICMP for IPv4.
    pub const ICMPV4: Self = Self(1);
    /// IGMP.
    pub const IGMP: Self = Self(2);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// ICMP for IPv6.
    pub const ICMPV6: Self = Self(58);
    /// Tailscale's private control protocol, from the range reserved for private encryption schemes.
    pub const TSMP: Self = Self(99);
    /// SCTP.
    pub const SCTP: Self = Self(132);
    /// A later fragment of a fragmented packet. 255 is reserved, so it can't collide with a real protocol.
    pub const FRAGMENT: Self = Self(255);
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ICMPV4 => f.write_str("icmp"),
            Self::IGMP => f.write_str("igmp"),
            Self::TCP => f.write_str("tcp"),
            Self::UDP => f.write_str("udp"),
            Self::ICMPV6 => f.write_str("ipv6-icmp"),
            Self::TSMP => f.write_str("tsmp"),
            Self::SCTP => f.write_str("sctp"),
            Self(number) => write!(f, "{number}"),
        }
    }
}

/// Which way a packet went, seen from this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From this device into the tunnel (virtual), or onto the network (physical).
    Tx,
    /// Out of the tunnel to this device (virtual), or from the network (physical).
    Rx,
}

/// What a counter is told apart by: protocol and two endpoints. `src` is always the local side, also for received
/// packets, so that both directions of a connection meet in one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Connection {
    /// IP protocol; [`Protocol::UNKNOWN`] for physical traffic.
    pub protocol: Protocol,
    /// The local side, or `None` where the packet had no readable addresses. Port 0 where the protocol has no ports.
    pub src: Option<SocketAddr>,
    /// The remote side, under the same rules.
    pub dst: Option<SocketAddr>,
}

/// Counts the packets of connections.
///
/// One value belongs to one packet thread, which calls every method. `now` is the time of the batch of packets being
/// processed; it need not be read anew for each packet and never goes back.
pub trait ConnectionCounter: Send {
    /// Counts `packets` packets with `bytes` bytes in all for one connection.
    fn count(
        &mut self,
        now: Instant,
        connection: &Connection,
        packets: u64,
        bytes: u64,
        direction: Direction,
    );

    /// Counts one inner IP packet as it stands on the TUN device. Any bytes are legal, also none: what can't be
    /// decoded is counted for the connection without addresses.
    fn count_packet(&mut self, now: Instant, packet: &[u8], direction: Direction) {
        let connection = Header::parse(packet).connection(direction);
        self.count(now, &connection, 1, packet.len() as u64, direction);
    }

    /// Counts a batch of inner IP packets that all went the same way, as tunnels read and write them: one call through
    /// a trait object instead of one per packet.
    fn count_batch(&mut self, now: Instant, packets: &[&[u8]], direction: Direction) {
        for packet in packets {
            self.count_packet(now, packet, direction);
        }
    }

    /// Tells which path the packets that follow take outside the tunnel: from `local`, where the tunnel knows it, to the
    /// peer's endpoint `remote`. A tunnel that knows paths calls this before the first packet and whenever a packet
    /// takes another path than the one before it, so not for each packet.
    fn path(&mut self, _now: Instant, _local: Option<SocketAddr>, _remote: SocketAddr) {}

    /// When [`Self::handle_deadline`] must be called, or `None` while there is nothing to do.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Does what is due at `now`. Early and late calls are harmless.
    fn handle_deadline(&mut self, _now: Instant) {}

    /// Hands over all that was counted so far. Called before a counter is replaced and when the tunnel stops.
    fn flush(&mut self, _now: Instant) {}
}

/// A source of packets that can be counted.
pub trait Device {
    /// Sets the counter for all packets from now on, or removes it. The previous counter is flushed before it is
    /// dropped.
    fn set_connection_counter(&mut self, now: Instant, counter: Option<Box<dyn ConnectionCounter>>);
}
