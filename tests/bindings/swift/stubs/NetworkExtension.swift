// The part of NetworkExtension that apple/ uses, with the signatures of Apple's documentation, for systems that have no SDK of
// Apple's. Bodies are empty but where the provider's own test (swift/provider) needs an answer of the system. Also what Foundation
// has on Apple's systems only.
import Foundation
@_exported import Network

// Deprecated classes that share their names with types of Network, which the real module hands on, too.
open class NWPath: NSObject {}
open class NWEndpoint: NSObject {}

public enum NEProviderStopReason: Int, @unchecked Sendable {
    case none, userInitiated, providerFailed
}

public enum NEVPNStatus: Int, @unchecked Sendable {
    case invalid, disconnected, connecting, connected, reasserting, disconnecting
}

extension NSNotification.Name {
    public static let NEVPNStatusDidChange = NSNotification.Name("com.apple.networkextension.statusdidchange")
}

open class NEVPNProtocol: NSObject {
    open var serverAddress: String?
    open var passwordReference: Data?
    open var disconnectOnSleep = false
}

open class NETunnelProviderProtocol: NEVPNProtocol {
    open var providerConfiguration: [String: Any]?
    open var providerBundleIdentifier: String?
}

open class NEVPNConnection: NSObject {
    open var status: NEVPNStatus { .invalid }
    open func startVPNTunnel() throws {}
    open func startVPNTunnel(options: [String: NSObject]? = nil) throws {}
    open func stopVPNTunnel() {}
}

open class NETunnelProviderSession: NEVPNConnection {
    open func sendProviderMessage(_ messageData: Data, responseHandler: ((Data?) -> Void)? = nil) throws {}
}

open class NEVPNManager: NSObject {
    open var isEnabled = false
    open var localizedDescription: String?
    open var protocolConfiguration: NEVPNProtocol?
    open var connection: NEVPNConnection { NEVPNConnection() }
    /// Of the test's: why saving fails.
    nonisolated(unsafe) public static var failure: Error?
    open func loadFromPreferences(completionHandler: @escaping (Error?) -> Void) { completionHandler(nil) }
    open func saveToPreferences(completionHandler: ((Error?) -> Void)? = nil) { completionHandler?(Self.failure) }
    open func removeFromPreferences(completionHandler: ((Error?) -> Void)? = nil) {}
}

open class NETunnelProviderManager: NEVPNManager {
    open class func loadAllFromPreferences(
        completionHandler: @escaping ([NETunnelProviderManager]?, Error?) -> Void
    ) {
        completionHandler([], nil)
    }
}

open class NEProvider: NSObject {
    open func sleep(completionHandler: @escaping () -> Void) {}
    open func wake() {}
}

open class NETunnelProvider: NEProvider {
    open var protocolConfiguration: NEVPNProtocol { NEVPNProtocol() }
    open var reasserting = false
    open func handleAppMessage(_ messageData: Data, completionHandler: ((Data?) -> Void)? = nil) {}
    open func setTunnelNetworkSettings(
        _ tunnelNetworkSettings: NETunnelNetworkSettings?, completionHandler: ((Error?) -> Void)? = nil
    ) {
        completionHandler?(nil)
    }
}

open class NEPacketTunnelProvider: NETunnelProvider {
    open func startTunnel(
        options: [String: NSObject]? = nil, completionHandler: @escaping @Sendable (Error?) -> Void
    ) {}
    open func stopTunnel(with reason: NEProviderStopReason, completionHandler: @escaping () -> Void) {}
    open func cancelTunnelWithError(_ error: Error?) {}
}

open class NETunnelNetworkSettings: NSObject {
    public init(tunnelRemoteAddress address: String) {}
    open var dnsSettings: NEDNSSettings?
}

open class NEPacketTunnelNetworkSettings: NETunnelNetworkSettings {
    open var ipv4Settings: NEIPv4Settings?
    open var ipv6Settings: NEIPv6Settings?
    open var mtu: NSNumber?
}

open class NEDNSSettings: NSObject {
    public init(servers: [String]) {}
    open var searchDomains: [String]?
    open var matchDomains: [String]?
}

open class NEIPv4Settings: NSObject {
    public init(addresses: [String], subnetMasks: [String]) {}
    open var includedRoutes: [NEIPv4Route]?
    open var excludedRoutes: [NEIPv4Route]?
}

open class NEIPv4Route: NSObject {
    public init(destinationAddress address: String, subnetMask: String) {}
    open class func `default`() -> NEIPv4Route { NEIPv4Route(destinationAddress: "0.0.0.0", subnetMask: "0.0.0.0") }
}

open class NEIPv6Settings: NSObject {
    public init(addresses: [String], networkPrefixLengths: [NSNumber]) {}
    open var includedRoutes: [NEIPv6Route]?
    open var excludedRoutes: [NEIPv6Route]?
}

open class NEIPv6Route: NSObject {
    public init(destinationAddress address: String, networkPrefixLength: NSNumber) {}
    open class func `default`() -> NEIPv6Route { NEIPv6Route(destinationAddress: "::", networkPrefixLength: 0) }
}

extension FileManager {
    public func containerURL(forSecurityApplicationGroupIdentifier groupIdentifier: String) -> URL? {
        URL(fileURLWithPath: groupIdentifier, isDirectory: true)
    }
}

extension ProcessInfo {
    public var isLowPowerModeEnabled: Bool { false }
}
