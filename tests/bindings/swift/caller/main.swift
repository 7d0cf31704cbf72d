// Runs what apple/ has besides Apple's frameworks with the real library. Prints "ok NAME" for each scenario that holds; any other ends
// the program. Arguments: the address of a log server.
import Foundation
import Glibc
import Tuntrail
import TuntrailTunnel

// MARK: computed, without the library

func settings() async throws {
    let all = try parseTunnelConfig(
        text: wgQuick(endpoint: "[2001:db8::1]:51820", allowed: "0.0.0.0/0, ::/0, 10.1.0.0/16, 10.1.0.0/16"))
    let settings = try TunnelSettings(all)
    equal("2001:db8::1", settings.remoteAddress)
    equal(["10.9.0.2", "fd00::2"], settings.addresses.map(\.address))
    equal([24, 64], settings.addresses.map(\.length))
    equal("255.255.255.0", settings.addresses[0].mask)
    equal(["0.0.0.0", "::", "10.1.0.0"], settings.routes.map(\.address))
    equal([true, true, false], settings.routes.map(\.isDefault))
    equal(["10.9.0.53"], settings.nameServers)
    equal(["corp.example.com"], settings.searchDomains)
    equal(1280, settings.mtu)
    var plain = try parseTunnelConfig(text: wgQuick(endpoint: "vpn.example.com:51820"))
    plain.mtu = nil
    equal("127.0.0.1", try TunnelSettings(plain).remoteAddress)
    equal(1420, try TunnelSettings(plain).mtu)
    let (map, routes) = try networkMap(of: plain)
    equal(["10.9.0.2", "fd00::2"], map.selfNode?.addresses)
    equal([peerKey], map.peers.map(\.stableId))
    equal(["10.9.0.0/24"], routes.remote)
}

func prefixes() async throws {
    let masks = ["0.0.0.0/0": "0.0.0.0", "10.0.0.0/8": "255.0.0.0", "10.0.0.1": "255.255.255.255", "10.0.0.0/31": "255.255.255.254"]
    for (text, mask) in masks { equal(mask, try IPPrefix(text).mask) }
    equal("2001:db8::", try IPPrefix("2001:0db8:0::/32").address)
    for text in ["", "/", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+1", "10.0.0/8", "::/129", "host", "1.2.3.4/8/8"] {
        let error = await throwing(TuntrailError.self) { _ = try IPPrefix(text) }
        holds(error.reason.contains("\"\(text)\""))
        holds(NSError(crossing: error).localizedDescription == error.reason)
    }
}

func networks() async throws {
    var tracker = NetworkTracker()
    let wifi = PathSnapshot.Interface(index: 4, kind: .wifi)
    let cell = PathSnapshot.Interface(index: 7, kind: .cellular)
    let tunnel = PathSnapshot.Interface(index: 9, kind: .unknown)
    func path(_ interfaces: [PathSnapshot.Interface], _ gateways: [String]) -> PathSnapshot {
        PathSnapshot(isSatisfied: true, interfaces: interfaces, gateways: gateways)
    }
    let home = tracker.state(of: path([tunnel, wifi, cell], ["192.168.1.1", "fe80::1"]))
    equal(.wifi, home.interface)
    equal(4, home.id & 0xffff_ffff)
    // The order of routers says nothing.
    equal(home.id, tracker.state(of: path([wifi], ["fe80::1", "192.168.1.1"])).id)
    let office = tracker.state(of: path([wifi], ["10.0.0.1"]))
    holds(office.id != home.id)
    equal(NetworkState(connected: false), tracker.state(of: PathSnapshot(isSatisfied: false)))
    let back = tracker.state(of: path([wifi], ["10.0.0.1"]))
    holds(back.id != office.id)
    let expensive = tracker.state(
        of: PathSnapshot(isSatisfied: true, interfaces: [cell], isExpensive: true, isConstrained: true))
    equal([true, true, true], [expensive.metered, expensive.lowData, expensive.id != back.id])
}

