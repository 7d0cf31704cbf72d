//! What a page tells, added up from all entries that a source tells of. Memory is bounded: what grows with the number of
//! peers, devices, pauses or problems is cut to the largest, and the rest counted.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tuntrail::flow::{FlowEvent, FlowEventKind, Message};

use super::{
    heaviest::Heaviest,
    losses::Losses,
    markup::cut,
    pauses::Pauses,
    timeline::{Series, Timeline},
};
use crate::{
    CommandError,
    logs::{
        Source,
        entry::{Body, Entry, Sockets},
        filter::Filter,
        gaps::Gaps,
        notice::Notice,
        row::{Row, rows},
        source::Event,
        steady::steadily,
    },
};

/// Devices whose names are kept; of more, nobody reads a list.
pub(super) const MAX_DEVICES: usize = 1_000;
/// Problems that are listed on the page; all of them are on standard error.
const MAX_NOTICES: usize = 100;
/// Upper ends of the classes of flow durations in seconds, and their names.
pub(super) const DURATIONS: [(f64, &str); 8] = [
    (0.1, "under 0.1 s"),
    (1.0, "0.1 to 1 s"),
    (10.0, "1 to 10 s"),
    (60.0, "10 to 60 s"),
    (600.0, "1 to 10 min"),
    (3_600.0, "10 to 60 min"),
    (14_400.0, "1 to 4 h"),
    (f64::INFINITY, "over 4 h"),
];

/// Sums of one class, peer or label.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) packets: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
}

impl Sum {
    fn of(row: &Row) -> Self {
        Self { packets: row.counts.packets(), sent: row.counts.tx_bytes, received: row.counts.rx_bytes }
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.sent.saturating_add(self.received)
    }

    pub(super) const fn add(&mut self, other: Self) {
        self.packets = self.packets.saturating_add(other.packets);
        self.sent = self.sent.saturating_add(other.sent);
        self.received = self.received.saturating_add(other.received);
    }
}

/// Bytes of a label of socket statistics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LabelSum {
    pub(super) all: Sum,
    /// Of these, in both directions, what went over a cellular network.
    pub(super) cellular: u64,
}

/// Who was at the other end: a class, and a node's name and ID or an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Talker {
    pub(super) class: Series,
    /// Empty where the record does not tell it.
    pub(super) name: String,
    /// A node's ID; or, of datagrams, where they went.
    pub(super) detail: String,
}

/// Entries of each kind that are on the page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Kinds {
    pub(super) windows: u64,
    pub(super) flow_events: u64,
    pub(super) sessions: u64,
    pub(super) samples: u64,
    /// Lines of our own log: they are not shown.
    pub(super) lines: u64,
    /// Of other programs or later versions: they are not shown.
    pub(super) others: u64,
    /// Told twice, and counted once.
    pub(super) repeated: u64,
}

/// Flow events.
#[derive(Debug, Default)]
pub(super) struct Flows {
    pub(super) opened: u64,
    pub(super) closed: u64,
    /// Closed flows by length.
    pub(super) durations: [u64; DURATIONS.len()],
    pub(super) reasons: BTreeMap<String, u64>,
    pub(super) longest: f64,
}

/// Everything on the page.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) kinds: Kinds,
    pub(super) first: Option<Timestamp>,
    pub(super) last: Option<Timestamp>,
    /// Devices that recorded: by ID, name and system.
    pub(super) devices: BTreeMap<String, (String, String)>,
    pub(super) timeline: Timeline,
    pub(super) classes: BTreeMap<Series, Sum>,
    pub(super) talkers: Heaviest<Talker>,
    pub(super) paths: Heaviest<Talker>,
    pub(super) overflow_packets: u64,
    pub(super) flows: Flows,
    /// At most one per number of 16 bits.
    pub(super) sockets: BTreeMap<u16, LabelSum>,
    pub(super) pauses: Pauses,
    pub(super) losses: Losses,
    pub(super) gaps: Gaps,
    /// Which numbers should be there.
    pub(super) numbers: Numbers,
    pub(super) notices: Vec<Notice>,
    pub(super) notices_left_out: u64,
    /// All that could not be read, listed or not.
    pub(super) damage: u64,
    /// Segments that went away while the others were read.
    gone: u64,
}

