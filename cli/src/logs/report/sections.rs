//! The sections of the page, one function each. Pure.

use super::{
    gather::{DURATIONS, Flows, Gathered, LabelSum, Numbers, Sum, Talker},
    heaviest::Heaviest,
    losses::{Losses, When},
    markup::{Html, bar, extra, legend, number, table, text as texts},
    page::{counted, grouped},
    pauses::{Kind, Pauses},
    plot::{Plot, span, stamp},
    timeline::{Series, View},
};
use crate::{
    logs::{
        gaps::{Gaps, count},
        notice::Notice,
        row::label_name,
    },
    text,
};

/// Peers, paths and labels that are listed.
const MAX_ROWS: usize = 50;
/// Drop reports that are listed: a phone scrolls no further.
const MAX_LOSSES: usize = 100;
/// Processes with missing numbers, and ranges of each.
const MAX_MISSING: usize = 20;

/// The sections in their order, with their names for links.
const NAMES: [(&str, &str); 6] = [
    ("traffic", "Traffic"),
    ("talkers", "Top talkers"),
    ("flows", "Flow durations"),
    ("sockets", "Socket statistics"),
    ("gaps", "Sleep and gaps"),
    ("drops", "Drops"),
];

/// Links to the sections.
pub(super) fn links(gathered: &Gathered) -> Html {
    if gathered.is_empty() {
        return Html::default();
    }
    let links: Vec<_> = NAMES.iter().map(|(id, name)| format!("<a href=\"#{id}\">{name}</a>")).collect();
    Html::markup(format!("<nav aria-label=\"Sections\">{}</nav>", links.join("")))
}

/// All sections that have something to say.
pub(super) fn all(gathered: Gathered, view: Option<&View>) -> Vec<Html> {
    let mut sections = Vec::new();
    if !gathered.is_empty() {
        sections.push(section(0, traffic(&gathered, view)));
        sections.push(section(1, talkers(&gathered.talkers, &gathered.paths)));
        sections.push(section(2, flows(&gathered.flows)));
        sections.push(section(3, sockets(&gathered, view)));
        sections.push(section(4, pauses(gathered.pauses)));
    }
    let mut last = drops(&gathered.losses);
    last += &missing(&gathered.gaps, gathered.numbers);
    last += &problems(&gathered.notices, gathered.notices_left_out);
    let kinds = gathered.kinds;
    let entries = |count: u64, said: &str| match count {
        0 => String::new(),
        1 => none(&format!("1 entry was {said}.")),
        count => none(&format!("{} entries were {said}.", grouped(count))),
    };
    last += &entries(kinds.repeated, "told more than once, and counted once");
    last += &entries(kinds.lines, "of the SDK's own log, and left out");
    last += &entries(kinds.others, "of another program or a later version, and left out");
    sections.push(section(5, last));
    sections
}

fn section(index: usize, inside: String) -> Html {
    let (id, name) = NAMES.get(index).copied().unwrap_or_default();
    Html::markup(format!(
        "<section id=\"{id}\" aria-labelledby=\"h-{id}\"><h2 id=\"h-{id}\">{name}</h2>\n{inside}</section>\n"
    ))
}

fn none(said: &str) -> String {
    format!("<p class=\"soft\">{said}</p>")
}

const fn meaning(class: Series) -> &'static str {
    match class {
        Series::Virtual => "between nodes of the network",
        Series::Subnet => "with networks behind subnet routers",
        Series::Exit => "through exit nodes, and what fits no other class",
        Series::Physical => "datagrams that carry the tunnel",
        Series::Cellular | Series::OtherNetwork => "",
    }
}

fn key(series: Series) -> Html {
    let name = series.name();
    Html::markup(format!("<i class=\"key {name}\" aria-hidden=\"true\"></i>{name}"))
}

/// A cell with something small below.
fn with_small(large: &Html, small: &Html) -> Html {
    Html::markup(format!("{large}<small>{small}</small>"))
}

/// A size, rounded for the eye and exact for a mouse or a program.
fn size(bytes: u64) -> Html {
    let exact = grouped(bytes);
    Html::markup(format!("<data value=\"{bytes}\" title=\"{exact} bytes\">{}</data>", text::bytes(bytes)))
}

