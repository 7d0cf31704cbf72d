//! Routes into a tunnel, as wg-quick makes them, and their removal.
//!
//! A prefix gets a plain route to the interface. A prefix that covers a peer's own address (a default route always may)
//! would swallow the tunnel's datagrams: those go into a routing table of their own, which every packet uses except
//! the tunnel's, recognised by their mark; before it, the main table is asked for anything better than a default route,
//! so that local networks stay reachable.
//!
//! Unlike wg-quick, nothing is done to the packet filter, and a prefix that covers an endpoint without being a default
//! route (0.0.0.0/1, for one) is treated as a default route too instead of cutting off the tunnel.
//!
//! Everything happens in the calling thread's network namespace, the removal too: drop [`Routes`] on a thread of the
//! namespace where it was installed.

use std::{fs, io, net::IpAddr};

use ipnet::IpNet;

use super::{LinuxError, ip::Ip};

/// The first table and mark to try: wg-quick's choice, WireGuard's port number.
const FIRST_TABLE: u32 = 51_820;
/// How many tables to try. Each tunnel with a default route takes one.
const TABLES: u32 = 64;
/// Lets replies to marked packets pass the reverse path check. Per namespace.
const SRC_VALID_MARK: &str = "/proc/sys/net/ipv4/conf/all/src_valid_mark";

/// A free routing table, whose number also serves as the mark of the tunnel's sockets (`SO_MARK`).
pub(crate) fn free_mark() -> Result<u32, LinuxError> {
    // Tells a missing command from an unused table.
    Ip::SYSTEM.run(&["-V"])?;
    for table in FIRST_TABLE..FIRST_TABLE + TABLES {
        let number = table.to_string();
        let used = |family| {
            // A table that never was used is an error to some versions of ip and empty to others.
            Ip::SYSTEM
                .run(&[family, "route", "show", "table", &number])
                .is_ok_and(|routes| !routes.is_empty())
        };
        if !used("-4") && !used("-6") {
            return Ok(table);
        }
    }
    Err(LinuxError::NoTable { first: FIRST_TABLE, last: FIRST_TABLE + TABLES - 1 })
}

/// Installed routes; dropping them removes them in reverse order.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    undo: Vec<Undo>,
}

#[derive(Debug)]
enum Undo {
    /// Arguments for `ip`.
    Ip(Vec<String>),
    /// The old value of a kernel setting.
    Sysctl(&'static str, String),
}

impl Routes {
    /// Routes `prefixes` to `interface`. `endpoints` are the addresses of the peers, `mark` the one that the tunnel
    /// sets on its sockets (see [`free_mark`]). If a step fails, those before it are undone.
    pub(crate) fn install(
        interface: &str,
        prefixes: &[IpNet],
        endpoints: &[IpAddr],
        mark: u32,
    ) -> Result<Self, LinuxError> {
        let mut routes = Self::default();
        let (guarded, plain): (Vec<&IpNet>, Vec<&IpNet>) = prefixes.iter().partition(|prefix| {
            prefix.prefix_len() == 0 || endpoints.iter().any(|endpoint| prefix.contains(endpoint))
        });
        for prefix in plain {
            routes.add_plain(interface, prefix)?;
        }
        for family in ["-4", "-6"] {
            let of_family = |prefix: &&&IpNet| family_of(prefix) == family;
            let prefixes: Vec<_> = guarded.iter().filter(of_family).copied().collect();
            if !prefixes.is_empty() {
                routes.add_guarded(interface, family, &prefixes, mark)?;
            }
        }
        Ok(routes)
    }

    /// Removes the routes now, and says what went wrong first; the rest is removed all the same.
    pub(crate) fn remove(mut self) -> Result<(), LinuxError> {
        self.undo_all()
    }

    fn add_plain(&mut self, interface: &str, prefix: &IpNet) -> Result<(), LinuxError> {
        let (family, target) = (family_of(prefix), prefix.trunc().to_string());
        // The interface's own network, for one, is routed already.
        let same = Ip::SYSTEM.run(&[family, "route", "show", "dev", interface, "match", &target])?;
        if !same.trim().is_empty() {
            return Ok(());
        }
        self.change(&[family, "route"], &[&target, "dev", interface])
    }

