//! One run of one contest: two namespaces, two engines, one stream.

use std::{env, fmt, fs, path::Path, process::Command, time::Duration};

use tempfile::TempDir;
use tuntrail_netlab::linux::Namespace;

use super::{
    contest::{Contest, Engine},
    iperf::Server,
    node::Order,
};
use crate::net::{CpuTime, NetError, NodeConfig, Pair, Process, Side, WireguardGo};

/// Starting and stopping a node take well under this.
const PATIENCE: Duration = Duration::from_secs(30);
/// Records go to memory where there is such a place, so that the disk has no say.
const MEMORY: &str = "/dev/shm";
/// Tunnel processes of this program have no package.
const OWN: &str = "cargo build --release -p tuntrail-tests --bin throughput";

/// What a run gave.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Measurement {
    /// Million bits of TCP payload per second.
    pub mbit_per_s: f64,
    /// Processor time of the sender's tunnel process, in seconds per 10⁹ bytes of payload.
    pub sender_cpu_s_per_gb: f64,
    /// The same of the receiver's.
    pub receiver_cpu_s_per_gb: f64,
}

impl Measurement {
    /// Both ends together.
    #[must_use]
    pub fn cpu_s_per_gb(&self) -> f64 {
        self.sender_cpu_s_per_gb + self.receiver_cpu_s_per_gb
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.0} Mbit/s, {:.2} + {:.2} CPU-s/GB",
            self.mbit_per_s, self.sender_cpu_s_per_gb, self.receiver_cpu_s_per_gb
        )
    }
}

pub(super) fn run(contest: &Contest, duration: Duration) -> Result<Measurement, NetError> {
    let pair = Pair::join(Namespace::new()?, Namespace::new()?)?;
    let mut left = NodeConfig::new(Side::Left);
    left.endpoint = Some((Side::Right.outer_v4(), NodeConfig::PORT).into());
    let receiver = Node::start(contest.receiver, &pair, &NodeConfig::new(Side::Right))?;
    let sender = Node::start(contest.sender, &pair, &left)?;

    let server = Server::start(&pair)?;
    let before = [sender.cpu_time()?, receiver.cpu_time()?];
    let received = server.measure(&pair, duration)?;
    let cpu = [sender.cpu_time()?.since(before[0]), receiver.cpu_time()?.since(before[1])];
    sender.stop(received.bytes)?;
    receiver.stop(received.bytes)?;

    let per_gb = |time: CpuTime| time.total() / (received.bytes / 1e9);
    Ok(Measurement {
        mbit_per_s: received.bits_per_second / 1e6,
        sender_cpu_s_per_gb: per_gb(cpu[0]),
        receiver_cpu_s_per_gb: per_gb(cpu[1]),
    })
}

/// An end of the tunnel: a process of its own, so that its processor time is its own.
enum Node {
    Tuntrail { process: Process, records: Option<TempDir> },
    WireguardGo(WireguardGo),
}

impl Node {
    fn start(engine: Engine, pair: &Pair, config: &NodeConfig) -> Result<Self, NetError> {
        let host = pair.host(config.side);
        let (counting, offload) = match engine {
            Engine::WireguardGo(version) => {
                return WireguardGo::start(version, host, config).map(Self::WireguardGo);
            }
            Engine::Tuntrail { counting, offload } => (counting, offload),
        };
        let directory = || {
            let memory = Path::new(MEMORY);
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
        };
        let records = counting.then(directory).transpose().map_err(NetError::system("making a directory"))?;
        let order = Order {
            config: config.wg_quick(),
            records: records.as_ref().map(|directory| directory.path().to_owned()),
            offload,
        };
        let program = env::current_exe().map_err(NetError::system("finding this program"))?;
        let mut command = Command::new(program);
        command.arg("node");
        let mut process = Process::start(host, command, OWN)?;
        process.write(&order.to_line())?;
        process.wait_for(super::node::READY, 1, PATIENCE)?;
        Ok(Self::Tuntrail { process, records })
    }

    fn cpu_time(&self) -> Result<CpuTime, NetError> {
        match self {
            Self::Tuntrail { process, .. } => process.cpu_time(),
            Self::WireguardGo(go) => go.process().cpu_time(),
        }
    }

    /// Ends the node. One that was to count must have counted at least `bytes`, and written records.
    fn stop(self, bytes: f64) -> Result<(), NetError> {
        let Self::Tuntrail { process, records } = self else { return Ok(()) };
        let said = process.finish(PATIENCE)?;
        let Some(records) = records else { return Ok(()) };
        let counted =
            said.lines().find_map(|line| line.strip_prefix(super::node::COUNTED)?.trim().parse().ok());
        let written = fs::read_dir(records.path()).is_ok_and(|mut entries| entries.next().is_some());
        if written && counted.is_some_and(|counted: f64| counted >= bytes) {
            return Ok(());
        }
        Err(NetError::Failed { command: format!("counting {bytes} bytes"), output: said })
    }
}
