// The SDK from begin to end in Swift: the steps of SDK_STEPS in tests/bindings/src/lib.rs. An app with a VPN does what is done
// here, in about this order. Prints "ok NAME" for each step that holds; any other ends the program. The one argument is an
// empty directory.
import Foundation

func configuration(_ app: App) throws {
    let changes: [(inout ClientConfig) -> Void] = [
        { $0.baseUrl = "ftp://nowhere" }, { $0.directory = "" }, { $0.logFilter = "loud" }, { $0.privateId = "secret" },
        { $0.flows = FlowSettings(window: 0.01) },
        { $0.sessions = SessionSettings(rules: [rule(1, "100.64.0.999", 1)]) },
    ]
    for change in changes {
        var wrong = app.config("refused")
        change(&wrong)
        let error = failure { _ = try Client(config: wrong) }
        equal("Config", error.kind)
        holds(!error.reason.isEmpty && !error.reason.contains("secret"), error)
    }
    let file = try app.network.tunnelConfig().replacingOccurrences(of: "PrivateKey = ", with: "PrivateKey = x")
    let error = failure { _ = try parseTunnelConfig(text: file) }
    equal("Config", error.kind)
    let secret = try app.tunnelConfig().privateKey
    holds(error.reason.contains("line 2") && !error.reason.contains(secret), error)
    // What an app prints by accident has no secrets in it.
    var named = app.config("refused")
    named.privateId = "our secret"
    let printed = "\(try app.tunnelConfig()) \(named)"
    holds(printed.contains("hidden") && !printed.contains(secret) && !printed.contains("our secret"), printed)
    equal(44, try publicKeyOf(privateKey: generatePrivateKey()).count)
    let undecided = try Client(config: app.config("refused", consent: .unknown))
    equal(nil, try undecided.logId())
    equal("NoConsent", failure { _ = try undecided.upload(reason: "scenario") }.kind)
    try undecided.shutdown()
    equal([], app.files("refused"))
}

func tunnel(_ app: App) throws {
    var config = app.config("records")
    config.flows = FlowSettings(events: true)
    config.sessions = SessionSettings(rules: [rule(7, "100.64.0.2/32", 443)])
    config.logFilter = "debug"
    config.remoteCommands = .allowed
    app.client = try Client(config: config)
    try app.client.setListener(listener: app.recorder)
    try app.client.setNetwork(map: networkMap(), routes: routes())
    var named = try app.tunnelConfig()
    let peer = named.peers[0].publicKey
    named.peers[0].endpoint = named.peers[0].endpoint?.replacingOccurrences(of: "127.0.0.1", with: "vpn.example.com")
    let info = try app.client.startTunnel(
        config: named, device: .tun(descriptor: app.network.attach()), protector: app.protector, resolver: Resolver())
    holds(info.localV4 != nil && info.adapterLuid == nil, info)
    let (socket, thread) = app.protector.calls.next()
    holds(socket > 2, socket)
    equal(try nativeThreadName(), thread)

    let flow = try app.network.exchange(place: .node, request: 20_000, response: 60_000)
    app.recorder.wait { $0 == .peerConnected(publicKey: peer) ? true : nil }
    let stats = try app.client.stats().tunnel!
    equal(
        flow.counts,
        Counts(txPackets: stats.txPackets, txBytes: stats.txBytes, rxPackets: stats.rxPackets, rxBytes: stats.rxBytes))
    equal(peer, stats.peers[0].publicKey)
    equal("Tunnel", failure { try app.startTunnel(app.client) }.kind)
    // That try has replaced the programs of the device.
    try app.client.stopTunnel()
    try app.startTunnel(app.client, protector: app.protector)
    app.protector.calls.clear()
}

