//! `tuntrail demo`: the main job, end to end, on one machine.
//!
//! A log server and two nodes run in this process. The phone makes virtual, subnet and exit traffic through a real
//! WireGuard tunnel to the router; both keep flow records; both upload them when asked; and what arrived is held
//! against what the tunnels carried. `--tun` swaps the userspace TCP/IP for the kernel's.

mod bug;
#[cfg(target_os = "linux")]
mod kernel;
mod live;
mod node;
mod outage;
mod received;
mod server;
mod summary;
mod topology;
mod traffic;
mod userspace;

use std::{
    io::{Write, stdout},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use tuntrail::{flow::Message, tunnel::TunDevice};
use tuntrail_logserver::Database;

use self::{
    bug::BugReport,
    live::{Display, LiveTable},
    node::Node,
    outage::{Attempt, ServerState},
    received::Received,
    server::LogServer,
    summary::Summary,
    topology::{Keys, Role},
    traffic::{Network, Tally},
};
use crate::CommandError;

/// Run the main job on this machine: traffic through a tunnel becomes flow records at a log server.
///
/// Starts a log server and two WireGuard nodes, makes virtual, subnet and exit traffic between them over loopback,
/// shows the flows while they run, uploads the records, and checks that everything that was carried has arrived. Needs no
/// root and no network.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Print the summary as one JSON object and nothing else.
    #[arg(long)]
    json: bool,
    /// Keep both nodes' records, as they were on disk before the last upload, and the server's database in this directory, which
    /// must be empty or new.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Seconds of traffic.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Let the log server be down, slow, rejecting and back again, each for a quarter of the time, and ask for an upload
    /// each time.
    #[arg(long)]
    outage: bool,
    /// Ask for a debug upload of the phone at the end, with this note, and print its marker and where the server has it.
    #[arg(long, value_name = "NOTE")]
    bug: Option<String>,
    /// Use real TUN devices and the kernel's TCP/IP in two network namespaces (Linux, root).
    #[arg(long)]
    tun: bool,
}

/// Where the nodes live and who makes their TCP/IP.
trait Site {
    /// For the summary.
    fn name(&self) -> &'static str;

    /// The TUN device of `role`. Called once for each.
    fn device(&mut self, role: Role) -> Result<TunDevice, CommandError>;

    /// Called when both tunnels run: starts the programs behind the router, and gives the phone its network.
    fn network(&mut self) -> Result<&dyn Network, CommandError>;
}

/// What the phone's flow logger tells the display.
enum Event {
    Record(Box<Message>),
    TrafficEnded,
}

/// Records that wait to be shown; more than any demo makes in a second.
const EVENTS: usize = 64;

