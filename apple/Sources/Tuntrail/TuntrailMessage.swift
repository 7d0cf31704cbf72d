import Foundation

/// What an app asks of its packet tunnel provider. ``TuntrailSession`` sends it, `TuntrailPacketTunnelProvider` answers it.
public enum TuntrailMessage: Codable, Equatable, Sendable {
    /// Begin to send everything recorded. Answer: ``TuntrailReply/upload(status:)``.
    case upload(reason: String)
    /// Begin to send what support needs, with the user's words. Answer: ``TuntrailReply/debugUpload(marker:status:)``.
    case debugUpload(note: String)
    /// How far an upload has come. Answer: ``TuntrailReply/upload(status:)``.
    case uploadStatus(upload: UInt64)
    /// End an upload. Answer: ``TuntrailReply/done``.
    case cancelUpload(upload: UInt64)
    /// Write everything recorded into a file. Answer: ``TuntrailReply/exported(file:)``.
    case export
    /// What the client has done. Answer: ``TuntrailReply/stats(stats:)``.
    case stats
    /// The user's answer about recording. Answer: ``TuntrailReply/done``.
    case setConsent(consent: Consent)
    /// What is recorded of exit traffic. Answer: ``TuntrailReply/done``.
    case setExitFlows(exitFlows: ExitFlows)
    /// Delete everything recorded, and exported files. Answer: ``TuntrailReply/done``.
    case clear
    /// The name of this device's log. Answer: ``TuntrailReply/logID(id:)``.
    case logID
}

/// What a provider answers.
public enum TuntrailReply: Codable, Equatable, Sendable {
    case done
    case upload(status: UploadStatus)
    /// The marker is for the user to read out to support.
    case debugUpload(marker: String, status: UploadStatus)
    case exported(file: ExportedFile)
    case stats(stats: ClientStats)
    case logID(id: String?)
    case failed(error: TuntrailMessageError)
}

/// How far an upload has come.
public struct UploadStatus: Codable, Equatable, Sendable {
    /// Names the upload while the provider runs.
    public var upload: UInt64
    /// How far. `nil` before the first request was answered.
    public var progress: UploadProgress?
    /// The result, once it has ended.
    public var report: UploadReport?

    package init(upload: UInt64, progress: UploadProgress? = nil, report: UploadReport? = nil) {
        self.upload = upload
        self.progress = progress
        self.report = report
    }
}

/// A file that a provider has written for the app.
public struct ExportedFile: Codable, Equatable, Sendable {
    /// Its name in ``TuntrailDirectories/exports``. It stays until the next export, or until the records are deleted.
    public var name: String
    /// What it holds.
    public var report: ExportReport

    package init(name: String, report: ExportReport) {
        self.name = name
        self.report = report
    }
}

/// Why a message was not answered as asked.
public enum TuntrailMessageError: Error, Codable, Equatable, Sendable {
    /// App and extension are of different versions, as right after an update of the app: restart the tunnel.
    case unsupportedVersion(theirs: Int, ours: Int)
    /// It can't be read: not one of these messages, or one of another version.
    case unreadable(detail: String)
    /// It is longer than messages may be.
    case tooLarge(bytes: Int, limit: Int)
    /// No tunnel is running, so nobody can answer.
    case notRunning
    /// The provider has not answered in time: it hangs, or was ended while it worked. It may have done what was asked.
    case noAnswer(seconds: Double)
    /// The upload is not known (any more): the provider was restarted, or many uploads ended since.
    case noSuchUpload(upload: UInt64)
    /// The answer is not one to the question.
    case wrongReply(detail: String)
    /// The client could not do it.
    case client(error: TuntrailError)
    /// A file could not be written or removed.
    case file(detail: String)
}

extension TuntrailMessageError: LocalizedError {
    public var errorDescription: String? {
        switch self {
        case .unsupportedVersion(let theirs, let ours):
            "the other side speaks version \(theirs) of messages, this one \(ours): restart the tunnel"
        case .unreadable(let detail): "the message can't be read: \(detail)"
        case .tooLarge(let bytes, let limit): "the message has \(bytes) bytes; \(limit) are allowed"
        case .notRunning: "no tunnel is running that could answer: connect first"
        case .noAnswer(let seconds): "the tunnel has not answered for \(Int(seconds)) s: connect again"
        case .noSuchUpload(let upload): "there is no upload \(upload) (any more): begin a new one"
        case .wrongReply(let detail): "the answer does not fit the question: \(detail)"
        case .client(let error): error.reason
        case .file(let detail): detail
        }
    }
}

/// Messages as bytes: JSON with a version, of bounded length.
package enum MessageCodec {
    /// Changes with every change that an older reader would misread.
    package static let version = 1
    /// The longest question is an upload's reason; 64 KiB are generous, and harmless in an extension with 50 MB.
    package static let questionLimit = 64 * 1024
    /// The longest answer is statistics, with some 200 bytes per peer: enough for a thousand peers.
    package static let replyLimit = 512 * 1024

    private struct Envelope<Body: Codable>: Codable {
        var version: Int
        var body: Body
    }

    private struct Version: Codable {
        var version: Int
    }

    package static func encode<Body: Codable>(_ body: Body, limit: Int) throws -> Data {
        let data: Data
        do {
            data = try JSONEncoder().encode(Envelope(version: version, body: body))
        } catch {
            throw TuntrailMessageError.unreadable(detail: "\(error)")
        }
        guard data.count <= limit else { throw TuntrailMessageError.tooLarge(bytes: data.count, limit: limit) }
        return data
    }

    package static func decode<Body: Codable>(_ type: Body.Type, from data: Data, limit: Int) throws -> Body {
        guard data.count <= limit else { throw TuntrailMessageError.tooLarge(bytes: data.count, limit: limit) }
        let decoder = JSONDecoder()
        do {
            let theirs = try decoder.decode(Version.self, from: data).version
            guard theirs == version else {
                throw TuntrailMessageError.unsupportedVersion(theirs: theirs, ours: version)
            }
            return try decoder.decode(Envelope<Body>.self, from: data).body
        } catch let error as TuntrailMessageError {
            throw error
        } catch {
            throw TuntrailMessageError.unreadable(detail: "\(error)")
        }
    }
}
