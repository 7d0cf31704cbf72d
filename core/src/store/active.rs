//! The segment that is being appended to: its file and the frames that are not written yet.

use std::io::{self, ErrorKind};

use super::{
    DropCount, ProcSeq, Record, RecordKind, SegmentId,
    frame::{self, HEADER_LEN, Header, Records, Seed},
    fs::AppendFile,
    report::Ledger,
};

#[derive(Debug)]
pub(super) struct Active {
    id: SegmentId,
    seed: Seed,
    file: Box<dyn AppendFile>,
    /// Header (at first) and frames that wait for the next write.
    buffer: Vec<u8>,
    /// Data records among them.
    buffered_data: u64,
    /// The size for which there is room under the cap.
    room: usize,
    /// Bytes of the file that are known to be whole frames.
    good: u64,
    /// What was pushed so far, written or not.
    raw_len: usize,
    data: DropCount,
    span: Option<(ProcSeq, ProcSeq)>,
    /// Whether the file may end in part of a frame.
    torn: bool,
}

impl Active {
    /// A new segment, for which there are `room` bytes; its header goes out with the first write.
    pub(super) fn new(header: &Header, room: usize, file: Box<dyn AppendFile>, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        buffer.extend_from_slice(&header.encode());
        Self {
            id: header.id,
            seed: Seed::new(header.id),
            file,
            buffer,
            room,
            buffered_data: 0,
            good: 0,
            raw_len: 0,
            data: DropCount::default(),
            span: None,
            torn: false,
        }
    }

    pub(super) fn id(&self) -> SegmentId {
        self.id
    }

    pub(super) fn raw_len(&self) -> usize {
        self.raw_len
    }

    /// Whether a record of `frame` bytes belongs into the next segment: this one has data and would become longer
    /// than a segment, or there is no room for it.
    pub(super) fn is_full_for(&self, frame: usize, segment_bytes: usize) -> bool {
        let raw_len = self.raw_len + frame;
        let is_long = self.data.records > 0 && raw_len > segment_bytes;
        self.raw_len > 0 && (is_long || HEADER_LEN + raw_len > self.room)
    }

    /// Data records pushed so far.
    pub(super) fn data(&self) -> DropCount {
        self.data
    }

    /// Lowest and highest number pushed so far.
    pub(super) fn span(&self) -> Option<(ProcSeq, ProcSeq)> {
        self.span
    }

    /// Bytes in the file.
    pub(super) fn file_len(&self) -> u64 {
        self.good
    }

    pub(super) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Whether there is something to write. A header alone is not.
    pub(super) fn is_dirty(&self) -> bool {
        self.raw_len > 0 && !self.buffer.is_empty()
    }

    pub(super) fn push(&mut self, record: Record<'_>) {
        let before = self.buffer.len();
        frame::encode_record(&mut self.buffer, self.seed, record);
        self.raw_len += self.buffer.len() - before;
        if record.kind == RecordKind::Data {
            self.buffered_data += 1;
            self.data.add(DropCount { records: 1, bytes: record.payload.len() as u64 });
        }
        let (first, last) = self.span.unwrap_or((record.seq, record.seq));
        self.span = Some((first.min(record.seq), last.max(record.seq)));
    }

    /// Writes the buffer and says how many data records that were. On failure the file is cut back to whole
    /// frames and the buffer stays as it is.
    pub(super) fn write(&mut self) -> io::Result<u64> {
        if self.torn {
            return Err(io::Error::other("an earlier write left part of a frame"));
        }
        if let Err(error) = write_all(self.file.as_mut(), &self.buffer) {
            self.torn = self.file.truncate(self.good).is_err();
            return Err(error);
        }
        self.good += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(std::mem::take(&mut self.buffered_data))
    }

    /// The records that are not known to be in the file.
    pub(super) fn unwritten(&self) -> Records<'_> {
        let header = if self.good == 0 { HEADER_LEN } else { 0 };
        Records::new(self.buffer.get(header..).unwrap_or_default(), self.seed)
    }

    /// Takes the reports out of what is not written yet.
    pub(super) fn recall_reports(&mut self) -> Ledger {
        let mut reports = Ledger::default();
        let header = if self.good == 0 { HEADER_LEN } else { 0 };
        let mut kept = self.buffer.get(..header).unwrap_or_default().to_vec();
        for record in self.unwritten() {
            match record.kind {
                RecordKind::Data => frame::encode_record(&mut kept, self.seed, record),
                RecordKind::Meta => reports.merge(&Ledger::from_json(record.payload)),
            }
        }
        self.raw_len -= self.buffer.len() - kept.len();
        self.buffer = kept;
        reports
    }

    /// Closes the file and gives the buffer back for the next segment.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }
}

/// Interruptions of one write in a row that are put up with. A signal interrupts a write to a disk hardly ever; a
/// file system that does nothing else has failed.
const MAX_INTERRUPTIONS: u32 = 100;

/// Writes all of `bytes`, however little the system takes at a time.
pub(super) fn write_all(file: &mut dyn AppendFile, mut bytes: &[u8]) -> io::Result<()> {
    let mut interruptions = 0;
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(len) => {
                bytes = bytes.get(len..).unwrap_or_default();
                interruptions = 0;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted && interruptions < MAX_INTERRUPTIONS => {
                interruptions += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