/// Which numbers of a process should be there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Numbers {
    /// All from the first that is: a store gives away what was sent.
    #[default]
    FromTheFirst,
    /// All from 1 that have not expired: at a server.
    All,
    /// Nobody knows. A server that is asked for what is new tells of some old entries, too: those without a time.
    Unknown,
}

impl Gathered {
    /// Adds up what `filter` wants of `source`.
    pub(super) fn of(source: &Source, filter: &Filter) -> Result<Self, CommandError> {
        steadily(&source.name(), || Self::once(source, filter), Self::is_doubtful)
    }

    fn once(source: &Source, filter: &Filter) -> Result<Self, CommandError> {
        let numbers = match (source, filter.since) {
            (Source::Server(_), None) => Numbers::All,
            (Source::Server(_), Some(_)) => Numbers::Unknown,
            _ => Numbers::FromTheFirst,
        };
        let mut gathered = Self { numbers, ..Self::default() };
        source.read(filter.since, &mut |event| {
            match event {
                Event::Segment(head) if numbers == Numbers::All => {
                    gathered.gaps.begin_log(&head.stream, &head.name);
                }
                Event::Segment(_) | Event::Log { .. } => {}
                Event::Stored { stream, name, records } => gathered.gaps.end_log(stream, name, records),
                Event::Notice(notice) => gathered.note(notice),
                Event::Entry(entry) => gathered.add(&entry, filter),
            }
            Ok(())
        })?;
        Ok(gathered)
    }

    /// How many numbers are missing without a report.
    pub(super) fn missing(&self) -> u64 {
        match self.numbers {
            Numbers::Unknown => 0,
            numbers => self.gaps.unexplained(numbers == Numbers::All),
        }
    }

    /// Whether what is missing may be what went away while this was reading: sent, between two segments that were read.
    pub(super) fn is_doubtful(&self) -> bool {
        self.gone > 0 && self.missing() > 0
    }

    /// Whether there is nothing to show.
    pub(super) fn is_empty(&self) -> bool {
        let Kinds { windows, flow_events, sessions, samples, lines: _, others: _, repeated: _ } = self.kinds;
        windows + flow_events + sessions + samples == 0
    }

    #[cfg(test)]
    pub(super) fn add_for_test(&mut self, line: &str) {
        self.add(&Entry::parse("netlog", line).unwrap(), &Filter::default());
    }

    fn note(&mut self, notice: Notice) {
        notice.tell();
        self.damage += u64::from(notice.is_damage);
        self.gone += u64::from(notice.is_gone);
        if self.notices.len() < MAX_NOTICES {
            self.notices.push(Notice {
                place: cut(&notice.place).into_owned(),
                what: notice.what.chars().take(300).collect(),
                ..notice
            });
        } else {
            self.notices_left_out += 1;
        }
    }

    fn add(&mut self, entry: &Entry, filter: &Filter) {
        if filter.stream.as_ref().is_some_and(|stream| *stream != entry.stream) {
            return;
        }
        if !self.gaps.add(entry) {
            self.kinds.repeated += 1;
            return;
        }
        self.losses.pass(entry);
        let all = rows(entry);
        // Drop reports have no time, class or address: they are shown whatever else is chosen.
        if matches!(entry.body, Body::Drops(_) | Body::LostSessions(_)) {
            let reason = filter.reason.as_ref();
            let wanted = all.iter().filter(|row| reason.is_none_or(|reason| *reason == row.reason));
            wanted.for_each(|row| self.losses.add(entry, row));
            return;
        }
        // So are pauses, as long as they are in the time that is.
        if let Some(row) = all.first()
            && filter.includes_time(row)
        {
            match &entry.body {
                Body::Window(message) => self.pauses.window(entry, message),
                Body::Sockets(sockets) => self.pauses.sample(sockets),
                _ => {}
            }
        }
        let mut wanted = all.iter().filter(|row| filter.matches(row)).peekable();
        let Some(first) = wanted.peek() else { return };
        self.cover(first);
        match &entry.body {
            Body::Window(message) => self.window(message, wanted),
            Body::Flow(event) => self.flow(event),
            Body::Session(_) => self.kinds.sessions += 1,
            Body::Sockets(sockets) => self.sample(sockets),
            Body::Log(_) => self.kinds.lines += 1,
            Body::Drops(_) | Body::LostSessions(_) | Body::Other => self.kinds.others += 1,
        }
    }

