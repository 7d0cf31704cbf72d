//! `tuntrail up`: a wg-quick file as a real tunnel on this machine, with flow logs.

use std::path::{Path, PathBuf};

use tuntrail::{
    client::{Client, ClientConfig},
    consent::Consent,
    flow::ExitFlows,
    netmap::{NetworkMap, NetworkMapError, Node, NodeId, Routes},
    tunnel::{Config, DEFAULT_MTU, PublicKey, TunnelOptions},
};

use crate::{
    CommandError,
    linux::{
        route::{Routes as KernelRoutes, free_mark},
        tun::{Offload, Tun},
    },
    stop::StopSignal,
    text,
};

/// Bring up the WireGuard tunnel of a wg-quick file, with flow logs (Linux, root).
///
/// Makes a TUN device named after the file, sets its addresses and routes as wg-quick does, and keeps records of every
/// connection that passes through it. Ends on Ctrl-C or SIGTERM and takes all of it down again. Commands in the file
/// (PostUp and the like) and DNS settings are not acted on.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The wg-quick file; its name without ending is the name of the device.
    #[arg(value_name = "CONF")]
    file: PathBuf,
    /// Where records are kept.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/tuntrail")]
    records: PathBuf,
    /// The log server. Nothing is sent to it without --upload-at-end.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8765")]
    server: String,
    /// Send the records when the tunnel has stopped.
    #[arg(long)]
    upload_at_end: bool,
    /// Record the destinations of exit traffic too: addresses, ports and protocols.
    #[arg(long)]
    full_exit_flows: bool,
    /// Read and write one packet at a time, for kernels or drivers that fail at segmentation offload. Much slower.
    #[arg(long)]
    no_offload: bool,
}

/// Linux names a network device with at most 15 bytes (IFNAMSIZ less the final NUL).
const MAX_NAME: usize = 15;

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let stop = StopSignal::catch()?;
    let up = Up::start(arguments)?;
    println!("{} is up; records are kept in {}", up.name, arguments.records.display());
    stop.wait();
    up.stop(arguments.upload_at_end)
}

/// A tunnel that is up. Dropping it takes it down, too.
struct Up {
    name: String,
    // Dropped first: the kernel must stop routing into the tunnel before it goes.
    routes: KernelRoutes,
    client: Client,
}

impl Up {
    fn start(arguments: &Arguments) -> Result<Self, CommandError> {
        let name = device_name(&arguments.file)?;
        let in_file = |error: &dyn std::error::Error| format!("{}: {error}", arguments.file.display());
        let text = std::fs::read_to_string(&arguments.file).map_err(|error| in_file(&error))?;
        let config = Config::parse(&text).map_err(|error| in_file(&error))?;
        for ignored in &config.ignored {
            eprintln!("{}: line {}: {} is not acted on", arguments.file.display(), ignored.line, ignored.key);
        }

        if !config.dns.is_empty() {
            eprintln!("{}: DNS is not acted on; the system's name servers stay", arguments.file.display());
        }

        let mut client_config = ClientConfig::new(&arguments.records, &arguments.server)?;
        client_config.consent = Consent::Granted;
        if arguments.full_exit_flows {
            client_config.flow.exit_flows = ExitFlows::Full;
        }
        let client = Client::start(client_config)?;
        let (map, routes) = network(&config)?;
        client.set_network(map, routes)?;

        let mtu = config.mtu.unwrap_or(DEFAULT_MTU);
        let offload = if arguments.no_offload { Offload::Off } else { Offload::On };
        let device = Tun::create(Some(&name), &config.addresses, mtu, offload)?;
        let interface = device.name.clone();
        let allowed_ips: Vec<_> =
            config.peers.iter().flat_map(|peer| peer.allowed_ips.iter().copied()).collect();
        let mark = config.fw_mark.map_or_else(free_mark, Ok)?;
        let options = TunnelOptions { mark: Some(mark), ..TunnelOptions::default() };
        client.start_tunnel(config, device.into(), options)?;
        // The tunnel runs first: its endpoints' names must be resolved outside of it.
        let stats = client.stats().tunnel.unwrap_or_default();
        let endpoints: Vec<_> = stats.peers.iter().filter_map(|peer| Some(peer.endpoint?.ip())).collect();
        let routes = KernelRoutes::install(&interface, &allowed_ips, &endpoints, mark)?;
        Ok(Self { name, routes, client })
    }

