//! When flows begin, go on and end.

use super::*;
use crate::flow::{Counts, Role};
use CloseReason::{Fin, Idle, Rst, Shutdown, Split};
use Direction::{Rx, Tx};

#[test]
fn a_connection_is_told_of_from_its_syn_to_its_last_acknowledgement() {
    let mut rig = Rig::default();
    rig.path(1);
    rig.shake_hands();
    rig.pass(seconds(1));
    rig.tcp(Tx, ACK, 10);
    rig.tcp(Rx, ACK, 1000);
    rig.tcp(Tx, ACK | FIN, 0);
    rig.tcp(Rx, ACK | FIN, 0);
    rig.pass(seconds(1));
    rig.tcp(Tx, ACK, 0);
    assert_eq!(rig.closes(), [], "a repeated FIN would still belong to it");
    rig.pass(seconds(5));
    let (open, close) = (rig.opens().remove(0), rig.closes().remove(0));
    assert_eq!(open.id, close.id);
    assert_eq!(
        (open.role, open.src, open.dst),
        (Role::Initiator, LOCAL.parse().unwrap(), REMOTE.parse().unwrap())
    );
    assert_eq!((open.counts, open.last_packet, open.end), (Counts::default(), None, None));
    assert_eq!(open.outer.len(), 1);
    assert_eq!(close.counts, Counts { tx_packets: 5, tx_bytes: 210, rx_packets: 3, rx_bytes: 1120 });
    assert_eq!((close.tx_payload, close.rx_payload), (10, 1000));
    assert_eq!(close.reason, Some(Fin));
    assert_eq!((close.start, close.last_packet), (start(), Some(start() + seconds(2))));
    assert_eq!(close.end, close.last_packet, "it ended with its last packet, not when that was noticed");
    assert_eq!((rig.events.len(), rig.stats().stray.packets()), (2, 0));
}

#[test]
fn a_reset_from_either_side_ends_a_connection_at_once() {
    for direction in [Tx, Rx] {
        let mut rig = Rig::default();
        rig.shake_hands();
        rig.sleep(seconds(1));
        rig.tcp(direction, RST | ACK, 0);
        let close = rig.closes().remove(0);
        assert_eq!((close.reason, close.end), (Some(Rst), Some(start() + seconds(1))));
        assert_eq!(close.counts.packets(), 4, "the reset is the connection's");
        assert_eq!(rig.tracker.next_deadline(), None);
    }
}

#[test]
fn what_is_left_of_a_connection_that_is_over_is_stray_and_begins_nothing() {
    let mut rig = Rig::default();
    for (direction, flags) in [(Rx, ACK), (Tx, ACK), (Rx, FIN | ACK), (Tx, RST), (Rx, RST | ACK)] {
        rig.tcp(direction, flags, 0);
    }
    assert_eq!(rig.opens(), []);
    let stray = Counts { tx_packets: 2, tx_bytes: 80, rx_packets: 3, rx_bytes: 120 };
    assert_eq!(rig.stats().stray, stray);
    assert_eq!(rig.tracker.next_deadline(), None);
}

#[test]
fn packets_without_addresses_are_stray() {
    let mut rig = Rig::default();
    rig.observe(&packet(Protocol::UNKNOWN, "", "", Rx, 0, 0));
    assert_eq!((rig.opens().len(), rig.stats().stray.rx_packets), (0, 1));
}

#[test]
fn data_begins_a_flow_in_the_middle_of_a_connection() {
    let mut rig = Rig::default();
    rig.tcp(Tx, ACK, 10);
    assert_eq!(rig.opens().len(), 1);
}

#[test]
fn a_push_from_the_server_after_long_silence_is_counted() {
    let mut rig = Rig::default();
    rig.shake_hands();
    rig.pass(seconds(3600));
    rig.tcp(Rx, ACK, 50);
    rig.tcp(Tx, ACK, 0);
    assert_eq!(rig.closes(), [], "keepalives come every 2 hours, and it may be silent for that long");
    rig.pass(seconds(3 * 3600));
    assert_eq!(rig.reasons(), [Idle]);
    rig.tcp(Rx, ACK, 70);
    rig.tcp(Tx, ACK, 0);
    rig.tracker.close_all(rig.now, Shutdown);
    let close = rig.closes().remove(1);
    assert_eq!(
        (close.role, close.src, close.dst),
        (Role::Responder, REMOTE.parse().unwrap(), LOCAL.parse().unwrap())
    );
    assert_eq!((close.tx_payload, close.counts.tx_packets, close.counts.rx_packets), (70, 1, 1));
    assert_eq!(rig.stats().stray.packets(), 0);
}

