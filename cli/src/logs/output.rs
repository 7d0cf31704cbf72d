//! Rows as tables, CSV and JSON lines, written as they come.
//!
//! Columns have fixed widths, so that nothing has to be held back; a longer cell moves what is behind it. Names in records
//! come from other people's devices: control characters, which could rewrite a terminal, are never written.

use std::{borrow::Cow, io::Write};

use clap::ValueEnum;

use super::{
    entry::Entry,
    row::{Kind, Row, protocol_name},
};
use crate::text;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns, other ones for each kind of record.
    #[default]
    Table,
    /// The entries themselves, one JSON object per line, as they would be uploaded. An entry is written whole if one of
    /// its rows is wanted.
    Jsonl,
    /// The same columns for all kinds; bytes are plain numbers.
    Csv,
}

/// Writes rows.
pub(crate) struct Output<W> {
    out: W,
    format: Format,
    /// The kind whose header was written last.
    kind: Option<Kind>,
    has_rows: bool,
}

impl<W: Write> Output<W> {
    pub(crate) fn new(out: W, format: Format) -> Self {
        Self { out, format, kind: None, has_rows: false }
    }

    /// Writes those of an entry's rows that are wanted.
    pub(crate) fn write(&mut self, entry: &Entry, rows: &[Row]) -> std::io::Result<()> {
        self.has_rows |= !rows.is_empty();
        match self.format {
            Format::Jsonl if rows.is_empty() => Ok(()),
            Format::Jsonl => writeln!(self.out, "{}", escaped(&entry.line)),
            Format::Csv => rows.iter().try_for_each(|row| self.csv(row)),
            Format::Table => rows.iter().try_for_each(|row| self.table(row)),
        }
    }

    /// Whether nothing was written.
    pub(crate) const fn is_empty(&self) -> bool {
        !self.has_rows
    }

    /// Writes what is buffered.
    pub(crate) fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }

    fn csv(&mut self, row: &Row) -> std::io::Result<()> {
        if self.kind.is_none() {
            let names: Vec<_> = csv_cells(row).into_iter().map(|(name, _)| name).collect();
            writeln!(self.out, "{}", names.join(","))?;
            self.kind = Some(row.kind);
        }
        let cells: Vec<_> = csv_cells(row).iter().map(|(_, cell)| quote(&plain(cell)).into_owned()).collect();
        writeln!(self.out, "{}", cells.join(","))
    }

    fn table(&mut self, row: &Row) -> std::io::Result<()> {
        let cells = table_cells(row);
        if self.kind != Some(row.kind) {
            if self.kind.is_some() {
                writeln!(self.out)?;
            }
            let names = cells.iter().map(|cell| (cell.name.to_uppercase(), cell.width, cell.right));
            writeln!(self.out, "{}", align(names))?;
            self.kind = Some(row.kind);
        }
        let texts = cells.iter().map(|cell| (plain(&cell.text).into_owned(), cell.width, cell.right));
        writeln!(self.out, "{}", align(texts))
    }
}

struct Cell {
    name: &'static str,
    text: String,
    width: usize,
    right: bool,
}