    fn add_guarded(
        &mut self,
        interface: &str,
        family: &'static str,
        prefixes: &[&IpNet],
        mark: u32,
    ) -> Result<(), LinuxError> {
        let mark = mark.to_string();
        for prefix in prefixes {
            self.change(
                &[family, "route"],
                &[&prefix.trunc().to_string(), "dev", interface, "table", &mark],
            )?;
        }
        // A later rule comes before an earlier one: main without its default routes is asked first.
        self.change(&[family, "rule"], &["not", "fwmark", &mark, "table", &mark])?;
        self.change(&[family, "rule"], &["table", "main", "suppress_prefixlength", "0"])?;
        if family == "-4" {
            self.set_sysctl(SRC_VALID_MARK, "1")?;
        }
        Ok(())
    }

    /// Runs `ip <object> add <what>` and remembers `ip <object> del <what>`.
    fn change(&mut self, object: &[&str], what: &[&str]) -> Result<(), LinuxError> {
        Ip::SYSTEM.run(&[object, &["add"], what].concat())?;
        let undo = [object, &["del"], what].concat();
        self.undo.push(Undo::Ip(undo.into_iter().map(str::to_owned).collect()));
        Ok(())
    }

    fn set_sysctl(&mut self, path: &'static str, value: &str) -> Result<(), LinuxError> {
        let old = fs::read_to_string(path).map_err(sysctl_error)?;
        if old.trim() != value {
            fs::write(path, value).map_err(sysctl_error)?;
            self.undo.push(Undo::Sysctl(path, old.trim().to_owned()));
        }
        Ok(())
    }

    fn undo_all(&mut self) -> Result<(), LinuxError> {
        let mut first = Ok(());
        while let Some(step) = self.undo.pop() {
            let result = match step {
                Undo::Ip(arguments) => {
                    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
                    Ip::SYSTEM.run(&arguments).map(drop)
                }
                Undo::Sysctl(path, old) => fs::write(path, old).map_err(sysctl_error),
            };
            first = first.and(result);
        }
        first
    }
}

impl Drop for Routes {
    fn drop(&mut self) {
        if let Err(error) = self.undo_all() {
            // Usual when the interface went first and took its routes along.
            tracing::debug!(%error, "a route could not be removed");
        }
    }
}

fn family_of(prefix: &IpNet) -> &'static str {
    match prefix {
        IpNet::V4(_) => "-4",
        IpNet::V6(_) => "-6",
    }
}