struct Unreachable: Error {}

func hostNames() async throws {
    let online = Flag(true)
    let asked = Counter()
    let hosts = HostNames { host in
        guard online.value else { throw Unreachable() }
        asked.add()
        return host == "198.51.100.7" ? ["64:ff9b::c633:6407"] : ["192.0.2.\(asked.value)"]
    }
    let named = hosts.prepare(try parseTunnelConfig(text: wgQuick(endpoint: "vpn.example.com:51820")))
    equal("vpn.example.com:51820", named.peers[0].endpoint)
    // Once from before the tunnel, then anew.
    equal(["192.0.2.1"], try hosts.resolve(host: "vpn.example.com"))
    equal(1, asked.value)
    equal(["192.0.2.2"], try hosts.resolve(host: "vpn.example.com"))
    online.value = false
    equal(["192.0.2.2"], try hosts.resolve(host: "vpn.example.com"))
    let error = await throwing(CallbackError.self) { _ = try hosts.resolve(host: "other.example.com") }
    holds("\(error)".contains("other.example.com"))
    online.value = true
    let literal = hosts.prepare(try parseTunnelConfig(text: wgQuick(endpoint: "198.51.100.7:51820")))
    equal("198.51.100.7.ipv4.invalid:51820", literal.peers[0].endpoint)
    for _ in 0..<2 { equal(["64:ff9b::c633:6407"], try hosts.resolve(host: "198.51.100.7.ipv4.invalid")) }
    let v6 = hosts.prepare(try parseTunnelConfig(text: wgQuick(endpoint: "[2001:db8::1]:51820")))
    equal("[2001:db8::1]:51820", v6.peers[0].endpoint)
    equal(["127.0.0.1"], try HostNames.system("127.0.0.1"))
    // With the name of an interface it is none that the tunnel can read.
    _ = await throwing(CallbackError.self) { equal([], try HostNames.system("fe80::1%lo")) }
}

func descriptors() async throws {
    // There is no utun here; the search must look at what is open, and find none.
    equal(nil, UtunDescriptor.find())
    var address = [UInt8](repeating: 0, count: 32)
    (address[0], address[1], address[2], address[4], address[8]) = (32, 32, 2, 3, 5)
    equal(3, UtunDescriptor.control(of: address))
    address[1] = 2
    equal(nil, UtunDescriptor.control(of: address))
    equal(nil, UtunDescriptor.control(of: []))
}

func settingsInPreferences() async throws {
    let settings = TuntrailSettings(appGroup: "group.a", baseURL: "https://logs.example.com", consent: .granted, exitFlows: .full)
    var preferences = try settings.providerConfiguration()
    preferences["others"] = 1
    equal(settings, try TuntrailSettings(providerConfiguration: preferences))
    for wrong: [String: Any]? in [nil, [:], ["tuntrail": "text"], ["tuntrail": Data("{}".utf8)]] {
        _ = await throwing(TuntrailError.self) { _ = try TuntrailSettings(providerConfiguration: wrong) }
    }
}

func directories() async throws {
    let container = scratch("container")
    let directories = try TuntrailDirectories(container: container)
    for directory in [directories.records, directories.exports] {
        var isDirectory: ObjCBool = false
        holds(FileManager.default.fileExists(atPath: directory.path, isDirectory: &isDirectory) && isDirectory.boolValue)
    }
    // What the process may have been ended before is done again, and keeps nobody from recording.
    let marked = Locked<[URL]>([])
    let again = try TuntrailDirectories(container: container) { directory in
        marked.with { $0.append(directory) }
        throw CocoaError(.fileWriteNoPermission)
    }
    equal(directories, again)
    equal([directories.records, directories.exports], marked.with { $0 })
    let file = scratch("file")
    try Data().write(to: file)
    let error = await throwing(TuntrailError.self) { _ = try TuntrailDirectories(container: file) }
    guard case .Storage = error else { fatalError("\(error)") }
}

// MARK: messages