    fn stop(self, upload: bool) -> Result<(), CommandError> {
        let Self { name, routes, client } = self;
        let removed = routes.remove();
        client.stop_tunnel();
        if upload {
            let report = client.upload("the tunnel has stopped")?.wait();
            println!(
                "{} records sent, {} left: {}",
                report.sent_records, report.remaining_records, report.outcome
            );
        }
        let report = client.shutdown();
        let (tunnel, store) =
            (report.stats.tunnel.unwrap_or_default(), report.stats.store.unwrap_or_default());
        println!(
            "{name} is down: {} sent, {} received, {} records written, {} on disk",
            text::bytes(tunnel.carried.tx_bytes),
            text::bytes(tunnel.carried.rx_bytes),
            store.appended(),
            text::bytes(store.disk_bytes())
        );
        removed?;
        report.error.map_or(Ok(()), |error| Err(error.into()))
    }
}

fn device_name(file: &Path) -> Result<String, CommandError> {
    let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let fine = |c: char| c.is_ascii_alphanumeric() || "_=+.-".contains(c);
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(fine) {
        return Err(format!(
            "{}: the file's name becomes the name of the device; use 1 to {MAX_NAME} letters, digits or _=+.- before the ending",
            file.display()
        )
        .into());
    }
    Ok(name.to_owned())
}

