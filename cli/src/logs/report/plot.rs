//! The plot over time: bars as SVG, stretched to the width there is, and their scales as text beside it, which is not. Pure.

use std::fmt::Write;

use jiff::Timestamp;

use super::{
    markup::{Html, attribute, details, number, table, text as texts},
    timeline::{Bin, Series, View},
};
use crate::text;

/// Height in the drawing's own units; its width is one unit per interval.
const HEIGHT: f64 = 100.0;
/// Labels below the plot, before those are left out that have no room.
const MAX_LABELS: i64 = 8;
/// The width of a character in percent of the plot's, on a desktop and on the narrowest phone: 7 of 800 and of 250 pixels.
const DESKTOP_CHARACTER: f64 = 0.9;
const PHONE_CHARACTER: f64 = 2.8;
const DAY: i64 = 86_400;

/// What a plot shows.
pub(super) struct Plot<'a> {
    pub(super) title: &'a str,
    /// From the bottom up.
    pub(super) stacked: &'a [Series],
    /// A class of the style sheet for its height.
    pub(super) height: &'a str,
    /// Whether to shade where no record is.
    pub(super) shades_pauses: bool,
}

impl Plot<'_> {
    /// The plot with its scales, and a table of the same numbers.
    pub(super) fn draw(&self, view: &View) -> Html {
        let largest = view.intervals.iter().map(|bin| bin.sum(self.stacked)).max().unwrap_or_default();
        let (top, lines) = scale(largest);
        // A low one has no room for more.
        let lines = if self.height == "low" { 1 } else { lines };
        let mut html =
            format!("<figure class=\"plot {}\"><div class=\"y\" aria-hidden=\"true\">", self.height);
        for line in 0..=lines {
            let value = top / lines as f64 * line as f64;
            // Writing into a string can't fail.
            let _ = write!(
                html,
                "<span style=\"bottom:{:.2}%\">{}</span>",
                value / top * HEIGHT,
                text::bytes(value as u64).replace(".0 ", " ")
            );
        }
        html += "</div>";
        html += &self.svg(view, top, lines);
        html += "<div class=\"x\" aria-hidden=\"true\">";
        for Label { place, text, fits_phone } in labels(view) {
            let class = if fits_phone { "" } else { " class=\"extra\"" };
            let _ = write!(html, "<span{class} style=\"left:{place:.2}%\">{text}</span>");
        }
        html += "</div></figure>\n";
        html += &details("The same as a table", &self.table(view)).to_string();
        Html::markup(html)
    }

    fn svg(&self, view: &View, top: f64, lines: u64) -> String {
        let count = view.intervals.len().max(1);
        let name = self.stacked.first().map_or("none", |series| series.name());
        let mut svg = format!(
            "<svg viewBox=\"0 0 {count} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" \
             aria-labelledby=\"t-{name} d-{name}\" xmlns=\"http://www.w3.org/2000/svg\"><title id=\"t-{name}\">{}</title>\
             <desc id=\"d-{name}\">{}</desc>\n",
            attribute(self.title),
            attribute(&self.describe(view))
        );
        if self.shades_pauses {
            svg += &shades(view);
        }
        for line in 1..=lines {
            let y = HEIGHT - HEIGHT / lines as f64 * line as f64;
            let _ = write!(svg, "<path class=\"grid\" d=\"M0 {y:.1}H{count}\"/>");
        }
        for (depth, series) in self.stacked.iter().enumerate() {
            let below = self.stacked.get(..depth).unwrap_or_default();
            let mut path = String::new();
            for (index, bin) in view.intervals.iter().enumerate().filter(|(_, bin)| bin.of(*series) > 0) {
                let y = |bytes: u64| HEIGHT - bytes as f64 / top * HEIGHT;
                let (low, high) = (y(bin.sum(below)), y(bin.sum(below).saturating_add(bin.of(*series))));
                let _ = write!(path, "M{index}.06 {low:.2}V{high:.2}h.88V{low:.2}z");
            }
            if !path.is_empty() {
                let _ = write!(svg, "<path class=\"{}\" d=\"{path}\"/>", series.name());
            }
        }
        // What a mouse finds: the numbers of an interval.
        for (index, bin) in view.intervals.iter().enumerate().filter(|(_, bin)| bin.sum(self.stacked) > 0) {
            let numbers: Vec<_> = self.present(bin).map(|(name, bytes)| format!("{name} {bytes}")).collect();
            let _ = write!(
                svg,
                "<rect class=\"tip\" x=\"{index}\" width=\"1\" height=\"{HEIGHT}\"><title>{}\n{}</title></rect>",
                moment(view.start + view.seconds * index as i64),
                numbers.join("\n")
            );
        }
        svg + "</svg>\n"
    }

    fn present(&self, bin: &Bin) -> impl Iterator<Item = (&'static str, String)> {
        let present = self.stacked.iter().map(|series| (series.name(), bin.of(*series)));
        present.filter(|(_, bytes)| *bytes > 0).map(|(name, bytes)| (name, text::bytes(bytes)))
    }

    fn describe(&self, view: &View) -> String {
        let most = view.intervals.iter().enumerate().max_by_key(|(_, bin)| bin.sum(self.stacked));
        most.map_or_else(String::new, |(index, bin)| {
            format!(
                "Bars of {} each; the highest is {} at {}.",
                span(view.seconds as f64),
                text::bytes(bin.sum(self.stacked)),
                moment(view.start + view.seconds * index as i64)
            )
        })
    }

    fn table(&self, view: &View) -> Html {
        let mut columns = vec![texts("From (UTC)")];
        columns.extend(self.stacked.iter().map(|series| number(series.name())));
        let rows: Vec<_> = view
            .intervals
            .iter()
            .enumerate()
            .filter(|(_, bin)| bin.sum(self.stacked) > 0)
            .map(|(index, bin)| {
                let mut row = vec![Html::word(moment(view.start + view.seconds * index as i64))];
                row.extend(self.stacked.iter().map(|series| Html::word(text::bytes(bin.of(*series)))));
                row
            })
            .collect();
        let caption = format!("{}, per {}", self.title, span(view.seconds as f64));
        table(&caption, &columns, &rows)
    }
}

