//! The writer thread: the only one that changes files.
//!
//! It sleeps until the earliest write deadline, or without a timeout if nothing is waiting to be written.

use std::{
    mem,
    sync::{Arc, mpsc::SyncSender},
    thread::{self, JoinHandle},
};

use super::{
    StoreError,
    queue::{Batch, Command, Inbox, Shared},
    stream::{Moment, Stream},
};
use crate::{
    clock::{Instant, SharedClock},
    timer::Deadlines,
};

/// What the writer does next.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// There is a batch or a request.
    Work,
    /// Nothing before this time, or before somebody asks for something.
    Sleep(Option<Instant>),
    /// The store was closed, and everything is done.
    End,
}

#[derive(Debug)]
struct Slot {
    stream: Stream,
    /// Empty between turns; keeps its memory.
    batch: Batch,
    deadline: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    clock: SharedClock,
    slots: Vec<Slot>,
    deadlines: Deadlines,
    commands: Vec<(usize, Command)>,
}

impl Writer {
    fn new(shared: Arc<Shared>, streams: Vec<Stream>, clock: SharedClock) -> Self {
        let slots = streams
            .into_iter()
            .map(|stream| Slot { stream, batch: Batch::default(), deadline: None })
            .collect();
        Self { shared, clock, slots, deadlines: Deadlines::new(), commands: Vec::new() }
    }

    pub(super) fn spawn(
        shared: Arc<Shared>,
        streams: Vec<Stream>,
        clock: SharedClock,
    ) -> Result<JoinHandle<Result<(), StoreError>>, StoreError> {
        let writer = Self::new(shared, streams, clock);
        thread::Builder::new()
            .name("tuntrail-store".into())
            .spawn(move || writer.run())
            .map_err(|error| StoreError::System { what: "a thread", error: error.to_string() })
    }

    fn run(mut self) -> Result<(), StoreError> {
        let _guard = CloseOnExit(Arc::clone(&self.shared));
        let shared = Arc::clone(&self.shared);
        let at = self.moment();
        for slot in &mut self.slots {
            slot.stream.begin_turn(at);
            slot.stream.recover(at);
            slot.stream.end_turn();
        }
        self.publish();
        loop {
            let mut inbox = shared.lock();
            let now = self.clock.now();
            match self.plan(&mut inbox, now) {
                Plan::Work => {
                    drop(inbox);
                    self.work();
                }
                Plan::Sleep(until) => {
                    let timeout = until.map(|until| until.saturating_duration_since(now));
                    drop(shared.wait(inbox, timeout));
                }
                Plan::End => break,
            }
        }
        let at = self.moment();
        let mut result = Ok(());
        for slot in &mut self.slots {
            slot.stream.begin_turn(at);
            let finished = slot.stream.finish(at);
            slot.stream.end_turn();
            result = result.and(finished);
        }
        self.publish();
        result
    }

    /// Takes what is due out of the inbox.
    fn plan(&mut self, inbox: &mut Inbox, now: Instant) -> Plan {
        self.commands.append(&mut inbox.commands);
        let mut work = !self.commands.is_empty();
        for (index, (slot, queue)) in self.slots.iter_mut().zip(&mut inbox.queues).enumerate() {
            if !queue.is_dirty() {
                continue;
            }
            let deadline = *slot.deadline.get_or_insert_with(|| now + slot.stream.write_delay());
            let asked = self.commands.iter().any(|(stream, _)| *stream == index);
            if asked || inbox.closed || queue.is_ripe() || deadline <= now {
                queue.take(&mut slot.batch);
                slot.deadline = None;
                work = true;
            }
            self.deadlines.set(index, slot.deadline);
        }
        match (work, inbox.closed) {
            (true, _) => Plan::Work,
            (false, true) => Plan::End,
            (false, false) => Plan::Sleep(self.deadlines.next()),
        }
    }

    fn work(&mut self) {
        let at = self.moment();
        let mut commands = mem::take(&mut self.commands);
        let mut answers = Vec::new();
        // One stream after the other, so that two processes never hold the turn of one and wait for that of another.
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let asked: Vec<_> = commands.extract_if(.., |(of, _)| *of == index).collect();
            if slot.batch.is_empty() && asked.is_empty() {
                continue;
            }
            slot.stream.begin_turn(at);
            // What waits when consent is withdrawn never gets to the disk.
            if !asked.iter().any(|(_, command)| matches!(command, Command::Clear(_))) {
                slot.stream.accept(&slot.batch, at);
            }
            slot.batch.clear();
            answers.extend(asked.into_iter().map(|(_, command)| serve(&mut slot.stream, command, at)));
            slot.stream.end_turn();
        }
        // Whoever waits for an answer finds the figures up to date.
        self.publish();
        for answer in answers {
            answer();
        }
    }

    fn publish(&self) {
        let stats: Vec<_> = self.slots.iter().map(|slot| slot.stream.stats()).collect();
        let mut inbox = self.shared.lock();
        for (queue, stats) in inbox.queues.iter_mut().zip(stats) {
            queue.published = stats;
        }
    }

    fn moment(&self) -> Moment {
        Moment { now: self.clock.now(), unix_ms: self.clock.wall().as_millisecond() }
    }
}

/// Does what was asked, and returns how to answer.
fn serve(stream: &mut Stream, command: Command, at: Moment) -> Box<dyn FnOnce()> {
    match command {
        Command::Flush(reply) => answer(reply, stream.flush(at)),
        Command::Seal(reply) => answer(reply, Ok(stream.seal(at))),
        Command::Acknowledge(id, reply) => answer(reply, stream.acknowledge(id, at)),
        Command::Discard(id, reason, reply) => answer(reply, stream.discard(id, reason, at)),
        Command::Clear(reply) => answer(reply, stream.clear()),
        Command::Claim(role, reply) => answer(reply, stream.claim(&role, at)),
        Command::Damaged { id, last_good, lost } => {
            stream.note_damage(id, last_good, lost, at);
            Box::new(|| ())
        }
    }
}

