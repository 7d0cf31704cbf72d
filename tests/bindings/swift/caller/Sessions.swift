// Providers that don't answer, and an app that sends without one.
import Foundation
import Tuntrail
import TuntrailTunnel

/// A provider may be ended while it works.
func noAnswer() async throws {
    let silent = TuntrailSession(answerLimit: 0.01) { _, _ in }
    equal(.noAnswer(seconds: 0.01), await throwing(TuntrailMessageError.self) { _ = try await silent.stats() })
    let gone = TuntrailSession { _, _ in throw CocoaError(.featureUnsupported) }
    equal(.notRunning, await throwing(TuntrailMessageError.self) { _ = try await gone.stats() })
    // Who no longer waits gets no late answer.
    let (asked, question) = AsyncStream<@Sendable (Data?) -> Void>.makeStream()
    let slow = TuntrailSession { question.yield($1) }
    let task = Task { try await slow.stats() }
    for await answered in asked.prefix(1) {
        task.cancel()
        _ = await throwing(CancellationError.self) { _ = try await task.value }
        answered(nil)
        answered(nil)
    }
    let never = Task {
        withUnsafeCurrentTask { $0?.cancel() }
        _ = try await slow.stats()
    }
    _ = await throwing(CancellationError.self) { try await never.value }

    // Cancelled while the upload is asked for: it is cancelled once its number is known, and also if nobody is there any more.
    let messages = Locked<[TuntrailMessage]>([])
    let (begun, begin) = AsyncStream<@Sendable (Data?) -> Void>.makeStream()
    let session = TuntrailSession { question, answered in
        let message = try MessageCodec.decode(TuntrailMessage.self, from: question, limit: MessageCodec.questionLimit)
        messages.with { $0.append(message) }
        guard case .upload = message else { throw CocoaError(.featureUnsupported) }
        begin.yield(answered)
    }
    let upload = Task { try await session.upload(reason: "r") }
    for await answered in begun.prefix(1) {
        upload.cancel()
        answered(try MessageCodec.encode(TuntrailReply.upload(status: UploadStatus(upload: 7)), limit: MessageCodec.replyLimit))
    }
    _ = await throwing(CancellationError.self) { _ = try await upload.value }
    equal([.upload(reason: "r"), .cancelUpload(upload: 7)], messages.with { $0 })
}

/// An app sends what its extension has left.
func claims(_ server: String) async throws {
    let runtime = try TunnelRuntime(config: config("claims", server: server), exports: scratch("claims-exports"))
    let network = try Network()
    try network.start(runtime)
    _ = network.handshake()
    try runtime.stop()
    let app = try await Client.start(
        ClientConfig(directory: scratch("claims").path, baseUrl: server, consent: .granted, role: .app))
    let report = try await app.upload(reason: "without a tunnel", claiming: .extension)
    holds(report.complete && report.sentRecords > 0)
    equal(0, report.remainingRecords)
    say("sent \(report.sentRecords)")
    equal(0, try app.claim(role: .extension))
    try app.shutdown()
}