fn sysctl_error(source: io::Error) -> LinuxError {
    LinuxError::system("allowing marked packets in the reverse path check", "CAP_NET_ADMIN", source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::{
        testing::namespace_or_skip,
        tun::{Offload, Tun},
    };

    const MARK: u32 = 51_820;

    #[test]
    fn plain_prefixes_are_routed_and_removed_again() {
        let Some(namespace) = namespace_or_skip() else { return };
        namespace
            .run(|| {
                let _tun = tun("inner0", "10.66.0.1/24");
                let before = state();
                let prefixes = nets(&["192.168.77.0/24", "10.66.0.0/24", "10.66.0.5/32", "fd77::/64"]);
                let routes = Routes::install("inner0", &prefixes, &[ip("198.51.100.1")], MARK).unwrap();
                assert!(route_to(&["192.168.77.9"]).contains("dev inner0"));
                assert!(route_to(&["fd77::9"]).contains("dev inner0"));
                assert!(!state().contains("fwmark"));
                routes.remove().unwrap();
                assert_eq!(state(), before);
            })
            .unwrap();
    }

    #[test]
    fn default_routes_leave_the_tunnels_own_and_local_packets_on_the_uplink() {
        let Some(namespace) = namespace_or_skip() else { return };
        namespace
            .run(|| {
                let (_uplink, _tun) = (uplink(), tun("inner0", "10.66.0.1/24"));
                let before = state();
                let prefixes = nets(&["0.0.0.0/0", "::/0"]);
                let routes = Routes::install("inner0", &prefixes, &[ip("198.51.100.1")], MARK).unwrap();
                for to in ["198.51.100.1", "8.8.8.8", "2001:db8::1"] {
                    assert!(route_to(&[to]).contains("dev inner0"), "{to}");
                    let marked = route_to(&[to, "mark", &MARK.to_string()]);
                    assert!(marked.contains("dev uplink0"), "{marked}");
                }
                assert!(route_to(&["172.20.0.9"]).contains("dev uplink0"), "the local network stays");
                assert_eq!(fs::read_to_string(SRC_VALID_MARK).unwrap().trim(), "1");
                drop(routes);
                assert_eq!(state(), before);
            })
            .unwrap();
    }

    #[test]
    fn a_prefix_that_covers_an_endpoint_is_guarded_like_a_default_route() {
        let Some(namespace) = namespace_or_skip() else { return };
        namespace
            .run(|| {
                let (_uplink, _tun) = (uplink(), tun("inner0", "10.66.0.1/24"));
                let prefixes = nets(&["0.0.0.0/1", "128.0.0.0/1"]);
                let _routes = Routes::install("inner0", &prefixes, &[ip("198.51.100.1")], MARK).unwrap();
                assert!(route_to(&["8.8.8.8"]).contains("dev inner0"));
                assert!(route_to(&["198.51.100.7"]).contains("dev inner0"));
                let marked = route_to(&["198.51.100.1", "mark", &MARK.to_string()]);
                assert!(marked.contains("dev uplink0"), "{marked}");
            })
            .unwrap();
    }

    #[test]
    fn a_failed_step_undoes_those_before_it_and_quotes_the_reason() {
        let Some(namespace) = namespace_or_skip() else { return };
        namespace
            .run(|| {
                let (_uplink, _tun) = (uplink(), tun("inner0", "10.66.0.1/24"));
                // In the way of the last step.
                let mark = MARK.to_string();
                Ip::SYSTEM.run(&["-6", "route", "add", "::/0", "dev", "uplink0", "table", &mark]).unwrap();
                let before = state();
                let error =
                    Routes::install("inner0", &nets(&["192.168.77.0/24", "0.0.0.0/0", "::/0"]), &[], MARK)
                        .unwrap_err();
                assert!(error.to_string().contains("File exists"), "{error}");
                assert_eq!(state(), before);
            })
            .unwrap();
    }

    #[test]
    fn a_used_table_is_passed_over() {
        let Some(namespace) = namespace_or_skip() else { return };
        namespace
            .run(|| {
                assert_eq!(free_mark().unwrap(), MARK);
                let _tun = tun("inner0", "10.66.0.1/24");
                let _routes = Routes::install("inner0", &nets(&["0.0.0.0/0"]), &[], MARK).unwrap();
                assert_eq!(free_mark().unwrap(), MARK + 1);
            })
            .unwrap();
    }

    // Helpers; all run inside a namespace.

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn tun(name: &str, address: &str) -> Tun {
        Tun::create(Some(name), &nets(&[address]), 1_420, Offload::Off).unwrap()
    }

    /// An interface that stands for the physical network, with default routes.
    fn uplink() -> Tun {
        let addresses = nets(&["172.20.0.2/24", "fd20::2/64"]);
        let tun = Tun::create(Some("uplink0"), &addresses, 1_500, Offload::Off).unwrap();
        Ip::SYSTEM.run(&["-4", "route", "add", "default", "via", "172.20.0.1", "dev", "uplink0"]).unwrap();
        Ip::SYSTEM.run(&["-6", "route", "add", "default", "via", "fd20::1", "dev", "uplink0"]).unwrap();
        tun
    }

    fn route_to(arguments: &[&str]) -> String {
        Ip::SYSTEM.run(&[&["route", "get"], arguments].concat()).unwrap()
    }

    /// All rules and routes of both families, and the kernel setting. Without the kernel's own table of local
    /// addresses: it gets link-local ones in its own time.
    fn state() -> String {
        let mut state = fs::read_to_string(SRC_VALID_MARK).unwrap();
        for family in ["-4", "-6"] {
            state += &Ip::SYSTEM.run(&[family, "rule", "show"]).unwrap();
            let routes = Ip::SYSTEM.run(&[family, "route", "show", "table", "all"]).unwrap();
            for route in routes.lines().filter(|route| !route.contains(" table local ")) {
                state = state + route + "\n";
            }
        }
        state
    }
}