func codec() async throws {
    let report = UploadReport(
        complete: false, outcome: .retryLater(after: 1.5, status: 503), summary: "later", sentRecords: .max,
        remainingRecords: 1, droppedRecords: 0, sentBytes: 2, rawBytes: 3)
    let progress = UploadProgress(stream: "netlog", sentRecords: 1, totalRecords: 2, sentBytes: 3)
    let replies: [TuntrailReply] = [
        .done, .logID(id: nil), .logID(id: "größe"),
        .upload(status: UploadStatus(upload: 1)),
        .upload(status: UploadStatus(upload: .max, progress: progress, report: report)),
        .failed(error: .client(error: .NoConsent(reason: "no"))), .failed(error: .tooLarge(bytes: 1, limit: 0)),
    ]
    for reply in replies {
        let data = try MessageCodec.encode(reply, limit: MessageCodec.replyLimit)
        equal(reply, try MessageCodec.decode(TuntrailReply.self, from: data, limit: MessageCodec.replyLimit))
    }
    // What is on the wire, so that a change of it is noticed: it needs a new version.
    let wire = try MessageCodec.encode(TuntrailMessage.upload(reason: "r"), limit: MessageCodec.questionLimit)
    let object = try JSONSerialization.jsonObject(with: wire) as? [String: Any]
    equal(1, object?["version"] as? Int)
    equal("r", ((object?["body"] as? [String: Any])?["upload"] as? [String: Any])?["reason"] as? String)
    for message in [TuntrailMessage.logID, .clear, .export, .stats, .setConsent(consent: .denied), .setExitFlows(exitFlows: .off)] {
        let data = try MessageCodec.encode(message, limit: MessageCodec.questionLimit)
        equal(message, try MessageCodec.decode(TuntrailMessage.self, from: data, limit: MessageCodec.questionLimit))
    }
}

