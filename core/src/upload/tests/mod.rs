//! The uploader as a whole, against a real server on loopback.

mod answers;
mod automatic;
mod content;
mod flow;
mod hosts;
mod join;
mod outage;
mod outcomes;
mod resume;
mod store;
mod stress;
mod tls;

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, mpsc},
    time::Duration,
};

use super::{
    AutomaticPolicy, BlockReason, Envelope, Limits, NetworkState, PinnedRoots, Task, TaskError, Transport,
    Trust, UploadConfig, UploadEvent, UploadOptions, UploadOutcome, UploadPolicy, UploadProgress,
    UploadReport, UploadState, UploadStream, Uploader,
    alarm::Alarm,
    control::Control,
    encode_trusted_object,
    id::PrivateId,
    source::{DroppedRange, ReadFailure},
    testing::{FakeSource, ManualAlarm, PROC_ID, Received, Reply, Server, VirtualAlarm, carry},
};
use crate::{
    clock::ManualClock,
    store::{
        DropReason, ProcId, ProcSeq, RecordKind, Role, Store, StoreConfig, StreamConfig, StreamHandle,
        StreamName,
    },
};

const ID: [u8; 32] = [0xab; 32];

/// What a test needs: a server, a stream and an uploader whose waits are recorded and take no time.
struct Bench {
    server: Server,
    source: Arc<FakeSource>,
    uploader: Uploader,
    clock: ManualClock,
    waits: Waits,
}

type Waits = Arc<Mutex<Vec<Option<Duration>>>>;

impl Bench {
    fn new(script: impl IntoIterator<Item = Reply>) -> Self {
        Self::with(script, |_| {})
    }

    fn with(script: impl IntoIterator<Item = Reply>, configure: impl FnOnce(&mut UploadConfig)) -> Self {
        let server = Server::start(script);
        let mut config = UploadConfig::new(&server.url()).unwrap();
        configure(&mut config);
        let source = FakeSource::new("netlog");
        let (clock, waits) = (clock(), Waits::default());
        let alarm = VirtualAlarm { clock: clock.clone(), waits: Arc::clone(&waits) };
        let uploader = start(config, &[&source], &clock, alarm);
        Self { server, source, uploader, clock, waits }
    }

    fn upload(&self) -> UploadReport {
        self.uploader.upload("test", UploadOptions::default()).wait()
    }

    /// As [`Self::upload`], with the test as the host that carries the requests.
    fn upload_as_host(&self) -> UploadReport {
        let ticket = self.uploader.upload("test", UploadOptions::default());
        self.host(Duration::from_secs(60));
        ticket.report().expect("the pass has ended with the last task")
    }

    /// Carries tasks until there are none. Waits take no time.
    fn host(&self, patience: Duration) {
        loop {
            match self.uploader.next_task() {
                Task::Upload(task) => {
                    let result = carry(&task, patience);
                    self.uploader.complete(task.id, result).unwrap();
                }
                Task::Wait(wait) => {
                    self.waits.lock().unwrap().push(Some(wait));
                    self.clock.advance(wait);
                }
                Task::Done => return,
            }
        }
    }

    /// Carries one task, if there is one. Several threads may do so at once, and carry the same task then.
    fn host_once(&self) {
        match self.uploader.next_task() {
            Task::Upload(task) => {
                let result = carry(&task, Duration::from_secs(60));
                // Another thread may have completed it, or cancelled its pass.
                let _ = self.uploader.complete(task.id, result);
            }
            Task::Wait(wait) => self.clock.advance(wait),
            Task::Done => {}
        }
    }

    fn requests(&self) -> Vec<Received> {
        self.server.requests()
    }

    /// The waits with an end, in seconds.
    fn waits(&self) -> Vec<u64> {
        self.waits.lock().unwrap().iter().flatten().map(Duration::as_secs).collect()
    }
}

fn clock() -> ManualClock {
    ManualClock::new("1994-11-06T08:49:30Z".parse().unwrap())
}

fn uploader(config: UploadConfig, sources: &[&Arc<FakeSource>]) -> Uploader {
    let clock = clock();
    let alarm = VirtualAlarm { clock: clock.clone(), waits: Arc::default() };
    start(config, sources, &clock, alarm)
}

fn start(
    config: UploadConfig,
    sources: &[&Arc<FakeSource>],
    clock: &ManualClock,
    alarm: impl Alarm + 'static,
) -> Uploader {
    let stream = |source: &&Arc<FakeSource>| {
        let collection = "flows.log.example.com".parse().unwrap();
        UploadStream::from_source(Arc::clone(source) as _, collection, PrivateId::from_bytes(ID))
    };
    let streams = sources.iter().map(stream).collect();
    Uploader::start_with(config, streams, Arc::new(clock.clone()), Box::new(alarm)).unwrap()
}

/// Says that a wait with an end has begun, and lets it have none.
struct EndlessAlarm(mpsc::Sender<()>);

impl Alarm for EndlessAlarm {
    fn wait<'g>(
        &self,
        wake: &Condvar,
        guard: MutexGuard<'g, Control>,
        timeout: Option<Duration>,
    ) -> MutexGuard<'g, Control> {
        if timeout.is_some() {
            self.0.send(()).unwrap();
        }
        wake.wait(guard).unwrap()
    }
}

/// Holds the server's answers back until the returned sender is dropped; the receiver tells of each request.
fn hold(server: &Server) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (arrived, arrival) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    server.on_request(move || {
        // The test may have seen enough.
        let _ = arrived.send(());
        let _ = may_go_on.recv();
    });
    (arrival, go_on)
}

/// A payload that compresses badly, so that sizes mean something.
fn payload(number: usize, len: usize) -> String {
    let mut state = u32::try_from(number).unwrap() + 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + (state >> 24) as u8 % 26)
    };
    format!("{{\"n\":{number},\"fill\":\"{}\"}}\n", (0..len).map(|_| next()).collect::<String>())
}

fn push_numbered(source: &FakeSource, count: usize, len: usize) {
    let payloads: Vec<_> = (1..=count).map(|number| payload(number, len)).collect();
    source.push(&payloads.iter().map(String::as_str).collect::<Vec<_>>());
}

fn dropped(reason: DropReason, from_seq: u64, to_seq: u64, bytes: u64) -> DroppedRange {
    let proc_id = ProcId::new(PROC_ID).unwrap();
    let seqs = (ProcSeq::new(from_seq), ProcSeq::new(to_seq));
    DroppedRange { reason, proc_id, seqs, records: to_seq + 1 - from_seq, bytes }
}
