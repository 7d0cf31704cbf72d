#if canImport(NetworkExtension)
import Foundation
import Network
import NetworkExtension
import Tuntrail

/// A packet tunnel provider that runs a WireGuard tunnel and records its flows.
///
/// Make a subclass without a body the principal class of a packet tunnel extension, and start it with what `TuntrailManager`
/// saved. Override what your app decides otherwise: ``tunnelConfig(options:)``, ``clientConfig(settings:directories:)``,
/// ``networkSettings(for:)``, ``network(of:)``, ``device()``. They are called on any thread, in this order, once per start.
///
/// The tunnel reads and writes the utun descriptor itself; packets never pass through Swift. The provider uses API that is safe
/// for extensions only, has one listener, and wakes up for changes of the network, sleep, wake-up and messages, never by a timer.
open class TuntrailPacketTunnelProvider: NEPacketTunnelProvider, @unchecked Sendable {
    // Unchecked: the superclass is not marked Sendable, and all state of this class is behind a lock.

    /// The system ends an extension that takes long to stop, with whatever was not written; it is told in time.
    private static let stopLimit: TimeInterval = 5

    private let state = Locked(State())
    /// Where everything runs that may wait, one after the other; messages have their own.
    private let queue = DispatchQueue(label: "tuntrail.provider", qos: .userInitiated)

    private struct State {
        var start: Task<Void, Never>?
        /// From the system's order to start until there is a runtime, or none will be.
        var isPreparing = false
        /// What the app has asked meanwhile. The settings that the start has read may be older.
        var questions: [(message: Data, done: Once<Data?>)] = []
        var runtime: TunnelRuntime?
        var monitor: NWPathMonitor?
        /// Why the tunnel has ended by itself.
        var end: TuntrailError?
        /// Whether the system was told that the tunnel runs.
        var isRunning = false
    }

    // MARK: what an app may decide

    /// What the app saved in `providerConfiguration`.
    open func settings() throws -> TuntrailSettings {
        let tunnel = protocolConfiguration as? NETunnelProviderProtocol
        return try TuntrailSettings(providerConfiguration: tunnel?.providerConfiguration)
    }

    /// The tunnel's configuration. By default a wg-quick text in the keychain, which `passwordReference` names.
    open func tunnelConfig(options: TuntrailStartOptions) async throws -> TunnelConfig {
        guard let reference = protocolConfiguration.passwordReference else {
            throw TuntrailError.Config(reason: "passwordReference is empty: save a configuration with TuntrailKeychain and TuntrailManager")
        }
        return try parseTunnelConfig(text: TuntrailKeychain.load(reference: reference))
    }

    /// How the client is set up. Take what `super` returns and change it: headers for uploads, access sessions, collections.
    open func clientConfig(settings: TuntrailSettings, directories: TuntrailDirectories) throws -> ClientConfig {
        ClientConfig(
            directory: directories.records.path,
            baseUrl: settings.baseURL,
            consent: settings.consent,
            role: .extension,
            flows: FlowSettings(exitFlows: settings.exitFlows),
            // An extension is ended when it takes more than 50 MB.
            uploads: UploadSettings(lowMemory: true))
    }

    /// Who owns which address. By default what the tunnel's configuration tells: peers have their public key for a name.
    open func network(of config: TunnelConfig) throws -> (map: NetworkMap, routes: Routes) {
        try networkMap(of: config)
    }

    /// What the system is told. By default the configuration's addresses, allowed IPs as routes, name servers and MTU.
    open func networkSettings(for config: TunnelConfig) throws -> NEPacketTunnelNetworkSettings {
        NEPacketTunnelNetworkSettings(try TunnelSettings(config))
    }

    /// Where packets come from and go to, once the system has accepted the network settings. By default the utun device's descriptor.
    open func device() throws -> TunDevice {
        guard let descriptor = UtunDescriptor.find() else {
            throw TuntrailError.Tunnel(reason: "the system has opened no utun device for this provider")
        }
        return .utun(descriptor: descriptor)
    }

    /// The client while the tunnel runs, for what this class does not do.
    public var client: Client? {
        state.with { $0.runtime?.client }
    }

    /// The client's events while the tunnel runs.
    public var events: ClientEvents? {
        state.with { $0.runtime?.events }
    }

    // MARK: what the system calls

    override open func startTunnel(options: [String: NSObject]?, completionHandler: @escaping (Error?) -> Void) {
        let done = Once(completionHandler)
        let options = TuntrailStartOptions(values: options ?? [:])
        state.with { $0 = State(isPreparing: true) }
        let start = Task {
            do {
                try await self.start(options)
            } catch {
                await self.stop()
                return done.call(NSError(crossing: error))
            }
            done.call(nil)
            let end = state.with { state in
                state.isRunning = true
                return state.end
            }
            if let end { self.cancelTunnelWithError(NSError(crossing: end)) }
        }
        state.with { $0.start = start }
    }

    override open func stopTunnel(with reason: NEProviderStopReason, completionHandler: @escaping () -> Void) {
        let done = Once<Void> { completionHandler() }
        let start = state.with { state in
            defer { state.start = nil }
            return state.start
        }
        // The user may stop while it starts.
        start?.cancel()
        Task {
            await start?.value
            await self.stop()
            done.call(())
        }
        DispatchQueue.global().asyncAfter(deadline: .now() + Self.stopLimit) { done.call(()) }
    }

