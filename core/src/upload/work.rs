//! One segment on its way: which of its records are still to be sent, which the server would not have.
//!
//! A segment is read when a body is made of it, and again if there is a second one: between bodies a pass waits for the
//! network, and holds nothing of the segment meanwhile.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use super::{
    body::{self, Body, entries_in_next_body, halves},
    source::{DroppedRange, Entry, ReadFailure, SegmentData, SegmentRef},
    uploader::UploadStream,
};
use crate::store::{DropReason, RecordKind};

/// So many refusals of a segment's content are spent on finding the culprits, enough for about six among a thousand
/// records. Then what is still refused is dropped as a whole.
const MAX_REFUSALS: u32 = 64;

/// The state of a segment that is being sent.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) segment: SegmentRef,
    /// Positions of records still to be sent, in order. The last range may reach past the end.
    ranges: VecDeque<Range<usize>>,
    given_up: Vec<(Range<usize>, DropReason)>,
    accepted: bool,
    refusals: u32,
}

/// A part of a segment, ready to be sent.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) range: Range<usize>,
    pub(super) body: Body,
    /// The numbers of its first and last record.
    pub(super) seqs: (u64, u64),
}

impl Work {
    pub(super) fn new(segment: SegmentRef) -> Self {
        Self {
            segment,
            // How many records can be read is known when they are.
            ranges: std::iter::once(0..usize::MAX).collect(),
            given_up: Vec::new(),
            accepted: false,
            refusals: 0,
        }
    }

    /// Every record was accepted or given up.
    pub(super) fn is_done(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Takes the records for the next body, or `None` if nothing is left after all.
    pub(super) fn next_part(&mut self, data: Arc<dyn SegmentData>, target: usize) -> Option<Part> {
        let entries = data.entries();
        let mut range = self.ranges.pop_front()?;
        range.end = range.end.min(entries.len());
        let rest = entries.get(range.clone())?;
        let count = entries_in_next_body(rest, target);
        let chosen = rest.get(..count).filter(|chosen| !chosen.is_empty())?;
        let sent = range.start..range.start + count;
        if sent.end < range.end {
            self.ranges.push_front(sent.end..range.end);
        }
        let seq = |entry: Option<&Entry<'_>>| entry.map_or(0, |entry| entry.ids.proc_seq);
        let seqs = (seq(chosen.first()), seq(chosen.last()));
        let json = body::json(chosen);
        // Compressing needs the room that the segment takes.
        drop(entries);
        drop(data);
        Some(Part { range: sent, body: body::pack(json), seqs })
    }

    pub(super) fn accept(&mut self) {
        self.accepted = true;
    }

    /// The server refused `range`: it goes in halves, or is given up. True if it is given up.
    pub(super) fn refuse(&mut self, range: Range<usize>, reason: DropReason) -> bool {
        self.refusals += 1;
        if self.refusals <= MAX_REFUSALS
            && let Some((first, second)) = halves(&range)
        {
            self.ranges.push_front(second);
            self.ranges.push_front(first);
            return false;
        }
        self.given_up.push((range, reason));
        true
    }

    /// Nothing of the segment was accepted, although the server had its chance.
    pub(super) fn is_refused_altogether(&self) -> bool {
        !self.accepted && self.refusals > 0
    }

    /// Puts what the server would not have into drop reports, and says how many records that is. Reports among it are
    /// made again: the record of a loss must not be lost itself.
    pub(super) fn report_given_up(&self, stream: &UploadStream) -> Result<u64, ReadFailure> {
        if self.given_up.is_empty() {
            return Ok(0);
        }
        let data = match stream.source.read(&self.segment) {
            // The store has reported all of it by itself.
            Err(ReadFailure::Gone) => return Ok(0),
            read => read?,
        };
        let entries = data.entries();
        let mut records = 0;
        for (range, reason) in &self.given_up {
            let entries = entries.get(range.clone()).unwrap_or_default();
            for meta in entries.iter().filter(|entry| entry.kind == RecordKind::Meta) {
                stream.source.repeat_reports(meta.payload);
            }
            if let Some(dropped) = DroppedRange::of(entries, *reason, self.segment.id.proc_id) {
                stream.source.report_drop(&dropped);
                records += dropped.records;
            }
        }
        Ok(records)
    }
}
