//! The reader of wg-quick files: lines to a [`Config`] or to the first error.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use ipnet::IpNet;

use super::{Config, ConfigError, Endpoint, IgnoredKey, MAX_MTU, MIN_MTU, PeerConfig};
use crate::tunnel::key::{PresharedKey, PrivateKey, PublicKey};

/// Keys of [Interface] that belong to the wg-quick script and not to the tunnel.
const IGNORED: [&str; 6] = ["Table", "SaveConfig", "PreUp", "PostUp", "PreDown", "PostDown"];
/// The longest DNS name (RFC 1035).
const MAX_HOST: usize = 253;
/// A base64 key is 43 characters and a padding sign. Words from here on may be one and are not shown in errors.
const SECRET_LIKE: usize = 40;
/// Longer names are no misspelt key but something else, maybe a secret: they are not shown.
const MAX_NAME: usize = 30;

pub(super) fn parse(text: &str) -> Result<Config, ConfigError> {
    let mut parser = Parser::default();
    // Windows editors like to put a byte order mark in front.
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        parser.line(index + 1, line)?;
    }
    parser.finish()
}

#[derive(Default)]
enum Section {
    #[default]
    None,
    Interface,
    Peer(Box<PartialPeer>),
}

struct PartialPeer {
    line: usize,
    public_key: Option<PublicKey>,
    seen_keepalive: bool,
    /// Everything but the public key, which isn't known yet.
    config: PeerConfig,
}

#[derive(Default)]
struct Parser {
    section: Section,
    private_key: Option<PrivateKey>,
    addresses: Vec<IpNet>,
    listen_port: Option<u16>,
    mtu: Option<u16>,
    fw_mark: Option<Option<u32>>,
    dns: Vec<IpAddr>,
    search_domains: Vec<String>,
    peers: Vec<PeerConfig>,
    ignored: Vec<IgnoredKey>,
}

impl Parser {
    fn line(&mut self, line: usize, text: &str) -> Result<(), ConfigError> {
        let text = text.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            return Ok(());
        }
        if let Some(section) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return self.open(line, section.trim());
        }
        let (key, value) = text.split_once('=').ok_or(ConfigError::Syntax { line })?;
        let entry = Entry { line, key: key.trim(), value: value.trim() };
        if !entry.has_plausible_key() {
            return Err(ConfigError::Syntax { line });
        }
        match &mut self.section {
            Section::None => Err(ConfigError::NoSection { line, key: entry.key.to_owned() }),
            Section::Interface => self.interface(entry),
            Section::Peer(peer) => peer.entry(entry),
        }
    }

    fn open(&mut self, line: usize, name: &str) -> Result<(), ConfigError> {
        self.close()?;
        self.section = if name.eq_ignore_ascii_case("Interface") {
            Section::Interface
        } else if name.eq_ignore_ascii_case("Peer") {
            Section::Peer(Box::new(PartialPeer {
                line,
                public_key: None,
                seen_keepalive: false,
                config: PeerConfig::new(PublicKey::from_bytes([0; 32])),
            }))
        } else {
            return Err(ConfigError::UnknownSection { line, section: shown(name) });
        };
        Ok(())
    }

    /// Ends the current section.
    fn close(&mut self) -> Result<(), ConfigError> {
        if let Section::Peer(peer) = std::mem::take(&mut self.section) {
            let public_key = peer.public_key.ok_or(ConfigError::MissingPublicKey { line: peer.line })?;
            self.peers.push(PeerConfig { public_key, ..peer.config });
        }
        Ok(())
    }

    fn interface(&mut self, entry: Entry<'_>) -> Result<(), ConfigError> {
        if entry.is("PrivateKey") {
            let key = PrivateKey::from_base64(entry.value)
                .map_err(|_| ConfigError::Key { line: entry.line, key: "PrivateKey" })?;
            return entry.once("PrivateKey", &mut self.private_key, key);
        }
        if entry.is("Address") {
            return entry.each(|text| match prefix(text) {
                Some(address) => self.addresses.push_ok(address),
                None => Err(entry.error("Address", "IP addresses such as 10.0.0.2/32")),
            });
        }
        if entry.is("ListenPort") {
            let port = entry.number("ListenPort", 0, u16::MAX, "a UDP port, 0 to 65535")?;
            return entry.once("ListenPort", &mut self.listen_port, port);
        }
        if entry.is("MTU") {
            let mtu = entry.number("MTU", MIN_MTU, MAX_MTU, "bytes, 576 to 65472")?;
            return entry.once("MTU", &mut self.mtu, mtu);
        }
        if entry.is("FwMark") {
            let mark = mark(entry.value)
                .ok_or_else(|| entry.error("FwMark", "a 32-bit number, 0x and hexadecimal digits, or off"))?;
            return entry.once("FwMark", &mut self.fw_mark, mark);
        }
        if entry.is("DNS") {
            return entry.each(|text| match text.parse() {
                Ok(server) => self.dns.push_ok(server),
                Err(_) if is_host(text) => self.search_domains.push_ok(text.to_owned()),
                Err(_) => Err(entry.error("DNS", "IP addresses or search domains")),
            });
        }
        if let Some(key) = IGNORED.into_iter().find(|key| entry.is(key)) {
            return self.ignored.push_ok(IgnoredKey { line: entry.line, key });
        }
        Err(entry.unknown("Interface"))
    }

    fn finish(mut self) -> Result<Config, ConfigError> {
        self.close()?;
        let config = Config {
            private_key: self.private_key.ok_or(ConfigError::MissingPrivateKey)?,
            addresses: self.addresses,
            listen_port: self.listen_port.filter(|port| *port != 0),
            mtu: self.mtu,
            fw_mark: self.fw_mark.flatten(),
            dns: self.dns,
            search_domains: self.search_domains,
            peers: self.peers,
            ignored: self.ignored,
        };
        config.validate()?;
        Ok(config)
    }
}

