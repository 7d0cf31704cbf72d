//! Counter threads, somebody who reconfigures and somebody who shuts down, all at once.
//!
//! What each thread does is drawn from a seed; how the threads interleave is up to the machine. Whatever happens,
//! each packet is in a record, withheld by the rule for exit traffic, or discarded after the shutdown.

use std::{sync::mpsc, time::Duration};

use super::{
    super::testing::{Bench, count_number, network, udp},
    PEER, SELF, sum,
};
use crate::{
    clock::{Clock, ManualClock},
    flow::{Counts, ExitFlows, FlowConfig, FlowLogger, Layer},
    hook::{ConnectionCounter, Direction},
    netmap::{NetworkMap, Routes},
};

const LAYERS: [Layer; 3] = [Layer::Virtual, Layer::Virtual, Layer::Physical];
/// Per thread. With the thread's other work some 10 ms in a debug build.
const PACKETS: u32 = 3_000;
/// Different draws; each takes long enough for some hundred hand-overs.
const ROUNDS: u64 = 6;

#[test]
fn threads_that_count_reconfigure_and_flush_at_the_same_time_lose_nothing() {
    for seed in 1..=ROUNDS {
        let bench = bench();
        let counted = run(&bench, seed, None);
        bench.logger.shutdown();
        assert_eq!(bench.logger.stats().discarded, Counts::default(), "every counter was dropped before");
        assert_eq!(accounted_for(&bench), counted, "seed {seed}");
        assert_eq!(counted.packets(), u64::from(PACKETS) * LAYERS.len() as u64);
    }
}

#[test]
fn what_is_counted_around_a_shutdown_is_recorded_or_reported_as_discarded() {
    for seed in 1..=ROUNDS {
        let bench = bench();
        let mut late = bench.counter();
        count_number(&mut late, bench.now(), 1);
        let mut counted = run(&bench, seed, Some(PACKETS / ROUNDS as u32 * seed as u32 - PACKETS / 12));
        // The threads may have been faster than the one that shuts down; this counter is late for certain.
        bench.logger.shutdown();
        count_number(&mut late, bench.now(), 1);
        drop(late);
        counted.add(2, 2 * 28, Direction::Tx);
        assert_ne!(bench.logger.stats().discarded, Counts::default());
        assert_eq!(accounted_for(&bench), counted, "seed {seed}");
    }
}

fn bench() -> Bench {
    Bench::new(FlowConfig { max_flows: 300, ..FlowConfig::default() })
}

/// Runs all threads to their ends and tells what was counted. The logger is shut down when the first thread has
/// counted `stop_after` packets.
fn run(bench: &Bench, seed: u64, stop_after: Option<u32>) -> Counts {
    let (logger, clock) = (&bench.logger, &bench.clock);
    let (stop, stopped) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let counting: Vec<_> = (0..)
            .zip(LAYERS)
            .map(|(thread, layer)| {
                let random = Random(seed * 100 + thread);
                let stop = (thread == 0).then(|| stop.clone());
                scope.spawn(move || {
                    count(logger, clock, layer, random, |number| {
                        if let (Some(stop), true) = (&stop, Some(number) == stop_after) {
                            let _ = stop.send(());
                        }
                    })
                })
            })
            .collect();
        drop(stop);
        scope.spawn(move || reconfigure(logger, Random(seed)));
        scope.spawn(move || {
            if stopped.recv().is_ok() {
                logger.shutdown();
            }
        });
        let mut counted = Counts::default();
        for thread in counting {
            counted += thread.join().unwrap();
        }
        counted
    })
}

/// A packet thread; tells what it counted.
fn count(
    logger: &FlowLogger,
    clock: &ManualClock,
    layer: Layer,
    mut random: Random,
    before_each: impl Fn(u32),
) -> Counts {
    let mut counted = Counts::default();
    let mut counter = logger.counter(layer);
    for number in 0..PACKETS {
        before_each(number);
        let now = clock.now();
        counter.handle_deadline(now);
        let remote = [PEER, [10, 0, 0, 1], [8, 8, 8, 8], [1, 2, 3, 4]][random.below(4) as usize];
        let direction = if random.below(2) == 0 { Direction::Tx } else { Direction::Rx };
        let port = random.below(150) as u16;
        let packet = match direction {
            Direction::Tx => udp(SELF, port, remote, 53),
            Direction::Rx => udp(remote, 53, SELF, port),
        };
        counter.count_packet(now, &packet, direction);
        counted.add(1, packet.len() as u64, direction);
        match random.below(120) {
            0 => clock.advance(Duration::from_millis(1_700)),
            1 => counter.flush(now),
            2 => counter = logger.counter(layer),
            // Two of a kind for a moment.
            3 => drop(std::mem::replace(&mut counter, logger.counter(layer))),
            _ => {}
        }
    }
    counted
}

fn reconfigure(logger: &FlowLogger, mut random: Random) {
    for _ in 0..300 {
        match random.below(6) {
            0 => logger.set_network(NetworkMap::default(), Routes::default()),
            1 => {
                let (map, routes) = network();
                logger.set_network(map, routes);
            }
            2 => logger.set_exit_flows(ExitFlows::Off),
            3 => logger.set_exit_flows(ExitFlows::Aggregated),
            4 => logger.set_exit_flows(ExitFlows::Full),
            _ => logger.flush(),
        }
    }
}

fn accounted_for(bench: &Bench) -> Counts {
    let stats = bench.logger.stats();
    let mut all = stats.discarded;
    all += stats.withheld.counts;
    bench.messages().iter().for_each(|message| all += sum(message));
    all
}

/// Marsaglia's xorshift: the tests need variety, not quality.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % end
    }
}
