//! The WireGuard timer machine of one peer (section 6 of the WireGuard paper; the rules of the Linux kernel's
//! implementation), without I/O and clock.
//!
//! boringtun has these rules too, but wants to be asked four times a second whether anything is due. This machine
//! knows when: [`Timers::next_deadline`] is `None` while nothing is in flight, owed or to be wiped. The peer reports
//! what was sent and received and does what comes due.
//!
//! Two things are decided otherwise than by the kernel: persistent keepalive backs off while the peer doesn't answer, and
//! an initiator stops sending a little before its session ends ([`REJECT_MARGIN`]).

use std::time::Duration;

use crate::clock::Instant;

/// An initiator renews a session of this age when it sends (paper, 6.1: Rekey-After-Time).
const REKEY_AFTER: Duration = Duration::from_secs(120);
/// No session is used beyond this age (paper, 6.1: Reject-After-Time).
const REJECT_AFTER: Duration = Duration::from_secs(180);
/// An initiator sends nothing on a session so much before that age: the other side made it half a round trip earlier,
/// and what is half a round trip under way would come too late. Longer than any usable path takes.
const REJECT_MARGIN: Duration = Duration::from_secs(5);
/// An initiation without answer is repeated after this time plus jitter (paper, 6.1: Rekey-Timeout).
const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// ... and given up after this time (paper, 6.1: Rekey-Attempt-Time).
const REKEY_ATTEMPT: Duration = Duration::from_secs(90);
/// Who received data and has nothing to send answers with a keepalive after this time (paper, 6.1).
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// An initiator renews a session of this age when it receives, so that it doesn't end amid one-way traffic (6.2).
const REKEY_ON_RECEIVE_AFTER: Duration = Duration::from_secs(165);
/// Keys are wiped this long after the last session was made (paper, 6.3: 3 × Reject-After-Time).
const WIPE_AFTER: Duration = Duration::from_secs(540);
/// Jitter of repeated initiations, so that two peers don't collide for ever (paper, 6.1).
const MAX_JITTER_MS: u64 = 333;
/// An attempt that boringtun ended before this age was not given up: boringtun measured the age of the last session
/// and not of the attempt. Some slack to 90 s, because its clock may have been [`STALE`] when the attempt began.
const ATTEMPT_CUT_SHORT: Duration = Duration::from_secs(85);
/// Back-off of persistent keepalive while the peer doesn't answer never exceeds this, so that a phone without
/// coverage makes few attempts and still finds back within ten minutes.
const MAX_BACKOFF: Duration = Duration::from_secs(600);
/// Sessions that boringtun holds at most; a new one takes the place of that with the same index modulo this.
const SLOTS: usize = 8;
/// boringtun's clock must be fresher than this before handshake messages, whose time stamps decide when sessions and
/// attempts end.
const STALE: Duration = Duration::from_secs(1);

/// Deadlines and what they depend on.
#[derive(Debug)]
pub(super) struct Timers {
    /// When boringtun's clock was refreshed last.
    pumped: Instant,
    /// Our initiation in flight.
    attempt: Option<Attempt>,
    /// The newest session.
    session: Option<Session>,
    /// When each session was made that boringtun may still hold, by slot.
    slots: [Option<Instant>; SLOTS],
    /// When the oldest of them must not be used any more. boringtun looks at ages only when it is told the time.
    reject_at: Option<Instant>,
    /// Until when there is a session to encrypt with.
    sending_until: Option<Instant>,
    /// A session that we answered to: it encrypts once its first packet came in. Index and time.
    unconfirmed: Option<(u32, Instant)>,
    /// Data was sent and nothing came back: handshake.
    unanswered: Option<Instant>,
    /// Data came in and nothing was sent back: keepalive.
    owed: Option<Instant>,
    /// More data came in while a keepalive was owed already.
    owed_again: bool,
    persistent: Option<Duration>,
    persistent_due: Option<Instant>,
    /// When keys must be gone.
    wipe: Option<Instant>,
    /// Attempts given up since the peer was heard last.
    failures: u32,
    jitter: Jitter,
}

