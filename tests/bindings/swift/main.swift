// The scenarios of tests/bindings/src/lib.rs in Swift. Prints "ok NAME" for each that holds; any other ends the program.
import Foundation

func equal<T: Equatable>(_ expected: T, _ actual: T, line: Int = #line) {
    guard expected == actual else { fatalError("line \(line): expected \(expected), got \(actual)") }
}

func throwing<E: Error>(_ kind: E.Type, line: Int = #line, _ call: () throws -> Void) -> E {
    do {
        try call()
    } catch let error as E {
        return error
    } catch {
        fatalError("line \(line): expected \(kind), got \(error)")
    }
    fatalError("line \(line): expected \(kind)")
}

func numbers() throws {
    for value in [UInt8.min, .max] { equal(value, echoU8(value: value)) }
    for value in [Int8.min, .max] { equal(value, echoI8(value: value)) }
    for value in [UInt16.min, .max] { equal(value, echoU16(value: value)) }
    for value in [Int16.min, .max] { equal(value, echoI16(value: value)) }
    for value in [UInt32.min, .max] { equal(value, echoU32(value: value)) }
    for value in [Int32.min, .max] { equal(value, echoI32(value: value)) }
    for value in [UInt64.min, .max] { equal(value, echoU64(value: value)) }
    for value in [Int64.min, .max] { equal(value, echoI64(value: value)) }
    for value in [Float.leastNonzeroMagnitude, .greatestFiniteMagnitude] { equal(value, echoF32(value: value)) }
    for value in [Double.leastNonzeroMagnitude, .greatestFiniteMagnitude, -.infinity] { equal(value, echoF64(value: value)) }
    equal(true, echoF32(value: .nan).isNaN)
    for value in [true, false] { equal(value, echoBool(value: value)) }
    doNothing()
}

func text() throws {
    for value in ["", "plain", "größe ß 漢字 \u{1F600}", "a\0b", String(repeating: "x", count: 100_000)] {
        equal(value, echoString(value: value))
        equal(UInt64(value.utf8.count), utf8Length(text: value))
    }
    equal("a, b", join(parts: ["a", "b"]))
    equal("c-b", join(parts: ["b", "c", "d"], separator: "-", limit: 2, reverse: true))
    equal(10, keywordArguments(class: 1, object: 2, params: 3, string: 4))
}

func bytes() throws {
    let large = Data((0..<(1 << 20)).map { UInt8($0 % 251) })
    equal(large, echoBytes(value: large))
    equal(large.reduce(0) { $0 + UInt64($1) }, sumBytes(bytes: large))
    equal(Data(), echoBytes(value: Data()))
    equal(0, sumBytes(bytes: Data()))
    let made = makeBytes(count: 1000)
    equal(1000, made.count)
    equal(UInt8(999 % 251), made[999])
}

func times() throws {
    for value in [0, 864_000_000, 1.5] { equal(value, echoDuration(value: value)) }
    for value in [0, -2.5, 2_592_000_000.5] {
        let date = Date(timeIntervalSince1970: value)
        equal(date, echoTime(value: date))
    }
}

func optionals() throws {
    for value in [nil, 0, Int64.min] { equal(value, echoOptional(value: value)) }
}

func records() throws {
    let primitives = Primitives(
        aU8: 255, aI8: -128, aU16: 65535, aI16: -32768, aU32: .max, aI32: .min, aU64: .max, aI64: .min, aF32: 0.1,
        aF64: 0.1, aBool: true, aString: "ß", aBytes: Data([0, 255]))
    equal(primitives, echoPrimitives(value: primitives))
    let nested = Nested(
        numbers: [1, nil, .max],
        kinds: ["some": [.icmp, .tcp], "none": []],
        points: [7: Point(x: 1, y: 2, label: "p")],
        tables: [["yes": true, "no": false]],
        blobs: [Data([1]), Data()],
        pause: 3,
        at: nil,
        shapes: allShapes())
    equal(nested, echoNested(value: nested))
}

func defaults() throws {
    equal(
        Defaults(name: "größe", required: "needed", count: 7, offset: -3, ratio: 0.5, enabled: true, note: nil, limit: 9, tags: []),
        echoDefaults(value: Defaults(required: "needed")))
    let value = Defaults(name: "", required: "x", enabled: false, note: "n", limit: nil, tags: ["t"])
    equal(value, echoDefaults(value: value))
}

func keywords() throws {
    let value = Keywords(
        class: "c", event: 1, lock: true, object: nil, string: "s", params: ["p"], namespace: -1, keywords: 2, in: 3)
    equal(value, echoKeywords(value: value))
}

func lists() throws {
    let points = makePoints(count: 10_000)
    equal(10_000, points.count)
    equal(Point(x: 9_999, y: -9_999, label: "9999"), points[9_999])
    equal("7 at 7/-7", "\(points[7])")
    equal(49_995_000, sumPoints(points: points))
    equal([], makePoints(count: 0))
}

