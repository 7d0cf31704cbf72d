import Foundation

/// Carries the user's answer to all that must know it: the running provider, what is on disk, and the settings of the next start.
///
/// A refusal is acted upon before it is saved, so that no failure of the system keeps it from a provider that records. An agreement
/// is saved first. Calls must not overlap.
package struct ConsentChange: Sendable {
    /// The line to the provider, if one runs.
    package var session: @Sendable () -> TuntrailSession?
    /// Keeps the answer for the next start.
    package var save: @Sendable (Consent) async throws -> Void
    /// Tells the answer to the app's own client. Denying deletes what the app has on disk, writes down that other processes must delete
    /// theirs at their next start, and deletes exported files.
    package var own: @Sendable (Consent) async throws -> Void

    package init(
        session: @escaping @Sendable () -> TuntrailSession?, save: @escaping @Sendable (Consent) async throws -> Void,
        own: @escaping @Sendable (Consent) async throws -> Void
    ) {
        (self.session, self.save, self.own) = (session, save, own)
    }

    /// Takes each step of a refusal, also after one that failed, and also if the task is cancelled.
    ///
    /// - Throws: what failed first.
    package func callAsFunction(_ consent: Consent) async throws {
        try await Task { try await self.take(consent) }.value
    }

    private func take(_ consent: Consent) async throws {
        if consent == .granted {
            try await save(consent)
            try await own(consent)
            return try await tell(consent)
        }
        // The last is for one that has started meanwhile, with the settings of before.
        let steps = [tell, own, save, tell]
        var failure: Error?
        for step in steps {
            do {
                try await step(consent)
            } catch {
                failure = failure ?? error
            }
        }
        if let failure { throw failure }
    }

    private func tell(_ consent: Consent) async throws {
        do {
            try await session()?.setConsent(consent)
        } catch TuntrailMessageError.notRunning, TuntrailMessageError.client(.Closed) {
            // It has just ended, and reads the settings when it starts again.
        }
    }

    /// The step ``own`` of an app: with its client if it has one.
    package static func own(
        _ consent: Consent, settings: TuntrailSettings, directories: TuntrailDirectories, client: Client?
    ) async throws {
        if let client {
            try await client.perform { try $0.setConsent(consent: consent) }
        } else if consent == .denied {
            let config = ClientConfig(
                directory: directories.records.path, baseUrl: settings.baseURL, consent: .denied, role: .app)
            let denied = try await Client.start(config)
            try await denied.perform { try $0.shutdown() }
        }
        if consent == .denied { try await Blocking.run { try directories.exports.deleteContents() } }
    }
}
