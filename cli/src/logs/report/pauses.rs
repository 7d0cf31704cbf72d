//! Times in which a device slept, was silent or had the wrong time, as far as records tell. Pure.
//!
//! How each is recognised is said on the page, in the words of [`Kind::explanation`]. All of it follows from windows of flow
//! records: their `start` is wall-clock time, their `end` is that plus the monotonic time that passed, suspend included;
//! and from samples of socket statistics, which are due after a tenth of a second.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use tuntrail::flow::Message;

use super::markup::cut;
use crate::logs::entry::{Entry, Sockets};

/// Pauses of each kind that are kept, the longest ones.
pub(super) const MAX_LISTED: usize = 25;
/// Devices whose last window is remembered; of more, some pauses are not seen.
const MAX_DEVICES: usize = 1_000;
/// A window is due after 5 s, unless the app says otherwise: [`Lengths`].
const LATE_WINDOW: SignedDuration = SignedDuration::from_secs(10);
/// A sample is due after 0.1 s. Fifty times that is no busy device.
const LATE_SAMPLE: SignedDuration = SignedDuration::from_secs(5);
/// The usual keepalive of 25 s makes a window at least as often; four of them are missing then.
const SILENCE: SignedDuration = SignedDuration::from_secs(120);
/// More than a clock is corrected by while it runs.
const CLOCK_STEP: SignedDuration = SignedDuration::from_secs(2);

/// What kind of pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Asleep,
    Silent,
    Stopped,
    ClockBack,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Asleep, Self::Silent, Self::Stopped, Self::ClockBack];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Asleep => "asleep",
            Self::Silent => "silent",
            Self::Stopped => "not running",
            Self::ClockBack => "clock set back",
        }
    }

    pub(super) const fn explanation(self) -> &'static str {
        match self {
            Self::Asleep => {
                "a window or a sample was closed long after it was due: the device was suspended, or the process was not \
                 given the processor (a window: more than 10 s and twice the usual length; a sample: more than 5 s)"
            }
            Self::Silent => {
                "one process recorded no traffic for 2 minutes or more: asleep, offline, or nothing to send; records can't \
                 tell which"
            }
            Self::Stopped => {
                "2 minutes or more between the last window of one process and the first of the next: the tunnel or the \
                 device was off, or nothing was sent around the restart"
            }
            Self::ClockBack => {
                "a window begins more than 2 s before the one before it ended: the device's clock was set back, times \
                 around it are doubtful"
            }
        }
    }
}

/// One pause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pause {
    pub(super) kind: Kind,
    pub(super) start: Timestamp,
    pub(super) length: SignedDuration,
    /// The device, and what showed it.
    pub(super) node: String,
    pub(super) seen_in: &'static str,
}

/// The longest pauses of one kind.
#[derive(Debug, Default)]
struct Longest {
    kept: Vec<Pause>,
    seen: u64,
}

impl Longest {
    /// Sorting twenty times more seldom than every time.
    const ROOM: usize = 20 * MAX_LISTED;

    fn add(&mut self, pause: Pause) {
        self.seen += 1;
        self.kept.push(pause);
        if self.kept.len() >= Self::ROOM {
            self.cut(Self::ROOM / 2);
        }
    }

    fn cut(&mut self, most: usize) {
        self.kept.sort_by(|a, b| b.length.cmp(&a.length).then_with(|| a.start.cmp(&b.start)));
        self.kept.truncate(most);
    }
}

/// How many windows had which length, to tell late ones from long ones.
#[derive(Debug)]
struct Lengths {
    /// By length in whole seconds; the last is for all longer ones.
    counts: Vec<u64>,
}

impl Default for Lengths {
    fn default() -> Self {
        // An app sets windows of minutes at most.
        Self { counts: vec![0; 3_600] }
    }
}

impl Lengths {
    fn add(&mut self, length: SignedDuration) {
        let last = self.counts.len().saturating_sub(1);
        let index = usize::try_from(length.as_secs()).unwrap_or(0).min(last);
        if let Some(count) = self.counts.get_mut(index) {
            *count += 1;
        }
    }

