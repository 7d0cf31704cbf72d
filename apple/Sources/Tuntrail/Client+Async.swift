import Foundation

extension Client {
    /// Starts a client, which may wait for the disk, without holding up the caller's thread.
    public static func start(_ config: ClientConfig) async throws -> Client {
        try await Blocking.run { try Client(config: config) }
    }

    /// Makes a call that waits, such as `flush`, `export` or `clear`, without holding up the caller's thread:
    ///
    ///     let report = try await client.perform { try $0.export(path: path) }
    public func perform<T: Sendable>(_ call: @escaping @Sendable (Client) throws -> T) async throws -> T {
        try await Blocking.run { try call(self) }
    }

    /// Sends what was recorded until now: the named kinds, or everything. Returns when the upload has ended, however it ended:
    /// the report tells.
    ///
    /// If the task is cancelled, the upload is, too. What was not delivered stays on disk. `reason` goes to the SDK's own log.
    ///
    /// - Throws: `TuntrailError`, or `CancellationError` if the task was cancelled before the upload had ended.
    public func upload(reason: String, streams: [Stream] = []) async throws -> UploadReport {
        let upload: Upload = try await perform { try $0.upload(reason: reason, streams: streams) }
        return try await upload.ended()
    }
}

extension Upload {
    /// Waits until the upload has ended, at most as long as the timeouts of the configuration allow. Cancelling the task cancels
    /// the upload.
    ///
    /// - Throws: `CancellationError` if the task was cancelled before the upload had ended.
    public func ended() async throws -> UploadReport {
        try await withTaskCancellationHandler {
            let report = try await Blocking.run { try self.join() }
            if Task.isCancelled && report.outcome == .cancelled { throw CancellationError() }
            return report
        } onCancel: {
            // Fails only for an upload that can't be cancelled any more.
            try? self.cancel()
        }
    }
}