func exitFlows(_ app: App) throws {
    // So far there were only sums.
    for row in try app.exitRows() {
        holds(row.protocol == 0 && row.source == "100.64.0.1:0" && row.destination == nil, row)
    }
    holds(try !app.server.entries(collection: windows).contains { $0.contains("203.0.113.7") })
    try app.client.setExitFlows(exitFlows: .full)
    try app.client.flush()
    let full = try app.network.exchange(place: .internet, request: 1_000, response: 2_000)
    try app.upload()
    equal("203.0.113.7:443", full.destination)
    equal(full.counts, try app.recorded(full))
    try app.client.setExitFlows(exitFlows: .off)
    let before = try app.exitRows().count
    let off = try app.network.exchange(place: .internet, request: 1_000, response: 2_000)
    try app.upload()
    equal(before, try app.exitRows().count)
    let withheld = try app.client.stats().flows!.withheld
    equal(off.txBytes, withheld.txBytes)
    equal(off.rxBytes, withheld.rxBytes)
    try app.client.setExitFlows(exitFlows: .aggregated)
}

func accessSessions(_ app: App) throws {
    // A session is recorded when it is over, and with the tunnel all are.
    try app.client.stopTunnel()
    try app.upload()
    equal([7], Set(try app.server.numbers(collection: sessions, name: "resourceId")))
    let before = try app.server.entries(collection: sessions).count
    try app.startTunnel(app.client, protector: app.protector)
    try app.client.setSessionRules(rules: [rule(8, "10.20.0.0/16", 22)])
    let flow = try app.network.exchange(place: .subnet, request: 16, response: 5_000)
    _ = try app.network.exchange(place: .node, request: 16, response: 5_000)
    try app.client.stopTunnel()
    try app.upload()
    let new = Array(try app.server.entries(collection: sessions).dropFirst(before))
    equal(1, new.count)
    holds(new[0].contains("\"resourceId\":8") && new[0].contains("\"destAddr\":\"\(flow.destination)\""), new)
    // Of sessions the content counts.
    holds(new[0].contains("\"bytesTx\":16,") && new[0].contains("\"bytesRx\":5000"), new)
    try app.startTunnel(app.client, protector: app.protector)
    app.protector.calls.clear()
}

func socketStatistics(_ app: App) throws {
    equal("Config", failure { _ = try app.client.socketCounter(label: 3) }.kind)
    try app.client.enableSocketStats(duration: 3_600)
    let counter = try app.client.socketCounter(label: 64)
    counter.add(txBytes: 1_000, rxBytes: 2_000)
    counter.add(txBytes: 1, rxBytes: 2)
    let request = Array("GET /collections HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".utf8)
    let own = connected(to: app.server.url())
    let registered = try app.client.registerSocket(descriptor: own, label: 65)
    equal(request.count, write(own, request, request.count))
    var buffer = [UInt8](repeating: 0, count: 65_536)
    var received = 0
    while true {
        let part = read(own, &buffer, buffer.count)
        guard part > 0 else { break }
        received += part
    }
    try registered.unregister()
    close(own)
    equal("Config", failure { _ = try app.client.registerSocket(descriptor: -1, label: 65) }.kind)
    holds(try app.client.upload(reason: "scenario", streams: [.sockets]).join().complete)
    try moved(app, "64", 1_001, 2_002)
    try moved(app, "65", UInt64(request.count), UInt64(received))
    try app.client.disableSocketStats()
    counter.add(txBytes: 5, rxBytes: 5)
    try app.upload()
    try moved(app, "64", 1_001, 2_002)
}

/// Whether the server knows of a label what has moved: pairs of bytes sent and received.
func moved(_ app: App, _ label: String, _ sent: UInt64, _ received: UInt64, line: Int = #line) throws {
    let numbers = try app.server.numbers(collection: sockets, name: label).enumerated()
    equal(sent, numbers.filter { $0.offset % 2 == 0 }.reduce(0) { $0 + $1.element }, line: line)
    equal(received, numbers.filter { $0.offset % 2 == 1 }.reduce(0) { $0 + $1.element }, line: line)
}

/// A TCP socket of the app's own, connected to a port of the loopback interface.
func connected(to url: String) -> Int32 {
    #if os(Linux)
        let kind = Int32(SOCK_STREAM.rawValue)
    #else
        let kind = SOCK_STREAM
    #endif
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(URL(string: url)!.port!).bigEndian
    address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
    let own = socket(AF_INET, kind, 0)
    let length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let result = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(own, $0, length) }
    }
    equal(0, result)
    return own
}

