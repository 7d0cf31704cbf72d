import Foundation
import Tuntrail

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#endif

/// An address with the length of its network, such as `10.0.0.0/8`.
package struct IPPrefix: Equatable, Sendable {
    /// As the system writes it.
    package let address: String
    /// 0 to 32, or to 128.
    package let length: Int
    package let isIPv6: Bool

    /// Reads `10.0.0.0/8`, `2001:db8::/32` or a single address.
    ///
    /// - Throws: `TuntrailError.Config` with the text.
    package init(_ text: String) throws {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard let (address, isIPv6) = Self.normal(parts[0]) else { throw Self.wrong(text) }
        let most = isIPv6 ? 128 : 32
        var length = most
        if parts.count == 2 {
            // `Int` would also take a sign.
            guard parts[1].allSatisfy(\.isNumber), let given = Int(parts[1]), given <= most else { throw Self.wrong(text) }
            length = given
        }
        (self.address, self.length, self.isIPv6) = (address, length, isIPv6)
    }

    /// The mask of an IPv4 prefix, such as `255.0.0.0`.
    package var mask: String {
        let bits: UInt32 = length == 0 ? 0 : UInt32.max << UInt32(32 - min(length, 32))
        return [24, 16, 8, 0].map { "\((bits >> UInt32($0)) & 255)" }.joined(separator: ".")
    }

    /// Whether it is everything.
    package var isDefault: Bool { length == 0 }

    /// An address as the system writes it, and whether it is IPv6. `nil` for what is no address.
    package static func normal(_ text: String) -> (address: String, isIPv6: Bool)? {
        for (family, isIPv6) in [(AF_INET, false), (AF_INET6, true)] {
            // The larger of the two.
            var bytes = in6_addr()
            guard inet_pton(family, text, &bytes) == 1 else { continue }
            var buffer = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
            guard inet_ntop(family, &bytes, &buffer, socklen_t(buffer.count)) != nil else { return nil }
            let end = buffer.firstIndex(of: 0) ?? buffer.endIndex
            return (String(decoding: buffer[..<end].map(UInt8.init(bitPattern:)), as: UTF8.self), isIPv6)
        }
        return nil
    }

    private static func wrong(_ text: String) -> TuntrailError {
        .Config(reason: "\"\(text)\" is neither an IP address nor a prefix such as 10.0.0.0/8")
    }
}
