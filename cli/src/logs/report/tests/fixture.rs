//! A day of one phone, as an unpacked export: hours of traffic, a lunch break in suspend, silence, a restart, a clock that is
//! set back, a commute on a cellular network, and drops. Made without chance, so that pages can be compared; what it adds up
//! to is added up here anew.

use std::{collections::BTreeMap, fs, path::Path};

use jiff::Timestamp;

/// 2026-01-02 06:00 UTC.
const MORNING: i64 = 1_767_333_600;
const MINUTES: i64 = 16 * 60;

/// Sent, received, packets.
pub(super) type Sums = (u64, u64, u64);

/// What the page must say.
#[derive(Debug, Default)]
pub(super) struct Expected {
    pub(super) classes: BTreeMap<&'static str, Sums>,
    /// By node name or address, of the inner classes.
    pub(super) peers: BTreeMap<String, Sums>,
    /// Sent, received, and cellular of both.
    pub(super) labels: BTreeMap<u16, (u64, u64, u64)>,
    pub(super) closed_flows: u64,
    pub(super) reasons: BTreeMap<&'static str, u64>,
    pub(super) dropped: u64,
}

/// Streams by name with their lines.
pub(super) struct Day {
    pub(super) streams: BTreeMap<&'static str, Vec<String>>,
    pub(super) expected: Expected,
    /// Process, and next number per stream.
    process: u32,
    numbers: BTreeMap<&'static str, u64>,
    random: u64,
}

impl Day {
    pub(super) fn new() -> Self {
        let mut day = Self {
            streams: BTreeMap::new(),
            expected: Expected::default(),
            process: 0x5a3c_91e7,
            numbers: BTreeMap::new(),
            random: 42,
        };
        (0..MINUTES).for_each(|minute| day.minute(minute));
        day
    }

    /// Writes the day as an unpacked export.
    pub(super) fn write(&self, directory: &Path) {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join("manifest.json"), r#"{"version":1}"#).unwrap();
        for (stream, lines) in &self.streams {
            fs::create_dir(directory.join(stream)).unwrap();
            fs::write(directory.join(stream).join("0.jsonl"), lines.join("\n") + "\n").unwrap();
        }
        fs::write(directory.join("summary.json"), "{}").unwrap();
    }

    fn minute(&mut self, minute: i64) {
        let start = MORNING + minute * 60;
        match minute {
            // The first record tells of what was lost in the night.
            0 => self.drops(
                r#"{"reason":"rotation","records":288,"bytes":391680,"proc_id":305419896,"from_seq":1,"to_seq":288},{"reason":"queue_full","records":4,"bytes":5120}"#,
                292,
            ),
            // Lunch: a window that stays open while the phone sleeps.
            390 => return self.window(start, 4_380, minute),
            391..464 => return,
            // Silence, twice.
            200..218 | 640..662 => return,
            // A restart after some time.
            760..768 => return,
            768 => {
                self.process = 0x77b2_04d1;
                self.numbers.clear();
                self.drops(
                    r#"{"reason":"corrupt","records":1,"bytes":1312,"proc_id":1513918951,"from_seq":3000,"to_seq":3000}"#,
                    1,
                );
            }
            _ => {}
        }
        // The clock is found to be fast and set back.
        let start = if minute >= 850 { start - 90 } else { start };
        for turn in 0..3 {
            self.window(start + turn * 20, 5, minute);
        }
        self.flows(start, minute);
        for turn in 0..2 {
            self.sample(start + turn * 30, minute);
        }
    }

