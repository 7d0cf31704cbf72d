//! Counts datagrams by the run instead of one by one.
//!
//! A burst is many datagrams of one path and direction at one reading of the clock. They are added up here, which costs
//! a comparison, and counted together. What is pending is due at once: [`Runs::next_deadline`] says so until
//! [`Runs::handle_deadline`] or a datagram of another kind passes it on, so the tunnel's thread, which honours deadlines,
//! has every datagram counted before it sleeps.

use std::net::SocketAddr;

use crate::{
    clock::Instant,
    hook::{Connection, ConnectionCounter, Direction},
};

/// See the module. Belongs to the tunnel's thread, like the counter in it.
pub(super) struct Runs {
    counter: Box<dyn ConnectionCounter>,
    run: Option<Run>,
}

struct Run {
    now: Instant,
    connection: Connection,
    direction: Direction,
    packets: u64,
    bytes: u64,
}

impl Runs {
    pub(super) fn of(counter: Box<dyn ConnectionCounter>) -> Box<dyn ConnectionCounter> {
        Box::new(Self { counter, run: None })
    }

    fn pass_on(&mut self) {
        if let Some(Run { now, connection, direction, packets, bytes }) = self.run.take() {
            self.counter.count(now, &connection, packets, bytes, direction);
        }
    }
}

impl ConnectionCounter for Runs {
    #[inline]
    fn count(
        &mut self,
        now: Instant,
        connection: &Connection,
        packets: u64,
        bytes: u64,
        direction: Direction,
    ) {
        if let Some(run) = &mut self.run
            && run.now == now
            && run.direction == direction
            && run.connection == *connection
        {
            run.packets += packets;
            run.bytes += bytes;
            return;
        }
        self.pass_on();
        self.run = Some(Run { now, connection: *connection, direction, packets, bytes });
    }

    fn path(&mut self, now: Instant, local: Option<SocketAddr>, remote: SocketAddr) {
        self.pass_on();
        self.counter.path(now, local, remote);
    }

    fn next_deadline(&self) -> Option<Instant> {
        let pending = self.run.as_ref().map(|run| run.now);
        [pending, self.counter.next_deadline()].into_iter().flatten().min()
    }

    fn handle_deadline(&mut self, now: Instant) {
        self.pass_on();
        if self.counter.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.counter.handle_deadline(now);
        }
    }

    fn flush(&mut self, now: Instant) {
        self.pass_on();
        self.counter.flush(now);
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        self.pass_on();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::hook::Protocol;
    use Direction::{Rx, Tx};

    type Log = Arc<Mutex<Vec<(u64, u64, u64, Direction)>>>;

    /// Notes what it is told: seconds, packets, bytes, direction.
    struct Notes(Log);

    impl ConnectionCounter for Notes {
        fn count(&mut self, now: Instant, _: &Connection, packets: u64, bytes: u64, direction: Direction) {
            self.0.lock().unwrap().push((now.as_nanos(), packets, bytes, direction));
        }
    }

    fn counter() -> (Box<dyn ConnectionCounter>, Log) {
        let log = Log::default();
        (Runs::of(Box::new(Notes(Arc::clone(&log)))), log)
    }

    const OUTER: Connection = Connection { protocol: Protocol::UNKNOWN, src: None, dst: None };
    const AT: fn(u64) -> Instant = Instant::from_nanos;

    #[test]
    fn a_run_is_one_count_and_every_change_ends_it() {
        let (mut runs, log) = counter();
        for bytes in [100, 200, 300] {
            runs.count(AT(1), &OUTER, 1, bytes, Tx);
        }
        assert_eq!((log.lock().unwrap().len(), runs.next_deadline()), (0, Some(AT(1))));
        runs.count(AT(1), &OUTER, 1, 50, Rx);
        runs.count(AT(2), &OUTER, 1, 60, Rx);
        let other = Connection { dst: Some("192.0.2.1:1".parse().unwrap()), ..OUTER };
        runs.count(AT(2), &other, 2, 70, Rx);
        runs.handle_deadline(AT(2));
        assert_eq!(runs.next_deadline(), None);
        assert_eq!(*log.lock().unwrap(), [(1, 3, 600, Tx), (1, 1, 50, Rx), (2, 1, 60, Rx), (2, 2, 70, Rx)]);
    }

    #[test]
    fn nothing_pending_is_lost_at_a_flush_or_at_the_end() {
        let (mut runs, log) = counter();
        runs.count(AT(1), &OUTER, 1, 1, Tx);
        runs.flush(AT(2));
        assert_eq!(log.lock().unwrap().len(), 1);
        runs.count(AT(3), &OUTER, 1, 1, Tx);
        drop(runs);
        assert_eq!(log.lock().unwrap().len(), 2);
    }
}
