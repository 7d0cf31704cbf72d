//! The paths that flows take outside the tunnel: which there are, and which ones a flow has used.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

use crate::clock::Instant;

/// Paths of one flow. More are for no honest peer; the flow is split, so that none is hidden.
pub(super) const MAX_PATHS: usize = 16;
/// Paths that are remembered by number, so that packets of several peers in turn cost no allocation. A device talks to
/// few peers at once; a path that was forgotten is found equal when it comes again.
const MAX_KNOWN: usize = 16;

/// The two ends of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PathEnds {
    pub(super) local: Option<SocketAddr>,
    pub(super) remote: SocketAddr,
}

/// The paths of a tunnel, and the one that packets take now.
#[derive(Debug, Default)]
pub(super) struct Paths {
    known: VecDeque<(u32, Arc<PathEnds>)>,
    current: Option<Arc<PathEnds>>,
    /// The number of the current path; 0 while none is known.
    number: u32,
    last: u32,
}

impl Paths {
    pub(super) fn set(&mut self, ends: PathEnds) {
        if self.current.as_deref() == Some(&ends) {
            return;
        }
        let known = self.known.iter().find(|(_, known)| **known == ends);
        let (number, path) = match known {
            Some((number, path)) => (*number, Arc::clone(path)),
            None => {
                let path = Arc::new(ends);
                self.last = self.last.checked_add(1).unwrap_or(1);
                if self.known.len() >= MAX_KNOWN {
                    self.known.pop_front();
                }
                self.known.push_back((self.last, Arc::clone(&path)));
                (self.last, path)
            }
        };
        self.number = number;
        self.current = Some(path);
    }
}

/// The paths that one flow has taken, in order.
#[derive(Debug, Default)]
pub(super) struct FlowPaths {
    /// The number of the latest one.
    number: u32,
    first: Option<(Arc<PathEnds>, Instant)>,
    /// Empty, thus not allocated, until the flow roams.
    later: Vec<(Arc<PathEnds>, Instant)>,
}

impl FlowPaths {
    /// Whether a packet that comes now takes the path of the one before.
    #[inline]
    pub(super) fn is_current(&self, paths: &Paths) -> bool {
        self.number == paths.number
    }

    /// Adds the current path, if it is another. Returns false if there are too many.
    #[cold]
    pub(super) fn follow(&mut self, now: Instant, paths: &Paths) -> bool {
        let Some(current) = &paths.current else { return true };
        let latest = self.later.last_mut().or(self.first.as_mut()).map(|(path, _)| path);
        if let Some(latest) = latest
            && latest.local.is_none()
            && latest.remote == current.remote
        {
            // The same path: a tunnel learns its own end with the first answer.
            *latest = Arc::clone(current);
        } else if self.iter().last().map(|(path, _)| path) != Some(current) {
            if self.later.len() + 1 >= MAX_PATHS {
                return false;
            }
            let path = (Arc::clone(current), now);
            match self.first {
                None => self.first = Some(path),
                Some(_) => self.later.push(path),
            }
        }
        self.number = paths.number;
        true
    }

    /// The paths with the times of their first packets.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(Arc<PathEnds>, Instant)> {
        self.first.iter().chain(&self.later)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_whose_local_end_becomes_known_stays_one_path() {
        let (mut paths, mut flow, now) = (Paths::default(), FlowPaths::default(), Instant::from_nanos(0));
        let unknown = ends(1);
        let known = PathEnds { local: Some(SocketAddr::from(([192, 0, 2, 1], 9))), ..unknown };
        let moved = PathEnds { local: Some(SocketAddr::from(([192, 0, 2, 7], 9))), ..unknown };
        for path in [unknown, known, moved] {
            paths.set(path);
            assert!(!flow.is_current(&paths));
            assert!(flow.follow(now, &paths));
            assert!(flow.is_current(&paths));
        }
        assert_eq!(flow.iter().map(|(path, _)| **path).collect::<Vec<_>>(), [known, moved]);
    }

    fn ends(port: u16) -> PathEnds {
        PathEnds { local: None, remote: SocketAddr::from(([203, 0, 113, 1], port)) }
    }

    #[test]
    fn a_path_has_one_number_while_it_is_remembered_and_is_recognised_later() {
        let mut paths = Paths::default();
        let mut number = |port| {
            paths.set(ends(port));
            paths.number
        };
        let [one, two] = [number(1), number(2)];
        assert_ne!(one, two);
        assert_eq!([number(1), number(2)], [one, two]);
        paths.set(ends(1));
        let (mut flow, now) = (FlowPaths::default(), Instant::from_nanos(0));
        assert!(flow.follow(now, &paths));
        for port in 100..200 {
            paths.set(ends(port));
        }
        paths.set(ends(1));
        assert!(!flow.is_current(&paths), "it was forgotten and has a new number");
        assert!(flow.follow(now, &paths));
        assert_eq!(flow.iter().count(), 1, "but it is the same path");
        assert_eq!(paths.known.len(), MAX_KNOWN);
    }
}
