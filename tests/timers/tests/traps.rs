//! What boringtun's timers do wrong, each next to tuntrail's engine in the same situation. If an upgrade of boringtun
//! puts one right, its test says so.

use std::{net::SocketAddr, time::Duration};

use tuntrail::tunnel::DropCounts;
use tuntrail_timers::{EngineNode, Kind, Lab, Node, Polled, Side, Unpolled, clock, packet};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What the second packet travels in, after a handshake that followed a long rest, and one look at the timers.
fn second_packet_after_a_long_rest<N: Node>() -> Kind {
    let mut lab = Lab::<N>::new(None);
    lab.rest(secs(600));
    lab.send(Side::A, 1);
    lab.wake();
    lab.rest(millis(100));
    lab.log.clear();
    lab.send(Side::A, 2);
    assert_eq!(lab.received[1], [1, 2]);
    lab.log[0].kind
}

#[test]
fn a_handshake_after_a_long_rest_lasts() {
    assert_eq!(
        second_packet_after_a_long_rest::<Unpolled>(),
        Kind::Initiation,
        "boringtun forgets it at once"
    );
    assert_eq!(second_packet_after_a_long_rest::<EngineNode>(), Kind::Data);
}

fn packet_after_1000_seconds<N: Node>() -> Kind {
    let mut lab = Lab::<N>::connected(None);
    lab.rest(secs(1000));
    lab.log.clear();
    lab.send(Side::A, 1);
    lab.log[0].kind
}

#[test]
fn an_old_session_is_not_used() {
    assert_eq!(packet_after_1000_seconds::<Unpolled>(), Kind::Data, "boringtun doesn't look at its age");
    assert_eq!(packet_after_1000_seconds::<EngineNode>(), Kind::Initiation);
}

fn handshakes_while_an_answer_is_under_way<N: Node>() -> usize {
    let mut lab = Lab::<N>::connected(None);
    lab.rest(secs(60));
    lab.b_to_a = false;
    lab.send(Side::A, 1);
    lab.rest(millis(600));
    lab.count(Side::A, Kind::Initiation)
}

#[test]
fn the_first_packet_after_a_rest_starts_no_handshake_while_its_answer_is_under_way() {
    assert_eq!(handshakes_while_an_answer_is_under_way::<Polled>(), 1);
    assert_eq!(handshakes_while_an_answer_is_under_way::<EngineNode>(), 0);
}

fn keepalive_for_the_first_packet_after_a_rest<N: Node>() -> Duration {
    let mut lab = Lab::<N>::connected(None);
    lab.rest(secs(60));
    let since = lab.now;
    lab.send(Side::B, 1);
    lab.rest(secs(20));
    lab.first(Side::A, Kind::Keepalive, since).expect("a keepalive")
}

#[test]
fn a_packet_after_a_rest_leaves_ten_seconds_to_answer_it() {
    assert!(keepalive_for_the_first_packet_after_a_rest::<Polled>() <= millis(250));
    assert_eq!(keepalive_for_the_first_packet_after_a_rest::<EngineNode>(), secs(10));
}

fn handshakes_in_ten_minutes_without_traffic<N: Node>() -> usize {
    let mut lab = Lab::<N>::connected(None);
    lab.send(Side::A, 1);
    lab.rest(secs(600));
    lab.count(Side::A, Kind::Initiation)
}

#[test]
fn a_session_that_nobody_uses_is_not_renewed() {
    assert!(handshakes_in_ten_minutes_without_traffic::<Polled>() > 0);
    assert_eq!(handshakes_in_ten_minutes_without_traffic::<EngineNode>(), 0);
}

/// Initiations between ten and twenty minutes of silence, and whether the peer is found when it is back.
fn tries_to_reach_a_silent_peer<N: Node>() -> (usize, bool) {
    let mut lab = Lab::<N>::connected(Some(25));
    lab.link(false);
    lab.rest(secs(600));
    lab.log.clear();
    lab.rest(secs(600));
    let tries = lab.count(Side::A, Kind::Initiation);
    lab.link(true);
    lab.log.clear();
    // The longest back-off.
    lab.rest(secs(600 + 90));
    (tries, lab.count(Side::B, Kind::Response) > 0)
}

#[test]
fn persistent_keepalive_finds_its_peer_again_after_any_time() {
    assert_eq!(tries_to_reach_a_silent_peer::<Polled>(), (0, false), "boringtun gives up for ever");
    let (tries, found) = tries_to_reach_a_silent_peer::<EngineNode>();
    assert!(found);
    assert!((1..=40).contains(&tries), "with back-off: {tries}");
}

