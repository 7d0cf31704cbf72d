//! Who is measured against whom.

use crate::net::{Offload, Version};

/// What runs at one end of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// tuntrail.
    Tuntrail {
        /// Whether the flow logger counts, classifies and writes records.
        counting: bool,
        /// Of its TUN device.
        offload: Offload,
    },
    /// wireguard-go.
    WireguardGo(Version),
}

/// A tunnel between two engines; data flows from the first to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contest {
    /// Encrypts most of the time.
    pub sender: Engine,
    /// Decrypts most of the time.
    pub receiver: Engine,
}

impl Contest {
    /// What the ratios are taken to: the newest wireguard-go at both ends.
    pub const BASELINE: Self =
        Self { sender: Engine::WireguardGo(Version::Newest), receiver: Engine::WireguardGo(Version::Newest) };

    /// All contests, `older` with Debian 12's wireguard-go.
    #[must_use]
    pub fn all(offload: Offload, older: bool) -> Vec<Self> {
        let between = |sender, receiver| Self { sender, receiver };
        let counting = Engine::Tuntrail { counting: true, offload };
        let plain = Engine::Tuntrail { counting: false, offload };
        let go = Engine::WireguardGo(Version::Newest);
        let mut all = vec![
            between(counting, counting),
            between(plain, plain),
            between(counting, go),
            between(go, counting),
            Self::BASELINE,
        ];
        if older {
            let old = Engine::WireguardGo(Version::Bookworm);
            all.push(between(old, old));
        }
        all
    }

    /// A short name.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} → {}", self.sender.name(), self.receiver.name())
    }
}

impl Engine {
    fn name(self) -> String {
        match self {
            Self::Tuntrail { counting, offload } => {
                let counting = if counting { "" } else { " uncounted" };
                let offload = if offload == Offload::On { "" } else { " without offload" };
                format!("tuntrail{counting}{offload}")
            }
            Self::WireguardGo(version) => version.to_string(),
        }
    }
}
