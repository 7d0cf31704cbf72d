//! Our own log, as a support engineer gets it: under consent, in files that the field's usual tools read.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may fail loudly")]

#[allow(dead_code, reason = "each test file uses its part of the lab")]
mod support;

use std::{path::PathBuf, process::Command, sync::Arc};

use support::{client_config, files};
use tracing_subscriber::layer::SubscriberExt;
use tuntrail::{
    client::{Client, ClientConfig},
    clock::SystemClock,
    consent::Consent,
    diagnostics::{DEFAULT_FILTER, Diagnostics},
};
use tuntrail_logserver::{Server, ServerConfig};

fn log_files(config: &ClientConfig) -> Vec<PathBuf> {
    Diagnostics::files(&config.directory.join("diagnostics/w-ext")).unwrap()
}

#[test]
fn log_files_exist_under_consent_only_and_jq_reads_them() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let log = Diagnostics::new(DEFAULT_FILTER, Arc::new(SystemClock)).unwrap();
    let _subscriber = tracing::subscriber::set_default(tracing_subscriber::registry().with(log.layer()));
    let mut config = client_config(directory.path(), &server.base_url());
    config.diagnostics = Some(log.clone());
    config.consent = Consent::Unknown;
    let client = Client::start(config.clone()).unwrap();
    tracing::info!("before anybody was asked");
    assert_eq!(files(directory.path()), Vec::new());

    client.set_consent(Consent::Granted).unwrap();
    let ticket = client.upload("a \"user\" asked").unwrap();
    let _ = ticket.wait();
    log.flush().unwrap();
    let output = Command::new("sh")
        .arg("-c")
        .arg(r#"cat *.log | jq -r '"\(.time) \(.severity) \(.message)"'"#)
        .current_dir(log_files(&config)[0].parent().unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    if output.status.code() == Some(127) && std::env::var_os("TUNTRAIL_REQUIRE_TOOLCHAINS").is_none() {
        eprintln!("SKIPPED: jq is not installed");
    } else {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines: Vec<_> = text.lines().map(|line| line.splitn(3, ' ').collect::<Vec<_>>()).collect();
        let said = |what: &str| lines.iter().any(|line| line[1] == "INFO" && line[2] == what);
        assert!(said("before anybody was asked") && said("upload asked for"), "{text}");
    }

    client.set_consent(Consent::Denied).unwrap();
    assert_eq!(log_files(&config), Vec::<PathBuf>::new());
    tracing::warn!("after the denial");
    log.flush().unwrap();
    drop(client);
    let left: String =
        files(directory.path()).into_iter().map(|(_, content)| String::from_utf8(content).unwrap()).collect();
    assert!(!left.contains("severity"), "{left}");
}

#[test]
fn a_denial_deletes_the_log_of_an_earlier_run_that_had_one() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let log = Diagnostics::new(DEFAULT_FILTER, Arc::new(SystemClock)).unwrap();
    let mut config = client_config(directory.path(), &server.base_url());
    config.diagnostics = Some(log.clone());
    let client = Client::start(config.clone()).unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(log.layer()), || {
        tracing::error!("something is wrong");
    });
    drop(client);
    assert_eq!(log_files(&config).len(), 1);

    config.diagnostics = None;
    config.consent = Consent::Denied;
    drop(Client::start(config.clone()).unwrap());
    assert_eq!(log_files(&config), Vec::<PathBuf>::new());
}