fn traffic(gathered: &Gathered, view: Option<&View>) -> String {
    let Some(view) = view.filter(|_| gathered.kinds.windows > 0) else {
        return none("There are no flow records here.");
    };
    let inner = [Series::Virtual, Series::Subnet, Series::Exit];
    let each = span(view.seconds as f64);
    let mut html = format!(
        "<p class=\"soft\">Bytes through the tunnel, both directions, in steps of {each}; a window counts where it began. Shaded: \
         nothing was recorded.</p>"
    );
    html += &legend(&inner.map(|series| (series.name(), Html::word(series.name())))).to_string();
    let plot =
        Plot { title: "Traffic through the tunnel", stacked: &inner, height: "tall", shades_pauses: true };
    html += &plot.draw(view).to_string();
    if gathered.classes.contains_key(&Series::Physical) {
        html += "<h3>Datagrams that carry the tunnel</h3>";
        let stacked = &[Series::Physical];
        let title = "Physical traffic";
        html += &Plot { title, stacked, height: "low", shades_pauses: true }.draw(view).to_string();
    }
    let rows: Vec<_> = Series::CLASSES
        .into_iter()
        .filter_map(|class| Some((class, *gathered.classes.get(&class)?)))
        .map(|(class, sum)| {
            let name = with_small(&key(class), &Html::word(meaning(class)));
            vec![name, size(sum.sent), size(sum.received), Html::word(grouped(sum.packets))]
        })
        .collect();
    let columns = [texts("Class"), number("Sent"), number("Received"), extra("Packets")];
    html += &table("Totals", &columns, &rows).to_string();
    html + &devices(gathered)
}

fn devices(gathered: &Gathered) -> String {
    let devices = &gathered.devices;
    let row = |(id, (name, system)): (&String, &(String, String))| {
        let first = match (name.as_str(), id.as_str()) {
            ("", "") => Html::word("(not known)"),
            ("", id) => Html::text(id),
            (name, id) => with_small(&Html::text(name), &Html::text(id)),
        };
        vec![first, Html::text(system)]
    };
    let rows: Vec<_> = devices.iter().take(MAX_ROWS).map(row).collect();
    let columns = [texts("Device"), texts("System")];
    let mut html = table("Recorded by", &columns, &rows).to_string();
    if devices.len() > rows.len() {
        html += &none(&format!("and {} more devices", devices.len() - rows.len()));
    }
    if devices.len() > 1 {
        html += &none("What these devices sent each other was counted by both, and is in the sums twice.");
    }
    html
}

fn talkers(talkers: &Heaviest<Talker>, paths: &Heaviest<Talker>) -> String {
    let top = talkers.top(MAX_ROWS);
    if top.top.is_empty() {
        return none("No flow record names a connection.");
    }
    let mut html = none(
        "Who was at the other end: a node, or an address behind one. Which addresses exit traffic went to is recorded only \
         with a permission of its own.",
    );
    html += &ranked("Peers by bytes", "Peer", talkers);
    if !paths.top(1).top.is_empty() {
        html += &ranked("Paths outside the tunnel", "Peer and endpoint", paths);
    }
    html
}

fn ranked(caption: &str, name: &'static str, sums: &Heaviest<Talker>) -> String {
    let ranking = sums.top(MAX_ROWS);
    let largest = ranking.top.first().map_or(0, |(_, sum)| sum.bytes());
    let row = |name: String, sum: Sum| {
        vec![Html::markup(name), size(sum.sent), size(sum.received), Html::word(grouped(sum.packets))]
    };
    let mut rows = Vec::new();
    for (talker, sum) in &ranking.top {
        let name = match (talker.name.as_str(), talker.class) {
            ("", Series::Exit) => "<em>exit traffic, addresses not recorded</em>".into(),
            ("", _) => "<em>addresses not recorded</em>".into(),
            (name, _) => Html::text(name).to_string(),
        };
        let detail = Html::text(&talker.detail);
        let about = match (talker.class, talker.detail.is_empty() || talker.detail == talker.name) {
            (Series::Physical, true) => String::new(),
            (Series::Physical, false) => detail.to_string(),
            (class, true) => key(class).to_string(),
            (class, false) => format!("{} · {detail}", key(class)),
        };
        let bar = bar(&[(talker.class.name(), sum.bytes())], largest);
        rows.push(row(format!("{name}<small>{about}</small>{bar}"), *sum));
    }
    if ranking.others.bytes() > 0 || ranking.others.packets > 0 {
        let name = match ranking.other_count {
            Some(others) => format!("{} others", grouped(others as u64)),
            None => "all others".into(),
        };
        rows.push(row(format!("<em>{name}</em>"), ranking.others));
    }
    let columns = [texts(name), number("Sent"), number("Received"), extra("Packets")];
    let mut html = table(caption, &columns, &rows).to_string();
    if ranking.too_low_by > 0 {
        html += &none(&format!(
            "There were too many to keep them all apart: each sum may be too low by up to {}, which is in “all others” then.",
            text::bytes(ranking.too_low_by)
        ));
    }
    html
}

