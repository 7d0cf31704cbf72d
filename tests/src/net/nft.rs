//! A packet filter rule with a counter.

use std::{process::Command, time::Duration};

use tuntrail_netlab::linux::Namespace;

use super::{NetError, process};

/// Where the rule stands; a namespace has at most one.
const TABLE: &str = "lab";
/// How nftables is installed.
const INSTALL: &str = "apt-get install nftables";
/// Far above what the command takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A rule for packets that arrive at a host. Gone when dropped.
#[derive(Debug)]
pub struct Nft<'a> {
    host: &'a Namespace,
}

impl<'a> Nft<'a> {
    pub(super) fn install(host: &'a Namespace, rule: &str) -> Result<Self, NetError> {
        let rules = format!(
            "table inet {TABLE} {{ chain arriving {{ type filter hook prerouting priority -450; {rule}; }}; }}"
        );
        nft(host, vec![rules])?;
        Ok(Self { host })
    }

    /// How many packets the rule met.
    ///
    /// # Errors
    /// When nft refuses.
    pub fn packets(&self) -> Result<u64, NetError> {
        let listed = nft(self.host, ["list", "table", "inet", TABLE].map(str::to_owned).into())?;
        let mut words = listed.split_whitespace().skip_while(|word| *word != "packets").skip(1);
        let number = words.next().and_then(|word| word.parse().ok());
        number.ok_or(NetError::Unreadable { source_name: "nft", text: listed })
    }
}

impl Drop for Nft<'_> {
    fn drop(&mut self) {
        // The table ends with its namespace at the latest.
        drop(nft(self.host, ["delete", "table", "inet", TABLE].map(str::to_owned).into()));
    }
}

fn nft(host: &Namespace, arguments: Vec<String>) -> Result<String, NetError> {
    let mut command = Command::new("nft");
    command.args(arguments);
    process::output(host, command, INSTALL, None, PATIENCE)
}
