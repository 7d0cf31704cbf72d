//! What a server is asked for, and what is said of its answers.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread::JoinHandle,
};

use tuntrail_logserver::{Server, ServerConfig};

use super::*;
use crate::logs::{
    Source,
    filter::Filter,
    output::{Format, Output},
    show::show,
    tests::{PUBLIC, all, entries_and_damage, numbered, post},
    verify::check,
};

const OTHER: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn arguments(server: &Server, options: &[&str]) -> ServerArguments {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        server: ServerArguments,
    }
    let url = server.base_url();
    let line = ["tool", "--server", &url].into_iter().chain(options.iter().copied());
    <Line as clap::Parser>::try_parse_from(line).unwrap().server
}

fn refusal(source: &Source) -> String {
    let mut output = Output::new(Vec::new(), Format::Table);
    show(source, &Filter::default(), &mut output).unwrap_err().to_string()
}

#[test]
fn a_log_is_found_however_its_id_is_spelled_and_one_that_is_not_there_is_an_error() {
    let server = Server::start(ServerConfig::default()).unwrap();
    post(&server, "netlog.example", &numbered(1));
    post(&server, "flowlog.example", &numbered(1));
    let upper = PUBLIC.to_uppercase();
    for options in [vec!["--instance", &upper], vec!["--instance", PUBLIC, "--collection", "netlog.example"]]
    {
        let source = Source::Server(arguments(&server, &options));
        let expected = if options.len() == 2 { 2 } else { 1 };
        assert_eq!(all(&source).lines().count(), expected, "{options:?}");
        assert!(check(&source).unwrap().is_good());
    }
    for options in [
        vec!["--instance", OTHER],
        vec!["--instance", PUBLIC, "--instance", OTHER],
        vec!["--instance", OTHER, "--collection", "netlog.example"],
    ] {
        let source = Source::Server(arguments(&server, &options));
        assert!(refusal(&source).contains(&format!("no log {OTHER}")), "{options:?}: {}", refusal(&source));
        assert!(check(&source).is_err(), "{options:?}");
    }
    let source = Source::Server(arguments(&server, &["--collection", "sessions.example"]));
    let refusal = refusal(&source);
    assert!(
        refusal.contains("no collection \"sessions.example\"") && refusal.contains("flowlog.example"),
        "{refusal}"
    );
    assert!(parse_log_id("630dcd2966c4").is_err());
}

/// A request of HTTP without a body, as text.
pub(in crate::logs) fn request_of(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        request.extend_from_slice(&byte);
    }
    String::from_utf8(request).unwrap()
}

/// A server that gives each request what `answer` says to its address: a status line and a body.
fn scripted(
    answers: u32,
    answer: impl Fn(&str) -> (String, String) + Send + 'static,
) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = std::thread::spawn(move || {
        for _ in 0..answers {
            let (mut stream, _) = listener.accept().unwrap();
            let request = request_of(&mut stream);
            let (status, body) = answer(request.split(' ').nth(1).unwrap());
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            )
            .unwrap();
        }
    });
    (address, thread)
}

#[test]
fn a_list_that_is_cut_is_damage_and_does_not_hide_a_log_that_is_named() {
    let answer = |address: &str| {
        let list = format!(
            r#"{{"collections":{{"c":{{"instances":{{"{PUBLIC}":{{"size":1}}}}}}}},"truncated":true}}"#
        );
        let body = match address {
            "/collections" => list,
            address if address.starts_with("/collections") => list.replace(",\"truncated\":true", ""),
            _ => numbered(1),
        };
        ("200 OK".into(), body)
    };
    let (address, thread) = scripted(3, answer);
    let source = Source::Server(ServerArguments::at(&format!("http://{address}")));
    let (entries, damage) = entries_and_damage(&source);
    assert_eq!((entries, damage.len()), (1, 1), "{damage:?}");
    assert!(damage[0].contains("more logs than it lists"), "{damage:?}");
    thread.join().unwrap();
    let (address, thread) = scripted(3, answer);
    let named = ServerArguments::at(&format!("http://{address}")).with_instance(PUBLIC);
    assert_eq!(entries_and_damage(&Source::Server(named)), (1, vec![]));
    thread.join().unwrap();
}

#[test]
fn whoever_asks_a_proxy_that_takes_only_uploads_is_told_how_to_read() {
    for options in [0, 1] {
        let (address, thread) = scripted(1 + options, |_| ("404 Not Found".into(), String::new()));
        let mut arguments = ServerArguments::at(&format!("http://{address}"));
        arguments.collection = vec!["netlog.example".into(); options as usize];
        let refusal = refusal(&Source::Server(arguments));
        assert!(refusal.contains("404") && refusal.contains("ssh -L"), "{refusal}");
        thread.join().unwrap();
    }
}

#[test]
fn a_password_in_the_address_is_sent_and_shown_nowhere() {
    let answer = |address: &str| match address {
        "/collections" => ("200 OK".into(), r#"{"collections":{"c":{"instances":{"ab":{}}}}}"#.into()),
        _ => ("503 Busy".into(), String::new()),
    };
    let (address, thread) = scripted(3, answer);
    let source = Source::Server(ServerArguments::at(&format!("http://jane:s3cret@{address}/")));
    let (_, damage) = entries_and_damage(&source);
    let told = format!("{} {damage:?}", source.name());
    assert!(damage[0].contains("503") && told.contains(&address), "{told}");
    assert!(!told.contains("s3cret") && !told.contains("jane"), "{told}");
    thread.join().unwrap();
    let (address, thread) = scripted(1, |_| ("403 Forbidden".into(), String::new()));
    let refusal = refusal(&Source::Server(ServerArguments::at(&format!("http://jane:s3cret@{address}/"))));
    assert!(refusal.contains("403") && !refusal.contains("s3cret"), "{refusal}");
    thread.join().unwrap();
}

#[test]
fn what_has_expired_at_a_server_is_told_and_no_loss() {
    let answer = |records: u32| {
        move |address: &str| {
            let list = format!(
                r#"{{"collections":{{"c":{{"instances":{{"ab":{{"size":1,"records":{records}}}}}}}}}}}"#
            );
            let body =
                if address.starts_with("/collections") { list } else { numbered(4) + "\n" + &numbered(5) };
            ("200 OK".into(), body)
        }
    };
    for (records, is_good) in [(5, true), (2, false)] {
        let (address, thread) = scripted(3, answer(records));
        let found = check(&Source::Server(ServerArguments::at(&format!("http://{address}")))).unwrap();
        assert_eq!(found.is_good(), is_good, "{}", found.tell());
        assert_eq!(found.tell().contains("expired: 1-3"), is_good, "{}", found.tell());
        thread.join().unwrap();
    }
}
