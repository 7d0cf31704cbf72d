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
        // Others' keys stay.
        let own = try settings.providerConfiguration()
        tunnel.providerConfiguration = (tunnel.providerConfiguration ?? [:]).merging(own) { $1 }
        tunnel.serverAddress = server
        if let configuration { tunnel.passwordReference = configuration }
        manager.protocolConfiguration = tunnel
        manager.localizedDescription = name
        manager.isEnabled = true
        try await wait { manager.saveToPreferences(completionHandler: $0) }
        // Without this, starting right after the first save fails as for an invalid configuration.
        try await wait { manager.loadFromPreferences(completionHandler: $0) }
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

    private func wait(_ call: (@escaping @Sendable (Error?) -> Void) -> Void) async throws {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, Error>) in
            call { error in
                if let error { continuation.resume(throwing: error) } else { continuation.resume() }
            }
        }
    }
}
#endif
