use std::{fs, sync::Arc};

use serde_json::Value;
use tracing::{debug, error, info, trace, warn};

use super::*;
use crate::clock::{ManualClock, SystemClock};

/// Runs `act` with the log's layer as the only one of this thread.
fn logging<T>(diagnostics: &Diagnostics, act: impl FnOnce() -> T) -> T {
    tracing::subscriber::with_default(tracing_subscriber::registry().with(diagnostics.layer()), act)
}

fn diagnostics(filter: &str) -> Diagnostics {
    Diagnostics::new(filter, Arc::new(SystemClock)).unwrap()
}

fn lines(directory: &Path) -> Vec<Value> {
    let files = Diagnostics::files(directory).unwrap();
    let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn messages(directory: &Path) -> Vec<String> {
    lines(directory).iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_event_is_one_json_line_with_the_usual_members() {
    let directory = tempfile::tempdir().unwrap();
    let clock = ManualClock::new("2026-11-21T07:00:00.123456Z".parse().unwrap());
    let log = Diagnostics::new("trace", Arc::new(clock)).unwrap();
    log.open(directory.path(), DiagnosticsLimits::default()).unwrap();
    logging(&log, || {
        warn!(target: "tuntrail::test", count = 3_u64, ratio = f64::NAN, fine = true, severity = "x", "a \"b\"\n{}", 7);
    });
    log.flush().unwrap();
    let file = Diagnostics::files(directory.path()).unwrap().remove(0);
    assert_eq!(
        fs::read_to_string(file).unwrap(),
        "{\"time\":\"2026-11-21T07:00:00.123Z\",\"severity\":\"WARN\",\"message\":\"a \\\"b\\\"\\n7\",\
         \"target\":\"tuntrail::test\",\"count\":3,\"ratio\":\"NaN\",\"fine\":true,\"field.severity\":\"x\"}\n"
    );
}

#[test]
fn the_filter_changes_while_the_process_runs() {
    let directory = tempfile::tempdir().unwrap();
    let log = diagnostics("warn");
    log.open(directory.path(), DiagnosticsLimits::default()).unwrap();
    logging(&log, || {
        for filter in ["warn", "warn,tuntrail::one=debug", "off"] {
            log.set_filter(filter).unwrap();
            info!(target: "tuntrail::one", "{filter}: one");
            info!(target: "tuntrail::two", "{filter}: two");
            error!(target: "tuntrail::two", "{filter}: error");
        }
    });
    log.flush().unwrap();
    assert_eq!(
        messages(directory.path()),
        ["warn: error", "warn,tuntrail::one=debug: one", "warn,tuntrail::one=debug: error"]
    );
    for bad in ["", " ", "tuntrail=loud", "inof", "info,tuntrail", "info,"] {
        assert!(matches!(log.set_filter(bad), Err(DiagnosticsError::Filter { .. })), "{bad}");
    }
    assert_eq!(format!("{:?}", log.filter), "off");
}

#[test]
fn files_are_bounded_and_the_newest_lines_are_kept_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let limits = DiagnosticsLimits { file_bytes: 4096, files: 3 };
    for run in 0..2 {
        let log = diagnostics("info");
        log.open(directory.path(), limits).unwrap();
        logging(&log, || {
            for number in 0..500 {
                info!("run {run} line {number:04}");
                if number % 10 == 0 {
                    log.flush().unwrap();
                }
            }
        });
        log.close();
        assert_eq!(log.stats().lost, 0);
        let files = Diagnostics::files(directory.path()).unwrap();
        let sizes: Vec<_> = files.iter().map(|file| fs::metadata(file).unwrap().len()).collect();
        assert!(files.len() <= 3 && sizes.iter().all(|&size| size <= 4096), "{sizes:?}");
        let (notes, messages): (Vec<_>, Vec<_>) =
            messages(directory.path()).into_iter().partition(|message| message.contains(" made room "));
        assert!(!notes.is_empty(), "what was never uploaded is gone");
        assert!(messages.is_sorted(), "by name is by age");
        assert_eq!(messages.last().unwrap(), &format!("run {run} line 0499"));
        assert!(messages.len() > 50);
    }
}

#[test]
fn many_short_runs_push_out_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for run in 0..40 {
        let log = diagnostics("info");
        log.open(directory.path(), DiagnosticsLimits::default()).unwrap();
        logging(&log, || info!("run {run:02} begins and fails"));
        log.close();
    }
    let messages = messages(directory.path());
    assert_eq!(messages.len(), 40);
    assert_eq!(messages[0], "run 00 begins and fails");
}

#[test]
fn lines_that_make_room_are_counted_unless_they_were_given_out() {
    let directory = tempfile::tempdir().unwrap();
    let log = diagnostics("debug");
    log.open(directory.path(), DiagnosticsLimits { file_bytes: 4096, files: 2 }).unwrap();
    let fill = |from: u32| {
        logging(&log, || {
            for number in from..from + 20 {
                info!("line {number:03} {}", "x".repeat(100));
                debug!("never given out unless asked for by name");
            }
        });
        log.flush().unwrap();
    };
    fill(0);
    let mut unsent = Unsent::load(directory.path()).unwrap();
    let given_out = unsent.take(Selection::default(), |_| Ok::<_, io::Error>(()));
    given_out.and_then(|()| unsent.save()).unwrap();
    fill(100);
    assert!(
        messages(directory.path()).iter().all(|message| !message.contains(" made room ")),
        "all was given out"
    );
    fill(200);
    fill(300);
    let told: u64 = messages(directory.path())
        .iter()
        .filter_map(|message| message.split_once(" older log lines made room ")?.0.parse::<u64>().ok())
        .sum();
    assert!((1..=40).contains(&told), "{told}");
}

