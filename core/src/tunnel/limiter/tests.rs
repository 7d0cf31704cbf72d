//! Tests of the limiter against messages that boringtun makes.

use boringtun::noise::Tunn;

use super::*;

const START: Instant = Instant::from_nanos(1_000_000_000_000);

/// A limiter for the key 2, and the owner of key 1 that calls it.
struct Case {
    limiter: HandshakeLimiter,
    client: Tunn,
    now: Instant,
}

/// A verdict without the cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Admit,
    Prove,
    TooMany,
    Refuse,
}

use Outcome::{Admit, Prove, Refuse, TooMany};

impl Case {
    fn new() -> Self {
        let public_key = x25519::PublicKey::from(&x25519::StaticSecret::from([2; 32]));
        let client = Tunn::new([1; 32].into(), public_key, None, None, 1, None);
        Self { limiter: HandshakeLimiter::new(&public_key), client, now: START }
    }

    fn initiation(&mut self) -> Vec<u8> {
        let mut buffer = [0; 148];
        match self.client.format_handshake_initiation(&mut buffer, true) {
            TunnResult::WriteToNetwork(message) => message.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    fn judge(&mut self, from: &str, message: &[u8]) -> Outcome {
        let mut buffer = [0; 64];
        match self.limiter.judge(self.now, from.parse().unwrap(), message, &mut buffer) {
            Verdict::Admit => Admit,
            Verdict::Prove(cookie) => {
                assert_eq!(cookie.len(), 64);
                // Goes where the message came from; here the client is everywhere.
                let mut output = [0; 148];
                let taken = self.client.decapsulate(None, &buffer, &mut output);
                assert!(matches!(taken, TunnResult::Done | TunnResult::Err(_)), "{taken:?}");
                Prove
            }
            Verdict::TooMany => TooMany,
            Verdict::Refuse(_) => Refuse,
        }
    }

    /// A message that shows the cookie for `from`.
    fn proven(&mut self, from: &str) -> Vec<u8> {
        let initiation = self.initiation();
        for _ in 0..6 {
            if self.judge(from, &initiation) == Prove {
                return self.initiation();
            }
        }
        panic!("no cookie within six messages");
    }

    /// Messages from so many others that nobody is admitted without a cookie.
    fn flood(&mut self) {
        let initiation = self.initiation();
        for number in 0..1000 {
            self.judge(&format!("198.51.{}.{}:1", number / 250, number % 250), &initiation);
        }
    }
}

#[test]
fn a_source_needs_a_cookie_from_its_sixth_message_at_once() {
    let mut case = Case::new();
    let initiation = case.initiation();
    let from = "192.0.2.1:51820";
    let outcomes = [(); 7].map(|()| case.judge(from, &initiation));
    assert_eq!(outcomes, [Admit, Admit, Admit, Admit, Admit, Prove, Prove]);
    assert_eq!(case.judge("192.0.2.2:51820", &initiation), Admit, "others need none");
    case.now = case.now + Duration::from_millis(50);
    assert_eq!([case.judge(from, &initiation), case.judge(from, &initiation)], [Admit, Prove]);
}

#[test]
fn sources_together_need_cookies_beyond_50_a_second() {
    let mut case = Case::new();
    let initiation = case.initiation();
    let mut admitted = |now| {
        case.now = now;
        let from = |number| format!("192.0.2.{number}:51820");
        (0..200).filter(|number| case.judge(&from(*number), &initiation) == Admit).count()
    };
    assert_eq!(admitted(START), 50);
    assert_eq!(admitted(START + Duration::from_millis(100)), 5);
    assert_eq!(admitted(START + Duration::from_secs(60)), 50);
}

#[test]
fn a_cookie_lets_its_owner_in_whatever_others_send() {
    let mut case = Case::new();
    case.flood();
    let from = "192.0.2.1:51820";
    let message = case.initiation();
    assert_eq!(case.judge(from, &message), Prove);
    let message = case.initiation();
    case.flood();
    assert_eq!(case.judge(from, &message), Admit);
}

#[test]
fn nobody_uses_up_what_a_source_with_cookie_has_by_using_its_address() {
    let mut case = Case::new();
    let from = "192.0.2.1:51820";
    let proven = case.proven(from);
    let mut stranger = Case::new();
    let spoofed = stranger.initiation();
    for _ in 0..100 {
        case.judge(from, &spoofed);
    }
    assert_eq!([(); 5].map(|()| case.judge(from, &proven)), [Admit; 5]);
}

#[test]
fn a_source_with_cookie_is_limited_to_20_a_second() {
    let mut case = Case::new();
    let from = "192.0.2.1:51820";
    let proven = case.proven(from);
    assert_eq!([(); 6].map(|()| case.judge(from, &proven)), [Admit, Admit, Admit, Admit, Admit, TooMany]);
    let mut admitted = 0;
    for _ in 0..1000 {
        case.now = case.now + Duration::from_millis(10);
        admitted += usize::from(case.judge(from, &proven) == Admit);
    }
    assert_eq!(admitted, 200, "in ten seconds");
}

#[test]
fn a_cookie_is_worth_nothing_at_another_address_or_port() {
    for other in ["192.0.2.2:51820", "192.0.2.1:51821", "[2001:db8::1]:51820"] {
        let mut case = Case::new();
        let proven = case.proven("192.0.2.1:51820");
        case.flood();
        assert_eq!(case.judge(other, &proven), Prove, "{other}");
        assert_eq!(case.judge("[::ffff:192.0.2.1]:51820", &proven), Admit, "the same, written otherwise");
    }
}

#[test]
fn what_is_not_for_us_is_refused_and_costs_nobody_anything() {
    let mut case = Case::new();
    let from = "192.0.2.1:51820";
    let initiation = case.initiation();
    let mut forged = initiation.clone();
    forged[100] ^= 1;
    for _ in 0..1000 {
        assert_eq!(case.judge(from, &forged), Refuse);
    }
    assert_eq!(case.judge(from, &initiation), Admit);
}
