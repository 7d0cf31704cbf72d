//! The logger: its thread, its sink, its end.

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
};

use super::support::{CLIENT, RESOURCE, SERVER, end, secs};
use crate::{
    clock::ManualClock,
    flow::{
        FlowConfig,
        session::{
            AccessSession, Outcome, SessionBatch, SessionConfig, SessionError, SessionLogger, SessionSink,
            SinkError,
            testing::{rule, wall},
        },
        testing::{Bench as FlowBench, connection},
    },
    hook::{ConnectionCounter, Direction, Protocol},
};

type Batches = Arc<Mutex<Vec<SessionBatch>>>;

/// Keeps batches, after as many failures as it is told.
struct Keep {
    batches: Batches,
    failures: usize,
}

impl SessionSink for Keep {
    fn send(&mut self, batch: &SessionBatch) -> Result<(), SinkError> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err(SinkError::new("the server is down"));
        }
        self.batches.lock().unwrap().push(batch.clone());
        Ok(())
    }
}

fn logger(failures: usize) -> (SessionLogger, Batches, ManualClock) {
    let (batches, clock) = (Batches::default(), ManualClock::new(wall()));
    let sink = Keep { batches: Arc::clone(&batches), failures };
    (started(Box::new(sink), &clock), batches, clock)
}

fn started(sink: Box<dyn SessionSink>, clock: &ManualClock) -> SessionLogger {
    let rules = vec![rule(1, &["10.0.0.0/24", "100.64.0.2/32"])];
    let config = SessionConfig { rules, ..SessionConfig::default() };
    SessionLogger::start(config, Arc::new(clock.clone()), sink).unwrap()
}

fn one_session(logger: &SessionLogger) {
    let id = logger.start_session(RESOURCE, end(CLIENT), end(SERVER), Protocol::TCP).unwrap();
    logger.add_bytes(id, 1, 2).unwrap();
    logger.end_session(id, Outcome::Established).unwrap();
}

fn sessions(batches: &Batches) -> Vec<AccessSession> {
    batches.lock().unwrap().iter().flat_map(SessionBatch::sessions).copied().collect()
}

#[test]
fn flush_sends_what_has_ended_and_waits_for_it() {
    let (logger, batches, _) = logger(0);
    logger.flush().unwrap();
    assert!(batches.lock().unwrap().is_empty(), "nothing to send");
    one_session(&logger);
    logger.flush().unwrap();
    assert_eq!(sessions(&batches).len(), 1);
    assert_eq!(logger.stats().batches, 1);
}

#[test]
fn a_failed_flush_says_so_and_loses_nothing() {
    let (logger, batches, _) = logger(2);
    for _ in 0..2 {
        one_session(&logger);
        assert_eq!(logger.flush().unwrap_err().to_string(), "sessions not taken: the server is down");
    }
    assert_eq!((logger.stats().waiting, logger.stats().failed_batches), (1, 2));
    logger.flush().unwrap();
    assert_eq!(sessions(&batches)[0].connection_count, 2);
}

#[test]
fn shutdown_ends_and_sends_every_session_and_may_be_repeated() {
    let (logger, batches, clock) = logger(0);
    let id = logger.start_session(RESOURCE, end(CLIENT), end(SERVER), Protocol::TCP).unwrap();
    clock.advance(secs(3));
    logger.shutdown().unwrap();
    assert_eq!(sessions(&batches)[0].ended_at, wall() + secs(3));
    logger.shutdown().unwrap();
    logger.flush().unwrap();
    let refused = logger.start_session(RESOURCE, end(CLIENT), end(SERVER), Protocol::TCP);
    assert_eq!(refused, Err(SessionError::ShutDown));
    assert_eq!(logger.end_session(id, Outcome::Established), Err(SessionError::NotActive(id)));
    let stats = logger.stats();
    assert_eq!((stats.active, stats.waiting, stats.sent), (0, 0, 1), "nothing is stuck");
}

#[test]
fn shutdown_from_many_threads_sends_each_session_once() {
    let (logger, batches, _) = logger(0);
    one_session(&logger);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| logger.shutdown().unwrap());
        }
    });
    assert_eq!(sessions(&batches).len(), 1);
}

#[test]
fn dropping_a_logger_sends_every_session() {
    let (logger, batches, _) = logger(0);
    one_session(&logger);
    drop(logger);
    assert_eq!(sessions(&batches).len(), 1);
}

#[test]
fn what_no_sink_takes_at_the_end_goes_back_to_the_owner() {
    let (logger, batches, _) = logger(usize::MAX);
    one_session(&logger);
    let undelivered = logger.shutdown().unwrap_err();
    assert_eq!(undelivered.batch.sessions().len(), 1);
    assert_eq!(undelivered.error, SinkError::new("the server is down"));
    assert_eq!(logger.shutdown(), Ok(()), "only once");
    assert!(sessions(&batches).is_empty());
}

