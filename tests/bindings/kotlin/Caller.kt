// The scenarios of tests/bindings/src/lib.rs in Kotlin. Prints "ok NAME" for each that holds; any other ends the program.

import java.nio.ByteBuffer
import java.time.Duration
import java.time.Instant
import uniffi.fixture.*

fun equal(expected: Any?, actual: Any?) {
    if (expected != actual) throw AssertionError("expected $expected, got $actual")
}

inline fun <reified E : Throwable> throws(call: () -> Unit): E {
    try {
        call()
    } catch (error: Throwable) {
        if (error is E) return error
        throw error
    }
    throw AssertionError("expected ${E::class}")
}

fun same(expected: ByteArray, actual: ByteArray) = equal(expected.toList(), actual.toList())

fun direct(bytes: ByteArray): ByteBuffer = ByteBuffer.allocateDirect(bytes.size).put(bytes).also { it.flip() }

fun numbers() {
    for (value in listOf(UByte.MIN_VALUE, UByte.MAX_VALUE)) equal(value, echoU8(value))
    for (value in listOf(Byte.MIN_VALUE, Byte.MAX_VALUE)) equal(value, echoI8(value))
    for (value in listOf(UShort.MIN_VALUE, UShort.MAX_VALUE)) equal(value, echoU16(value))
    for (value in listOf(Short.MIN_VALUE, Short.MAX_VALUE)) equal(value, echoI16(value))
    for (value in listOf(UInt.MIN_VALUE, UInt.MAX_VALUE)) equal(value, echoU32(value))
    for (value in listOf(Int.MIN_VALUE, Int.MAX_VALUE)) equal(value, echoI32(value))
    for (value in listOf(ULong.MIN_VALUE, ULong.MAX_VALUE)) equal(value, echoU64(value))
    for (value in listOf(Long.MIN_VALUE, Long.MAX_VALUE)) equal(value, echoI64(value))
    for (value in listOf(Float.MIN_VALUE, Float.MAX_VALUE, Float.NaN)) equal(value, echoF32(value))
    for (value in listOf(Double.MIN_VALUE, Double.MAX_VALUE, Double.NEGATIVE_INFINITY)) equal(value, echoF64(value))
    for (value in listOf(true, false)) equal(value, echoBool(value))
    doNothing()
}

fun text() {
    for (value in listOf("", "plain", "größe ß 漢字 \uD83D\uDE00", "a\u0000b", "x".repeat(100_000))) {
        equal(value, echoString(value))
        equal(value.toByteArray().size.toULong(), utf8Length(value))
    }
    equal("a, b", join(listOf("a", "b")))
    equal("c-b", join(listOf("b", "c", "d"), "-", 2u, true))
    equal(10u, keywordArguments(1u, 2u, 3u, 4u))
}

fun bytes() {
    val large = ByteArray(1 shl 20) { (it % 251).toByte() }
    same(large, echoBytes(large))
    equal(large.sumOf { it.toUByte().toULong() }, sumBytes(direct(large)))
    same(ByteArray(0), echoBytes(ByteArray(0)))
    equal(0uL, sumBytes(direct(ByteArray(0))))
    val made = makeBytes(1000u)
    equal(1000, made.size)
    equal((999 % 251).toByte(), made[999])
}

fun times() {
    for (value in listOf(Duration.ZERO, Duration.ofNanos(1), Duration.ofDays(10_000), Duration.ofMillis(1500))) {
        equal(value, echoDuration(value))
    }
    for (value in listOf(Instant.EPOCH, Instant.EPOCH.plusNanos(1), Instant.ofEpochSecond(-2).minusMillis(500), Instant.ofEpochSecond(2_592_000_000, 999_999_999))) {
        equal(value, echoTime(value))
    }
}

fun optionals() {
    for (value in listOf(null, 0L, Long.MIN_VALUE)) equal(value, echoOptional(value))
}

fun records() {
    val primitives = echoPrimitives(
        Primitives(255u, -128, 65535u, -32768, UInt.MAX_VALUE, Int.MIN_VALUE, ULong.MAX_VALUE, Long.MIN_VALUE, 0.1f, 0.1, true, "ß", byteArrayOf(0, -1)),
    )
    equal(
        listOf<Any>(255.toUByte(), (-128).toByte(), 65535.toUShort(), (-32768).toShort(), UInt.MAX_VALUE, Int.MIN_VALUE, ULong.MAX_VALUE, Long.MIN_VALUE, 0.1f, 0.1, true, "ß"),
        with(primitives) { listOf<Any>(aU8, aI8, aU16, aI16, aU32, aI32, aU64, aI64, aF32, aF64, aBool, aString) },
    )
    same(byteArrayOf(0, -1), primitives.aBytes)
    val nested = Nested(
        numbers = listOf(1u, null, UInt.MAX_VALUE),
        kinds = mapOf("some" to listOf(Kind.ICMP, Kind.TCP), "none" to listOf()),
        points = mapOf(7.toUShort() to Point(1, 2, "p")),
        tables = listOf(mapOf("yes" to true, "no" to false)),
        blobs = listOf(byteArrayOf(1), byteArrayOf()),
        pause = Duration.ofSeconds(3),
        at = null,
        shapes = allShapes(),
    )
    val back = echoNested(nested)
    equal(nested.copy(blobs = back.blobs), back)
    equal(listOf(listOf<Byte>(1), listOf()), back.blobs.map { it.toList() })
}

