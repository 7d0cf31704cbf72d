import Foundation

/// The app's line to its running packet tunnel provider.
///
/// Each call is a question and an answer between the processes, some milliseconds long. All throw ``TuntrailMessageError``, or
/// `CancellationError` if the task was cancelled.
public struct TuntrailSession: Sendable {
    /// Sends a message. The handler gets the answer, on any thread, or `nil` if nobody answered; it may never be called. Throws if
    /// nobody is there.
    package typealias Send = @Sendable (Data, @escaping @Sendable (Data?) -> Void) throws -> Void

    /// Often enough for a progress bar, seldom enough for a battery.
    private static let pollInterval: TimeInterval = 0.5
    /// A deletion waits for the disk, which is slow on a full phone that has just woken up.
    private static let answerLimit: TimeInterval = 60
    /// Reads and packs everything that is kept: some tens of megabytes.
    private static let exportLimit: TimeInterval = 600

    private let send: Send
    private let answerLimit: TimeInterval

    package init(answerLimit: TimeInterval = Self.answerLimit, send: @escaping Send) {
        self.send = send
        self.answerLimit = answerLimit
    }

    /// Sends everything that the provider has recorded, and returns when the upload has ended. `progress` is called now and then.
    /// If the task is cancelled, the upload is, too; what was not delivered stays on disk.
    ///
    /// If the app is suspended meanwhile, the provider goes on sending.
    public func upload(
        reason: String,
        progress: (@Sendable (UploadProgress) -> Void)? = nil
    ) async throws -> UploadReport {
        try await upload(reason: reason, every: Self.pollInterval, progress: progress)
    }

    package func upload(
        reason: String,
        every interval: TimeInterval,
        progress: (@Sendable (UploadProgress) -> Void)?
    ) async throws -> UploadReport {
        try await follow(uploadStatus(begin(.upload(reason: reason))), every: interval, progress: progress)
    }

    /// As ``upload(reason:progress:)``, with what support needs to find it: the user's `note`, and a marker such as `BUG-…`, which is told by
    /// `began` as soon as there is one, for the user to read out.
    public func debugUpload(
        note: String,
        began: @Sendable (_ marker: String) -> Void = { _ in },
        progress: (@Sendable (UploadProgress) -> Void)? = nil
    ) async throws -> UploadReport {
        try await debugUpload(note: note, every: Self.pollInterval, began: began, progress: progress)
    }

    package func debugUpload(
        note: String,
        every interval: TimeInterval,
        began: @Sendable (_ marker: String) -> Void,
        progress: (@Sendable (UploadProgress) -> Void)?
    ) async throws -> UploadReport {
        guard case .debugUpload(let marker, let status) = try await begin(.debugUpload(note: note)) else {
            throw wrongReply("debugUpload")
        }
        began(marker)
        return try await follow(status, every: interval, progress: progress)
    }

    private func follow(
        _ first: UploadStatus, every interval: TimeInterval, progress: (@Sendable (UploadProgress) -> Void)?
    ) async throws -> UploadReport {
        let upload = first.upload
        do {
            return try await poll(first, every: interval, progress: progress)
        } catch is CancellationError {
            // Not by this task, whose calls fail. It may have ended, or the provider may be gone: cancelled it is all the same.
            _ = try? await Task { try await order(.cancelUpload(upload: upload)) }.value
            throw CancellationError()
        }
    }

    private func poll(
        _ first: UploadStatus, every interval: TimeInterval, progress: (@Sendable (UploadProgress) -> Void)?
    ) async throws -> UploadReport {
        var status = first
        var told: UploadProgress?
        while true {
            if let new = status.progress, new != told {
                told = new
                progress?(new)
            }
            if let report = status.report { return report }
            try await Task.sleep(nanoseconds: UInt64(interval * 1e9))
            status = try await uploadStatus(ask(.uploadStatus(upload: first.upload)))
        }
    }

    /// Writes everything that the provider has recorded into a file, which appears in ``TuntrailDirectories/exports``.
    public func export() async throws -> ExportedFile {
        guard case .exported(let file) = try await ask(.export, limit: Self.exportLimit) else { throw wrongReply("export") }
        return file
    }

    /// What the provider's client has done since it started.
    public func stats() async throws -> ClientStats {
        guard case .stats(let stats) = try await ask(.stats) else { throw wrongReply("stats") }
        return stats
    }

    /// Tells the provider the user's answer, and nobody else: an app calls `TuntrailManager.setConsent`, which also does what has to
    /// be done without a tunnel and at the next start. Denying deletes what the provider has recorded and exported before this returns.
    public func setConsent(_ consent: Consent) async throws {
        try await order(.setConsent(consent: consent))
    }

    /// Sets what is recorded of exit traffic. Also keep it in ``TuntrailSettings``, for the next start.
    public func setExitFlows(_ exitFlows: ExitFlows) async throws {
        try await order(.setExitFlows(exitFlows: exitFlows))
    }

    /// Deletes everything recorded, sent or not, and exported files.
    public func clear() async throws {
        try await order(.clear)
    }

    /// The name of this device's log at the server, to be read out to support. `nil` without consent.
    public func logID() async throws -> String? {
        guard case .logID(let id) = try await ask(.logID) else { throw wrongReply("logID") }
        return id
    }

    /// Asks for an upload, also if the task is cancelled meanwhile: without the answer nobody could cancel what has begun.
    private func begin(_ message: TuntrailMessage) async throws -> TuntrailReply {
        try Task.checkCancellation()
        return try await Task { try await ask(message) }.value
    }

    private func uploadStatus(_ reply: TuntrailReply) throws -> UploadStatus {
        guard case .upload(let status) = reply else { throw wrongReply("upload") }
        return status
    }

    private func order(_ message: TuntrailMessage) async throws {
        guard case .done = try await ask(message) else { throw wrongReply("order") }
    }

    private func ask(_ message: TuntrailMessage, limit: TimeInterval? = nil) async throws -> TuntrailReply {
        let question = try MessageCodec.encode(message, limit: MessageCodec.questionLimit)
        let answer = try await ProviderAnswer().wait(seconds: limit ?? answerLimit) { answer in
            do {
                try send(question) { answer.end(.success($0)) }
            } catch {
                // The system says in its own words that there is no provider.
                answer.end(.failure(TuntrailMessageError.notRunning))
            }
        }
        guard let answer else { throw TuntrailMessageError.notRunning }
        let reply = try MessageCodec.decode(TuntrailReply.self, from: answer, limit: MessageCodec.replyLimit)
        if case .failed(let error) = reply { throw error }
        return reply
    }

    private func wrongReply(_ question: String) -> TuntrailMessageError {
        .wrongReply(detail: "to \(question)")
    }
}

#if canImport(NetworkExtension)
import NetworkExtension

extension TuntrailSession {
    /// The line to the provider of a tunnel. A provider answers while its status is connecting, connected or reasserting.
    public init(_ session: NETunnelProviderSession) {
        // The class is not marked Sendable; Apple allows its methods on any thread.
        nonisolated(unsafe) let session = session
        self.init { question, answered in try session.sendProviderMessage(question) { answered($0) } }
    }
}
#endif
