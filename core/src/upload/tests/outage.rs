//! An hour without a server, one record every five seconds: all of them arrive. (logtail delivers 257 of these 721: its
//! buffer holds 256 records.)

use super::*;
use crate::upload::tests::store::append_entry;

#[test]
fn after_an_hour_of_outage_721_of_721_records_arrive() {
    let server = Server::start([]);
    server.set_down(true);
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::new("2026-01-02T03:04:05Z".parse().unwrap());
    let name = StreamName::new("netlog").unwrap();
    let shared = Arc::new(clock.clone());
    let config = StoreConfig { root: dir.path().to_owned(), role: Role::Service, clock: shared.clone() };
    let store = Store::open(config, vec![StreamConfig::new(name.clone())]).unwrap();
    let handle = store.stream(&name).unwrap();
    let stream = UploadStream::new(
        handle.clone(),
        "flows.log.example.com".parse().unwrap(),
        PrivateId::from_bytes(ID),
    );
    let mut config = UploadConfig::new(&server.url()).unwrap();
    config.policy = UploadPolicy::Automatic(AutomaticPolicy::default());
    let alarm = ManualAlarm::new(clock);
    let uploader = Uploader::start_with(config, vec![stream], shared, Box::new(alarm.clone())).unwrap();
    assert_eq!(alarm.asleep_after(0), None);
    let network = |id| NetworkState { connected: true, id, ..NetworkState::default() };
    uploader.set_network_state(network(1));

    let step = Duration::from_secs(5);
    for number in 0..=720 {
        let object = payload(number, 500);
        append_entry(&handle, object.trim_end());
        handle.flush().unwrap();
        uploader.note_pending("netlog", object.len() as u64);
        alarm.advance(step, || uploader.shared().poke());
    }
    let during = uploader.stats();
    assert!(during.failed_passes >= 1, "it was tried: {during:?}");
    assert!(during.failed_passes <= 5, "and not in vain for ever: {during:?}");
    assert_eq!(during.sent_records, 0);
    assert!(server.connections() <= 25, "{} attempts in an hour", server.connections());

    server.set_down(false);
    uploader.set_network_state(network(2));
    let begin = alarm.now();
    while uploader.stats().sent_records == 0 {
        alarm.advance(step, || uploader.shared().poke());
        assert!(
            alarm.now().saturating_duration_since(begin) < Duration::from_secs(3600),
            "{:?}",
            uploader.stats()
        );
    }
    let mut seqs: Vec<_> = server.requests().iter().flat_map(Received::seqs).collect();
    seqs.dedup();
    assert_eq!(seqs, (1..=721).collect::<Vec<_>>(), "each once, in order");
    assert_eq!(uploader.stats().sent_records, 721);
    assert!(handle.seal().unwrap().is_empty());
}