impl PartialPeer {
    fn entry(&mut self, entry: Entry<'_>) -> Result<(), ConfigError> {
        let line = entry.line;
        if entry.is("PublicKey") {
            let key = PublicKey::from_base64(entry.value)
                .map_err(|_| ConfigError::Key { line, key: "PublicKey" })?;
            return entry.once("PublicKey", &mut self.public_key, key);
        }
        if entry.is("PresharedKey") {
            let key = PresharedKey::from_base64(entry.value)
                .map_err(|_| ConfigError::Key { line, key: "PresharedKey" })?;
            return entry.once("PresharedKey", &mut self.config.preshared_key, key);
        }
        if entry.is("AllowedIPs") {
            return entry.each(|text| match prefix(text) {
                Some(allowed) => self.config.allowed_ips.push_ok(allowed.trunc()),
                None => Err(entry.error("AllowedIPs", "prefixes such as 10.0.0.0/8 or ::/0")),
            });
        }
        if entry.is("Endpoint") {
            let endpoint = endpoint(entry.value)
                .ok_or_else(|| entry.error("Endpoint", "address:port, [IPv6 address]:port or name:port"))?;
            return entry.once("Endpoint", &mut self.config.endpoint, endpoint);
        }
        if entry.is("PersistentKeepalive") {
            let seconds = if entry.value.eq_ignore_ascii_case("off") {
                0
            } else {
                entry.number("PersistentKeepalive", 0, u16::MAX, "seconds, 0 to 65535, or off")?
            };
            if std::mem::replace(&mut self.seen_keepalive, true) {
                return Err(ConfigError::Repeated { line, key: "PersistentKeepalive" });
            }
            self.config.persistent_keepalive = (seconds != 0).then_some(seconds);
            return Ok(());
        }
        Err(entry.unknown("Peer"))
    }
}

/// One `Key = Value` line.
#[derive(Clone, Copy)]
struct Entry<'a> {
    line: usize,
    key: &'a str,
    value: &'a str,
}

impl Entry<'_> {
    /// A bare base64 key ends in `=` and would pass for a key with an empty value.
    fn has_plausible_key(&self) -> bool {
        !self.key.is_empty()
            && self.key.len() <= MAX_NAME
            && self.key.bytes().all(|byte| byte.is_ascii_alphanumeric())
    }

    fn is(&self, key: &str) -> bool {
        self.key.eq_ignore_ascii_case(key)
    }

    fn once<T>(&self, key: &'static str, slot: &mut Option<T>, value: T) -> Result<(), ConfigError> {
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(ConfigError::Repeated { line: self.line, key }),
        }
    }

    /// Calls `take` for each member of a comma-separated list, which may be empty.
    fn each(&self, mut take: impl FnMut(&str) -> Result<(), ConfigError>) -> Result<(), ConfigError> {
        if self.value.is_empty() {
            return Ok(());
        }
        self.value.split(',').map(str::trim).try_for_each(&mut take)
    }

    fn number(
        &self,
        key: &'static str,
        min: u16,
        max: u16,
        expected: &'static str,
    ) -> Result<u16, ConfigError> {
        // Rust's parser takes a leading plus sign, the file format doesn't.
        let digits = self.value.bytes().all(|byte| byte.is_ascii_digit());
        match u16::from_str(self.value) {
            Ok(number) if digits && (min..=max).contains(&number) => Ok(number),
            _ => Err(self.error(key, expected)),
        }
    }

    fn error(&self, key: &'static str, expected: &'static str) -> ConfigError {
        ConfigError::Value { line: self.line, key, value: shown(self.value), expected }
    }

    fn unknown(&self, section: &'static str) -> ConfigError {
        ConfigError::UnknownKey { line: self.line, section, key: self.key.to_owned() }
    }
}

trait PushOk<T> {
    fn push_ok(&mut self, value: T) -> Result<(), ConfigError>;
}

impl<T> PushOk<T> for Vec<T> {
    fn push_ok(&mut self, value: T) -> Result<(), ConfigError> {
        self.push(value);
        Ok(())
    }
}

/// `text` as errors may show it.
fn shown(text: &str) -> String {
    let secret_like =
        text.split(|c: char| c.is_whitespace() || c == ',').any(|word| word.len() >= SECRET_LIKE);
    if secret_like { "(not shown, it may be a secret)".to_owned() } else { text.chars().take(80).collect() }
}

/// An address with or without prefix length; without one it stands for itself alone.
fn prefix(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn mark(text: &str) -> Option<Option<u32>> {
    if text.eq_ignore_ascii_case("off") {
        return Some(None);
    }
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mark = u32::from_str_radix(digits, radix).ok().filter(|_| plain)?;
    Some((mark != 0).then_some(mark))
}

pub(super) fn endpoint(text: &str) -> Option<Endpoint> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (address.port() != 0).then_some(Endpoint::Address(address));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|number| *number != 0 && !port.starts_with('+'))?;
    is_host(host).then(|| Endpoint::Name { host: host.to_owned(), port })
}

fn is_host(text: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    // Digits and dots alone are a misspelt IPv4 address.
    let has_letter = text.bytes().any(|byte| byte.is_ascii_alphabetic());
    has_letter && text.len() <= MAX_HOST && text.bytes().all(valid)
}

#[cfg(test)]
mod tests;
