import Foundation

/// What the app decides and the provider needs at each start. It is kept by the system in `providerConfiguration`, which is not
/// secret: keys belong in the keychain, see `TuntrailKeychain`.
public struct TuntrailSettings: Codable, Equatable, Sendable {
    /// The app group that app and extension share, such as `group.com.example.vpn`.
    public var appGroup: String
    /// `https://host[:port][/path]` of the log server.
    public var baseURL: String
    /// What the user agreed to so far.
    public var consent: Consent
    /// What is recorded of exit traffic. `full` only after somebody who may decide has opted in.
    public var exitFlows: ExitFlows

    public init(appGroup: String, baseURL: String, consent: Consent = .unknown, exitFlows: ExitFlows = .aggregated) {
        self.appGroup = appGroup
        self.baseURL = baseURL
        self.consent = consent
        self.exitFlows = exitFlows
    }

    /// Where in `providerConfiguration` the settings are; the other keys are the app's.
    private static let key = "tuntrail"

    /// Reads what ``providerConfiguration`` wrote.
    ///
    /// - Throws: `TuntrailError.Config`.
    public init(providerConfiguration: [String: Any]?) throws {
        guard let data = providerConfiguration?[Self.key] as? Data else {
            throw TuntrailError.Config(reason: "providerConfiguration has no \"\(Self.key)\": save it with TuntrailManager")
        }
        do {
            self = try JSONDecoder().decode(Self.self, from: data)
        } catch {
            throw TuntrailError.Config(reason: "\"\(Self.key)\" in providerConfiguration can't be read: \(error)")
        }
    }

    /// For `NETunnelProviderProtocol.providerConfiguration`.
    public func providerConfiguration() throws -> [String: Any] {
        do {
            return [Self.key: try JSONEncoder().encode(self)]
        } catch {
            throw TuntrailError.Config(reason: "the settings can't be written: \(error)")
        }
    }
}
