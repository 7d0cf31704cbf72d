//! Pages made of a whole day, of nothing, of hostile records and of damaged exports, read again by an XML parser.

mod fixture;

use std::{fs, path::Path};

use roxmltree::{Document, Node};
use tuntrail_logserver::{Server, ServerConfig};

use self::fixture::{Day, Sums};
use super::*;
use crate::logs::{
    server::ServerArguments,
    tests::{many, numbered, post, store_with, window},
};

const NOW: &str = "2026-01-03T08:00:00Z";

fn page_of(source: &Source, filter: &Filter) -> String {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("report.html");
    let bytes = report(source, filter, &out, NOW.parse().unwrap()).unwrap();
    let page = fs::read_to_string(&out).unwrap();
    assert_eq!(page.len() as u64, bytes);
    page
}

/// An unpacked export with these lines in its stream `netlog`.
fn export_of(directory: &Path, lines: &[String]) -> Source {
    fs::create_dir_all(directory.join("netlog")).unwrap();
    fs::write(directory.join("manifest.json"), r#"{"version":1}"#).unwrap();
    fs::write(directory.join("netlog/0.jsonl"), lines.join("\n")).unwrap();
    fs::write(directory.join("summary.json"), "{}").unwrap();
    Source::at(directory).unwrap()
}

fn page_of_lines(lines: &[String]) -> String {
    let place = tempfile::tempdir().unwrap();
    page_of(&export_of(place.path(), lines), &Filter::default())
}

fn parsed(page: &str) -> Document<'_> {
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    Document::parse_with_options(page, options).unwrap()
}

fn text_of(node: Node<'_, '_>) -> String {
    node.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect()
}

/// The rows of the table with this caption: the text of each cell, and the exact number of one that has it.
fn table(document: &Document<'_>, caption: &str) -> Vec<Vec<String>> {
    let caption =
        document.descendants().find(|node| node.has_tag_name("caption") && text_of(*node) == caption);
    let table = caption.unwrap_or_else(|| panic!("no such table")).parent().unwrap();
    let body = table.children().find(|node| node.has_tag_name("tbody")).unwrap();
    let cell = |node: Node<'_, '_>| {
        let exact = node.descendants().find_map(|node| node.attribute("value"));
        exact.map_or_else(|| text_of(node), str::to_owned)
    };
    // Digits are in groups.
    let number = |text: String| match text.replace(',', "").parse::<u64>() {
        Ok(number) => number.to_string(),
        Err(_) => text,
    };
    let row =
        |row: Node<'_, '_>| row.children().filter(Node::is_element).map(|node| number(cell(node))).collect();
    body.children().filter(|node| node.has_tag_name("tr")).map(row).collect()
}

fn numbers((sent, received, packets): Sums) -> [String; 3] {
    [sent.to_string(), received.to_string(), packets.to_string()]
}

fn row_of<'a>(rows: &'a [Vec<String>], name: &str) -> &'a [String] {
    rows.iter().find(|row| row[0].starts_with(name)).unwrap_or_else(|| panic!("{name} in {rows:?}"))
}