func enums() throws {
    equal(.udp, nextKind(kind: .tcp))
    equal(.tcp, nextKind(kind: .icmp))
    equal(3, Code.low.rawValue)
    equal(1001, Code.next.rawValue)
    equal(1000, codeNumber(code: .high))
    equal(.next, codeOf(number: 1001))
    equal(nil, codeOf(number: 0))
    let shapes = allShapes()
    equal(.empty, shapes[0])
    equal(.circle(circle: 1.5), shapes[1])
    equal(.named(shape: "ß", kind: .udp), echoShape(shape: shapes[2]))
    equal(.pair(7, "seven"), echoShape(shape: .pair(7, "seven")))
    equal(.group(members: [.empty, .circle(circle: 1.5)]), echoShape(shape: shapes[4]))
    equal(.point(point: Point(x: 1, y: -1, label: "one")), shapes[5])
    let printed = "nothing, circle of 1.5, ß, 7 and seven, group of 2, one at 1/-1"
    equal(printed, shapes.map { "\($0)" }.joined(separator: ", "))
}

func errors() throws {
    equal(42, try failWith(which: 0))
    equal(.NotFound(name: "größe", code: -7), throwing(FixtureError.self) { _ = try failWith(which: 1) })
    equal(.Busy, throwing(FixtureError.self) { _ = try failWith(which: 2) })
    equal(.Refused("no"), throwing(FixtureError.self) { _ = try failWith(which: 3) })
    equal(.Message(detail: nil), throwing(FixtureError.self) { _ = try failWith(which: 4) })
}

func flatErrors() throws {
    equal(.Syntax(message: "at line 12"), throwing(FlatError.self) { try failFlat(line: 12) })
    equal(.Empty(message: "nothing there"), throwing(FlatError.self) { try failFlat(line: 0) })
}

func panics() throws {
    func message(_ call: () throws -> Void) -> String {
        do {
            try call()
        } catch {
            return (error as? LocalizedError)?.errorDescription ?? "\(error)"
        }
        fatalError("a panic went unnoticed")
    }
    equal(true, message { _ = try panicWith(text: "oh größe") }.contains("oh größe"))
    let counter = Counter(start: 5)
    equal(true, message { _ = try counter.explode() }.contains("boom at 5"))
    equal(6, counter.advance())
}

func constructors() throws {
    equal(11, Counter(start: 10).advance())
    equal(15, Counter.withStep(start: 10, step: 5).advance())
    equal(8, try Counter.parse(text: "7").advance())
    equal(.Refused("seven"), throwing(FixtureError.self) { _ = try Counter.parse(text: "seven") })
}

func objects() throws {
    let registry = Registry()
    equal(true, registry.first() == nil)
    let counter = registry.make(start: 3)
    equal(6, counter.add(other: counter))
    registry.hold(counter: counter)
    registry.hold(counter: registry.make(start: 50))
    let held = registry.held()
    equal(2, held.count)
    equal(7, held[0].advance())
    equal(7, counter.value())
    equal(7, registry.first()?.value())
    let handover = registry.handOver(handover: Handover(counter: counter, spare: held[1], label: "both"))
    equal(57, handover.counter.value())
    equal(50, handover.spare?.value())
    equal("both", handover.label)
    equal(true, registry.handOver(handover: Handover(counter: counter, spare: nil, label: "")).spare == nil)
    equal("t:2:57", try counter.tag(text: "t", bytes: Data(count: 2), other: counter))
}

func objectLifetimes() throws {
    let registry = Registry()
    for start in 0..<10_000 { _ = registry.make(start: UInt64(start)).advance() }
    equal(0, registry.live())
    do { registry.hold(counter: registry.make(start: 1)) }
    equal(1, registry.live())
    registry.release()
    equal(0, registry.live())
}

func goneObjects() throws {
    // Swift frees an object with its last reference, so there is none to call that is gone.
    let registry = Registry()
    var counter: Counter? = registry.make(start: 1)
    let same = counter
    equal(1, registry.live())
    counter = nil
    equal(1, registry.live())
    equal(2, same?.advance())
    _ = consume same
    equal(0, registry.live())
}

final class Recorder: Listener, @unchecked Sendable {
    var shape: Shape?
    var at: Date?
    var took: TimeInterval?
    var bytes = Data()
    var text = ""
    var fraction = 0.0
    var calledFromMain = false

    struct OnPurpose: Error {}

    func onEvent(shape: Shape, at: Date, took: TimeInterval) throws {
        self.shape = shape
        self.at = at
        self.took = took
    }

