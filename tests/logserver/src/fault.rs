//! Failures on demand.
//!
//! Faults wait in a queue; each upload that has arrived completely meets the first of them. They are put there
//! by the owner of the [`Server`](crate::Server) or, if the configuration allows it, over HTTP.

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::HeaderValue;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ServerError;

/// The most faults that can wait. Whoever needs more can repeat one ([`Times`]).
const MAX_WAITING: usize = 1024;

/// The longest pause of [`Fault::Slow`]: far beyond any client's patience.
const MAX_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// What goes wrong with an upload. The upload's body is always read to its end first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is stored and this response is sent.
    Status {
        /// The status code, 200 to 599.
        code: u16,
        /// The header `Retry-After`, if any; sent as it is, sensible or not.
        retry_after: Option<String>,
        /// The response's body.
        body: String,
    },
    /// The server waits this long (at most a day), then does what it would have done. A client that gives up
    /// meanwhile has nothing stored. If the server is stopped meanwhile, the answer is 503.
    Slow(Duration),
    /// The entries are stored, and the connection closes in the middle of the response's body.
    CutBody,
    /// Nothing is stored, and the connection closes without a response.
    CloseBeforeResponse,
    /// The entries are stored, and the connection closes without a response.
    LostResponse,
    /// Nothing is stored, and these bytes are sent in place of a response; then the connection closes.
    Garbage(Vec<u8>),
    /// Nothing goes wrong: the entries are stored, and the answer asks the client to obey these commands.
    Commands(Vec<Value>),
}

impl Fault {
    fn validate(&self) -> Result<(), ServerError> {
        let reason = match self {
            Self::Status { code, .. } if !(200..=599).contains(code) => {
                format!("a response cannot have the status {code}; choose one from 200 to 599")
            }
            Self::Status { retry_after: Some(text), .. } if HeaderValue::from_str(text).is_err() => {
                format!("{text:?} cannot be sent as a header")
            }
            Self::Slow(pause) if *pause > MAX_PAUSE => {
                format!("a pause of {pause:?} is too long; choose one up to {MAX_PAUSE:?}")
            }
            _ => return Ok(()),
        };
        Err(ServerError::InvalidFault { reason })
    }
}

/// How many uploads meet a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// This many; then the next fault in the queue has its turn.
    Exactly(NonZeroU32),
    /// All, until the faults are cleared.
    Forever,
}

impl Times {
    /// One upload.
    pub const ONCE: Self = Self::Exactly(NonZeroU32::MIN);

    /// `count` uploads, or `None` for zero.
    #[must_use]
    pub const fn exactly(count: u32) -> Option<Self> {
        match NonZeroU32::new(count) {
            Some(count) => Some(Self::Exactly(count)),
            None => None,
        }
    }
}

/// The faults that wait for uploads.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<VecDeque<(Fault, Times)>>);

impl Faults {
    pub(crate) fn push(&self, fault: Fault, times: Times) -> Result<(), ServerError> {
        fault.validate()?;
        let mut waiting = self.lock();
        if waiting.len() >= MAX_WAITING {
            let reason = format!("{MAX_WAITING} faults are waiting already; clear them, or repeat one");
            return Err(ServerError::InvalidFault { reason });
        }
        waiting.push_back((fault, times));
        Ok(())
    }

