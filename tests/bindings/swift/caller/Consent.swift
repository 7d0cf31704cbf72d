// What the user's answer does, and in which order.
import Foundation
import Glibc
import Tuntrail
import TuntrailTunnel

/// A retry that has begun with an older word never ends after a newer one.
func lastWord() async throws {
    for _ in 0..<200 {
        let acted = Locked<[Consent]>([])
        let retrying = Flag(false)
        let keeper = ConsentKeeper(pending: .granted) { consent in
            if consent == .granted {
                retrying.value = true
                // Long enough for the other thread to overtake, if it can.
                for _ in 0..<50 { sched_yield() }
            }
            acted.with { $0.append(consent) }
        }
        async let retried: Void = Blocking.run { keeper.retry() }
        async let refused: Void = Blocking.run {
            while !retrying.value { sched_yield() }
            try keeper.set(.denied)
        }
        _ = try await (retried, refused)
        equal([.granted, .denied], acted.with { $0 })
        holds(!keeper.isPending)
    }
    // What fails waits, until it is replaced.
    let acted = Locked<[Consent]>([])
    let keeper = ConsentKeeper(pending: nil) { consent in
        acted.with { $0.append(consent) }
        if consent == .granted { throw TuntrailError.Storage(reason: "locked") }
    }
    _ = await throwing(TuntrailError.self) { try keeper.set(.granted) }
    keeper.retry()
    holds(keeper.isPending)
    try keeper.set(.denied)
    keeper.retry()
    equal([.granted, .granted, .denied], acted.with { $0 })
}

/// A user who plays with the switch: the last position counts.
func orders() async throws {
    let exports = scratch("orders-exports")
    let runtime = try TunnelRuntime(config: config("orders", server: "https://logs.example.com"), exports: exports)
    for last in [Consent.denied, .granted] {
        let words = (0..<20).flatMap { _ in [Consent.granted, .denied] } + [last]
        let messages = try words.map {
            try MessageCodec.encode(TuntrailMessage.setConsent(consent: $0), limit: MessageCodec.questionLimit)
        }
        let (answers, answered) = AsyncStream<Int>.makeStream()
        for (place, message) in messages.enumerated() { runtime.answer(message) { _ in answered.yield(place) } }
        var places: [Int] = []
        for await place in answers.prefix(messages.count) { places.append(place) }
        equal(Array(messages.indices), places)
        equal(last == .granted, try runtime.client.logId() != nil)
    }
    try runtime.stop()
}

struct Refused: Error {}

/// What a change of consent does, as words.
private final class Steps: Sendable {
    let words = Locked<[String]>([])
    let failing = Locked<Set<String>>([])
    let isRunning = Flag(true)
    let reply = Locked(TuntrailReply.done)

    func step(_ word: String) throws {
        words.with { $0.append(word) }
        if failing.with({ $0.contains(word) }) { throw Refused() }
    }

    var change: ConsentChange {
        ConsentChange {
            guard self.isRunning.value else { return nil }
            return TuntrailSession { _, answered in
                try self.step("tell")
                try answered(MessageCodec.encode(self.reply.with { $0 }, limit: MessageCodec.replyLimit))
            }
        } save: { _ in
            try self.step("save")
        } own: { _ in
            try self.step("own")
        }
    }

    func taken() -> [String] {
        words.with { words in
            defer { words = [] }
            return words
        }
    }
}

func consentChange() async throws {
    let steps = Steps()
    try await steps.change(.granted)
    equal(["save", "own", "tell"], steps.taken())
    // Told first, and again: a provider may have started with the old settings meanwhile.
    try await steps.change(.denied)
    equal(["tell", "own", "save", "tell"], steps.taken())
    steps.failing.with { $0 = ["save"] }
    _ = await throwing(Refused.self) { try await steps.change(.denied) }
    equal(["tell", "own", "save", "tell"], steps.taken())
    _ = await throwing(Refused.self) { try await steps.change(.granted) }
    equal(["save"], steps.taken())
    steps.failing.with { $0 = [] }
    steps.isRunning.value = false
    try await steps.change(.denied)
    equal(["own", "save"], steps.taken())
    // One that is ending is as good as none; one that can't delete is a failure.
    steps.isRunning.value = true
    for gone in [TuntrailMessageError.notRunning, .client(error: .Closed(reason: "shut down"))] {
        steps.reply.with { $0 = .failed(error: gone) }
        try await steps.change(.denied)
    }
    _ = steps.taken()
    let full = TuntrailMessageError.client(error: .Storage(reason: "full"))
    steps.reply.with { $0 = .failed(error: full) }
    equal(full, await throwing(TuntrailMessageError.self) { try await steps.change(.denied) })
    equal(["tell", "own", "save", "tell"], steps.taken())
    // A refusal is not half taken because a screen goes.
    steps.reply.with { $0 = .done }
    let change = steps.change
    let gone = Task {
        withUnsafeCurrentTask { $0?.cancel() }
        try await change(.denied)
    }
    try await gone.value
    equal(["tell", "own", "save", "tell"], steps.taken())
}

/// Denied, granted again, connected: what was recorded before is gone.
func consentWithoutATunnel() async throws {
    let directories = try TuntrailDirectories(container: scratch("consent-container"))
    var extensionConfig = config("", server: "https://logs.example.com")
    extensionConfig.directory = directories.records.path
    /// What an extension finds when it starts.
    func left() throws -> UInt64 {
        let runtime = try TunnelRuntime(config: extensionConfig, exports: directories.exports)
        let file = directories.exports.appendingPathComponent("left")
        let report = try runtime.client.export(path: file.path)
        try runtime.stop()
        return report.records
    }
    let runtime = try TunnelRuntime(config: extensionConfig, exports: directories.exports)
    let network = try Network()
    try network.start(runtime)
    _ = network.handshake()
    try runtime.stop()
    let before = try left()
    let settings = TuntrailSettings(appGroup: "group.a", baseURL: "https://logs.example.com", consent: .granted)
    let change = ConsentChange {
        nil
    } save: { _ in
    } own: { consent in
        try await ConsentChange.own(consent, settings: settings, directories: directories, client: nil)
    }
    try await change(.denied)
    equal([], try FileManager.default.contentsOfDirectory(atPath: directories.exports.path))
    try await change(.granted)
    let after = try left()
    // Its own log tells of the start.
    holds(after < before)
    let app = try Client(
        config: ClientConfig(
            directory: directories.records.path, baseUrl: "https://logs.example.com", consent: .granted, role: .app))
    equal(0, try app.claim(role: .extension))
    // An app with a client of its own.
    try await ConsentChange.own(.denied, settings: settings, directories: directories, client: app)
    equal(nil, try app.logId())
    try app.shutdown()
}