/// What arrives of a packet that waits for a handshake started a second before the old keys are due to be wiped.
fn packets_that_wait_while_keys_are_wiped<N: Node>() -> Vec<u32> {
    let mut lab = Lab::<N>::connected(None);
    lab.rest(secs(537));
    lab.link(false);
    lab.send(Side::A, 1);
    lab.rest(secs(3));
    lab.link(true);
    lab.rest(secs(20));
    lab.received[1].clone()
}

#[test]
fn wiping_old_keys_does_not_end_a_young_handshake() {
    assert!(packets_that_wait_while_keys_are_wiped::<Polled>().is_empty());
    assert_eq!(packets_that_wait_while_keys_are_wiped::<EngineNode>(), [1]);
}

/// How long until a node that heard its peer just before sending notices that it is gone.
fn time_to_notice_a_dead_peer<N: Node>() -> Option<Duration> {
    let mut lab = Lab::<N>::connected(None);
    lab.rest(millis(50));
    lab.send(Side::B, 1);
    lab.link(false);
    lab.rest(millis(50));
    let since = lab.now;
    lab.send(Side::A, 2);
    lab.rest(secs(170));
    lab.first(Side::A, Kind::Initiation, since)
}

#[test]
fn a_dead_peer_is_noticed_after_15_seconds_though_it_was_heard_just_before() {
    assert!(time_to_notice_a_dead_peer::<Polled>().is_none_or(|time| time > secs(100)));
    let time = time_to_notice_a_dead_peer::<EngineNode>().expect("a handshake");
    assert!((secs(15)..=millis(15_333)).contains(&time), "{time:?}");
}

/// When a packet is acknowledged that came in just after something was sent.
fn keepalive_after_sending_and_receiving<N: Node>() -> Option<Duration> {
    let mut lab = Lab::<N>::connected(None);
    lab.rest(millis(50));
    lab.send(Side::A, 1);
    lab.rest(millis(50));
    let since = lab.now;
    lab.send(Side::B, 2);
    lab.rest(secs(14));
    lab.first(Side::A, Kind::Keepalive, since)
}

#[test]
fn what_comes_in_is_acknowledged_though_something_was_sent_just_before() {
    assert_eq!(keepalive_after_sending_and_receiving::<Polled>(), None);
    assert_eq!(keepalive_after_sending_and_receiving::<EngineNode>(), Some(secs(10)));
}

/// Cookies that a node demands of a peer which starts anew every five seconds for a minute.
fn cookies_in_a_minute<N: Node>() -> usize {
    let mut lab = Lab::<N>::new(None);
    for id in 0..12 {
        lab.a = N::new(1, None, lab.now);
        lab.send(Side::A, id);
        lab.now = lab.now + secs(5);
        clock::set(lab.now);
    }
    lab.count(Side::B, Kind::Cookie)
}

#[test]
fn a_handshake_now_and_then_needs_no_cookie() {
    assert_eq!(cookies_in_a_minute::<Unpolled>(), 2, "boringtun's count is never set back");
    assert_eq!(cookies_in_a_minute::<EngineNode>(), 0);
}

/// The order in which packets arrive that waited while the peer made the handshake.
fn order_of_packets_that_waited<N: Node>() -> Vec<u32> {
    let mut lab = Lab::<N>::new(None);
    lab.a_to_b = false;
    for id in 1..=3 {
        lab.send(Side::A, id);
    }
    lab.a_to_b = true;
    lab.rest(secs(1));
    lab.send(Side::B, 9);
    lab.rest(secs(30));
    // A session in the other direction makes boringtun send what it still holds.
    lab.rest(secs(200));
    lab.send(Side::A, 4);
    lab.rest(secs(1));
    lab.received[1].clone()
}

#[test]
fn packets_that_wait_keep_their_order() {
    let order = order_of_packets_that_waited::<Polled>();
    assert!(!order.starts_with(&[1, 2, 3]), "{order:?}");
    assert_eq!(order_of_packets_that_waited::<EngineNode>(), [1, 2, 3, 4]);
}

#[test]
fn an_authentic_packet_that_says_it_is_empty_reaches_no_device() {
    fn lengths<N: Node>(lab: &mut Lab<N>) -> Vec<usize> {
        [0, 5].map(|length| lying(lab, length)).concat()
    }
    /// Sends a packet that says it is so long, and takes what the device gets.
    fn lying<N: Node>(lab: &mut Lab<N>, length: u8) -> Vec<usize> {
        let mut packet = packet(1, 1);
        packet[3] = length;
        lab.a.send(lab.now, &packet);
        for datagram in lab.a.datagrams() {
            lab.b.receive(lab.now, &datagram);
        }
        lab.b.packets().iter().map(Vec::len).collect()
    }
    assert_eq!(lengths(&mut Lab::<Polled>::connected(None)), [0, 5]);
    let mut lab = Lab::<EngineNode>::connected(None);
    let before = lab.b.engine.stats().carried;
    assert_eq!(lengths(&mut lab), [5], "it is for the device's reader to refuse");
    let after = lab.b.engine.stats();
    assert_eq!(
        (after.carried.rx_packets - before.rx_packets, after.carried.rx_bytes - before.rx_bytes),
        (2, 5)
    );
    assert_eq!(after.drops, DropCounts::default());
}

