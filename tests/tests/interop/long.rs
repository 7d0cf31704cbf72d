//! What the protocol does after minutes. Ignored by default; `docs/interop.md` has the commands.

use std::{
    fs,
    time::{Duration, Instant},
};

use tuntrail_netlab::linux::Namespace;
use tuntrail_tests::net::{Side, Version};

use crate::lab::{Family, Lab, Setup, receive};

#[test]
#[ignore = "takes 2 minutes: a session is renewed at 120 s"]
fn tuntrail_renews_its_session_amid_traffic() {
    let Some(lab) = Setup::new(Version::Newest, Family::V4).start() else { return };
    // With this packet tuntrail confirms a session that it has made.
    assert_renewed(&lab, Side::Left, "Receiving keepalive packet");
    assert_eq!(lab.tunnel.stats().events.initiations, 2);
}

#[test]
#[ignore = "takes 2 minutes: a session is renewed at 120 s"]
fn wireguard_go_renews_its_session_amid_traffic() {
    let Some(lab) = Setup::called(Version::Newest, Family::V4).start() else { return };
    assert_renewed(&lab, Side::Right, "Received handshake response");
    assert_eq!(lab.tunnel.stats().events.initiations, 0);
}

/// A packet and its answer each second, until both have the second session, and some after it.
fn assert_renewed(lab: &Lab, begins: Side, session_made: &str) {
    let [left, right] = lab.sockets(Family::V4);
    let (near, far) = if begins == Side::Left { (left, right) } else { (right, left) };
    let (mut buffer, began, mut number, mut after) = ([0; 4], Instant::now(), 0_u32, 0);
    let mut renewed = None;
    while after < 5 {
        near.send(&number.to_be_bytes()).unwrap();
        receive(&far, &mut buffer);
        far.send(&buffer).unwrap();
        receive(&near, &mut buffer);
        assert_eq!(u32::from_be_bytes(buffer), number, "every packet is answered, in order");
        number += 1;
        // The pace of the traffic, and the end of the wait.
        let seen = lab.go.process().wait_for(session_made, 2, Duration::from_secs(1));
        if seen.is_ok() {
            renewed.get_or_insert_with(|| began.elapsed());
            after += 1;
        }
        assert!(began.elapsed() < Duration::from_secs(140), "{}", lab.state());
    }
    let renewed = renewed.unwrap().as_secs();
    assert!((119..=125).contains(&renewed), "after {renewed} s");
    assert_eq!(lab.tunnel.stats().events.sessions, 2, "{}", lab.state());
    lab.assert_nothing_refused();
}

#[test]
#[ignore = "takes 10 minutes: keys are wiped after 540 s"]
fn after_long_silence_tuntrail_sleeps_and_still_wakes() {
    let Some(lab) = Setup::new(Version::Newest, Family::V4).start() else { return };
    // The kernel looks for routers on the device again and again, minutes apart: packets, though nobody sent any.
    let host = lab.pair.host(Side::Left);
    host.run(|| fs::write("/proc/sys/net/ipv6/conf/trail0/router_solicitations", "0").unwrap()).unwrap();
    lab.transfer(Side::Left, Family::V4, 1 << 20);
    let wiped = lab.go.process().wait_for("Removing all keys", 1, Duration::from_secs(600));
    wiped.unwrap_or_else(|error| panic!("{error}"));
    let process = lab.go.process();
    // wireguard-go and tuntrail count from the same handshake; this leaves tuntrail time for its own wipe.
    assert!(process.wait_for("nothing says this", 1, Duration::from_secs(5)).is_err());
    let before = tunnel_wakeups(host);
    assert!(process.wait_for("nothing says this", 1, Duration::from_secs(20)).is_err());
    assert_eq!(tunnel_wakeups(host), before, "the thread sleeps for ever: {}", lab.state());

    // wireguard-go on a busy machine notes a packet as sent after it has the answer, and then begins a session of its own.
    let sessions = lab.tunnel.stats().events.sessions;
    lab.transfer(Side::Left, Family::V6, 1 << 20);
    assert_eq!(lab.tunnel.stats().events.sessions, sessions + 1, "{}", lab.state());
    lab.assert_nothing_refused();
}

/// How often the tunnel's thread in this namespace has gone to sleep.
fn tunnel_wakeups(host: &Namespace) -> u64 {
    let namespace = host.run(|| fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap();
    let threads = fs::read_dir("/proc/self/task").unwrap().map(|entry| entry.unwrap().path());
    let mut tunnels = threads.filter(|thread| {
        let name = fs::read_to_string(thread.join("comm")).unwrap_or_default();
        name.trim() == "tuntrail-tunnel"
            && fs::read_link(thread.join("ns/net")).ok().as_ref() == Some(&namespace)
    });
    let status = fs::read_to_string(tunnels.next().unwrap().join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    line.trim().parse().unwrap()
}
