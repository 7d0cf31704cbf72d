//! What is carried, and what the counters see of it.

use super::*;

#[test]
fn packets_pass_both_ways_in_both_families_at_any_length() {
    let mut pair = Pair::connected();
    for length in (0..70).chain([1000, 1371, 1372, 1391, 1392, 9000]) {
        let payload = vec![7; length];
        for (there, back) in [
            (udp_v4(1, 2, &payload), udp_v4(2, 1, &payload)),
            (udp_v6(1, 2, &payload), udp_v6(2, 1, &payload)),
        ] {
            pair.a.send(pair.now, &there);
            pair.b.send(pair.now, &back);
            let datagram = &pair.a.output.datagrams[0].1;
            assert!(
                datagram.len().is_multiple_of(16) || datagram.len() >= 1420 + 32,
                "padded: {}",
                datagram.len()
            );
            pair.exchange();
            assert_eq!(pair.b.output.packets, [there]);
            assert_eq!(pair.a.output.packets, [back]);
            pair.a.output.packets.clear();
            pair.b.output.packets.clear();
        }
    }
    assert_eq!(pair.a.drops(), DropCounts::default());
    assert_eq!(pair.b.drops(), DropCounts::default());
}

#[test]
fn counters_see_every_byte_once_on_each_side() {
    let mut pair = Pair::new();
    let (mut there, mut back) = (0, 0);
    for length in [0, 1, 15, 16, 100, 1372] {
        let (packet, answer) = (udp_v4(1, 2, &vec![1; length]), udp_v6(2, 1, &vec![2; length]));
        there += packet.len() as u64;
        back += answer.len() as u64;
        pair.a.send(pair.now, &packet);
        pair.exchange();
        pair.b.send(pair.now, &answer);
        pair.exchange();
    }
    assert_eq!(total(&pair.a.virtual_counts, Direction::Tx), (6, there));
    assert_eq!(total(&pair.b.virtual_counts, Direction::Rx), (6, there));
    assert_eq!(total(&pair.b.virtual_counts, Direction::Tx), (6, back));
    assert_eq!(total(&pair.a.virtual_counts, Direction::Rx), (6, back));
    let (a, b) = (pair.a.engine.stats().peers[0], pair.b.engine.stats().peers[0]);
    assert_eq!((a.tx_datagrams, a.tx_bytes), (b.rx_datagrams, b.rx_bytes));
    assert_eq!((b.tx_datagrams, b.tx_bytes), (a.rx_datagrams, a.rx_bytes));
    assert_eq!(total(&pair.a.physical_counts, Direction::Tx), (a.tx_datagrams, a.tx_bytes));
    assert_eq!(total(&pair.a.physical_counts, Direction::Rx), (a.rx_datagrams, a.rx_bytes));
    assert_eq!(total(&pair.b.physical_counts, Direction::Rx), (b.rx_datagrams, b.rx_bytes));
}

#[test]
fn a_counter_is_told_the_path_before_the_first_packet_and_when_it_changes() {
    let mut pair = Pair::connected();
    let paths = PathRecorder::default();
    let device = |pair: &mut Pair| {
        let counter = Some(Box::new(paths.clone()) as Box<dyn ConnectionCounter>);
        pair.b.engine.virtual_device().set_connection_counter(pair.now, counter);
    };
    let two_way = |pair: &mut Pair| {
        pair.a.send(pair.now, &udp_v4(1, 2, b"there"));
        pair.exchange();
        pair.b.send(pair.now, &udp_v4(2, 1, b"back"));
        pair.exchange();
    };
    device(&mut pair);
    two_way(&mut pair);
    two_way(&mut pair);
    pair.a.address = address(9);
    two_way(&mut pair);
    device(&mut pair);
    two_way(&mut pair);
    let paths = paths.0.lock().unwrap();
    assert_eq!(*paths, [(address(1), 4), (address(9), 2), (address(9), 2)]);
}

#[test]
fn rows_have_the_local_side_first_and_physical_ones_no_protocol() {
    let pair = Pair::connected();
    let (inner, ..) = pair.b.virtual_counts.lock().unwrap()[0];
    assert_eq!(inner.src, Some("10.0.0.2:2000".parse().unwrap()));
    assert_eq!(inner.dst, Some("10.0.0.1:1000".parse().unwrap()));
    assert_eq!(inner.protocol, Protocol::UDP);
    for (outer, ..) in pair.b.physical_counts.lock().unwrap().iter() {
        let expected = Connection {
            protocol: Protocol::UNKNOWN,
            src: Some("10.0.0.1:0".parse().unwrap()),
            dst: Some(address(1)),
        };
        assert_eq!(*outer, expected);
    }
}

#[test]
fn packets_wait_for_the_handshake_in_order_and_the_oldest_are_dropped() {
    let mut pair = Pair::new();
    for number in 0..200_u8 {
        pair.a.send(pair.now, &udp_v4(1, 2, &[number]));
    }
    assert_eq!(pair.a.output.datagrams.len(), 1, "one initiation");
    assert_eq!(pair.a.drops().staged_full, 72);
    pair.exchange();
    let expected: Vec<_> = (72..200).map(|number| udp_v4(1, 2, &[number])).collect();
    assert_eq!(pair.b.output.packets, expected);
}

