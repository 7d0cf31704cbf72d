//! Tests of the configuration reader.

use proptest::prelude::*;

use super::*;

const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
const PEER_A: &str = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";
const PEER_B: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

fn minimal(interface: &str, peer: &str) -> String {
    format!("[Interface]\nPrivateKey = {PRIVATE}\n{interface}\n[Peer]\nPublicKey = {PEER_A}\n{peer}\n")
}

#[test]
fn a_full_wg_quick_file_is_read() {
    let text = format!(
        "\u{feff}# a comment\r\n[interface]\r\nprivatekey={PRIVATE} # ours\r\nAddress = 10.0.0.2/24, fd00::2\r\nAddress=10.1.0.2\r\n\
         ListenPort = 51820\nMTU = 1380\nDNS = 10.0.0.1, fd00::1, corp.example\nFwMark = 0xCA6C\nTable = off\n\
         PostUp = iptables -A FORWARD -i %i -j ACCEPT; echo a=b\nSaveConfig = true\n\n\
         [PEER]\nPublicKey = {PEER_A}\nPresharedKey = {PEER_B}\nAllowedIPs = 10.0.0.1/8,::/0\nALLOWEDIPS = 192.168.1.1\n\
         Endpoint = [2001:db8::1]:51820\nPersistentKeepalive = 25\n\
         [Peer]\nEndpoint = vpn.example.com:443\nPublicKey = {PEER_B}\nAllowedIPs =\nPersistentKeepalive = off\n"
    );
    let config = Config::parse(&text).unwrap();
    assert_eq!(config.private_key.public_key(), PrivateKey::from_base64(PRIVATE).unwrap().public_key());
    let nets = |nets: &[IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(nets(&config.addresses), ["10.0.0.2/24", "fd00::2/128", "10.1.0.2/32"]);
    assert_eq!((config.listen_port, config.mtu, config.fw_mark), (Some(51820), Some(1380), Some(0xca6c)));
    assert_eq!(config.dns, ["10.0.0.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
    assert_eq!(config.search_domains, ["corp.example"]);
    let ignored: Vec<_> = config.ignored.iter().map(|ignored| (ignored.line, ignored.key)).collect();
    assert_eq!(ignored, [(10, "Table"), (11, "PostUp"), (12, "SaveConfig")]);
    let [a, b] = config.peers.as_slice() else { panic!("two peers") };
    assert_eq!(a.public_key.to_string(), PEER_A);
    assert!(a.preshared_key.is_some() && b.preshared_key.is_none());
    assert_eq!(nets(&a.allowed_ips), ["10.0.0.0/8", "::/0", "192.168.1.1/32"]);
    assert!(b.allowed_ips.is_empty());
    assert_eq!(a.endpoint, Some(Endpoint::Address("[2001:db8::1]:51820".parse().unwrap())));
    assert_eq!(b.endpoint, Some(Endpoint::Name { host: "vpn.example.com".to_owned(), port: 443 }));
    assert_eq!((a.persistent_keepalive, b.persistent_keepalive), (Some(25), None));
}

#[test]
fn every_mistake_is_named_with_its_line() {
    let table = [
        (minimal("nonsense", ""), "line 3: expected a section such as [Peer], or `Key = Value`"),
        (minimal("[Pear]", ""), "line 3: unknown section [Pear]; expected [Interface] or [Peer]"),
        (
            minimal("Adress = 10.0.0.1", ""),
            "line 3: unknown key Adress in section [Interface]; check the spelling and the section",
        ),
        (
            minimal("AllowedIPs = ::/0", ""),
            "line 3: unknown key AllowedIPs in section [Interface]; check the spelling and the section",
        ),
        (
            minimal("", "ListenPort = 1"),
            "line 6: unknown key ListenPort in section [Peer]; check the spelling and the section",
        ),
        (
            minimal("Address = 10.0.0.300", ""),
            "line 3: Address = 10.0.0.300: expected IP addresses such as 10.0.0.2/32",
        ),
        (
            minimal("Address = 10.0.0.3/33", ""),
            "line 3: Address = 10.0.0.3/33: expected IP addresses such as 10.0.0.2/32",
        ),
        (
            minimal("Address = 10.0.0.3,", ""),
            "line 3: Address = 10.0.0.3,: expected IP addresses such as 10.0.0.2/32",
        ),
        (minimal("ListenPort = 65536", ""), "line 3: ListenPort = 65536: expected a UDP port, 0 to 65535"),
        (minimal("ListenPort = +1", ""), "line 3: ListenPort = +1: expected a UDP port, 0 to 65535"),
        (minimal("ListenPort =", ""), "line 3: ListenPort = : expected a UDP port, 0 to 65535"),
        (
            minimal("ListenPort = 1\nListenPort = 2", ""),
            "line 4: ListenPort is repeated; remove one of the two",
        ),
        (minimal("MTU = 575", ""), "line 3: MTU = 575: expected bytes, 576 to 65472"),
        (
            minimal("FwMark = 0x1ffffffff", ""),
            "line 3: FwMark = 0x1ffffffff: expected a 32-bit number, 0x and hexadecimal digits, or off",
        ),
        (minimal("DNS = 1.2.3", ""), "line 3: DNS = 1.2.3: expected IP addresses or search domains"),
        (
            minimal("", "AllowedIPs = 10.0.0.0/8 10.1.0.0/16"),
            "line 6: AllowedIPs = 10.0.0.0/8 10.1.0.0/16: expected prefixes such as 10.0.0.0/8 or ::/0",
        ),
        (
            minimal("", "Endpoint = 10.0.0.1"),
            "line 6: Endpoint = 10.0.0.1: expected address:port, [IPv6 address]:port or name:port",
        ),
        (
            minimal("", "Endpoint = 10.0.0.1:0"),
            "line 6: Endpoint = 10.0.0.1:0: expected address:port, [IPv6 address]:port or name:port",
        ),
        (
            minimal("", "Endpoint = 2001:db8::1:51820"),
            "line 6: Endpoint = 2001:db8::1:51820: expected address:port, [IPv6 address]:port or name:port",
        ),
        (
            minimal("", "Endpoint = a host:1"),
            "line 6: Endpoint = a host:1: expected address:port, [IPv6 address]:port or name:port",
        ),
        (
            minimal("", "PersistentKeepalive = 25s"),
            "line 6: PersistentKeepalive = 25s: expected seconds, 0 to 65535, or off",
        ),
        (
            minimal("", "PersistentKeepalive = off\nPersistentKeepalive = 1"),
            "line 7: PersistentKeepalive is repeated; remove one of the two",
        ),
        (
            minimal("", "PresharedKey = short"),
            "line 6: PresharedKey: expected 44 characters of base64 that stand for 32 bytes",
        ),
        (minimal("", "[Peer]\nAllowedIPs = ::/0"), "line 6: this [Peer] has no PublicKey; add it"),
        (
            minimal("", &format!("[Peer]\nPublicKey = {PEER_A}")),
            &format!("two peers have the public key {PEER_A}; merge them into one"),
        ),
        (
            "Address = 10.0.0.1".to_owned(),
            "line 1: Address stands before any section; put [Interface] or [Peer] above it",
        ),
        (format!("[Peer]\nPublicKey = {PEER_A}"), "no PrivateKey; add one to section [Interface]"),
        (format!("[Interface]\nPrivateKey = {PRIVATE}"), "no peer; add a section [Peer]"),
        (
            "[Interface]\nPrivateKey = AAAA".to_owned(),
            "line 2: PrivateKey: expected 44 characters of base64 that stand for 32 bytes",
        ),
    ];
    for (text, message) in table {
        assert_eq!(Config::parse(&text).unwrap_err().to_string(), message, "{text}");
    }
}

#[test]
fn our_own_key_is_not_a_peer() {
    let own = PrivateKey::from_base64(PRIVATE).unwrap().public_key();
    let text = format!("[Interface]\nPrivateKey = {PRIVATE}\n[Peer]\nPublicKey = {own}\n");
    assert_eq!(Config::parse(&text).unwrap_err(), ConfigError::OwnKey { public_key: own });
}

#[test]
fn no_error_repeats_a_secret() {
    let secret = PRIVATE.trim_end_matches('=');
    for text in [
        PRIVATE.to_owned(),
        format!("[{PRIVATE}]"),
        format!("[Interface]\n{PRIVATE}"),
        format!("[Interface]\nPrivateKey {PRIVATE}"),
        format!("[Interface]\nPrivateKey = {secret}"),
        format!("[Interface]\nAddress = 10.0.0.1, {PRIVATE}"),
        format!("[Interface]\nListenPort = {PRIVATE}"),
        format!("[Interface]\nPrivateKey = {PRIVATE}\nPrivateKey = {PRIVATE}"),
        format!("[Peer]\nPresharedKey = {secret}"),
        format!("[Peer]\nEndpoint = {PRIVATE}"),
    ] {
        let error = Config::parse(&text).unwrap_err();
        assert!(!error.to_string().contains(&secret[..8]), "{error}");
        assert!(!format!("{error:?}").contains(&secret[..8]), "{error:?}");
    }
}

proptest! {
    #[test]
    fn any_text_gives_a_configuration_or_an_error(text in "(?s).{0,300}") {
        drop(Config::parse(&text));
    }

    #[test]
    fn any_sequence_of_plausible_lines_gives_a_configuration_or_an_error(
        lines in proptest::collection::vec(
            prop_oneof![
                Just("[Interface]".to_owned()),
                Just("[Peer]".to_owned()),
                Just(format!("PrivateKey = {PRIVATE}")),
                Just(format!("PublicKey = {PEER_A}")),
                "(AllowedIPs|Address|Endpoint|DNS|MTU|FwMark|PersistentKeepalive|PostUp) ?= ?[0-9a-f:./,x\\[\\]%-]{0,24}",
            ],
            0..12,
        )
    ) {
        if let Ok(config) = Config::parse(&lines.join("\n")) {
            prop_assert!(config.validate().is_ok());
        }
    }
}
