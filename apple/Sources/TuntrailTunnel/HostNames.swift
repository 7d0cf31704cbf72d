import Foundation
import Tuntrail

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#endif

/// Finds the peers' addresses for a tunnel on Apple's systems.
///
/// - Names are looked up before the tunnel's name servers are in force, and the first question of the tunnel is answered from
///   that: those servers may be reachable through the tunnel only.
/// - When a later look-up fails, the last answer holds.
/// - IPv4 addresses are looked up, too: on a network with IPv6 only, the system turns them into addresses that its NAT64
///   understands. As the tunnel asks for names only, such peers get a name of ours.
package final class HostNames: HostResolver, Sendable {
    /// No name server knows names below `invalid` (RFC 6761), so none can be meant.
    private static let suffix = ".ipv4.invalid"

    private struct Answer {
        var addresses: [String]
        var isFresh: Bool
    }

    private let answers = Locked<[String: Answer]>([:])
    private let lookUp: @Sendable (String) throws -> [String]

    package init(lookUp: @escaping @Sendable (String) throws -> [String] = HostNames.system) {
        self.lookUp = lookUp
    }

    /// The configuration with names in place of IPv4 addresses, its names looked up. Waits for the network. A name that is not found is
    /// left for the tunnel to complain about.
    package func prepare(_ config: TunnelConfig) -> TunnelConfig {
        var config = config
        for index in config.peers.indices {
            guard let endpoint = config.peers[index].endpoint, var parts = Endpoint(endpoint) else { continue }
            if let (address, isIPv6) = IPPrefix.normal(parts.host) {
                if isIPv6 { continue }
                parts.host = address + Self.suffix
                config.peers[index].endpoint = "\(parts.host):\(parts.port)"
            }
            if let addresses = try? find(parts.host) {
                answers.with { $0[parts.host] = Answer(addresses: addresses, isFresh: true) }
            }
        }
        return config
    }

    package func resolve(host: String) throws -> [String] {
        let fresh = answers.with { answers -> [String]? in
            guard let answer = answers[host], answer.isFresh else { return nil }
            answers[host]?.isFresh = false
            return answer.addresses
        }
        if let fresh { return fresh }
        do {
            let addresses = try find(host)
            answers.with { $0[host] = Answer(addresses: addresses, isFresh: false) }
            return addresses
        } catch {
            if let last = answers.with({ $0[host]?.addresses }) { return last }
            throw CallbackError.Failed(reason: "\(host) is not found: \(error.localizedDescription)")
        }
    }

    private func find(_ host: String) throws -> [String] {
        guard host.hasSuffix(Self.suffix) else { return try lookUp(host) }
        let address = String(host.dropLast(Self.suffix.count))
        // Where nothing translates, it is what it is.
        let found = (try? lookUp(address)) ?? []
        return found.isEmpty ? [address] : found
    }

    /// Asks the system. Waits for the network.
    package static func system(_ host: String) throws -> [String] {
        var hints = addrinfo()
        #if canImport(Glibc)
        hints.ai_socktype = Int32(SOCK_DGRAM.rawValue)
        #else
        hints.ai_socktype = SOCK_DGRAM
        #endif
        var list: UnsafeMutablePointer<addrinfo>?
        let status = getaddrinfo(host, nil, &hints, &list)
        guard status == 0 else {
            throw CallbackError.Failed(reason: String(cString: gai_strerror(status)))
        }
        defer { freeaddrinfo(list) }
        var addresses: [String] = []
        var entry = list
        while let current = entry {
            var buffer = [CChar](repeating: 0, count: Int(NI_MAXHOST))
            let info = current.pointee
            if getnameinfo(info.ai_addr, info.ai_addrlen, &buffer, socklen_t(buffer.count), nil, 0, NI_NUMERICHOST) == 0 {
                let end = buffer.firstIndex(of: 0) ?? buffer.endIndex
                let text = String(decoding: buffer[..<end].map(UInt8.init(bitPattern:)), as: UTF8.self)
                // Link-local with the interface's name: of no use as an endpoint, and not understood as an address.
                if !text.contains("%") && !addresses.contains(text) { addresses.append(text) }
            }
            entry = info.ai_next
        }
        guard !addresses.isEmpty else { throw CallbackError.Failed(reason: "it has link-local addresses only") }
        return addresses
    }
}
