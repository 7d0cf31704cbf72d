//! The uploader as a whole, against a real server on loopback.

mod answers;
mod content;
mod flow;
mod store;
mod tls;

use std::{
    future::{Future, pending},
    pin::Pin,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use super::{
    Envelope, Limits, PinnedRoots, Trust, UploadConfig, UploadOptions, UploadOutcome, UploadProgress,
    UploadReport, UploadStream, Uploader, encode_trusted_object,
    id::PrivateId,
    pass::Pause,
    source::{DroppedRange, ReadFailure},
    testing::{FakeSource, PROC_ID, Received, Reply, Server},
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
    waits: Arc<Mutex<Vec<Duration>>>,
}

impl Bench {
    fn new(script: impl IntoIterator<Item = Reply>) -> Self {
        Self::with(script, |_| {})
    }

    fn with(script: impl IntoIterator<Item = Reply>, configure: impl FnOnce(&mut UploadConfig)) -> Self {
        let server = Server::start(script);
        let mut config = UploadConfig::new(&server.url()).unwrap();
        configure(&mut config);
        let source = FakeSource::new("netlog");
        let waits = Arc::default();
        let pause = RecordedPause(Arc::clone(&waits));
        let uploader = uploader(config, &[&source], pause);
        Self { server, source, uploader, waits }
    }

    fn upload(&self) -> UploadReport {
        self.uploader.upload("test", UploadOptions::default()).wait()
    }

    fn requests(&self) -> Vec<Received> {
        self.server.requests()
    }

    fn waits(&self) -> Vec<u64> {
        self.waits.lock().unwrap().iter().map(Duration::as_secs).collect()
    }
}

fn uploader(config: UploadConfig, sources: &[&Arc<FakeSource>], pause: impl Pause + 'static) -> Uploader {
    let stream = |source: &&Arc<FakeSource>| {
        let collection = "flows.log.example.com".parse().unwrap();
        UploadStream::from_source(Arc::clone(source) as _, collection, PrivateId::from_bytes(ID))
    };
    let clock = Arc::new(ManualClock::new("1994-11-06T08:49:30Z".parse().unwrap()));
    let streams = sources.iter().map(stream).collect();
    Uploader::start_with(config, streams, clock, Box::new(pause)).unwrap()
}

struct RecordedPause(Arc<Mutex<Vec<Duration>>>);

impl Pause for RecordedPause {
    fn pause(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        self.0.lock().unwrap().push(duration);
        Box::pin(async {})
    }
}

/// A pause that says that it has begun, and never ends.
struct EndlessPause(mpsc::Sender<()>);

impl Pause for EndlessPause {
    fn pause(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        self.0.send(()).unwrap();
        Box::pin(pending())
    }
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
