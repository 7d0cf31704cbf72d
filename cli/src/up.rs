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
mod tests;