#[derive(Debug, Clone, Copy)]
struct Attempt {
    first: Instant,
    due: Instant,
    sender_index: u32,
}

#[derive(Debug, Clone, Copy)]
struct Session {
    at: Instant,
    initiator: bool,
}

/// What to do about an attempt that has no answer yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// Nothing.
    Wait,
    /// Send another initiation.
    Initiate,
    /// It was given up: the peer doesn't answer.
    GaveUp,
}

impl Timers {
    pub(super) fn new(now: Instant, persistent: Option<Duration>, seed: u64) -> Self {
        Self {
            pumped: now,
            attempt: None,
            session: None,
            slots: [None; SLOTS],
            reject_at: None,
            sending_until: None,
            unconfirmed: None,
            unanswered: None,
            owed: None,
            owed_again: false,
            persistent,
            persistent_due: None,
            wipe: None,
            failures: 0,
            jitter: Jitter(seed),
        }
    }

    #[inline]
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        // While a handshake without session is in flight, its own deadline says when to send something.
        let persistent =
            self.persistent_due.filter(|_| self.attempt.is_none() || self.sending_until.is_some());
        let attempt = self.attempt.map(|attempt| attempt.due);
        // Asked for after every packet: plain minima of integers cost less than comparing options.
        let nanos = |deadline: Option<Instant>| deadline.map_or(u64::MAX, Instant::as_nanos);
        let earliest = nanos(attempt)
            .min(nanos(self.unanswered))
            .min(nanos(self.owed))
            .min(nanos(persistent))
            .min(nanos(self.wipe));
        (earliest != u64::MAX).then_some(Instant::from_nanos(earliest))
    }

    /// Whether boringtun holds a session that must not be used any more, which it notices only when told the time.
    ///
    /// There is no other reason to tell it the time before data. On the contrary: with time between a session's
    /// handshake and its packets, boringtun's own rules find reasons for handshakes that nobody needs.
    #[inline]
    pub(super) fn must_reject(&self, now: Instant) -> bool {
        self.reject_at.is_some_and(|reject_at| now > reject_at)
    }

    /// Whether boringtun must be told the time before a handshake message.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        now >= self.pumped + STALE
    }

    /// Whether boringtun must be told the time before handling deadlines: it has an attempt to give up or keys to wipe.
    pub(super) fn must_pump(&self, now: Instant) -> bool {
        let attempt = self.attempt.is_some_and(|attempt| attempt.due <= now);
        attempt || self.wipe.is_some_and(|due| due <= now) || self.must_reject(now)
    }

    pub(super) fn pumped(&mut self, now: Instant) {
        self.pumped = now;
        if self.must_reject(now) {
            for slot in &mut self.slots {
                slot.take_if(|at| now > *at + REJECT_AFTER);
            }
            self.update_reject_at();
        }
    }

    /// A session was made, with this index on our side.
    fn hold(&mut self, now: Instant, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize % SLOTS) {
            *slot = Some(now);
        }
        self.update_reject_at();
    }

    fn update_reject_at(&mut self) {
        self.reject_at = self.slots.iter().flatten().min().map(|oldest| *oldest + REJECT_AFTER);
    }

    /// Whether there is a session to encrypt with.
    #[inline]
    pub(super) fn can_send(&self, now: Instant) -> bool {
        self.sending_until.is_some_and(|until| now < until)
    }

    /// boringtun had no session although we thought so.
    pub(super) fn cannot_send(&mut self) {
        self.sending_until = None;
    }

    /// Our index in the initiation in flight.
    pub(super) fn attempt_index(&self) -> Option<u32> {
        self.attempt.map(|attempt| attempt.sender_index)
    }

    pub(super) fn attempt_in_flight(&self) -> bool {
        self.attempt.is_some()
    }

    /// Whether the peer is in use: a session, a handshake, or keepalives.
    pub(super) fn is_active(&self, now: Instant) -> bool {
        self.can_send(now) || self.attempt.is_some() || self.persistent_due.is_some()
    }

    pub(super) fn last_session(&self) -> Option<Instant> {
        self.session.map(|session| session.at)
    }

    /// Arms the first persistent keepalive, which makes the first session.
    pub(super) fn start_persistent(&mut self, now: Instant) {
        if self.persistent.is_some() && self.attempt.is_none() && !self.can_send(now) {
            self.persistent_due = Some(now);
        }
    }

    /// Any authentic message was sent.
    #[inline]
    fn sent(&mut self, now: Instant) {
        self.owed = None;
        self.owed_again = false;
        self.persistent_due = self.persistent.map(|interval| now + interval);
    }

    pub(super) fn sent_initiation(&mut self, now: Instant, sender_index: u32) {
        self.sent(now);
        let first = self.attempt.map_or(now, |attempt| attempt.first);
        self.attempt = Some(Attempt { first, due: now + REKEY_TIMEOUT + self.jitter.next(), sender_index });
    }

    /// A keepalive (`data` false) or packet was sent. Returns whether to renew the session.
    #[inline]
    pub(super) fn sent_transport(&mut self, now: Instant, data: bool) -> bool {
        self.sent(now);
        if data && self.unanswered.is_none() {
            self.unanswered = Some(now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + self.jitter.next());
        }
        data && self.wants_renewal(now, REKEY_AFTER)
    }

    /// An authentic keepalive (`data` false) or packet came in on the session `index`.
    #[inline]
    pub(super) fn received_transport(&mut self, now: Instant, index: u32, data: bool) -> Received {
        self.received(now);
        let confirmed = self.unconfirmed.filter(|(unconfirmed, _)| *unconfirmed == index);
        if let Some((_, at)) = confirmed {
            self.sending_until = Some(at + REJECT_AFTER);
            self.unconfirmed = None;
        }
        if data {
            if self.owed.is_none() {
                self.owed = Some(now + KEEPALIVE_TIMEOUT);
            } else {
                self.owed_again = true;
            }
        }
        Received {
            can_send: confirmed.is_some(),
            renew: data && self.wants_renewal(now, REKEY_ON_RECEIVE_AFTER),
        }
    }

    fn received(&mut self, now: Instant) {
        self.unanswered = None;
        self.failures = 0;
        if self.persistent_due.is_some() {
            self.persistent_due = self.persistent.map(|interval| now + interval);
        }
    }

    #[inline]
    fn wants_renewal(&self, now: Instant, age: Duration) -> bool {
        let old = |session: Session| session.initiator && now >= session.at + age;
        self.attempt.is_none() && self.session.is_some_and(old)
    }

    /// The answer to our initiation `answered` made a session.
    pub(super) fn initiated(&mut self, now: Instant, answered: u32) {
        self.received(now);
        // A late answer to the initiation before leaves boringtun waiting for the answer to the last.
        if self.attempt.is_some_and(|attempt| attempt.sender_index == answered) {
            self.attempt = None;
        }
        self.session = Some(Session { at: now, initiator: true });
        self.hold(now, answered);
        self.sending_until = Some(now + (REJECT_AFTER - REJECT_MARGIN));
        self.unconfirmed = None;
        self.wipe = Some(now + WIPE_AFTER);
    }

    /// We answered an initiation; our side of the session is `index`.
    pub(super) fn responded(&mut self, now: Instant, index: u32) {
        self.received(now);
        self.sent(now);
        self.attempt = None;
        self.session = Some(Session { at: now, initiator: false });
        self.hold(now, index);
        self.unconfirmed = Some((index, now));
        self.wipe = Some(now + WIPE_AFTER);
    }

    /// Packets wait for the session that we answered to. If its first packet is lost, nobody else would try again.
    pub(super) fn await_confirmation(&mut self, now: Instant) {
        self.unanswered = Some(now + REKEY_TIMEOUT + self.jitter.next());
    }

    /// boringtun has wiped its keys and whatever was in flight: says what becomes of the attempt.
    pub(super) fn expired(&mut self, now: Instant) -> Unanswered {
        let attempt = self.attempt;
        self.forget();
        match attempt {
            None => Unanswered::Wait,
            Some(attempt) if now < attempt.first + ATTEMPT_CUT_SHORT => Unanswered::Initiate,
            Some(_) => self.give_up(now),
        }
    }

    /// What to do about our initiation now.
    pub(super) fn take_attempt(&mut self, now: Instant) -> Unanswered {
        match self.attempt {
            Some(attempt) if attempt.due <= now => {
                if now >= attempt.first + REKEY_ATTEMPT {
                    self.attempt = None;
                    self.unanswered = None;
                    self.give_up(now)
                } else {
                    Unanswered::Initiate
                }
            }
            _ => Unanswered::Wait,
        }
    }

    fn give_up(&mut self, now: Instant) -> Unanswered {
        self.failures = self.failures.saturating_add(1);
        let doubled = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let backoff = |interval: Duration| interval.saturating_mul(doubled).min(MAX_BACKOFF.max(interval));
        self.persistent_due = self.persistent.map(|interval| now + backoff(interval));
        Unanswered::GaveUp
    }

    fn forget(&mut self) {
        self.attempt = None;
        self.session = None;
        self.slots = [None; SLOTS];
        self.reject_at = None;
        self.sending_until = None;
        self.unconfirmed = None;
        self.unanswered = None;
        self.owed = None;
        self.owed_again = false;
        self.wipe = None;
    }

    /// Whether a handshake is due because nothing was heard.
    pub(super) fn take_unanswered(&mut self, now: Instant) -> bool {
        self.unanswered.take_if(|due| *due <= now).is_some()
    }

    /// Whether a keepalive is owed now, and if so, whether the next one is owed already.
    pub(super) fn take_owed(&mut self, now: Instant) -> Option<bool> {
        self.owed.take_if(|due| *due <= now).map(|_| std::mem::take(&mut self.owed_again))
    }

    /// Another keepalive is owed after the one just sent.
    pub(super) fn owe(&mut self, now: Instant) {
        self.owed = Some(now + KEEPALIVE_TIMEOUT);
    }

    /// Whether the persistent keepalive is due; it is armed anew.
    pub(super) fn take_persistent(&mut self, now: Instant) -> bool {
        if self.persistent_due.is_none_or(|due| due > now) {
            return false;
        }
        self.persistent_due = self.persistent.map(|interval| now + interval);
        true
    }

    /// Forgets the session if its keys must be gone. An attempt in flight goes on.
    pub(super) fn take_wipe(&mut self, now: Instant) {
        if self.wipe.take_if(|due| *due <= now).is_some() {
            self.session = None;
            self.sending_until = None;
            self.unconfirmed = None;
            self.owed = None;
            self.owed_again = false;
        }
    }

    /// The network changed: start attempts and back-off over.
    pub(super) fn restart(&mut self) {
        self.attempt = None;
        self.failures = 0;
    }
}

/// What an incoming packet calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Received {
    /// It confirmed a session: packets that waited can go.
    pub(super) can_send: bool,
    /// The session is to be renewed.
    pub(super) renew: bool,
}

/// A splitmix64 generator: jitter needs to differ between peers, not to be secret.
#[derive(Debug)]
struct Jitter(u64);

impl Jitter {
    fn next(&mut self) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Duration::from_millis((z ^ (z >> 31)) % (MAX_JITTER_MS + 1))
    }
}

#[cfg(test)]
mod tests;
