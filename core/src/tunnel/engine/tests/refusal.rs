//! What is not carried, and where it is counted.

use super::*;

#[test]
fn an_inner_packet_to_nobody_is_dropped_and_counted() {
    let mut pair = Pair::connected();
    pair.a.send(pair.now, &udp_v4(1, 3, b"x"));
    pair.a.send(pair.now, b"");
    pair.a.send(pair.now, &[0x45; 19]);
    pair.a.send(pair.now, &[0xff; 100]);
    assert_eq!(pair.a.drops(), DropCounts { no_peer: 4, ..DropCounts::default() });
    let mut giant = udp_v4(1, 2, b"x");
    giant.resize(MAX_INNER + 1, 0);
    pair.a.send(pair.now, &giant);
    assert_eq!(pair.a.drops().too_large, 1);
    assert!(pair.a.output.datagrams.is_empty());
}

#[test]
fn inner_packets_that_lie_about_their_length_are_counted_as_they_are() {
    let mut pair = Pair::connected();
    let mut counted = 0;
    for length in [0_u8, 1, 5, 19, 20] {
        let mut packet = udp_v4(1, 2, b"");
        packet[2..4].copy_from_slice(&[0, length]);
        pair.a.send(pair.now, &packet);
        pair.exchange();
        counted += u64::from(length);
    }
    let lengths: Vec<_> = pair.b.output.packets.iter().map(Vec::len).collect();
    assert_eq!(lengths, [1, 5, 19, 20]);
    let first = udp_v4(1, 2, b"first").len() as u64;
    assert_eq!(total(&pair.b.virtual_counts, Direction::Rx), (6, first + counted));
}

#[test]
fn authentic_garbage_inside_is_dropped_and_counted() {
    let mut pair = Pair::connected();
    // Says that it is longer than it is.
    let mut packet = udp_v4(1, 2, b"x");
    packet[2] = 0xff;
    pair.a.send(pair.now, &packet);
    pair.exchange();
    assert_eq!(pair.b.drops(), DropCounts { bad_inner: 1, ..DropCounts::default() });
    assert!(pair.b.output.packets.is_empty());
}

#[test]
fn a_source_that_the_peer_does_not_own_is_dropped_and_counted() {
    let mut pair = Pair::connected();
    let before = total(&pair.b.virtual_counts, Direction::Rx);
    pair.a.send(pair.now, &udp_v4(9, 2, b"spoofed"));
    pair.exchange();
    assert_eq!(pair.b.drops(), DropCounts { wrong_source: 1, ..DropCounts::default() });
    assert!(pair.b.output.packets.is_empty());
    assert_eq!(total(&pair.b.virtual_counts, Direction::Rx), before);
}

#[test]
fn replays_and_forgeries_are_dropped_counted_and_move_nothing() {
    let mut pair = Pair::connected();
    let elsewhere = address(99);
    pair.a.send(pair.now, &udp_v4(1, 2, b"once"));
    let datagram = pair.a.pop();
    let mut forged = datagram.clone();
    *forged.last_mut().unwrap() ^= 1;
    pair.b.receive(pair.now, elsewhere, &forged);
    assert_eq!(pair.b.drops(), DropCounts { invalid: 1, ..DropCounts::default() });
    pair.b.receive(pair.now, address(1), &datagram);
    pair.b.receive(pair.now, elsewhere, &datagram);
    assert_eq!(pair.b.drops(), DropCounts { invalid: 1, replayed: 1, ..DropCounts::default() });
    assert_eq!(pair.b.output.packets.len(), 1);
    assert_eq!(pair.b.endpoint(), Some(address(1)));
    // Nor do they make rows for addresses that proved nothing.
    let rows = pair.b.physical_counts.lock().unwrap();
    assert!(rows.iter().all(|row| row.0.dst == Some(address(1))));
}

#[test]
fn a_replayed_initiation_is_dropped_and_counted() {
    let mut pair = Pair::new();
    pair.a.send(pair.now, &udp_v4(1, 2, b"x"));
    let initiation = pair.a.pop();
    pair.b.receive(pair.now, address(1), &initiation);
    pair.b.receive(pair.now, address(99), &initiation);
    assert_eq!(pair.b.drops(), DropCounts { replayed: 1, ..DropCounts::default() });
    assert_eq!(pair.b.endpoint(), Some(address(1)));
    assert_eq!(pair.b.output.datagrams.len(), 1, "one response");
}