#[test]
fn sums_on_the_page_are_those_of_the_records() {
    let place = tempfile::tempdir().unwrap();
    let day = Day::new();
    day.write(place.path());
    let page = page_of(&Source::at(place.path()).unwrap(), &Filter::default());
    let document = parsed(&page);
    let expected = &day.expected;

    let totals = table(&document, "Totals");
    assert_eq!(totals.len(), 4);
    for (class, sums) in &expected.classes {
        assert_eq!(row_of(&totals, class)[1..], numbers(*sums), "{class}");
    }
    let peers = table(&document, "Peers by bytes");
    assert_eq!(peers.len(), expected.peers.len());
    for (peer, sums) in &expected.peers {
        let name = if peer.is_empty() { "exit traffic" } else { peer };
        assert_eq!(row_of(&peers, name)[1..], numbers(*sums), "{peer}");
    }
    let labels = table(&document, "Bytes by label");
    assert_eq!(labels.len(), expected.labels.len() + 1, "and their sum");
    for (label, (sent, received, cellular)) in &expected.labels {
        let row = row_of(&labels, &crate::logs::row::label_name(*label));
        assert_eq!(row[1..4], numbers((*sent, *received, *cellular)));
        assert_eq!(row[4], format!("{:.0}%", *cellular as f64 / (sent + received) as f64 * 100.0));
    }
    let durations = table(&document, "Closed flows by duration");
    let flows: u64 = durations.iter().map(|row| row[1].parse::<u64>().unwrap()).sum();
    assert_eq!(flows, expected.closed_flows);
    let reasons = table(&document, "Why they ended");
    for (reason, count) in &expected.reasons {
        assert_eq!(row_of(&reasons, reason)[1], count.to_string());
    }
    let dropped = table(&document, "Given up, by reason");
    let records: u64 = dropped.iter().map(|row| row[1].parse::<u64>().unwrap()).sum();
    assert_eq!(records, expected.dropped);
}

#[test]
fn bars_over_time_add_up_to_the_totals() {
    let place = tempfile::tempdir().unwrap();
    let day = Day::new();
    day.write(place.path());
    let gathered = Gathered::of(&Source::at(place.path()).unwrap(), &Filter::default()).unwrap();
    let view = gathered.timeline.view(gathered.pauses.usual_window()).unwrap();
    for (class, (sent, received, _)) in &day.expected.classes {
        let series = timeline::Series::class(class).unwrap();
        let drawn: u64 = view.intervals.iter().map(|bin| bin.of(series)).sum();
        assert_eq!(drawn, sent + received, "{class}");
    }
}

#[test]
fn gaps_and_drops_of_the_day_are_listed_with_their_times() {
    let place = tempfile::tempdir().unwrap();
    Day::new().write(place.path());
    let page = page_of(&Source::at(place.path()).unwrap(), &Filter::default());
    let document = parsed(&page);
    let gaps = table(&document, "Gaps");
    assert!(gaps[0][0].ends_with("phone.example.com, seen in flow records"), "{gaps:?}");
    let gaps: Vec<_> = gaps
        .iter()
        .map(|row| (row[0].split("phone").next().unwrap(), row[2].as_str(), row[1].as_str()))
        .collect();
    let expected = [
        ("2026-01-02 09:19:45", "18 min 15 s", "silent"),
        ("2026-01-02 12:30:00", "1 h 13 min", "asleep"),
        ("2026-01-02 16:39:45", "22 min 15 s", "silent"),
        ("2026-01-02 18:39:45", "8 min 15 s", "not running"),
        ("2026-01-02 20:09:45", "1 min 15 s", "clock set back"),
    ];
    assert_eq!(gaps, expected);
    let drops = table(&document, "Drop reports, the largest first");
    let told = "rotationnetlog, 12345678 1..288reported before 2026-01-02 06:00:05";
    assert_eq!(drops[0], [told, "288", "391680"]);
    assert!(drops[2][0].contains("5a3c91e7 3000..3000"), "{drops:?}");
}

