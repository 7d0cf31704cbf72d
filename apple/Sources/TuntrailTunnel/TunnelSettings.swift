import Foundation
import Tuntrail

/// What the system must be told for a tunnel, computed from its configuration: addresses, routes, name servers, MTU.
package struct TunnelSettings: Equatable, Sendable {
    /// What the system takes for the server's address. Only shown; a text that is no address is refused.
    package let remoteAddress: String
    /// Our addresses.
    package let addresses: [IPPrefix]
    /// What is sent into the tunnel: the allowed IPs of all peers, each once, in the order of the configuration.
    package let routes: [IPPrefix]
    package let nameServers: [String]
    package let searchDomains: [String]
    package let mtu: Int

    /// The core's default: what fits into 1500 bytes with IPv6 and WireGuard around it, rounded down.
    private static let defaultMTU: UInt16 = 1420

    /// - Throws: `TuntrailError.Config` for an address that can't be read.
    package init(_ config: TunnelConfig) throws {
        let numeric = config.peers.lazy.compactMap(\.endpoint).compactMap { Endpoint($0)?.host }.compactMap { IPPrefix.normal($0) }
        remoteAddress = numeric.first?.address ?? "127.0.0.1"
        addresses = try config.addresses.map(IPPrefix.init)
        var routes: [IPPrefix] = []
        for prefix in try config.peers.flatMap(\.allowedIps).map(IPPrefix.init) where !routes.contains(prefix) {
            routes.append(prefix)
        }
        self.routes = routes
        nameServers = config.dns
        searchDomains = config.searchDomains
        mtu = Int(config.mtu ?? Self.defaultMTU)
    }
}

/// `host:port`, with brackets around an IPv6 address.
package struct Endpoint: Equatable, Sendable {
    package var host: String
    package var port: String

    package init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":") else { return nil }
        host = String(text[..<colon])
        port = String(text[text.index(after: colon)...])
        if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        if host.isEmpty || port.isEmpty { return nil }
    }
}

/// Who is who, as far as a tunnel's configuration tells: this device, and the peers that own single addresses. An app that
/// knows its nodes by name gives its own map.
package func networkMap(of config: TunnelConfig) throws -> (NetworkMap, Routes) {
    // An interface address carries the length of its network; the node is the address alone.
    let own = try config.addresses.map { try IPPrefix($0).address }
    let this = Node(id: 0, stableId: try publicKeyOf(privateKey: config.privateKey), addresses: own)
    let peers = zip(1..., config.peers).map { id, peer in
        Node(id: Int64(id), stableId: peer.publicKey, addresses: peer.allowedIps)
    }
    let map = NetworkMap(selfNode: this, peers: peers)
    return (map, Routes(local: own, remote: config.peers.flatMap(\.allowedIps)))
}
