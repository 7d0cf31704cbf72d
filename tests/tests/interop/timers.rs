//! What the protocol does by itself, as far as it can be seen within seconds.

use tuntrail_tests::net::{Side, Version};

use crate::{
    against_both,
    lab::{Family, Setup, receive},
};

against_both! {
    tuntrails_persistent_keepalives_arrive
    wireguard_gos_persistent_keepalives_arrive
    a_peer_that_forgot_the_session_begins_a_new_one
}

mod check {
    use tuntrail_tests::net::{Side, Version};

    use crate::lab::{Family, Setup};

    /// Bytes of a datagram that carries nothing.
    const KEEPALIVE: u64 = 32;

    pub(super) fn tuntrails_persistent_keepalives_arrive(version: Version) {
        let mut setup = Setup::new(version, Family::V4);
        setup.left.persistent_keepalive = Some(1);
        let Some(lab) = setup.start() else { return };
        // Without any traffic the first one is a handshake.
        lab.wait_for("Receiving keepalive packet", 1);
        let before = lab.go.peer().unwrap();
        assert!(before.latest_handshake > 0);
        let seen = lab.go.process().count("Receiving keepalive packet");
        lab.wait_for("Receiving keepalive packet", seen + 3);
        let after = lab.go.peer().unwrap();
        let grown = after.received - before.received;
        assert!(grown >= 3 * KEEPALIVE && grown % KEEPALIVE == 0, "{before:?} {after:?}");
        assert_eq!(after.sent, before.sent, "a keepalive is not answered");
        assert_eq!(lab.tunnel.stats().carried, Default::default(), "keepalives are no packets");
    }

    pub(super) fn wireguard_gos_persistent_keepalives_arrive(version: Version) {
        let mut setup = Setup::called(version, Family::V4);
        setup.right.persistent_keepalive = Some(1);
        let Some(lab) = setup.start() else { return };
        lab.wait_for("Sending keepalive packet", 2);
        let before = lab.tunnel.stats();
        assert_eq!(before.events.sessions, 1, "{}", lab.state());
        let seen = lab.go.process().count("Sending keepalive packet");
        // When the next is sent, those before it have come long since.
        lab.wait_for("Sending keepalive packet", seen + 3);
        let after = lab.tunnel.stats();
        assert!(after.peers[0].rx_datagrams >= before.peers[0].rx_datagrams + 2, "{}", lab.state());
        assert_eq!(after.peers[0].tx_datagrams, before.peers[0].tx_datagrams, "a keepalive is not answered");
        assert_eq!(after.carried, Default::default(), "keepalives are no packets");
        assert_eq!(lab.go.peer().unwrap().persistent_keepalive, Some(1));
        lab.assert_nothing_refused();
    }

    pub(super) fn a_peer_that_forgot_the_session_begins_a_new_one(version: Version) {
        let mut setup = Setup::new(version, Family::V4);
        setup.right.endpoint = Some(Family::V4.outer(Side::Left));
        let Some(lab) = setup.start() else { return };
        lab.transfer(Side::Left, Family::V4, 1 << 20);
        let lab = lab.restart_go();
        lab.transfer(Side::Right, Family::V4, 1 << 20);
        lab.transfer(Side::Left, Family::V6, 1 << 20);
        assert_eq!(lab.tunnel.stats().events.sessions, 2, "{}", lab.state());
        lab.assert_nothing_refused();
    }
}

/// Takes the protocol's 15 s, so once is enough.
#[test]
fn tuntrail_notices_that_its_peer_forgot_the_session() {
    let Some(lab) = Setup::new(Version::Newest, Family::V4).start() else { return };
    lab.transfer(Side::Left, Family::V4, 1 << 20);
    let lab = lab.restart_go();
    let [left, right] = lab.sockets(Family::V4);
    left.send(b"unanswered").unwrap();
    lab.wait_for("Receiving keepalive packet", 1);
    left.send(b"answered").unwrap();
    let mut buffer = [0; 32];
    let received = receive(&right, &mut buffer);
    assert_eq!(&buffer[..received], b"answered");
    assert_eq!(lab.tunnel.stats().events.sessions, 2, "{}", lab.state());
}

/// The receiver of data that has nothing to say shows after 10 s that it lives.
#[test]
fn one_way_traffic_is_answered_with_a_keepalive() {
    let Some(lab) = Setup::new(Version::Newest, Family::V4).start() else { return };
    // No TCP: it would acknowledge its end some time later, which counts as an answer.
    let [left, right] = lab.sockets(Family::V4);
    left.send(b"hello").unwrap();
    receive(&right, &mut [0; 32]);
    let seen = lab.go.process().count("Receiving keepalive packet");
    right.send(b"one way").unwrap();
    lab.wait_for("Receiving keepalive packet", seen + 1);
}
