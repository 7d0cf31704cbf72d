//! Upstream's estimate of a record's length, which decides where upstream starts a new record.
//!
//! Only used in `compat` mode, for comparisons with upstream: the estimate is up to three times too large, and not
//! even an upper bound.

use std::{collections::HashMap, net::IpAddr};

use super::{json::MAX_ROW_LEN, window::Row};
use crate::netmap::Owner;

/// Upstream's length of a message without nodes and connections.
const BASE: usize = 219;
/// Upstream's length of a connection.
const CONNECTION: usize = MAX_ROW_LEN;
/// Upstream's length of a node that is not known.
const NO_NODE: usize = 13;
/// Upstream's limit of a record.
const LIMIT: usize = 262_144;

/// The sizes of the groups into which upstream would split rows that are in the order of their first packets.
pub(super) fn split(
    rows: &[Row],
    self_owner: Option<&Owner>,
    lookup: &mut impl FnMut(&Row, IpAddr) -> Option<Owner>,
) -> Vec<usize> {
    let empty = BASE + self_owner.map_or(NO_NODE, node);
    let mut sizes = vec![0];
    let mut len = empty;
    let mut seen = HashMap::new();
    for row in rows {
        let mut nodes = 0;
        for address in row.addresses().into_iter().flatten() {
            if !seen.contains_key(&address)
                && let Some(owner) = lookup(row, address)
            {
                let node = node(&owner);
                nodes += node;
                seen.insert(address, node);
            }
        }
        if len + CONNECTION + nodes > LIMIT {
            // Unlike upstream, a node that was known in the full record is counted in the new one, too.
            let mentioned = row.addresses().map(|address| address.and_then(|a| seen.get_key_value(&a)));
            seen = mentioned.into_iter().flatten().map(|(&address, &len)| (address, len)).collect();
            nodes = seen.values().sum();
            len = empty;
            sizes.push(0);
        }
        len += CONNECTION + nodes;
        if let Some(size) = sizes.last_mut() {
            *size += 1;
        }
    }
    sizes
}

/// Upstream's length of a node.
fn node(owner: &Owner) -> usize {
    let node = owner.node.as_ref();
    let text = |name: usize, text: &str| if text.is_empty() { 0 } else { name + quoted(text) + 1 };
    let mut len = 2 + 9 + quoted(&node.stable_id) + 1 + text(7, &node.name);
    if !node.addresses.is_empty() {
        let address = |prefix: &ipnet::IpNet| if prefix.addr().is_ipv4() { 18 } else { 42 };
        len += 14 + node.addresses.iter().map(address).sum::<usize>();
    }
    len += text(5, &node.os);
    if node.tags.is_empty() {
        len + owner.login.as_deref().map_or(0, |login| text(7, login))
    } else {
        len + 9 + node.tags.iter().map(|tag| quoted(tag) + 1).sum::<usize>()
    }
}

/// The length of a text as JSON.
fn quoted(text: &str) -> usize {
    let escapes = text.bytes().map(|byte| match byte {
        0x08 | b'\t' | b'\n' | 0x0c | b'\r' | b'"' | b'\\' => 1,
        0..0x20 => 5,
        _ => 0,
    });
    2 + text.len() + escapes.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::netmap::{Node, NodeId};

    fn owner(stable_id: &str, name: &str, addresses: &[&str], tags: &[&str]) -> Owner {
        let node = Node {
            id: NodeId(1),
            stable_id: stable_id.into(),
            name: name.into(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            os: String::new(),
            user: None,
            tags: tags.iter().map(|&tag| tag.into()).collect(),
        };
        Owner { node: Arc::new(node), login: None }
    }

    #[test]
    fn the_lengths_are_those_of_upstream() {
        assert_eq!(node(&owner("", "", &[], &[])), 14);
        assert_eq!(node(&owner("n1", "", &[], &[])), 16);
        assert_eq!(node(&owner("n1CNTRL", "a.b.ts.net.", &[], &[])), 42);
        let addresses = ["100.64.0.1/32", "fd7a:115c:a1e0::1/128", "10.0.0.0/8"];
        assert_eq!(node(&owner("n1CNTRL", "a.b.ts.net.", &addresses, &["tag:a", "tag:a"])), 159);
        let of = |text| quoted(text);
        assert_eq!([of(""), of("abc"), of("a\"b"), of("\\"), of("\n\t")], [2, 5, 6, 4, 6]);
        assert_eq!(
            [of("\u{1}"), of("\u{7f}"), of("é"), of("\u{2028}"), of("<&>"), of("\u{fffd}")],
            [8, 3, 4, 5, 5, 5]
        );
    }

    #[test]
    fn the_self_node_of_the_reference_run_has_its_length() {
        let mut owner =
            owner("n1CNTRL", "self.example.ts.net.", &["100.64.0.1/32", "fd7a:115c:a1e0::1/128"], &[]);
        Arc::get_mut(&mut owner.node).unwrap().os = "linux".into();
        owner.login = Some("a@example.com".into());
        assert_eq!(node(&owner), 161);
    }
}
