// What the steps share: the app, its listeners and callbacks, and checks.
import Foundation

let windows = "windows.log.test.example"
let flows = "flows.log.test.example"
let sessions = "sessions.log.test.example"
let sockets = "sockets.log.test.example"
let diagnostics = "diagnostics.log.test.example"

func equal<T: Equatable>(_ expected: T, _ actual: T, line: Int = #line) {
    guard expected == actual else { fatalError("line \(line): expected \(expected), got \(actual)") }
}

func holds(_ condition: Bool, _ shown: Any = "", line: Int = #line) {
    guard condition else { fatalError("line \(line): does not hold: \(shown)") }
}

/// The error that a call throws, which must be the SDK's.
func failure(line: Int = #line, _ call: () throws -> Void) -> TuntrailError {
    do {
        try call()
    } catch let error as TuntrailError {
        return error
    } catch {
        fatalError("line \(line): unexpected \(error)")
    }
    fatalError("line \(line): nothing was thrown")
}

extension TuntrailError {
    var kind: String {
        switch self {
        case .Config: return "Config"
        case .Storage: return "Storage"
        case .NoConsent: return "NoConsent"
        case .Tunnel: return "Tunnel"
        case .Closed: return "Closed"
        case .Internal: return "Internal"
        }
    }

    var reason: String {
        switch self {
        case .Config(let reason), .Storage(let reason), .NoConsent(let reason), .Tunnel(let reason), .Closed(let reason),
            .Internal(let reason):
            return reason
        }
    }
}

/// What callbacks leave for the steps.
final class Queue<Item: Sendable>: @unchecked Sendable {
    private let condition = NSCondition()
    private var items: [Item] = []

    func add(_ item: Item) {
        condition.withLock {
            items.append(item)
            condition.signal()
        }
    }

    /// Takes what comes next. Only a failing test waits so long.
    func next(line: Int = #line) -> Item {
        let end = Date().addingTimeInterval(30)
        return condition.withLock {
            while items.isEmpty {
                guard condition.wait(until: end) else { fatalError("line \(line): nothing came") }
            }
            return items.removeFirst()
        }
    }

    var count: Int { condition.withLock { items.count } }

    func clear() { condition.withLock { items.removeAll() } }
}

/// Packets and bytes in both directions.
struct Counts: Equatable {
    var txPackets: UInt64 = 0
    var txBytes: UInt64 = 0
    var rxPackets: UInt64 = 0
    var rxBytes: UInt64 = 0
}

extension CarriedFlow {
    var counts: Counts { Counts(txPackets: txPackets, txBytes: txBytes, rxPackets: rxPackets, rxBytes: rxBytes) }
}

func sum(_ rows: [RecordedFlow]) -> Counts {
    rows.reduce(into: Counts()) { sum, row in
        sum.txPackets += row.txPackets
        sum.txBytes += row.txBytes
        sum.rxPackets += row.rxPackets
        sum.rxBytes += row.rxBytes
    }
}

/// Keeps what happened.
final class Recorder: EventListener {
    let events = Queue<(Event, String)>()

    func onEvent(event: Event) throws {
        events.add((event, try nativeThreadName()))
    }

    /// What `pick` makes of the first event of which it makes something.
    @discardableResult
    func wait<T>(_ pick: (Event) -> T?) -> T {
        while true {
            let (event, thread) = events.next()
            equal("tuntrail-events", thread)
            if let found = pick(event) { return found }
        }
    }

    func waitForEnd() -> UploadReport {
        wait { event in
            if case .uploadEnded(let report) = event { return report }
            return nil
        }
    }
}

/// Would exempt sockets from the VPN, where that is needed.
final class Protector: SocketProtector {
    let calls = Queue<(UInt64, String)>()

    func protect(socket: UInt64) throws -> Bool {
        calls.add((socket, try nativeThreadName()))
        return true
    }
}

/// Knows one name.
final class Resolver: HostResolver {
    func resolve(host: String) throws -> [String] {
        equal("vpn.example.com", host)
        return ["127.0.0.1"]
    }
}

struct Undeclared: Error {}

/// Fails in ways that are declared and in ways that are not.
final class Throwing: EventListener, SocketProtector, HostResolver {
    let calls = Queue<Bool>()
    private let error: (any Error)?

    init(_ error: (any Error)? = nil) { self.error = error }

    func onEvent(event: Event) throws { _ = try fail() }

    func protect(socket: UInt64) throws -> Bool { try fail() }

    func resolve(host: String) throws -> [String] {
        _ = try fail()
        return []
    }

    private func fail() throws -> Bool {
        calls.add(true)
        if let error { throw error }
        return false
    }
}

func rule(_ resource: UInt64, _ prefix: String, _ port: UInt16) -> ResourceRule {
    ResourceRule(resource: resource, prefixes: [prefix], ports: [PortRange(first: port, last: port)], protocol: 6)
}

func networkMap() -> NetworkMap {
    let own = Node(
        id: 1, stableId: "n1", name: "phone.example.com.", addresses: ["100.64.0.1", "fd7a:115c:a1e0::1"], user: 9)
    let peer = Node(id: 2, stableId: "n2", name: "office.example.com.", addresses: ["100.64.0.2", "fd7a:115c:a1e0::2"])
    return NetworkMap(selfNode: own, peers: [peer], users: [User(id: 9, login: "user@example.com")])
}

func routes() -> Routes { Routes(local: ["100.64.0.1"], remote: ["100.64.0.0/10", "10.20.0.0/16"]) }

final class App {
    let directory: String
    let server: LogServer
    let network: VirtualNetwork
    let recorder = Recorder()
    let protector = Protector()
    private var current: Client?
    /// What the step "host transport" leaves for the step "claim".
    var left: CarriedFlow?

    init(directory: String) throws {
        self.directory = directory
        server = try LogServer.start()
        network = try VirtualNetwork()
    }

    var client: Client {
        get { current! }
        set { current = newValue }
    }

    func path(_ name: String) -> String { "\(directory)/\(name)" }

    func files(_ name: String) -> [String] {
        let paths = FileManager.default.subpaths(atPath: path(name)) ?? []
        return paths.filter { file in
            var isDirectory: ObjCBool = false
            return FileManager.default.fileExists(atPath: "\(path(name))/\(file)", isDirectory: &isDirectory) && !isDirectory.boolValue
        }
    }

    func config(_ name: String, consent: Consent = .granted) -> ClientConfig {
        let names = Collections(
            windows: windows, flows: flows, sessions: sessions, sockets: sockets, diagnostics: diagnostics)
        return ClientConfig(directory: path(name), baseUrl: server.url(), consent: consent, collections: names)
    }

    func tunnelConfig() throws -> TunnelConfig { try parseTunnelConfig(text: network.tunnelConfig()) }

    func startTunnel(_ client: Client, protector: SocketProtector? = nil) throws {
        try client.setNetwork(map: networkMap(), routes: routes())
        _ = try client.startTunnel(
            config: tunnelConfig(), device: .tun(descriptor: network.attach()), protector: protector, resolver: nil)
    }

    /// Sends everything, which must succeed.
    func upload(_ client: Client? = nil) throws {
        let report = try (client ?? self.client).upload(reason: "scenario").join()
        holds(report.complete, report.summary)
    }

    /// What the server knows of a connection, over all windows.
    func recorded(_ flow: CarriedFlow) throws -> Counts {
        sum(try server.flows(collection: windows).filter { $0.source == flow.source && $0.destination == flow.destination })
    }

    func exitRows() throws -> [RecordedFlow] { try server.flows(collection: windows).filter { $0.kind == .exit } }
}