fn flows(flows: &Flows) -> String {
    if flows.opened + flows.closed == 0 {
        return none(
            "There are no events of single flows here; the app records them if it is configured to.",
        );
    }
    let mut html = format!(
        "<p class=\"soft\">{} began and {} ended here. A flow lasts from its first packet to its last, without the silence that \
         ended it; the longest lasted {}.</p>",
        counted(flows.opened, "flow"),
        grouped(flows.closed),
        span(flows.longest)
    );
    let shares = |count: u64, of: u64| format!("{:.0}%", count as f64 / of.max(1) as f64 * 100.0);
    let most = flows.durations.iter().copied().max().unwrap_or_default();
    let rows: Vec<_> = DURATIONS
        .iter()
        .zip(flows.durations)
        .map(|((_, name), count)| {
            let name = Html::markup(format!("{}{}", Html::word(name), bar(&[("duration", count)], most)));
            vec![name, Html::word(grouped(count)), Html::word(shares(count, flows.closed))]
        })
        .collect();
    let columns = [texts("Lasted"), number("Flows"), number("Share")];
    html += &table("Closed flows by duration", &columns, &rows).to_string();
    let mut reasons: Vec<_> = flows.reasons.iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let rows: Vec<_> = reasons
        .into_iter()
        .map(|(reason, &count)| {
            let name = with_small(&Html::text(reason), &Html::word(close_reason(reason)));
            vec![name, Html::word(grouped(count)), Html::word(shares(count, flows.closed))]
        })
        .collect();
    let columns = [texts("Reason"), number("Flows"), number("Share")];
    html + &table("Why they ended", &columns, &rows).to_string()
}

fn close_reason(reason: &str) -> &'static str {
    match reason {
        "fin" => "both sides closed the connection",
        "rst" => "one side reset it",
        "idle" => "no packet for as long as its kind allows",
        "evicted" => "made room for newer flows",
        "split" => "went on as another flow",
        "shutdown" => "the tunnel stopped",
        _ => "",
    }
}