#[test]
fn the_longest_packet_passes() {
    let mut pair = Pair::connected();
    let packet = udp_v4(1, 2, &vec![1; MAX_INNER - 28]);
    assert_eq!(packet.len(), MAX_INNER);
    pair.a.send(pair.now, &packet);
    pair.exchange();
    assert_eq!(pair.b.output.packets, [packet]);
}

#[test]
fn a_peer_without_endpoint_gets_nothing_until_it_calls() {
    let mut pair = Pair::new();
    pair.b.send(pair.now, &udp_v4(2, 1, b"too early"));
    assert_eq!(pair.b.drops().no_endpoint, 1);
    assert_eq!(pair.b.engine.next_deadline(), None);
    pair.connect();
    pair.b.send(pair.now, &udp_v4(2, 1, b"now"));
    pair.exchange();
    assert_eq!(pair.a.output.packets, [udp_v4(2, 1, b"now")]);
}

#[test]
fn an_authentic_message_from_elsewhere_moves_the_endpoint() {
    let mut pair = Pair::connected();
    pair.a.address = address(77);
    pair.a.send(pair.now, &udp_v4(1, 2, b"from the train"));
    pair.exchange();
    assert_eq!(pair.b.endpoint(), Some(address(77)));
    assert_eq!(pair.b.engine.stats().events.roamed, 1);
    pair.b.send(pair.now, &udp_v4(2, 1, b"answer"));
    pair.exchange();
    assert_eq!(pair.a.output.packets, [udp_v4(2, 1, b"answer")]);
}

#[test]
fn a_network_change_makes_a_handshake_with_peers_in_use_only() {
    let mut pair = Pair::new();
    pair.a.engine.network_changed(pair.now, &mut pair.a.output);
    assert!(pair.a.output.datagrams.is_empty(), "nobody is in use");
    pair.connect();
    pair.a.address = address(55);
    pair.a.engine.network_changed(pair.now, &mut pair.a.output);
    pair.exchange();
    assert_eq!(pair.b.endpoint(), Some(address(55)));
    assert_eq!(pair.a.engine.stats().events.sessions, 2);
}

#[test]
fn both_sides_calling_at_once_end_up_with_a_session() {
    let mut pair = Pair::new();
    let b_key = key(1).public_key();
    assert!(pair.b.engine.set_endpoint(pair.now, &b_key, address(1)));
    assert!(!pair.b.engine.set_endpoint(pair.now, &key(9).public_key(), address(1)));
    pair.a.send(pair.now, &udp_v4(1, 2, b"ping"));
    pair.b.send(pair.now, &udp_v4(2, 1, b"pong"));
    pair.exchange();
    pair.run_until(pair.now + Duration::from_secs(30));
    assert_eq!(pair.b.output.packets, [udp_v4(1, 2, b"ping")]);
    assert_eq!(pair.a.output.packets, [udp_v4(2, 1, b"pong")]);
}

#[test]
fn many_peers_are_told_apart() {
    let now = SystemClock.now();
    let mut hub_config = Config::new(key(200));
    for peer in 1..=20 {
        hub_config.peers.extend(config(200, peer, None).peers);
    }
    let mut hub = Node::new(&hub_config, &[None; 20], address(200), now);
    let mut spokes: Vec<_> = (1..=20)
        .map(|own| Node::new(&config(own, 200, None), &[Some(address(200))], address(own), now))
        .collect();
    for (spoke, own) in spokes.iter_mut().zip(1..) {
        spoke.send(now, &udp_v4(own, 200, &[own]));
        // Initiation, response, keepalive and data.
        for _ in 0..4 {
            while let Some((_, datagram)) = spoke.output.datagrams.pop_front() {
                hub.receive(now, address(own), &datagram);
            }
            while let Some((to, datagram)) = hub.output.datagrams.pop_front() {
                assert_eq!(to, address(own));
                spoke.receive(now, address(200), &datagram);
            }
        }
        assert_eq!(hub.output.packets.pop(), Some(udp_v4(own, 200, &[own])));
    }
    for own in (1..=20).rev() {
        hub.send(now, &udp_v4(200, own, b"hello"));
        let (to, datagram) = hub.output.datagrams.pop_front().unwrap();
        assert_eq!(to, address(own));
        let spoke = &mut spokes[usize::from(own) - 1];
        spoke.receive(now, address(200), &datagram);
        assert_eq!(spoke.output.packets, [udp_v4(200, own, b"hello")]);
    }
}

#[test]
fn a_configuration_and_endpoints_must_fit() {
    let now = SystemClock.now();
    let error = Engine::new(&config(1, 2, None), &[], now).unwrap_err();
    assert_eq!(error, EngineError::Endpoints { endpoints: 0, peers: 1 });
    let error = Engine::new(&Config::new(key(1)), &[], now).unwrap_err();
    assert_eq!(error, EngineError::Config(ConfigError::NoPeer));
}
