//! What timers cost a device, exactly. `cargo run --manifest-path tests/timers/Cargo.toml` prints the figures.

use std::time::Duration;

use tuntrail_timers::table;

#[test]
fn timers_cost_what_the_documentation_says() {
    let [request, busy, upload, slow, kept] = table().try_into().expect("five rows");

    // A keepalive that acknowledges the answer, and wiping the keys.
    assert_eq!((request.engine.wakes, request.engine.initiations), ([2, 1], 1));
    assert_eq!((request.polled.wakes[0], request.polled.initiations), (14_400, 1));

    // Five sessions in ten minutes: the first, and four that replace a session of 120 s.
    assert_eq!((busy.engine.idle_wakes[0], busy.engine.initiations), (2, 5));
    assert!(busy.polled.idle_wakes[0] > 14_000);
    assert_eq!(upload.engine.initiations, 5);

    // A session serves three requests, the third of which renews it; boringtun starts a handshake with each that it
    // has no answer to yet.
    assert_eq!(slow.engine.initiations, 20);
    assert!(slow.polled.initiations >= 60, "{:?}", slow.polled);

    assert!((140..=150).contains(&kept.engine.wakes[0]), "{:?}", kept.engine);
    assert!(kept.polled.wakes[0] > 14_000);

    for row in [&request, &busy, &upload, &slow, &kept] {
        assert_eq!(row.engine.delivered, row.engine.sent, "{}", row.name);
        assert_eq!(row.polled.delivered, row.polled.sent, "{}", row.name);
        // With keepalives a session is replaced as soon as it is 175 s old; boringtun waits for it to be gone.
        assert!(row.engine.initiations <= row.polled.initiations + 2, "{}", row.name);
        assert!(row.engine.oldest_sent <= Duration::from_secs(180), "{}", row.name);
    }
    for row in [&request, &busy, &upload] {
        assert!(row.engine.at_rest, "{}", row.name);
        assert!(!row.polled.at_rest);
    }
}
