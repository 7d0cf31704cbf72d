//! Everything at once, from several threads: nobody waits for ever, nothing is lost, no record is sent out of order.

use super::*;

/// One thread's share.
const OPERATIONS: u64 = 150;

#[test]
fn whatever_threads_do_every_ticket_gets_a_report_and_every_record_arrives() {
    for (seed, transport) in
        [(1, Transport::BuiltIn), (2, Transport::BuiltIn), (3, Transport::Host), (4, Transport::Host)]
    {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench::with([], |config| {
            config.transport = transport;
            config.policy = UploadPolicy::Automatic(AutomaticPolicy::default());
            config.request_directory = Some(dir.path().to_owned());
        });
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let bench = &bench;
                scope.spawn(move || {
                    let tickets = act(bench, seed * 100 + thread, transport);
                    // The last to end may have left a pause.
                    bench.uploader.resume_uploads();
                    for ticket in tickets {
                        while transport == Transport::Host && ticket.report().is_none() {
                            bench.uploader.resume_uploads();
                            bench.host_once();
                        }
                        bench.uploader.resume_uploads();
                        let _ = ticket.wait();
                    }
                });
            }
        });
        bench.uploader.resume_uploads();
        let last = bench.uploader.upload("last", UploadOptions::default());
        if transport == Transport::Host {
            while last.report().is_none() {
                bench.host_once();
            }
        }
        let outcome = last.wait().outcome;
        assert!(matches!(outcome, UploadOutcome::Complete | UploadOutcome::NothingToSend), "{outcome:?}");
        assert_eq!(bench.source.pending(), 0);
        let mut known = 0;
        for seq in bench.requests().iter().flat_map(Received::seqs) {
            // What was broken off, or carried by two workers, comes again.
            assert!(seq <= known + 1, "{seq} comes before {}", known + 1);
            known = known.max(seq);
        }
        assert!(known > 0 && known == bench.source.appended(), "{known}");
    }
}

fn act(bench: &Bench, seed: u64, transport: Transport) -> Vec<super::super::UploadTicket> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    };
    let mut tickets = Vec::new();
    for _ in 0..OPERATIONS {
        match random(12) {
            0..3 => bench.source.push(&["{}\n"]),
            3..6 => tickets.push(bench.uploader.upload("stress", UploadOptions::default())),
            6 => bench.uploader.note_pending("netlog", random(1 << 18)),
            7 => {
                let id = random(3);
                let metered = random(2) == 0;
                bench.uploader.set_network_state(NetworkState {
                    connected: id > 0,
                    id,
                    metered,
                    ..Default::default()
                });
            }
            8 if tickets.len() > 3 => {
                let which = random(tickets.len() as u64) as usize;
                tickets[which].cancel();
            }
            9 if random(4) == 0 => bench.uploader.cancel(),
            10 if random(2) == 0 => bench.uploader.pause_uploads(),
            _ => bench.uploader.resume_uploads(),
        }
        if transport == Transport::Host {
            bench.host_once();
        }
    }
    tickets
}
