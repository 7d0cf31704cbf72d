//! The page: its head, what it says at the top, and the order of its sections. Pure.

use jiff::Timestamp;

use super::{
    gather::{Gathered, Kinds, MAX_DEVICES, Numbers, Sum},
    markup::{Html, attribute},
    plot::{span, stamp},
    sections,
    timeline::{Series, View},
};
use crate::{logs::filter::Filter, text};

/// How each report begins, so that it is known again.
pub(super) const START: &str = "<!DOCTYPE html>\n<html lang=\"en\" data-made-by=\"tuntrail logs report\">\n";
/// Nothing is loaded from anywhere, nothing runs, nothing is sent.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
const STYLE: &str = include_str!("page.css");

/// What a page is about.
pub(super) struct Page<'a> {
    pub(super) source: &'a str,
    pub(super) filter: &'a Filter,
    pub(super) now: Timestamp,
}

impl Page<'_> {
    /// The whole page.
    pub(super) fn write(&self, gathered: Gathered) -> String {
        let view = gathered.timeline.view(gathered.pauses.usual_window());
        let mut page = self.head();
        page += &self.top(&gathered);
        page += &status(&gathered).to_string();
        if gathered.is_empty() {
            page += &format!("<p class=\"empty\">{}</p>\n", self.why_empty());
        } else {
            page += &facts(&gathered).to_string();
        }
        for section in sections::all(gathered, view.as_ref()) {
            page += &section.to_string();
        }
        page += &outside(view.as_ref());
        page += &format!(
            "<footer><p>Written by tuntrail {} at {} UTC. All times are UTC; 1 KiB is 1024 bytes. This page holds everything it \
             shows and loads nothing.</p></footer>\n</main></body></html>\n",
            env!("CARGO_PKG_VERSION"),
            stamp(self.now)
        );
        page
    }

    fn head(&self) -> String {
        format!(
            "{START}<head><meta charset=\"utf-8\"/>\n<meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
             <meta name=\"color-scheme\" content=\"light dark\"/>\n<meta name=\"referrer\" content=\"no-referrer\"/>\n\
             <title>Traffic report: {}</title>\n<style>\n{STYLE}</style></head>\n<body><main>\n",
            attribute(self.source)
        )
    }

    fn top(&self, gathered: &Gathered) -> String {
        let range = match (gathered.first, gathered.last) {
            (Some(first), Some(last)) => {
                let (from, to) = (stamp(first), stamp(last));
                // The day is told once.
                let day = |time: &str| time.split(' ').next().map(str::to_owned);
                let to = if day(&from) == day(&to) { to.split(' ').next_back().unwrap_or(&to) } else { &to };
                format!("{from} to {to} UTC, {}", span(last.duration_since(first).as_secs_f64()))
            }
            _ => "no records".into(),
        };
        let chosen = self.filter.describe();
        let chosen = if chosen.is_empty() {
            String::new()
        } else {
            let numbers = match gathered.numbers {
                Numbers::Unknown => {
                    "drop reports those of everything that the server tells with it; missing numbers were not looked for"
                }
                Numbers::All | Numbers::FromTheFirst => {
                    "drop reports and missing numbers those of everything"
                }
            };
            format!(
                "<p>Only: {}. Gaps are those of all traffic in that time, {numbers}.</p>",
                chosen.iter().map(|option| Html::text(option).to_string()).collect::<Vec<_>>().join(", ")
            )
        };
        format!(
            "<header><h1>Traffic report</h1><p class=\"soft\">{} <span class=\"nowrap\">·</span> {range}</p>{chosen}{}</header>\n",
            Html::text(self.source),
            sections::links(gathered)
        )
    }

    fn why_empty(&self) -> &'static str {
        if self.filter.describe().is_empty() {
            "There are no records here: nothing was recorded yet, or everything was uploaded and removed."
        } else {
            "No record is of the chosen kind."
        }
    }
}

