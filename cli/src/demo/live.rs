//! The live table of flows: what the phone's records say, while the traffic runs.

use std::{
    collections::HashMap,
    io::{IsTerminal, Write, stdout},
    net::SocketAddr,
    time::{Duration, Instant},
};

use tuntrail::{
    flow::{ConnectionCounts, Message},
    hook::Protocol,
};

use crate::{CommandError, text};

/// Where the table goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Display {
    /// Redrawn in place.
    Terminal,
    /// One line per record: the output is a file or a pipe.
    Lines,
    /// Nothing: the summary alone is wanted.
    Silent,
}

impl Display {
    /// The display that suits standard output.
    pub(super) fn detect(silent: bool) -> Self {
        match (silent, stdout().is_terminal()) {
            (true, _) => Self::Silent,
            (false, true) => Self::Terminal,
            (false, false) => Self::Lines,
        }
    }
}

/// The traffic classes of a record, in the order in which they are shown.
pub(super) fn classes(message: &Message) -> [(&'static str, &[ConnectionCounts]); 4] {
    [
        ("virtual", &message.virtual_traffic),
        ("subnet", &message.subnet_traffic),
        ("exit", &message.exit_traffic),
        ("physical", &message.physical_traffic),
    ]
}

/// An endpoint of a record; what privacy removed is shown as `(hidden)`.
pub(super) fn endpoint(address: Option<SocketAddr>) -> String {
    match address {
        None => "(hidden)".to_owned(),
        Some(address) if address.port() == 0 => address.ip().to_string(),
        Some(address) => address.to_string(),
    }
}

type FlowKey = (&'static str, Protocol, Option<SocketAddr>, Option<SocketAddr>);

/// Sums the records of one node and shows them.
pub(super) struct LiveTable {
    display: Display,
    started: Instant,
    traffic_for: Duration,
    records: u64,
    flows: HashMap<FlowKey, Row>,
    lines_drawn: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Row {
    packets: u64,
    tx_bytes: u64,
    rx_bytes: u64,
    /// Number of the last record with this flow.
    last_record: u64,
}

/// Fits a terminal of 24 lines with the lines around the table.
const ROWS_SHOWN: usize = 14;

impl LiveTable {
    pub(super) fn new(display: Display, traffic_for: Duration) -> Self {
        Self {
            display,
            started: Instant::now(),
            traffic_for,
            records: 0,
            flows: HashMap::new(),
            lines_drawn: 0,
        }
    }

    /// Takes in one record and shows the new state.
    pub(super) fn update(&mut self, message: &Message) -> Result<(), CommandError> {
        self.records += 1;
        for (class, rows) in classes(message) {
            for flow in rows {
                let row = self.flows.entry((class, flow.protocol, flow.src, flow.dst)).or_default();
                row.packets += flow.counts.tx_packets + flow.counts.rx_packets;
                row.tx_bytes += flow.counts.tx_bytes;
                row.rx_bytes += flow.counts.rx_bytes;
                row.last_record = self.records;
            }
        }
        match self.display {
            Display::Silent => Ok(()),
            Display::Lines => self.print_line(message),
            Display::Terminal => self.redraw(),
        }
    }

    fn print_line(&self, message: &Message) -> Result<(), CommandError> {
        let mut line = format!("{:>6}  record {:<3}", text::seconds(self.started.elapsed()), self.records);
        for (class, rows) in classes(message) {
            let bytes = rows.iter().map(|row| row.counts.tx_bytes + row.counts.rx_bytes).sum();
            line.push_str(&format!("  {class} {} ({})", rows.len(), text::bytes(bytes)));
        }
        writeln!(stdout(), "{line}")?;
        Ok(())
    }

    fn redraw(&mut self) -> Result<(), CommandError> {
        let drawing = self.draw();
        let mut out = stdout().lock();
        if self.lines_drawn > 0 {
            // Up to the first line of the last drawing, and clear to the end of the screen.
            write!(out, "\x1b[{}A\x1b[J", self.lines_drawn)?;
        }
        self.lines_drawn = drawing.lines().count();
        writeln!(out, "{drawing}")?;
        out.flush()?;
        Ok(())
    }

    fn draw(&self) -> String {
        let mut rows: Vec<_> = self.flows.iter().collect();
        // Busy ones first; the key breaks ties, so that rows don't jump.
        rows.sort_by(|a, b| {
            let bytes = |row: &Row| row.tx_bytes + row.rx_bytes;
            bytes(b.1).cmp(&bytes(a.1)).then_with(|| (a.0.0, a.0.2, a.0.3).cmp(&(b.0.0, b.0.2, b.0.3)))
        });
        let shown = rows.iter().take(ROWS_SHOWN).map(|((class, protocol, src, dst), row)| {
            let protocol = if *protocol == Protocol::UNKNOWN { "-".to_owned() } else { protocol.to_string() };
            [
                if row.last_record == self.records { "*" } else { "" }.to_owned(),
                (*class).to_owned(),
                protocol,
                endpoint(*src),
                endpoint(*dst),
                row.packets.to_string(),
                text::bytes(row.tx_bytes),
                text::bytes(row.rx_bytes),
            ]
        });
        let header = ["", "class", "proto", "src", "dst", "packets", "sent", "received"];
        let table = text::table(header, shown.collect(), 5);
        let elapsed = self.started.elapsed().min(self.traffic_for);
        let more = rows.len().saturating_sub(ROWS_SHOWN);
        format!(
            "{} of {}, record {} of the phone, {} flows (* in this record)\n{table}{}",
            text::seconds(elapsed),
            text::seconds(self.traffic_for),
            self.records,
            rows.len(),
            if more > 0 { format!("\n… and {more} more") } else { String::new() },
        )
    }
}
