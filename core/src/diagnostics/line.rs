//! One event as one JSON line.

use std::fmt::{self, Write as _};

use jiff::Timestamp;
use tracing::{
    Event,
    field::{Field, Visit},
};

/// The longest value, in bytes: an error with its causes, not a dump. What is cut off ends in `…`.
const MAX_VALUE: usize = 1024;

/// Names that every line has; a field of the same name gets `field.` in front.
const RESERVED: [&str; 4] = ["time", "severity", "message", "target"];

/// The event as a line, with the line end.
pub(super) fn encode(event: &Event<'_>, time: Timestamp) -> Vec<u8> {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let metadata = event.metadata();
    encode_parts(time, metadata.level().as_str(), &fields.message, metadata.target(), &fields.rest)
}

/// A line of our own making.
pub(super) fn note(time: Timestamp, severity: &str, message: &str) -> Vec<u8> {
    encode_parts(time, severity, message, module_path!(), "")
}

fn encode_parts(time: Timestamp, severity: &str, message: &str, target: &str, rest: &str) -> Vec<u8> {
    let mut line = String::with_capacity(128 + message.len() + rest.len());
    // Writing to a string can't fail.
    let _ = write!(line, "{{\"time\":\"{time:.3}\",\"severity\":\"{severity}\",\"message\":");
    push_json(&mut line, message);
    line.push_str(",\"target\":");
    push_json(&mut line, target);
    line.push_str(rest);
    line.push_str("}\n");
    line.into_bytes()
}

/// The message, and all other fields as `,"name":value`.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Fields {
    fn name(&mut self, field: &Field) {
        self.rest.push(',');
        let name = field.name();
        if RESERVED.contains(&name) {
            push_json(&mut self.rest, &format!("field.{name}"));
        } else {
            push_json(&mut self.rest, name);
        }
        self.rest.push(':');
    }

    fn text(&mut self, field: &Field, value: &dyn fmt::Display) {
        let mut text = Bounded::default();
        // An error only says that the bound was reached.
        let _ = write!(text, "{value}");
        let text = text.finish();
        if field.name() == "message" {
            self.message = text;
        } else {
            self.name(field);
            push_json(&mut self.rest, &text);
        }
    }

    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        self.name(field);
        let _ = write!(self.rest, "{value}");
    }
}

impl Visit for Fields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinities.
        if value.is_finite() { self.plain(field, value) } else { self.text(field, &value) }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format_args!("{value:?}"));
    }
}

/// Takes as much text as a value may have, then refuses more, so that no value is formatted to its end in vain.
#[derive(Debug, Default)]
struct Bounded {
    text: String,
    cut: bool,
}

impl Bounded {
    fn finish(mut self) -> String {
        if self.cut {
            self.text.push('…');
        }
        self.text
    }
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = MAX_VALUE - self.text.len();
        let fits = part.floor_char_boundary(room.min(part.len()));
        self.text.push_str(part.get(..fits).unwrap_or_default());
        if fits < part.len() {
            self.cut = true;
            return Err(fmt::Error);
        }
        Ok(())
    }
}

fn push_json(line: &mut String, text: &str) {
    match serde_json::to_string(text) {
        Ok(json) => line.push_str(&json),
        // Text is always JSON.
        Err(_) => line.push_str("\"\""),
    }
}
