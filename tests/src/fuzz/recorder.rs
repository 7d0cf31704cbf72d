//! A flow logger on a clock that stands still, whose records can be looked at.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tuntrail::{
    clock::ManualClock,
    flow::{ConnectionCounts, Counts, FlowConfig, FlowLogger, Layer, MAX_MESSAGE_LEN, Message, RecordSink},
};

pub(super) struct Recorder {
    pub(super) clock: ManualClock,
    pub(super) logger: FlowLogger,
    records: Arc<Mutex<Vec<Vec<u8>>>>,
}

struct Keep(Arc<Mutex<Vec<Vec<u8>>>>);

impl RecordSink for Keep {
    fn append(&mut self, _wall: Timestamp, json: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(json.to_vec());
    }
}

impl Recorder {
    pub(super) fn new(config: FlowConfig) -> Self {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let records = Arc::default();
        let sink = Box::new(Keep(Arc::clone(&records)));
        let logger = FlowLogger::start(config, Arc::new(clock.clone()), sink).expect("a logger");
        Self { clock, logger, records }
    }

    /// The records since the last call. Counters that have yet to hand over are not in them.
    pub(super) fn take(&self) -> Vec<Message> {
        self.logger.flush();
        let records = std::mem::take(&mut *self.records.lock().unwrap_or_else(PoisonError::into_inner));
        let read = |json: &Vec<u8>| {
            assert!(json.len() <= MAX_MESSAGE_LEN);
            serde_json::from_slice(json).expect("a record is a message")
        };
        records.iter().map(read).collect()
    }
}

/// All rows of a message with the layer they are from.
pub(super) fn rows(message: &Message) -> impl Iterator<Item = (Layer, &ConnectionCounts)> {
    let inner = [&message.virtual_traffic, &message.subnet_traffic, &message.exit_traffic];
    let inner = inner.into_iter().flatten().map(|row| (Layer::Virtual, row));
    inner.chain(message.physical_traffic.iter().map(|row| (Layer::Physical, row)))
}

/// What all rows of all messages add up to.
pub(super) fn sum(messages: &[Message]) -> Counts {
    let mut sum = Counts::default();
    messages.iter().flat_map(rows).for_each(|(_, row)| sum += row.counts);
    sum
}