fun defaults() {
    equal(
        Defaults(name = "größe", required = "needed", count = 7u, offset = -3, ratio = 0.5, enabled = true, note = null, limit = 9u, tags = listOf()),
        echoDefaults(Defaults(required = "needed")),
    )
    val value = Defaults(required = "x", name = "", note = "n", limit = null, tags = listOf("t"), enabled = false)
    equal(value, echoDefaults(value))
}

fun keywords() {
    val value = Keywords(`class` = "c", event = 1u, lock = true, `object` = null, string = "s", params = listOf("p"), namespace = -1, keywords = 2u, `in` = 3u)
    equal(value, echoKeywords(value))
}

fun lists() {
    val points = makePoints(10_000u)
    equal(10_000, points.size)
    equal(Point(9_999, -9_999, "9999"), points[9_999])
    equal("7 at 7/-7", points[7].toString())
    equal(49_995_000L, sumPoints(points))
    equal(listOf<Point>(), makePoints(0u))
}

fun enums() {
    equal(Kind.UDP, nextKind(Kind.TCP))
    equal(Kind.TCP, nextKind(Kind.ICMP))
    equal(3.toUShort(), Code.LOW.value)
    equal(1001.toUShort(), Code.NEXT.value)
    equal(1000.toUShort(), codeNumber(Code.HIGH))
    equal(Code.NEXT, codeOf(1001u))
    equal(null, codeOf(0u))
    val shapes = allShapes()
    equal(Shape.Empty, shapes[0])
    equal(Shape.Circle(1.5), shapes[1])
    equal(Shape.Named("ß", Kind.UDP), echoShape(shapes[2]))
    equal(Shape.Pair(7u, "seven"), echoShape(Shape.Pair(7u, "seven")))
    equal(Shape.Group(listOf(Shape.Empty, Shape.Circle(1.5))), echoShape(shapes[4]))
    equal("one", (shapes[5] as Shape.Point).point.label)
    equal("nothing, circle of 1.5, ß, 7 and seven, group of 2, one at 1/-1", shapes.joinToString())
}

fun errors() {
    equal(42u, failWith(0u))
    val missing = throws<FixtureException.NotFound> { failWith(1u) }
    equal("größe" to -7, missing.name to missing.code)
    throws<FixtureException.Busy> { failWith(2u) }
    equal("no", throws<FixtureException.Refused> { failWith(3u) }.v1)
    equal(null, throws<FixtureException.Message> { failWith(4u) }.detail)
    throws<FixtureException> { failWith(2u) }
}

fun flatErrors() {
    equal("at line 12", throws<FlatException.Syntax> { failFlat(12u) }.message)
    equal("nothing there", throws<FlatException.Empty> { failFlat(0u) }.message)
}

fun panics() {
    equal("oh größe", throws<InternalException> { panicWith("oh größe") }.message)
    Counter(5u).use { counter ->
        equal("boom at 5", throws<InternalException> { counter.explode() }.message)
        equal(6uL, counter.advance())
    }
}

fun constructors() {
    equal(11uL, Counter(10u).advance())
    equal(15uL, Counter.withStep(10u, 5u).advance())
    equal(8uL, Counter.parse("7").advance())
    equal("seven", throws<FixtureException.Refused> { Counter.parse("seven") }.v1)
}

fun objects() {
    val registry = Registry()
    equal(null, registry.first())
    val counter = registry.make(3u)
    equal(6uL, counter.add(counter))
    registry.hold(counter)
    registry.hold(registry.make(50u))
    val held = registry.held()
    equal(2, held.size)
    equal(7uL, held[0].advance())
    equal(7uL, counter.value())
    equal(7uL, registry.first()!!.value())
    val handover = registry.handOver(Handover(counter, held[1], "both"))
    equal(57uL, handover.counter.value())
    equal(50uL, handover.spare!!.value())
    equal("both", handover.label)
    equal(null, registry.handOver(Handover(counter, null, "")).spare)
    equal("t:2:57", counter.tag("t", ByteArray(2), counter))
}

fun objectLifetimes() {
    val registry = Registry()
    repeat(10_000) { start -> registry.make(start.toULong()).use { it.advance() } }
    equal(0uL, registry.live())
    registry.make(1u).use { registry.hold(it) }
    equal(1uL, registry.live())
    registry.release()
    equal(0uL, registry.live())
}

fun goneObjects() {
    val registry = Registry()
    val gone = registry.make(1u)
    gone.close()
    gone.close()
    equal(0uL, registry.live())
    // Never as an argument: UniFFI's Kotlin checks the receiver only.
    throws<IllegalStateException> { gone.advance() }
}