func networkChange(_ app: App) throws {
    try app.client.setPowerState(state: PowerState(batteryPercent: 50))
    equal("Config", failure { try app.client.setPowerState(state: PowerState(batteryPercent: 101)) }.kind)
    try app.client.setNetworkState(state: NetworkState(connected: true, id: 1, interface: .wifi))
    equal(0, app.protector.calls.count)
    try app.client.setNetworkState(state: NetworkState(connected: true, id: 2, interface: .cellular))
    equal("tuntrail-tunnel", app.protector.calls.next().1)
    _ = try app.network.exchange(place: .node, request: 16, response: 100)
}

func consent(_ app: App) throws {
    let name = try app.client.logId()
    let uploads = app.server.uploads()
    let kept = try app.network.exchange(place: .node, request: 7_000, response: 7_000)
    try app.client.flush()
    try app.client.setConsent(consent: .denied)
    // Only the denial itself is left.
    let files = app.files("records")
    holds(!files.isEmpty && files.allSatisfy { $0.contains("CONSENT") }, files)
    equal("NoConsent", failure { _ = try app.client.upload(reason: "scenario") }.kind)
    equal(nil, try app.client.logId())
    let denied = try app.network.exchange(place: .node, request: 8_000, response: 8_000)
    try app.client.setConsent(consent: .granted)
    let another = try app.client.logId()
    holds(another != nil && another != name)
    let flow = try app.network.exchange(place: .node, request: 9_000, response: 9_000)
    equal(uploads, app.server.uploads())
    try app.upload()
    equal(Counts(), try app.recorded(kept))
    equal(Counts(), try app.recorded(denied))
    equal(flow.counts, try app.recorded(flow))
}

func exportAndClear(_ app: App) throws {
    let flow = try app.network.exchange(place: .node, request: 1_000, response: 1_000)
    let report = try app.client.export(path: app.path("export.tar.zst"))
    let size = try FileManager.default.attributesOfItem(atPath: app.path("export.tar.zst"))[.size] as? NSNumber
    equal(report.bytes, size?.uint64Value)
    holds(report.records > 0 && report.logFiles > 0 && report.unreadable == 0, report)
    equal("Storage", failure { _ = try app.client.export(path: app.path("no/such/folder/export.tar.zst")) }.kind)
    try app.client.clear()
    equal(.nothingToSend, try app.client.upload(reason: "scenario").join().outcome)
    equal(Counts(), try app.recorded(flow))
}

func log(_ app: App) throws {
    let before = try app.client.stats().log!.lines
    try app.client.setNetwork(map: networkMap(), routes: Routes())
    holds(try app.client.stats().log!.lines > before)
    equal("Config", failure { try app.client.setLogFilter(filter: "loud") }.kind)
    try app.client.setLogFilter(filter: "off")
    let off = try app.client.stats().log!.lines
    try app.client.setNetwork(map: networkMap(), routes: Routes())
    equal(off, try app.client.stats().log!.lines)
}

func deviceEnd(_ app: App) throws {
    app.network.unplug()
    app.recorder.wait { $0 == .tunnelDeviceEnded ? true : nil }
    equal(true, try app.client.stats().tunnel?.deviceEnded)
    try app.client.stopTunnel()
}

func failingCallbacks(_ app: App) throws {
    let errors: [any Error] = [CallbackError.Failed(reason: "on purpose"), Undeclared()]
    let failed = try app.client.stats().events.failed
    var calls = 0
    var listeners: [Throwing] = []
    for error in errors {
        let listener = Throwing(error)
        try app.client.setListener(listener: listener)
        try app.upload()
        _ = listener.calls.next()
        calls += 1
        listeners.append(listener)
    }
    try app.client.setListener(listener: app.recorder)
    try app.upload()
    _ = app.recorder.waitForEnd()
    calls += listeners.reduce(0) { $0 + $1.calls.count }
    equal(failed + UInt64(calls), try app.client.stats().events.failed)

    let before = try openDescriptors()
    for protector in [Throwing()] + errors.map({ Throwing($0) }) {
        equal("Tunnel", failure { try app.startTunnel(app.client, protector: protector) }.kind)
    }
    var named = try app.tunnelConfig()
    named.peers[0].endpoint = "vpn.example.com:51820"
    for error in errors {
        let device = TunDevice.tun(descriptor: try app.network.attach())
        let started = failure {
            _ = try app.client.startTunnel(config: named, device: device, protector: nil, resolver: Throwing(error))
        }
        equal("Tunnel", started.kind)
    }
    app.network.unplug()
    // Fewer, if an idle connection has ended meanwhile.
    holds(try openDescriptors() <= before, before)
}