/// The columns of a kind. Widths fit an IPv4 address with port, and most of what there is.
fn table_cells(row: &Row) -> Vec<Cell> {
    let left = |name, text: String, width| Cell { name, text, width, right: false };
    let right = |name, text: String, width| Cell { name, text, width, right: true };
    let size = |name, bytes| right(name, text::bytes(bytes), 10);
    let time = left("time", row.time.map(|time| format!("{time:.3}")).unwrap_or_default(), 24);
    let end = |end: Option<super::row::Endpoint>| end.map(|end| end.to_string()).unwrap_or_default();
    let source = left("source", end(row.src), 22);
    let destination = left("destination", end(row.dst), 22);
    let protocol = left("proto", row.protocol.map(protocol_name).unwrap_or_default(), 6);
    let sent = size("sent", row.counts.tx_bytes);
    let received = size("received", row.counts.rx_bytes);
    let name = |(id, name): &(String, String)| if name.is_empty() { id.clone() } else { name.clone() };
    match row.kind {
        Kind::Window => vec![
            time,
            left("node", name(&row.node), 18),
            left("class", row.class.into(), 8),
            protocol,
            source,
            destination,
            right("tx pkts", row.counts.tx_packets.to_string(), 8),
            sent,
            right("rx pkts", row.counts.rx_packets.to_string(), 8),
            received,
            left("peer", name(&row.peer), 0),
        ],
        Kind::Flow => vec![
            time,
            left("event", row.event.into(), 6),
            protocol,
            source,
            destination,
            sent,
            received,
            right("lasted", duration(row), 9),
            left("reason", row.reason.clone(), 8),
            left("flow", row.id.clone(), 0),
        ],
        Kind::Session => vec![
            time,
            left("resource", row.label.clone(), 12),
            protocol,
            source,
            destination,
            sent,
            received,
            right("lasted", duration(row), 9),
            right("conns", row.records.unwrap_or(1).to_string(), 5),
            left("outcome", row.reason.clone(), 8),
            left("session", row.id.clone(), 0),
        ],
        Kind::Sockets => vec![
            time,
            left("label", row.label.clone(), 20),
            sent,
            received,
            right("lasted", duration(row), 9),
            left("cellular", if row.cellular == Some(true) { "yes" } else { "no" }.into(), 0),
        ],
        Kind::Drop => vec![
            left("dropped from", row.stream.clone(), 16),
            left("reason", row.reason.clone(), 18),
            right("records", row.records.unwrap_or_default().to_string(), 8),
            size("bytes", row.counts.rx_bytes),
            left("process and numbers", row.text.clone(), 0),
        ],
        Kind::Log => vec![
            time,
            left("level", row.event.into(), 5),
            left("target", row.label.clone(), 24),
            left("message", row.text.clone(), 0),
        ],
        Kind::Other => vec![time, left("stream", row.stream.clone(), 12), left("entry", row.text.clone(), 0)],
    }
}

fn duration(row: &Row) -> String {
    let (Some(start), Some(end)) = (row.time, row.end) else { return String::new() };
    format!("{:.1} s", end.duration_since(start).as_secs_f64())
}

fn align(cells: impl Iterator<Item = (String, usize, bool)>) -> String {
    let mut line = String::new();
    for (index, (text, width, right)) in cells.enumerate() {
        let gap = if index > 0 { "  " } else { "" };
        line += gap;
        line += &if right { format!("{text:>width$}") } else { format!("{text:<width$}") };
    }
    line.truncate(line.trim_end().len());
    line
}

fn csv_cells(row: &Row) -> Vec<(&'static str, String)> {
    let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    let time = |time: Option<jiff::Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
    let end = |end: Option<super::row::Endpoint>| end.map(|end| end.ip.to_string()).unwrap_or_default();
    let port = |end: Option<super::row::Endpoint>| number(end.and_then(|end| end.port).map(u64::from));
    vec![
        ("kind", row.kind.name().into()),
        ("stream", row.stream.clone()),
        ("proc_id", number(row.proc_id.map(u64::from))),
        ("proc_seq", number(row.proc_seq)),
        ("start", time(row.time)),
        ("end", time(row.end)),
        ("node_id", row.node.0.clone()),
        ("node_name", row.node.1.clone()),
        ("peer_id", row.peer.0.clone()),
        ("peer_name", row.peer.1.clone()),
        ("class", row.class.into()),
        ("protocol", number(row.protocol.map(u64::from))),
        ("source", end(row.src)),
        ("source_port", port(row.src)),
        ("destination", end(row.dst)),
        ("destination_port", port(row.dst)),
        ("tx_packets", row.counts.tx_packets.to_string()),
        ("tx_bytes", row.counts.tx_bytes.to_string()),
        ("rx_packets", row.counts.rx_packets.to_string()),
        ("rx_bytes", row.counts.rx_bytes.to_string()),
        ("id", row.id.clone()),
        ("event", row.event.into()),
        ("reason", row.reason.clone()),
        ("label", row.label.clone()),
        ("cellular", row.cellular.map(|cellular| cellular.to_string()).unwrap_or_default()),
        ("records", number(row.records)),
        ("text", row.text.clone()),
    ]
}

