import Foundation

/// The app's line to its running packet tunnel provider.
///
/// Each call is a question and an answer between the processes, some milliseconds long. All throw ``TuntrailMessageError``.
public struct TuntrailSession: Sendable {
    /// Sends a message and returns the answer; `nil` if nobody answered.
    package typealias Send = @Sendable (Data) async throws -> Data?

    /// Often enough for a progress bar, seldom enough for a battery.
    private static let pollInterval: TimeInterval = 0.5

    private let send: Send

    package init(send: @escaping Send) {
        self.send = send
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
        try await follow(uploadStatus(.upload(reason: reason)), every: interval, progress: progress)
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
        guard case .debugUpload(let marker, let status) = try await ask(.debugUpload(note: note)) else {
            throw wrongReply("debugUpload")
        }
        began(marker)
        return try await follow(status, every: interval, progress: progress)
    }

    private func follow(
        _ first: UploadStatus, every interval: TimeInterval, progress: (@Sendable (UploadProgress) -> Void)?
    ) async throws -> UploadReport {
        var status = first
        let upload = status.upload
        var told: UploadProgress?
        while true {
            if let new = status.progress, new != told {
                told = new
                progress?(new)
            }
            if let report = status.report { return report }
            do {
                try await Task.sleep(nanoseconds: UInt64(interval * 1e9))
            } catch {
                try await cancelUpload(upload)
                throw error
            }
            status = try await uploadStatus(.uploadStatus(upload: upload))
        }
    }

    /// Writes everything that the provider has recorded into a file, which appears in ``TuntrailDirectories/exports``.
    public func export() async throws -> ExportedFile {
        guard case .exported(let file) = try await ask(.export) else { throw wrongReply("export") }
        return file
    }

    /// What the provider's client has done since it started.
    public func stats() async throws -> ClientStats {
        guard case .stats(let stats) = try await ask(.stats) else { throw wrongReply("stats") }
        return stats
    }

    /// Tells the provider the user's answer. Denying deletes everything recorded before this returns. Also keep the answer in
    /// ``TuntrailSettings``, for the next start.
    public func setConsent(_ consent: Consent) async throws {
        try await order(.setConsent(consent: consent))
    }

    /// Sets what is recorded of exit traffic. Also keep it in ``TuntrailSettings``, for the next start.
    public func setExitFlows(_ exitFlows: ExitFlows) async throws {
        try await order(.setExitFlows(exitFlows: exitFlows))
    }

    /// Deletes everything recorded, sent or not.
    public func clear() async throws {
        try await order(.clear)
    }

    /// The name of this device's log at the server, to be read out to support. `nil` without consent.
    public func logID() async throws -> String? {
        guard case .logID(let id) = try await ask(.logID) else { throw wrongReply("logID") }
        return id
    }

    private func cancelUpload(_ upload: UInt64) async throws {
        // Not by this task, which is cancelled: its calls may fail.
        try await Task { try await order(.cancelUpload(upload: upload)) }.value
    }

    private func uploadStatus(_ message: TuntrailMessage) async throws -> UploadStatus {
        guard case .upload(let status) = try await ask(message) else { throw wrongReply("upload") }
        return status
    }

    private func order(_ message: TuntrailMessage) async throws {
        guard case .done = try await ask(message) else { throw wrongReply("order") }
    }

    private func ask(_ message: TuntrailMessage) async throws -> TuntrailReply {
        let question = try MessageCodec.encode(message, limit: MessageCodec.questionLimit)
        guard let answer = try await send(question) else { throw TuntrailMessageError.notRunning }
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
        self.init { question in
            try await withCheckedThrowingContinuation { continuation in
                do {
                    try session.sendProviderMessage(question) { continuation.resume(returning: $0) }
                } catch {
                    continuation.resume(throwing: error)
                }
            }
        }
    }
}
#endif
