import Foundation

/// Shares a client's events out to any number of listeners. A client has one listener, which this is: make one per client.
///
/// Events come on the thread `tuntrail-events`, which waits for nobody here: a stream whose reader is slow loses its oldest events,
/// and is told how many. The object does not keep the client alive.
public final class ClientEvents: EventListener, Sendable {
    private let state = Locked(State())

    private struct State {
        var next: UInt64 = 0
        var observers: [UInt64: @Sendable (Event) -> Void] = [:]
        var queues: [UInt64: WeakQueue] = [:]
    }

    /// Becomes the listener of `client`, in place of another.
    public init(of client: Client) throws {
        try client.setListener(listener: self)
    }

    package init() {}

    deinit {
        finish()
    }

    /// Events from now on, in order. At most `limit` wait for the reader; if there are more, the oldest are dropped and
    /// `Event.eventsDropped` comes in their place. Ends with ``finish()``, when this object goes, or with the reader's task.
    ///
    /// One stream has one reader; ask for another stream for another reader.
    public func stream(limit: Int = 64) -> AsyncStream<Event> {
        let queue = EventQueue(limit: max(1, limit))
        state.with { state in
            state.next += 1
            state.queues[state.next] = WeakQueue(queue: queue)
        }
        return AsyncStream(unfolding: { await queue.next() }, onCancel: { queue.finish() })
    }

    /// Calls `observer` with each event from now on, on the thread `tuntrail-events`. It must return quickly.
    package func observe(_ observer: @escaping @Sendable (Event) -> Void) {
        state.with { state in
            state.next += 1
            state.observers[state.next] = observer
        }
    }

    /// Ends all streams, after what waits in them.
    public func finish() {
        let queues = state.with { state in
            defer { state = State(next: state.next) }
            return state.queues.values.compactMap(\.queue)
        }
        for queue in queues { queue.finish() }
    }

    /// For the client only.
    public func onEvent(event: Event) throws {
        let (observers, queues) = state.with { state in
            // Those whose reader has gone.
            state.queues = state.queues.filter { $0.value.queue != nil }
            return (Array(state.observers.values), state.queues.values.compactMap(\.queue))
        }
        for observer in observers { observer(event) }
        for queue in queues { queue.push(event) }
    }
}

private struct WeakQueue {
    weak var queue: EventQueue?
}

/// The bounded queue between the thread of events and one reader.
private final class EventQueue: Sendable {
    private let limit: Int
    private let state = Locked(State())

    private struct State {
        var events: [Event] = []
        var dropped: UInt64 = 0
        var reader: CheckedContinuation<Event?, Never>?
        var finished = false

        mutating func take() -> Event? {
            if dropped > 0 {
                defer { dropped = 0 }
                return .eventsDropped(count: dropped)
            }
            return events.isEmpty ? nil : events.removeFirst()
        }
    }

    init(limit: Int) {
        self.limit = limit
    }

    func push(_ event: Event) {
        let reader = state.with { state -> CheckedContinuation<Event?, Never>? in
            if state.finished { return nil }
            if let reader = state.reader {
                state.reader = nil
                return reader
            }
            if state.events.count >= limit {
                // The client's own gaps count on.
                if case .eventsDropped(let count) = state.events.removeFirst() {
                    state.dropped += count
                } else {
                    state.dropped += 1
                }
            }
            state.events.append(event)
            return nil
        }
        reader?.resume(returning: event)
    }

    func next() async -> Event? {
        await withCheckedContinuation { continuation in
            let (event, ready) = state.with { state -> (Event?, Bool) in
                if let event = state.take() { return (event, true) }
                // A second reader at the same time is a mistake; it sees an end.
                if state.finished || state.reader != nil { return (nil, true) }
                state.reader = continuation
                return (nil, false)
            }
            if ready { continuation.resume(returning: event) }
        }
    }

    func finish() {
        let reader = state.with { state in
            state.finished = true
            defer { state.reader = nil }
            return state.reader
        }
        reader?.resume(returning: nil)
    }
}
