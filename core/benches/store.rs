//! The store's figures. `cargo bench -p tuntrail --bench store`
//!
//! - `append`: what one append of 300 bytes costs the thread that appends, with the writer at work beside it.
//! - `append_and_write`: the same records from append until they are in the system's hands and sealed segments
//!   are compressed, on both threads together, in wall time.
//! - the bytes of records that 5 MiB of disk hold, printed before the measurements.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark may fail loudly")]
#![allow(missing_docs, reason = "criterion's macros make a public function")]

use std::{fmt::Write, hint::black_box, sync::Arc, time::Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tuntrail::{
    clock::SystemClock,
    store::{AppendError, Role, Store, StoreConfig, StreamConfig, StreamHandle, StreamName},
};

/// Bytes of a record in the measurements, as in the design's table of targets.
const RECORD: usize = 300;

/// Records between two flushes: below the queue's limit, so that none is refused.
const BURST: usize = 200;

fn open(root: &std::path::Path) -> (Store, StreamHandle) {
    let name = StreamName::new("netlog").unwrap();
    let config = StoreConfig { root: root.to_owned(), role: Role::Service, clock: Arc::new(SystemClock) };
    let store = Store::open(config, vec![StreamConfig::new(name.clone())]).unwrap();
    let handle = store.stream(&name).unwrap();
    (store, handle)
}

/// A message of one window: JSON as the flow logger writes it. One to four of some 40 live connections have
/// traffic; a connection lives for about 200 windows. Packet counts spread evenly over their logarithm.
fn message(number: u64) -> String {
    // Deterministic, so that two runs hold the same.
    let mut random = generator(number);
    let seconds = number * 5;
    let time = format!("2025-06-01T{:02}:{:02}:{:02}", seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let nanos = random(1_000_000_000);
    let mut text = format!(
        r#"{{"logged":"{time}.{:09}Z","nodeId":"n7XyT2CNTRL","start":"{time}.{nanos:09}Z","virtualTraffic":["#,
        random(1_000_000_000)
    );
    for connection in 0..1 + random(4) {
        let slot = random(40);
        let mut endpoint = generator((slot << 32) | ((number + slot * 5) / 200));
        let magnitude = random(10);
        let (tx, rx) = (1 + random(1 << magnitude), 1 + random(2 << magnitude));
        let comma = if connection > 0 { "," } else { "" };
        write!(
            text,
            r#"{comma}{{"proto":{},"src":"100.64.0.1:{}","dst":"100.101.{}.{}:{}","txPkts":{tx},"txBytes":{},"rxPkts":{rx},"rxBytes":{}}}"#,
            if endpoint(4) == 0 { 17 } else { 6 },
            32_768 + endpoint(28_000),
            endpoint(4),
            endpoint(16),
            [443, 80, 22, 53][endpoint(4) as usize],
            tx * (60 + random(200)),
            rx * (60 + random(1_200)),
        )
        .unwrap();
    }
    text.push_str("]}");
    text
}

/// Numbers below a limit: xorshift, the same for the same seed.
fn generator(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 8) % below
    }
}

/// Fills a stream to its cap and compares what can be read with what it takes.
fn held() {
    let dir = tempfile::tempdir().unwrap();
    let (store, handle) = open(dir.path());
    for number in 0..400_000 {
        while matches!(handle.append(message(number).as_bytes()), Err(AppendError::QueueFull { .. })) {
            handle.flush().unwrap();
        }
        if number % 100 == 0 {
            handle.flush().unwrap();
        }
        if number % 1_000 == 0 && handle.stats().dropped.total().records > 0 {
            break;
        }
    }
    let segments = handle.seal().unwrap();
    let records: u64 = segments.iter().map(|info| u64::from(info.records)).sum();
    let raw: u64 = segments.iter().map(|info| u64::from(info.raw_bytes)).sum::<u64>() - 16 * records;
    let disk = handle.stats().disk_bytes;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "held: {:.1} MiB of records ({records}, {} bytes on average) in {:.2} MiB of disk and {} files: {:.2} bytes per byte",
        mib(raw),
        raw / records.max(1),
        mib(disk),
        segments.len(),
        raw as f64 / disk as f64,
    );
    store.destroy().unwrap();
}

fn append(criterion: &mut Criterion) {
    held();
    let dir = tempfile::tempdir().unwrap();
    let (store, handle) = open(dir.path());
    let records: Vec<Vec<u8>> = (0..BURST as u64)
        .map(|number| {
            let mut record = message(number).into_bytes();
            record.resize(RECORD, b' ');
            record
        })
        .collect();
    let mut group = criterion.benchmark_group("store");
    group.throughput(Throughput::Elements(1));
    group.bench_function("append", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut spent = std::time::Duration::ZERO;
            let mut left = iterations;
            while left > 0 {
                let burst = left.min(BURST as u64);
                let start = Instant::now();
                for record in records.iter().take(burst as usize) {
                    black_box(handle.append(black_box(record))).unwrap();
                }
                spent += start.elapsed();
                handle.flush().unwrap();
                left -= burst;
            }
            spent
        });
    });
    group.bench_function("append_and_write", |bencher| {
        bencher.iter_custom(|iterations| {
            let start = Instant::now();
            let mut left = iterations;
            while left > 0 {
                let burst = left.min(BURST as u64);
                for record in records.iter().take(burst as usize) {
                    black_box(handle.append(black_box(record))).unwrap();
                }
                handle.flush().unwrap();
                left -= burst;
            }
            start.elapsed()
        });
    });
    group.finish();
    store.destroy().unwrap();
}

criterion_group!(benches, append);
criterion_main!(benches);
