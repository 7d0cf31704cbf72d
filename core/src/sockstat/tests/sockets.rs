//! Registered sockets against the kernel, with real TCP and UDP on the loopback interface.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    time::Duration,
};

use super::*;
use crate::sockstat::{SAMPLE_AFTER, SocketStatsError};

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Sends `bytes` and waits until the other side has read them.
fn transfer(mut from: &TcpStream, mut to: &TcpStream, bytes: usize) {
    std::thread::scope(|scope| {
        scope.spawn(|| from.write_all(&vec![7; bytes]).unwrap());
        to.read_exact(&mut vec![0; bytes]).unwrap();
    });
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
#[test]
fn the_sums_of_events_are_what_really_moved_over_tcp() {
    let mut machine = Machine::recording();
    let (client, server) = pair();
    transfer(&client, &server, 999);
    let here = machine.counters.register(client.as_fd(), app(64)).unwrap();
    let there = machine.counters.register(server.as_fd(), app(65)).unwrap();
    for (tx, rx) in [(1, 0), (100_000, 300), (3_000_000, 1_000_000)] {
        transfer(&client, &server, tx);
        transfer(&server, &client, rx);
        assert_eq!(machine.run(), Ok(None), "the kernel tells nobody");
        machine.counters.activity();
        assert!(machine.run().unwrap().is_some());
        machine.clock.advance(SAMPLE_AFTER);
        assert_eq!(machine.run(), Ok(None));
    }
    assert_eq!(machine.events.len(), 3);
    transfer(&client, &server, 50);
    drop(here);
    drop(there);
    machine.clock.advance(SAMPLE_AFTER);
    machine.flush();
    let (tx, rx) = (3_100_001 + 50, 1_000_300);
    let expected = BTreeMap::from([(app(64), Bytes { tx, rx }), (app(65), Bytes { tx: rx, rx: tx })]);
    assert_eq!(sum(&machine.events), expected);
    assert_eq!(machine.events[1].bytes[&app(64)], Bytes { tx: 100_000, rx: 300 });
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn the_end_of_a_connection_is_no_byte() {
    let mut machine = Machine::recording();
    let (client, server) = pair();
    let registered = machine.counters.register(client.as_fd(), app(64)).unwrap();
    transfer(&server, &client, 10);
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!((&client).read(&mut [0; 1]).unwrap(), 0, "the end has arrived");
    drop(registered);
    machine.flush();
    assert_eq!(sum(&machine.events)[&app(64)], Bytes { tx: 0, rx: 10 });
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
#[test]
fn what_moved_while_nothing_was_recorded_is_not_recorded_later() {
    let mut machine = Machine::recording();
    let (client, server) = pair();
    let _registered = machine.counters.register(client.as_fd(), app(64)).unwrap();
    drop(machine.core);
    transfer(&client, &server, 500);
    machine.core =
        Core::attach(&machine.counters.shared, &SocketStatsOptions::default(), machine.clock.now()).unwrap();
    transfer(&client, &server, 20);
    machine.flush();
    assert_eq!(sum(&machine.events)[&app(64)].tx, 20);
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
#[test]
fn descriptors_are_bounded_and_closed_with_the_registration() {
    let counters = SocketCounters::new();
    let (client, server) = pair();
    let mut kept = Vec::new();
    let error = loop {
        match counters.register(client.as_fd(), app(64)) {
            Ok(registered) => kept.push(registered),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SocketStatsError::TooManySockets { limit: 64 }));
    assert_eq!(kept.len(), 64);
    drop(kept);
    drop(client);
    server.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!((&server).read(&mut [0; 1]).unwrap(), 0, "no duplicate keeps the connection open");
}

#[test]
fn udp_has_no_kernel_counts_and_the_host_counts_instead() {
    let mut machine = Machine::recording();
    let (a, b) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let refused = machine.counters.register(a.as_fd(), app(64));
    assert!(matches!(refused, Err(SocketStatsError::NoKernelCounts(_))));
    let (here, there) = (machine.counter(app(64)), machine.counter(app(65)));
    for size in [0, 1, 512, 1400] {
        here.add_tx(a.send_to(&vec![1; size], b.local_addr().unwrap()).unwrap() as u64);
        there.add_rx(b.recv(&mut [0; 2000]).unwrap() as u64);
    }
    machine.flush();
    let expected =
        BTreeMap::from([(app(64), Bytes { tx: 1913, rx: 0 }), (app(65), Bytes { tx: 0, rx: 1913 })]);
    assert_eq!(sum(&machine.events), expected);
}
