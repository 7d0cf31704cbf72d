import Foundation
import Tuntrail

/// Answers the app's messages. Lives as long as the client it speaks for.
package final class MessageHandler: Sendable {
    /// An app has one upload at a time on its screen; a few more may have ended unseen.
    private static let uploadsKept = 8

    private let client: Client
    private let consent: ConsentKeeper
    private let exports: URL
    private let uploads = Locked(Uploads())
    /// One export at a time: each deletes the file of the one before.
    private let exporting = NSLock()
    /// For what changes something: it is done in the order in which the app said it.
    private let orders = DispatchQueue(label: "tuntrail.orders", qos: .userInitiated)

    private struct Uploads {
        var newest: [(id: UInt64, upload: Upload)] = []
        var progress: [UInt64: UploadProgress] = [:]
    }

    package init(client: Client, consent: ConsentKeeper, events: ClientEvents, exports: URL) {
        self.client = client
        self.consent = consent
        self.exports = exports
        events.observe { [uploads] event in
            guard case .uploadProgress(let id, let progress) = event else { return }
            uploads.with { uploads in
                uploads.progress[id] = progress
                // The numbers rise: the oldest go.
                if uploads.progress.count > Self.uploadsKept, let oldest = uploads.progress.keys.min() {
                    uploads.progress[oldest] = nil
                }
            }
        }
    }

    /// Answers a message, also one that can't be read, on a thread that may wait for the disk. Does not wait itself.
    package func answer(_ data: Data, then done: @escaping @Sendable (Data?) -> Void) {
        let message = Result { try MessageCodec.decode(TuntrailMessage.self, from: data, limit: MessageCodec.questionLimit) }
        // An export takes time, and the app asks for progress meanwhile: questions don't wait for one another.
        let queue = (try? message.get())?.isOrder == true ? orders : DispatchQueue.global(qos: .userInitiated)
        queue.async { done(Self.encode(self.reply(to: message))) }
    }

    /// The answer while there is no client.
    package static func notRunning() -> Data? {
        encode(.failed(error: .notRunning))
    }

    private static func encode(_ reply: TuntrailReply) -> Data? {
        do {
            return try MessageCodec.encode(reply, limit: MessageCodec.replyLimit)
        } catch {
            return try? MessageCodec.encode(TuntrailReply.failed(error: failure(error)), limit: MessageCodec.replyLimit)
        }
    }

    private static func failure(_ error: Error) -> TuntrailMessageError {
        switch error {
        case let error as TuntrailMessageError: error
        case let error as TuntrailError: .client(error: error)
        default: .file(detail: error.localizedDescription)
        }
    }

    private func reply(to message: Result<TuntrailMessage, Error>) -> TuntrailReply {
        do {
            return try answer(message.get())
        } catch {
            return .failed(error: Self.failure(error))
        }
    }

    private func answer(_ message: TuntrailMessage) throws -> TuntrailReply {
        // The app has just been used, so the device is unlocked. A new word replaces the one that waits.
        if case .setConsent = message {} else { consent.retry() }
        switch message {
        case .upload(let reason):
            return .upload(status: try begin(client.upload(reason: reason)))
        case .debugUpload(let note):
            let debug = try client.requestDebugUpload(request: DebugRequest(note: note))
            return .debugUpload(marker: debug.marker, status: try begin(debug.upload))
        case .uploadStatus(let id):
            return .upload(status: try status(of: upload(id), id))
        case .cancelUpload(let id):
            try upload(id).cancel()
            return .done
        case .export:
            return .exported(file: try export())
        case .stats:
            return .stats(stats: try client.stats())
        case .setConsent(let consent):
            // Files go whatever becomes of the records.
            let acted = Result { try self.consent.set(consent) }
            let deleted = Result { if consent == .denied { try deleteExports() } }
            try acted.get()
            try deleted.get()
            return .done
        case .setExitFlows(let exitFlows):
            try client.setExitFlows(exitFlows: exitFlows)
            return .done
        case .clear:
            let cleared = Result { try client.clear() }
            let deleted = Result { try deleteExports() }
            try cleared.get()
            try deleted.get()
            return .done
        case .logID:
            return .logID(id: try client.logId())
        }
    }

    private func begin(_ upload: Upload) throws -> UploadStatus {
        let id = upload.id()
        uploads.with { uploads in
            uploads.newest.append((id, upload))
            if uploads.newest.count > Self.uploadsKept { uploads.newest.removeFirst() }
        }
        return try status(of: upload, id)
    }

    private func upload(_ id: UInt64) throws -> Upload {
        guard let found = uploads.with({ $0.newest.first { $0.id == id }?.upload }) else {
            throw TuntrailMessageError.noSuchUpload(upload: id)
        }
        return found
    }

    private func status(of upload: Upload, _ id: UInt64) throws -> UploadStatus {
        // First, so that progress is not older than the report.
        let report = try upload.report()
        return UploadStatus(upload: id, progress: uploads.with { $0.progress[id] }, report: report)
    }

    /// Deletes what was exported: who deletes the records means the files, too. Waits for an export under way.
    package func deleteExports() throws {
        exporting.lock()
        defer { exporting.unlock() }
        try exports.deleteContents()
    }

    private func export() throws -> ExportedFile {
        exporting.lock()
        defer { exporting.unlock() }
        try exports.deleteContents()
        // The system may have purged it.
        try FileManager.default.createDirectory(at: exports, withIntermediateDirectories: true)
        // A new name, so that what the app still shares of the old one is not overwritten.
        let name = "tuntrail-\(UUID().uuidString.prefix(8).lowercased()).tar.zst"
        let report = try client.export(path: exports.appendingPathComponent(name).path)
        return ExportedFile(name: name, report: report)
    }
}

extension TuntrailMessage {
    /// Whether it changes something that a later message may change back.
    fileprivate var isOrder: Bool {
        switch self {
        case .setConsent, .setExitFlows, .clear: true
        case .upload, .debugUpload, .uploadStatus, .cancelUpload, .export, .stats, .logID: false
        }
    }
}