/// Stretches without a record.
fn shades(view: &View) -> String {
    let mut path = String::new();
    let mut index = 0;
    for chunk in view.intervals.chunk_by(|a, b| (a.marks == 0) == (b.marks == 0)) {
        if chunk.iter().all(|bin| bin.marks == 0) {
            let _ = write!(path, "M{index} 0h{}v{HEIGHT}h-{}z", chunk.len(), chunk.len());
        }
        index += chunk.len();
    }
    if path.is_empty() { path } else { format!("<path class=\"pause\" d=\"{path}\"/>") }
}

/// The value at the upper end, and into how many parts the scale is divided.
fn scale(largest: u64) -> (f64, u64) {
    let largest = largest.max(4) as f64;
    let mut unit = 1.0;
    while largest / unit >= 1_024.0 {
        unit *= 1_024.0;
    }
    for (top, lines) in
        [(4.0, 4), (6.0, 3), (10.0, 5), (15.0, 3), (20.0, 4), (30.0, 3), (40.0, 4), (60.0, 3), (100.0, 4)]
            .into_iter()
            .chain([(150.0, 3), (200.0, 4), (300.0, 3), (400.0, 4), (600.0, 3), (800.0, 4), (1_024.0, 4)])
    {
        if largest / unit <= top {
            return (top * unit, lines);
        }
    }
    (largest, 1)
}

/// A label of the time scale, which begins at its place.
#[derive(Debug)]
struct Label {
    /// Percent of the width.
    place: f64,
    text: String,
    fits_phone: bool,
}

