// Runs the provider as the system does, with stubs in the system's place and a device of the test's own. Prints "ok NAME" for each
// scenario that holds.
import Foundation
import NetworkExtension
import Tuntrail
import TuntrailTunnel

/// A provider whose settings and device are the test's.
final class Provider: TuntrailPacketTunnelProvider, @unchecked Sendable {
    let peers: Network
    var group = "scratch/group"
    var hasDevice = true

    init(_ peers: Network) {
        self.peers = peers
    }

    override func settings() throws -> TuntrailSettings {
        TuntrailSettings(appGroup: group, baseURL: "https://logs.example.com", consent: .granted)
    }

    override func tunnelConfig(options: TuntrailStartOptions) async throws -> TunnelConfig {
        equal(true, options.values.isEmpty)
        return try peers.config()
    }

    override func device() throws -> TunDevice {
        hasDevice ? .tun(descriptor: peers.takeDevice()) : try super.device()
    }

    func start() async -> NSError? {
        await withCheckedContinuation { continuation in
            startTunnel(options: nil) { continuation.resume(returning: $0 as? NSError) }
        }
    }

    func stop() async {
        await withCheckedContinuation { continuation in
            stopTunnel(with: .userInitiated) { continuation.resume() }
        }
    }

    func toSleep() async {
        await withCheckedContinuation { continuation in sleep { continuation.resume() } }
    }

    var session: TuntrailSession {
        TuntrailSession { question in
            await withCheckedContinuation { continuation in
                self.handleAppMessage(question) { continuation.resume(returning: $0) }
            }
        }
    }
}

func lifeOfATunnel() async throws {
    let network = try Network()
    let provider = Provider(network)
    equal(.notRunning, await throwing(TuntrailMessageError.self) { _ = try await provider.session.stats() })
    equal(nil, await provider.start())
    network.send()
    let first = network.handshake()
    holds(first != 0)
    await provider.toSleep()
    holds((try await provider.session.stats().store?.windows.appended ?? 0) > 0)
    provider.wake()
    // Not by chance the same: the old socket is closed after the new one is there.
    while network.handshake() == first {}
    let file = try await provider.session.export()
    holds(FileManager.default.fileExists(atPath: "scratch/group/Library/Caches/tuntrail-exports/\(file.name)"))
    holds(provider.client != nil && provider.events != nil)
    await provider.stop()
    holds(provider.client == nil)
    equal(.notRunning, await throwing(TuntrailMessageError.self) { try await provider.session.clear() })
}

func failedStart() async throws {
    let provider = Provider(try Network())
    provider.hasDevice = false
    let error = await provider.start()
    equal("tuntrail", error?.domain)
    holds(error?.localizedDescription.contains("no utun device") == true)
    holds(provider.client == nil)
    provider.group = "scratch/group/Library/Application Support/tuntrail/file"
    try FileManager.default.createDirectory(atPath: "scratch/group/Library/Application Support/tuntrail", withIntermediateDirectories: true)
    try Data().write(to: URL(fileURLWithPath: provider.group))
    let unusable = await provider.start()
    holds(unusable?.localizedDescription.contains("can't be made") == true)
    await provider.stop()
}

/// The user may stop a tunnel while it starts.
func stopWhileStarting() async throws {
    let provider = Provider(try Network())
    let starting = Task { await provider.start() }
    await provider.stop()
    _ = await starting.value
    await provider.stop()
    holds(provider.client == nil)
}

/// What the system is told of a tunnel for everything.
func networkSettings() async throws {
    let provider = Provider(try Network())
    let config = try parseTunnelConfig(text: wgQuick(endpoint: "192.0.2.1:51820", allowed: "0.0.0.0/0, ::/0, fd00::/8"))
    let settings = try provider.networkSettings(for: config)
    equal(1, settings.ipv4Settings?.includedRoutes?.count)
    equal(2, settings.ipv6Settings?.includedRoutes?.count)
    equal([""], settings.dnsSettings?.matchDomains)
    equal(["corp.example.com"], settings.dnsSettings?.searchDomains)
    equal(1280, settings.mtu)
    // IPv6 traffic must not leave beside a tunnel without an IPv6 address.
    var onlyV4 = config
    onlyV4.addresses = ["10.9.0.2/32"]
    equal(2, try provider.networkSettings(for: onlyV4).ipv6Settings?.includedRoutes?.count)
}

@main
struct Caller {
    static func main() async throws {
        let scenarios: [(String, () async throws -> Void)] = [
            ("network settings", networkSettings), ("failed start", failedStart), ("life of a tunnel", lifeOfATunnel),
            ("stop while starting", stopWhileStarting),
        ]
        for (name, scenario) in scenarios {
            try await scenario()
            say("ok \(name)")
        }
    }
}
