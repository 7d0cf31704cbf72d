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

    /// As ``upload(reason:streams:)``, with all that the process of another role has left, such as an extension that does not run.
    /// A claim takes only as much as fits beside this client's own records, so it claims and sends until nothing is left or an
    /// upload is not complete; what was claimed and not delivered goes back when a client of this role starts again. The report
    /// sums up.
    public func upload(reason: String, claiming role: Role) async throws -> UploadReport {
        var total: UploadReport?
        while true {
            let claimed = try await perform { try $0.claim(role: role) }
            if claimed == 0, let total { return total }
            let report = try await upload(reason: reason)
            let sum = total.map { report.adding($0) } ?? report
            if claimed == 0 || !report.complete { return sum }
            total = sum
        }
    }
}

extension UploadReport {
    /// How this one ended, with what both have moved.
    fileprivate func adding(_ earlier: UploadReport) -> UploadReport {
        var sum = self
        sum.sentRecords &+= earlier.sentRecords
        sum.droppedRecords &+= earlier.droppedRecords
        sum.sentBytes &+= earlier.sentBytes
        sum.rawBytes &+= earlier.rawBytes
        return sum
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
