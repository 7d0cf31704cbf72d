//! The child: works on a directory, tells its parent what it has done, and is killed at any moment.
//!
//! It has one thread of its own; store and uploader bring theirs.

use std::{
    io::{self, Read},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::Duration,
};

use tuntrail::{
    client::Client,
    clock::{Clock, SystemClock},
    consent::Consent,
    flow::{FlowCounter, Layer},
    hook::{Connection, ConnectionCounter, Direction, Protocol},
    store::{AppendError, Store, StreamHandle},
    upload::{
        Envelope, PrivateId, ProgressListener, UploadOptions, UploadStream, UploadTicket, Uploader,
        encode_trusted_object,
    },
};

use super::{
    HarnessError,
    event::{Event, Teller},
    order::{Order, Task, collection, stream_name},
    record,
    rng::Rng,
};

/// How long a child waits for a confirmation before it withdraws consent all the same: a few requests.
const CONFIRMATION: Duration = Duration::from_millis(20);

/// Does what `order` says, and tells of it on standard output.
pub(super) fn run(order: &Order) -> Result<(), HarnessError> {
    let teller = Arc::new(Teller::new()?);
    let result = match order.task {
        Task::Record { steps, uploads, stop_at } => record(order, &teller, steps, uploads, stop_at),
        Task::Revoke => revoke(order, &teller),
        Task::Finish(answer) => finish(order, &teller, answer.into()),
    };
    match &result {
        Ok(()) => teller.tell(&Event::Done)?,
        Err(error) => teller.tell(&Event::Failed(error.to_string()))?,
    }
    result
}

fn record(
    order: &Order,
    teller: &Arc<Teller>,
    steps: u32,
    uploads: u64,
    stop_at: Option<u32>,
) -> Result<(), HarnessError> {
    let mut rng = Rng::new(order.seed);
    let id = log_id(order)?;
    let segment_bytes = rng.pick(4 << 10, &[16 << 10, 64 << 10, 64 << 10, 256 << 10]);
    let write_delay = Duration::from_millis(rng.pick(0, &[2, 1_000]));
    let stream = order.stream_config(segment_bytes, write_delay)?;
    let name = stream_name()?;
    let store = Store::open(order.store_config(), vec![stream])?;
    let handle = store.stream(&name).ok_or(HarnessError::Missing("the stream"))?;
    let upload = UploadStream::new(handle.clone(), collection()?, id.clone());
    let upload_config = order.client_config(Consent::Granted)?.upload;
    let uploader = Uploader::start(upload_config, vec![upload], order.clock())?;
    teller.tell(&Event::Began { proc_id: handle.proc_id().get(), log: Some(id.public()) })?;

    let confirmed = Arc::new(AtomicU32::new(0));
    let mut appender =
        Appender { order, teller, handle: &handle, rng, number: 0, json: Vec::new(), entry: Vec::new() };
    for _ in 0..steps {
        let step = appender.rng.below(100);
        if step < uploads {
            teller.tell(&Event::Uploading)?;
            let progress = stop_at.map(|at| stopper(teller, &confirmed, at));
            let ticket = uploader.upload("kill", UploadOptions { progress, ..UploadOptions::default() });
            appender.meet(&ticket);
        } else if step < 75 {
            appender.burst()?;
        } else if step < 97 {
            appender.flush()?;
        } else {
            handle.seal()?;
        }
    }
    drop(uploader);
    let told = appender.number;
    // A full disk may keep the last records from being written; then they were never promised.
    if store.shutdown().is_ok() {
        teller.tell(&Event::Promised { below: told })?;
    }
    Ok(())
}

/// The log id that the client made, or makes now.
fn log_id(order: &Order) -> Result<PrivateId, HarnessError> {
    if let Some(id) = order.log_id() {
        return Ok(id);
    }
    Client::start(order.client_config(Consent::Granted)?)?.shutdown();
    order.log_id().ok_or(HarnessError::Missing("the client's log id"))
}

/// At confirmation number `at` tells the parent, and waits for the end.
fn stopper(teller: &Arc<Teller>, confirmed: &Arc<AtomicU32>, at: u32) -> ProgressListener {
    let (teller, confirmed) = (Arc::clone(teller), Arc::clone(confirmed));
    Box::new(move |_| {
        if confirmed.fetch_add(1, Ordering::Relaxed) + 1 == at && teller.tell(&Event::Confirmed).is_ok() {
            // Returns only if the parent is gone, and with it the reason to stay.
            let _ = io::stdin().read(&mut [0]);
        }
    })
}

