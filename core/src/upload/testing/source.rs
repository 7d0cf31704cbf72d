//! A source in memory.

use std::sync::{Arc, Mutex};

use super::super::{
    entry::EntryIds,
    source::{DroppedRange, Entry, ReadFailure, SegmentData, SegmentRef, SegmentSource},
};
use crate::store::{ProcId, RecordKind, SegmentId};

/// The process that all entries of a [`FakeSource`] come from.
pub(in super::super) const PROC_ID: u32 = 0x9f3c_21aa;

/// A source that holds segments in memory and remembers what was done to them.
pub(in super::super) struct FakeSource {
    name: &'static str,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    segments: Vec<(SegmentRef, Arc<FakeSegment>)>,
    /// Of the last segment.
    generation: u64,
    /// Records ever added.
    appended: u64,
    drops: Vec<DroppedRange>,
    repeated: Vec<Vec<u8>>,
    fail_seal: bool,
    unreadable: Option<ReadFailure>,
    fail_acknowledge: bool,
}

struct FakeSegment {
    first_seq: u64,
    payloads: Vec<(RecordKind, Vec<u8>)>,
}

impl SegmentData for FakeSegment {
    fn entries(&self) -> Vec<Entry<'_>> {
        (self.first_seq..)
            .zip(&self.payloads)
            .map(|(proc_seq, (kind, payload))| Entry {
                kind: *kind,
                ids: EntryIds { proc_id: PROC_ID, proc_seq },
                payload,
            })
            .collect()
    }
}

impl FakeSource {
    pub(in super::super) fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self { name, state: Mutex::default() })
    }

    /// Adds a segment with the given payloads, numbered on from the last segment.
    pub(in super::super) fn push(&self, payloads: &[&str]) {
        self.push_kind(RecordKind::Data, payloads);
    }

    pub(in super::super) fn push_kind(&self, kind: RecordKind, payloads: &[&str]) {
        let mut state = self.state.lock().unwrap();
        let (generation, first_seq) = (state.generation + 1, state.appended + 1);
        (state.generation, state.appended) = (generation, state.appended + payloads.len() as u64);
        let proc_id = ProcId::new(PROC_ID).unwrap();
        let payloads: Vec<_> = payloads.iter().map(|payload| (kind, payload.as_bytes().to_vec())).collect();
        let id = SegmentId { generation, proc_id };
        let records = u32::try_from(payloads.len()).unwrap();
        let bytes = payloads.iter().map(|(_, payload)| payload.len() as u64).sum();
        let segment = SegmentRef { id, records, bytes };
        state.segments.push((segment, Arc::new(FakeSegment { first_seq, payloads })));
    }

    pub(in super::super) fn fail_seal(&self) {
        self.state.lock().unwrap().fail_seal = true;
    }

    /// Makes the next read fail.
    pub(in super::super) fn fail_read(&self, failure: ReadFailure) {
        self.state.lock().unwrap().unreadable = Some(failure);
    }

    pub(in super::super) fn fail_acknowledge(&self) {
        self.state.lock().unwrap().fail_acknowledge = true;
    }

    /// Records still held.
    pub(in super::super) fn pending(&self) -> usize {
        self.state.lock().unwrap().segments.iter().map(|(segment, _)| segment.records as usize).sum()
    }

    /// Records ever added; the number of the last one.
    pub(in super::super) fn appended(&self) -> u64 {
        self.state.lock().unwrap().appended
    }

    pub(in super::super) fn drops(&self) -> Vec<DroppedRange> {
        self.state.lock().unwrap().drops.clone()
    }

    /// Payloads of meta records whose reports were made again.
    pub(in super::super) fn repeated(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().repeated.clone()
    }

    fn remove(&self, segment: &SegmentRef) {
        self.state.lock().unwrap().segments.retain(|(other, _)| other != segment);
    }
}

impl SegmentSource for FakeSource {
    fn name(&self) -> &str {
        self.name
    }

    fn seal(&self) -> Result<Vec<SegmentRef>, String> {
        let state = self.state.lock().unwrap();
        if state.fail_seal {
            return Err("the disk is gone".to_owned());
        }
        Ok(state.segments.iter().map(|(segment, _)| *segment).collect())
    }

    fn read(&self, segment: &SegmentRef) -> Result<Arc<dyn SegmentData>, ReadFailure> {
        let mut state = self.state.lock().unwrap();
        if let Some(failure) = state.unreadable.take() {
            return Err(failure);
        }
        let found = state.segments.iter().find(|(other, _)| other == segment);
        found.map(|(_, data)| Arc::clone(data) as Arc<dyn SegmentData>).ok_or(ReadFailure::Gone)
    }

    fn acknowledge(&self, segment: &SegmentRef) -> Result<(), String> {
        if self.state.lock().unwrap().fail_acknowledge {
            return Err("read-only file system".to_owned());
        }
        self.remove(segment);
        Ok(())
    }

    fn discard_corrupt(&self, segment: &SegmentRef) -> Result<(), String> {
        self.remove(segment);
        Ok(())
    }

    fn report_drop(&self, drop: &DroppedRange) {
        self.state.lock().unwrap().drops.push(*drop);
    }

    fn repeat_reports(&self, meta: &[u8]) {
        self.state.lock().unwrap().repeated.push(meta.to_vec());
    }
}
