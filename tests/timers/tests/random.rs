//! Random traffic on random networks: tuntrail's timers against boringtun's.

use std::time::Duration;

use tuntrail_timers::{EngineNode, Polled, Report, Scenario, simulate, simulate_late};

/// Enough for the totals to differ by much more than chance, and done in well under a minute.
const RUNS: u64 = 2000;
/// No session is used beyond this age (WireGuard paper, 6.1: Reject-After-Time).
const REJECT_AFTER: Duration = Duration::from_secs(180);
/// From the last application packet to the last wake-up: it waits up to 90 s for a handshake; sent then, it is missed
/// after 15.3 s, and the next handshake may take 90 s again; keys are wiped 540 s after that. Two seconds for the way.
const LONGEST_TAIL: Duration = Duration::from_millis(90_000 + 15_334 + 90_000 + 540_000 + 2_000);
/// Of both nodes after the last packet: two attempts of 18 initiations each, keepalives, wiping.
const MOST_IDLE_WAKES: u64 = 80;

fn add(total: &mut Report, run: &Report) {
    total.sent += run.sent;
    total.delivered += run.delivered;
    total.repeated += run.repeated;
    total.initiations += run.initiations;
    total.keepalives += run.keepalives;
    for side in [0, 1] {
        total.wakes[side] += run.wakes[side];
        total.idle_wakes[side] = total.idle_wakes[side].max(run.idle_wakes[side]);
    }
    total.tail = total.tail.max(run.tail);
    total.oldest_sent = total.oldest_sent.max(run.oldest_sent);
    total.oldest_received = total.oldest_received.max(run.oldest_received);
}

/// The sums, and the greatest of what is no sum.
fn line(total: &Report) -> String {
    let Report { sent, delivered, initiations, keepalives, wakes: [a, b], .. } = total;
    format!(
        "{delivered} of {sent} packets, {initiations} handshakes started, {keepalives} keepalives, {a} + {b} wake-ups; at \
         most {:?} idle wake-ups, {:?} until the last, sessions of {:?} sent on, of {:?} received on",
        total.idle_wakes, total.tail, total.oldest_sent, total.oldest_received
    )
}

/// Sums over scenarios without and with outages, of engines and of boringtun.
#[derive(Default)]
struct Totals([[Report; 2]; 2]);

/// Runs scenarios on all cores; each thread has a clock of its own.
fn on_all_cores(runs: u64, run: impl Fn(u64, &mut Totals) + Sync) -> Totals {
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64).min(runs);
    let run = &run;
    let of_thread = |thread| {
        let mut totals = Totals::default();
        (thread..runs).step_by(threads as usize).for_each(|seed| run(seed, &mut totals));
        totals
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || of_thread(thread))).collect();
        let mut totals = Totals::default();
        for thread in threads {
            let part = thread.join().expect("a thread whose scenarios went well");
            for (total, part) in totals.0.iter_mut().flatten().zip(part.0.iter().flatten()) {
                add(total, part);
            }
        }
        totals
    })
}

#[test]
fn engines_deliver_more_with_fewer_handshakes_and_come_to_rest() {
    let Totals([steady, broken]) = on_all_cores(RUNS, |seed, totals| {
        let scenario = Scenario::random(seed);
        let (ours, theirs) = (simulate::<EngineNode>(&scenario), simulate::<Polled>(&scenario));
        assert!(ours.at_rest, "seed {seed}: {ours:?}");
        assert!(ours.tail <= LONGEST_TAIL, "seed {seed}: {ours:?}");
        assert!(ours.idle_wakes.iter().sum::<u64>() <= MOST_IDLE_WAKES, "seed {seed}: {ours:?}");
        assert!(ours.oldest_sent <= REJECT_AFTER, "seed {seed}: {ours:?}");
        assert!(ours.oldest_received <= REJECT_AFTER, "seed {seed}: {ours:?}");
        assert_eq!((ours.repeated, theirs.repeated), (0, 0), "seed {seed}");
        // Which side finds the end of an outage first is chance, and with it what is lost before; over all runs it
        // evens out, in one it may cost a burst.
        assert!(ours.delivered + 10 + ours.sent / 5 >= theirs.delivered, "seed {seed}: {ours:?} {theirs:?}");
        let [engine, polled] = &mut totals.0[usize::from(!scenario.link.outages.is_empty())];
        add(engine, &ours);
        add(polled, &theirs);
    });
    for (name, [engine, polled]) in [("without outages", &steady), ("with outages", &broken)] {
        println!("{name}\n  tuntrail  {}\n  boringtun {}", line(engine), line(polled));
    }
    for (name, [engine, polled]) in [("without outages", &steady), ("with outages", &broken)] {
        // Chance decides about some dozen packets that are lost with one timing and not with the other.
        assert!(engine.delivered * 1000 >= polled.delivered * 999, "{name}");
        assert!(engine.initiations * 100 <= polled.initiations * 95, "{name}");
        assert!(engine.wakes[0] * 100 < polled.wakes[0], "{name}");
    }
    let delivered = |index: usize| steady[index].delivered + broken[index].delivered;
    assert!(delivered(0) > delivered(1), "{} and {}", delivered(0), delivered(1));
}

#[test]
fn timers_that_fire_late_cost_nothing() {
    let Totals([[punctual, late], _]) = on_all_cores(RUNS / 5, |seed, totals| {
        let scenario = Scenario::random(seed);
        let [punctual, late] = &mut totals.0[0];
        add(punctual, &simulate::<EngineNode>(&scenario));
        let run = simulate_late::<EngineNode>(&scenario, Duration::from_secs(30));
        assert!(run.at_rest, "seed {seed}: {run:?}");
        assert!(
            run.oldest_sent <= REJECT_AFTER && run.oldest_received <= REJECT_AFTER,
            "seed {seed}: {run:?}"
        );
        add(late, &run);
    });
    println!("punctual {}\nlate     {}", line(&punctual), line(&late));
    assert!(late.delivered * 1000 >= punctual.delivered * 990, "less than 1 % may be lost");
}