/// Whether something is missing, first of all.
fn status(gathered: &Gathered) -> Html {
    let damage = gathered.damage;
    let dropped = gathered.losses.records();
    let missing = gathered.missing();
    let mut parts = Vec::new();
    if damage > 0 {
        parts.push(format!("{} could not be read", counted(damage, "thing")));
    }
    if missing > 0 {
        let doubt = if gathered.is_doubtful() { ", or sent while this was reading" } else { "" };
        parts.push(format!("{} missing without a report{doubt}", counted(missing, "record")));
    }
    if gathered.gaps.beyond() > 0 {
        parts.push(format!("{} not accounted for", counted(gathered.gaps.beyond(), "number")));
    }
    if dropped > 0 {
        parts.push(format!("{} given up, as drop reports say", counted(dropped, "record")));
    }
    if gathered.overflow_packets > 0 {
        let packets = counted(gathered.overflow_packets, "packet");
        parts.push(format!("{packets} counted without addresses, for want of room"));
    }
    let is_lossless = damage == 0 && (missing == 0 || gathered.is_doubtful());
    let (class, said) = match (u64::from(!is_lossless), parts.is_empty()) {
        (_, true) if gathered.numbers == Numbers::Unknown => {
            ("good", "Nothing was dropped, and everything could be read".into())
        }
        (_, true) => {
            ("good", "Complete: nothing was dropped, nothing is missing, everything could be read".into())
        }
        (0, false) => ("warn", parts.join("; ")),
        _ => ("bad", parts.join("; ")),
    };
    let link = if parts.is_empty() { "" } else { " <a href=\"#drops\">Details</a>" };
    Html::markup(format!("<p class=\"status {class}\" role=\"status\">{said}.{link}</p>\n"))
}

fn facts(gathered: &Gathered) -> Html {
    let Kinds { windows, flow_events, sessions, samples, lines: _, others: _, repeated: _ } = gathered.kinds;
    let mut carried = Sum::default();
    for (class, sum) in &gathered.classes {
        if *class != Series::Physical {
            carried.add(*sum);
        }
    }
    let fact = |value: String, label: String| format!("<li><b>{value}</b><span>{label}</span></li>");
    let mut facts = Vec::new();
    if windows > 0 {
        facts.push(fact(text::bytes(carried.bytes()), "in the tunnel".into()));
        facts.push(fact(text::bytes(carried.sent), "sent".into()));
        facts.push(fact(text::bytes(carried.received), "received".into()));
        facts.push(fact(grouped(windows), "flow records".into()));
    }
    let others = [(flow_events, "flow event"), (sessions, "access session"), (samples, "socket sample")];
    for (count, name) in others.into_iter().filter(|(count, _)| *count > 0) {
        facts.push(fact(grouped(count), plural(count, name)));
    }
    if gathered.devices.len() > 1 {
        let or_more = if gathered.devices.len() < MAX_DEVICES { "devices" } else { "devices or more" };
        facts.push(fact(grouped(gathered.devices.len() as u64), or_more.into()));
    }
    Html::markup(format!("<ul class=\"facts\">{}</ul>\n", facts.concat()))
}

/// What has times that are far from all others.
fn outside(view: Option<&View>) -> String {
    let Some(outside) = view.map(|view| view.outside).filter(|bin| bin.marks > 0) else {
        return String::new();
    };
    format!(
        "<p class=\"soft\">Times half a year or more away from the others, likely of a wrong clock, are in the tables and not in \
         the plots: {}.</p>\n",
        text::bytes(outside.sum(&Series::CLASSES))
    )
}

/// A number with its digits in groups of three.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number of things.
pub(super) fn counted(count: u64, name: &str) -> String {
    format!("{} {}", grouped(count), plural(count, name))
}

fn plural(count: u64, name: &str) -> String {
    if count == 1 { name.into() } else { format!("{name}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_in_groups() {
        for (count, expected) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (u64::MAX, "18,446,744,073,709,551,615")]
        {
            assert_eq!(grouped(count), expected);
        }
        assert_eq!(
            (counted(1, "record"), counted(2_000, "record")),
            ("1 record".into(), "2,000 records".into())
        );
    }
}