#[test]
fn whoever_is_seen_first_is_the_initiator_and_tx_is_from_there() {
    let mut rig = Rig::default();
    rig.udp(LOCAL, REMOTE, Rx);
    rig.udp(LOCAL, REMOTE, Tx);
    rig.udp(LOCAL, REMOTE, Tx);
    rig.tracker.close_all(rig.now, Shutdown);
    let close = rig.closes().remove(0);
    assert_eq!(
        (close.role, close.src, close.dst),
        (Role::Responder, REMOTE.parse().unwrap(), LOCAL.parse().unwrap())
    );
    assert_eq!(close.counts, Counts { tx_packets: 1, tx_bytes: 140, rx_packets: 2, rx_bytes: 280 });
    assert_eq!((close.tx_payload, close.rx_payload), (100, 200));
}

#[test]
fn whoever_answers_a_syn_that_was_not_seen_is_the_responder() {
    let mut rig = Rig::default();
    rig.tcp(Rx, SYN | ACK, 0);
    rig.tcp(Tx, ACK, 0);
    let open = rig.opens().remove(0);
    assert_eq!((open.role, open.src), (Role::Initiator, LOCAL.parse().unwrap()));
}

#[test]
fn a_repeated_syn_is_the_same_connection_even_if_it_was_answered() {
    let mut rig = Rig::default();
    rig.tcp(Tx, SYN, 0);
    rig.tcp(Tx, SYN, 0);
    rig.tcp(Rx, SYN | ACK, 0);
    rig.tcp(Tx, SYN, 0);
    assert_eq!((rig.opens().len(), rig.closes().len()), (1, 0));
}

#[test]
fn a_repeated_answer_splits_nothing() {
    let mut rig = Rig::default();
    rig.shake_hands();
    rig.tcp(Tx, ACK, 10);
    rig.tcp(Rx, SYN | ACK, 0);
    assert_eq!((rig.opens().len(), rig.closes().len()), (1, 0));
}

#[test]
fn a_syn_after_the_initiator_went_on_is_a_new_connection() {
    let mut rig = Rig::default();
    rig.shake_hands();
    rig.sleep(seconds(10));
    rig.tcp(Tx, SYN, 0);
    assert_eq!(rig.reasons(), [Split]);
    let [old, new] = [rig.opens().remove(0), rig.opens().remove(1)];
    assert_ne!(old.id, new.id);
    assert_eq!((new.start, rig.closes()[0].end), (start() + seconds(10), Some(start() + seconds(10))));
    rig.tracker.close_all(rig.now, Shutdown);
    assert_eq!(rig.closes()[1].counts.packets(), 1);
}

#[test]
fn a_syn_to_a_connection_that_both_sides_closed_leaves_its_reason_fin() {
    let mut rig = Rig::default();
    rig.shake_hands();
    rig.tcp(Rx, FIN | ACK, 0);
    rig.tcp(Tx, FIN | ACK, 0);
    rig.sleep(seconds(1));
    rig.tcp(Tx, SYN, 0);
    assert_eq!(rig.reasons(), [Fin]);
    assert_eq!(rig.closes()[0].end, Some(start()));
}

#[test]
fn a_flow_ends_when_it_was_silent_for_the_timeout_of_its_kind() {
    let tcp = |flags: &'static [(Direction, u8)]| {
        move |rig: &mut Rig| {
            flags.iter().for_each(|&(direction, flags)| rig.tcp(direction, flags, 0));
        }
    };
    let of = |protocol: Protocol, local: &'static str, remote: &'static str| {
        move |rig: &mut Rig| {
            rig.observe(&packet(protocol, local, remote, Tx, 0, 0));
        }
    };
    type Act = Box<dyn Fn(&mut Rig)>;
    let cases: [(&str, u64, Act); 10] = [
        ("opening", 120, Box::new(tcp(&[(Tx, SYN)]))),
        ("answered", 120, Box::new(tcp(&[(Tx, SYN), (Rx, SYN | ACK)]))),
        ("established", 7440, Box::new(tcp(&[(Tx, SYN), (Rx, SYN | ACK), (Tx, ACK)]))),
        ("half closed", 120, Box::new(tcp(&[(Tx, SYN), (Rx, SYN | ACK), (Tx, ACK), (Rx, FIN | ACK)]))),
        ("udp", 120, Box::new(of(Protocol::UDP, LOCAL, REMOTE))),
        ("dns", 15, Box::new(of(Protocol::UDP, LOCAL, "100.64.0.2:53"))),
        ("serving dns", 15, Box::new(of(Protocol::UDP, "100.64.0.1:53", REMOTE))),
        ("icmp", 15, Box::new(of(Protocol::ICMPV4, "100.64.0.1:0", "100.64.0.2:0"))),
        ("icmpv6", 15, Box::new(of(Protocol::ICMPV6, "[fd7a::1]:0", "[fd7a::2]:0"))),
        ("sctp", 120, Box::new(of(Protocol::SCTP, LOCAL, REMOTE))),
    ];
    for (name, timeout, act) in cases {
        let mut rig = Rig::default();
        act(&mut rig);
        rig.pass(seconds(timeout) - Duration::from_nanos(1));
        assert_eq!(rig.closes(), [], "{name}");
        rig.pass(Duration::from_nanos(1));
        assert_eq!(rig.reasons(), [Idle], "{name}");
        let close = rig.closes().remove(0);
        assert_eq!(
            (close.last_packet, close.end),
            (Some(start()), Some(start() + seconds(timeout))),
            "{name}"
        );
        assert_eq!(rig.tracker.next_deadline(), None);
    }
}

