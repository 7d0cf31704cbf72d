//! The kill harness: does the store keep its promise when its process is killed at any moment?
//!
//! The parent runs the reference log server, which loses a quarter of its responses, and starts one child after the
//! other on the same directory. A child appends numbered records, flushes, rotates and uploads, and tells through a pipe
//! what it was promised. The parent kills it at a random moment, or at a chosen one: inside an upload, when
//! the server has what is not removed yet, or while consent is being withdrawn. In the end the accounts are
//! settled: every promised record is at the server, on disk, or counted in a drop report; nothing was altered; the
//! files never took more than their cap; and of what was revoked nothing is left.
//!
//! Cycles come in eras. An era records under one log id and ends with a survey of disk and server; often consent is
//! then withdrawn, under kills again, and a second era follows in the same directory under a new id. One or two eras
//! have a server and a directory of their own, so memory doesn't grow with the number of cycles.
//!
//! A seed reproduces every decision; only the kernel's timing differs.

mod account;
mod child;
mod cover;
mod cycle;
mod event;
mod order;
mod plan;
mod record;
mod report;
mod rng;
mod small_disk;
mod survey;
#[cfg(test)]
mod testing;

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use tempfile::TempDir;
use tuntrail::{
    client::ClientError,
    store::{AppendError, ReadError, StoreError},
    upload::{ConfigError, PublicId},
};
use tuntrail_logserver::{Fault, Server, ServerConfig, ServerError, Times};

pub use self::report::KillReport;
use self::{
    account::Accounts,
    event::Event,
    order::{Answer, Order, Task, collection},
    plan::Plan,
    rng::Rng,
    small_disk::SmallDisk,
};

/// The stream's cap: the smallest that a client accepts. A child writes it full in some ten milliseconds.
const CAP_BYTES: u64 = 1 << 20;
/// On the small disk the cap is out of reach: the disk is full before.
const CAP_ABOVE_DISK: u64 = 4 << 20;
/// On the small disk a minute's pause between two attempts to write passes in 6 ms.
const FAST: u64 = 10_000;
/// Eras with the same server and directory: few enough for the server to keep their records in memory.
const MAX_ERAS: usize = 4;
/// Faults that wait for the uploads of one cycle; later ones meet none. More than most cycles use, and fewer than the
/// server holds.
const FAULTS: usize = 300;

/// What to do.
#[derive(Debug, Clone)]
pub struct KillOptions {
    /// How many children to start.
    pub cycles: u64,
    /// Decides everything else.
    pub seed: u64,
    /// Work on a disk of 1 MiB that is always full. Needs root, and must be asked for in a process without threads.
    pub small_disk: bool,
    /// The program whose `main` is [`child_main`] when its first argument is `child`.
    pub program: PathBuf,
}

