//! Figures of the process, from `/proc`, so that all languages measure the same way.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use crate::{PATIENCE, TestPeerError};

/// Bytes of the process's own memory that are in RAM: heaps and stacks, but neither code nor mapped files, which come in
/// piece by piece as they are used.
#[uniffi::export]
pub fn resident_bytes() -> Result<u64, TestPeerError> {
    let what = "/proc/self/status";
    let status = fs::read_to_string(what).map_err(TestPeerError::io(what))?;
    let kilobytes = status.lines().find_map(|line| {
        let value = line.strip_prefix("RssAnon:")?;
        value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    kilobytes.map(|kilobytes| kilobytes * 1024).ok_or_else(|| TestPeerError::new(what, "no RssAnon"))
}

/// How many descriptors the process has open.
#[uniffi::export]
pub fn open_descriptors() -> Result<u64, TestPeerError> {
    let what = "/proc/self/fd";
    let entries = fs::read_dir(what).map_err(TestPeerError::io(what))?.count();
    // One of them is the directory's own.
    Ok(entries.saturating_sub(1) as u64)
}

/// How many threads have a name that begins so. The system keeps 15 bytes of a name.
#[uniffi::export]
pub fn threads_named(prefix: &str) -> Result<u64, TestPeerError> {
    let what = "/proc/self/task";
    let mut count = 0;
    for task in fs::read_dir(what).map_err(TestPeerError::io(what))? {
        let task = task.map_err(TestPeerError::io(what))?.path();
        // A thread that has ended meanwhile has no name any more.
        let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
        count += u64::from(name.starts_with(prefix));
    }
    Ok(count)
}

/// Waits until at most so many threads have a name that begins so: a thread is listed for a moment after it was joined.
#[uniffi::export]
pub fn wait_for_threads_named(prefix: &str, at_most: u64) -> Result<(), TestPeerError> {
    let end = Instant::now() + PATIENCE;
    loop {
        let count = threads_named(prefix)?;
        if count <= at_most {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(TestPeerError::new("too many threads", format!("{count} named {prefix}*")));
        }
        // The system tells nobody of a thread's end but who joins it.
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// The name that the system has for the thread of the caller; 15 bytes of it.
#[uniffi::export]
pub fn native_thread_name() -> Result<String, TestPeerError> {
    let what = "/proc/thread-self/comm";
    let name = fs::read_to_string(what).map_err(TestPeerError::io(what))?;
    Ok(name.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn threads_are_counted_by_the_beginning_of_their_names() {
        let (stop, stopped) = channel::<()>();
        let (name, named) = channel();
        let named_thread = thread::Builder::new().name("figures-of-a-thread".to_owned());
        let running = named_thread
            .spawn(move || {
                name.send(native_thread_name().unwrap()).unwrap();
                let _ = stopped.recv();
            })
            .unwrap();
        assert_eq!(named.recv().unwrap(), "figures-of-a-th");
        assert_eq!(threads_named("figures-of").unwrap(), 1);
        drop(stop);
        running.join().unwrap();
        wait_for_threads_named("figures-of", 0).unwrap();
    }

    #[test]
    fn memory_and_descriptors_are_seen() {
        let before = resident_bytes().unwrap();
        let memory = vec![1_u8; 32 << 20];
        assert!(resident_bytes().unwrap() >= before + (30 << 20), "{}", memory.len());
        // Other tests open and close some, too; a thousand is nobody else's.
        let files: Vec<_> = (0..500).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        assert!(open_descriptors().unwrap() >= files.len() as u64);
    }
}
