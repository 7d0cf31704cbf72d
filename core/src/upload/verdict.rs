//! What an answer of the server means, and how long to wait before asking again.
//!
//! | answer | meaning |
//! |---|---|
//! | 2xx | delivered |
//! | 408, 425, 429, 5xx, no answer, not HTTP | transient: same request again, after `Retry-After` or a random wait |
//! | 413 | too large: in halves; a single entry is dropped and reported |
//! | 400, 422 | refused content: in halves until the culprit is found, dropped and reported |
//! | 401, 403 | unauthorised: the stream stops, everything is kept |
//! | 3xx, 404, 410, any other | wrong endpoint: the stream stops, everything is kept |
//!
//! Pure functions.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// Bounds of a server's `Retry-After`. Shorter would be a busy loop; longer is a mistake more often than a wish.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

/// The wait before the first repetition is at most this long; it doubles with each further one.
pub(super) const BACKOFF_FIRST: Duration = Duration::from_secs(5);
/// No wait of our own choice is longer.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(30 * 60);

/// Longest message of a server that is kept, in characters: a line for a report, not a page.
const MESSAGE_CHARS: usize = 256;
/// Runs of so many hexadecimal digits are taken out of messages: servers like to repeat the URL, and the private id
/// is in it, perhaps cut off.
const SECRET_DIGITS: usize = 16;

/// What to do after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Delivered,
    Transient,
    TooLarge,
    Rejected,
    Unauthorized,
    WrongEndpoint,
}

impl Verdict {
    pub(super) fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Delivered,
            408 | 425 | 429 | 500..=599 => Self::Transient,
            413 => Self::TooLarge,
            400 | 422 => Self::Rejected,
            401 | 403 => Self::Unauthorized,
            _ => Self::WrongEndpoint,
        }
    }
}

/// The wait that a `Retry-After` header asks for, seconds or an HTTP date, clamped to 1 s ..= 1 h; `None` if it
/// can't be read.
pub(super) fn retry_after(header: &str, now: Timestamp) -> Option<Duration> {
    let header = header.trim();
    let wait = if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        // What doesn't fit is more than the upper bound.
        Duration::from_secs(header.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(header).ok()?;
        date.duration_since(SystemTime::from(now)).unwrap_or_default()
    };
    Some(wait.clamp(RETRY_AFTER.0, RETRY_AFTER.1))
}

/// A random wait before repetition number `failures` (from 1), by full jitter: anything between nothing and a bound
/// that doubles, so that devices which failed together don't return together. `random` is uniformly distributed.
pub(super) fn backoff(failures: u32, random: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let bound = BACKOFF_FIRST.saturating_mul(1 << doublings).min(BACKOFF_MAX);
    let fraction = (random >> 11) as f64 / (1_u64 << 53) as f64;
    bound.mul_f64(fraction)
}

/// A server's message made fit for a report: one line of bounded length, without control characters or anything that
/// might be a private id.
pub(super) fn sanitize(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let mut clean = String::new();
    let mut digits = String::new();
    let flush = |digits: &mut String, clean: &mut String| {
        clean.push_str(if digits.len() >= SECRET_DIGITS { "[removed]" } else { digits.as_str() });
        digits.clear();
    };
    for char in text.chars() {
        if char.is_ascii_hexdigit() {
            digits.push(char);
            continue;
        }
        flush(&mut digits, &mut clean);
        // Control characters and the invisible ones that turn or hide text.
        let visible = !char.is_control()
            && !matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if visible && char != ' ' {
            clean.push(char);
        } else if !clean.ends_with(' ') {
            clean.push(' ');
        }
    }
    flush(&mut digits, &mut clean);
    clean.trim().chars().take(MESSAGE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_row() {
        let rows: [(&[u16], Verdict); 6] = [
            (&[200, 201, 202, 204, 299], Verdict::Delivered),
            (&[408, 425, 429, 500, 502, 503, 504, 599], Verdict::Transient),
            (&[413], Verdict::TooLarge),
            (&[400, 422], Verdict::Rejected),
            (&[401, 403], Verdict::Unauthorized),
            (&[300, 301, 302, 304, 307, 308, 404, 405, 409, 410, 418, 451, 600, 999], Verdict::WrongEndpoint),
        ];
        for (statuses, verdict) in rows {
            for &status in statuses {
                assert_eq!(Verdict::of_status(status), verdict, "{status}");
            }
        }
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_date_and_clamped() {
        let now: Timestamp = "1994-11-06T08:49:30Z".parse().unwrap();
        let seconds = |header| retry_after(header, now).map(|wait| wait.as_secs());
        assert_eq!(seconds("7"), Some(7));
        assert_eq!(seconds(" 7 "), Some(7));
        assert_eq!(seconds("0"), Some(1));
        assert_eq!(seconds("99999"), Some(3600));
        assert_eq!(seconds("99999999999999999999999999"), Some(3600));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(7));
        assert_eq!(seconds("Sunday, 06-Nov-94 08:49:37 GMT"), Some(7));
        assert_eq!(seconds("Sun Nov  6 08:49:37 1994"), Some(7));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:00 GMT"), Some(1));
        assert_eq!(seconds("Sat, 06 Nov 2094 08:49:00 GMT"), Some(3600));
        for garbage in ["", "-1", "soon", "7s", "1.5", "0x10", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(seconds(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn backoff_is_jittered_doubles_and_is_bounded() {
        assert_eq!(backoff(1, 0), Duration::ZERO);
        assert_eq!(backoff(1, 1 << 63).as_millis(), 2_500);
        assert_eq!(backoff(2, 1 << 63).as_millis(), 5_000);
        for (failures, bound) in [(0, 5), (1, 5), (2, 10), (3, 20), (9, 1280), (10, 1800), (u32::MAX, 1800)] {
            let longest = backoff(failures, u64::MAX);
            assert!(longest <= Duration::from_secs(bound) && longest.as_secs() + 1 >= bound, "{longest:?}");
        }
    }

    #[test]
    fn messages_are_short_clean_and_without_secrets() {
        let id = "0123456789abcdefABCDEF0123456789abcdef0123456789abcdef0123456789";
        let page = format!("no\r\n\x1b[31mstream \u{202e}/c/x/{id} é\n");
        assert_eq!(sanitize(page.as_bytes()), "no [31mstream /c/x/[removed] é");
        assert_eq!(sanitize(&id.as_bytes()[..20]), "[removed]");
        assert_eq!(sanitize(b"code 404, \xff dead beef"), "code 404, \u{fffd} dead beef");
        assert_eq!(sanitize(&[b'x'; 5_000]).len(), MESSAGE_CHARS);
    }
}