/// Says when it has a batch, and returns when it is let go.
struct Stuck {
    has_batch: mpsc::Sender<usize>,
    go: mpsc::Receiver<()>,
}

impl SessionSink for Stuck {
    fn send(&mut self, batch: &SessionBatch) -> Result<(), SinkError> {
        let _ = self.has_batch.send(batch.sessions().len());
        self.go.recv().map_err(|_| SinkError::new("nobody lets go"))
    }
}

#[test]
fn a_stuck_sink_blocks_nobody_who_logs() {
    let (has_batch, batches) = mpsc::channel();
    let (let_go, go) = mpsc::channel();
    let logger = started(Box::new(Stuck { has_batch, go }), &ManualClock::new(wall()));
    thread::scope(|scope| {
        one_session(&logger);
        let flush = scope.spawn(|| logger.flush());
        assert_eq!(batches.recv().unwrap(), 1);
        // The worker waits in the sink now.
        (0..1_000).for_each(|_| one_session(&logger));
        let stop = scope.spawn(|| logger.shutdown());
        let_go.send(()).unwrap();
        let_go.send(()).unwrap();
        assert_eq!(batches.recv().unwrap(), 1);
        assert_eq!(flush.join().unwrap(), Ok(()));
        assert_eq!(stop.join().unwrap(), Ok(()));
    });
    assert_eq!(logger.stats().sent_connections, 1_001);
}

#[test]
fn a_hundredth_session_wakes_a_worker_that_sleeps_until_later() {
    let (has_batch, batches) = mpsc::channel();
    let (let_go, go) = mpsc::channel();
    let logger = started(Box::new(Stuck { has_batch, go }), &ManualClock::new(wall()));
    logger.start_session(RESOURCE, end(CLIENT), end(SERVER), Protocol::TCP).unwrap();
    // When it returns the worker sleeps, until that session would end by silence.
    logger.flush().unwrap();
    for port in 101..=200 {
        let dest = end(&format!("10.0.0.1:{port}"));
        let id = logger.start_session(RESOURCE, end(CLIENT), dest, Protocol::TCP).unwrap();
        logger.end_session(id, Outcome::Established).unwrap();
    }
    // The limit only makes a worker that sleeps on a failure instead of a hang.
    let woken = batches.recv_timeout(secs(30));
    drop(let_go);
    assert_eq!(woken, Ok(100));
    assert_eq!(logger.shutdown().unwrap_err().batch.sessions().len(), 101);
}

struct Panics;

impl SessionSink for Panics {
    fn send(&mut self, _batch: &SessionBatch) -> Result<(), SinkError> {
        panic!("as this test wants it");
    }
}

#[test]
fn a_sink_that_panics_hangs_nobody_and_loses_nothing() {
    let logger = started(Box::new(Panics), &ManualClock::new(wall()));
    one_session(&logger);
    let _ = logger.flush();
    logger.start_session(RESOURCE, end(CLIENT), end("10.0.0.1:80"), Protocol::TCP).unwrap();
    let undelivered = logger.shutdown().unwrap_err();
    assert_eq!(undelivered.batch.sessions().len(), 2);
    assert_eq!(undelivered.error, SinkError::new("the sink panicked"));
}

#[test]
fn flow_records_become_sessions() {
    let flows = FlowBench::new(FlowConfig::default());
    let batches = Batches::default();
    let sink = Keep { batches: Arc::clone(&batches), failures: 0 };
    let sessions_of = Arc::new(started(Box::new(sink), &flows.clock));
    let observed = Arc::clone(&sessions_of);
    flows.logger.set_observer(Some(Box::new(move |message| observed.observe_message(message))));
    let mut counter = flows.counter();
    for _ in 0..3 {
        // To a node that is a resource, to one that is not, and through a subnet router to a resource.
        for dst in ["100.64.0.2:443", "100.64.0.10:443", "10.0.0.9:22"] {
            let connection = connection(6, "100.64.0.1:40000", dst);
            counter.count(flows.now(), &connection, 1, 50, Direction::Tx);
            counter.count(flows.now(), &connection, 1, 70, Direction::Rx);
        }
        flows.pass(secs(5), &mut [&mut counter]);
        flows.logger.flush();
    }
    assert_eq!(sessions_of.stats().active, 2);
    sessions_of.shutdown().unwrap();
    let mut found: Vec<_> = sessions(&batches)
        .iter()
        .map(|s| (s.dest_addr.to_string(), s.bytes_tx, s.bytes_rx, s.ended_at.duration_since(s.started_at)))
        .collect();
    found.sort_unstable();
    let length = secs(15).try_into().unwrap();
    assert_eq!(
        found,
        [("10.0.0.9:22".to_owned(), 150, 210, length), ("100.64.0.2:443".to_owned(), 150, 210, length)]
    );
}