    func describe(text: String, bytes: Data) throws -> String? {
        self.text = text
        self.bytes = bytes
        calledFromMain = Thread.isMainThread
        switch text {
        case "": return nil
        case "reject": throw ListenerError.Rejected(reason: "größe", code: 200)
        case "crash": throw OnPurpose()
        default: return "\(text) \(bytes.count)"
        }
    }

    func invert(value: Bool) throws -> Bool { !value }

    func add(small: Int8, medium: UInt16, large: Int64, fraction: Double) throws -> Int64 {
        self.fraction = fraction
        return Int64(small) + Int64(medium) + large
    }

    func turn(kind: Kind) throws -> Kind { nextKind(kind: kind) }

    func pass(counter: Counter) throws -> Counter {
        _ = counter.add(other: Counter(start: 100))
        return counter
    }

    func again(text: String, times: UInt32) throws -> [String] { Array(repeating: text, count: Int(times)) }
}

func listeners() throws {
    let recorder = Recorder()
    let driver = Driver(listener: recorder)
    equal("Some(\"größe 3\") false -4999934466 Tcp 141 ab+ab", try driver.callAll())
    equal(.pair(7, "seven"), recorder.shape)
    equal(Date(timeIntervalSince1970: 1_700_000_000.5), recorder.at)
    equal(1.5, recorder.took)
    equal(Data([0, 127, 255]), recorder.bytes)
    equal(0.25, recorder.fraction)
    equal(true, driver.listener() === recorder)
    driver.replace(listener: Recorder())
    equal(false, driver.listener() === recorder)
}

func listenerErrors() throws {
    let recorder = Recorder()
    equal("answer: hi 0", outcomeOf(listener: recorder, text: "hi"))
    equal("no answer", outcomeOf(listener: recorder, text: ""))
    equal("rejected: größe 200", outcomeOf(listener: recorder, text: "reject"))
    let unexpected = outcomeOf(listener: recorder, text: "crash")
    equal(true, unexpected.hasPrefix("unexpected: ") && unexpected.contains("OnPurpose"))
}

func listenerThreads() throws {
    let recorder = Recorder()
    equal(1000, try Driver(listener: recorder).callFromThread(times: 1000))
    equal(false, recorder.calledFromMain)
    equal("call 999", recorder.text)
}

func rustListeners() throws {
    let listener = rustListener()
    equal("rust hi 2", try listener.describe(text: "hi", bytes: Data(count: 2)))
    equal(
        .Rejected(reason: "reject", code: 200),
        throwing(ListenerError.self) { _ = try listener.describe(text: "reject", bytes: Data()) })
    equal(.udp, try listener.turn(kind: .tcp))
    equal(["a", "a"], try listener.again(text: "a", times: 2))
    let driver = Driver(listener: listener)
    equal("Some(\"rust größe 3\") false -4999934466 Tcp 41 ab+ab", try driver.callAll())
    equal(true, try driver.listener().invert(value: false))
}

final class CountingSink: Sink, @unchecked Sendable {
    var writes = 0
    private var total: UInt64 = 0
    private let limit: UInt64

    init(limit: UInt64 = .max) { self.limit = limit }

    func write(bytes: Data) throws -> UInt64 {
        writes += 1
        total += UInt64(bytes.count)
        if total > limit { throw ListenerError.Rejected(reason: "full", code: 1) }
        return total
    }
}

func sinks() throws {
    let sink = CountingSink()
    equal(3_000_000, try fill(sink: sink, count: 3, size: 1_000_000))
    equal(3, sink.writes)
    equal(
        .Rejected(reason: "full", code: 1),
        throwing(ListenerError.self) { _ = try fill(sink: CountingSink(limit: 10), count: 1, size: 11) })
}

func rareTypes() throws {
    equal(["a", "b"], addToSet(names: ["a", "b"], name: "a"))
    equal(["a", "b"], addToSet(names: ["a"], name: "b"))
    equal("größe", echoLabel(label: "größe"))
    let fork = Tree.node(label: "l", left: .leaf, right: .leaf)
    equal(
        .node(label: "top", left: .leaf, right: fork), mirror(tree: .node(label: "top", left: fork, right: .leaf)))
    equal("at 5", "\(Counter(start: 5))")
}

let scenarios: [(String, () throws -> Void)] = [
    ("numbers", numbers), ("text", text), ("bytes", bytes), ("times", times), ("optionals", optionals),
    ("records", records), ("defaults", defaults), ("keywords", keywords), ("lists", lists), ("enums", enums),
    ("errors", errors), ("flat errors", flatErrors), ("panics", panics), ("constructors", constructors),
    ("objects", objects), ("object lifetimes", objectLifetimes), ("gone objects", goneObjects),
    ("listeners", listeners), ("listener errors", listenerErrors), ("listener threads", listenerThreads),
    ("rust listeners", rustListeners), ("sinks", sinks), ("rare types", rareTypes),
]
for (name, scenario) in scenarios {
    try scenario()
    print("ok \(name)")
}
