//! When the uploader may begin by itself, and what the host tells it about the device.
//!
//! Plain values. The host sets the rules once, in [`UploadConfig`](super::UploadConfig), and reports the state of network
//! and battery whenever it changes; nothing here is polled.

use std::time::Duration;

/// Who decides that something is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum UploadPolicy {
    /// Whoever calls [`Uploader::upload`](super::Uploader::upload), and nobody else. No timer is ever armed.
    #[default]
    OnDemand,
    /// Also the uploader, when the rules are met.
    Automatic(AutomaticPolicy),
}

/// The rules of automatic uploads. All of them must be met; none holds for uploads that somebody asks for.
///
/// Fixed rules besides: never while roaming, and never before the host has said that there is a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutomaticPolicy {
    /// Begin when a stream, or all together, have so many bytes of new records. Default: 128 KiB, half a request.
    pub min_pending_bytes: u64,
    /// Or when the oldest new record is so old. Default: 6 h.
    pub max_age: Duration,
    /// Bytes of requests that a day may cost on metered networks. A pass that has used up the rest ends after the request
    /// that did. Default: 0, nothing on metered networks.
    pub daily_metered_bytes: u64,
    /// Unless it is being charged, the battery must have more than so many percent. Default: 15.
    pub min_battery_percent: u8,
    /// Send nothing while the device saves power ([`PowerState::low_power`]). Default: true.
    pub respect_low_power: bool,
    /// Send nothing while the network is to be spared ([`NetworkState::low_data`]). Default: true.
    pub respect_low_data: bool,
    /// From the end of one pass to the begin of the next. Default: 15 min.
    pub min_interval: Duration,
    /// The shortest and the longest wait after a network has come up or changed; drawn anew each time, because then
    /// everybody wants to send, and the tunnel has to handshake. Default: 30 s to 120 s.
    pub settle: (Duration, Duration),
}

impl Default for AutomaticPolicy {
    fn default() -> Self {
        Self {
            min_pending_bytes: 128 * 1024,
            max_age: Duration::from_secs(6 * 60 * 60),
            daily_metered_bytes: 0,
            min_battery_percent: 15,
            respect_low_power: true,
            respect_low_data: true,
            min_interval: Duration::from_secs(15 * 60),
            settle: (Duration::from_secs(30), Duration::from_secs(120)),
        }
    }
}

/// The network as the host sees it. The default is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NetworkState {
    /// There is one.
    pub connected: bool,
    /// Tells networks apart: another value is another network. Any number that the platform has for it, such as
    /// Android's network handle or the interface index; 0 if there is none.
    pub id: u64,
    /// Data costs money (Android: metered, Apple: expensive).
    pub metered: bool,
    /// It belongs to a foreign operator.
    pub roaming: bool,
    /// The user wants to spare it (Android: Data Saver, Apple: Low Data Mode, "constrained").
    pub low_data: bool,
}

/// The power supply as the host sees it. The default is a device without a battery; a host that never reports anything
/// else has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PowerState {
    /// Charge of the battery in percent; `None` without one.
    pub battery_percent: Option<u8>,
    /// On external power.
    pub charging: bool,
    /// The device saves power (Android: Battery Saver, Apple: Low Power Mode).
    pub low_power: bool,
}

impl AutomaticPolicy {
    /// Whether network and power allow a pass, the budget for metered networks aside.
    pub(super) fn allows(&self, network: &NetworkState, power: &PowerState) -> bool {
        let costs = network.metered && self.daily_metered_bytes == 0;
        let spared =
            (network.low_data && self.respect_low_data) || (power.low_power && self.respect_low_power);
        let charged = power.charging || power.battery_percent.is_none_or(|p| p > self.min_battery_percent);
        let forbidden = network.roaming || costs || spared;
        network.connected && charged && !forbidden
    }

    /// The wait after a network has come. `random` is uniformly distributed.
    pub(super) fn draw_settle(&self, random: u64) -> Duration {
        let (shortest, longest) = self.settle;
        let fraction = (random >> 11) as f64 / (1_u64 << 53) as f64;
        shortest + longest.saturating_sub(shortest).mul_f64(fraction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIFI: NetworkState =
        NetworkState { connected: true, id: 1, metered: false, roaming: false, low_data: false };
    const MAINS: PowerState = PowerState { battery_percent: None, charging: false, low_power: false };

    #[test]
    fn each_condition_alone_forbids() {
        let rules = AutomaticPolicy::default();
        assert!(rules.allows(&WIFI, &MAINS));
        for network in [
            NetworkState::default(),
            NetworkState { metered: true, ..WIFI },
            NetworkState { roaming: true, ..WIFI },
            NetworkState { low_data: true, ..WIFI },
        ] {
            assert!(!rules.allows(&network, &MAINS), "{network:?}");
        }
        let battery = |percent| PowerState { battery_percent: Some(percent), ..MAINS };
        assert!(rules.allows(&WIFI, &battery(16)));
        assert!(!rules.allows(&WIFI, &battery(15)));
        assert!(rules.allows(&WIFI, &PowerState { charging: true, ..battery(1) }));
        assert!(!rules.allows(&WIFI, &PowerState { low_power: true, charging: true, ..battery(99) }));
    }

    #[test]
    fn what_may_be_allowed_can_be_and_roaming_can_not() {
        let rules = AutomaticPolicy {
            daily_metered_bytes: 1,
            min_battery_percent: 0,
            respect_low_power: false,
            respect_low_data: false,
            ..AutomaticPolicy::default()
        };
        let costly = NetworkState { metered: true, low_data: true, ..WIFI };
        let weak = PowerState { battery_percent: Some(1), charging: false, low_power: true };
        assert!(rules.allows(&costly, &weak));
        assert!(!rules.allows(&NetworkState { roaming: true, ..WIFI }, &MAINS));
    }

    #[test]
    fn the_settling_time_is_drawn_from_its_range() {
        let rules = AutomaticPolicy::default();
        assert_eq!(rules.draw_settle(0), Duration::from_secs(30));
        assert_eq!(rules.draw_settle(1 << 63), Duration::from_secs(75));
        assert!(rules.draw_settle(u64::MAX) <= Duration::from_secs(120));
        let odd = AutomaticPolicy { settle: (Duration::from_secs(9), Duration::ZERO), ..rules };
        assert_eq!(odd.draw_settle(u64::MAX), Duration::from_secs(9));
    }
}