#[test]
fn each_packet_puts_off_the_end() {
    let mut rig = Rig::default();
    for _ in 0..5 {
        rig.udp(LOCAL, REMOTE, Tx);
        rig.pass(seconds(119));
    }
    assert_eq!(rig.closes(), []);
}

#[test]
fn a_late_look_at_the_clock_changes_neither_the_end_nor_what_belongs_together() {
    let mut rig = Rig::default();
    rig.udp(LOCAL, REMOTE, Tx);
    rig.udp(LOCAL, "100.64.0.2:53", Tx);
    // The device sleeps, or the thread is busy: nobody calls for eight hours, and then comes a packet.
    rig.sleep(seconds(8 * 3600));
    rig.udp(LOCAL, REMOTE, Tx);
    let ends: Vec<_> = rig.closes().iter().map(|close| close.end.unwrap()).collect();
    assert_eq!(ends, [start() + seconds(120), start() + seconds(15)]);
    assert_eq!(rig.opens().len(), 3);
    assert_eq!(rig.opens()[2].start, start() + seconds(8 * 3600));
}

#[test]
fn a_long_flow_gets_updates_and_a_silent_one_does_not() {
    let mut rig = Rig::default();
    rig.shake_hands();
    rig.pass(seconds(3600));
    assert_eq!(rig.updates().len(), 1, "it carried nothing since the first update");
    assert_eq!(rig.updates()[0].counts.packets(), 3);
    rig.tcp(Rx, ACK, 5);
    rig.pass(seconds(299));
    assert_eq!(rig.updates().len(), 1);
    rig.pass(seconds(1));
    let update = rig.updates().remove(1);
    assert_eq!((update.counts.packets(), update.rx_payload, update.end, update.reason), (4, 5, None, None));
    assert_eq!(update.last_packet, Some(start() + seconds(3600)));
    rig.tcp(Rx, RST, 0);
    assert_eq!(rig.closes()[0].counts.packets(), 5, "the close tells all, not the rest");
    rig.pass(seconds(3600));
    assert_eq!(rig.updates().len(), 2, "nothing comes after the close");
}

#[test]
fn updates_can_be_switched_off() {
    let mut rig = Rig::new(LifecycleConfig { active: Duration::ZERO, ..LifecycleConfig::default() });
    rig.shake_hands();
    rig.pass(seconds(7439));
    assert_eq!((rig.updates().len(), rig.closes().len()), (0, 0));
}

#[test]
fn a_flow_that_roams_stays_one_and_names_its_paths() {
    let mut rig = Rig::default();
    rig.path(1);
    rig.shake_hands();
    rig.sleep(seconds(1));
    rig.path(2);
    rig.sleep(seconds(1));
    rig.tcp(Tx, ACK, 1);
    rig.tcp(Rx, ACK, 1);
    rig.path(1);
    rig.tcp(Tx, ACK, 1);
    rig.tracker.close_all(rig.now, Shutdown);
    assert_eq!(rig.reasons(), [Shutdown]);
    let outer = rig.closes().remove(0).outer;
    let ports: Vec<_> = outer.iter().map(|path| (path.remote.port(), path.since)).collect();
    let later = start() + seconds(2);
    assert_eq!(ports, [(1, start()), (2, later), (1, later)], "from the flow's first packet on each");
}

