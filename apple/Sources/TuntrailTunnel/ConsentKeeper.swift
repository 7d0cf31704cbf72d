import Foundation
import Tuntrail

/// Sees to it that the user's last word holds, also if it could not be acted upon at once. Any thread may call it; who comes second
/// waits.
package final class ConsentKeeper: Sendable {
    private let act: @Sendable (Consent) throws -> Void
    private let pending: Locked<Consent?>
    /// Held while a word is acted upon, which waits for the disk: an older one must not end after a newer one.
    private let acting = NSLock()

    package convenience init(of client: Client, pending: Consent? = nil) {
        self.init(pending: pending) { try client.setConsent(consent: $0) }
    }

    package init(pending: Consent?, act: @escaping @Sendable (Consent) throws -> Void) {
        self.act = act
        self.pending = Locked(pending)
    }

    /// Does not wait.
    package var isPending: Bool {
        pending.with { $0 != nil }
    }

    /// Acts upon a new word, which replaces one that waits.
    package func set(_ consent: Consent) throws {
        acting.lock()
        defer { acting.unlock() }
        try hold(consent)
    }

    /// Tries again what waits.
    package func retry() {
        guard isPending else { return }
        acting.lock()
        defer { acting.unlock() }
        // Only now: it may have been replaced meanwhile.
        guard let consent = pending.with({ $0 }) else { return }
        // If the files are still locked, the next occasion tries again.
        try? hold(consent)
    }

    private func hold(_ consent: Consent) throws {
        pending.with { $0 = consent }
        try act(consent)
        pending.with { $0 = nil }
    }
}
