//! What a host is made of: addresses, services and limits.

use std::{net::IpAddr, ops::RangeInclusive};

use crate::error::HostError;

/// The smallest MTU that IPv6 allows (RFC 8200, 5).
const MIN_MTU: usize = 1_280;
/// The largest IP packet.
const MAX_MTU: usize = 65_535;
/// As many addresses as the stack is compiled for.
const MAX_ADDRESSES: usize = 8;
/// Sockets of one host. A TCP socket takes 128 KiB of buffers, so this keeps a host under 128 MiB.
const MAX_SOCKETS: usize = 1_000;

/// Ephemeral ports (RFC 6335, 6).
pub(crate) const FIRST_PORT: u16 = 49_152;

/// The ports that a service answers on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// All of them.
    Any,
    /// One.
    One(u16),
    /// A range.
    Range(RangeInclusive<u16>),
}

impl Ports {
    pub(crate) fn contains(&self, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::One(own) => *own == port,
            Self::Range(range) => range.contains(&port),
        }
    }
}

/// What a TCP server does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpService {
    /// Serves [`crate::Transfer`]: reads the request, checks each byte, answers with as many bytes as the request asks
    /// for, and closes. A damaged request is answered with a reset.
    Exchange,
    /// Sends everything back, and closes when the client has.
    Echo,
    /// Reads everything, and closes when the client has.
    Sink,
    /// Sends this many bytes at once, and closes.
    Source(u64),
}

/// A host: see [`crate::Host::start`].
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// Name of the host, for its threads. Default: "host".
    pub name: String,
    /// Its own addresses: 1 to 8, unicast. The first one of each IP version is the default source.
    pub addresses: Vec<IpAddr>,
    /// Answer for every destination address, as the far side of a subnet router or an exit node does. Default: no.
    pub any_ip: bool,
    /// Largest packet in bytes, 1,280 to 65,535. Default: 1,420, WireGuard's on a 1,500-byte path.
    pub mtu: usize,
    /// TCP services; the first whose ports match answers. Default: none.
    pub tcp: Vec<(Ports, TcpService)>,
    /// Ports on which UDP datagrams are sent back. Default: none.
    pub udp_echo: Vec<Ports>,
    /// Sockets in use at one time, 1 to 1,000, closed connections that wait for late packets included. Default: 128.
    pub max_sockets: usize,
    /// The port of its first connection; the others follow. Default: 49,152, the first ephemeral one (RFC 6335, 6).
    pub first_port: u16,
}

impl HostOptions {
    /// A host with these addresses, no services and default limits.
    #[must_use]
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            name: "host".to_owned(),
            addresses: addresses.into_iter().collect(),
            any_ip: false,
            mtu: 1_420,
            tcp: Vec::new(),
            udp_echo: Vec::new(),
            max_sockets: 128,
            first_port: FIRST_PORT,
        }
    }

    /// Names the host.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Lets the host answer for every destination address.
    #[must_use]
    pub const fn any_ip(mut self) -> Self {
        self.any_ip = true;
        self
    }

    /// Sets the largest packet.
    #[must_use]
    pub const fn mtu(mut self, mtu: usize) -> Self {
        self.mtu = mtu;
        self
    }

    /// Adds a TCP service.
    #[must_use]
    pub fn tcp(mut self, ports: Ports, service: TcpService) -> Self {
        self.tcp.push((ports, service));
        self
    }

    /// Adds a UDP echo service.
    #[must_use]
    pub fn udp_echo(mut self, ports: Ports) -> Self {
        self.udp_echo.push(ports);
        self
    }

    /// Sets the port of the first connection, for a host whose connections must differ from those of one before it.
    #[must_use]
    pub const fn first_port(mut self, port: u16) -> Self {
        self.first_port = port;
        self
    }

    pub(crate) fn check(&self) -> Result<(), HostError> {
        if !(1..=MAX_ADDRESSES).contains(&self.addresses.len()) {
            return Err(HostError::Options(format!(
                "{} addresses; 1 to {MAX_ADDRESSES} are possible",
                self.addresses.len()
            )));
        }
        if let Some(address) = self.addresses.iter().find(|address| !is_unicast(**address)) {
            return Err(HostError::Options(format!("{address} is not a unicast address")));
        }
        if !(MIN_MTU..=MAX_MTU).contains(&self.mtu) {
            return Err(HostError::Options(format!("MTU {}; {MIN_MTU} to {MAX_MTU} are possible", self.mtu)));
        }
        if !(1..=MAX_SOCKETS).contains(&self.max_sockets) {
            return Err(HostError::Options(format!(
                "{} sockets; 1 to {MAX_SOCKETS} are possible",
                self.max_sockets
            )));
        }
        Ok(())
    }
}

pub(crate) fn is_unicast(address: IpAddr) -> bool {
    !address.is_unspecified()
        && !address.is_multicast()
        && !matches!(address, IpAddr::V4(address) if address.is_broadcast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_outside_their_ranges_are_refused_with_the_value() {
        let good = HostOptions::new(["10.0.0.1".parse().unwrap()]);
        good.check().unwrap();
        for (bad, text) in [
            (HostOptions::new([]), "0 addresses"),
            (HostOptions::new(["224.0.0.1".parse().unwrap()]), "224.0.0.1"),
            (HostOptions::new(["::".parse().unwrap()]), "::"),
            (good.clone().mtu(1_279), "1279"),
            (HostOptions { max_sockets: 0, ..good }, "0 sockets"),
        ] {
            let error = bad.check().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn ports_match_as_written() {
        assert!(Ports::Any.contains(1));
        assert!(Ports::One(80).contains(80) && !Ports::One(80).contains(81));
        assert!(Ports::Range(5..=6).contains(6) && !Ports::Range(5..=6).contains(7));
    }
}