fn sockets(gathered: &Gathered, view: Option<&View>) -> String {
    let Some(view) = view.filter(|_| gathered.kinds.samples > 0) else {
        return none(
            "There are no socket statistics here; the app records them while somebody asked for it.",
        );
    };
    let mut labels: Vec<(u16, LabelSum)> =
        gathered.sockets.iter().map(|(label, sum)| (*label, *sum)).collect();
    labels.sort_by_key(|(label, sum)| (std::cmp::Reverse(sum.all.bytes()), *label));
    let mut all = LabelSum::default();
    for (_, sum) in &labels {
        all.all.add(sum.all);
        all.cellular = all.cellular.saturating_add(sum.cellular);
    }
    let mut html = format!(
        "<p class=\"soft\">Bytes that sockets moved, by their job, in steps of {}. {} of {} went over a cellular network ({}).</p>",
        span(view.seconds as f64),
        text::bytes(all.cellular),
        text::bytes(all.all.bytes()),
        share(&all)
    );
    let stacked = [Series::Cellular, Series::OtherNetwork];
    let names = ["cellular", "other networks"].map(Html::word);
    let [cellular, other] = names;
    html += &legend(&[("cellular", cellular), ("other", other)]).to_string();
    let title = "Bytes of sockets";
    html += &Plot { title, stacked: &stacked, height: "low", shades_pauses: false }.draw(view).to_string();
    let largest = labels.first().map_or(0, |(_, sum)| sum.all.bytes());
    let row = |name: Html, sum: &LabelSum| {
        vec![name, size(sum.all.sent), size(sum.all.received), size(sum.cellular), Html::word(share(sum))]
    };
    let mut rows = Vec::new();
    for (label, sum) in labels.iter().take(MAX_ROWS) {
        let other = sum.all.bytes().saturating_sub(sum.cellular);
        let bar = bar(&[("cellular", sum.cellular), ("other", other)], largest);
        rows.push(row(Html::markup(format!("{}{bar}", Html::word(label_name(*label)))), sum));
    }
    if let Some(rest) = labels.get(MAX_ROWS..).filter(|rest| !rest.is_empty()) {
        let mut sum = LabelSum::default();
        for (_, other) in rest {
            sum.all.add(other.all);
            sum.cellular = sum.cellular.saturating_add(other.cellular);
        }
        rows.push(row(Html::markup(format!("<em>{} others</em>", rest.len())), &sum));
    }
    rows.push(row(Html::markup("<b>all</b>".into()), &all));
    let columns =
        [texts("Label"), number("Sent"), number("Received"), extra("Cellular bytes"), number("Cellular")];
    html + &table("Bytes by label", &columns, &rows).to_string()
}

/// The share of the cellular network. Nothing rounds to all or nothing that is not.
fn share(sum: &LabelSum) -> String {
    let percent = sum.cellular as f64 / sum.all.bytes().max(1) as f64 * 100.0;
    match percent {
        0.0 => "0%".into(),
        percent if percent < 1.0 => "<1%".into(),
        percent if percent < 100.0 && percent > 99.0 => ">99%".into(),
        percent => format!("{percent:.0}%"),
    }
}

fn pauses(pauses: Pauses) -> String {
    let listed = pauses.listed();
    let mut html = "<p class=\"soft\">How a gap is recognised, and how many there are:</p><dl>".to_owned();
    for (kind, seen) in Kind::ALL.into_iter().zip(listed.seen) {
        html += &format!(
            "<dt>{} <b>{}</b></dt><dd>{}</dd>",
            Html::word(kind.name()),
            grouped(seen),
            Html::word(kind.explanation())
        );
    }
    html += "</dl>\n";
    if listed.pauses.is_empty() {
        return html + &none("None of these was found.");
    }
    let rows: Vec<_> = listed
        .pauses
        .iter()
        .map(|pause| {
            let about = match pause.node.as_str() {
                "" => format!("seen in {}", pause.seen_in),
                node => format!("{}, seen in {}", Html::text(node), pause.seen_in),
            };
            vec![
                with_small(&Html::word(stamp(pause.start)), &Html::markup(about)),
                Html::word(pause.kind.name()),
                Html::word(span(pause.length.as_secs_f64())),
            ]
        })
        .collect();
    let columns = [texts("From (UTC)"), texts("Kind"), number("Length")];
    html += &table("Gaps", &columns, &rows).to_string();
    let seen: u64 = listed.seen.iter().sum();
    if seen > rows.len() as u64 {
        html +=
            &none(&format!("The longest of each kind; {} others are not listed.", seen - rows.len() as u64));
    }
    html
}