#[test]
fn lines_wait_in_bounded_memory_until_the_log_is_opened_and_the_loss_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let log = diagnostics("info");
    let text = "x".repeat(200);
    logging(&log, || {
        for number in 0..1_000 {
            info!("{number:04} {text}");
        }
    });
    log.flush().unwrap();
    let lost = log.stats().lost;
    assert!(lost > 500, "{lost}");
    log.open(directory.path(), DiagnosticsLimits::default()).unwrap();
    log.flush().unwrap();
    let messages = messages(directory.path());
    assert_eq!(messages[0], format!("{lost} log lines were lost"));
    assert_eq!(messages.len() as u64, 1 + 1_000 - lost);
    assert!(messages[1].starts_with(&format!("{lost:04}")) && messages.last().unwrap().starts_with("0999"));
    assert_eq!(log.stats().written, 1_000 - lost);
}

#[test]
fn values_of_any_kind_stay_one_bounded_line() {
    struct Endless;
    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            loop {
                f.write_str("é\n\u{0}\u{202e}")?;
            }
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let log = diagnostics("info");
    log.open(directory.path(), DiagnosticsLimits { file_bytes: 4096, files: 2 }).unwrap();
    logging(&log, || {
        info!(endless = %Endless, "{}", Endless);
        info!("{}", "y".repeat(1 << 20));
    });
    log.flush().unwrap();
    let lines = lines(directory.path());
    assert_eq!(lines.len(), 2);
    for value in [&lines[0]["message"], &lines[0]["endless"], &lines[1]["message"]] {
        let value = value.as_str().unwrap();
        assert!(value.len() <= 1024 + '…'.len_utf8() && value.ends_with('…'), "{}", value.len());
    }
}

#[test]
fn a_value_that_logs_while_it_is_printed_does_not_come_back() {
    struct Chatty;
    impl fmt::Display for Chatty {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            warn!("from inside {}", Self);
            f.write_str("chatty")
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let log = diagnostics("info");
    log.open(directory.path(), DiagnosticsLimits::default()).unwrap();
    logging(&log, || info!("{Chatty}"));
    logging(&log, || info!("after"));
    log.close();
    let messages = messages(directory.path());
    assert_eq!(messages.last().unwrap(), "after");
    assert!(messages.iter().any(|message| message == "chatty"), "{messages:?}");
    assert!(!messages.iter().any(|message| message.contains("inside")), "{messages:?}");
}

#[test]
fn a_disk_that_fails_loses_counted_lines_and_is_tried_again() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("log");
    let log = diagnostics("info");
    log.open(&directory, DiagnosticsLimits::default()).unwrap();
    fs::remove_dir(&directory).unwrap();
    logging(&log, || info!("one"));
    log.flush().unwrap_err();
    let stats = log.stats();
    assert_eq!((stats.lost, stats.written), (1, 0));
    assert!(stats.error.is_some());
    fs::create_dir(&directory).unwrap();
    logging(&log, || info!("two"));
    log.flush().unwrap();
    assert_eq!(messages(&directory), ["1 log lines were lost", "two"]);

    let occupied = parent.path().join("file");
    fs::write(&occupied, "").unwrap();
    let error = diagnostics("info").open(&occupied, DiagnosticsLimits::default()).unwrap_err();
    assert!(matches!(error, DiagnosticsError::Open { .. }), "{error}");
}

#[test]
fn deleting_removes_every_line_of_ours_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let log = diagnostics("trace");
    log.open(directory.path(), DiagnosticsLimits::default()).unwrap();
    logging(&log, || trace!("kept so far"));
    log.flush().unwrap();
    logging(&log, || debug!("waiting"));
    let foreign = directory.path().join("host.log");
    fs::write(&foreign, "the app's own").unwrap();
    log.delete(directory.path()).unwrap();
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, std::slice::from_ref(&foreign));
    logging(&log, || info!("afterwards"));
    log.open(directory.path(), DiagnosticsLimits::default()).unwrap();
    log.flush().unwrap();
    assert_eq!(messages(directory.path()), ["afterwards"]);
    log.close();
    fs::remove_file(&foreign).unwrap();
    log.delete(directory.path()).unwrap();
    assert!(!directory.path().exists());
    log.delete(directory.path()).unwrap();
}

#[cfg(unix)]
#[test]
fn nobody_else_can_read_the_log() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("log");
    let log = diagnostics("info");
    log.open(&directory, DiagnosticsLimits::default()).unwrap();
    logging(&log, || info!("private"));
    log.flush().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&Diagnostics::files(&directory).unwrap()[0]), 0o600);
}
