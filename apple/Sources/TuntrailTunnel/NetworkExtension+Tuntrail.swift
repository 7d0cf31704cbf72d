#if canImport(NetworkExtension)
import Foundation
import Network
import NetworkExtension
import Tuntrail

extension NEPacketTunnelNetworkSettings {
    /// iOS ignores an address of its own with a longer prefix, as other WireGuard apps have found.
    private static let longestIPv6Prefix = 120

    /// Turns plain settings into the system's.
    package convenience init(_ settings: TunnelSettings) {
        self.init(tunnelRemoteAddress: settings.remoteAddress)
        // Routes count also without an address of their kind: what they catch must not leave beside the tunnel.
        let v4 = settings.addresses.filter { !$0.isIPv6 }
        let v4Routes = settings.routes.filter { !$0.isIPv6 }
        if !v4.isEmpty || !v4Routes.isEmpty {
            let ipv4 = NEIPv4Settings(addresses: v4.map(\.address), subnetMasks: v4.map(\.mask))
            ipv4.includedRoutes = v4Routes.map { route in
                route.isDefault ? .default() : NEIPv4Route(destinationAddress: route.address, subnetMask: route.mask)
            }
            ipv4Settings = ipv4
        }
        let v6 = settings.addresses.filter(\.isIPv6)
        let v6Routes = settings.routes.filter(\.isIPv6)
        if !v6.isEmpty || !v6Routes.isEmpty {
            let ipv6 = NEIPv6Settings(
                addresses: v6.map(\.address),
                networkPrefixLengths: v6.map { NSNumber(value: min($0.length, Self.longestIPv6Prefix)) })
            ipv6.includedRoutes = v6Routes.map { route in
                route.isDefault
                    ? .default()
                    : NEIPv6Route(
                        destinationAddress: route.address, networkPrefixLength: NSNumber(value: route.length))
            }
            ipv6Settings = ipv6
        }
        if !settings.nameServers.isEmpty {
            let dns = NEDNSSettings(servers: settings.nameServers)
            dns.searchDomains = settings.searchDomains
            // The empty domain matches every name: all questions go to these servers, as with wg-quick.
            dns.matchDomains = [""]
            dnsSettings = dns
        }
        mtu = NSNumber(value: settings.mtu)
    }
}

extension PathSnapshot {
    /// Reads what the system says. NetworkExtension has a class of the same name.
    init(_ path: Network.NWPath) {
        self.init(
            isSatisfied: path.status == .satisfied,
            interfaces: path.availableInterfaces.map { Interface(index: $0.index, kind: InterfaceKind($0.type)) },
            gateways: path.gateways.map { "\($0)" },
            isExpensive: path.isExpensive,
            isConstrained: path.isConstrained)
    }
}

extension InterfaceKind {
    init(_ type: Network.NWInterface.InterfaceType) {
        switch type {
        case .wifi: self = .wifi
        case .cellular: self = .cellular
        case .wiredEthernet: self = .wired
        default: self = .unknown
        }
    }
}
#endif