func closing(_ app: App) throws {
    let client = app.client
    try client.shutdown()
    try client.shutdown()
    let config = try app.tunnelConfig()
    let device = TunDevice.tun(descriptor: try app.network.attach())
    let calls: [() throws -> Void] = [
        { try client.setConsent(consent: .denied) }, { try client.setListener(listener: nil) }, { try client.stopTunnel() },
        { _ = try client.startTunnel(config: config, device: device, protector: nil, resolver: nil) },
        { try client.refreshTunnel() }, { try client.setNetwork(map: networkMap(), routes: routes()) },
        { try client.setExitFlows(exitFlows: .off) }, { try client.setSessionRules(rules: []) },
        { try client.setNetworkState(state: NetworkState(connected: true)) },
        { try client.setPowerState(state: PowerState()) }, { _ = try client.upload(reason: "scenario") },
        { try client.pauseUploads() }, { try client.resumeUploads() }, { _ = try client.nextUploadTask() },
        { _ = try client.requestDebugUpload(request: DebugRequest()) }, { _ = try client.handleCommand(command: "{}") },
        { _ = try client.claim(role: .app) }, { try client.disableSocketStats() },
        { _ = try client.socketCounter(label: 64) }, { try client.flush() },
        { _ = try client.export(path: app.path("late.tar.zst")) }, { try client.clear() }, { _ = try client.logId() },
        { _ = try client.stats() }, { try client.setLogFilter(filter: "info") },
    ]
    for (place, call) in calls.enumerated() {
        let error = failure(call)
        holds(error.kind == "Closed", "call \(place): \(error)")
    }
}

func thousandClients(_ app: App) throws {
    for _ in 0..<100 { try oneClient(app) }
    try waitForThreadsNamed(prefix: "tuntrail-events", atMost: 0)
    let memory = try residentBytes()
    let descriptors = try openDescriptors()
    let threads = try threadsNamed(prefix: "tuntrail")
    for _ in 0..<1_000 { try oneClient(app) }
    try waitForThreadsNamed(prefix: "tuntrail", atMost: threads)
    let growth = Int64(try residentBytes()) - Int64(memory)
    FileHandle.standardError.write(Data("growth \(growth >> 10) KiB\n".utf8))
    // 8 KiB for each client: half the write buffer of one of its streams.
    holds(growth < 8 << 20, growth)
    holds(try openDescriptors() <= descriptors, descriptors)
}

func oneClient(_ app: App) throws {
    let client = try Client(config: app.config("cycle"))
    try client.setListener(listener: Recorder())
    try app.startTunnel(client, protector: app.protector)
    try client.shutdown()
}

let steps: [(String, (App) throws -> Void)] = [
    ("configuration", configuration), ("tunnel", tunnel), ("upload", upload), ("exit flows", exitFlows),
    ("sessions", accessSessions), ("socket statistics", socketStatistics), ("network change", networkChange),
    ("cancelled upload", cancelledUpload), ("held up upload", heldUpUpload),
    ("debug upload", debugUpload), ("consent", consent),
    ("export and clear", exportAndClear), ("log", log), ("device end", deviceEnd), ("failing callbacks", failingCallbacks),
    ("closing", closing), ("host transport", hostTransport), ("claim", claim), ("thousand clients", thousandClients),
]
let app = try App(directory: CommandLine.arguments[1])
for (name, step) in steps {
    try step(app)
    print("ok \(name)")
    fflush(nil)
}
app.server.stop()