    fn next(&mut self, below: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    fn push(&mut self, stream: &'static str, time: Option<i64>, members: &str) {
        let number = self.numbers.entry(stream).or_insert(0);
        *number += 1;
        let time = time.map(|time| format!(r#""client_time":"{}","#, at(time))).unwrap_or_default();
        let envelope = format!(r#"{{"logtail":{{{time}"proc_id":{},"proc_seq":{number}}}"#, self.process);
        self.streams.entry(stream).or_default().push(format!("{envelope},{members}}}"));
    }

    fn drops(&mut self, drops: &str, records: u64) {
        self.expected.dropped += records;
        self.push("netlog", None, &format!(r#""tuntrail":{{"drops":[{drops}]}}"#));
    }

    /// How busy the day is, in percent.
    fn busy(minute: i64) -> u64 {
        let wave = (minute as f64 / 75.0).sin().abs() * 60.0 + 12.0;
        // A backup in the evening.
        let backup = if (700..745).contains(&minute) { 170.0 } else { 0.0 };
        (wave + backup) as u64
    }

    fn window(&mut self, start: i64, seconds: i64, minute: i64) {
        const PEERS: [(&str, &str, &str); 4] = [
            ("n2ROUTER", "router.example.com", "100.64.0.2"),
            ("n3FILES", "files.example.com", "100.64.0.3"),
            ("n4BUILD", "build.example.com", "100.64.0.4"),
            ("n5PRINT", "printer.example.com", "100.64.0.5"),
        ];
        let busy = Self::busy(minute);
        let mut virtuals = Vec::new();
        for (index, (_, name, address)) in PEERS.into_iter().enumerate() {
            let weight = [9, 30, 14, 1][index] * busy;
            let row =
                self.row(&format!(r#""proto":6,"src":"100.64.0.1:49325","dst":"{address}:443","#), weight);
            self.carried("virtual", Some(name), row.1);
            virtuals.push(row.0);
        }
        let mut subnets = Vec::new();
        for (address, weight) in [("10.20.0.53", 1), ("10.20.0.80", 12), ("10.20.7.9", 4)] {
            let weight = weight * busy;
            let row =
                self.row(&format!(r#""proto":17,"src":"100.64.0.1:49325","dst":"{address}:53","#), weight);
            self.carried("subnet", Some(address), row.1);
            subnets.push(row.0);
        }
        let exit = self.row(r#""src":"100.64.0.1:0","#, busy * if minute > 760 { 44 } else { 11 });
        self.carried("exit", Some(""), exit.1);
        let physical = self.row(r#""src":"100.64.0.2:0","dst":"203.0.113.9:51820","#, busy * 100);
        self.carried("physical", None, physical.1);
        let nodes: Vec<_> = PEERS
            .iter()
            .map(|(id, name, address)| {
                format!(r#"{{"nodeId":"{id}","name":"{name}","addresses":["{address}"]}}"#)
            })
            .collect();
        let members = format!(
            r#""nodeId":"n1PHONE","start":"{}","end":"{}","srcNode":{{"nodeId":"n1PHONE","name":"phone.example.com","os":"android"}},"dstNodes":[{}],"virtualTraffic":[{}],"subnetTraffic":[{}],"exitTraffic":[{}],"physicalTraffic":[{}]"#,
            at(start),
            at(start + seconds),
            nodes.join(","),
            virtuals.join(","),
            subnets.join(","),
            exit.0,
            physical.0
        );
        self.push("netlog", Some(start + seconds), &members);
    }

    fn row(&mut self, ends: &str, weight: u64) -> (String, Sums) {
        let sent = weight * (100 + self.next(200));
        let received = weight * (700 + self.next(1_500));
        let (tx, rx) = (sent / 300 + 1, received / 1_200 + 1);
        let row = format!(r#"{{{ends}"txPkts":{tx},"txBytes":{sent},"rxPkts":{rx},"rxBytes":{received}}}"#);
        (row, (sent, received, tx + rx))
    }

    fn carried(&mut self, class: &'static str, peer: Option<&str>, (sent, received, packets): Sums) {
        let add = |sums: &mut Sums| *sums = (sums.0 + sent, sums.1 + received, sums.2 + packets);
        add(self.expected.classes.entry(class).or_default());
        if let Some(peer) = peer {
            add(self.expected.peers.entry(peer.to_owned()).or_default());
        }
    }

    fn flows(&mut self, start: i64, minute: i64) {
        const REASONS: [(&str, u64); 4] = [("fin", 70), ("idle", 22), ("rst", 6), ("evicted", 2)];
        for _ in 0..1 + Self::busy(minute) / 30 {
            let magnitude = self.next(5) as u32;
            let millis = 20 * 7_u64.pow(magnitude) + self.next(40 * 7_u64.pow(magnitude));
            let mut dice = self.next(100);
            let reason = REASONS.into_iter().find(|(_, share)| {
                let hit = dice < *share;
                dice = dice.saturating_sub(*share);
                hit
            });
            let (reason, _) = reason.unwrap_or(("fin", 0));
            let id = format!("{:016x}{:016x}", self.next(u64::MAX), self.next(u64::MAX));
            let flow = format!(
                r#""id":"{id}","role":"initiator","proto":6,"src":"100.64.0.1:50000","dst":"100.64.0.3:443","start":"{}""#,
                at(start)
            );
            self.push("flowlog", Some(start), &format!(r#""event":"open",{flow}"#));
            let last = Timestamp::from_millisecond(start * 1_000 + millis as i64).unwrap();
            let close =
                format!(r#""event":"close",{flow},"lastPacket":"{last}","end":"{last}","reason":"{reason}""#);
            self.push("flowlog", Some(start + 1), &close);
            self.expected.closed_flows += 1;
            *self.expected.reasons.entry(reason).or_default() += 1;
        }
    }

    fn sample(&mut self, start: i64, minute: i64) {
        let is_cellular = (60..115).contains(&minute) || (675..760).contains(&minute);
        let busy = Self::busy(minute);
        let mut labels = Vec::new();
        for (label, weight) in [(10, 2), (3, 1), (64, 24), (8, 100), (65, 3)] {
            let (sent, received) = (busy * weight * self.next(40), busy * weight * self.next(160));
            labels.push(format!(r#""{label}":[{sent},{received}]"#));
            let sums = self.expected.labels.entry(label).or_default();
            let cellular = if is_cellular { sent + received } else { 0 };
            *sums = (sums.0 + sent, sums.1 + received, sums.2 + cellular);
        }
        let cellular = if is_cellular { r#""c":1,"# } else { "" };
        let members = format!(r#""t":{},"d":100,{cellular}"s":{{{}}}"#, start * 1_000, labels.join(","));
        self.push("sockstats", Some(start), &members);
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}
