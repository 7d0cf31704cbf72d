import Foundation

/// Waits for the provider's answer to one message: until it comes, the time is over or the task is cancelled. What comes later is
/// ignored. A provider that is ended while it works may never answer.
final class ProviderAnswer: Sendable {
    private enum State {
        case new
        case awaited(CheckedContinuation<Data?, Error>)
        case ended(Result<Data?, Error>)
    }

    private let state = Locked(State.new)

    /// Calls `ask` and waits until ``end(_:)`` is called, by whomever.
    ///
    /// - Throws: `TuntrailMessageError.noAnswer`, or `CancellationError`.
    func wait(seconds: TimeInterval, ask: (ProviderAnswer) -> Void) async throws -> Data? {
        let late = DispatchWorkItem { self.end(.failure(TuntrailMessageError.noAnswer(seconds: seconds))) }
        defer { late.cancel() }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let ended = state.with { state -> Result<Data?, Error>? in
                    if case .ended(let result) = state { return result }
                    state = .awaited(continuation)
                    return nil
                }
                // Cancelled before it was asked.
                if let ended { return continuation.resume(with: ended) }
                DispatchQueue.global(qos: .userInitiated).asyncAfter(deadline: .now() + seconds, execute: late)
                ask(self)
            }
        } onCancel: {
            self.end(.failure(CancellationError()))
        }
    }

    /// The first call counts.
    func end(_ result: Result<Data?, Error>) {
        let continuation = state.with { state -> CheckedContinuation<Data?, Error>? in
            switch state {
            case .new:
                state = .ended(result)
                return nil
            case .awaited(let continuation):
                state = .ended(result)
                return continuation
            case .ended:
                return nil
            }
        }
        continuation?.resume(with: result)
    }
}
