//! Flow events for `tracing`, under the target and with the fields that Firezone's readers know.
//!
//! TRACE only: addresses have no place in ordinary logs. Where nobody listens, an event costs one comparison. Called on
//! the logger's worker thread, after privacy was decided.

use tracing::Level;

use super::{FlowEvent, FlowEventKind};
use crate::hook::Protocol;

/// The target of all flow events.
const TARGET: &str = "flow_logs";

/// Shows an event to the subscriber of the calling thread, if it wants flow events.
///
/// `rx_bytes` and `tx_bytes` are bytes of payload there, as in Firezone; those with IP headers have names of their own.
/// A field without a value is left out. Counts, `last_packet`, `flow_end` and `close_reason` come with the end of a flow,
/// all but the last two of them also with an update.
pub(in crate::flow) fn emit(event: &FlowEvent) {
    if !tracing::enabled!(target: TARGET, Level::TRACE) {
        return;
    }
    let counts = (event.kind != FlowEventKind::Open).then_some(event.counts);
    let protocol = match event.protocol {
        Protocol::UNKNOWN => None,
        protocol => Some(tracing::field::display(protocol)),
    };
    let outers = (!event.outer.is_empty()).then(|| serde_json::to_string(&event.outer).unwrap_or_default());
    tracing::trace!(
        target: TARGET,
        flow_id = %event.id,
        event = event.kind.name(),
        protocol,
        role = event.role.name(),
        inner_src_ip = %event.src.ip(),
        inner_src_port = event.src.port(),
        inner_dst_ip = %event.dst.ip(),
        inner_dst_port = event.dst.port(),
        icmp_id = event.icmp_id,
        outers,
        flow_start = %event.start,
        flow_end = event.end.map(tracing::field::display),
        last_packet = event.last_packet.map(tracing::field::display),
        rx_packets = counts.map(|counts| counts.rx_packets),
        tx_packets = counts.map(|counts| counts.tx_packets),
        rx_bytes = counts.map(|_| event.rx_payload),
        tx_bytes = counts.map(|_| event.tx_payload),
        rx_ip_bytes = counts.map(|counts| counts.rx_bytes),
        tx_ip_bytes = counts.map(|counts| counts.tx_bytes),
        close_reason = event.reason.map(super::CloseReason::name),
    );
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        fmt,
        sync::{Arc, Mutex},
    };

    use tracing::{
        Event, Metadata, Subscriber,
        field::{Field, Visit},
        span,
    };

    use super::*;

    /// Takes the fields of events of one level and less.
    #[derive(Clone)]
    struct Collector {
        level: Level,
        events: Arc<Mutex<Vec<Fields>>>,
    }

    type Fields = BTreeMap<&'static str, String>;

    struct Visitor<'a>(&'a mut Fields);

    impl Visit for Visitor<'_> {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            self.0.insert(field.name(), format!("{value:?}"));
        }

        fn record_str(&mut self, field: &Field, value: &str) {
            self.0.insert(field.name(), value.to_owned());
        }
    }

    impl Subscriber for Collector {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "flow_logs" && *metadata.level() <= self.level
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut fields = Fields::new();
            event.record(&mut Visitor(&mut fields));
            self.events.lock().unwrap().push(fields);
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    fn shown(level: Level, json: &str) -> Vec<Fields> {
        let collector = Collector { level, events: Arc::default() };
        let event: FlowEvent = serde_json::from_str(json).unwrap();
        tracing::subscriber::with_default(collector.clone(), || emit(&event));
        collector.events.lock().unwrap().clone()
    }

    const CLOSE: &str = r#"{"id":"000102030405060708090a0b0c0d0e0f","event":"close","role":"responder","proto":6,
        "src":"100.64.0.2:50000","dst":"[fd7a::1]:443","outer":[{"remote":"203.0.113.9:1","since":"2026-01-02T03:04:05Z"}],
        "start":"2026-01-02T03:04:05Z","lastPacket":"2026-01-02T03:04:06Z","end":"2026-01-02T03:04:07Z",
        "txPkts":1,"txBytes":50,"rxBytes":9,"txPayload":10,"reason":"idle"}"#;

    #[test]
    fn the_end_of_a_flow_has_the_fields_that_readers_know() {
        let fields = shown(Level::TRACE, CLOSE).remove(0);
        let expected = [
            ("flow_id", "000102030405060708090a0b0c0d0e0f"),
            ("event", "close"),
            ("protocol", "tcp"),
            ("role", "responder"),
            ("inner_src_ip", "100.64.0.2"),
            ("inner_src_port", "50000"),
            ("inner_dst_ip", "fd7a::1"),
            ("inner_dst_port", "443"),
            ("outers", r#"[{"remote":"203.0.113.9:1","since":"2026-01-02T03:04:05Z"}]"#),
            ("flow_start", "2026-01-02T03:04:05Z"),
            ("flow_end", "2026-01-02T03:04:07Z"),
            ("last_packet", "2026-01-02T03:04:06Z"),
            ("rx_packets", "0"),
            ("tx_packets", "1"),
            ("rx_bytes", "0"),
            ("tx_bytes", "10"),
            ("rx_ip_bytes", "9"),
            ("tx_ip_bytes", "50"),
            ("close_reason", "idle"),
        ];
        assert_eq!(fields, expected.map(|(name, value)| (name, value.to_owned())).into());
    }

    #[test]
    fn the_beginning_of_a_flow_has_no_counts_and_nothing_is_shown_above_trace() {
        let open = r#"{"id":"000102030405060708090a0b0c0d0e0f","event":"open","role":"initiator","proto":1,
            "src":"100.64.0.1:0","dst":"100.64.0.2:0","icmpId":7,"start":"2026-01-02T03:04:05Z"}"#;
        let fields = shown(Level::TRACE, open).remove(0);
        let names: Vec<_> = fields.keys().copied().collect();
        let expected = [
            "event",
            "flow_id",
            "flow_start",
            "icmp_id",
            "inner_dst_ip",
            "inner_dst_port",
            "inner_src_ip",
            "inner_src_port",
            "protocol",
            "role",
        ];
        assert_eq!(names, expected);
        assert_eq!(shown(Level::DEBUG, CLOSE), []);
    }
}
