//! wireguard-go as the other end of a tunnel.

use std::{
    env, fmt, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use ipnet::IpNet;
use tuntrail_netlab::linux::{Ip, Namespace};

use super::{NetError, NodeConfig, Process, process};

/// The environment variable that says where the binaries are.
pub const DIRECTORY: &str = "TUNTRAIL_WIREGUARD_GO";
/// Where they are otherwise, seen from the workspace; where `tests/interop/get-wireguard-go` puts them.
const DEFAULT_DIRECTORY: &str = "../target/wireguard-go";
/// How they are got.
const INSTALL: &str = "tests/interop/get-wireguard-go";
/// Where wireguard-go offers its control sockets.
const CONTROL: &str = "/var/run/wireguard";
/// How `wg` is got.
const INSTALL_WG: &str = "apt-get install wireguard-tools";
/// Starting up and control commands take well under a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// A release of wireguard-go, named by the Debian suite that it is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The newest in Debian.
    Newest,
    /// That of Debian 12: without batching and offload.
    Bookworm,
}

impl Version {
    /// Both, the newest first.
    pub const ALL: [Self; 2] = [Self::Newest, Self::Bookworm];

    /// The program.
    ///
    /// # Errors
    /// When it has not been fetched.
    pub fn program(self) -> Result<PathBuf, NetError> {
        let directory = env::var_os(DIRECTORY)
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(DEFAULT_DIRECTORY), PathBuf::from);
        let program = directory.join(self.suite()).join("wireguard-go");
        if program.is_file() {
            return Ok(program);
        }
        Err(NetError::Missing { program: program.display().to_string(), install: INSTALL })
    }

    const fn suite(self) -> &'static str {
        match self {
            Self::Newest => "sid",
            Self::Bookworm => "bookworm",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Newest => "wireguard-go",
            Self::Bookworm => "wireguard-go (bookworm)",
        })
    }
}

/// What `wg show` says about the one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerState {
    /// Where it was last heard from.
    pub endpoint: Option<SocketAddr>,
    /// Seconds since the epoch; 0 if there was no handshake.
    pub latest_handshake: u64,
    /// Bytes received from it, as datagrams.
    pub received: u64,
    /// Bytes sent to it.
    pub sent: u64,
    /// Seconds.
    pub persistent_keepalive: Option<u16>,
}

/// A running wireguard-go with its device up. Dropping it ends it.
#[derive(Debug)]
pub struct WireguardGo {
    host: Arc<Namespace>,
    name: String,
    process: Process,
}

impl WireguardGo {
    /// Starts it inside `host` and configures it.
    ///
    /// # Errors
    /// When a program is missing or refuses.
    pub fn start(version: Version, host: &Arc<Namespace>, config: &NodeConfig) -> Result<Self, NetError> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        // Its control socket is in the file system, which all namespaces share.
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("go{:x}n{number}", std::process::id());
        let mut command = Command::new(version.program()?);
        command.arg("--foreground").arg(&name).env("LOG_LEVEL", "verbose");
        let process = Process::start(host, command, INSTALL)?;
        let peer = Self { host: Arc::clone(host), name, process };
        peer.process.wait_for("UAPI listener started", 1, PATIENCE)?;
        peer.wg(&["setconf", &peer.name, "/dev/stdin"], Some(&config.setconf()))?;
        let (name, addresses, mtu) = (peer.name.clone(), config.addresses(), config.mtu);
        host.run(move || {
            for address in addresses {
                let nodad: &[&str] = if matches!(address, IpNet::V6(_)) { &["nodad"] } else { &[] };
                Ip::SYSTEM.run(&[&["address", "add", &address.to_string(), "dev", &name], nodad].concat())?;
            }
            Ip::SYSTEM.run(&["link", "set", "dev", &name, "mtu", &mtu.to_string(), "up"])
        })??;
        Ok(peer)
    }

    /// The process, for its time and its log.
    #[must_use]
    pub const fn process(&self) -> &Process {
        &self.process
    }

    /// What it says about its one peer.
    ///
    /// # Errors
    /// When `wg` fails.
    pub fn peer(&self) -> Result<PeerState, NetError> {
        let text = self.wg(&["show", &self.name, "dump"], None)?;
        let state = text.lines().nth(1).and_then(parse_peer);
        state.ok_or(NetError::Unreadable { source_name: "wg show", text: String::from("(keys left out)") })
    }

    fn wg(&self, arguments: &[&str], input: Option<&str>) -> Result<String, NetError> {
        let mut command = Command::new("wg");
        command.args(arguments);
        process::output(&self.host, command, INSTALL_WG, input, PATIENCE)
    }
}

impl Drop for WireguardGo {
    fn drop(&mut self) {
        // Left behind by a process that was killed; removed by one that ended.
        drop(fs::remove_file(Path::new(CONTROL).join(format!("{}.sock", self.name))));
    }
}

/// Reads a peer's line of `wg show IFACE dump`: public key, preshared key, endpoint, allowed IPs, latest handshake, bytes
/// received, bytes sent, persistent keepalive.
fn parse_peer(line: &str) -> Option<PeerState> {
    let fields: Vec<_> = line.split('\t').collect();
    let [_, _, endpoint, _, handshake, received, sent, keepalive] = fields.as_slice() else {
        return None;
    };
    Some(PeerState {
        endpoint: endpoint.parse().ok(),
        latest_handshake: handshake.parse().ok()?,
        received: received.parse().ok()?,
        sent: sent.parse().ok()?,
        persistent_keepalive: keepalive.parse().ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_line_is_read_and_another_is_not() {
        let line = "k=\t(none)\t[2001:db8::1]:51820\t10.9.0.1/32,fd09::1/128\t1700000000\t148\t92\toff";
        let expected = PeerState {
            endpoint: Some("[2001:db8::1]:51820".parse().unwrap()),
            latest_handshake: 1_700_000_000,
            received: 148,
            sent: 92,
            persistent_keepalive: None,
        };
        assert_eq!(parse_peer(line), Some(expected));
        let quiet = parse_peer("k=\t(none)\t(none)\t(none)\t0\t0\t0\t25").unwrap();
        assert_eq!((quiet.endpoint, quiet.persistent_keepalive), (None, Some(25)));
        assert_eq!(parse_peer("private\tpublic\t51820\toff"), None);
    }
}