pub(crate) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let started = Instant::now();
    let display = Display::detect(arguments.json);
    let scratch = tempfile::tempdir()?;
    let directory = scratch.path();
    let keep = arguments.keep.as_deref().map(empty_directory).transpose()?;
    let mut site = site(arguments.tun)?;
    let database = match keep {
        Some(keep) => Database::File(keep.join("server.sqlite")),
        // A server that comes back must find what it had.
        None if arguments.outage => Database::File(directory.join("server.sqlite")),
        None => Database::Memory,
    };
    let mut server = LogServer::start(database)?;
    let base_url = server.get().base_url();
    let start = |role| Node::start(role, directory, &base_url, arguments.outage);

    let keys = Keys::generate()?;
    let router = start(Role::Router)?;
    router.up(keys.config(Role::Router, None), site.device(Role::Router)?)?;
    let endpoint = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), router.udp_port()?);
    let phone = start(Role::Phone)?;
    phone.up(keys.config(Role::Phone, Some(endpoint)), site.device(Role::Phone)?)?;
    if display != Display::Silent {
        println!("log server at {base_url}, router at {endpoint}, traffic by {}", site.name());
    }

    let tally = Tally::default();
    let duration = Duration::from_secs(arguments.seconds);
    let mut outage = Vec::new();
    let network = site.network()?;
    if arguments.outage {
        for state in ServerState::ALL {
            state.impose(&mut server)?;
            make_traffic(network, &phone, duration / 4, display, &tally)?;
            for node in [&phone, &router] {
                let attempt = Attempt::new(state, node.name(), &node.upload(Display::Silent)?);
                if display != Display::Silent {
                    println!("{attempt}");
                }
                outage.push(attempt);
            }
        }
    } else {
        make_traffic(network, &phone, duration, display, &tally)?;
    }

    let nodes = [phone, router];
    nodes.iter().try_for_each(Node::down)?;
    if let Some(keep) = keep {
        nodes.iter().try_for_each(|node| node.copy_records_to(keep))?;
    }
    let mut uploads = Vec::new();
    let bytes_on_disk = nodes.iter().map(Node::disk_bytes).sum();
    let mut marker = None;
    for node in &nodes {
        let report = match arguments.bug.as_deref().filter(|_| node.name() == Role::Phone.name()) {
            Some(note) => {
                let (asked, report) = node.debug_upload(note)?;
                marker = Some(asked);
                report
            }
            None => node.upload(display)?,
        };
        uploads.push(report);
    }
    let results = nodes.map(Node::finish);
    let received = Received::of(server.get())?;
    let bug = marker.map(|marker| BugReport::find(server.get(), &marker)).transpose()?;
    server.stop();

    let written: u64 = results.iter().map(|result| result.written).sum();
    // The tunnels are down: nothing was recorded after the uploads had begun.
    let waiting: u64 = uploads.iter().map(|report| report.remaining_records).sum();
    let dropped: u64 = results.iter().map(|result| result.dropped).sum();
    let mut summary = Summary {
        ok: false,
        traffic_by: site.name(),
        seconds: started.elapsed().as_secs_f64(),
        tcp_connections: tally.tcp_connections(),
        udp_exchanges: tally.udp_exchanges(),
        payload_bytes: tally.payload_bytes(),
        carried_bytes: results.iter().map(|result| result.carried_bytes).sum(),
        counted_bytes: received.inner_bytes(),
        flows: received.flows(),
        bytes: received.bytes(),
        records_written: written,
        bytes_on_disk,
        uploads: uploads.iter().map(|report| report.attempts).sum::<u64>()
            + outage.iter().map(|attempt| attempt.requests).sum::<u64>(),
        upload_bytes: uploads.iter().map(|report| report.sent_bytes).sum::<u64>()
            + outage.iter().map(|attempt| attempt.bytes_sent).sum::<u64>(),
        records_received: received.records().total(),
        records: received.records(),
        unbalanced_flows: received.unbalanced_flows(),
        duplicates: server.duplicates(),
        records_waiting: waiting,
        records_dropped: dropped,
        records_lost: written.saturating_sub(received.records().total() + waiting + dropped),
        exit_rows: received.exit_rows_of_phone(),
        sessions: received.sessions().to_vec(),
        outage,
        bug,
        kept_in: keep.map(|keep| keep.display().to_string()),
    };
    let problems = summary.problems();
    summary.ok = problems.is_empty();
    let mut out = stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &summary)?;
        writeln!(out)?;
    } else {
        write!(out, "\n{summary}")?;
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ").into()) }
}

fn site(tun: bool) -> Result<Box<dyn Site>, CommandError> {
    if !tun {
        return Ok(Box::new(userspace::UserspaceSite::default()));
    }
    #[cfg(target_os = "linux")]
    return Ok(Box::new(kernel::KernelSite::new()?));
    #[cfg(not(target_os = "linux"))]
    return Err("--tun works on Linux only".into());
}

/// The directory, made if it does not exist.
fn empty_directory(directory: &Path) -> Result<&Path, CommandError> {
    std::fs::create_dir_all(directory)?;
    if std::fs::read_dir(directory)?.next().is_some() {
        return Err(
            format!("{} is not empty; --keep needs a directory of its own", directory.display()).into()
        );
    }
    Ok(directory)
}

/// Makes the traffic on other threads and shows the phone's records on this one.
fn make_traffic(
    network: &dyn Network,
    phone: &Node,
    duration: Duration,
    display: Display,
    tally: &Tally,
) -> Result<(), CommandError> {
    let (sender, receiver): (SyncSender<Event>, Receiver<Event>) = sync_channel(EVENTS);
    let records = sender.clone();
    phone.observe(move |message| {
        // A full queue means that nobody looks: the record itself is safe in the store.
        let _ = records.try_send(Event::Record(Box::new(message.clone())));
    })?;
    let mut table = LiveTable::new(display, duration);
    thread::scope(|scope| {
        let traffic = scope.spawn(move || {
            let result = traffic::run(network, duration, tally).map_err(|error| error.to_string());
            // The display has gone only if it failed, which its own error says.
            let _ = sender.send(Event::TrafficEnded);
            result
        });
        let mut shown = Ok(());
        for event in receiver {
            match event {
                Event::Record(message) if shown.is_ok() => shown = table.update(&message),
                Event::Record(_) => {}
                Event::TrafficEnded => break,
            }
        }
        let made = traffic.join().unwrap_or_else(|_| Err("the traffic's thread ended early".to_owned()));
        made?;
        shown
    })
}
