//! Who may begin, over which network, with which secrets.

use crate::against_both;

against_both! {
    tuntrail_begins
    wireguard_go_begins
    a_preshared_key_is_used
    a_wrong_preshared_key_is_refused
}

mod check {
    use tuntrail_tests::net::{NodeConfig, Offload, Side, Version};

    use crate::lab::{Family, Lab, Setup};

    /// Enough for several windows of TCP.
    const SOME: usize = 1 << 20;
    const NETWORKS: [(Family, Offload); 4] = [
        (Family::V4, Offload::On),
        (Family::V6, Offload::On),
        (Family::V4, Offload::Off),
        (Family::V6, Offload::Off),
    ];

    pub(super) fn tuntrail_begins(version: Version) {
        for (outer, offload) in NETWORKS {
            let mut setup = Setup::new(version, outer);
            setup.offload = offload;
            let Some(lab) = setup.start() else { return };
            lab.transfer(Side::Left, Family::V4, SOME);
            assert_eq!(lab.go.process().count("Received handshake initiation"), 1, "{}", lab.state());
            assert_eq!(lab.go.process().count("Sending handshake initiation"), 0, "{}", lab.state());
            assert_eq!(lab.tunnel.stats().events.initiations, 1);
            assert_carries_everything(&lab, outer);
        }
    }

    pub(super) fn wireguard_go_begins(version: Version) {
        for (outer, offload) in NETWORKS {
            let mut setup = Setup::called(version, outer);
            setup.offload = offload;
            let Some(lab) = setup.start() else { return };
            lab.transfer(Side::Right, Family::V4, SOME);
            assert_eq!(lab.go.process().count("Received handshake response"), 1, "{}", lab.state());
            assert_eq!(lab.tunnel.stats().events.initiations, 0);
            assert_carries_everything(&lab, outer);
        }
    }

    /// Both families, both ways, in the one session.
    fn assert_carries_everything(lab: &Lab, outer: Family) {
        for (from, inner) in [(Side::Left, Family::V6), (Side::Right, Family::V4), (Side::Right, Family::V6)]
        {
            lab.transfer(from, inner, SOME);
        }
        let (before, peer, after) = (lab.tunnel.stats(), lab.go.peer().unwrap(), lab.tunnel.stats());
        assert_eq!(after.events.sessions, 1, "{}", lab.state());
        assert_eq!(peer.endpoint, Some(outer.outer(Side::Left)));
        assert_eq!(after.peers[0].endpoint, Some(outer.outer(Side::Right)));
        assert!(peer.latest_handshake > 0);
        // Both count the bytes of datagrams. Nobody receives more than was sent, or less than what was in it.
        assert!((SOME as u64..=after.peers[0].tx_bytes).contains(&peer.received), "{peer:?} {after:?}");
        assert!((SOME as u64..=peer.sent).contains(&before.peers[0].rx_bytes), "{peer:?} {before:?}");
        lab.assert_nothing_refused();
    }

    pub(super) fn a_preshared_key_is_used(version: Version) {
        for begins in [Side::Left, Side::Right] {
            let mut setup = match begins {
                Side::Left => Setup::new(version, Family::V4),
                Side::Right => Setup::called(version, Family::V4),
            };
            setup.left.preshared_key = Some(NodeConfig::PRESHARED_KEY);
            setup.right.preshared_key = Some(NodeConfig::PRESHARED_KEY);
            let Some(lab) = setup.start() else { return };
            lab.transfer(begins, Family::V4, SOME);
            assert_eq!(lab.tunnel.stats().events.sessions, 1);
            lab.assert_nothing_refused();
        }
    }

    pub(super) fn a_wrong_preshared_key_is_refused(version: Version) {
        let mut setup = Setup::new(version, Family::V4);
        setup.left.preshared_key = Some(NodeConfig::PRESHARED_KEY);
        setup.right.preshared_key = Some(NodeConfig::OTHER_PRESHARED_KEY);
        let Some(lab) = setup.start() else { return };
        let [left, _right] = lab.sockets(Family::V4);
        left.send(b"never arrives").unwrap();
        // tuntrail repeats after five seconds what was answered with the wrong secret.
        lab.wait_for("Sending handshake response", 2);
        let stats = lab.tunnel.stats();
        assert_eq!(stats.events.sessions, 0, "{}", lab.state());
        assert!(stats.drops.invalid >= 1, "{}", lab.state());
        assert_eq!(stats.carried.rx_packets, 0);
    }
}
