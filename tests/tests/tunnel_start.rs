//! A tunnel that is starting: its look-ups hold up nobody, and it can be stopped.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may fail loudly")]

#[allow(dead_code, reason = "each test file uses its part of the lab")]
mod support;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use support::{PATIENCE, client_config};
use tempfile::TempDir;
use tuntrail::{
    client::{Client, ClientError},
    consent::Consent,
    tunnel::{
        Config, Endpoint, PacketQueue, PeerConfig, PrivateKey, TunDevice, TunnelError, TunnelOptions,
        packet_queue,
    },
};

/// A client, and a resolver that tells when it is asked and answers when it is told to.
struct Lab {
    client: Arc<Client>,
    _directory: TempDir,
    asked: Receiver<String>,
    answers: Sender<Ipv4Addr>,
    options: Box<dyn Fn() -> TunnelOptions>,
}

impl Lab {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Nothing is sent.
        let config = client_config(directory.path(), "http://127.0.0.1:9");
        let (tell, asked) = channel();
        let (answers, answer) = channel();
        let answer = Arc::new(Mutex::new(answer));
        let options = move || {
            let (tell, answer) = (tell.clone(), Arc::clone(&answer));
            TunnelOptions {
                bind: Some(Ipv4Addr::LOCALHOST.into()),
                resolver: Some(Arc::new(move |host: &str, port| {
                    tell.send(host.to_owned()).unwrap();
                    let address: Ipv4Addr = answer.lock().unwrap().recv().unwrap();
                    Ok(vec![SocketAddr::new(address.into(), port)])
                })),
                ..TunnelOptions::default()
            }
        };
        Self {
            client: Arc::new(Client::start(config).unwrap()),
            _directory: directory,
            asked,
            answers,
            options: Box::new(options),
        }
    }

    /// Begins a start, up to the look-up of its endpoint's name.
    fn begin(&self) -> (thread::JoinHandle<Result<(), ClientError>>, PacketQueue) {
        let (device, queue) = packet_queue(16, 1280);
        let (client, options) = (Arc::clone(&self.client), (self.options)());
        let starting =
            thread::spawn(move || client.start_tunnel(named_config(), TunDevice::Queue(device), options));
        assert_eq!(self.asked.recv_timeout(PATIENCE).unwrap(), "vpn.example");
        (starting, queue)
    }
}

fn named_config() -> Config {
    let mut config = Config::new(PrivateKey::generate().unwrap());
    let mut peer = PeerConfig::new(PrivateKey::generate().unwrap().public_key());
    peer.allowed_ips = vec!["0.0.0.0/0".parse().unwrap()];
    peer.endpoint = Some(Endpoint::Name { host: "vpn.example".to_owned(), port: 51820 });
    config.peers.push(peer);
    config
}

fn is_stopped(outcome: &Result<(), ClientError>) -> bool {
    matches!(outcome, Err(ClientError::Tunnel(TunnelError::Stopped)))
}

#[test]
fn other_calls_go_on_while_names_are_looked_up() {
    let lab = Lab::new();
    let (starting, _queue) = lab.begin();
    // Each of these would wait for ever if the start held the client.
    assert!(lab.client.log_id().is_some());
    assert!(lab.client.stats().tunnel.is_none());
    lab.client.refresh_tunnel().unwrap();
    lab.client.set_consent(Consent::Unknown).unwrap();
    lab.client.set_consent(Consent::Granted).unwrap();
    let (device, _other) = packet_queue(16, 1280);
    let second = lab.client.start_tunnel(named_config(), TunDevice::Queue(device), TunnelOptions::default());
    assert!(matches!(second, Err(ClientError::TunnelRunning)), "{second:?}");

    lab.answers.send(Ipv4Addr::LOCALHOST).unwrap();
    starting.join().unwrap().unwrap();
    // The network changed meanwhile, so it looks the name up again by itself.
    assert_eq!(lab.asked.recv_timeout(PATIENCE).unwrap(), "vpn.example");
    lab.answers.send(Ipv4Addr::LOCALHOST).unwrap();
    assert_eq!(lab.client.stats().tunnel.unwrap().peers.len(), 1);
}

#[test]
fn a_start_that_is_stopped_does_not_run_and_leaves_room_for_the_next() {
    let lab = Lab::new();
    let (first, _first_queue) = lab.begin();
    lab.client.stop_tunnel();
    let (second, _second_queue) = lab.begin();
    lab.answers.send(Ipv4Addr::LOCALHOST).unwrap();
    lab.answers.send(Ipv4Addr::LOCALHOST).unwrap();
    let first = first.join().unwrap();
    assert!(is_stopped(&first), "{first:?}");
    second.join().unwrap().unwrap();
    assert!(lab.client.with_tunnel(|tunnel| tunnel.local_addr().v4.is_some()).unwrap());
}

#[test]
fn a_shutdown_ends_a_start() {
    let lab = Lab::new();
    let (starting, _queue) = lab.begin();
    lab.client.shutdown();
    lab.answers.send(Ipv4Addr::LOCALHOST).unwrap();
    let outcome = starting.join().unwrap();
    assert!(matches!(outcome, Err(ClientError::ShutDown)), "{outcome:?}");
}