class Recorder : Listener {
    var shape: Shape? = null
    var at: Instant? = null
    var took: Duration? = null
    var bytes = byteArrayOf()
    var text = ""
    var fraction = 0.0
    val threads = mutableSetOf<Long>()

    override fun onEvent(shape: Shape, at: Instant, took: Duration) {
        this.shape = shape
        this.at = at
        this.took = took
    }

    override fun describe(text: String, bytes: ByteArray): String? {
        this.text = text
        this.bytes = bytes
        threads.add(Thread.currentThread().id)
        return when (text) {
            "" -> null
            "reject" -> throw ListenerException.Rejected("größe", 200u)
            "crash" -> throw IllegalArgumentException("on purpose")
            else -> "$text ${bytes.size}"
        }
    }

    override fun invert(value: Boolean) = !value

    override fun add(small: Byte, medium: UShort, large: Long, fraction: Double): Long {
        this.fraction = fraction
        return small + medium.toLong() + large
    }

    override fun turn(kind: Kind) = nextKind(kind)

    override fun pass(counter: Counter): Counter {
        counter.add(Counter(100u))
        return counter
    }

    override fun again(text: String, times: UInt) = List(times.toInt()) { text }
}

fun listeners() {
    val recorder = Recorder()
    val driver = Driver(recorder)
    equal("Some(\"größe 3\") false -4999934466 Tcp 141 ab+ab", driver.callAll())
    equal(Shape.Pair(7u, "seven"), recorder.shape)
    equal(Instant.parse("2023-11-14T22:13:20.500Z"), recorder.at)
    equal(Duration.ofMillis(1500), recorder.took)
    same(byteArrayOf(0, 127, -1), recorder.bytes)
    equal(0.25, recorder.fraction)
    equal(true, driver.listener() === recorder)
    driver.replace(Recorder())
    equal(false, driver.listener() === recorder)
}

fun listenerErrors() {
    val recorder = Recorder()
    equal("answer: hi 0", outcomeOf(recorder, "hi"))
    equal("no answer", outcomeOf(recorder, ""))
    equal("rejected: größe 200", outcomeOf(recorder, "reject"))
    val unexpected = outcomeOf(recorder, "crash")
    equal(true, unexpected.startsWith("unexpected: ") && "on purpose" in unexpected)
}

fun listenerThreads() {
    val recorder = Recorder()
    equal(1000u, Driver(recorder).callFromThread(1000u))
    equal(false, Thread.currentThread().id in recorder.threads)
    equal("call 999", recorder.text)
}

fun rustListeners() {
    val listener = rustListener()
    equal("rust hi 2", listener.describe("hi", ByteArray(2)))
    equal(200.toUByte(), throws<ListenerException.Rejected> { listener.describe("reject", byteArrayOf()) }.code)
    equal(Kind.UDP, listener.turn(Kind.TCP))
    equal(listOf("a", "a"), listener.again("a", 2u))
    val driver = Driver(listener)
    equal("Some(\"rust größe 3\") false -4999934466 Tcp 41 ab+ab", driver.callAll())
    equal(true, driver.listener().invert(false))
}

class CountingSink(private val limit: ULong = ULong.MAX_VALUE) : Sink {
    var writes = 0
    private var total = 0uL

    override fun write(bytes: ByteArray): ULong {
        writes++
        total += bytes.size.toULong()
        if (total > limit) throw ListenerException.Rejected("full", 1u)
        return total
    }
}

fun sinks() {
    val sink = CountingSink()
    equal(3_000_000uL, fill(sink, 3u, 1_000_000u))
    equal(3, sink.writes)
    equal("full", throws<ListenerException.Rejected> { fill(CountingSink(10u), 1u, 11u) }.reason)
}

fun rareTypes() {
    equal(setOf("a", "b"), addToSet(setOf("a", "b"), "a"))
    equal(setOf("a", "b"), addToSet(setOf("a"), "b"))
    equal("größe", echoLabel("größe"))
    val fork = Tree.Node("l", Tree.Leaf, Tree.Leaf)
    equal(Tree.Node("top", Tree.Leaf, fork), mirror(Tree.Node("top", fork, Tree.Leaf)))
    equal("at 5", Counter(5u).toString())
}

fun main() {
    val scenarios = listOf(
        "numbers" to ::numbers, "text" to ::text, "bytes" to ::bytes, "times" to ::times, "optionals" to ::optionals,
        "records" to ::records, "defaults" to ::defaults, "keywords" to ::keywords, "lists" to ::lists, "enums" to ::enums,
        "errors" to ::errors, "flat errors" to ::flatErrors, "panics" to ::panics, "constructors" to ::constructors,
        "objects" to ::objects, "object lifetimes" to ::objectLifetimes, "gone objects" to ::goneObjects,
        "listeners" to ::listeners, "listener errors" to ::listenerErrors, "listener threads" to ::listenerThreads,
        "rust listeners" to ::rustListeners, "sinks" to ::sinks,
        "rare types" to ::rareTypes,
    )
    for ((name, scenario) in scenarios) {
        scenario()
        println("ok $name")
    }
}
