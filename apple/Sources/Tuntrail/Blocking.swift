import Foundation

/// Runs calls that wait for the disk or the network on a thread that may wait, never on one of Swift's cooperative threads,
/// of which there are only as many as cores.
package enum Blocking {
    package static func run<T: Sendable>(_ work: @escaping @Sendable () throws -> T) async throws -> T {
        try await withCheckedThrowingContinuation { continuation in
            // Records are never urgent: what the user waits for goes first.
            DispatchQueue.global(qos: .utility).async {
                continuation.resume(with: Result(catching: work))
            }
        }
    }
}

/// A value behind a lock. What runs under the lock must be short and must not call foreign code.
package final class Locked<Value>: @unchecked Sendable {
    private let lock = NSLock()
    private var value: Value

    package init(_ value: Value) {
        self.value = value
    }

    package func with<R>(_ body: (inout Value) throws -> R) rethrows -> R {
        lock.lock()
        defer { lock.unlock() }
        return try body(&value)
    }
}
