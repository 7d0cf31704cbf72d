#if canImport(NetworkExtension)
import Foundation
import NetworkExtension

/// The app's VPN configuration in the system's settings, with tuntrail's part in it. For the app, not the extension.
///
/// A thin layer over `NETunnelProviderManager`, which stays in reach as ``manager``. Any thread may use it.
public struct TuntrailManager: @unchecked Sendable {
    // Unchecked: the class is not marked Sendable; Apple allows its methods on any thread.

    /// What the system keeps.
    public let manager: NETunnelProviderManager

    /// The configuration whose provider is `extensionID`, or a new one that is not saved yet.
    public static func load(extensionID: String) async throws -> TuntrailManager {
        let loaded: [TuntrailManager] = try await withCheckedThrowingContinuation { continuation in
            NETunnelProviderManager.loadAllFromPreferences { managers, error in
                if let error { return continuation.resume(throwing: error) }
                continuation.resume(returning: (managers ?? []).map(TuntrailManager.init))
            }
        }
        if let found = loaded.first(where: { $0.tunnel?.providerBundleIdentifier == extensionID }) { return found }
        let new = NETunnelProviderManager()
        let tunnel = NETunnelProviderProtocol()
        tunnel.providerBundleIdentifier = extensionID
        new.protocolConfiguration = tunnel
        return TuntrailManager(manager: new)
    }

    /// What was saved last; throws if nothing was.
    public func settings() throws -> TuntrailSettings {
        try TuntrailSettings(providerConfiguration: tunnel?.providerConfiguration)
    }

    /// Saves settings, and the tunnel's configuration if one is given, as a reference that `TuntrailKeychain` returned. The system asks the
    /// user the first time. A running tunnel keeps what it started with: tell it by ``TuntrailSession``.
    ///
    /// `server` is shown in the system's settings.
    public func save(_ settings: TuntrailSettings, server: String, name: String, configuration: Data? = nil) async throws {
        let tunnel = self.tunnel ?? NETunnelProviderProtocol()
        try put(settings, into: tunnel)
        tunnel.serverAddress = server
        if let configuration { tunnel.passwordReference = configuration }
        manager.protocolConfiguration = tunnel
        manager.localizedDescription = name
        manager.isEnabled = true
        try await saveToPreferences()
    }

    /// Saves settings alone, for the next start, if ``save(_:server:name:configuration:)`` has saved a configuration before; otherwise
    /// give them to that. For consent there is ``setConsent(_:settings:client:)``.
    public func update(_ settings: TuntrailSettings) async throws {
        guard let tunnel, tunnel.serverAddress != nil else { return }
        let before = tunnel.providerConfiguration
        try put(settings, into: tunnel)
        manager.protocolConfiguration = tunnel
        do {
            try await saveToPreferences()
        } catch {
            // ``settings()`` tells what is saved.
            tunnel.providerConfiguration = before
            manager.protocolConfiguration = tunnel
            throw error
        }
    }

    /// Does all that the user's answer about recording asks for, with or without a tunnel, and returns when it is done.
    ///
    /// `.granted` is saved for the next start, then told to the running provider. `.denied` is told to the running provider first; then
    /// everything is deleted that the app has recorded or claimed, and all exported files; what an extension has left that does not
    /// run is never sent, and deleted when it starts or is claimed; then the answer is saved. Each step is taken also
    /// after another has failed.
    ///
    /// `settings` are those to save, whatever their consent; as in ``update(_:)``. `client` is the app's own, if it has one:
    /// without, one is started for the deletion. One call at a time, in the order in which the user has decided.
    ///
    /// - Throws: what failed first: `TuntrailMessageError`, `TuntrailError`, or an error of the system. Call again then.
    public func setConsent(_ consent: Consent, settings: TuntrailSettings, client: Client? = nil) async throws {
        let change = ConsentChange {
            session
        } save: { consent in
            var settings = settings
            settings.consent = consent
            try await update(settings)
        } own: { consent in
            let directories = try TuntrailDirectories(appGroup: settings.appGroup)
            try await ConsentChange.own(consent, settings: settings, directories: directories, client: client)
        }
        try await change(consent)
    }

    /// Starts the tunnel. Returns before it is connected: see ``statuses()``.
    public func connect() throws {
        try manager.connection.startVPNTunnel()
    }

    /// Stops the tunnel.
    public func disconnect() {
        manager.connection.stopVPNTunnel()
    }

    /// The tunnel's status now.
    public var status: NEVPNStatus {
        manager.connection.status
    }

    /// The tunnel's status now, and each change of it. The newest matters, so only that waits for a slow reader.
    public func statuses() -> AsyncStream<NEVPNStatus> {
        AsyncStream(bufferingPolicy: .bufferingNewest(1)) { continuation in
            let connection = manager.connection
            nonisolated(unsafe) let source = connection
            nonisolated(unsafe) let observer = NotificationCenter.default.addObserver(
                forName: .NEVPNStatusDidChange, object: connection, queue: nil
            ) { _ in
                continuation.yield(source.status)
            }
            continuation.onTermination = { _ in NotificationCenter.default.removeObserver(observer) }
            continuation.yield(connection.status)
        }
    }

    /// The line to the running provider; `nil` while there is none.
    public var session: TuntrailSession? {
        switch status {
        case .connecting, .connected, .reasserting:
            (manager.connection as? NETunnelProviderSession).map { TuntrailSession($0) }
        default:
            nil
        }
    }

    private var tunnel: NETunnelProviderProtocol? {
        manager.protocolConfiguration as? NETunnelProviderProtocol
    }

    private func put(_ settings: TuntrailSettings, into tunnel: NETunnelProviderProtocol) throws {
        // Others' keys stay.
        tunnel.providerConfiguration = (tunnel.providerConfiguration ?? [:]).merging(try settings.providerConfiguration()) { $1 }
    }

    private func saveToPreferences() async throws {
        try await wait { manager.saveToPreferences(completionHandler: $0) }
        // Without this, starting right after the first save fails as for an invalid configuration.
        try await wait { manager.loadFromPreferences(completionHandler: $0) }
    }

    private func wait(_ call: (@escaping @Sendable (Error?) -> Void) -> Void) async throws {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, Error>) in
            call { error in
                if let error { continuation.resume(throwing: error) } else { continuation.resume() }
            }
        }
    }
}
#endif
