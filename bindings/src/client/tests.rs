use std::{
    os::fd::{AsRawFd, IntoRawFd},
    os::unix::net::UnixDatagram,
    sync::mpsc::channel,
};

use super::*;
use crate::{CallbackError, Event, NetworkState, Node, Peer, UploadSettings};

fn config(directory: &Path) -> ClientConfig {
    ClientConfig {
        directory: directory.display().to_string(),
        // Nobody listens there, and nobody else is asked.
        base_url: "http://127.0.0.1:9".to_owned(),
        consent: Consent::Granted,
        role: None,
        flows: None,
        sessions: None,
        uploads: None,
        socket_stats_always: false,
        max_disk_bytes: None,
        collections: None,
        private_id: None,
        copy_id: None,
        log_filter: "info".to_owned(),
        app_version: None,
        remote_commands: None,
    }
}

/// The keys of RFC 7748, 6.1: Alice's private one, and Bob's public one.
const KEY: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
const PEER: &str = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";

fn tunnel_config(peer: Peer) -> TunnelConfig {
    TunnelConfig {
        private_key: KEY.to_owned(),
        addresses: vec!["10.0.0.2/32".to_owned()],
        peers: vec![peer],
        listen_port: None,
        mtu: None,
        dns: Vec::new(),
        search_domains: Vec::new(),
        fw_mark: None,
    }
}

fn peer(endpoint: Option<&str>) -> Peer {
    Peer {
        public_key: PEER.to_owned(),
        allowed_ips: vec!["10.0.0.0/24".to_owned()],
        endpoint: endpoint.map(str::to_owned),
        preshared_key: None,
        persistent_keepalive: None,
    }
}

/// What an app would pass as a TUN device, and the app's end of it.
#[expect(clippy::unwrap_used, reason = "a helper of tests")]
fn tun() -> (TunDevice, UnixDatagram) {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    (TunDevice::Tun { descriptor: ours.into_raw_fd() }, theirs)
}

#[test]
fn a_client_with_nothing_recorded_sends_nothing_and_shuts_down_twice() {
    let directory = tempfile::tempdir().unwrap();
    let client = Client::new(config(directory.path())).unwrap();
    let report = client.upload("test", vec![Stream::Windows]).unwrap().join().unwrap();
    assert!(report.complete);
    assert_eq!(report.sent_records, 0);
    client.shutdown().unwrap();
    client.shutdown().unwrap();
}

#[test]
fn a_debug_upload_has_a_marker_and_commands_need_permission() {
    let directory = tempfile::tempdir().unwrap();
    let client = Client::new(config(directory.path())).unwrap();
    client.pause_uploads().unwrap();
    let request = DebugRequest { note: "x".to_owned(), streams: Vec::new(), window: None, verbose: false };
    let debug = client.request_debug_upload(request.clone()).unwrap();
    let log_id = client.log_id().unwrap().unwrap();
    assert!(debug.marker.starts_with(&format!("BUG-{log_id}-")), "{}", debug.marker);
    assert_eq!(client.stats().unwrap().store.unwrap().diagnostics.dropped, 0);
    debug.upload.cancel().unwrap();
    assert_eq!(debug.upload.join().unwrap().outcome, crate::UploadOutcome::Cancelled);
    let long = DebugRequest { note: "x".repeat(100_000), ..request };
    assert!(matches!(client.request_debug_upload(long), Err(TuntrailError::Config { .. })));
    let command = r#"{"v":1,"id":"a","kind":"socket_stats","seconds":60}"#;
    assert!(matches!(client.handle_command(command), Err(TuntrailError::Config { .. })));
    client.shutdown().unwrap();

    let allowing =
        ClientConfig { remote_commands: Some(crate::RemoteCommands::Allowed), ..config(directory.path()) };
    let client = Client::new(allowing).unwrap();
    let outcome = client.handle_command(command).unwrap();
    assert!(
        matches!(outcome, CommandOutcome::RecordingSockets { duration } if duration == Duration::from_secs(60))
    );
    assert!(matches!(client.handle_command(command), Ok(CommandOutcome::Duplicate)));
}

#[test]
fn after_a_shutdown_everything_that_does_something_says_closed() {
    let directory = tempfile::tempdir().unwrap();
    let client = Client::new(config(directory.path())).unwrap();
    client.shutdown().unwrap();
    let state = NetworkState {
        connected: true,
        id: 1,
        interface: None,
        metered: false,
        roaming: false,
        low_data: false,
    };
    let (device, _other) = tun();
    for outcome in [
        client.upload("test", Vec::new()).map(drop),
        client.set_consent(Consent::Granted),
        client.set_listener(None),
        client.start_tunnel(tunnel_config(peer(None)), device, None, None).map(drop),
        client.stop_tunnel(),
        client.refresh_tunnel(),
        client.set_network_state(state),
        client.flush(),
        client.clear(),
        client.socket_counter(64).map(drop),
        client.next_upload_task().map(drop),
        client.log_id().map(drop),
        client.stats().map(drop),
        client.set_log_filter("info"),
    ] {
        assert!(matches!(outcome, Err(TuntrailError::Closed { .. })), "{outcome:?}");
    }
}