    /// The most frequent length in whole seconds; 0 if none is.
    fn usual(&self) -> i64 {
        // Of lengths that are equally frequent the first: a few late windows don't look usual.
        let usual = self.counts.iter().enumerate().rev().max_by_key(|(_, count)| **count);
        usual.filter(|(_, count)| **count > 1).map_or(0, |(index, _)| index as i64)
    }

    /// From which length on a window is late.
    fn late(&self) -> SignedDuration {
        LATE_WINDOW.max(SignedDuration::from_secs(2 * (self.usual() + 1)))
    }
}

struct Last {
    proc_id: Option<u32>,
    proc_seq: Option<u64>,
    start: Timestamp,
    end: Timestamp,
}

/// Everything seen so far.
#[derive(Default)]
pub(super) struct Pauses {
    lengths: Lengths,
    late_windows: Longest,
    late_samples: Longest,
    silent: Longest,
    stopped: Longest,
    clock_back: Longest,
    /// By stream, log and node.
    last: BTreeMap<(String, String, String), Last>,
}

/// What is shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// In the order of time.
    pub(super) pauses: Vec<Pause>,
    /// How many of each kind there were, in the order of [`Kind::ALL`]. Late windows are counted as far as they are kept.
    pub(super) seen: [u64; 4],
}

impl Pauses {
    pub(super) fn window(&mut self, entry: &Entry, message: &Message) {
        let length = message.end.duration_since(message.start);
        let node = message.src_node.as_ref().map(|node| node.name.as_str()).filter(|name| !name.is_empty());
        let node = || cut(node.unwrap_or(&message.node_id)).into_owned();
        let key = (
            cut(&entry.stream).into_owned(),
            cut(&entry.log).into_owned(),
            cut(&message.node_id).into_owned(),
        );
        let pause =
            |kind, start, length| Pause { kind, start, length, node: node(), seen_in: "flow records" };
        let before = self.last.get(&key);
        // A large window is several records.
        if before.is_some_and(|last| last.proc_id == entry.proc_id && last.start == message.start) {
            return;
        }
        self.lengths.add(length);
        if length > LATE_WINDOW {
            self.late_windows.add(pause(Kind::Asleep, message.start, length));
        }
        if let Some(last) = before {
            let between = message.start.duration_since(last.end);
            let is_same = last.proc_id == entry.proc_id;
            if between >= SILENCE {
                let (kind, list) = if is_same {
                    (Kind::Silent, &mut self.silent)
                } else {
                    (Kind::Stopped, &mut self.stopped)
                };
                list.add(pause(kind, last.end, between));
            } else if between < -CLOCK_STEP && is_same && last.proc_seq < entry.proc_seq {
                self.clock_back.add(pause(Kind::ClockBack, last.end, -between));
            }
        }
        if before.is_some() || self.last.len() < MAX_DEVICES {
            let (proc_id, proc_seq) = (entry.proc_id, entry.proc_seq);
            self.last.insert(key, Last { proc_id, proc_seq, start: message.start, end: message.end });
        }
    }

    pub(super) fn sample(&mut self, sockets: &Sockets) {
        let length = SignedDuration::from_millis(i64::try_from(sockets.duration_ms).unwrap_or(i64::MAX));
        if length > LATE_SAMPLE
            && let Some(start) = sockets.start()
        {
            let (kind, seen_in) = (Kind::Asleep, "socket statistics");
            self.late_samples.add(Pause { kind, start, length, node: String::new(), seen_in });
        }
    }

    /// The usual length of a window in seconds: nothing is known more finely.
    pub(super) fn usual_window(&self) -> i64 {
        self.lengths.usual().max(1)
    }

