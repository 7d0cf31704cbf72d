// Runs the provider as the system does, with stubs in the system's place and a device of the test's own. Prints "ok NAME" for each
// scenario that holds.
import Foundation
import NetworkExtension
import Security
import Tuntrail
import TuntrailTunnel

/// A provider whose settings and device are the test's.
final class Provider: TuntrailPacketTunnelProvider, @unchecked Sendable {
    let peers: Network
    var group = "scratch/group"
    var server = "https://logs.example.com"
    var hasDevice = true
    /// What happens when the client is about to be made, and when the tunnel is about to start.
    var beforeClient: () -> Void = {}
    var beforeTunnel: () throws -> Void = {}
    /// What the system was told after the start.
    let ends = Locked<[String]>([])
    /// The same, as they come.
    let (told, tell) = AsyncStream<String>.makeStream()

    init(_ peers: Network) {
        self.peers = peers
    }

    override func settings() throws -> TuntrailSettings {
        TuntrailSettings(appGroup: group, baseURL: server, consent: .granted)
    }

    override func tunnelConfig(options: TuntrailStartOptions) async throws -> TunnelConfig {
        equal(true, options.values.isEmpty)
        return try peers.config()
    }

    override func clientConfig(settings: TuntrailSettings, directories: TuntrailDirectories) throws -> ClientConfig {
        beforeClient()
        return try super.clientConfig(settings: settings, directories: directories)
    }

    override func network(of config: TunnelConfig) throws -> (map: NetworkMap, routes: Routes) {
        try beforeTunnel()
        return try super.network(of: config)
    }

    override func cancelTunnelWithError(_ error: Error?) {
        let end = error?.localizedDescription ?? ""
        ends.with { $0.append(end) }
        tell.yield(end)
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
        TuntrailSession { question, answered in self.handleAppMessage(question) { answered($0) } }
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

/// A refusal that comes while the provider starts, which has read the settings before, is not lost.
func refusalWhileStarting() async throws {
    let provider = Provider(try Network())
    let (answers, answered) = AsyncStream<Data?>.makeStream()
    let refusal = try MessageCodec.encode(TuntrailMessage.setConsent(consent: .denied), limit: MessageCodec.questionLimit)
    provider.beforeClient = { provider.handleAppMessage(refusal) { answered.yield($0) } }
    equal(nil, await provider.start())
    // Not the bytes: the order of members in JSON is any.
    func reply(_ answer: Data?) throws -> TuntrailReply {
        guard let answer else { fatalError("no answer") }
        return try MessageCodec.decode(TuntrailReply.self, from: answer, limit: MessageCodec.replyLimit)
    }
    for await answer in answers.prefix(1) { equal(.done, try reply(answer)) }
    equal(nil, try await provider.session.logID())
    await provider.stop()
    // Of a start that fails, too, every message is answered.
    let failing = Provider(try Network())
    failing.beforeClient = { failing.handleAppMessage(refusal) { answered.yield($0) } }
    failing.server = "nowhere"
    holds(await failing.start() != nil)
    for await answer in answers.prefix(1) { equal(try reply(MessageHandler.notRunning()), try reply(answer)) }
}

/// A tunnel that ends by itself: while it starts, the start fails; later, the system is told.
func endOfATunnel() async throws {
    let provider = Provider(try Network())
    provider.beforeTunnel = { try provider.events?.onEvent(event: .tunnelFailed) }
    let error = await provider.start()
    holds(error?.localizedDescription.contains("the tunnel has failed") == true)
    holds(provider.client == nil)
    equal([], provider.ends.with { $0 })
    let other = Provider(try Network())
    equal(nil, await other.start())
    let events = other.events
    try events?.onEvent(event: .peerSilent(publicKey: peerKey))
    equal([], other.ends.with { $0 })
    try events?.onEvent(event: .tunnelDeviceEnded)
    // The system may hear it from the task that starts the tunnel, which ends after the system has heard of the start.
    for await end in other.told.prefix(1) { equal("the system has closed the utun device", end) }
    await other.stop()
    equal(1, other.ends.with { $0.count })
}

/// A configuration that is saved again stays where the system's reference finds it.
func keychain() async throws {
    let reference = try TuntrailKeychain.save("first", name: "a", accessGroup: "g")
    let other = try TuntrailKeychain.save("other", name: "b", accessGroup: "g")
    equal(reference, try TuntrailKeychain.save("second", name: "a", accessGroup: "g"))
    equal("second", try TuntrailKeychain.load(reference: reference))
    Keychain.refusal = -25308
    let error = await throwing(TuntrailError.self) { _ = try TuntrailKeychain.save("third", name: "a", accessGroup: "g") }
    holds(error.reason.contains("-25308"))
    Keychain.refusal = nil
    equal("second", try TuntrailKeychain.load(reference: reference))
    try TuntrailKeychain.remove(name: "a", accessGroup: "g")
    try TuntrailKeychain.remove(name: "a", accessGroup: "g")
    _ = await throwing(TuntrailError.self) { _ = try TuntrailKeychain.load(reference: reference) }
    equal("other", try TuntrailKeychain.load(reference: other))
}

/// The user's answer, while no tunnel runs.
func consentInTheApp() async throws {
    let manager = try await TuntrailManager.load(extensionID: "com.example.tunnel")
    let group = "scratch/consent"
    let initial = TuntrailSettings(appGroup: group, baseURL: "https://logs.example.com")
    let consentFile = "\(group)/Library/Application Support/tuntrail/CONSENT"
    // Before anything is saved there is nothing to save to.
    try await manager.setConsent(.granted, settings: initial)
    _ = await throwing(TuntrailError.self) { _ = try manager.settings() }
    try await manager.save(initial, server: "vpn.example.com", name: "test")
    try await manager.setConsent(.granted, settings: initial)
    equal(.granted, try manager.settings().consent)
    holds(!FileManager.default.fileExists(atPath: consentFile))
    // Another VPN may be chosen meanwhile.
    manager.manager.isEnabled = false
    NEVPNManager.failure = CocoaError(.userCancelled)
    _ = await throwing(CocoaError.self) { try await manager.setConsent(.denied, settings: manager.settings()) }
    holds(try String(contentsOfFile: consentFile, encoding: .utf8).contains("denied"))
    equal(.granted, try manager.settings().consent)
    NEVPNManager.failure = nil
    try await manager.setConsent(.denied, settings: manager.settings())
    equal(.denied, try manager.settings().consent)
    holds(!manager.manager.isEnabled)
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
            ("stop while starting", stopWhileStarting), ("refusal while starting", refusalWhileStarting),
            ("end of a tunnel", endOfATunnel), ("keychain", keychain), ("consent in the app", consentInTheApp),
        ]
        for (name, scenario) in scenarios {
            try await scenario()
            say("ok \(name)")
        }
    }
}
