//! Resolves the peers' host names: at the start, and again when an answer may have changed.
//!
//! That is after a change of the network and after a handshake was given up; never by the clock alone. A look-up may take long,
//! so it runs on a short-lived thread of its own, at most one at a time. [`Refresh`] decides when, on the tunnel's
//! thread; whatever is asked for meanwhile is joined. Failures are repeated a few times with growing pauses, then
//! nothing happens until the next cause.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use super::TunnelError;
use crate::{
    clock::Instant,
    tunnel::{
        config::{Config, Endpoint},
        key::PublicKey,
    },
};

/// Finds the addresses of a host name with a port. May block, as the system's resolver does. Called on the thread that starts
/// the tunnel, and later on short-lived threads named `tuntrail-resolve`, one at a time; one that is still running when
/// the tunnel stops is left to end by itself.
pub type Resolver = Arc<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// The system's resolver.
pub(super) fn system() -> Resolver {
    Arc::new(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
}

/// A failed look-up is repeated after this time, doubled each time: networks take seconds to come up.
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// This many look-ups for one cause, over about two minutes. Longer failures end with the next network change.
const MAX_ATTEMPTS: u32 = 8;
/// Handshakes that are given up cause a look-up at most this often, however many peers there are: one attempt at a
/// handshake takes three times as long.
const MIN_INTERVAL: Duration = Duration::from_secs(30);

/// A peer whose endpoint has a name.
#[derive(Debug)]
struct Named {
    peer: PublicKey,
    host: String,
    port: u16,
    /// An answer is wanted.
    wanted: bool,
    /// The known address did not answer.
    silent: bool,
}

/// When to resolve names again. See the module.
#[derive(Debug, Default)]
pub(super) struct Refresh {
    names: Vec<Named>,
    /// When the next look-up begins.
    due: Option<Instant>,
    /// A look-up runs; when it began and whether the network has changed since.
    running: Option<Running>,
    /// When the last one began.
    last: Option<Instant>,
    /// Look-ups for the present cause so far.
    attempts: u32,
}

#[derive(Debug)]
struct Running {
    outdated: bool,
}

/// Names to look up.
#[derive(Debug, Clone)]
pub(super) struct Lookup {
    names: Vec<(usize, String, u16)>,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Answers(Vec<(usize, io::Result<Vec<SocketAddr>>)>);

/// An answer for one peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) peer: PublicKey,
    pub(super) addresses: Vec<SocketAddr>,
    /// The known address did not answer: another one is wanted if there is any.
    pub(super) silent: bool,
}

impl Refresh {
    pub(super) fn new(config: &Config) -> Self {
        let named = config.peers.iter().filter_map(|peer| match &peer.endpoint {
            Some(Endpoint::Name { host, port }) => Some(Named {
                peer: peer.public_key,
                host: host.clone(),
                port: *port,
                wanted: false,
                silent: false,
            }),
            _ => None,
        });
        Self { names: named.collect(), ..Self::default() }
    }

    /// The network changed: answers may differ there.
    pub(super) fn network_changed(&mut self, now: Instant) {
        for name in &mut self.names {
            name.wanted = true;
        }
        self.attempts = 0;
        match &mut self.running {
            Some(running) => running.outdated = true,
            None if self.names.is_empty() => {}
            None => self.due = Some(now),
        }
    }

    /// A peer didn't answer for so long that its handshake was given up.
    pub(super) fn gave_up(&mut self, now: Instant, peer: &PublicKey) {
        let Some(name) = self.names.iter_mut().find(|name| name.peer == *peer) else {
            return;
        };
        name.wanted = true;
        name.silent = true;
        // A running or repeated look-up takes care of it, or is followed by another.
        if self.running.is_none() && self.due.is_none() {
            self.attempts = 0;
            self.due = Some(self.last.map_or(now, |last| now.max(last + MIN_INTERVAL)));
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due
    }

    /// What to look up now, if it is time. [`Self::finished`] must be called with the answers.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Lookup> {
        self.due = self.due.filter(|due| *due > now);
        if self.due.is_some() || self.running.is_some() || !self.names.iter().any(|name| name.wanted) {
            return None;
        }
        self.running = Some(Running { outdated: false });
        self.last = Some(now);
        self.attempts += 1;
        let wanted = self.names.iter().enumerate().filter(|(_, name)| name.wanted);
        Some(Lookup { names: wanted.map(|(at, name)| (at, name.host.clone(), name.port)).collect() })
    }

    /// Takes the answers. Returns what they say.
    pub(super) fn finished(&mut self, now: Instant, answers: Answers) -> Vec<Found> {
        let outdated = self.running.take().is_some_and(|running| running.outdated);
        if outdated {
            // They are from the previous network.
            self.due = Some(now);
            return Vec::new();
        }
        let mut found = Vec::new();
        let mut failed = false;
        for (at, answer) in answers.0 {
            let Some(name) = self.names.get_mut(at) else {
                continue;
            };
            match answer {
                Ok(addresses) => {
                    name.wanted = false;
                    let silent = std::mem::take(&mut name.silent);
                    found.push(Found { peer: name.peer, addresses, silent });
                }
                Err(error) => {
                    tracing::debug!(%error, "resolving a peer's endpoint failed");
                    failed = true;
                }
            }
        }
        if failed && self.attempts < MAX_ATTEMPTS {
            self.due = Some(now + MIN_PAUSE * 2_u32.pow(self.attempts.saturating_sub(1)));
        } else if failed {
            tracing::warn!(attempts = self.attempts, "can't resolve the endpoints of all peers");
            for name in &mut self.names {
                name.wanted = false;
            }
        } else if self.names.iter().any(|name| name.wanted) {
            // Asked for while this one ran.
            self.attempts = 0;
            self.due = Some(now + MIN_INTERVAL);
        }
        found
    }
}

impl Lookup {
    /// Asks the resolver; blocks as long as that does.
    pub(super) fn run(self, resolver: &Resolver) -> Answers {
        let ask = |host: &str, port| {
            // The host's code may panic on its own account, but not end re-resolution with it.
            catch_unwind(AssertUnwindSafe(|| resolver(host, port)))
                .unwrap_or_else(|_| Err(io::Error::other("the resolver panicked")))
        };
        Answers(self.names.into_iter().map(|(at, host, port)| (at, ask(&host, port))).collect())
    }

    /// There is no thread to ask on.
    pub(super) fn fail(self, kind: io::ErrorKind) -> Answers {
        Answers(self.names.into_iter().map(|(at, ..)| (at, Err(kind.into()))).collect())
    }
}

impl Found {
    /// Where the peer is to be looked for from now on, if that is elsewhere than at `current`. A peer that may be well keeps its address
    /// while that is among the answers; a silent one gets the next.
    pub(super) fn choose(
        &self,
        current: Option<SocketAddr>,
        can_reach: impl Fn(SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        let usable: Vec<_> = self.addresses.iter().copied().filter(|address| can_reach(*address)).collect();
        let known = usable.iter().position(|address| Some(*address) == current);
        let next = match known {
            Some(_) if !self.silent => return None,
            Some(known) => (known + 1) % usable.len(),
            None => 0,
        };
        usable.get(next).copied().filter(|address| Some(*address) != current)
    }
}

/// One address per peer that has an endpoint, of a family that we have a socket for. Blocks.
pub(super) fn resolve_all(
    config: &Config,
    resolver: &Resolver,
    can_reach: impl Fn(SocketAddr) -> bool,
) -> Result<Vec<Option<SocketAddr>>, TunnelError> {
    let one = |endpoint: &Endpoint| match endpoint {
        Endpoint::Address(address) => Ok(*address),
        Endpoint::Name { host, port } => resolver(host, *port)
            .map_err(|source| TunnelError::Resolve { host: host.clone(), source })?
            .into_iter()
            .find(|address| can_reach(*address))
            .ok_or_else(|| TunnelError::NoAddress { host: host.clone() }),
    };
    config.peers.iter().map(|peer| peer.endpoint.as_ref().map(one).transpose()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::{PeerConfig, PrivateKey};

    const START: Instant = Instant::from_nanos(1_000_000_000_000);

    fn key(seed: u8) -> PublicKey {
        PrivateKey::from_bytes([seed; 32]).public_key()
    }

    /// Peers 2 and 3 have names, 4 has an address.
    fn refresh() -> Refresh {
        let mut config = Config::new(PrivateKey::from_bytes([1; 32]));
        for (seed, endpoint) in [(2, "two.example:1"), (3, "three.example:1"), (4, "192.0.2.4:1")] {
            let mut peer = PeerConfig::new(key(seed));
            peer.endpoint = Some(match endpoint.parse() {
                Ok(address) => Endpoint::Address(address),
                Err(_) => Endpoint::Name { host: endpoint.split(':').next().unwrap().to_owned(), port: 1 },
            });
            config.peers.push(peer);
        }
        Refresh::new(&config)
    }

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 1))
    }

    fn known() -> Resolver {
        Arc::new(|host, _| match host {
            "two.example" => Ok(vec![address(2)]),
            "three.example" => Ok(vec![address(3), address(33)]),
            other => panic!("nobody asked for {other}"),
        })
    }

    fn unreachable() -> Resolver {
        Arc::new(|_, _| Err(io::ErrorKind::TimedOut.into()))
    }

    #[test]
    fn a_network_change_looks_all_names_up_once() {
        let mut refresh = refresh();
        assert_eq!(refresh.next_deadline(), None);
        refresh.network_changed(START);
        refresh.network_changed(START);
        assert_eq!(refresh.next_deadline(), Some(START));
        let lookup = refresh.take_due(START).unwrap();
        assert!(refresh.take_due(START).is_none(), "one at a time");
        let found = refresh.finished(START, lookup.run(&known()));
        assert_eq!(found.iter().map(|found| found.peer).collect::<Vec<_>>(), [key(2), key(3)]);
        assert_eq!(refresh.next_deadline(), None);
    }

    #[test]
    fn a_network_change_during_a_look_up_makes_its_answers_worthless() {
        let mut refresh = refresh();
        refresh.network_changed(START);
        let lookup = refresh.take_due(START).unwrap();
        refresh.network_changed(START);
        assert_eq!(refresh.finished(START, lookup.run(&known())), []);
        let lookup = refresh.take_due(START).unwrap();
        assert_eq!(refresh.finished(START, lookup.run(&known())).len(), 2);
    }

    #[test]
    fn only_the_silent_peer_is_looked_up_and_not_too_often() {
        let mut refresh = refresh();
        refresh.gave_up(START, &key(4));
        assert_eq!(refresh.next_deadline(), None, "it has no name");
        refresh.gave_up(START, &key(3));
        let lookup = refresh.take_due(START).unwrap();
        refresh.gave_up(START, &key(2));
        let found = refresh.finished(START, lookup.run(&known()));
        assert_eq!(found, [Found { peer: key(3), addresses: vec![address(3), address(33)], silent: true }]);
        assert_eq!(refresh.next_deadline(), Some(START + MIN_INTERVAL));
        assert!(refresh.take_due(START).is_none());
        let later = START + MIN_INTERVAL;
        let lookup = refresh.take_due(later).unwrap();
        refresh.finished(later, lookup.run(&known()));
        assert_eq!(refresh.next_deadline(), None);
        refresh.gave_up(later, &key(2));
        assert_eq!(refresh.next_deadline(), Some(later + MIN_INTERVAL));
    }

    #[test]
    fn failures_are_repeated_with_growing_pauses_and_then_given_up() {
        let mut refresh = refresh();
        refresh.network_changed(START);
        let mut pauses = Vec::new();
        let mut now = START;
        while let Some(lookup) = refresh.take_due(now) {
            assert_eq!(refresh.finished(now, lookup.run(&unreachable())), []);
            let Some(next) = refresh.next_deadline() else { break };
            pauses.push(next.saturating_duration_since(now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64]);
        assert_eq!(refresh.next_deadline(), None);
        assert!(refresh.take_due(now).is_none());
        refresh.network_changed(now);
        let lookup = refresh.take_due(now).unwrap();
        assert_eq!(refresh.finished(now, lookup.run(&known())).len(), 2, "the next cause starts anew");
    }

    #[test]
    fn a_resolver_that_panics_has_failed() {
        let mut refresh = refresh();
        refresh.gave_up(START, &key(2));
        let lookup = refresh.take_due(START).unwrap();
        let panicking: Resolver = Arc::new(|_, _| panic!("on purpose"));
        assert_eq!(refresh.finished(START, lookup.run(&panicking)), []);
        assert_eq!(refresh.next_deadline(), Some(START + MIN_PAUSE));
    }

    #[test]
    fn a_well_peer_keeps_its_address_and_a_silent_one_gets_the_next() {
        let found =
            |silent| Found { peer: key(2), addresses: vec![address(1), address(2), address(3)], silent };
        let all = |_| true;
        assert_eq!(found(false).choose(Some(address(2)), all), None);
        assert_eq!(found(false).choose(Some(address(9)), all), Some(address(1)));
        assert_eq!(found(false).choose(None, all), Some(address(1)));
        assert_eq!(found(true).choose(Some(address(2)), all), Some(address(3)));
        assert_eq!(found(true).choose(Some(address(3)), all), Some(address(1)));
        let only = |one| move |address| address == one;
        assert_eq!(found(true).choose(Some(address(2)), only(address(2))), None);
        assert_eq!(found(false).choose(Some(address(9)), only(address(3))), Some(address(3)));
        assert_eq!(found(false).choose(Some(address(9)), |_| false), None);
    }
}
