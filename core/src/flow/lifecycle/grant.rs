//! The permission to tell of exit flows one by one, which can be withdrawn at any moment.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// What a flow needs so that its events may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::flow) enum Grant {
    /// Nothing: both ends are in the network or behind its routers.
    NotNeeded,
    /// The grant with this number, still in force. 0 was none at all.
    Exit(u32),
}

/// The permission as it is now. Written by whoever sets it, one at a time; read on any thread.
#[derive(Debug, Clone, Default)]
pub(in crate::flow) struct ExitGrants(Arc<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    /// 0 while there is no permission.
    current: AtomicU32,
    last: AtomicU32,
}

impl ExitGrants {
    /// Gives or withdraws the permission. Each permission has its own number, so that a flow whose permission was
    /// withdrawn stays untold when another one is given.
    pub(in crate::flow) fn set(&self, granted: bool) {
        let Numbers { current, last } = &*self.0;
        let is_granted = current.load(Ordering::Acquire) != 0;
        if granted && !is_granted {
            let next = last.load(Ordering::Acquire).checked_add(1).unwrap_or(1);
            last.store(next, Ordering::Release);
            current.store(next, Ordering::Release);
        } else if !granted {
            current.store(0, Ordering::Release);
        }
    }

    /// What an exit flow that begins now gets.
    pub(in crate::flow) fn for_exit_flow(&self) -> Grant {
        Grant::Exit(self.0.current.load(Ordering::Acquire))
    }

    /// Whether what was begun under `grant` may be told now.
    pub(in crate::flow) fn allows(&self, grant: Grant) -> bool {
        match grant {
            Grant::NotNeeded => true,
            Grant::Exit(number) => number != 0 && number == self.0.current.load(Ordering::Acquire),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_ends_when_it_is_withdrawn_and_does_not_come_back() {
        let grants = ExitGrants::default();
        let none = grants.for_exit_flow();
        grants.set(true);
        assert!(!grants.allows(none), "given after the flow began");
        let first = grants.for_exit_flow();
        grants.set(true);
        assert!(grants.allows(first), "repeating changes nothing");
        grants.set(false);
        assert!(!grants.allows(first));
        grants.set(true);
        assert!(!grants.allows(first));
        assert!(grants.allows(grants.for_exit_flow()));
        assert!(grants.allows(Grant::NotNeeded));
    }
}