/// Why the harness could not do its work. What it finds wrong with the store is in the [`KillReport`] instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HarnessError {
    /// The program can't be started.
    #[error("can't start {}: {error}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// A child ended with an error of its own.
    #[error("the child of cycle {cycle} failed: {error}")]
    Child {
        /// The cycle.
        cycle: u64,
        /// What it said.
        error: String,
    },
    /// A child was silent for a minute.
    #[error("the child of cycle {cycle} hangs")]
    Hang {
        /// The cycle.
        cycle: u64,
    },
    /// The small disk can't be made.
    #[error("can't {step} for the small disk: {error}; run as root, or leave out --small-disk")]
    SmallDisk {
        /// What failed.
        step: &'static str,
        /// The system's error.
        error: io::Error,
    },
    /// Something is not there that must be.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The store's error, for example about its directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record was refused for good.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A segment can't be read, though nobody has damaged it.
    #[error("can't survey the disk: {0}")]
    Read(ReadError),
    /// The client's error.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The server's address is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log server's error.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// An order can't be read or written.
    #[error("an order to a child is not valid: {0}")]
    Order(#[from] serde_json::Error),
    /// A pipe, a thread or a directory.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The child's `main`: does what the JSON in `order` says.
#[must_use]
pub fn child_main(order: &str) -> ExitCode {
    let done = serde_json::from_str(order).map_err(HarnessError::from).and_then(|order| child::run(&order));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Runs the harness. `progress` hears after each cycle how things stand; accounts are settled after some cycles only.
///
/// # Errors
/// [`HarnessError`] if it could not be run to its end. Losses are no errors: see [`KillReport::passed`].
pub fn run(options: &KillOptions, progress: &mut dyn FnMut(&KillReport)) -> Result<KillReport, HarnessError> {
    let started = Instant::now();
    let workspace = tempfile::Builder::new().prefix("tuntrail-kill").tempdir()?;
    // Unmounted before the directory that it is on goes.
    let disk = options.small_disk.then(|| SmallDisk::mount(workspace.path())).transpose()?;
    let cap_bytes = if disk.is_some() { small_disk::BYTES } else { CAP_BYTES };
    let mut report =
        KillReport { seed: options.seed, cap_bytes, small_disk: options.small_disk, ..KillReport::default() };
    let mut rng = Rng::new(options.seed);
    while report.cycles < options.cycles {
        let directory = TempDir::with_prefix_in("epoch-", workspace.path())?;
        let mut epoch = Epoch {
            options,
            server: Server::start(ServerConfig::default())?,
            directory: directory.path(),
            rng: &mut rng,
            report: &mut report,
            progress,
            started,
        };
        epoch.run()?;
    }
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

/// Some eras with a server and a directory.
struct Epoch<'a> {
    options: &'a KillOptions,
    server: Server,
    directory: &'a Path,
    rng: &'a mut Rng,
    report: &'a mut KillReport,
    progress: &'a mut dyn FnMut(&KillReport),
    started: Instant,
}

/// What is known of the era that is going on.
#[derive(Default)]
struct Era {
    accounts: Accounts,
    /// The log id of its records.
    log: Option<PublicId>,
}

impl Epoch<'_> {
    fn run(&mut self) -> Result<(), HarnessError> {
        let mut earlier = None;
        for _ in 0..MAX_ERAS {
            let mut era = self.record()?;
            let Some(log) = era.log else { break };
            if earlier == Some(log) {
                self.report.leak(format!("the log id {log} is used again after consent was withdrawn"));
            }
            // Before the deletion, so that no loss can hide behind it. Of what was withdrawn nothing may have been sent.
            survey::disk(&self.order(Task::Revoke), &mut era.accounts)?;
            let foreign = self.look_at_server(&mut era, log)?;
            if foreign > 0 {
                self.report.leak(format!("{foreign} records from before a withdrawal were sent after it"));
            }
            if !self.more() || !self.rng.chance(85) {
                self.settle(&mut era, false);
                break;
            }
            self.revoke(&mut era)?;
            // Some more may have been delivered before it.
            self.look_at_server(&mut era, log)?;
            self.settle(&mut era, true);
            earlier = Some(log);
        }
        self.report.duplicates += self.server.stats().duplicates;
        Ok(())
    }

    fn more(&self) -> bool {
        self.report.cycles < self.options.cycles
    }

    /// Cycles that record.
    fn record(&mut self) -> Result<Era, HarnessError> {
        let mut era = Era::default();
        let (length, drought) = plan::length(self.rng);
        for _ in 0..length {
            if !self.more() {
                break;
            }
            let plan = plan::record(self.rng);
            self.set_faults(drought, plan.stall)?;
            self.cycle(plan, &mut era)?;
        }
        Ok(era)
    }

    /// Cycles that withdraw consent, until it is done.
    fn revoke(&mut self, era: &mut Era) -> Result<(), HarnessError> {
        self.set_faults(false, None)?;
        let mut granted = false;
        loop {
            let plan = plan::revoke(self.rng);
            let events = self.cycle(plan, era)?;
            if events.contains(&Event::Revoked) {
                break;
            }
            // Consent counts as withdrawn from here on, also if nothing of it has happened yet.
            if events.contains(&Event::Revoking) {
                granted = self.finish(era)?;
                break;
            }
        }
        self.report.revocations += 1;
        for path in survey::leftovers(self.directory, granted)? {
            self.report.leak(format!("{} is left after consent was withdrawn", path.display()));
        }
        Ok(())
    }

    /// Starts clients until one of them gets through. Returns whether consent was given anew, and not denied since.
    fn finish(&mut self, era: &mut Era) -> Result<bool, HarnessError> {
        self.report.interrupted_revocations += 1;
        let (mut denied, mut granted) = (false, false);
        loop {
            // What a later start writes doesn't undo the denial.
            denied |= self.order(Task::Revoke).is_denied();
            let plan = plan::finish(self.rng, denied);
            // One that was killed may have come as far as to its new log.
            granted = plan.task != Task::Finish(Answer::Denied)
                && (granted || plan.task == Task::Finish(Answer::Granted));
            if self.cycle(plan, era)?.contains(&Event::Revoked) {
                return Ok(granted);
            }
        }
    }

    /// Runs a child and enters what it told.
    fn cycle(&mut self, plan: Plan, era: &mut Era) -> Result<Vec<Event>, HarnessError> {
        let order = self.order(plan.task);
        let outcome = cycle::run(&self.options.program, &order, plan.moment)?;
        self.report.kills += u64::from(outcome.killed);
        // A withdrawal that has begun is finished, even if no more cycles were asked for.
        if self.more() {
            self.report.cycles += 1;
        }
        self.enter(&outcome.events, order.cycle, era);
        let bytes = survey::stream_bytes(self.directory)?;
        self.report.max_disk_bytes = self.report.max_disk_bytes.max(bytes);
        self.report.seconds = self.started.elapsed().as_secs_f64();
        (self.progress)(self.report);
        Ok(outcome.events)
    }

    fn enter(&mut self, events: &[Event], cycle: u64, era: &mut Era) {
        let mut process = 0;
        for event in events {
            match *event {
                Event::Began { proc_id, log } => {
                    if let Some(log) = log
                        && *era.log.get_or_insert(log) != log
                    {
                        self.report.leak(format!("the log id has become {log} without a withdrawal"));
                    }
                    process = proc_id;
                    if proc_id != 0 {
                        era.accounts.began(proc_id, cycle);
                    }
                }
                Event::Appended { number, seq, len } => era.accounts.appended(process, number, seq, len),
                Event::Promised { below } => era.accounts.promised(process, below),
                _ => {}
            }
        }
    }

    /// Enters what the server has under the log id. Returns the number of records there that are not of this era.
    fn look_at_server(&self, era: &mut Era, log: PublicId) -> Result<u64, HarnessError> {
        let entries = self.server.entries(collection()?.as_str())?;
        Ok(survey::server(&entries, log, &mut era.accounts))
    }

    fn settle(&mut self, era: &mut Era, revoked: bool) {
        let tally = era.accounts.settle(revoked);
        self.report.add(tally, era.accounts.reports(), era.accounts.problems());
    }

    fn set_faults(&mut self, drought: bool, stall: Option<u64>) -> Result<(), HarnessError> {
        self.server.clear_faults();
        if drought {
            self.server.inject(plan::outage(), Times::Forever)?;
            return Ok(());
        }
        if let Some(uploads) = stall {
            for _ in 0..uploads {
                self.server.inject(plan::fault(self.rng), Times::ONCE)?;
            }
            self.server.inject(Fault::LostResponse, Times::ONCE)?;
            self.server.inject(plan::hang(), Times::Forever)?;
            return Ok(());
        }
        for _ in 0..FAULTS {
            self.server.inject(plan::fault(self.rng), Times::ONCE)?;
        }
        Ok(())
    }

    fn order(&mut self, task: Task) -> Order {
        let small = self.options.small_disk;
        Order {
            directory: self.directory.to_owned(),
            server: self.server.base_url(),
            cycle: self.report.cycles,
            seed: self.rng.next(),
            cap_bytes: if small { CAP_ABOVE_DISK } else { CAP_BYTES },
            clock_speed: if small { FAST } else { 1 },
            task,
        }
    }
}