#[test]
fn errors_keep_their_kind_across_the_boundary() {
    let directory = tempfile::tempdir().unwrap();
    let new = |change: fn(&mut ClientConfig)| {
        let mut config = config(directory.path());
        change(&mut config);
        Client::new(config).unwrap_err()
    };
    for wrong in [
        new(|config| config.base_url = "ftp://x".to_owned()),
        new(|config| config.directory = String::new()),
        new(|config| config.log_filter = "loud".to_owned()),
        new(|config| config.private_id = Some("secret".to_owned())),
        new(|config| config.max_disk_bytes = Some(1)),
        new(|config| (config.max_disk_bytes, config.consent) = (Some(1), Consent::Unknown)),
    ] {
        assert!(matches!(wrong, TuntrailError::Config { .. }), "{wrong:?}");
        assert!(!wrong.to_string().contains("secret"), "{wrong}");
    }
    let unknown = ClientConfig { consent: Consent::Unknown, ..config(directory.path()) };
    let client = Client::new(unknown).unwrap();
    assert!(matches!(client.upload("test", Vec::new()), Err(TuntrailError::NoConsent { .. })));
    assert!(matches!(client.set_session_rules(Vec::new()), Err(TuntrailError::Config { .. })));
    assert!(matches!(client.socket_counter(3), Err(TuntrailError::Config { .. })));
    let node = Node {
        id: 1,
        stable_id: "n1".to_owned(),
        name: String::new(),
        addresses: vec!["100.64.0.999".to_owned()],
        os: String::new(),
        user: None,
        tags: Vec::new(),
    };
    let map = NetworkMap { self_node: Some(node), peers: Vec::new(), users: Vec::new() };
    let routes = Routes { local: Vec::new(), remote: Vec::new(), subnet_routes: Vec::new() };
    let error = client.set_network(map, routes).unwrap_err();
    assert!(error.to_string().contains("100.64.0.999"), "{error}");
}

#[test]
fn an_export_that_can_not_be_written_names_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let client = Client::new(config(directory.path())).unwrap();
    let error = client.export("/no/such/folder/export.tar.zst").unwrap_err();
    assert!(matches!(error, TuntrailError::Storage { .. }), "{error:?}");
    assert!(error.to_string().contains("/no/such/folder/export.tar.zst"), "{error}");
}

#[test]
fn a_tunnel_that_can_not_start_closes_its_descriptor() {
    let directory = tempfile::tempdir().unwrap();
    let client = Client::new(config(directory.path())).unwrap();
    let (device, other) = tun();
    let no_key = TunnelConfig { private_key: "x".to_owned(), ..tunnel_config(peer(None)) };
    let error = client.start_tunnel(no_key, device, None, None).unwrap_err();
    assert!(matches!(error, TuntrailError::Config { .. }), "{error:?}");
    assert!(other.send(&[0]).is_err(), "the other end is closed");
    let wintun = TunDevice::Wintun { library: String::new(), name: String::new(), guid: None };
    for device in [TunDevice::Tun { descriptor: -1 }, wintun] {
        let error = client.start_tunnel(tunnel_config(peer(None)), device, None, None).unwrap_err();
        assert!(matches!(error, TuntrailError::Config { .. }), "{error:?}");
    }
}

