//! Cryptokey routing: which peer an inner address belongs to.
//!
//! One sorted table per address family and prefix length that occurs, longest first. A client has one to three
//! lengths, so a lookup is that many binary searches; nothing is allocated after construction.

use std::net::IpAddr;

use ipnet::IpNet;

/// Prefixes and the peers (by index) that own them.
#[derive(Debug, Clone, Default)]
pub(super) struct AllowedIps {
    v4: Family,
    v6: Family,
}

impl AllowedIps {
    /// Gives `prefix` to `peer`. A prefix has one owner: the last one.
    pub(super) fn insert(&mut self, prefix: IpNet, peer: usize) {
        let (family, bits) = self.family_mut(prefix.network());
        family.insert(bits, prefix.prefix_len(), peer);
    }

    /// The owner of the longest prefix that contains `address`.
    #[inline]
    pub(super) fn lookup(&self, address: IpAddr) -> Option<usize> {
        match address {
            IpAddr::V4(address) => self.v4.lookup(v4_bits(address)),
            IpAddr::V6(address) => self.v6.lookup(address.to_bits()),
        }
    }

    fn family_mut(&mut self, address: IpAddr) -> (&mut Family, u128) {
        match address {
            IpAddr::V4(address) => (&mut self.v4, v4_bits(address)),
            IpAddr::V6(address) => (&mut self.v6, address.to_bits()),
        }
    }
}

/// IPv4 addresses stand in the upper 32 bits, so that one prefix length means the same in both families.
fn v4_bits(address: std::net::Ipv4Addr) -> u128 {
    u128::from(address.to_bits()) << 96
}

#[derive(Debug, Clone, Default)]
struct Family {
    /// Longest prefixes first.
    lengths: Vec<Length>,
}

#[derive(Debug, Clone)]
struct Length {
    prefix_len: u8,
    mask: u128,
    /// Networks and owners, sorted by network.
    networks: Vec<(u128, usize)>,
}

impl Family {
    fn insert(&mut self, bits: u128, prefix_len: u8, peer: usize) {
        let at = self.lengths.partition_point(|length| length.prefix_len > prefix_len);
        if self.lengths.get(at).is_none_or(|length| length.prefix_len != prefix_len) {
            self.lengths.insert(at, Length { prefix_len, mask: mask(prefix_len), networks: Vec::new() });
        }
        if let Some(length) = self.lengths.get_mut(at) {
            length.insert(bits & length.mask, peer);
        }
    }

    #[inline]
    fn lookup(&self, bits: u128) -> Option<usize> {
        self.lengths.iter().find_map(|length| {
            let at = length.networks.binary_search_by_key(&(bits & length.mask), |entry| entry.0).ok()?;
            length.networks.get(at).map(|entry| entry.1)
        })
    }
}

impl Length {
    fn insert(&mut self, network: u128, peer: usize) {
        match self.networks.binary_search_by_key(&network, |entry| entry.0) {
            Ok(at) => {
                if let Some(entry) = self.networks.get_mut(at) {
                    entry.1 = peer;
                }
            }
            Err(at) => self.networks.insert(at, (network, peer)),
        }
    }
}

fn mask(prefix_len: u8) -> u128 {
    // A shift by the full width, as for /0, is an overflow and leaves no bit.
    u128::MAX.checked_shl(128 - u32::from(prefix_len)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The obvious way: look at every prefix, keep the longest, later ones win ties.
    fn naive(prefixes: &[(IpNet, usize)], address: IpAddr) -> Option<usize> {
        let mut best: Option<(u8, usize)> = None;
        for (prefix, peer) in prefixes {
            if prefix.contains(&address) && best.is_none_or(|(length, _)| prefix.prefix_len() >= length) {
                best = Some((prefix.prefix_len(), *peer));
            }
        }
        best.map(|(_, peer)| peer)
    }

    #[test]
    fn the_longest_prefix_wins_and_families_are_apart() {
        let mut allowed = AllowedIps::default();
        for (peer, prefix) in
            ["0.0.0.0/0", "10.0.0.0/8", "10.0.0.7/32", "::/0", "fd00::/8"].iter().enumerate()
        {
            allowed.insert(prefix.parse().unwrap(), peer);
        }
        let owner = |address: &str| allowed.lookup(address.parse().unwrap());
        assert_eq!(owner("8.8.8.8"), Some(0));
        assert_eq!(owner("10.1.2.3"), Some(1));
        assert_eq!(owner("10.0.0.7"), Some(2));
        assert_eq!(owner("2001:db8::1"), Some(3));
        assert_eq!(owner("fd00::1"), Some(4));
        assert_eq!(AllowedIps::default().lookup("10.0.0.1".parse().unwrap()), None);
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        // Few distinct bits, or prefixes would hardly ever contain each other.
        prop_oneof![
            (0_u32..16, 0_u32..4).prop_map(|(high, low)| IpAddr::V4((high << 28 | low).into())),
            (0_u128..16, 0_u128..4).prop_map(|(high, low)| IpAddr::V6((high << 124 | low).into())),
        ]
    }

    fn prefix() -> impl Strategy<Value = IpNet> {
        (address(), 0_u8..=128).prop_map(|(address, length)| {
            let width = if address.is_ipv4() { 32 } else { 128 };
            IpNet::new(address, length.min(width)).unwrap().trunc()
        })
    }

    proptest! {
        #[test]
        fn lookups_agree_with_the_obvious_way(
            prefixes in proptest::collection::vec((prefix(), 0_usize..5), 0..30),
            addresses in proptest::collection::vec(address(), 1..30),
        ) {
            let mut allowed = AllowedIps::default();
            for (prefix, peer) in &prefixes {
                allowed.insert(*prefix, *peer);
            }
            for address in addresses {
                prop_assert_eq!(allowed.lookup(address), naive(&prefixes, address));
            }
        }
    }
}