#[test]
fn short_unknown_and_oversized_datagrams_are_malformed() {
    let mut pair = Pair::connected();
    let mut forged_counter = vec![0; 64];
    forged_counter[0] = 4;
    forged_counter[8..16].fill(0xff);
    let malformed = [
        vec![],
        vec![4, 0, 0, 0],
        vec![4; 31],
        vec![0; 148],
        vec![5, 0, 0, 0, 0, 0, 0, 0],
        [&[1, 0, 0, 0][..], &[0; 145]].concat(),
        [&[2, 0, 0, 0][..], &[0; 87]].concat(),
        [&[3, 0, 0, 0][..], &[0; 61]].concat(),
        [&[4, 0, 0, 1][..], &[0; 60]].concat(),
        vec![4; MAX_DATAGRAM + 1],
        forged_counter,
    ];
    let count = malformed.len() as u64;
    for datagram in malformed {
        pair.b.receive(pair.now, address(1), &datagram);
    }
    assert_eq!(pair.b.drops(), DropCounts { malformed: count, ..DropCounts::default() });
    assert!(pair.b.output.datagrams.is_empty());
}

#[test]
fn strangers_are_told_apart_by_reason() {
    let mut pair = Pair::connected();
    // A node that knows b's key, but b doesn't know it.
    let mut stranger = Node::new(&config(3, 2, None), &[Some(address(2))], address(3), pair.now);
    stranger.send(pair.now, &udp_v4(3, 2, b"x"));
    let initiation = stranger.pop();
    pair.b.receive(pair.now, address(3), &initiation);
    assert_eq!(pair.b.drops(), DropCounts { unknown_peer: 1, ..DropCounts::default() });
    // It means someone else: the MAC shows it.
    pair.a.receive(pair.now, address(3), &initiation);
    assert_eq!(pair.a.drops(), DropCounts { invalid: 1, ..DropCounts::default() });
    // A session that nobody has.
    let base = pair.b.engine.by_index[0].0;
    let mut transport = vec![4, 0, 0, 0];
    transport.extend_from_slice(&((base ^ 1) << 8).to_le_bytes());
    transport.resize(64, 0);
    pair.b.receive(pair.now, address(3), &transport);
    assert_eq!(pair.b.drops().unknown_peer, 2);
    // A session that the peer doesn't have now.
    transport[4..8].copy_from_slice(&(base << 8 | 0x70).to_le_bytes());
    pair.b.receive(pair.now, address(3), &transport);
    assert_eq!(pair.b.drops().no_session, 1);
    assert_eq!(total(&pair.b.physical_counts, Direction::Rx).0, pair.b.engine.stats().peers[0].rx_datagrams);
    assert!(pair.b.output.datagrams.is_empty());
}

#[test]
fn too_many_initiations_get_cookies_and_cookies_move_nothing() {
    let now = SystemClock.now();
    let mut b = Node::new(&config(2, 1, None), &[None], address(2), now);
    let mut a = Node::new(&config(1, 2, None), &[Some(address(2))], address(1), now);
    a.send(now, &udp_v4(1, 2, b"x"));
    let initiation = a.pop();
    // More of them at once than a source may send without showing that it is there.
    for _ in 0..5 {
        b.receive(now, address(50), &initiation);
    }
    assert_eq!(b.pop().len(), 92, "the first one is answered; the others are replays");
    assert!(b.output.datagrams.is_empty());
    b.receive(now, address(50), &initiation);
    let (to, cookie) = b.output.datagrams.pop_front().expect("a cookie");
    assert_eq!((to, cookie.len()), (address(50), 64));
    assert_eq!(b.engine.stats().events.cookies_sent, 1);
    a.receive(now, address(66), &cookie);
    assert_eq!(a.endpoint(), Some(address(2)), "a cookie proves nothing about its sender");
    assert_eq!(a.engine.stats().events.cookies_received, 1);
    assert_eq!(total(&a.physical_counts, Direction::Rx), (0, 0));
}

