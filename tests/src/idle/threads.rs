//! What the kernel says about our threads.

use std::{fs, io, path::Path};

use serde::Serialize;

/// What is counted, and by whom.
pub(super) const SOURCE: &str = "voluntary and involuntary context switches of each thread (/proc/self/task/*/status), the \
    system call it waits in with its timeout (/proc/self/task/*/syscall), armed timer descriptors (/proc/self/fdinfo)";
/// How [`armed_timers`] is called in messages.
pub const ARMED_TIMERS: &str = "armed timer descriptors";

/// All names of the product's threads begin like this.
const OURS: &str = "tuntrail-";

/// A thread of the product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// The kernel's number.
    pub id: u64,
    /// Its name, as far as the kernel keeps it: 15 bytes.
    pub name: String,
    /// Times it went to sleep.
    pub voluntary: u64,
    /// Times it was interrupted while it ran.
    pub involuntary: u64,
    /// What it does now.
    pub waits: Waits,
}

/// What a thread waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Waits {
    /// For an event, without a time.
    Forever,
    /// For an event or a time.
    Until,
    /// It runs.
    Running,
    /// In a system call that is not known here, or the kernel does not tell.
    Unknown,
}

/// The product's threads in this process, by number.
///
/// # Errors
/// When `/proc` can't be read.
pub fn threads() -> io::Result<Vec<Thread>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir("/proc/self/task")? {
        let entry = entry?;
        // A thread may end while it is looked at.
        if let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok())
            && let Some(thread) = thread(id, &entry.path())
        {
            threads.push(thread);
        }
    }
    threads.sort_unstable_by_key(|thread| thread.id);
    Ok(threads)
}

/// The numbers of all threads of this process. A new thread has its name a moment later than its number.
pub(super) fn all_ids() -> io::Result<Vec<u64>> {
    let mut ids = Vec::new();
    for entry in fs::read_dir("/proc/self/task")? {
        ids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    Ok(ids)
}

/// Whether none of the threads will run unless something happens.
#[must_use]
pub fn is_at_rest(threads: &[Thread]) -> bool {
    threads.iter().all(|thread| thread.waits == Waits::Forever)
}

/// How many timer descriptors of this process are armed. The tunnel's poller waits with one.
///
/// # Errors
/// When `/proc` can't be read.
pub fn armed_timers() -> io::Result<usize> {
    let mut armed = 0;
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        // A descriptor may be closed while it is looked at.
        if let Ok(info) = fs::read_to_string(entry?.path()) {
            armed += usize::from(is_armed(&info));
        }
    }
    Ok(armed)
}

fn is_armed(fdinfo: &str) -> bool {
    fdinfo.lines().filter_map(|line| line.strip_prefix("it_value:")).any(|left| left.trim() != "(0, 0)")
}

fn thread(id: u64, task: &Path) -> Option<Thread> {
    let status = fs::read_to_string(task.join("status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let name = field("Name:")?.to_owned();
    if !name.starts_with(OURS) {
        return None;
    }
    let waits = fs::read_to_string(task.join("syscall")).map_or(Waits::Unknown, |call| waits_in(&call));
    Some(Thread {
        id,
        name,
        voluntary: field("voluntary_ctxt_switches:")?.parse().ok()?,
        involuntary: field("nonvoluntary_ctxt_switches:")?.parse().ok()?,
        waits,
    })
}

/// Reads a line of `/proc/…/syscall`: number and six arguments, or `running`.
fn waits_in(call: &str) -> Waits {
    let mut fields = call.split_whitespace();
    let number = fields.next().unwrap_or_default();
    if number == "running" {
        return Waits::Running;
    }
    let Some(timeout) =
        fields.nth(3).and_then(|field| u64::from_str_radix(field.trim_start_matches("0x"), 16).ok())
    else {
        return Waits::Unknown;
    };
    let for_ever = match number.parse().map(Call::of) {
        // A pointer to the time, or none.
        Ok(Some(Call::Pointer)) => timeout == 0,
        // Milliseconds in the lower half, -1 for none.
        Ok(Some(Call::Milliseconds)) => timeout as u32 == u32::MAX,
        _ => return Waits::Unknown,
    };
    if for_ever { Waits::Forever } else { Waits::Until }
}

/// How a system call has its timeout as the fourth argument.
enum Call {
    Pointer,
    Milliseconds,
}

impl Call {
    #[cfg(target_arch = "x86_64")]
    fn of(number: u32) -> Option<Self> {
        match number {
            /* futex, epoll_pwait2 */ 202 | 441 => Some(Self::Pointer),
            /* epoll_wait, epoll_pwait */ 232 | 281 => Some(Self::Milliseconds),
            _ => None,
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn of(number: u32) -> Option<Self> {
        match number {
            /* futex, epoll_pwait2 */ 98 | 441 => Some(Self::Pointer),
            /* epoll_pwait */ 22 => Some(Self::Milliseconds),
            _ => None,
        }
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn of(_number: u32) -> Option<Self> {
        None
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn a_system_call_tells_whether_it_has_a_timeout() {
        for (call, waits) in [
            ("202 0x7f00 0x189 0x0 0x0 0x0 0xffffffff 0x7ffd 0x7f01\n", Waits::Forever),
            ("202 0x7f00 0x189 0x0 0x7f02 0x0 0xffffffff 0x7ffd 0x7f01\n", Waits::Until),
            ("232 0x4 0x55 0x400 0xffffffff 0x0 0x0 0x7ffd 0x7f01\n", Waits::Forever),
            ("281 0x4 0x55 0x400 0xffffffffffffffff 0x0 0x8 0x7ffd 0x7f01\n", Waits::Forever),
            ("232 0x4 0x55 0x400 0x1f4 0x0 0x0 0x7ffd 0x7f01\n", Waits::Until),
            ("441 0x4 0x55 0x400 0x0 0x0 0x8 0x7ffd 0x7f01\n", Waits::Forever),
            ("230 0x0 0x0 0x7ffd 0x7ffd 0x0 0x0 0x7ffd 0x7f01\n", Waits::Unknown),
            ("running\n", Waits::Running),
            ("", Waits::Unknown),
        ] {
            assert_eq!(waits_in(call), waits, "{call}");
        }
    }

    #[test]
    fn an_armed_timer_is_told_from_one_that_is_not() {
        assert!(is_armed("pos:\t0\nclockid: 1\nit_value: (4, 20)\nit_interval: (0, 0)\n"));
        assert!(!is_armed("pos:\t0\nclockid: 1\nit_value: (0, 0)\nit_interval: (0, 0)\n"));
        assert!(!is_armed("pos:\t0\nflags:\t02\n"));
    }
}