#[test]
fn the_page_reaches_for_nothing_outside_itself() {
    let place = tempfile::tempdir().unwrap();
    Day::new().write(place.path());
    let page = page_of(&Source::at(place.path()).unwrap(), &Filter::default());
    let document = parsed(&page);
    let policy = document.descendants().find(|node| node.attribute("http-equiv").is_some()).unwrap();
    assert!(policy.attribute("content").unwrap().starts_with("default-src 'none'"));
    for node in document.descendants().filter(Node::is_element) {
        let name = node.tag_name().name();
        assert!(
            !["script", "link", "img", "iframe", "object", "image", "use", "form"].contains(&name),
            "{name}"
        );
        for attribute in node.attributes() {
            assert!(!attribute.name().starts_with("on"), "{}", attribute.name());
            assert_ne!(attribute.name(), "src");
            if attribute.name() == "href" {
                let target = attribute.value().strip_prefix('#').unwrap();
                assert!(document.descendants().any(|node| node.attribute("id") == Some(target)), "{target}");
            }
        }
    }
    assert!(!page.contains("url(") && !page.contains("@import"));
    let addresses: Vec<_> = page.match_indices("://").collect();
    assert_eq!(addresses.len(), page.matches("http://www.w3.org/2000/svg").count(), "only the name of SVG");
    // Every plot says what it shows, and has its numbers in a table.
    for svg in document.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "svg")))
    {
        let part = |name: &str| svg.children().find(|node| node.tag_name().name() == name).map(text_of);
        assert!(part("title").is_some_and(|title| !title.is_empty()));
        assert!(part("desc").is_some_and(|desc| desc.contains("highest")));
    }
}

#[test]
fn hostile_names_are_text_and_cut() {
    let evil = r#"</bdi></title></style><script>alert(1)</script><img src=x onerror=alert(1)>'\"&amp;\u202egnp\u0000\u001b[2J"#;
    let long = "A".repeat(1 << 18);
    let line = |name: &str, id: &str| {
        format!(
            r#"{{"nodeId":"{id}","start":"2026-01-02T03:04:05Z","end":"2026-01-02T03:04:10Z","srcNode":{{"nodeId":"{id}","name":"{name}","os":"{name}"}},"dstNodes":[{{"nodeId":"{id}","name":"{name}","addresses":["100.64.0.2"]}}],"virtualTraffic":[{{"proto":6,"src":"100.64.0.1:5","dst":"100.64.0.2:22","txBytes":7}}],"physicalTraffic":[{{"src":"100.64.0.2:0","dst":"203.0.113.9:1","txBytes":7}}]}}"#
        )
    };
    let place = tempfile::tempdir().unwrap();
    let source = export_of(place.path(), &[line(evil, evil), line(&long, &long)]);
    let filter = Filter { stream: Some("netlog".into()), ..Filter::default() };
    let page = page_of(&source, &filter);
    let document = parsed(&page);
    assert!(!document.descendants().any(|node| ["script", "img"].contains(&node.tag_name().name())));
    assert!(page.contains("&lt;script&gt;alert(1)"), "it is shown, as text");
    assert!(!page.contains(['\u{202e}', '\u{0}', '\u{1b}']));
    assert!(page.len() < 40_000, "{}", page.len());
    assert!(!page.contains(&"A".repeat(200)));
}

#[test]
fn a_page_of_nothing_says_so() {
    let page = page_of_lines(&[]);
    let said = text_of(parsed(&page).root_element());
    assert!(said.contains("There are no records here"), "{said}");
    let place = tempfile::tempdir().unwrap();
    let page = page_of(&Source::at(place.path()).unwrap(), &Filter::default());
    assert!(text_of(parsed(&page).root_element()).contains("holds no records"));
    let filter = Filter { class: Some("exit".into()), ..Filter::default() };
    let directory = place.path().join("day");
    let source = export_of(&directory, &[window(1)]);
    assert!(page_of(&source, &filter).contains("No record is of the chosen kind"));
}

#[test]
fn filters_choose_what_is_added_up() {
    let place = tempfile::tempdir().unwrap();
    let day = Day::new();
    day.write(place.path());
    let source = Source::at(place.path()).unwrap();
    let filter = Filter { class: Some("subnet".into()), ..Filter::default() };
    let page = page_of(&source, &filter);
    let totals = table(&parsed(&page), "Totals");
    assert_eq!(totals.len(), 1);
    assert_eq!(totals[0][1..], numbers(day.expected.classes["subnet"]));
    assert!(page.contains("<bdi>class subnet</bdi>"));
    let noon = Some("2026-01-02T12:00:00Z".parse().unwrap());
    let part = |filter: &Filter| {
        let page = page_of(&source, filter);
        let row = table(&parsed(&page), "Totals").remove(0);
        row[1].parse::<u64>().unwrap()
    };
    let (before, after) = (
        part(&Filter { until: noon, ..Filter::default() }),
        part(&Filter { since: noon, ..Filter::default() }),
    );
    assert_eq!(before + after, day.expected.classes["virtual"].0);
}

