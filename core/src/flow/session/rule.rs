//! Which connections use which resource.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::SessionConfigError;
use crate::hook::Protocol;

/// Prefixes of all rules together. They take less than 1 MiB; more is for no device that this library is made for.
const MAX_PREFIXES: usize = 4_096;

/// A resource, by the number that the administration gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceId(pub u64);

/// Says which connections belong to a resource: those whose destination is in one of the prefixes, at one of the ports,
/// by the protocol.
///
/// Of several rules that match, the one with the longest matching prefix decides, and of these the one that was
/// given first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceRule {
    /// The resource, or `None` for connections that are not to be logged: an exception to a rule with a shorter prefix.
    pub id: Option<ResourceId>,
    /// The addresses of the resource.
    pub prefixes: Vec<IpNet>,
    /// Its ports; none means every port, also for protocols that have no ports.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Its protocol, or `None` for every protocol.
    pub protocol: Option<Protocol>,
}

impl ResourceRule {
    fn allows(&self, port: u16, protocol: Protocol) -> bool {
        self.protocol.is_none_or(|wanted| wanted == protocol)
            && (self.ports.is_empty() || self.ports.iter().any(|range| range.contains(&port)))
    }
}

/// Whether the rules can be used.
///
/// # Errors
/// [`SessionConfigError::Prefixes`].
pub fn check_rules(rules: &[ResourceRule]) -> Result<(), SessionConfigError> {
    let prefixes = rules.iter().map(|rule| rule.prefixes.len()).sum();
    if prefixes > MAX_PREFIXES {
        return Err(SessionConfigError::Prefixes { prefixes, limit: MAX_PREFIXES });
    }
    Ok(())
}

/// All rules, ready to be looked up: one probe for each length of prefix that occurs.
#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: Vec<ResourceRule>,
    /// The rules of a prefix, in the order given.
    by_prefix: HashMap<IpNet, Vec<usize>, RandomState>,
    /// The lengths that occur, longest first.
    v4_lengths: Vec<u8>,
    v6_lengths: Vec<u8>,
}

impl Rules {
    pub(super) fn new(rules: Vec<ResourceRule>) -> Result<Self, SessionConfigError> {
        check_rules(&rules)?;
        let mut table = Self { rules, ..Self::default() };
        for (at, rule) in table.rules.iter().enumerate() {
            for prefix in &rule.prefixes {
                table.by_prefix.entry(prefix.trunc()).or_default().push(at);
                let lengths =
                    if prefix.addr().is_ipv4() { &mut table.v4_lengths } else { &mut table.v6_lengths };
                lengths.push(prefix.prefix_len());
            }
        }
        for lengths in [&mut table.v4_lengths, &mut table.v6_lengths] {
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            lengths.dedup();
        }
        Ok(table)
    }

    /// The resource that connections to `dest` use.
    pub(super) fn resource(&self, dest: SocketAddr, protocol: Protocol) -> Option<ResourceId> {
        self.rule(dest, protocol)?.id
    }

    fn rule(&self, dest: SocketAddr, protocol: Protocol) -> Option<&ResourceRule> {
        let lengths = match dest.ip() {
            IpAddr::V4(_) => &self.v4_lengths,
            IpAddr::V6(_) => &self.v6_lengths,
        };
        lengths.iter().find_map(|&length| {
            let prefix = IpNet::new(dest.ip(), length).ok()?.trunc();
            let rules = self.by_prefix.get(&prefix)?;
            let mut rules = rules.iter().filter_map(|&at| self.rules.get(at));
            rules.find(|rule| rule.allows(dest.port(), protocol))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{session::testing::rule, testing::nets};

    fn find(rules: &[ResourceRule], dest: &str, protocol: Protocol) -> Option<u64> {
        let rules = Rules::new(rules.to_vec()).unwrap();
        rules.resource(dest.parse().unwrap(), protocol).map(|id| id.0)
    }

    #[test]
    fn destination_port_and_protocol_must_all_match() {
        let rules = [ResourceRule {
            ports: vec![22..=22, 8_000..=8_999],
            protocol: Some(Protocol::TCP),
            ..rule(1, &["10.0.0.0/24", "fd00::/64"])
        }];
        for dest in ["10.0.0.1:22", "10.0.0.255:8000", "[fd00::9]:8999"] {
            assert_eq!(find(&rules, dest, Protocol::TCP), Some(1), "{dest}");
        }
        for dest in ["10.0.1.1:22", "10.0.0.1:23", "[fd00:0:0:1::9]:22"] {
            assert_eq!(find(&rules, dest, Protocol::TCP), None, "{dest}");
        }
        assert_eq!(find(&rules, "10.0.0.1:22", Protocol::UDP), None);
    }

    #[test]
    fn a_rule_without_ports_and_protocol_matches_everything_at_its_addresses() {
        let rules = [rule(1, &["10.0.0.0/24"])];
        for protocol in [Protocol::TCP, Protocol::UDP, Protocol::ICMPV4] {
            assert_eq!(find(&rules, "10.0.0.1:0", protocol), Some(1));
        }
    }

    #[test]
    fn the_longest_prefix_decides_then_the_first_rule() {
        let rules = [
            rule(1, &["10.0.0.0/8"]),
            rule(2, &["10.1.0.0/16"]),
            ResourceRule { ports: vec![22..=22], ..rule(3, &["10.1.0.0/24"]) },
            rule(4, &["10.1.0.0/16"]),
        ];
        assert_eq!(find(&rules, "10.2.0.1:22", Protocol::TCP), Some(1));
        assert_eq!(find(&rules, "10.1.0.1:22", Protocol::TCP), Some(3));
        assert_eq!(
            find(&rules, "10.1.0.1:23", Protocol::TCP),
            Some(2),
            "the more specific rule has no such port"
        );
    }

    #[test]
    fn a_rule_without_resource_is_an_exception() {
        let rules = [rule(1, &["10.0.0.0/8"]), ResourceRule { id: None, ..rule(0, &["10.0.0.53/32"]) }];
        assert_eq!(find(&rules, "10.0.0.53:53", Protocol::UDP), None);
        assert_eq!(find(&rules, "10.0.0.54:53", Protocol::UDP), Some(1));
    }

    #[test]
    fn host_bits_of_a_prefix_do_not_matter() {
        assert_eq!(find(&[rule(1, &["10.0.0.7/24"])], "10.0.0.1:1", Protocol::TCP), Some(1));
    }

    #[test]
    fn too_many_prefixes_are_refused() {
        let many =
            ResourceRule { prefixes: vec![nets(&["10.0.0.0/8"])[0]; MAX_PREFIXES + 1], ..rule(1, &[]) };
        let error = Rules::new(vec![many]).unwrap_err();
        assert_eq!(error, SessionConfigError::Prefixes { prefixes: 4_097, limit: 4_096 });
    }
}