    pub(super) fn listed(mut self) -> Listed {
        let late = self.lengths.late();
        let before = self.late_windows.kept.len();
        self.late_windows.kept.retain(|pause| pause.length > late);
        if self.late_windows.kept.len() < before {
            self.late_windows.seen = self.late_windows.kept.len() as u64;
        }
        let asleep = self.late_windows.seen + self.late_samples.seen;
        let seen = [asleep, self.silent.seen, self.stopped.seen, self.clock_back.seen];
        let mut pauses = Vec::new();
        let lists = [self.late_windows, self.late_samples, self.silent, self.stopped, self.clock_back];
        for mut list in lists {
            list.cut(MAX_LISTED);
            pauses.append(&mut list.kept);
        }
        pauses.sort_by_key(|pause| (pause.start, pause.kind));
        Listed { pauses, seen }
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        let lists = [&self.late_windows, &self.late_samples, &self.silent, &self.stopped, &self.clock_back];
        lists.iter().map(|list| list.kept.len()).sum::<usize>() + self.last.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::entry::Body;

    /// A window of process `process` with number `seq`, from second `start` to `end`.
    fn add(pauses: &mut Pauses, process: u32, seq: u64, start: i64, end: i64) {
        let time = |second: i64| Timestamp::from_second(1_767_323_045 + second).unwrap();
        let line = format!(
            r#"{{"logtail":{{"proc_id":{process},"proc_seq":{seq}}},"nodeId":"n1","start":"{}","end":"{}"}}"#,
            time(start),
            time(end)
        );
        let entry = Entry::parse("netlog", &line).unwrap();
        let Body::Window(message) = &entry.body else { panic!("no window") };
        pauses.window(&entry, message);
    }

    fn found(pauses: Pauses) -> Vec<(Kind, i64)> {
        pauses.listed().pauses.iter().map(|pause| (pause.kind, pause.length.as_secs())).collect()
    }

    #[test]
    fn each_kind_is_told_from_the_others() {
        let mut pauses = Pauses::default();
        for (process, seq, start, end) in [
            (7, 1, 0, 5),
            (7, 2, 5, 10),
            // Closed late.
            (7, 3, 10, 3_610),
            // One window in two records.
            (7, 4, 3_610, 3_615),
            (7, 5, 3_610, 3_615),
            // Nothing for ten minutes.
            (7, 6, 4_215, 4_220),
            // Another process after an hour.
            (8, 1, 7_820, 7_825),
            // The clock is set back by a minute.
            (8, 2, 7_765, 7_770),
            (8, 3, 7_770, 7_775),
        ] {
            add(&mut pauses, process, seq, start, end);
        }
        let expected =
            [(Kind::Asleep, 3_600), (Kind::Silent, 600), (Kind::Stopped, 3_600), (Kind::ClockBack, 60)];
        assert_eq!(found(pauses), expected);
    }

    #[test]
    fn windows_that_are_always_long_are_not_late() {
        let mut pauses = Pauses::default();
        for index in 0..20 {
            add(&mut pauses, 7, 1 + index as u64, index * 60, index * 60 + 60);
        }
        add(&mut pauses, 7, 21, 1_200, 1_400);
        assert_eq!(found(pauses), [(Kind::Asleep, 200)]);
    }

    #[test]
    fn entries_in_the_order_of_a_server_are_no_clock_that_is_set_back() {
        let mut pauses = Pauses::default();
        for (seq, start) in [(1, 0), (3, 20), (2, 10), (4, 30)] {
            add(&mut pauses, 7, seq, start, start + 5);
        }
        assert_eq!(found(pauses), []);
    }

    #[test]
    fn many_pauses_are_counted_and_few_are_kept() {
        let mut pauses = Pauses::default();
        for index in 0..20_000 {
            add(&mut pauses, 7, index as u64, index * 1_000, index * 1_000 + 5 + index % 400);
            assert!(pauses.kept() < 2_000);
        }
        let listed = pauses.listed();
        assert_eq!(listed.seen[1], 19_999);
        assert!(listed.pauses.len() <= 5 * MAX_LISTED, "{}", listed.pauses.len());
    }

    #[test]
    fn a_late_sample_is_a_sleep_and_an_absurd_one_does_no_harm() {
        let mut pauses = Pauses::default();
        for line in [
            r#"{"t":1700000000123,"d":100,"s":{"8":[1,1]}}"#,
            r#"{"t":1700000000123,"d":60000,"s":{"8":[1,1]}}"#,
            r#"{"t":9223372036854775807,"d":18446744073709551615,"s":{"8":[1,1]}}"#,
        ] {
            let Body::Sockets(sockets) = Entry::parse("sockstats", line).unwrap().body else { panic!() };
            pauses.sample(&sockets);
        }
        assert_eq!(found(pauses), [(Kind::Asleep, 60)]);
    }
}
