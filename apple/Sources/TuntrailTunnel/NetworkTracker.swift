import Foundation
import Tuntrail

/// What the system says about the network, in plain values.
package struct PathSnapshot: Equatable, Sendable {
    package struct Interface: Equatable, Sendable {
        package var index: Int
        package var kind: InterfaceKind

        package init(index: Int, kind: InterfaceKind) {
            self.index = index
            self.kind = kind
        }
    }

    package var isSatisfied: Bool
    /// The one that is preferred comes first.
    package var interfaces: [Interface]
    /// Addresses of routers.
    package var gateways: [String]
    package var isExpensive: Bool
    package var isConstrained: Bool

    package init(
        isSatisfied: Bool, interfaces: [Interface] = [], gateways: [String] = [], isExpensive: Bool = false,
        isConstrained: Bool = false
    ) {
        self.isSatisfied = isSatisfied
        self.interfaces = interfaces
        self.gateways = gateways
        self.isExpensive = isExpensive
        self.isConstrained = isConstrained
    }
}

/// Turns paths into states of the network whose numbers tell networks apart.
///
/// The interface's index alone does not: from one Wi-Fi to the next it stays the same. So the number also counts how often the
/// routers have changed or a network came back.
package struct NetworkTracker: Sendable {
    private var network: (index: Int, gateways: Set<String>)?
    private var generation: UInt64 = 0

    package init() {}

    package mutating func state(of path: PathSnapshot) -> NetworkState {
        guard path.isSatisfied else {
            network = nil
            return NetworkState(connected: false)
        }
        // A tunnel, such as our own, has none of the kinds.
        let interface = path.interfaces.first { $0.kind != .unknown }
        let index = interface?.index ?? 0
        let gateways = Set(path.gateways)
        if network?.index != index || network?.gateways != gateways { generation += 1 }
        network = (index, gateways)
        return NetworkState(
            connected: true,
            // An index has 32 bits.
            id: generation << 32 | UInt64(UInt32(truncatingIfNeeded: index)),
            interface: interface?.kind,
            metered: path.isExpensive,
            lowData: path.isConstrained)
    }
}