/// Appends numbered records.
struct Appender<'a> {
    order: &'a Order,
    teller: &'a Teller,
    handle: &'a StreamHandle,
    rng: Rng,
    number: u64,
    json: Vec<u8>,
    entry: Vec<u8>,
}

impl Appender<'_> {
    /// Appends some records.
    fn burst(&mut self) -> Result<(), HarnessError> {
        // Sequence numbers in a row: the store draws some for its reports, too.
        let mut run: Option<(u64, u64, u64)> = None;
        for _ in 0..=self.rng.below(20) {
            let filler = match self.rng.below(1_000) {
                0 => self.rng.below(200 << 10),
                1..100 => self.rng.below(16 << 10),
                100..400 => self.rng.below(3_000),
                _ => self.rng.below(600),
            };
            self.json.clear();
            record::encode(self.order.cycle, self.number, filler as usize, &mut self.rng, &mut self.json);
            self.entry.clear();
            let envelope = Envelope { client_time: Some(SystemClock.wall()), ids: None };
            encode_trusted_object(&self.json, &envelope, &mut self.entry);
            let seq = match self.handle.append(&self.entry) {
                Ok(seq) => seq.get(),
                // Refused, and its sequence number is in a report. Nobody was told that it is kept.
                Err(AppendError::QueueFull { .. } | AppendError::TooLarge { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            match &mut run {
                Some((_, first, len)) if *first + *len == seq => *len += 1,
                _ => {
                    self.tell_run(run)?;
                    run = Some((self.number, seq, 1));
                }
            }
            self.number += 1;
        }
        self.tell_run(run)
    }

    fn tell_run(&self, run: Option<(u64, u64, u64)>) -> Result<(), HarnessError> {
        if let Some((number, seq, len)) = run {
            self.teller.tell(&Event::Appended { number, seq, len })?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), HarnessError> {
        // On a full disk there is no promise.
        if self.handle.flush().is_ok() {
            self.teller.tell(&Event::Promised { below: self.number })?;
        }
        Ok(())
    }

    /// Waits for the upload, goes on meanwhile, or cancels it.
    fn meet(&mut self, ticket: &UploadTicket) {
        match self.rng.below(10) {
            0 => ticket.cancel(),
            1..7 => drop(ticket.wait()),
            _ => {}
        }
    }
}

fn revoke(order: &Order, teller: &Teller) -> Result<(), HarnessError> {
    let mut rng = Rng::new(order.seed);
    let client = Client::start(order.client_config(Consent::Granted)?)?;
    teller.tell(&Event::Began { proc_id: 0, log: order.log_id().map(|id| id.public()) })?;
    let counter = client.counter(Layer::Virtual)?;
    let mut counter = counter.ok_or(HarnessError::Missing("the counter of a client with consent"))?;
    count(&mut counter, rng.below(8));
    client.flush().or_else(|error| if order.clock_speed > 1 { Ok(()) } else { Err(error) })?;

    let (confirm, confirmations) = mpsc::channel();
    let progress: ProgressListener = Box::new(move |_| {
        // Nobody listens any more once consent is being withdrawn.
        let _ = confirm.send(());
    });
    // The pass ends with the client, whoever waits for it.
    let _ticket =
        client.upload_with("kill", UploadOptions { progress: Some(progress), ..UploadOptions::default() })?;
    teller.tell(&Event::Uploading)?;
    for _ in 0..rng.below(4) {
        if confirmations.recv_timeout(CONFIRMATION).is_err() {
            break;
        }
    }
    // Some of it is still in memory when consent goes.
    count(&mut counter, rng.below(8));
    teller.tell(&Event::Revoking)?;
    client.set_consent(Consent::Denied)?;
    teller.tell(&Event::Revoked)?;
    count(&mut counter, 1);
    drop(counter);
    client.shutdown();
    Ok(())
}

/// Counts packets of so many connections, and closes the window.
fn count(counter: &mut FlowCounter, connections: u64) {
    let now = SystemClock.now();
    for port in 0..connections {
        let address = |port: u64| Some(SocketAddr::from(([100, 64, 0, 1], port as u16)));
        let connection =
            Connection { protocol: Protocol::TCP, src: address(port + 1_024), dst: address(443) };
        counter.count(now, &connection, 1, 1_000, Direction::Tx);
    }
    counter.flush(now);
}

fn finish(order: &Order, teller: &Teller, consent: Consent) -> Result<(), HarnessError> {
    teller.tell(&Event::Began { proc_id: 0, log: None })?;
    let client = Client::start(order.client_config(consent)?)?;
    teller.tell(&Event::Revoked)?;
    client.shutdown();
    Ok(())
}
