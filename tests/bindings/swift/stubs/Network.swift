// The part of Network that apple/ uses; see NetworkExtension.swift.
import Dispatch

public struct NWInterface: Hashable, Sendable {
    public enum InterfaceType: Sendable {
        case other, wifi, cellular, wiredEthernet, loopback
    }

    public let type: InterfaceType
    public let name: String
    public let index: Int
}

public enum NWEndpoint: Hashable, Sendable, CustomDebugStringConvertible {
    case unix(path: String)
    public var debugDescription: String { "" }
}

public struct NWPath: Equatable, Sendable {
    public enum Status: Sendable {
        case satisfied, unsatisfied, requiresConnection
    }

    public let status: Status
    public let availableInterfaces: [NWInterface]
    public let gateways: [NWEndpoint]
    public let isExpensive: Bool
    public let isConstrained: Bool
}

/// Tells one path, of a Wi-Fi.
public final class NWPathMonitor: @unchecked Sendable {
    public init() {}
    public var pathUpdateHandler: (@Sendable (NWPath) -> Void)?
    public func start(queue: DispatchQueue) {
        let path = NWPath(
            status: .satisfied, availableInterfaces: [NWInterface(type: .wifi, name: "en0", index: 4)], gateways: [],
            isExpensive: true, isConstrained: false)
        queue.async { self.pathUpdateHandler?(path) }
    }
    public func cancel() {}
}
