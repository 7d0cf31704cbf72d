//! What socket statistics are told apart by.

use std::fmt;

/// The job that a socket does.
///
/// Numbers are those of Tailscale's sockstats, which are in logs and never change; an app's own start at
/// [`Label::FIRST_APP`]. What is in between belongs to upstream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(u16);

impl Label {
    /// The control connection.
    pub const CONTROL_CLIENT_AUTO: Self = Self(0);
    /// Dialling the control server.
    pub const CONTROL_CLIENT_DIALER: Self = Self(1);
    /// Relay connections.
    pub const DERP_HTTP_CLIENT: Self = Self(2);
    /// Uploads of logs other than those with a label of their own: here flow events and sessions.
    pub const LOGTAIL_LOGGER: Self = Self(3);
    /// DNS over HTTPS.
    pub const DNS_FORWARDER_DOH: Self = Self(4);
    /// DNS over UDP.
    pub const DNS_FORWARDER_UDP: Self = Self(5);
    /// Probes of the network.
    pub const NETCHECK_CLIENT: Self = Self(6);
    /// Port mappings at the router.
    pub const PORTMAPPER_CLIENT: Self = Self(7);
    /// The tunnel's datagrams over IPv4.
    pub const MAGICSOCK_CONN_UDP4: Self = Self(8);
    /// The tunnel's datagrams over IPv6.
    pub const MAGICSOCK_CONN_UDP6: Self = Self(9);
    /// Uploads of flow records.
    pub const NETLOG_LOGGER: Self = Self(10);
    /// Uploads of socket statistics.
    pub const SOCKSTATLOG_LOGGER: Self = Self(11);
    /// DNS over TCP.
    pub const DNS_FORWARDER_TCP: Self = Self(12);

    /// The first number that is an app's own. Leaves upstream room for four times the labels it has.
    pub const FIRST_APP: u16 = 64;

    pub(super) const UPSTREAM: [&'static str; 13] = [
        "ControlClientAuto",
        "ControlClientDialer",
        "DERPHTTPClient",
        "LogtailLogger",
        "DNSForwarderDoH",
        "DNSForwarderUDP",
        "NetcheckClient",
        "PortmapperClient",
        "MagicsockConnUDP4",
        "MagicsockConnUDP6",
        "NetlogLogger",
        "SockstatlogLogger",
        "DNSForwarderTCP",
    ];

    /// A label of the app's own, or `None` for a number below [`Self::FIRST_APP`].
    #[must_use]
    pub const fn app(number: u16) -> Option<Self> {
        if number < Self::FIRST_APP { None } else { Some(Self(number)) }
    }

    /// Upstream's labels, by number.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..).map(Self).take(Self::UPSTREAM.len())
    }

    /// The number in the logs.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// Whether this is the upload of what tuntrail records. It is counted, but causes no event by itself: that would be
    /// uploaded, and cause the next.
    #[must_use]
    pub const fn is_log_upload(self) -> bool {
        matches!(self, Self::LOGTAIL_LOGGER | Self::NETLOG_LOGGER | Self::SOCKSTATLOG_LOGGER)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::UPSTREAM.get(usize::from(self.0)) {
            Some(name) => f.write_str(name),
            None => write!(f, "Label({})", self.0),
        }
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_numbers_have_upstreams_names_and_an_apps_own_begin_behind_them() {
        assert_eq!(Label::CONTROL_CLIENT_AUTO.to_string(), "ControlClientAuto");
        assert_eq!(Label::MAGICSOCK_CONN_UDP6.to_string(), "MagicsockConnUDP6");
        assert_eq!(Label::DNS_FORWARDER_TCP.to_string(), "DNSForwarderTCP");
        assert_eq!(Label::DNS_FORWARDER_TCP.number(), 12);
        assert_eq!(Label::app(12), None);
        assert_eq!(Label::app(63), None);
        assert_eq!(Label::app(64).unwrap().to_string(), "Label(64)");
    }
}