/// Who is who, as far as a wg-quick file tells: this device, and the peers that own single addresses.
fn network(config: &Config) -> Result<(NetworkMap, Routes), NetworkMapError> {
    let node = |id, key: PublicKey, addresses| Node {
        id: NodeId(id),
        stable_id: key.to_string(),
        name: String::new(),
        addresses,
        os: String::new(),
        user: None,
        tags: Vec::new(),
    };
    // An interface address carries the length of its network; the node is the address alone.
    let own: Vec<_> = config.addresses.iter().map(|address| address.addr().into()).collect();
    let this = node(0, config.private_key.public_key(), own.clone());
    let peers =
        (1..).zip(&config.peers).map(|(id, peer)| node(id, peer.public_key, peer.allowed_ips.clone()));
    let allowed_ips = config.peers.iter().flat_map(|peer| peer.allowed_ips.iter().copied());
    Ok((NetworkMap::new(Some(this), peers, [])?, Routes::new(own, allowed_ips, [])))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        path::PathBuf,
        sync::Arc,
    };

    use tuntrail::{flow::Message, tunnel::PrivateKey};

    use super::*;
    use crate::linux::{ip::Ip, netns::Namespace, testing::namespace_or_skip};

    /// Any 32 bytes are a key.
    const LEFT_KEY: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
    const RIGHT_KEY: &str = "gI6EdUSYvn8ugXOt8QQD6Yc+JyiZxIhp3GInSWRfWGE=";

    #[test]
    fn the_device_is_named_after_the_file() {
        assert_eq!(device_name(Path::new("/etc/wireguard/wg0.conf")).unwrap(), "wg0");
        for bad in ["/etc/wireguard/a-name-too-long1.conf", "wg 0.conf", ".."] {
            assert!(device_name(Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn two_hosts_with_a_file_each_talk_through_the_tunnel_and_record_it() {
        let (Some(left), Some(right)) = (namespace_or_skip(), namespace_or_skip()) else { return };
        connect(&left, &right);
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let public = |key| PrivateKey::from_base64(key).unwrap().public_key();
        let before = left.run(interfaces).unwrap();

        let right_file = format!(
            "[Interface]\nPrivateKey = {}\nAddress = 10.9.0.2/24\nListenPort = 51820\nPostUp = never\n\
             [Peer]\nPublicKey = {}\nAllowedIPs = 10.9.0.1/32\n",
            RIGHT_KEY,
            public(LEFT_KEY)
        );
        // A default route, so that the tunnel's own datagrams must find their way around it.
        let left_file = format!(
            "[Interface]\nPrivateKey = {}\nAddress = 10.9.0.1/24\n\
             [Peer]\nPublicKey = {}\nAllowedIPs = 10.9.0.2/32, 0.0.0.0/0\nEndpoint = 192.0.2.2:51820\n",
            LEFT_KEY,
            public(RIGHT_KEY)
        );
        let right_up = up(&right, &directory, "right", right_file);
        let left_up = up(&left, &directory, "left", left_file);

        let listener = right.run(|| TcpListener::bind("10.9.0.2:7").unwrap()).unwrap();
        let mut client = left.run(|| TcpStream::connect("10.9.0.2:7").unwrap()).unwrap();
        let (mut server, from) = listener.accept().unwrap();
        assert_eq!(from.ip().to_string(), "10.9.0.1");
        client.write_all(b"through the tunnel").unwrap();
        let mut text = [0; 18];
        server.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"through the tunnel");

        left.run(move || left_up.stop(false).map_err(|error| error.to_string())).unwrap().unwrap();
        right.run(move || right_up.stop(false).map_err(|error| error.to_string())).unwrap().unwrap();
        assert_eq!(left.run(interfaces).unwrap(), before, "nothing is left of the tunnel");
        for side in ["left", "right"] {
            let rows: Vec<_> = records(&directory.path().join(format!("{side}-records")))
                .into_iter()
                .flat_map(|message| message.virtual_traffic)
                .collect();
            assert!(
                rows.iter().any(|row| row.counts.tx_packets > 0 && row.counts.rx_packets > 0),
                "{side}: {rows:?}"
            );
        }
    }

    fn up(namespace: &Namespace, directory: &Arc<tempfile::TempDir>, name: &'static str, file: String) -> Up {
        let directory = Arc::clone(directory);
        namespace
            .run(move || {
                let path = directory.path().join(format!("{name}0.conf"));
                std::fs::write(&path, file).unwrap();
                Up::start(&Arguments {
                    file: path,
                    records: directory.path().join(format!("{name}-records")),
                    server: "http://127.0.0.1:9".to_owned(),
                    upload_at_end: false,
                    full_exit_flows: false,
                    no_offload: false,
                })
                .map_err(|error| error.to_string())
            })
            .unwrap()
            .unwrap()
    }

    /// Joins two namespaces by a virtual cable: 192.0.2.1 on the left, 192.0.2.2 on the right.
    fn connect(left: &Namespace, right: &Namespace) {
        let right_thread = right.run(rustix::thread::gettid).unwrap().as_raw_nonzero().to_string();
        left.run(move || {
            let ip = |arguments: &[&str]| Ip::SYSTEM.run(arguments).unwrap();
            ip(&["link", "add", "cable0", "type", "veth", "peer", "name", "cable0", "netns", &right_thread]);
            ip(&["address", "add", "192.0.2.1/24", "dev", "cable0"]);
            ip(&["link", "set", "dev", "cable0", "up"]);
        })
        .unwrap();
        right
            .run(|| {
                let ip = |arguments: &[&str]| Ip::SYSTEM.run(arguments).unwrap();
                ip(&["address", "add", "192.0.2.2/24", "dev", "cable0"]);
                ip(&["link", "set", "dev", "cable0", "up"]);
            })
            .unwrap();
    }

    fn interfaces() -> String {
        let ip = |arguments: &[&str]| Ip::SYSTEM.run(arguments).unwrap();
        ip(&["-o", "link", "show"]) + &ip(&["-4", "rule", "show"]) + &ip(&["-4", "route", "show"])
    }

    fn records(directory: &Path) -> Vec<Message> {
        let segments = std::fs::read_dir(directory.join("netlog/w-ext")).unwrap();
        let paths = segments.map(|entry| entry.unwrap().path());
        let sealed: Vec<PathBuf> =
            paths.filter(|path| path.extension().is_some_and(|e| e == "seg")).collect();
        let segments = sealed.iter().map(|path| tuntrail::store::open_segment(path).unwrap());
        segments
            .flat_map(|segment| {
                segment
                    .records()
                    .map(|record| serde_json::from_slice(record.payload).unwrap())
                    .collect::<Vec<_>>()
            })
            .collect()
    }
}