#[test]
fn a_source_that_shows_its_cookie_too_often_is_dropped_and_counted() {
    let now = SystemClock.now();
    let mut b = Node::new(&config(2, 1, None), &[None], address(2), now);
    let mut a = Node::new(&config(1, 2, None), &[Some(address(2))], address(1), now);
    a.send(now, &udp_v4(1, 2, b"x"));
    let initiation = a.pop();
    for _ in 0..6 {
        b.receive(now, address(1), &initiation);
    }
    assert_eq!(b.pop().len(), 92, "the first is answered");
    let cookie = b.pop();
    a.receive(now, address(2), &cookie);
    a.deadline(now + Duration::from_secs(6));
    let proven = a.pop();
    for _ in 0..7 {
        b.receive(now, address(1), &proven);
    }
    assert_eq!(b.drops(), DropCounts { replayed: 8, too_many_handshakes: 2, ..DropCounts::default() });
    assert_eq!((b.pop().len(), b.output.datagrams.len()), (92, 0), "answered at once, and once");
}

#[test]
fn session_indexes_tell_nothing_about_the_other_peers() {
    let mut many = Config::new(key(200));
    for peer in 1..=20 {
        many.peers.extend(config(200, peer, None).peers);
    }
    let bases = || {
        let engine = Engine::new(&many, &[None; 20], SystemClock.now()).unwrap();
        engine.by_index.iter().map(|entry| entry.0).collect::<Vec<_>>()
    };
    let (first, second) = (bases(), bases());
    // Of 2^24 indexes; a few neighbours or repetitions would be chance.
    let neighbours = first.array_windows().filter(|[a, b]| b - a < 16).count();
    assert!(neighbours < 3, "{first:?}");
    assert!(first.iter().filter(|base| second.contains(base)).count() < 3, "{first:?} {second:?}");
}

#[test]
fn preshared_keys_must_agree() {
    let now = SystemClock.now();
    let with_psk = |own, other, psk| {
        let mut config = config(own, other, None);
        config.peers[0].preshared_key = Some(crate::tunnel::PresharedKey::from_bytes([psk; 32]));
        config
    };
    for (theirs, sessions) in [(7, 1), (8, 0)] {
        let mut a = Node::new(&with_psk(1, 2, 7), &[Some(address(2))], address(1), now);
        let mut b = Node::new(&with_psk(2, 1, theirs), &[None], address(2), now);
        a.send(now, &udp_v4(1, 2, b"x"));
        let initiation = a.pop();
        b.receive(now, address(1), &initiation);
        let response = b.pop();
        a.receive(now, address(2), &response);
        assert_eq!(a.engine.stats().events.sessions, sessions);
        assert_eq!(a.drops().invalid, 1 - sessions);
    }
}

fn datagrams() -> impl Strategy<Value = Vec<u8>> {
    let typed = |length: std::ops::Range<usize>| {
        (1_u8..5, proptest::collection::vec(any::<u8>(), length)).prop_map(|(kind, mut bytes)| {
            let prefix = [kind, 0, 0, 0];
            for (byte, value) in bytes.iter_mut().zip(prefix) {
                *byte = value;
            }
            bytes
        })
    };
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        typed(0..200),
        typed(148..149),
        typed(92..93),
        typed(64..65),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_input_at_any_time_is_survived(
        steps in proptest::collection::vec((datagrams(), any::<bool>(), any::<bool>(), 0_u64..200), 1..30)
    ) {
        let mut pair = Pair::connected();
        let index = pair.b.engine.by_index[0].0 << 8 | 1;
        for (mut bytes, aimed, inner, seconds) in steps {
            pair.now = pair.now + Duration::from_secs(seconds);
            if inner {
                if aimed && bytes.len() >= 20 {
                    bytes[0] = 0x45;
                    bytes[16..20].copy_from_slice(&[10, 0, 0, 2]);
                }
                pair.a.send(pair.now, &bytes);
                pair.exchange();
            } else {
                if aimed && bytes.len() >= 12 {
                    let at = if bytes[0] == 2 { 8 } else { 4 };
                    bytes[at..at + 4].copy_from_slice(&index.to_le_bytes());
                }
                pair.b.receive(pair.now, address(9), &bytes);
            }
            pair.a.deadline(pair.now);
            pair.b.deadline(pair.now);
            pair.exchange();
        }
        prop_assert_eq!(pair.b.endpoint(), Some(address(1)));
    }
}