fn drops(losses: &Losses) -> String {
    if losses.totals.is_empty() {
        return none("There are no drop reports here: nothing was given up.");
    }
    let rows: Vec<_> = losses
        .totals
        .iter()
        .map(|(reason, (reports, count))| {
            let name = with_small(&Html::text(reason), &Html::word(drop_reason(reason)));
            vec![name, Html::word(grouped(count.records)), size(count.bytes), Html::word(grouped(*reports))]
        })
        .collect();
    let columns = [texts("Reason"), number("Records"), number("Bytes"), number("Reports")];
    let mut html = table("Given up, by reason", &columns, &rows).to_string();
    let mut listed: Vec<_> = losses.listed.iter().collect();
    listed.sort_by_key(|loss| std::cmp::Reverse(loss.count.records));
    let rows: Vec<_> = listed
        .iter()
        .take(MAX_LOSSES)
        .map(|loss| {
            let numbers = Html::text(&loss.numbers);
            let when = match loss.when {
                When::After(time) => format!("after {}", stamp(time)),
                When::Before(time) => format!("before {}", stamp(time)),
                When::Unknown => "at a time not known".into(),
            };
            let about = format!("{}, {numbers}<br/>reported {when}", Html::text(&loss.stream));
            vec![
                with_small(&Html::text(&loss.reason), &Html::markup(about)),
                Html::word(grouped(loss.count.records)),
                size(loss.count.bytes),
            ]
        })
        .collect();
    let columns = [texts("Reason, stream, process and numbers"), number("Records"), number("Bytes")];
    html += &table("Drop reports, the largest first", &columns, &rows).to_string();
    let more = losses.left_out + losses.listed.len().saturating_sub(MAX_LOSSES) as u64;
    if more > 0 {
        html += &none(&format!("and {}, which are in the sums above.", counted(more, "more report")));
    }
    html
}

fn drop_reason(reason: &str) -> &'static str {
    match reason {
        "rotation" => "the stream was at its cap, the oldest records made room",
        "disk_full" => "the disk was full",
        "queue_full" => "the writer was behind",
        "corrupt" => "bytes on the disk were damaged or torn",
        "rejected" => "the server refused them for good",
        "too_large" => "longer than a record or a request may be",
        "io_error" => "a file operation failed",
        "too_many_sessions" => "too many sessions waited to be recorded",
        _ => "",
    }
}

fn missing(gaps: &Gaps, numbers: Numbers) -> String {
    if numbers == Numbers::Unknown {
        return none(
            "Missing numbers were not looked for: of a server, that takes all records, and these are only those since a time.",
        );
    }
    let accounts = gaps.accounts(numbers == Numbers::All);
    let missing: Vec<_> = accounts.iter().filter(|account| !account.unexplained.is_empty()).collect();
    let mut html = String::new();
    if !missing.is_empty() {
        let rows: Vec<_> = missing
            .iter()
            .take(MAX_MISSING)
            .map(|account| {
                let (stream, _, process) = &account.process;
                let ranges =
                    account.unexplained.iter().take(MAX_MISSING).map(|&(from, to)| match from == to {
                        true => from.to_string(),
                        false => format!("{from}–{to}"),
                    });
                let mut ranges = ranges.collect::<Vec<_>>().join(", ");
                if account.unexplained.len() > MAX_MISSING {
                    ranges += &format!(" and {} more", account.unexplained.len() - MAX_MISSING);
                }
                vec![
                    Html::text(stream),
                    Html::word(format!("{process:08x}")),
                    Html::word(grouped(count(&account.unexplained))),
                    Html::word(ranges),
                ]
            })
            .collect();
        let columns = [texts("Stream"), texts("Process"), number("Missing"), texts("Numbers")];
        html += "<h3>Missing without a report</h3>";
        html += &none(
            "Each process numbers its entries without gaps. These numbers are not here, and no report names them; reports \
             without numbers may stand for some.",
        );
        html += &table("Numbers that are missing", &columns, &rows).to_string();
        if missing.len() > MAX_MISSING {
            html += &none(&format!("and of {} more processes", missing.len() - MAX_MISSING));
        }
    }
    if gaps.beyond() > 0 {
        html += &none(&format!(
            "{} are in too many pieces, or of too many processes, to be accounted for.",
            counted(gaps.beyond(), "number")
        ));
    }
    html
}

fn problems(notices: &[Notice], left_out: u64) -> String {
    if notices.is_empty() {
        return String::new();
    }
    let mut html = "<h3>While reading</h3><ul class=\"notices\">".to_owned();
    for notice in notices {
        let class = if notice.is_damage { "damage" } else { "remark" };
        let (place, what) = (Html::text(&notice.place), Html::long_text(&notice.what));
        html += &format!("<li class=\"{class}\">{place}: {what}</li>");
    }
    html += "</ul>\n";
    if left_out > 0 {
        html += &none(&format!("and {} more", grouped(left_out)));
    }
    html
}
