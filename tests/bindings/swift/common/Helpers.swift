// What the scenarios of caller/main.swift and provider/main.swift stand on: folders, a WireGuard peer that only listens, and a
// server that never answers.
import Foundation
import Glibc
import Tuntrail
import TuntrailTunnel

func equal<T: Equatable>(_ expected: T, _ actual: T, line: Int = #line) {
    guard expected == actual else { fatalError("line \(line): expected \(expected), got \(actual)") }
}

func holds(_ condition: Bool, line: Int = #line) {
    guard condition else { fatalError("line \(line)") }
}

func throwing<E: Error>(_ kind: E.Type, line: Int = #line, _ call: () async throws -> Void) async -> E {
    do {
        try await call()
    } catch let error as E {
        return error
    } catch {
        fatalError("line \(line): expected \(kind), got \(error)")
    }
    fatalError("line \(line): expected \(kind)")
}

/// `print` would keep lines back until the end.
func say(_ line: String) {
    FileHandle.standardOutput.write(Data("\(line)\n".utf8))
}

let privateKey = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo="
let peerKey = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08="

func wgQuick(endpoint: String, allowed: String = "10.9.0.0/24") -> String {
    """
    [Interface]
    PrivateKey = \(privateKey)
    Address = 10.9.0.2/24, fd00::2/64
    DNS = 10.9.0.53, corp.example.com
    MTU = 1280
    [Peer]
    PublicKey = \(peerKey)
    AllowedIPs = \(allowed)
    Endpoint = \(endpoint)
    """
}

/// A path of the test's own, with nothing there but its parent.
func scratch(_ name: String) -> URL {
    let folder = URL(fileURLWithPath: "scratch", isDirectory: true)
    try? FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let path = folder.appendingPathComponent(name)
    if name.hasSuffix("exports") { try? FileManager.default.createDirectory(at: path, withIntermediateDirectories: true) }
    return path
}

func config(_ name: String, server: String) -> ClientConfig {
    ClientConfig(directory: scratch(name).path, baseUrl: server, consent: .granted, uploads: UploadSettings(lowMemory: true))
}

final class Counter: @unchecked Sendable {
    private let lock = NSLock()
    private var count = 0
    func add() { lock.withLock { count += 1 } }
    var value: Int { lock.withLock { count } }
}

final class Flag: @unchecked Sendable {
    private let lock = NSLock()
    private var flag: Bool
    init(_ flag: Bool) { self.flag = flag }
    var value: Bool {
        get { lock.withLock { flag } }
        set { lock.withLock { flag = newValue } }
    }
}

/// Long enough for a slow machine; nothing waits so long unless it is broken.
private func limitWaiting(_ descriptor: Int32) {
    var limit = timeval(tv_sec: 60, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
}

private func loopback(_ kind: __socket_type) throws -> (descriptor: Int32, port: UInt16) {
    let descriptor = socket(AF_INET, Int32(kind.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let status = withUnsafeMutablePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
            bind(descriptor, address, length) == 0 && getsockname(descriptor, address, &length) == 0
        }
    }
    guard status else { throw CocoaError(.fileReadUnknown) }
    limitWaiting(descriptor)
    return (descriptor, UInt16(bigEndian: address.sin_port))
}

/// A TUN device with a packet in it, and a peer that hears the handshakes which that packet causes.
final class Network {
    private let peer: Int32
    private let port: UInt16
    private let device: Int32
    private let app: Int32
    private var hasDevice = true

    init() throws {
        (peer, port) = try loopback(SOCK_DGRAM)
        var pair: [Int32] = [0, 0]
        guard socketpair(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0, &pair) == 0 else { throw CocoaError(.fileReadUnknown) }
        (device, app) = (pair[0], pair[1])
    }

    deinit {
        if hasDevice { close(device) }
        close(peer)
        close(app)
    }

    /// A tunnel to the peer.
    func config() throws -> TunnelConfig {
        try parseTunnelConfig(text: wgQuick(endpoint: "127.0.0.1:\(port)"))
    }

    /// The tunnel closes it.
    func takeDevice() -> Int32 {
        hasDevice = false
        return device
    }

    /// As the provider does, but for the descriptor.
    func start(_ runtime: TunnelRuntime) throws {
        let config = try config()
        let hosts = HostNames()
        let prepared = hosts.prepare(config)
        guard prepared != config else { fatalError("the address stayed as it was") }
        try runtime.start(prepared, device: .tun(descriptor: takeDevice()), network: networkMap(of: config), hosts: hosts)
        send()
    }

    /// An empty UDP datagram from us to the peer.
    func send() {
        let packet: [UInt8] = [
            0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 0, 2, 10, 9, 0, 3,
            0x1f, 0x90, 0, 53, 0, 8, 0, 0,
        ]
        guard write(app, packet, packet.count) == packet.count else { fatalError("the device is closed") }
    }

    /// Waits for a datagram, and returns the port that it came from.
    func handshake() -> UInt16 {
        var bytes = [UInt8](repeating: 0, count: 2048)
        var from = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let received = withUnsafeMutablePointer(to: &from) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { recvfrom(peer, &bytes, bytes.count, 0, $0, &length) }
        }
        // The length and type of a handshake initiation.
        guard received == 148, bytes[0] == 1 else { fatalError("no handshake came, but \(received) bytes") }
        return UInt16(bigEndian: from.sin_port)
    }
}

/// A server that takes connections and says nothing.
final class Listener: @unchecked Sendable {
    private let descriptor: Int32
    let port: UInt16
    private var connections: [Int32] = []

    init() throws {
        (descriptor, port) = try loopback(SOCK_STREAM)
        guard listen(descriptor, 8) == 0 else { throw CocoaError(.fileReadUnknown) }
    }

    deinit {
        for connection in connections + [descriptor] { close(connection) }
    }

    /// Waits until somebody has connected.
    func accept() {
        let connection = Glibc.accept(descriptor, nil, nil)
        guard connection >= 0 else { fatalError("nobody connected") }
        connections.append(connection)
    }
}
