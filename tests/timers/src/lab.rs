//! Two nodes joined without delay, for tests of single rules.

use std::time::Duration;

use tuntrail::clock::Instant;

use crate::{Kind, Node, clock, packet, packet_id};

/// Which of the two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Node 1, which calls.
    A,
    /// Node 2.
    B,
}

/// A datagram that was sent, whether or not it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// When.
    pub at: Instant,
    /// By whom.
    pub by: Side,
    /// What.
    pub kind: Kind,
}

/// Two nodes, the clock, and everything they sent.
pub struct Lab<N> {
    /// Node 1.
    pub a: N,
    /// Node 2.
    pub b: N,
    /// The time.
    pub now: Instant,
    /// Datagrams in the order in which they were sent.
    pub log: Vec<Sent>,
    /// Packets that each side received, by their identifiers.
    pub received: [Vec<u32>; 2],
    /// Whether what `a` sends arrives.
    pub a_to_b: bool,
    /// Whether what `b` sends arrives.
    pub b_to_a: bool,
}

impl<N: Node> Lab<N> {
    /// Two nodes that have not spoken yet; `a` has the keepalive.
    pub fn new(keepalive: Option<u16>) -> Self {
        let now = clock::START;
        let (a, b) = (N::new(1, keepalive, now), N::new(2, None, now));
        Self { a, b, now, log: Vec::new(), received: Default::default(), a_to_b: true, b_to_a: true }
    }

    /// Two nodes with a session that `a` initiated one second ago, and that encrypts both ways.
    pub fn connected(keepalive: Option<u16>) -> Self {
        let mut lab = Self::new(keepalive);
        lab.send(Side::A, 0);
        lab.send(Side::B, 0);
        lab.rest(Duration::from_secs(1));
        assert_eq!(lab.received, [[0], [0]]);
        lab.received = Default::default();
        lab.log.clear();
        lab
    }

    /// Cuts or restores both directions.
    pub fn link(&mut self, up: bool) {
        self.a_to_b = up;
        self.b_to_a = up;
    }

    /// Has a node send a packet now.
    pub fn send(&mut self, by: Side, id: u32) {
        clock::set(self.now);
        match by {
            Side::A => self.a.send(self.now, &packet(1, id)),
            Side::B => self.b.send(self.now, &packet(2, id)),
        }
        self.exchange();
    }

    /// Wakes both nodes now, due or not.
    pub fn wake(&mut self) {
        clock::set(self.now);
        self.a.wake(self.now);
        self.b.wake(self.now);
        self.exchange();
    }

    /// Lets time pass, and the nodes do what is due meanwhile. Returns how often one had to wake.
    pub fn rest(&mut self, duration: Duration) -> usize {
        let (until, mut wakes) = (self.now + duration, 0);
        while let Some(next) = [self.a.next_wake(), self.b.next_wake()].into_iter().flatten().min()
            && next <= until
        {
            self.now = next.max(self.now);
            clock::set(self.now);
            for node in [&mut self.a, &mut self.b] {
                if node.next_wake().is_some_and(|next| next <= self.now) {
                    node.wake(self.now);
                    wakes += 1;
                    assert!(node.next_wake().is_none_or(|next| next > self.now), "a deadline that stays");
                }
            }
            self.exchange();
        }
        self.now = until;
        clock::set(self.now);
        wakes
    }

    /// Carries datagrams until there are none.
    fn exchange(&mut self) {
        loop {
            let (from_a, from_b) = (self.a.datagrams(), self.b.datagrams());
            if from_a.is_empty() && from_b.is_empty() {
                break;
            }
            for datagram in from_a {
                self.log.push(Sent { at: self.now, by: Side::A, kind: Kind::of(&datagram) });
                if self.a_to_b {
                    self.b.receive(self.now, &datagram);
                }
            }
            for datagram in from_b {
                self.log.push(Sent { at: self.now, by: Side::B, kind: Kind::of(&datagram) });
                if self.b_to_a {
                    self.a.receive(self.now, &datagram);
                }
            }
        }
        for (received, packets) in self.received.iter_mut().zip([self.a.packets(), self.b.packets()]) {
            received.extend(packets.iter().map(|packet| packet_id(packet)));
        }
    }

    /// How many messages of a kind a node has sent.
    pub fn count(&self, by: Side, kind: Kind) -> usize {
        self.log.iter().filter(|sent| sent.by == by && sent.kind == kind).count()
    }

    /// How long after `since` a node sent the first message of a kind.
    pub fn first(&self, by: Side, kind: Kind, since: Instant) -> Option<Duration> {
        let mut sent = self.log.iter().filter(|sent| sent.at >= since && sent.by == by && sent.kind == kind);
        sent.next().map(|sent| sent.at.saturating_duration_since(since))
    }
}