#[test]
fn flows_of_different_peers_each_have_their_own_path() {
    let mut rig = Rig::default();
    for _ in 0..50 {
        rig.path(1);
        rig.udp(LOCAL, REMOTE, Tx);
        rig.path(2);
        rig.udp(LOCAL, "100.64.0.3:443", Tx);
    }
    rig.tracker.close_all(rig.now, Shutdown);
    let ports: Vec<Vec<_>> = rig
        .closes()
        .iter()
        .map(|close| close.outer.iter().map(|path| path.remote.port()).collect())
        .collect();
    assert_eq!(ports, [[1], [2]]);
}

#[test]
fn the_seventeenth_path_splits_a_flow_that_goes_on_as_it_was() {
    let mut rig = Rig::default();
    rig.path(100);
    rig.tcp(Rx, SYN, 0);
    rig.tcp(Tx, SYN | ACK, 0);
    for port in 1..=15 {
        rig.path(port);
        rig.tcp(Rx, ACK, 1);
    }
    assert_eq!(rig.closes(), []);
    rig.path(16);
    rig.tcp(Tx, ACK, 0);
    assert_eq!(rig.reasons(), [Split]);
    let close = rig.closes().remove(0);
    assert_eq!((close.outer.len(), close.counts.packets()), (16, 17));
    let open = rig.opens().remove(1);
    assert_eq!((open.role, open.outer.len(), open.outer[0].remote.port()), (Role::Responder, 1, 16));
    rig.pass(seconds(7439));
    assert_eq!(
        rig.reasons(),
        [Split],
        "the new one is established, although it has seen only an acknowledgement"
    );
}

#[test]
fn an_echo_is_told_apart_by_its_identifier_and_has_no_ports() {
    use crate::packet::Header;
    let echo = |kind: u8, id: u8, direction| {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0];
        let (src, dst) = if direction == Tx { (1, 2) } else { (2, 1) };
        packet.extend([100, 64, 0, src, 100, 64, 0, dst, kind, 0, 0, 0, 0, id, 0, 0]);
        let header = Header::parse(&packet);
        Packet::of_header(Key::of_header(&header, direction), &header, &packet, direction)
    };
    let mut rig = Rig::default();
    rig.observe(&echo(8, 7, Tx));
    rig.observe(&echo(0, 7, Rx));
    rig.observe(&echo(8, 0, Tx));
    rig.observe(&echo(3, 7, Rx));
    rig.tracker.close_all(rig.now, Shutdown);
    let told: Vec<_> = rig
        .closes()
        .iter()
        .map(|close| (close.icmp_id, close.src.to_string(), close.counts.tx_packets, close.counts.rx_packets))
        .collect();
    let (local, remote) = ("100.64.0.1:0".to_owned(), "100.64.0.2:0".to_owned());
    assert_eq!(told, [(Some(7), local.clone(), 1, 1), (Some(0), local, 1, 0), (None, remote, 1, 0)]);
}

#[test]
fn sums_without_flags_are_followed_too() {
    let mut rig = Rig::default();
    let row = connection(6, LOCAL, REMOTE);
    rig.observe(&Packet::of_counts(&row, 10, 5000, Tx));
    rig.observe(&Packet::of_counts(&row, 4, 400, Rx));
    rig.tracker.close_all(rig.now, Shutdown);
    let counts = Counts { tx_packets: 10, tx_bytes: 5000, rx_packets: 4, rx_bytes: 400 };
    assert_eq!(rig.closes()[0].counts, counts);
}

#[test]
fn an_exit_flow_is_told_of_only_while_that_is_allowed_since_it_began() {
    let mut rig = Rig { exit: true, ..Rig::default() };
    let flow = |rig: &mut Rig, begins: bool, ends: bool| {
        rig.grants.set(begins);
        rig.udp(LOCAL, REMOTE, Tx);
        rig.drain();
        let told = rig.events.len();
        rig.grants.set(ends);
        rig.pass(seconds(120));
        rig.drain();
        (told, std::mem::take(&mut rig.events).len() - told)
    };
    assert_eq!(flow(&mut rig, false, false), (0, 0));
    assert_eq!(flow(&mut rig, true, true), (1, 1));
    assert_eq!(flow(&mut rig, true, false), (1, 0), "withdrawn");
    assert_eq!(flow(&mut rig, false, true), (0, 0), "given after it began");
    let stats = rig.stats();
    assert_eq!((stats.withheld, stats.withheld_counts.tx_packets, stats.flows), (3, 3, 4));
}