#[test]
fn there_is_one_tunnel_at_a_time_and_its_sockets_are_protected() {
    struct Protector(Mutex<std::sync::mpsc::Sender<u64>>);
    impl SocketProtector for Protector {
        fn protect(&self, socket: u64) -> Result<bool, CallbackError> {
            self.0.lock().unwrap().send(socket).unwrap();
            Ok(true)
        }
    }
    struct Resolver;
    impl HostResolver for Resolver {
        fn resolve(&self, host: String) -> Result<Vec<String>, CallbackError> {
            assert_eq!(host, "vpn.example.com");
            Ok(vec!["127.0.0.1".to_owned()])
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let client = Client::new(config(directory.path())).unwrap();
    let (sender, protected) = channel();
    let (device, _app) = tun();
    let named = tunnel_config(peer(Some("vpn.example.com:51820")));
    let info = client
        .start_tunnel(named, device, Some(Arc::new(Protector(Mutex::new(sender)))), Some(Arc::new(Resolver)))
        .unwrap();
    assert!(info.local_v4.is_some() && info.adapter_luid.is_none(), "{info:?}");
    assert!(protected.recv().unwrap() > 2);
    let stats = client.stats().unwrap().tunnel.unwrap();
    assert_eq!(stats.peers[0].endpoint.as_deref(), Some("127.0.0.1:51820"));
    let (device, _other) = tun();
    let error = client.start_tunnel(tunnel_config(peer(None)), device, None, None).unwrap_err();
    assert!(matches!(error, TuntrailError::Tunnel { .. }), "{error:?}");
    client.stop_tunnel().unwrap();
}

#[test]
fn a_protector_that_says_no_fails_the_start() {
    struct No;
    impl SocketProtector for No {
        fn protect(&self, _socket: u64) -> Result<bool, CallbackError> {
            Ok(false)
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let client = Client::new(config(directory.path())).unwrap();
    let (device, _app) = tun();
    let error = client.start_tunnel(tunnel_config(peer(None)), device, Some(Arc::new(No)), None).unwrap_err();
    assert!(matches!(error, TuntrailError::Tunnel { .. }), "{error:?}");
}

/// Passes events on.
struct Listener(Mutex<std::sync::mpsc::Sender<Event>>);

impl EventListener for Listener {
    #[expect(clippy::unwrap_used, reason = "a helper of tests")]
    fn on_event(&self, event: Event) -> Result<(), CallbackError> {
        self.0.lock().unwrap().send(event).unwrap();
        Ok(())
    }
}

#[test]
fn a_listener_that_comes_late_is_told_of_uploads_that_wait_for_the_host() {
    let directory = tempfile::tempdir().unwrap();
    let uploads = UploadSettings {
        headers: Vec::new(),
        root_certificates_pem: None,
        connect_timeout: None,
        request_timeout: None,
        automatic: None,
        host_transport: true,
        low_memory: false,
    };
    let config = ClientConfig { uploads: Some(uploads), ..config(directory.path()) };
    // The process is killed while an upload waits for its host.
    let client = Client::new(config.clone()).unwrap();
    let request = DebugRequest { note: String::new(), streams: Vec::new(), window: None, verbose: false };
    client.request_debug_upload(request).unwrap();
    assert!(matches!(client.next_upload_task().unwrap(), UploadTask::Send { .. }));
    drop(client);

    let client = Client::new(config).unwrap();
    let (sender, events) = channel();
    client.set_listener(Some(Arc::new(Listener(Mutex::new(sender))))).unwrap();
    assert_eq!(events.recv().unwrap(), Event::UploadWorkWaiting);
    assert!(matches!(client.next_upload_task().unwrap(), UploadTask::Send { .. }));
}

#[test]
fn the_listener_is_told_of_the_end_of_the_device_and_of_uploads() {
    let directory = tempfile::tempdir().unwrap();
    let client = Client::new(config(directory.path())).unwrap();
    let (sender, events) = channel();
    client.set_listener(Some(Arc::new(Listener(Mutex::new(sender))))).unwrap();
    // Without the lines of our own log there is nothing to send.
    let report = client.upload("test", vec![Stream::Windows]).unwrap().join().unwrap();
    assert_eq!(events.recv().unwrap(), Event::UploadEnded { report });
    let (ours, app) = std::os::unix::net::UnixStream::pair().unwrap();
    let device = TunDevice::Tun { descriptor: ours.into_raw_fd() };
    client.start_tunnel(tunnel_config(peer(None)), device, None, None).unwrap();
    drop(app);
    assert_eq!(events.recv().unwrap(), Event::TunnelDeviceEnded);
}

#[test]
fn a_utun_descriptor_stays_the_systems() {
    let directory = tempfile::tempdir().unwrap();
    let client = Client::new(config(directory.path())).unwrap();
    let (theirs, _other) = UnixDatagram::pair().unwrap();
    let device = TunDevice::Utun { descriptor: theirs.as_raw_fd() };
    client.start_tunnel(tunnel_config(peer(None)), device, None, None).unwrap();
    client.stop_tunnel().unwrap();
    assert!(theirs.local_addr().is_ok(), "still open");
}

#[test]
fn a_registered_socket_must_be_tcp() {
    let directory = tempfile::tempdir().unwrap();
    let client = Client::new(config(directory.path())).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let registered = client.register_socket(tcp.as_raw_fd(), 64).unwrap();
    registered.unregister().unwrap();
    registered.unregister().unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(matches!(client.register_socket(udp.as_raw_fd(), 64), Err(TuntrailError::Config { .. })));
    assert!(matches!(client.register_socket(-1, 64), Err(TuntrailError::Config { .. })));
}