#[test]
fn a_store_is_reported_on_while_its_writer_has_it_open() {
    let bed = store_with(&many(50));
    let page = page_of(&Source::at(bed.path()).unwrap(), &Filter::default());
    assert_eq!(table(&parsed(&page), "Totals")[0][1..], ["350", "0", "50"]);
    assert!(page.contains("Complete: nothing was dropped"));
}

#[test]
fn what_is_told_twice_is_counted_once() {
    let line = r#"{"logtail":{"proc_id":7,"proc_seq":1},"nodeId":"n1","start":"2026-01-02T03:04:05Z","end":"2026-01-02T03:04:10Z","virtualTraffic":[{"dst":"100.64.0.2:22","txBytes":7}]}"#;
    let page = page_of_lines(&[line.into(), line.into()]);
    assert_eq!(table(&parsed(&page), "Totals")[0][1], "7");
    assert!(page.contains("1 entry was told more than once"));
}

#[test]
fn missing_numbers_damage_and_later_records_are_told_and_the_rest_is_shown() {
    let line = |seq: u64| {
        format!(
            r#"{{"logtail":{{"proc_id":7,"proc_seq":{seq}}},"nodeId":"n1","start":"2026-01-02T03:04:05Z","end":"2026-01-02T03:04:10Z","virtualTraffic":[{{"dst":"100.64.0.2:22","txBytes":7}}]}}"#
        )
    };
    let later = r#"{"tuntrail":{"drops":[{"reason":"cosmic_rays","records":2,"bytes":1}]}}"#;
    let lines = [line(1), "nonsense".into(), line(5), r#"{"later":true}"#.into(), later.into()];
    let page = page_of_lines(&lines);
    let document = parsed(&page);
    let missing = table(&document, "Numbers that are missing");
    assert_eq!(missing[0][2..], ["3", "2–4"]);
    let said = text_of(document.root_element());
    assert!(said.contains("1 thing could not be read; 3 records missing without a report."), "{said}");
    assert!(said.contains("holds a line that is no entry"), "{said}");
    assert!(said.contains("2 entries were of another program or a later version"), "{said}");
    assert_eq!(table(&document, "Totals")[0][1], "14");
}

#[test]
fn of_a_server_asked_for_what_is_new_missing_numbers_are_not_looked_for() {
    let server = Server::start(ServerConfig::default()).unwrap();
    // A drop report has no time: the server gives it that of its arrival.
    let report = r#"{"logtail":{"proc_id":7,"proc_seq":1},"tuntrail":{"drops":[]}}"#;
    let entries: Vec<_> = (20..25).map(numbered).chain([report.to_owned()]).collect();
    post(&server, "netlog.example", &format!("[{}]", entries.join(",")));
    let source = Source::Server(ServerArguments::at(&server.base_url()));
    let page = page_of(&source, &Filter::default());
    assert!(page.contains("18 records missing without a report"), "{page}");
    let since = Filter { since: Some("2026-01-02T03:04:22Z".parse().unwrap()), ..Filter::default() };
    let page = page_of(&source, &since);
    assert!(!page.contains("missing without a report") && !page.contains("status bad"), "{page}");
    assert!(page.contains("missing numbers were not looked for") && !page.contains("Complete"), "{page}");
}

#[test]
fn remarks_are_no_damage_however_many_there_are() {
    let place = tempfile::tempdir().unwrap();
    let source = export_of(place.path(), &[window(1)]);
    for number in 0..150 {
        fs::write(place.path().join(format!("{number}.jpg")), "mine").unwrap();
    }
    let page = page_of(&source, &Filter::default());
    assert!(page.contains("Complete") && page.contains("and 50 more"), "{page}");
}

#[test]
fn numbers_that_are_beyond_accounting_are_told_first_of_all() {
    // In more pieces than are kept apart.
    let lines: Vec<_> =
        (0..100_010).map(|n| format!(r#"{{"logtail":{{"proc_id":7,"proc_seq":{}}}}}"#, 2 * n + 1)).collect();
    let page = page_of_lines(&lines);
    assert!(page.contains("10 numbers not accounted for") && !page.contains("Complete"), "{}", page.len());
}

#[test]
fn lines_of_our_own_log_are_told_apart_from_what_is_not_known() {
    let line =
        r#"{"time":"2026-01-02T03:04:05.123Z","severity":"INFO","message":"ready","target":"tuntrail"}"#;
    let page = page_of_lines(&[window(1), line.to_owned()]);
    assert!(page.contains("1 entry was of the SDK's own log"), "{page}");
    assert!(!page.contains("of another program"), "{page}");
}

#[test]
fn two_hundred_thousand_peers_take_a_page_and_memory_of_bounded_size() {
    let mut gathered = Gathered::default();
    let connections = 200_u64;
    let mut bytes = 0;
    for number in 0..1_000_u64 {
        let rows: Vec<_> = (0..connections)
            .map(|index| {
                let address = std::net::Ipv4Addr::from_bits((number * connections + index) as u32);
                bytes += index + 1;
                format!(r#"{{"dst":"{address}:1","txBytes":{}}}"#, index + 1)
            })
            .collect();
        let line = format!(
            r#"{{"logtail":{{"proc_id":{number},"proc_seq":1}},"nodeId":"n{number}","start":"2026-01-02T03:04:05Z","end":"2026-01-02T03:04:10Z","subnetTraffic":[{}]}}"#,
            rows.join(",")
        );
        gathered.add_for_test(&line);
    }
    assert!(gathered.talkers.kept() < 2 * heaviest::MAX_KEPT);
    let ranking = gathered.talkers.top(50);
    let top: u64 = ranking.top.iter().map(|(_, sum)| sum.sent).sum();
    assert_eq!(top + ranking.others.sent, bytes);
    assert_eq!(ranking.top[0].1.sent, connections, "the largest are kept");
    let filter = Filter::default();
    let page = page::Page { source: "x", filter: &filter, now: NOW.parse().unwrap() }.write(gathered);
    assert!(page.len() < 100_000, "{}", page.len());
    assert!(text_of(parsed(&page).root_element()).contains("all others"));
}

#[test]
fn a_report_is_replaced_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("report.html");
    check_place(&out).unwrap();
    let source = export_of(&place.path().join("day"), &[]);
    report(&source, &Filter::default(), &out, NOW.parse().unwrap()).unwrap();
    check_place(&out).unwrap();
    for other in ["<!DOCTYPE html>\n<html><p>my page</p></html>", "", "\u{1}"] {
        fs::write(&out, other).unwrap();
        let error = check_place(&out).unwrap_err().to_string();
        assert!(error.contains("no report"), "{error}");
    }
    fs::write(&out, [0xff, 0xfe]).unwrap();
    assert!(check_place(&out).is_err());
}

/// The page of the screenshots in `docs/images`, which `docs/images/screenshots.sh` takes.
#[test]
#[ignore = "writes a page for people to look at: see docs/images/screenshots.sh"]
fn write_the_example() {
    let out = std::env::var("REPORT_EXAMPLE").unwrap_or_else(|_| "report-example.html".into());
    let place = tempfile::tempdir().unwrap();
    Day::new().write(place.path());
    let filter = Filter::default();
    let gathered = Gathered::of(&Source::at(place.path()).unwrap(), &filter).unwrap();
    let page = page::Page { source: "phone.tar.zst", filter: &filter, now: NOW.parse().unwrap() };
    fs::write(out, page.write(gathered)).unwrap();
}
