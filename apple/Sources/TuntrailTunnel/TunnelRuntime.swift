import Foundation
import Tuntrail

/// What runs in a packet tunnel provider, without anything of NetworkExtension: the client, its events, the answers to messages, and
/// the state of the network.
///
/// Methods may wait for the disk or the tunnel's thread, so they don't belong on the system's queue. One thread at a time, but for
/// messages.
package final class TunnelRuntime: Sendable {
    package let client: Client
    package let events: ClientEvents
    private let handler: MessageHandler
    private let consent: ConsentKeeper
    private let tracker = Locked(NetworkTracker())

    /// Starts the client. If its directory can't be used now, it starts without recording, and tries again whenever something
    /// happens: a change of the network, sleep or wake-up, a message, a peer that answers. Before the device is first unlocked after a
    /// restart, no file can be read, but an on-demand tunnel starts. The same holds while the extension's predecessor has not quite
    /// ended.
    package init(config: ClientConfig, exports: URL) throws {
        do {
            client = try Client(config: config)
            consent = ConsentKeeper(of: client)
        } catch let error as TuntrailError where error.isOfFiles {
            var idle = config
            idle.consent = .unknown
            client = try Client(config: idle)
            consent = ConsentKeeper(of: client, pending: config.consent)
        }
        events = try ClientEvents(of: client)
        handler = MessageHandler(client: client, consent: consent, events: events, exports: exports)
        // The app may have ended before it had told this to a provider that has exported something.
        if config.consent == .denied { try? handler.deleteExports() }
        events.observe { [consent] _ in
            // Not on the thread of events, which must not wait for the disk.
            if consent.isPending { DispatchQueue.global(qos: .utility).async { consent.retry() } }
        }
    }

    /// Whether records are kept as the user agreed.
    package var isRecordingAsAgreed: Bool {
        !consent.isPending
    }

    package func start(_ config: TunnelConfig, device: TunDevice, network: (NetworkMap, Routes), hosts: HostNames) throws {
        try client.setNetwork(map: network.0, routes: network.1)
        _ = try client.startTunnel(config: config, device: device, protector: nil, resolver: hosts)
    }

    /// Tells a new path of the network. A running tunnel moves to it.
    package func pathChanged(_ path: PathSnapshot, lowPower: Bool) throws {
        consent.retry()
        try client.setPowerState(state: PowerState(lowPower: lowPower))
        try client.setNetworkState(state: tracker.with { $0.state(of: path) })
    }

    /// The device is about to sleep: what is recorded goes to disk.
    package func sleep() throws {
        consent.retry()
        try client.flush()
    }

    /// The device has woken up: its sockets may be dead.
    package func wake() throws {
        consent.retry()
        try client.refreshTunnel()
    }

    /// Answers a message of the app, from any thread. Does not wait. What changes something is done in the order of arrival.
    package func answer(_ message: Data, then done: @escaping @Sendable (Data?) -> Void) {
        handler.answer(message, then: done)
    }

    /// Stops the tunnel and writes every record.
    package func stop() throws {
        defer { events.finish() }
        try client.shutdown()
    }
}

extension TuntrailError {
    /// Whether a tunnel may do without what failed: the directory, or a file in it.
    fileprivate var isOfFiles: Bool {
        switch self {
        case .Storage, .Internal: true
        case .Config, .NoConsent, .Tunnel, .Closed: false
        }
    }
}
