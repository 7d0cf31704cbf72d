//! A private network namespace: interfaces, routes and ports of its own, gone with its owner.
//!
//! A namespace belongs to threads, so one dedicated thread is born into it and runs what it is sent. Threads,
//! sockets and processes that this thread creates live in the namespace too; the kernel removes it when the last of
//! them is gone. It has no name in the file system, so a killed process leaves nothing behind.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
    sync::mpsc,
    thread::{self, JoinHandle},
};

use rustix::thread::UnshareFlags;

use super::{LinuxError, ip::Ip};

/// One closure to run on the namespace's thread.
type Job = Box<dyn FnOnce() + Send>;

/// The name of the environment variable that forbids skipping tests, as in CI.
pub const REQUIRED: &str = "TUNTRAIL_REQUIRE_NAMESPACES";
/// Where the kernel offers TUN devices.
const TUN_NODE: &str = "/dev/net/tun";

/// Says that a test is skipped, and why.
///
/// # Panics
/// If [`REQUIRED`] is set in the environment.
#[expect(clippy::panic, reason = "for tests only: a test that must not be skipped has to fail")]
pub fn skip(why: &str) {
    if std::env::var_os(REQUIRED).is_some() {
        panic!("{REQUIRED} is set, but {why}");
    }
    println!("skipped: {why}");
}

/// A network namespace with its loopback interface up. Dropping it ends its thread and waits for it.
pub struct Namespace {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Namespace {
    /// Creates a namespace. Needs root.
    ///
    /// # Errors
    /// Without the right to do so, and without the `ip` command.
    pub fn new() -> Result<Self, LinuxError> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (born, birth) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name("netns".to_owned())
            .spawn(move || {
                let entered = enter_new();
                let failed = entered.is_err();
                if born.send(entered).is_err() || failed {
                    return;
                }
                for job in queue {
                    job();
                }
            })
            .map_err(|source| LinuxError::System { action: "starting a thread", source })?;
        birth.recv().map_err(|_| LinuxError::NamespaceEnded)??;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// A namespace to test in. Without root, inside a container, without TUN devices or iproute2 there is none: says so
    /// and returns `None`, for the test to be skipped.
    ///
    /// # Panics
    /// In that case, if [`REQUIRED`] is set in the environment, as in CI: tests that must not be skipped fail.
    #[must_use]
    pub fn new_or_skip() -> Option<Self> {
        let namespace = if Path::new(TUN_NODE).exists() { Self::new() } else { Err(LinuxError::NoTunModule) };
        match namespace {
            Ok(namespace) => Some(namespace),
            Err(error) => {
                skip(&error.to_string());
                None
            }
        }
    }

    /// Runs `work` on the namespace's thread and waits for its result. A panic of `work` goes on in the caller.
    ///
    /// Must not be called from `work` itself: the thread would wait for itself.
    ///
    /// # Errors
    /// [`LinuxError::NamespaceEnded`].
    pub fn run<T, F>(&self, work: F) -> Result<T, LinuxError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (answer, result) = mpsc::sync_channel(1);
        let job = Box::new(move || {
            // The caller waits below; should it be gone, nobody misses the answer.
            let _ = answer.send(catch_unwind(AssertUnwindSafe(work)));
        });
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or(LinuxError::NamespaceEnded)?;
        match result.recv() {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(LinuxError::NamespaceEnded),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Without senders the thread's loop ends.
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Panics of the work were handed to its callers already.
            drop(thread.join());
        }
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace").finish_non_exhaustive()
    }
}

/// Moves the calling thread into a new namespace and makes that usable.
fn enter_new() -> Result<(), LinuxError> {
    // SAFETY: NEWNET changes only which network stack this thread's future sockets belong to. It touches neither
    // memory nor descriptors nor the file system's state, which are what makes other flags unsafe; and the thread is
    // new, so nothing relies on its old network.
    let unshared = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) };
    unshared.map_err(|errno| {
        LinuxError::system("creating a network namespace", "CAP_SYS_ADMIN, CAP_NET_ADMIN", errno.into())
    })?;
    Ip::SYSTEM.run(&["link", "set", "dev", "lo", "up"])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    };

    use super::*;

    /// The calling thread's network namespace.
    const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";

    #[test]
    fn a_namespace_has_its_own_network_and_a_working_loopback() {
        let Some(namespace) = Namespace::new_or_skip() else { return };
        let links = namespace.run(|| Ip::SYSTEM.run(&["-o", "link", "show", "up"])).unwrap().unwrap();
        assert_eq!(links.lines().count(), 1, "{links}");
        assert!(links.contains(" lo:"), "{links}");

        // A port that is taken inside is neither taken nor reachable outside.
        let inside = namespace
            .run(|| {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                let at = listener.local_addr().unwrap();
                TcpStream::connect(at).unwrap();
                listener
            })
            .unwrap();
        let at: SocketAddr = inside.local_addr().unwrap();
        let outside = TcpListener::bind(at).unwrap();
        TcpStream::connect(at).unwrap();
        outside.set_nonblocking(true).unwrap();
        inside.set_nonblocking(true).unwrap();
        outside.accept().unwrap();
        inside.accept().unwrap();
        assert_eq!(inside.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }

    #[test]
    fn every_thread_of_a_namespace_is_in_the_same_one_and_the_caller_is_not() {
        let Some(namespace) = Namespace::new_or_skip() else { return };
        let own = || fs::read_link(OWN_NAMESPACE).unwrap();
        let dedicated = namespace.run(own).unwrap();
        let child = namespace.run(move || thread::spawn(own).join().unwrap()).unwrap();
        let second = Namespace::new_or_skip().unwrap().run(own).unwrap();
        assert_eq!(dedicated, child);
        assert_ne!(dedicated, own());
        assert_ne!(dedicated, second);
    }

    #[test]
    fn a_panic_inside_reaches_the_caller_and_the_namespace_goes_on() {
        let Some(namespace) = Namespace::new_or_skip() else { return };
        let result = catch_unwind(AssertUnwindSafe(|| namespace.run(|| panic!("inside"))));
        assert_eq!(result.unwrap_err().downcast_ref(), Some(&"inside"));
        assert_eq!(namespace.run(|| 7).unwrap(), 7);
    }
}
