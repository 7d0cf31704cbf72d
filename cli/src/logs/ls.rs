//! `logs ls`: what there is.

use std::{collections::BTreeSet, io::Write};

use jiff::Timestamp;
use tuntrail::store::SegmentState;

use super::{
    Source,
    entry::{Body, Entry},
    output::plain,
    server::{self, ServerArguments},
    source::{Event, SegmentHead, SourceArguments},
};
use crate::{CommandError, text};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: SourceArguments,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let source = Source::open(&arguments.source)?;
    let listed = match &source {
        Source::Server(server) if !server.names_logs() => list_server(server)?,
        source => list(source)?,
    };
    let mut out = std::io::stdout().lock();
    Ok(writeln!(out, "{listed}")?)
}

/// What one segment holds.
struct Line {
    head: SegmentHead,
    entries: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    /// Few: a segment has one writer, a log at a server as many as it was started.
    processes: BTreeSet<u32>,
    /// What drop reports in it say.
    reported: u64,
}

impl Line {
    fn add(&mut self, entry: &Entry) {
        self.entries += 1;
        self.processes.extend(entry.proc_id);
        if let Some(time) = entry.client_time {
            self.first = Some(self.first.map_or(time, |first| first.min(time)));
            self.last = Some(self.last.map_or(time, |last| last.max(time)));
        }
        if let Body::Drops(reports) = &entry.body {
            self.reported += reports.iter().map(|report| report.count.records).sum::<u64>();
        }
    }

    fn cells(self) -> [String; 9] {
        let time = |time: Option<Timestamp>| time.map(|time| format!("{time:.0}")).unwrap_or_default();
        let processes: Vec<_> = self.processes.iter().take(3).map(|id| format!("{id:08x}")).collect();
        let more = self.processes.len().saturating_sub(processes.len());
        let more = if more > 0 { format!(" +{more}") } else { String::new() };
        let state = match self.head.state {
            Some(SegmentState::Open) => "open",
            Some(SegmentState::Sealed) => "sealed",
            None => "",
        };
        [
            plain(&format!("{}/{}", self.head.stream, self.head.writer)).trim_end_matches('/').to_owned(),
            plain(&self.head.name).into_owned(),
            state.into(),
            time(self.first),
            time(self.last),
            processes.join(" ") + &more,
            self.entries.to_string(),
            text::bytes(self.head.bytes),
            self.reported.to_string(),
        ]
    }
}

/// The logs of a server as it lists them: their records may be those of a fleet, and are not read.
fn list_server(server: &ServerArguments) -> Result<String, CommandError> {
    let tell = &mut |event: Event<'_>| {
        if let Event::Notice(notice) = event {
            notice.tell();
        }
        Ok(())
    };
    let logs = server::list(server, tell)?;
    let entries: u64 = logs.iter().filter_map(|log| log.records).fold(0, u64::saturating_add);
    let bytes: u64 = logs.iter().map(|log| log.head.bytes).fold(0, u64::saturating_add);
    let summary = format!(
        "{entries} entries were ever stored in {} logs, {}; --instance LOG-ID shows times and processes of one",
        logs.len(),
        text::bytes(bytes)
    );
    let rows = logs.into_iter().map(|log| {
        [
            plain(&log.head.stream).into_owned(),
            plain(&log.head.name).into_owned(),
            log.first_seen.map(|time| format!("{time:.0}")).unwrap_or_default(),
            log.records.map(|records| records.to_string()).unwrap_or_default(),
            text::bytes(log.head.bytes),
        ]
    });
    let table = text::table(["COLLECTION", "LOG", "SINCE", "ENTRIES", "BYTES"], rows.collect(), 3);
    Ok(format!("{table}\n{summary}"))
}

fn list(source: &Source) -> Result<String, CommandError> {
    let mut lines: Vec<Line> = Vec::new();
    // The newest header of a directory counts all that it ever gave up.
    let mut dropped = std::collections::BTreeMap::new();
    source.read(None, &mut |event| {
        match event {
            Event::Notice(notice) => notice.tell(),
            Event::Log { .. } | Event::Stored { .. } => {}
            Event::Segment(head) => {
                let count = dropped.entry((head.stream.clone(), head.writer.clone())).or_insert(0_u64);
                *count = head.dropped.records.max(*count);
                lines.push(Line {
                    head: head.clone(),
                    entries: 0,
                    first: None,
                    last: None,
                    processes: BTreeSet::new(),
                    reported: 0,
                });
            }
            Event::Entry(entry) => {
                if let Some(line) = lines.last_mut() {
                    line.add(&entry);
                }
            }
        }
        Ok(())
    })?;
    let entries: u64 = lines.iter().map(|line| line.entries).sum();
    let bytes: u64 = lines.iter().map(|line| line.head.bytes).sum();
    let header =
        ["STREAM", "SEGMENT", "STATE", "FIRST", "LAST", "PROCESSES", "ENTRIES", "BYTES", "REPORTED DROPS"];
    let segments = lines.len();
    let table = text::table(header, lines.into_iter().map(Line::cells).collect(), 6);
    let mut listed = format!("{table}\n{entries} entries in {segments} segments, {}", text::bytes(bytes));
    for ((stream, writer), records) in dropped.into_iter().filter(|(_, records)| *records > 0) {
        let (stream, writer) = (plain(&stream).into_owned(), plain(&writer).into_owned());
        listed += &format!(
            "\n{stream}/{writer}: {records} records were given up when its newest segment was begun"
        );
    }
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use tuntrail_logserver::{Server, ServerConfig};

    use super::*;
    use crate::logs::tests::{PUBLIC, numbered, post, store_with, window};

    #[test]
    fn segments_are_listed_with_their_times_processes_and_states() {
        let store = store_with(&[window(1), window(2)]);
        let source = Source::Directory(store.path().to_owned());
        let open = list(&source).unwrap();
        assert!(open.contains("open") && open.contains("2 entries in 1 segments"), "{open}");
        let _directory = store.shutdown();
        let sealed = list(&source).unwrap();
        assert!(sealed.contains("sealed") && sealed.contains("netlog/ext"), "{sealed}");
        assert!(sealed.contains("2026-01-02T03:04:01Z"), "{sealed}");
    }

    #[test]
    fn logs_of_a_server_are_listed_without_their_records_and_one_in_full() {
        let server = Server::start(ServerConfig::default()).unwrap();
        post(&server, "netlog.example", &format!("[{},{}]", numbered(1), numbered(2)));
        let arguments = ServerArguments::at(&server.base_url());
        let listed = list_server(&arguments).unwrap();
        assert!(
            listed.contains(PUBLIC) && listed.contains("2 entries were ever stored in 1 logs"),
            "{listed}"
        );
        let one = list(&Source::Server(arguments.with_instance(PUBLIC))).unwrap();
        assert!(one.contains("00000007") && one.contains("2 entries in 1 segments"), "{one}");
    }
}
