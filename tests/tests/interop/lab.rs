//! The two hosts: tuntrail on the left, wireguard-go on the right.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use tuntrail::tunnel::{Config, Tunnel, TunnelOptions};
use tuntrail_netlab::linux::{Namespace, skip};
use tuntrail_tests::net::{
    NodeConfig, Offload, Pair, Relay, RelayOptions, Side, Version, WireguardGo, create_tun,
};

/// Far above what any step takes, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The families of addresses, outside or inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn outer(self, side: Side) -> SocketAddr {
        let ip = if self == Self::V4 { side.outer_v4() } else { side.outer_v6() };
        SocketAddr::new(ip, NodeConfig::PORT)
    }

    pub(crate) fn inner(self, side: Side) -> IpAddr {
        if self == Self::V4 { side.inner_v4() } else { side.inner_v6() }
    }
}

/// How to set up both ends. By default tuntrail knows where wireguard-go is, and not the other way round.
pub(crate) struct Setup {
    version: Version,
    pub(crate) left: NodeConfig,
    pub(crate) right: NodeConfig,
    /// Of tuntrail's device; on by default.
    pub(crate) offload: Offload,
}

impl Setup {
    pub(crate) fn new(version: Version, outer: Family) -> Self {
        let mut left = NodeConfig::new(Side::Left);
        left.endpoint = Some(outer.outer(Side::Right));
        Self { version, left, right: NodeConfig::new(Side::Right), offload: Offload::On }
    }

    /// Only wireguard-go knows where the other end is.
    pub(crate) fn called(version: Version, outer: Family) -> Self {
        let mut setup = Self::new(version, outer);
        setup.left.endpoint = None;
        setup.right.endpoint = Some(outer.outer(Side::Left));
        setup
    }

    /// Starts both ends. `None` where the system or a missing program doesn't allow it.
    pub(crate) fn start(self) -> Option<Lab> {
        self.start_through(None)
    }

    /// The same, with a relay between tuntrail and its endpoint.
    pub(crate) fn start_through(mut self, relay: Option<RelayOptions>) -> Option<Lab> {
        if let Err(error) = self.version.program() {
            skip(&error.to_string());
            return None;
        }
        let pair = Pair::join(Namespace::new_or_skip()?, Namespace::new_or_skip()?).unwrap();
        let relay = relay.map(|options| {
            Relay::start(pair.host(Side::Left), self.left.endpoint.unwrap(), options).unwrap()
        });
        if let Some(relay) = &relay {
            self.left.endpoint = Some(relay.address());
        }
        let go = WireguardGo::start(self.version, pair.host(Side::Right), &self.right).unwrap();
        let tunnel = start_tuntrail(&pair, &self.left, self.offload);
        Some(Lab { tunnel, go, relay, pair, setup: self })
    }
}

/// Both ends, running. Whatever a test does, dropping it takes everything down.
pub(crate) struct Lab {
    pub(crate) tunnel: Tunnel,
    pub(crate) go: WireguardGo,
    pub(crate) relay: Option<Relay>,
    pub(crate) pair: Pair,
    setup: Setup,
}

impl Lab {
    /// Moves `len` bytes by TCP from `from` to the other side through the tunnel and checks them.
    pub(crate) fn transfer(&self, from: Side, inner: Family, len: usize) {
        self.transfer_and(from, inner, len, || {});
    }

    /// The same; `halfway` is called when the other side has taken half, while the rest is on its way.
    pub(crate) fn transfer_and(&self, from: Side, inner: Family, len: usize, halfway: impl FnOnce()) {
        let (mut client, mut server) = self.connect(from, inner);
        let sent = content(len);
        let expected = sent.clone();
        let sender = thread::spawn(move || {
            client.write_all(&sent).unwrap();
            client
        });
        let mut received = vec![0; len];
        let (first, second) = received.split_at_mut(len / 2);
        server.read_exact(first).unwrap_or_else(|error| panic!("{error}: {}", self.state()));
        halfway();
        server.read_exact(second).unwrap_or_else(|error| panic!("{error}: {}", self.state()));
        assert!(received == expected, "the content was changed");
        drop(sender.join().unwrap());
        assert_eq!(server.read(&mut [0]).unwrap(), 0, "more came than was sent");
    }

    /// A TCP connection from `from` to the other side through the tunnel.
    pub(crate) fn connect(&self, from: Side, inner: Family) -> (TcpStream, TcpStream) {
        let address = inner.inner(from.other());
        let listener =
            self.pair.host(from.other()).run(move || TcpListener::bind((address, 0)).unwrap()).unwrap();
        let target = listener.local_addr().unwrap();
        let client = self.pair.host(from).run(move || TcpStream::connect_timeout(&target, PATIENCE)).unwrap();
        let client = client.unwrap_or_else(|error| panic!("{error}: {}", self.state()));
        let (server, _) = listener.accept().unwrap();
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            stream.set_nodelay(true).unwrap();
        }
        (client, server)
    }

    /// A UDP socket at each side's address in the tunnel, connected to each other.
    pub(crate) fn sockets(&self, inner: Family) -> [UdpSocket; 2] {
        let sockets = [Side::Left, Side::Right].map(|side| {
            let address = inner.inner(side);
            let socket = self.pair.host(side).run(move || UdpSocket::bind((address, 0)).unwrap()).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        });
        let [left, right] = &sockets;
        left.connect(right.local_addr().unwrap()).unwrap();
        right.connect(left.local_addr().unwrap()).unwrap();
        sockets
    }

    /// Ends wireguard-go and starts it anew: it has forgotten its sessions.
    pub(crate) fn restart_go(self) -> Self {
        let Self { tunnel, go, relay, pair, setup } = self;
        drop(go);
        let go = WireguardGo::start(setup.version, pair.host(Side::Right), &setup.right).unwrap();
        Self { tunnel, go, relay, pair, setup }
    }

    /// Waits until wireguard-go has logged `text` so many times.
    pub(crate) fn wait_for(&self, text: &str, count: usize) {
        self.go.process().wait_for(text, count, PATIENCE).unwrap();
    }

    /// Nothing that came from the other end was refused by tuntrail, except what it asked for.
    pub(crate) fn assert_nothing_refused(&self) {
        let drops = self.tunnel.stats().drops;
        let refused =
            [drops.malformed, drops.unknown_peer, drops.invalid, drops.bad_inner, drops.wrong_source];
        assert_eq!(refused, [0; 5], "{drops:?}");
    }

    /// What both ends say, for messages.
    pub(crate) fn state(&self) -> String {
        format!("{:#?}\n{:?}\n{}", self.tunnel.stats(), self.go.peer(), self.go.process().said())
    }
}

fn start_tuntrail(pair: &Pair, node: &NodeConfig, offload: Offload) -> Tunnel {
    let config = Config::parse(&node.wg_quick()).unwrap();
    pair.host(Side::Left)
        .run(move || {
            let mtu = config.mtu.unwrap();
            let device = create_tun("trail0", &config.addresses, mtu, offload).unwrap();
            Tunnel::start(config, device, TunnelOptions::default()).unwrap()
        })
        .unwrap()
}

/// Waits for a datagram and returns its length.
pub(crate) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> usize {
    loop {
        match socket.recv(buffer) {
            // A process that is stopped and continued finds its waiting cut short.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => return received.unwrap(),
        }
    }
}

/// Bytes without a pattern that a repeated or swapped piece could hide in (xorshift64).
fn content(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
