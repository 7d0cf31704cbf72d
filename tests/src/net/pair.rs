//! Two hosts and the cable between them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use tuntrail_netlab::linux::{Ip, Namespace};

use super::{NetError, Nft};

/// Name of the cable's interface at both ends.
const CABLE: &str = "cable0";

/// One of the two hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// 192.0.2.1 and 2001:db8::1 on the cable; 10.9.0.1 and fd09::1 in the tunnel.
    Left,
    /// The same with 2.
    Right,
}

impl Side {
    /// The other host.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Left => 1,
            Self::Right => 2,
        }
    }

    /// The host's IPv4 address on the cable.
    #[must_use]
    pub const fn outer_v4(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, self.number()))
    }

    /// The host's IPv6 address on the cable.
    #[must_use]
    pub const fn outer_v6(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, self.number() as u16))
    }

    /// The host's IPv4 address in the tunnel.
    #[must_use]
    pub const fn inner_v4(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 9, 0, self.number()))
    }

    /// The host's IPv6 address in the tunnel.
    #[must_use]
    pub const fn inner_v6(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, self.number() as u16))
    }
}

/// Two namespaces joined by a virtual cable with an MTU of 1500 bytes.
#[derive(Debug)]
pub struct Pair {
    left: Arc<Namespace>,
    right: Arc<Namespace>,
}

impl Pair {
    /// Joins two namespaces and gives the ends of the cable their addresses.
    ///
    /// # Errors
    /// When the `ip` command refuses.
    pub fn join(left: Namespace, right: Namespace) -> Result<Self, NetError> {
        let right_thread = right.run(rustix::thread::gettid)?.as_raw_nonzero().to_string();
        left.run(move || {
            Ip::SYSTEM.run(&[
                "link",
                "add",
                CABLE,
                "type",
                "veth",
                "peer",
                "name",
                CABLE,
                "netns",
                &right_thread,
            ])
        })??;
        let pair = Self { left: Arc::new(left), right: Arc::new(right) };
        for side in [Side::Left, Side::Right] {
            for address in [side.outer_v4(), side.outer_v6()] {
                pair.change_address(side, "add", address)?;
            }
            pair.host(side).run(|| Ip::SYSTEM.run(&["link", "set", "dev", CABLE, "up"]))??;
        }
        Ok(pair)
    }

    /// The namespace of a side.
    #[must_use]
    pub const fn host(&self, side: Side) -> &Arc<Namespace> {
        match side {
            Side::Left => &self.left,
            Side::Right => &self.right,
        }
    }

    /// Gives a host another address on the cable in place of `old`. In between it has none.
    ///
    /// # Errors
    /// When the `ip` command refuses.
    pub fn move_address(&self, side: Side, old: IpAddr, new: IpAddr) -> Result<(), NetError> {
        // In this order: the kernel would take a second address of the same network away along with the first.
        self.change_address(side, "del", old)?;
        self.change_address(side, "add", new)
    }

    /// Drops `percent` of the UDP datagrams that arrive at `side` over the cable, at random, until the table is dropped.
    ///
    /// From then on the cable takes datagrams one by one, so that each is lost by itself and not with a whole batch.
    ///
    /// # Errors
    /// When nft is missing or refuses.
    pub fn lose(&self, side: Side, percent: u8) -> Result<Nft<'_>, NetError> {
        self.host(side.other())
            .run(|| Ip::SYSTEM.run(&["link", "set", "dev", CABLE, "gso_max_segs", "1"]))??;
        let rule = format!("iifname {CABLE} meta l4proto udp numgen random mod 100 < {percent} counter drop");
        Nft::install(self.host(side), &rule)
    }

    /// Counts the fragments that arrive at `side` over the cable.
    ///
    /// # Errors
    /// When nft is missing or refuses.
    pub fn count_fragments(&self, side: Side) -> Result<Nft<'_>, NetError> {
        Nft::install(self.host(side), &format!("iifname {CABLE} exthdr frag exists counter"))
    }

    fn change_address(&self, side: Side, change: &'static str, address: IpAddr) -> Result<(), NetError> {
        let prefix = if address.is_ipv4() { format!("{address}/24") } else { format!("{address}/64") };
        self.host(side).run(move || {
            // Usable at once: nobody else can have it.
            let tail: &[&str] = if address.is_ipv6() && change == "add" { &["nodad"] } else { &[] };
            Ip::SYSTEM.run(&[&["address", change, &prefix, "dev", CABLE], tail].concat())
        })??;
        Ok(())
    }
}
