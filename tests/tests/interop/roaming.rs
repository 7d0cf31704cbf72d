//! Addresses that change while data flows.

use crate::against_both;

against_both! {
    wireguard_go_follows_when_tuntrail_moves
    tuntrail_follows_when_wireguard_go_moves
}

mod check {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    use tuntrail_tests::net::{NodeConfig, Side, Version};

    use crate::lab::{Family, Setup};

    /// More than sits in buffers: the move comes amid it.
    const LONG: usize = 16 << 20;

    pub(super) fn wireguard_go_follows_when_tuntrail_moves(version: Version) {
        let new = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 31));
        let mut setup = Setup::new(version, Family::V4);
        // So that a new socket has another port, too.
        setup.left.listen_port = None;
        let Some(lab) = setup.start() else { return };
        lab.transfer_and(Side::Left, Family::V4, LONG, || {
            lab.pair.move_address(Side::Left, Side::Left.outer_v4(), new).unwrap();
        });
        let port = lab.tunnel.local_addr().v4.unwrap().port();
        assert_eq!(lab.go.peer().unwrap().endpoint, Some(SocketAddr::new(new, port)));
        assert_eq!(lab.tunnel.stats().events.sessions, 1, "moving needs no handshake");

        // Told of it, tuntrail also takes a new port and shows itself with a handshake.
        lab.transfer_and(Side::Right, Family::V6, LONG, || lab.tunnel.network_changed().unwrap());
        let new_port = lab.tunnel.local_addr().v4.unwrap().port();
        assert_ne!(new_port, port);
        assert_eq!(lab.go.peer().unwrap().endpoint, Some(SocketAddr::new(new, new_port)));
        assert_eq!(lab.tunnel.stats().events.sessions, 2, "{}", lab.state());
        lab.assert_nothing_refused();
    }

    pub(super) fn tuntrail_follows_when_wireguard_go_moves(version: Version) {
        let new = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 32));
        let Some(lab) = Setup::new(version, Family::V4).start() else { return };
        lab.transfer(Side::Left, Family::V4, 1);
        lab.transfer_and(Side::Right, Family::V4, LONG, || {
            lab.pair.move_address(Side::Right, Side::Right.outer_v4(), new).unwrap();
        });
        let stats = lab.tunnel.stats();
        assert_eq!(stats.peers[0].endpoint, Some(SocketAddr::new(new, NodeConfig::PORT)), "{}", lab.state());
        assert_eq!(stats.events.roamed, 1, "{}", lab.state());
        if version == Version::Newest {
            // Bookworm's keeps sending from the old address until, after 15 s, it tries a handshake from the new one.
            assert_eq!(stats.events.sessions, 1, "{}", lab.state());
        }
        lab.transfer(Side::Left, Family::V6, LONG);
        lab.assert_nothing_refused();
    }
}
