//! Networks that lose, delay and reorder, and packets of every length.

use crate::against_both;

against_both! {
    a_transfer_survives_loss
    a_transfer_survives_delay_and_reordering
    packets_of_the_mtu_pass_whole_and_longer_ones_in_pieces
}

mod check {
    use std::{io::ErrorKind, net::UdpSocket, time::Duration};

    use rustix::{
        io::Errno,
        net::sockopt::{
            Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
        },
    };
    use tuntrail_tests::net::{RelayOptions, Side, Version};

    use crate::lab::{Family, Setup, receive};

    pub(super) fn a_transfer_survives_loss(version: Version) {
        // With more, TCP's own pauses may add up to our patience: each retransmission waits twice as long as the one before.
        const LOSS: u8 = 10;
        // Each loss may cost TCP 0.2 s and more: this is what it moves in a few seconds.
        const LEN: usize = 256 << 10;
        let Some(lab) = Setup::new(version, Family::V4).start() else { return };
        let losses = [Side::Left, Side::Right].map(|side| lab.pair.lose(side, LOSS).unwrap());
        lab.transfer(Side::Left, Family::V4, LEN);
        lab.transfer(Side::Right, Family::V6, LEN);
        for loss in losses {
            assert!(loss.packets().unwrap() > 5, "{}", lab.state());
        }
        lab.assert_nothing_refused();
    }

    pub(super) fn a_transfer_survives_delay_and_reordering(version: Version) {
        let options = RelayOptions {
            delay: Duration::from_millis(10),
            late_every: 10,
            late_by: Duration::from_millis(5),
        };
        let Some(lab) = Setup::new(version, Family::V4).start_through(Some(options)) else { return };
        lab.transfer(Side::Left, Family::V4, 2 << 20);
        lab.transfer(Side::Right, Family::V6, 2 << 20);
        let relay = lab.relay.as_ref().unwrap();
        assert!(relay.overtaken() > 20, "{} of {}", relay.overtaken(), relay.forwarded());
        let stats = lab.tunnel.stats();
        assert_eq!(stats.drops.replayed, 0, "late is not replayed: {stats:?}");
        lab.assert_nothing_refused();
    }

    /// Outside IPv6, where an inner packet of 1420 bytes makes a datagram of exactly the cable's 1500.
    pub(super) fn packets_of_the_mtu_pass_whole_and_longer_ones_in_pieces(version: Version) {
        let setup = Setup::new(version, Family::V6);
        let mtu = usize::from(setup.left.mtu);
        assert_eq!(mtu, 1420);
        let Some(lab) = setup.start() else { return };
        let fragments = [Side::Left, Side::Right].map(|side| lab.pair.count_fragments(side).unwrap());
        for (inner, headers) in [(Family::V4, 20 + 8), (Family::V6, 40 + 8)] {
            let [left, right] = lab.sockets(inner);
            for (from, to) in [(&left, &right), (&right, &left)] {
                forbid_fragments(from, inner);
                let mut buffer = [0; 4096];
                for length in [0, 1, mtu - headers - 1, mtu - headers] {
                    from.send(&vec![7; length]).unwrap();
                    assert_eq!(receive(to, &mut buffer), length, "{}", lab.state());
                }
                let refused = from.send(&vec![7; mtu - headers + 1]).unwrap_err();
                assert_eq!(refused.raw_os_error(), Some(Errno::MSGSIZE.raw_os_error()), "{refused}");
                allow_fragments(from, inner);
                for length in [mtu - headers + 1, 4000] {
                    from.send(&vec![7; length]).unwrap();
                    assert_eq!(receive(to, &mut buffer), length);
                }
                to.set_nonblocking(true).unwrap();
                assert_eq!(
                    to.recv(&mut buffer).unwrap_err().kind(),
                    ErrorKind::WouldBlock,
                    "nothing came twice"
                );
                to.set_nonblocking(false).unwrap();
            }
        }
        for fragments in fragments {
            assert_eq!(fragments.packets().unwrap(), 0, "datagrams were longer than the cable's MTU");
        }
        lab.assert_nothing_refused();
    }

    fn forbid_fragments(socket: &UdpSocket, family: Family) {
        match family {
            Family::V4 => set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DO).unwrap(),
            Family::V6 => set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DO).unwrap(),
        }
    }

    fn allow_fragments(socket: &UdpSocket, family: Family) {
        match family {
            Family::V4 => set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DONT).unwrap(),
            Family::V6 => set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DONT).unwrap(),
        }
    }
}