/// Labels of the time scale that don't overlap.
fn labels(view: &View) -> Vec<Label> {
    const STEPS: [i64; 19] = [
        2,
        5,
        10,
        30,
        60,
        120,
        300,
        600,
        900,
        1_800,
        3_600,
        7_200,
        10_800,
        21_600,
        43_200,
        DAY,
        2 * DAY,
        7 * DAY,
        28 * DAY,
    ];
    let count = view.intervals.len().max(1) as i64;
    let span = view.seconds.saturating_mul(count);
    let mut step = STEPS.into_iter().find(|step| span / step < MAX_LABELS).unwrap_or(28 * DAY);
    while span / step >= MAX_LABELS {
        step = step.saturating_mul(2);
    }
    let first = view.start.div_euclid(step).saturating_mul(step);
    let mut labels: Vec<Label> = Vec::new();
    // Where the label before ends.
    let (mut desktop, mut phone) = (0.0, 0.0);
    let mut day = None;
    for index in 0..=MAX_LABELS + 1 {
        let second = first.saturating_add(step.saturating_mul(index));
        let place = (second - view.start) as f64 / span as f64 * 100.0;
        if place < 0.0 {
            continue;
        }
        let Ok(time) = Timestamp::from_second(second) else { continue };
        let is_new_day = day != Some(second.div_euclid(DAY));
        day = Some(second.div_euclid(DAY));
        let format = match (step >= DAY, is_new_day, step < 60) {
            (true, ..) => "%-d %b %Y",
            (_, true, false) => "%-d %b %H:%M",
            (_, true, true) => "%-d %b %H:%M:%S",
            (_, false, false) => "%H:%M",
            (_, false, true) => "%H:%M:%S",
        };
        let text = time.strftime(format).to_string();
        // One character more is between them.
        let end = |character: f64| place + character * (text.len() + 1) as f64;
        let fits = |before: f64, character: f64| place >= before && end(character) <= 100.0 + character;
        let fits_phone = fits(phone, PHONE_CHARACTER);
        if fits_phone {
            phone = end(PHONE_CHARACTER);
        }
        if fits(desktop, DESKTOP_CHARACTER) {
            desktop = end(DESKTOP_CHARACTER);
            labels.push(Label { place, text, fits_phone });
        }
    }
    labels
}

/// A time in seconds since 1970, as people read it.
pub(super) fn moment(second: i64) -> String {
    Timestamp::from_second(second).map(stamp).unwrap_or_default()
}

/// A time, as people read it; UTC like all times on the page.
pub(super) fn stamp(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A length of time in its two largest units.
pub(super) fn span(seconds: f64) -> String {
    if seconds > 0.0 && seconds < 1.0 {
        return format!("{:.0} ms", seconds * 1_000.0);
    }
    if seconds < 60.0 {
        let digits = usize::from(seconds.fract() > 0.0);
        return format!("{seconds:.digits$} s");
    }
    let whole = seconds as u64;
    let (days, hours, minutes, seconds) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60, whole % 60);
    let parts = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s")];
    let shown: Vec<_> = parts
        .into_iter()
        .skip_while(|(count, _)| *count == 0)
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count} {unit}"))
        .collect();
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_above_the_highest_bar_at_a_round_number() {
        for (largest, top, lines) in [
            (0, 4.0, 4),
            (7, 10.0, 5),
            (1_023, 1_024.0, 4),
            (1_024, 4.0 * 1_024.0, 4),
            (9 << 20, 10.0 * 1_048_576.0, 5),
            (610 << 20, 800.0 * 1_048_576.0, 4),
        ] {
            assert_eq!(scale(largest), (top, lines), "{largest}");
        }
        assert!(scale(u64::MAX).0 >= u64::MAX as f64);
    }

    #[test]
    fn labels_are_few_in_order_and_name_each_new_day() {
        for (seconds, count) in
            [(5, 3), (5, 160), (60, 100), (300, 120), (3_600, 160), (86_400, 150), (1 << 30, 40)]
        {
            let view = View {
                start: 1_767_312_000,
                seconds,
                intervals: vec![Bin::default(); count],
                outside: Bin::default(),
            };
            let labels = labels(&view);
            assert!(!labels.is_empty() && labels.len() <= MAX_LABELS as usize, "{seconds}: {labels:?}");
            assert!(labels[0].text.contains(' '), "the first tells the day: {labels:?}");
            for pair in labels.windows(2) {
                let end = pair[0].place + DESKTOP_CHARACTER * pair[0].text.len() as f64;
                assert!(end < pair[1].place, "{labels:?}");
            }
        }
    }

    #[test]
    fn lengths_of_time_have_two_units() {
        for (seconds, expected) in [
            (0.0, "0 s"),
            (0.25, "250 ms"),
            (2.34, "2.3 s"),
            (59.0, "59 s"),
            (60.0, "1 min"),
            (3_725.9, "1 h 2 min"),
            (90_061.0, "1 d 1 h"),
            (7_200.0, "2 h"),
        ] {
            assert_eq!(span(seconds), expected);
        }
    }
}