/// A field of a CSV file (RFC 4180). What a spreadsheet would take for a formula gets an apostrophe in front.
fn quote(field: &str) -> Cow<'_, str> {
    let formula = field.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if !formula && !field.contains([',', '"', '\n', '\r']) {
        return Cow::Borrowed(field);
    }
    let apostrophe = if formula { "'" } else { "" };
    Cow::Owned(format!("\"{apostrophe}{}\"", field.replace('"', "\"\"")))
}

/// A text without characters that do something to a terminal, or to the direction of writing.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if text.contains(acts) { Cow::Owned(text.replace(acts, "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// JSON on one line that says the same without such characters. Below U+0020 it has none, and the others stand in its strings
/// alone.
fn escaped(json: &str) -> Cow<'_, str> {
    if !json.contains(acts) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match c {
            // White space between members.
            '\t' | '\r' | '\n' => escaped.push(' '),
            // All of them have four digits.
            c if acts(c) => escaped += &format!("\\u{:04x}", u32::from(c)),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::row::rows;

    fn written(format: Format, lines: &[&str]) -> String {
        let mut output = Output::new(Vec::new(), format);
        for line in lines {
            let entry = Entry::parse("netlog", line).unwrap();
            output.write(&entry, &rows(&entry)).unwrap();
        }
        String::from_utf8(output.out).unwrap()
    }

    const HOSTILE: &str = r#"{"nodeId":"=cmd","start":"2026-01-02T03:04:05Z","end":"2026-01-02T03:04:10Z","srcNode":{"name":"a,\"b\"\u001b[2J"},"virtualTraffic":[{"proto":6,"src":"100.64.0.1:5","dst":"100.64.0.2:22","txBytes":2048}]}"#;

    #[test]
    fn fields_are_quoted_where_needed_and_never_formulas() {
        assert_eq!(quote("plain"), "plain");
        assert_eq!(quote("a,b"), "\"a,b\"");
        assert_eq!(quote("say \"x\""), "\"say \"\"x\"\"\"");
        assert_eq!(quote("two\nlines"), "\"two\nlines\"");
        assert_eq!(quote("=1+1"), "\"'=1+1\"");
        let csv = written(Format::Csv, &[HOSTILE, HOSTILE]);
        assert!(csv.starts_with("kind,stream,proc_id"), "{csv}");
        assert_eq!(csv.matches("kind,stream").count(), 1);
        assert!(csv.contains(",\"'=cmd\",\"a,\"\"b\"\"\u{fffd}[2J\""), "{csv}");
        let tab = HOSTILE.replace("=cmd", "\\t=cmd\u{9b}\u{202e}");
        let csv = written(Format::Csv, &[&tab]);
        assert!(!csv.contains(|c| acts(c) && c != '\n'), "{csv:?}");
    }

    #[test]
    fn a_table_has_a_header_per_kind_and_no_control_characters() {
        let sockets = r#"{"t":1700000000123,"d":100,"s":{"8":[148,92]}}"#;
        let table = written(Format::Table, &[HOSTILE, HOSTILE, sockets]);
        assert_eq!(table.matches("TIME").count(), 2, "{table}");
        assert!(table.contains("2.0 KiB") && table.contains("MagicsockConnUDP4"), "{table}");
        assert!(!table.contains('\u{1b}') && table.contains("\u{fffd}[2J"), "{table}");
    }

    #[test]
    fn json_lines_are_the_entries_as_they_were() {
        assert_eq!(written(Format::Jsonl, &[HOSTILE]), format!("{HOSTILE}\n"));
    }

    #[test]
    fn json_lines_say_the_same_without_characters_that_act_on_a_terminal() {
        let raw = "{\"text\":\"\u{9b}2J\u{7f}\u{202e}\u{2028}\u{e9}\u{1f600}\",\t\"n\":1}";
        let line = written(Format::Jsonl, &[raw]);
        assert_eq!(line, "{\"text\":\"\\u009b2J\\u007f\\u202e\\u2028\u{e9}\u{1f600}\", \"n\":1}\n");
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(parse(&line), parse(raw));
    }
}