func badMessages() async throws {
    let runtime = try TunnelRuntime(config: config("bad-messages", server: "https://logs.example.com"), exports: scratch("bad"))
    defer { try? runtime.stop() }
    func answer(_ text: String) async throws -> TuntrailReply {
        let answer = await withCheckedContinuation { continuation in
            runtime.answer(Data(text.utf8)) { continuation.resume(returning: $0) }
        }
        guard let data = answer else { fatalError("no answer") }
        return try MessageCodec.decode(TuntrailReply.self, from: data, limit: MessageCodec.replyLimit)
    }
    equal(.failed(error: .unsupportedVersion(theirs: 2, ours: 1)), try await answer(#"{"version":2,"body":{"dance":{}}}"#))
    for text in ["", "{}", "[]", "\u{0}", #"{"version":"1"}"#, #"{"version":1,"body":{"dance":{}}}"#, #"{"version":1,"body":{"upload":{}}}"#] {
        guard case .failed(.unreadable) = try await answer(text) else { fatalError("\(text)") }
    }
    let long = String(repeating: "x", count: 65_537)
    equal(.failed(error: .tooLarge(bytes: 65_537, limit: 65_536)), try await answer(long))
    equal(.failed(error: .noSuchUpload(upload: 77)), try await answer(#"{"version":1,"body":{"uploadStatus":{"upload":77}}}"#))
    let session = TuntrailSession { $1(nil) }
    equal(.notRunning, await throwing(TuntrailMessageError.self) { try await session.clear() })
    let confused = TuntrailSession { try $1(MessageCodec.encode(TuntrailReply.done, limit: 100)) }
    equal(.wrongReply(detail: "to stats"), await throwing(TuntrailMessageError.self) { _ = try await confused.stats() })
    let reason = String(repeating: "r", count: 70_000)
    guard case .tooLarge = await throwing(TuntrailMessageError.self, { _ = try await confused.upload(reason: reason) })
    else { fatalError() }
    guard let data = MessageHandler.notRunning() else { fatalError() }
    equal(.failed(error: .notRunning), try MessageCodec.decode(TuntrailReply.self, from: data, limit: 1000))
}

// MARK: with the library

func clients() async throws {
    let client = try await Client.start(config("clients", server: "https://logs.example.com"))
    let report = try await client.upload(reason: "nothing there", streams: [.windows])
    equal(.nothingToSend, report.outcome)
    try await client.perform { try $0.shutdown() }
    guard case .Closed = await throwing(TuntrailError.self, { _ = try await client.upload(reason: "closed") })
    else { fatalError() }
}

func streams() async throws {
    let events = ClientEvents()
    let all = events.stream()
    let few = events.stream(limit: 2)
    for peer in 1...5 { try events.onEvent(event: .peerSilent(publicKey: "\(peer)")) }
    do {
        let gone = events.stream()
        withExtendedLifetime(gone) {}
    }
    events.finish()
    try events.onEvent(event: .uploadWorkWaiting)
    var seen: [Event] = []
    for await event in all { seen.append(event) }
    equal((1...5).map { .peerSilent(publicKey: "\($0)") }, seen)
    seen = []
    for await event in few { seen.append(event) }
    equal([.eventsDropped(count: 3), .peerSilent(publicKey: "4"), .peerSilent(publicKey: "5")], seen)
    // One that waits is woken; one whose task is cancelled ends.
    let more = ClientEvents()
    let waiting = more.stream()
    let first = Task { await waiting.first { _ in true } }
    try more.onEvent(event: .tunnelDeviceEnded)
    equal(.tunnelDeviceEnded, await first.value)
    let endless = more.stream()
    let reader = Task { for await _ in endless {} }
    reader.cancel()
    await reader.value
}

func tunnels(_ server: String) async throws {
    let exports = scratch("tunnel-exports")
    let runtime = try TunnelRuntime(config: config("tunnel", server: server), exports: exports)
    holds(runtime.isRecordingAsAgreed)
    let events = runtime.events.stream()
    let network = try Network()
    try network.start(runtime)
    // The tunnel moves when the network does: a handshake from another socket.
    let wifi = PathSnapshot(isSatisfied: true, interfaces: [.init(index: 4, kind: .wifi)])
    try runtime.pathChanged(wifi, lowPower: false)
    let before = network.handshake()
    try runtime.pathChanged(PathSnapshot(isSatisfied: true, interfaces: [.init(index: 7, kind: .cellular)]), lowPower: true)
    var after = network.handshake()
    while after == before { after = network.handshake() }
    try runtime.wake()
    let woken = network.handshake()
    holds(woken != 0)
    try runtime.sleep()

    let session = TuntrailSession { runtime.answer($0, then: $1) }
    let stats = try await session.stats()
    equal(peerKey, stats.tunnel?.peers.first?.publicKey)
    holds((stats.store?.windows.appended ?? 0) > 0)
    holds(try await session.logID()?.count == 64)
    try await session.setExitFlows(.off)

    // The system may have purged the directory.
    try FileManager.default.removeItem(at: exports)
    let file = try await session.export()
    holds(file.report.records > 0 && file.name.hasSuffix(".tar.zst"))
    let second = try await session.export()
    equal([second.name], try FileManager.default.contentsOfDirectory(atPath: exports.path))

    let told = Counter()
    let report = try await session.upload(reason: "test", every: 0.01) { _ in told.add() }
    equal(true, report.complete)
    holds(report.sentRecords > 0 && told.value > 0)
    // The same, as the client's own events tell it.
    for await event in events {
        if case .uploadEnded(let ended) = event {
            equal(report, ended)
            break
        }
    }
    say("sent \(report.sentRecords)")

    let markers = Locked<[String]>([])
    let debug = try await session.debugUpload(note: "it is slow", every: 0.01) { marker in
        markers.with { $0.append(marker) }
    } progress: { _ in }
    equal(true, debug.complete)
    equal([true], markers.with { $0 }.map { $0.hasPrefix("BUG-") })
    say("sent \(debug.sentRecords)")

    // What is deleted is not kept in files either.
    try await session.clear()
    equal([], try FileManager.default.contentsOfDirectory(atPath: exports.path))
    _ = try await session.export()
    try await session.setConsent(.denied)
    equal([], try FileManager.default.contentsOfDirectory(atPath: exports.path))
    guard case .client(.NoConsent) = await throwing(TuntrailMessageError.self, { _ = try await session.upload(reason: "denied") })
    else { fatalError() }
    equal(nil, try await session.logID())
    try runtime.stop()
    guard case .client(.Closed) = await throwing(TuntrailMessageError.self, { try await session.clear() })
    else { fatalError() }
}

/// Cancelling the task ends the upload, in the app as in the extension.
func cancellation() async throws {
    // Accepts connections, and never answers.
    let silent = try Listener()
    let runtime = try TunnelRuntime(config: config("cancel", server: "http://127.0.0.1:\(silent.port)"), exports: scratch("cancel-exports"))
    let network = try Network()
    try network.start(runtime)
    _ = network.handshake()
    try runtime.sleep()
    let client = runtime.client
    for upload: @Sendable () async throws -> UploadReport in [
        { try await client.upload(reason: "to be cancelled") },
        { try await TuntrailSession { runtime.answer($0, then: $1) }.upload(reason: "to be cancelled", every: 0.01, progress: nil) },
    ] {
        let task = Task { try await upload() }
        silent.accept()
        task.cancel()
        _ = await throwing(CancellationError.self) { _ = try await task.value }
    }
    // Nothing was lost.
    holds(try client.stats().store?.windows.dropped == 0)
    try runtime.stop()
}

/// As before the first unlock: no file can be used, then they can.
func lockedStorage() async throws {
    let directory = scratch("locked")
    try Data("in the way".utf8).write(to: directory)
    let runtime = try TunnelRuntime(config: config("locked", server: "https://logs.example.com"), exports: scratch("locked-exports"))
    holds(!runtime.isRecordingAsAgreed)
    let network = try Network()
    try network.start(runtime)
    holds(network.handshake() != 0)
    equal(nil, try runtime.client.stats().store)
    try runtime.wake()
    holds(!runtime.isRecordingAsAgreed)
    try FileManager.default.removeItem(at: directory)
    // Any message will do.
    holds(try await TuntrailSession { runtime.answer($0, then: $1) }.stats().store != nil)
    holds(runtime.isRecordingAsAgreed)
    try runtime.stop()

    // A refusal that the app sends meanwhile is not overruled by the older grant.
    try FileManager.default.removeItem(at: directory)
    try Data("in the way".utf8).write(to: directory)
    let refused = try TunnelRuntime(config: config("locked", server: "https://logs.example.com"), exports: scratch("locked-exports"))
    // Whether or not there is something to delete, it is the last word.
    _ = try? await TuntrailSession { refused.answer($0, then: $1) }.setConsent(.denied)
    try? FileManager.default.removeItem(at: directory)
    try refused.wake()
    holds(refused.isRecordingAsAgreed)
    equal(nil, try refused.client.stats().store)
    try refused.stop()
}

@main
struct Caller {
    static func main() async throws {
        let server = CommandLine.arguments[1]
        let scenarios: [(String, () async throws -> Void)] = [
            ("settings", settings), ("prefixes", prefixes), ("networks", networks), ("host names", hostNames),
            ("descriptors", descriptors), ("settings in preferences", settingsInPreferences),
            ("directories", directories), ("codec", codec), ("bad messages", badMessages), ("clients", clients),
            ("streams", streams), ("tunnels", { try await tunnels(server) }), ("cancellation", cancellation),
            ("locked storage", lockedStorage), ("last word", lastWord), ("orders", orders),
            ("consent", consentChange), ("consent without a tunnel", consentWithoutATunnel),
            ("no answer", noAnswer), ("claims", { try await claims(server) }),
        ]
        for (name, scenario) in scenarios {
            try await scenario()
            say("ok \(name)")
        }
    }
}