    /// The fault for the next upload.
    pub(crate) fn take(&self) -> Option<Fault> {
        let mut waiting = self.lock();
        let (fault, times) = waiting.front_mut()?;
        let fault = fault.clone();
        if let Times::Exactly(count) = times {
            match NonZeroU32::new(count.get() - 1) {
                Some(left) => *count = left,
                None => drop(waiting.pop_front()),
            }
        }
        Some(fault)
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    pub(crate) fn list(&self) -> Vec<(Fault, Times)> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Fault, Times)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fault as `/debug/faults` spells it: `{"fault":"status","code":503,"retry_after":"7","times":2}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FaultSpec {
    #[serde(flatten)]
    kind: FaultKind,
    #[serde(default)]
    times: TimesSpec,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
enum FaultKind {
    Status {
        code: u16,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<String>,
        #[serde(default)]
        body: String,
    },
    Slow {
        millis: u64,
    },
    CutBody,
    CloseBeforeResponse,
    LostResponse,
    Garbage {
        text: String,
    },
    Commands {
        commands: Vec<Value>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum TimesSpec {
    Count(NonZeroU32),
    Word(ForeverWord),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ForeverWord {
    Forever,
}

impl Default for TimesSpec {
    fn default() -> Self {
        Self::Count(NonZeroU32::MIN)
    }
}

impl From<FaultSpec> for (Fault, Times) {
    fn from(spec: FaultSpec) -> Self {
        let fault = match spec.kind {
            FaultKind::Status { code, retry_after, body } => Fault::Status { code, retry_after, body },
            FaultKind::Slow { millis } => Fault::Slow(Duration::from_millis(millis)),
            FaultKind::CutBody => Fault::CutBody,
            FaultKind::CloseBeforeResponse => Fault::CloseBeforeResponse,
            FaultKind::LostResponse => Fault::LostResponse,
            FaultKind::Garbage { text } => Fault::Garbage(text.into_bytes()),
            FaultKind::Commands { commands } => Fault::Commands(commands),
        };
        let times = match spec.times {
            TimesSpec::Count(count) => Times::Exactly(count),
            TimesSpec::Word(ForeverWord::Forever) => Times::Forever,
        };
        (fault, times)
    }
}

impl From<(Fault, Times)> for FaultSpec {
    fn from((fault, times): (Fault, Times)) -> Self {
        let kind = match fault {
            Fault::Status { code, retry_after, body } => FaultKind::Status { code, retry_after, body },
            Fault::Slow(pause) => {
                FaultKind::Slow { millis: u64::try_from(pause.as_millis()).unwrap_or(u64::MAX) }
            }
            Fault::CutBody => FaultKind::CutBody,
            Fault::CloseBeforeResponse => FaultKind::CloseBeforeResponse,
            Fault::LostResponse => FaultKind::LostResponse,
            Fault::Garbage(bytes) => {
                FaultKind::Garbage { text: String::from_utf8_lossy(&bytes).into_owned() }
            }
            Fault::Commands(commands) => FaultKind::Commands { commands },
        };
        let times = match times {
            Times::Exactly(count) => TimesSpec::Count(count),
            Times::Forever => TimesSpec::Word(ForeverWord::Forever),
        };
        Self { kind, times }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_have_their_turn_in_order_and_as_often_as_told() {
        let faults = Faults::default();
        faults.push(Fault::CutBody, Times::exactly(2).unwrap()).unwrap();
        faults.push(Fault::LostResponse, Times::ONCE).unwrap();
        let taken: Vec<_> = (0..4).map(|_| faults.take()).collect();
        assert_eq!(taken, [Some(Fault::CutBody), Some(Fault::CutBody), Some(Fault::LostResponse), None]);
    }

    #[test]
    fn a_fault_for_ever_ends_when_cleared() {
        let faults = Faults::default();
        faults.push(Fault::CutBody, Times::Forever).unwrap();
        assert!((0..100).all(|_| faults.take() == Some(Fault::CutBody)));
        faults.clear();
        assert_eq!(faults.take(), None);
    }

    #[test]
    fn impossible_faults_are_refused() {
        let faults = Faults::default();
        let status = |code, retry_after: Option<&str>| Fault::Status {
            code,
            retry_after: retry_after.map(str::to_owned),
            body: String::new(),
        };
        for fault in
            [status(100, None), status(600, None), status(503, Some("a\nb")), Fault::Slow(Duration::MAX)]
        {
            assert!(faults.push(fault, Times::ONCE).is_err());
        }
        assert!(faults.list().is_empty());
        for _ in 0..MAX_WAITING {
            faults.push(Fault::CutBody, Times::ONCE).unwrap();
        }
        assert!(faults.push(Fault::CutBody, Times::ONCE).is_err());
    }

    #[test]
    fn the_http_spelling_reads_back_what_it_wrote() {
        let all = [
            (Fault::Status { code: 429, retry_after: Some("7".into()), body: "x".into() }, Times::Forever),
            (Fault::Slow(Duration::from_millis(20)), Times::exactly(3).unwrap()),
            (Fault::CutBody, Times::ONCE),
            (Fault::CloseBeforeResponse, Times::ONCE),
            (Fault::LostResponse, Times::ONCE),
            (Fault::Garbage(b"no http".to_vec()), Times::ONCE),
            (Fault::Commands(vec![serde_json::json!({ "v": 1, "kind": "x" })]), Times::ONCE),
        ];
        for fault in all {
            let text = serde_json::to_string(&FaultSpec::from(fault.clone())).unwrap();
            let spec: FaultSpec = serde_json::from_str(&text).unwrap();
            assert_eq!(<(Fault, Times)>::from(spec), fault, "{text}");
        }
        assert!(serde_json::from_str::<FaultSpec>(r#"{"fault":"cut_body","times":0}"#).is_err());
    }
}
