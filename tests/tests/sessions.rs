//! Access sessions under rules that change while the client runs.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may fail loudly")]

#[allow(dead_code, reason = "each test file uses its part of the lab")]
mod support;

use support::{app::App, client_config, collections, read};
use tuntrail::{
    client::{Client, ClientError},
    consent::Consent,
    flow::session::{AccessSession, ResourceId, ResourceRule, SessionConfig, SessionConfigError},
};
use tuntrail_logserver::{Server, ServerConfig};

fn rule(resource: u64, prefix: &str) -> ResourceRule {
    ResourceRule {
        id: Some(ResourceId(resource)),
        prefixes: vec![prefix.parse().unwrap()],
        ports: Vec::new(),
        protocol: None,
    }
}

/// The resources of the sessions at the server.
fn resources(server: &Server) -> Vec<u64> {
    let sessions: Vec<AccessSession> = read(server, &collections()[2]);
    let mut resources: Vec<_> = sessions.iter().map(|session| session.resource_id.0).collect();
    resources.sort_unstable();
    resources
}

#[test]
fn new_rules_hold_for_new_flows_and_for_recording_that_begins_later() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let mut config = client_config(directory.path(), &server.base_url());
    config.sessions =
        Some(SessionConfig { rules: vec![rule(1, "100.64.0.0/24")], ..SessionConfig::default() });
    let mut app = App::of(Client::start(config).unwrap());
    app.record(1, 100);
    // Sessions are made of flows on the flow logger's thread.
    app.client.flush().unwrap();
    app.client.set_session_rules(vec![rule(2, "100.64.0.2/32")]).unwrap();
    app.record(2, 100);
    app.client.set_consent(Consent::Unknown).unwrap();
    app.client.set_consent(Consent::Granted).unwrap();
    let mut app = App::of(app.client);
    app.record(3, 100);
    let directory = directory.path();
    app.client.shutdown();
    drop(app);
    // The end of a client ends its sessions.
    let config = client_config(directory, &server.base_url());
    drop(Client::start(config).unwrap().upload("test").unwrap().wait());
    assert_eq!(resources(&server), [1, 2, 2]);
}

#[test]
fn rules_that_can_not_hold_are_refused_and_change_nothing() {
    let (server, directory) = (Server::start(ServerConfig::default()).unwrap(), tempfile::tempdir().unwrap());
    let mut config = client_config(directory.path(), &server.base_url());
    config.sessions = None;
    let without = Client::start(config.clone()).unwrap();
    assert!(matches!(without.set_session_rules(Vec::new()), Err(ClientError::NoSessions)));
    without.shutdown();
    config.sessions = Some(SessionConfig::default());
    config.consent = Consent::Unknown;
    let client = Client::start(config).unwrap();
    let many = ResourceRule { prefixes: vec!["10.0.0.0/8".parse().unwrap(); 5_000], ..rule(1, "10.0.0.0/8") };
    let error = client.set_session_rules(vec![many]).unwrap_err();
    assert!(
        matches!(error, ClientError::Session(SessionConfigError::Prefixes { prefixes: 5_000, .. })),
        "{error}"
    );
    client.set_consent(Consent::Granted).unwrap();
}