    override open func handleAppMessage(_ messageData: Data, completionHandler: ((Data?) -> Void)?) {
        let done = Once<Data?> { completionHandler?($0) }
        let (runtime, waits) = state.with { state in
            if state.runtime == nil && state.isPreparing { state.questions.append((messageData, done)) }
            return (state.runtime, state.isPreparing)
        }
        if let runtime {
            runtime.answer(messageData) { done.call($0) }
        } else if !waits {
            done.call(MessageHandler.notRunning())
        }
    }

    override open func sleep(completionHandler: @escaping () -> Void) {
        let done = Once<Void> { completionHandler() }
        onQueue { runtime in try runtime.sleep() } then: { done.call(()) }
    }

    override open func wake() {
        onQueue { runtime in try runtime.wake() }
    }

    // MARK: steps

    private func start(_ options: TuntrailStartOptions) async throws {
        let config = try await tunnelConfig(options: options)
        let hosts = HostNames()
        let (prepared, runtime) = try await Blocking.run {
            let settings = try self.settings()
            let directories = try TuntrailDirectories(appGroup: settings.appGroup)
            let client = try self.clientConfig(settings: settings, directories: directories)
            let runtime = try TunnelRuntime(config: client, exports: directories.exports)
            runtime.events.observe { [weak self] in self?.happened($0) }
            self.prepared(runtime)
            // Before the tunnel's own name servers are in force.
            return (hosts.prepare(config), runtime)
        }
        try await apply(networkSettings(for: config))
        try Task.checkCancellation()
        try await Blocking.run {
            let network = try self.network(of: config)
            try runtime.start(prepared, device: self.device(), network: network, hosts: hosts)
        }
        watchNetwork()
        if let end = state.with({ $0.end }) { throw end }
    }

    /// From now on messages are answered: first those that have waited.
    private func prepared(_ runtime: TunnelRuntime) {
        state.with { state in
            // Under the lock, so that no later message overtakes them; this does not wait.
            for question in state.questions { runtime.answer(question.message) { question.done.call($0) } }
            (state.isPreparing, state.questions, state.runtime) = (false, [], runtime)
        }
    }

    /// A tunnel that ends while it starts makes the start fail; later, the system is told.
    private func happened(_ event: Event) {
        let end: TuntrailError
        switch event {
        case .tunnelDeviceEnded: end = .Tunnel(reason: "the system has closed the utun device")
        case .tunnelFailed: end = .Tunnel(reason: "the tunnel has failed: the SDK's log says why")
        default: return
        }
        let isRunning = state.with { state in
            state.end = end
            return state.isRunning
        }
        if isRunning { cancelTunnelWithError(NSError(crossing: end)) }
    }

    private func apply(_ settings: NEPacketTunnelNetworkSettings) async throws {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, Error>) in
            setTunnelNetworkSettings(settings) { error in
                if let error { continuation.resume(throwing: error) } else { continuation.resume() }
            }
        }
    }

    private func watchNetwork() {
        let monitor = NWPathMonitor()
        monitor.pathUpdateHandler = { [weak self] path in
            guard let runtime = self?.state.with({ $0.runtime }) else { return }
            // Fails only when the client is closed.
            try? runtime.pathChanged(PathSnapshot(path), lowPower: ProcessInfo.processInfo.isLowPowerModeEnabled)
        }
        state.with { $0.monitor = monitor }
        monitor.start(queue: queue)
    }

    private func stop() async {
        let (runtime, monitor, questions) = state.with { state in
            defer {
                let start = state.start
                state = State()
                state.start = start
            }
            return (state.runtime, state.monitor, state.questions)
        }
        for question in questions { question.done.call(MessageHandler.notRunning()) }
        monitor?.cancel()
        guard let runtime else { return }
        // What could not be written is in the SDK's own log.
        try? await Blocking.run { try runtime.stop() }
    }

    private func onQueue(
        _ work: @escaping @Sendable (TunnelRuntime) throws -> Void, then: @escaping @Sendable () -> Void = {}
    ) {
        let runtime = state.with { $0.runtime }
        queue.async {
            // Fails when the client is closed, or the disk is full; then the SDK's own log says so.
            if let runtime { try? work(runtime) }
            then()
        }
    }
}

/// What the app gave to `startVPNTunnel(options:)`; nothing when the system connects on demand.
public struct TuntrailStartOptions: @unchecked Sendable {
    // Unchecked: they came from another process, so nobody else has them to change.
    public let values: [String: NSObject]
}

/// A completion handler of the system, to be called once, from any thread.
private final class Once<Value>: @unchecked Sendable {
    // Unchecked: the system's handlers are not marked Sendable, but may be called from any thread.
    private let handler: Locked<((Value) -> Void)?>

    init(_ handler: @escaping (Value) -> Void) {
        self.handler = Locked(handler)
    }

    func call(_ value: Value) {
        let handler = self.handler.with { handler in
            defer { handler = nil }
            return handler
        }
        handler?(value)
    }
}
#endif
