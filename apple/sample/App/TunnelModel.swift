import Foundation
import NetworkExtension
import Observation
import Tuntrail

/// What the sample's one screen shows and does.
@MainActor
@Observable
final class TunnelModel {
    private(set) var status = NEVPNStatus.invalid
    private(set) var settings = SampleSettings.initial
    private(set) var upload: UploadProgress?
    /// What the user can tell support.
    private(set) var marker: String?
    /// What the last action came to, in words.
    private(set) var message: String?
    /// What the user can share.
    private(set) var exported: URL?
    private var manager: TuntrailManager?
    private var uploading: Task<Void, Never>?
    /// The last change of settings, which the next one waits for.
    private var changing: Task<Void, Never>?

    var isConnected: Bool { status == .connected }
    var isUploading: Bool { uploading != nil }

    /// The user's answer about recording. Refusing deletes everything recorded.
    var isRecording: Bool {
        get { settings.consent == .granted }
        set { change { try await self.setConsent(newValue ? .granted : .denied) } }
    }

    /// Whether each connection to the Internet is recorded, or sums only.
    var recordsFullExitFlows: Bool {
        get { settings.exitFlows == .full }
        set { change { try await self.setExitFlows(newValue ? .full : .aggregated) } }
    }

    /// Follows the tunnel while the screen is there.
    func follow() async {
        do {
            let manager = try await loadedManager()
            for await status in manager.statuses() { self.status = status }
        } catch {
            message = error.localizedDescription
        }
    }

    /// Takes a wg-quick text over: its keys go to the keychain, nowhere else.
    func importConfiguration(_ text: String) async {
        await act {
            let server = try parseTunnelConfig(text: text).peers.compactMap(\.endpoint).first ?? "WireGuard"
            let reference = try TuntrailKeychain.save(text, name: "sample", accessGroup: SampleSettings.keychainGroup)
            let manager = try await self.loadedManager()
            try await manager.save(self.settings, server: server, name: "tuntrail sample", configuration: reference)
        }
    }

    func toggleTunnel() async {
        await act {
            if self.isConnected { self.manager?.disconnect() } else { try self.manager?.connect() }
        }
    }

    /// Sends the debug logs; again to cancel.
    func uploadOrCancel() {
        if let uploading { return uploading.cancel() }
        uploading = Task {
            await act {
                let report = try await self.uploadLogs()
                self.message = "\(report.sentRecords) records sent, \(report.remainingRecords) left: \(report.summary)"
            }
            (self.uploading, self.upload) = (nil, nil)
        }
    }

    /// Writes the logs into a file to be shared.
    func export() async {
        await act {
            guard let session = self.manager?.session else { throw TuntrailMessageError.notRunning }
            let file = try await session.export()
            let directories = try TuntrailDirectories(appGroup: self.settings.appGroup)
            self.exported = directories.exports.appendingPathComponent(file.name)
            self.message = "\(file.report.records) records, \(file.report.bytes) bytes"
        }
    }

    /// Settings change in the order in which the user has decided.
    private func change(_ change: @escaping @MainActor () async throws -> Void) {
        let before = changing
        changing = Task {
            await before?.value
            await act(change)
        }
    }

    private func setConsent(_ consent: Consent) async throws {
        let manager = try await loadedManager()
        if consent == .denied {
            // A refusal counts at once, also for what is under way and what was exported.
            uploading?.cancel()
            await uploading?.value
            (settings.consent, exported) = (consent, nil)
        }
        try await manager.setConsent(consent, settings: settings)
        settings.consent = consent
    }

    private func setExitFlows(_ exitFlows: ExitFlows) async throws {
        let manager = try await loadedManager()
        settings.exitFlows = exitFlows
        try await manager.update(settings)
        try await manager.session?.setExitFlows(exitFlows)
    }

    private func uploadLogs() async throws -> UploadReport {
        if let session = manager?.session {
            return try await session.debugUpload(note: "from the sample") { marker in
                Task { @MainActor in self.marker = marker }
            } progress: { progress in
                Task { @MainActor in self.upload = progress }
            }
        }
        return try await Self.uploadWithoutTunnel(settings)
    }

    /// Sends what the extension has left, while it does not run.
    private nonisolated static func uploadWithoutTunnel(_ settings: TuntrailSettings) async throws -> UploadReport {
        let directories = try TuntrailDirectories(appGroup: settings.appGroup)
        let client = try await Client.start(
            ClientConfig(
                directory: directories.records.path, baseUrl: settings.baseURL, consent: settings.consent, role: .app))
        let report = try await client.upload(reason: "the user asked, without a tunnel", claiming: .extension)
        try await client.perform { try $0.shutdown() }
        return report
    }

    private func loadedManager() async throws -> TuntrailManager {
        if let manager { return manager }
        let manager = try await TuntrailManager.load(extensionID: SampleSettings.extensionID)
        self.manager = manager
        // Nothing is saved before the first import.
        if let saved = try? manager.settings() { settings = saved }
        return manager
    }

    private func act(_ action: @MainActor () async throws -> Void) async {
        message = nil
        do {
            try await action()
        } catch is CancellationError {
            message = "cancelled"
        } catch let error as TuntrailError {
            message = error.reason
        } catch {
            message = error.localizedDescription
        }
    }
}