fn answer<T: 'static>(reply: SyncSender<T>, value: T) -> Box<dyn FnOnce()> {
    // Nobody there any more: the asker's thread has ended, and needs no answer.
    Box::new(move || drop(reply.send(value)))
}

/// Whatever ends the thread, nobody waits for it afterwards.
struct CloseOnExit(Arc<Shared>);

impl Drop for CloseOnExit {
    fn drop(&mut self) {
        let mut inbox = self.0.lock();
        inbox.closed = true;
        inbox.commands.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::{
        super::{ProcId, Role, StreamConfig, StreamName, dir::Dir, fs::RealFs, queue::Queue},
        *,
    };
    use crate::clock::{Clock, ManualClock};

    fn writer(dir: &std::path::Path, clock: &ManualClock, names: &[&str]) -> Writer {
        writer_as(&Role::Service, dir, clock, names)
    }

    fn writer_as(role: &Role, dir: &std::path::Path, clock: &ManualClock, names: &[&str]) -> Writer {
        let proc_id = ProcId::new(1).unwrap();
        let shared = Arc::new(Shared::new(names.iter().map(|_| Queue::new(proc_id, 1_000)).collect()));
        let stream = |(index, name): (usize, &&str)| {
            let dir = Dir::new(Arc::new(RealFs), dir.join(name));
            let hold = dir.hold(role).unwrap();
            let config = StreamConfig::new(StreamName::new(*name).unwrap());
            Stream::new(config, role.clone(), (dir, hold), proc_id, 1, Arc::clone(&shared), index)
        };
        let streams = names.iter().enumerate().map(stream).collect();
        Writer::new(Arc::clone(&shared), streams, Arc::new(clock.clone()))
    }

    fn plan(writer: &mut Writer) -> Plan {
        let shared = Arc::clone(&writer.shared);
        let now = writer.clock.now();
        let mut inbox = shared.lock();
        writer.plan(&mut inbox, now)
    }

    #[test]
    fn with_nothing_to_write_the_writer_sleeps_without_a_timeout() {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let mut writer = writer(dir.path(), &clock, &["a", "b"]);
        assert_eq!(plan(&mut writer), Plan::Sleep(None));
        clock.advance(Duration::from_secs(1_000_000));
        assert_eq!(plan(&mut writer), Plan::Sleep(None));
    }

    #[test]
    fn the_first_record_arms_one_deadline_and_writing_disarms_it() {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let mut writer = writer(dir.path(), &clock, &["a", "b"]);
        let shared = Arc::clone(&writer.shared);
        let due = clock.now() + StreamConfig::DEFAULT_WRITE_DELAY;
        shared.append(1, b"x").unwrap();
        assert_eq!(plan(&mut writer), Plan::Sleep(Some(due)));
        clock.advance(Duration::from_millis(999));
        shared.append(1, b"y").unwrap();
        shared.append(0, b"z").unwrap();
        assert_eq!(plan(&mut writer), Plan::Sleep(Some(due)), "later records don't move it");
        clock.advance(Duration::from_millis(1));
        assert_eq!(plan(&mut writer), Plan::Work);
        writer.work();
        assert_eq!(shared.stats(1).written, 2);
        assert_eq!(shared.stats(0).written, 0);
        let other = clock.now() + Duration::from_millis(999);
        assert_eq!(plan(&mut writer), Plan::Sleep(Some(other)));
        clock.advance(Duration::from_secs(1));
        assert_eq!(plan(&mut writer), Plan::Work);
        writer.work();
        assert_eq!(plan(&mut writer), Plan::Sleep(None));
    }

    #[test]
    fn a_shared_role_that_has_done_its_work_sleeps_without_a_timeout() {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let mut writer = writer_as(&Role::App, dir.path(), &clock, &["a"]);
        let shared = Arc::clone(&writer.shared);
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        shared.append(0, b"x").unwrap();
        shared.send(0, Command::Seal(reply));
        assert_eq!(plan(&mut writer), Plan::Work);
        writer.work();
        answer.recv().unwrap().unwrap();
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        shared.send(0, Command::Claim(Role::Extension, reply));
        assert_eq!(plan(&mut writer), Plan::Work);
        writer.work();
        assert_eq!(answer.recv().unwrap().unwrap(), 0);
        assert_eq!(plan(&mut writer), Plan::Sleep(None));
        clock.advance(Duration::from_secs(1_000_000));
        assert_eq!(plan(&mut writer), Plan::Sleep(None));
    }

    #[test]
    fn a_degraded_stream_arms_no_timer() {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let mut writer = writer(dir.path(), &clock, &["a"]);
        let shared = Arc::clone(&writer.shared);
        // Nothing can be created in what is no directory any more.
        std::fs::remove_dir_all(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a"), "").unwrap();
        shared.append(0, b"x").unwrap();
        clock.advance(Duration::from_secs(1));
        assert!(matches!(plan(&mut writer), Plan::Sleep(Some(_))));
        clock.advance(Duration::from_secs(1));
        assert_eq!(plan(&mut writer), Plan::Work);
        writer.work();
        assert!(matches!(shared.stats(0).state, super::super::StreamState::Degraded { .. }));
        assert_eq!(plan(&mut writer), Plan::Sleep(None));
    }
}