#[test]
fn the_age_of_a_session_is_right_after_a_long_rest() {
    let mut bare = Lab::<Unpolled>::new(None);
    bare.rest(secs(100));
    bare.send(Side::A, 1);
    assert_eq!(bare.a.tunn.time_since_last_handshake(), Some(secs(100)), "it was made now");
    let mut lab = Lab::<EngineNode>::new(None);
    lab.rest(secs(100));
    lab.send(Side::A, 1);
    assert_eq!(lab.a.engine.stats().peers[0].last_handshake, Some(lab.now));
}

#[test]
fn without_traffic_only_keys_are_wiped_and_then_nothing_wakes_the_engine() {
    let mut lab = Lab::<EngineNode>::connected(None);
    // Each side has received a packet one second ago; a owes an answer to the last one.
    assert_eq!(lab.rest(secs(24 * 3600)), 3);
    assert_eq!((lab.a.next_wake(), lab.b.next_wake()), (None, None));
    let mut polled = Lab::<Polled>::connected(None);
    assert_eq!(polled.rest(secs(24 * 3600)), 2 * 4 * 24 * 3600);
}

#[test]
fn a_device_that_slept_for_an_hour_goes_on_without_a_storm_of_handshakes() {
    for keepalive in [None, Some(25)] {
        let mut lab = Lab::<EngineNode>::connected(keepalive);
        // Something is unanswered, owed and to be wiped when it falls asleep, and nothing wakes it.
        lab.send(Side::B, 1);
        lab.link(false);
        lab.send(Side::A, 2);
        lab.now = lab.now + secs(3600);
        lab.link(true);
        lab.log.clear();
        lab.wake();
        lab.rest(secs(1));
        let initiations = lab.count(Side::A, Kind::Initiation) + lab.count(Side::B, Kind::Initiation);
        assert!(initiations <= 1, "keepalive {keepalive:?}: {:?}", lab.log);
        lab.send(Side::A, 3);
        assert_eq!(lab.received[1], [3]);
    }
}

#[test]
fn a_session_that_was_replaced_is_refused_at_180_seconds_too() {
    let mut lab = Lab::<EngineNode>::connected(None);
    let mut delayed = Vec::new();
    for id in 0..100 {
        lab.a.send(lab.now, &packet(1, id));
        delayed.extend(lab.a.datagrams());
    }
    // b has heard nothing for its packet, so it makes another session.
    lab.rest(secs(120));
    assert_eq!(lab.b.engine.stats().events.sessions, 2);
    let mut last = Duration::ZERO;
    for datagram in delayed {
        lab.rest(millis(900));
        lab.b.receive(lab.now, &datagram);
        if !lab.b.packets().is_empty() {
            last = lab.now.saturating_duration_since(clock::START);
        }
    }
    assert!((secs(179)..=secs(180)).contains(&last), "{last:?}");
}

/// The simulated nodes are at documentation addresses.
#[test]
fn nothing_but_authentic_messages_moves_an_endpoint() {
    let mut lab = Lab::<EngineNode>::connected(None);
    let elsewhere: SocketAddr = "198.51.100.7:9".parse().expect("an address");
    struct Nowhere;
    impl tuntrail::tunnel::Sink for Nowhere {
        fn send(&mut self, _: SocketAddr, _: &[u8]) {}
        fn deliver(&mut self, _: &[u8]) {}
    }
    lab.a.send(lab.now, &packet(1, 1));
    let authentic = lab.a.datagrams().remove(0);
    let before = lab.b.engine.stats().peers[0].endpoint;
    for kind in 1..=4 {
        for length in [0, 4, 31, 32, 64, 92, 148] {
            let mut datagram = vec![0; length];
            datagram.iter_mut().zip([kind, 0, 0, 0]).for_each(|(to, from)| *to = from);
            datagram.iter_mut().zip(&authentic).skip(4).take(4).for_each(|(to, from)| *to = *from);
            lab.b.engine.handle_datagram(lab.now, elsewhere, &datagram, &mut Nowhere);
        }
    }
    assert_eq!(lab.b.engine.stats().peers[0].endpoint, before);
    lab.b.engine.handle_datagram(lab.now, elsewhere, &authentic, &mut Nowhere);
    assert_eq!(lab.b.engine.stats().peers[0].endpoint, Some(elsewhere), "this one does");
}
