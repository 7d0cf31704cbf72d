//! Which rows a user wants to see: a pure predicate made of the command's options.

use ipnet::IpNet;
use jiff::{Span, Timestamp};

use super::row::{Endpoint, Kind, Row, protocol_name};

/// The options that choose rows. A row must match all that are given.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Filter {
    /// Only this stream (netlog, flowlog, sessions, sockstats, clientlog) or collection.
    #[arg(long, value_name = "NAME")]
    pub(crate) stream: Option<String>,
    /// Only records of this kind; log are lines of the SDK's own log, other is what this version does not know.
    #[arg(long, value_parser = Kind::NAMES)]
    pub(crate) kind: Option<String>,
    /// Only what went on at or after this time: RFC 3339, or how long ago (90s, 10m, 2h, 3d).
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) since: Option<Timestamp>,
    /// Only what began before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) until: Option<Timestamp>,
    /// Only connections of this class.
    #[arg(long, value_parser = ["virtual", "subnet", "exit", "physical"])]
    pub(crate) class: Option<String>,
    /// Only connections between or with this node: its ID, or its name up to a dot.
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// Only connections with this address, or with one in this prefix, at either end.
    #[arg(long, value_name = "ADDRESS[/BITS]", value_parser = parse_prefix)]
    pub(crate) address: Option<IpNet>,
    /// Only connections with this port at either end.
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Only this protocol: tcp, udp, icmp, icmpv6, sctp or a number.
    #[arg(long, value_parser = parse_protocol)]
    pub(crate) protocol: Option<u8>,
    /// Only the flow or session with this ID, or whose ID begins so.
    #[arg(long, value_name = "ID")]
    pub(crate) flow: Option<String>,
    /// Only flows that ended, or records that were dropped, for this reason.
    #[arg(long)]
    pub(crate) reason: Option<String>,
}

impl Filter {
    /// Whether a row is wanted.
    pub(crate) fn matches(&self, row: &Row) -> bool {
        let wanted = |text: &Option<String>, has: &dyn Fn(&str) -> bool| text.as_deref().is_none_or(has);
        let end = |test: &dyn Fn(Endpoint) -> bool| [row.src, row.dst].into_iter().flatten().any(test);
        wanted(&self.stream, &|name| row.stream == name)
            && wanted(&self.kind, &|kind| row.kind.name() == kind)
            && self.includes_time(row)
            && wanted(&self.class, &|class| row.class == class)
            && wanted(&self.node, &|node| is_node(&row.node, node) || is_node(&row.peer, node))
            && self.address.is_none_or(|prefix| end(&|end| prefix.contains(&end.ip)))
            && self.port.is_none_or(|port| end(&|end| end.port == Some(port)))
            && self.protocol.is_none_or(|protocol| row.protocol == Some(protocol))
            && wanted(&self.flow, &|id| !row.id.is_empty() && row.id.starts_with(&id.to_ascii_lowercase()))
            && wanted(&self.reason, &|reason| row.reason == reason)
    }

    /// Whether a row is of the time that is wanted.
    pub(crate) fn includes_time(&self, row: &Row) -> bool {
        self.since.is_none_or(|since| row.end.or(row.time).is_some_and(|end| end >= since))
            && self.until.is_none_or(|until| row.time.is_some_and(|time| time < until))
    }

    /// What is chosen, for people; empty if everything is.
    pub(crate) fn describe(&self) -> Vec<String> {
        let Self { stream, kind, since, until, class, node, address, port, protocol, flow, reason } = self;
        let option = |name: &str, value: Option<String>| value.map(|value| format!("{name} {value}"));
        let time = |time: &Option<Timestamp>| time.map(|time| format!("{time:.0}"));
        let options = [
            option("since", time(since)),
            option("until", time(until)),
            option("stream", stream.clone()),
            option("kind", kind.clone()),
            option("class", class.clone()),
            option("node", node.clone()),
            option("address", address.map(|prefix| prefix.to_string())),
            option("port", port.map(|port| port.to_string())),
            option("protocol", protocol.map(protocol_name)),
            option("flow", flow.clone()),
            option("reason", reason.clone()),
        ];
        options.into_iter().flatten().collect()
    }
}

fn is_node((id, name): &(String, String), wanted: &str) -> bool {
    let first = name.split('.').next().unwrap_or_default();
    !wanted.is_empty()
        && (id == wanted || name.eq_ignore_ascii_case(wanted) || first.eq_ignore_ascii_case(wanted))
}

/// A time, or how long before now it was.
fn parse_time(text: &str) -> Result<Timestamp, String> {
    time_before(text, Timestamp::now())
}

