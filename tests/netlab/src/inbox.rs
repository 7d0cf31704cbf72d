//! Where a host's stack thread waits: packets from the wire and commands from callers, one condition variable.
//!
//! The receiving thread pushes packets and waits while the inbox is full, so that the bound of the wire's own queue
//! decides about drops. Callers push commands; each caller waits for its answer, so there are never more of them than
//! waiting callers.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Packets that may wait for the stack: four full TCP windows of 64 KiB in 1,280-byte packets.
const CAPACITY: usize = 256;

/// Why no more work will come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// The host was stopped.
    Stopped,
    /// The wire was closed from the other side.
    Wire,
}

pub(crate) struct Inbox<C> {
    state: Mutex<State<C>>,
    work: Condvar,
    space: Condvar,
}

struct State<C> {
    packets: VecDeque<Vec<u8>>,
    /// Buffers of packets that the stack is done with.
    spare: Vec<Vec<u8>>,
    commands: VecDeque<C>,
    closed: Option<Closed>,
}

impl<C> Inbox<C> {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                packets: VecDeque::new(),
                spare: Vec::new(),
                commands: VecDeque::new(),
                closed: None,
            }),
            work: Condvar::new(),
            space: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the packet out of `buffer`, leaving an old buffer in its place. Waits while the inbox is full.
    pub(crate) fn push_packet(&self, buffer: &mut Vec<u8>) -> Result<(), Closed> {
        let mut state = self.lock();
        loop {
            if let Some(closed) = state.closed {
                return Err(closed);
            }
            if state.packets.len() < CAPACITY {
                break;
            }
            state = self.space.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let spare = state.spare.pop().unwrap_or_default();
        state.packets.push_back(std::mem::replace(buffer, spare));
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    pub(crate) fn push_command(&self, command: C) -> Result<(), Closed> {
        let mut state = self.lock();
        if let Some(closed) = state.closed {
            return Err(closed);
        }
        state.commands.push_back(command);
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// The first reason stays.
    pub(crate) fn close(&self, why: Closed) {
        self.lock().closed.get_or_insert(why);
        self.work.notify_all();
        self.space.notify_all();
    }

    /// Closes and drops the commands that nobody will take, so that their callers see the end.
    pub(crate) fn abandon(&self) {
        self.close(Closed::Stopped);
        drop(std::mem::take(&mut self.lock().commands));
    }

    /// Waits for work, at most `timeout`, or for ever with `None`. `packets` and `commands` must come empty and are
    /// swapped for what is there; `spent` gives buffers back.
    pub(crate) fn wait(
        &self,
        timeout: Option<Duration>,
        packets: &mut VecDeque<Vec<u8>>,
        commands: &mut VecDeque<C>,
        spent: &mut Vec<Vec<u8>>,
    ) -> Result<(), Closed> {
        let mut state = self.lock();
        state.spare.append(spent);
        state.spare.truncate(CAPACITY);
        let idle = |state: &mut State<C>| {
            state.packets.is_empty() && state.commands.is_empty() && state.closed.is_none()
        };
        state = match timeout {
            None => self.work.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                self.work.wait_timeout_while(state, timeout, idle).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        // What arrived before the wire was closed is still worth handling: it may complete a transfer.
        if let Some(closed) = state.closed
            && (closed == Closed::Stopped || state.packets.is_empty())
        {
            commands.append(&mut state.commands);
            return Err(closed);
        }
        std::mem::swap(packets, &mut state.packets);
        std::mem::swap(commands, &mut state.commands);
        drop(state);
        self.space.notify_one();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(inbox: &Inbox<u32>) -> Result<(Vec<Vec<u8>>, Vec<u32>), Closed> {
        let (mut packets, mut commands) = (VecDeque::new(), VecDeque::new());
        inbox.wait(Some(Duration::ZERO), &mut packets, &mut commands, &mut Vec::new())?;
        Ok((packets.into(), commands.into()))
    }

    #[test]
    fn work_is_handed_over_in_order() {
        let inbox = Inbox::new();
        inbox.push_packet(&mut vec![1]).unwrap();
        inbox.push_packet(&mut vec![2]).unwrap();
        inbox.push_command(7).unwrap();
        assert_eq!(take(&inbox), Ok((vec![vec![1], vec![2]], vec![7])));
        assert_eq!(take(&inbox), Ok((vec![], vec![])));
    }

    #[test]
    fn a_closed_wire_still_delivers_what_had_arrived() {
        let inbox = Inbox::<u32>::new();
        inbox.push_packet(&mut vec![1]).unwrap();
        inbox.close(Closed::Wire);
        assert_eq!(take(&inbox).unwrap().0, vec![vec![1]]);
        assert_eq!(take(&inbox), Err(Closed::Wire));
        assert_eq!(inbox.push_command(1), Err(Closed::Wire));
    }

    #[test]
    fn a_full_inbox_lets_the_receiver_wait_until_the_stack_takes_packets() {
        let inbox = Inbox::<u32>::new();
        for _ in 0..CAPACITY {
            inbox.push_packet(&mut vec![0]).unwrap();
        }
        std::thread::scope(|scope| {
            let late = scope.spawn(|| inbox.push_packet(&mut vec![9]));
            assert_eq!(take(&inbox).unwrap().0.len(), CAPACITY);
            late.join().unwrap().unwrap();
        });
        assert_eq!(take(&inbox).unwrap().0, vec![vec![9]]);
    }
}