    fn cover(&mut self, row: &Row) {
        let Some(from) = row.time else { return };
        let to = row.end.unwrap_or(from).max(from);
        self.first = Some(self.first.map_or(from, |first| first.min(from)));
        self.last = Some(self.last.map_or(to, |last| last.max(to)));
    }

    fn window<'a>(&mut self, message: &Message, rows: impl Iterator<Item = &'a Row>) {
        self.kinds.windows += 1;
        self.overflow_packets = self.overflow_packets.saturating_add(message.overflow_packets);
        self.timeline.mark(message.start);
        self.timeline.mark(message.end);
        for row in rows {
            self.device(row, message);
            let Some(class) = Series::class(row.class) else { continue };
            let sum = Sum::of(row);
            self.timeline.add(message.start, class, sum.bytes());
            self.classes.entry(class).or_default().add(sum);
            let (id, name) = &row.peer;
            let node = if name.is_empty() { id } else { name };
            let far = row.dst.map(|end| end.to_string()).unwrap_or_default();
            // The datagrams carry what the other classes count.
            if class == Series::Physical {
                let inside = row.src.map(|end| end.to_string()).unwrap_or_default();
                let name = if node.is_empty() { inside } else { cut(node).into_owned() };
                self.paths.add(Talker { class, name, detail: far }, sum);
            } else if node.is_empty() {
                let name = row.dst.map(|end| end.ip.to_string()).unwrap_or_default();
                self.talkers.add(Talker { class, name, detail: String::new() }, sum);
            } else {
                let (name, detail) = (cut(node).into_owned(), cut(id).into_owned());
                self.talkers.add(Talker { class, name, detail }, sum);
            }
        }
    }

    fn device(&mut self, row: &Row, message: &Message) {
        if self.devices.len() < MAX_DEVICES && !self.devices.contains_key(&row.node.0) {
            let system = message.src_node.as_ref().map_or("", |node| node.os.as_str());
            let about = (cut(&row.node.1).into_owned(), cut(system).into_owned());
            self.devices.insert(row.node.0.clone(), about);
        }
    }

    fn flow(&mut self, event: &FlowEvent) {
        self.kinds.flow_events += 1;
        match event.kind {
            FlowEventKind::Open => self.flows.opened += 1,
            FlowEventKind::Update => {}
            FlowEventKind::Close => self.closed(event),
        }
    }

    fn closed(&mut self, event: &FlowEvent) {
        let flows = &mut self.flows;
        flows.closed += 1;
        let end = event.last_packet.or(event.end).unwrap_or(event.start);
        let seconds = end.duration_since(event.start).as_secs_f64();
        flows.longest = flows.longest.max(seconds);
        let class = DURATIONS.iter().position(|(end, _)| seconds < *end);
        if let Some(count) = class.and_then(|class| flows.durations.get_mut(class)) {
            *count += 1;
        }
        if let Some(reason) = event.reason {
            *flows.reasons.entry(format!("{reason:?}").to_lowercase()).or_default() += 1;
        }
    }

    fn sample(&mut self, sockets: &Sockets) {
        self.kinds.samples += 1;
        let series = if sockets.is_cellular() { Series::Cellular } else { Series::OtherNetwork };
        for (&label, &(sent, received)) in &sockets.bytes {
            let sum = Sum { packets: 0, sent, received };
            let of_label = self.sockets.entry(label).or_default();
            of_label.all.add(sum);
            if sockets.is_cellular() {
                of_label.cellular = of_label.cellular.saturating_add(sum.bytes());
            }
            if let Some(start) = sockets.start() {
                self.timeline.mark(start);
                self.timeline.add(start, series, sum.bytes());
            }
        }
    }
}