fn time_before(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let wrong = || {
        format!("{text:?} is neither an RFC 3339 time such as 2026-01-02T03:04:05Z nor an age such as 10m")
    };
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let seconds = match text.get(digits.len()..).unwrap_or_default() {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let age = digits
        .parse::<u32>()
        .ok()
        .map(i64::from)
        .and_then(|count| count.checked_mul(seconds))
        .ok_or_else(wrong)?;
    let span = Span::new().try_seconds(age).map_err(|_| wrong())?;
    now.checked_sub(span).map_err(|_| wrong())
}

fn parse_prefix(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<std::net::IpAddr>().map(IpNet::from);
    text.parse::<IpNet>().or_else(|_| address()).map_err(|_| {
        format!("{text:?} is neither an address such as 100.64.0.2 nor a prefix such as 10.20.0.0/16")
    })
}

fn parse_protocol(text: &str) -> Result<u8, String> {
    let number = match text.to_ascii_lowercase().as_str() {
        "icmp" => Some(1),
        "tcp" => Some(6),
        "udp" => Some(17),
        "icmpv6" => Some(58),
        "sctp" => Some(132),
        other => other.parse().ok(),
    };
    number.ok_or_else(|| format!("{text:?} is neither tcp, udp, icmp, icmpv6, sctp nor a number up to 255"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{entry::Entry, row::rows};

    fn row() -> Row {
        let line = r#"{"nodeId":"n1","start":"2026-01-02T03:04:05Z","end":"2026-01-02T03:04:10Z",
            "srcNode":{"nodeId":"n1","name":"phone.example.com"},
            "dstNodes":[{"nodeId":"n2","name":"router.example.com","addresses":["100.64.0.2"]}],
            "virtualTraffic":[{"proto":6,"src":"100.64.0.1:49325","dst":"100.64.0.2:22","txBytes":7}]}"#;
        rows(&Entry::parse("netlog", line).unwrap()).remove(0)
    }

    fn of(set: impl FnOnce(&mut Filter)) -> bool {
        let mut filter = Filter::default();
        set(&mut filter);
        filter.matches(&row())
    }

    #[test]
    fn each_option_lets_through_what_it_names_and_nothing_else() {
        let time = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let text = |text: &str| Some(text.to_owned());
        assert!(of(|_| {}));
        for (stream, expected) in [("netlog", true), ("flowlog", false)] {
            assert_eq!(of(|filter| filter.stream = text(stream)), expected);
        }
        // A window that goes on at the time is part of it.
        for (since, expected) in [("2026-01-02T03:04:10Z", true), ("2026-01-02T03:04:11Z", false)] {
            assert_eq!(of(|filter| filter.since = time(since)), expected);
        }
        for (until, expected) in [("2026-01-02T03:04:06Z", true), ("2026-01-02T03:04:05Z", false)] {
            assert_eq!(of(|filter| filter.until = time(until)), expected);
        }
        for (class, expected) in [("virtual", true), ("exit", false)] {
            assert_eq!(of(|filter| filter.class = text(class)), expected);
        }
        for (node, expected) in [
            ("n1", true),
            ("n2", true),
            ("router", true),
            ("Router.example.com", true),
            ("rout", false),
            ("", false),
        ] {
            assert_eq!(of(|filter| filter.node = text(node)), expected, "{node}");
        }
        for (prefix, expected) in
            [("100.64.0.2", true), ("100.64.0.0/16", true), ("10.0.0.0/8", false), ("::/0", false)]
        {
            assert_eq!(of(|filter| filter.address = parse_prefix(prefix).ok()), expected, "{prefix}");
        }
        for (port, expected) in [(22, true), (49325, true), (23, false)] {
            assert_eq!(of(|filter| filter.port = Some(port)), expected);
        }
        for (protocol, expected) in [("TCP", true), ("6", true), ("udp", false)] {
            assert_eq!(of(|filter| filter.protocol = parse_protocol(protocol).ok()), expected);
        }
        assert!(!of(|filter| filter.flow = text("")), "a window has no flow ID");
        assert!(!of(|filter| filter.reason = text("idle")));
        assert!(!of(|filter| {
            filter.port = Some(22);
            filter.class = text("exit");
        }));
    }

    #[test]
    fn flows_are_found_by_the_beginning_of_their_id_and_their_reason() {
        let line = r#"{"id":"000102030405060708090a0b0c0d0e0f","event":"close","role":"initiator","src":"100.64.0.1:5","dst":"100.64.0.2:443","start":"2026-01-02T03:04:05Z","reason":"idle"}"#;
        let row = rows(&Entry::parse("flowlog", line).unwrap()).remove(0);
        let by = |flow: &str, reason: &str| {
            let (flow, reason) = (Some(flow.into()), Some(reason.into()));
            Filter { flow, reason, ..Filter::default() }.matches(&row)
        };
        assert!(by("0001020304", "idle"));
        assert!(!by("0002", "idle"));
        assert!(!by("0001020304", "fin"));
    }

    #[test]
    fn ages_count_back_from_now() {
        let now: Timestamp = "2026-01-02T03:00:00Z".parse().unwrap();
        let before = |text| time_before(text, now).map(|time| time.to_string());
        assert_eq!(before("10m").unwrap(), "2026-01-02T02:50:00Z");
        assert_eq!(before("1d").unwrap(), "2026-01-01T03:00:00Z");
        for bad in ["", "10", "m", "10x", "-5m", "99999999999999999999s", "9223372036854775807d", "yesterday"]
        {
            assert!(before(bad).is_err(), "{bad}");
        }
    }
}
