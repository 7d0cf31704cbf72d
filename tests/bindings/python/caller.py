"""The scenarios of tests/bindings/src/lib.rs in Python. Prints "ok NAME" for each that holds; any other ends the program."""

import gc
import threading
from datetime import datetime, timedelta, timezone

import fixture as f


def throws(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"expected {kind}")


def equal(expected, actual):
    assert expected == actual, f"expected {expected!r}, got {actual!r}"


def numbers():
    for bits in (8, 16, 32, 64):
        unsigned = getattr(f, f"echo_u{bits}")
        signed = getattr(f, f"echo_i{bits}")
        for value in (0, 2**bits - 1):
            equal(value, unsigned(value))
        for value in (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1):
            equal(value, signed(value))
        throws(ValueError, lambda: unsigned(2**bits))
    equal(0.5, f.echo_f32(0.5))
    equal(float("-inf"), f.echo_f64(float("-inf")))
    equal(1.7976931348623157e308, f.echo_f64(1.7976931348623157e308))
    assert f.echo_f32(float("nan")) != f.echo_f32(float("nan"))
    assert f.echo_bool(True) is True and f.echo_bool(False) is False
    f.do_nothing()


def text():
    for value in ("", "plain", "größe ß 漢字 \U0001f600", "a\0b", "x" * 100_000):
        equal(value, f.echo_string(value))
        equal(len(value.encode()), f.utf8_length(value))
    equal("a, b", f.join(["a", "b"]))
    equal("c-b", f.join(["b", "c", "d"], "-", 2, True))
    equal(10, f.keyword_arguments(1, 2, 3, 4))


def bytes_():
    large = bytes(i % 251 for i in range(1 << 20))
    equal(large, f.echo_bytes(large))
    equal(sum(large), f.sum_bytes(large))
    equal(b"", f.echo_bytes(b""))
    equal(0, f.sum_bytes(b""))
    made = f.make_bytes(1000)
    equal((1000, 999 % 251), (len(made), made[999]))


def times():
    for value in (timedelta(0), timedelta(microseconds=1), timedelta(days=10_000), timedelta(milliseconds=1500)):
        equal(value, f.echo_duration(value))
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    for value in (epoch, epoch + timedelta(microseconds=1), epoch - timedelta(seconds=2.5), epoch + timedelta(days=30_000)):
        equal(value, f.echo_time(value))


def optionals():
    for value in (None, 0, -(2**63)):
        equal(value, f.echo_optional(value))


def records():
    primitives = f.Primitives(
        a_u8=255, a_i8=-128, a_u16=65535, a_i16=-32768, a_u32=2**32 - 1, a_i32=-(2**31), a_u64=2**64 - 1,
        a_i64=-(2**63), a_f32=0.5, a_f64=0.1, a_bool=True, a_string="ß", a_bytes=b"\x00\xff",
    )
    equal(primitives, f.echo_primitives(primitives))
    nested = f.Nested(
        numbers=[1, None, 2**32 - 1],
        kinds={"some": [f.Kind.ICMP, f.Kind.TCP], "none": []},
        points={7: f.Point(x=1, y=2, label="p")},
        tables=[{"yes": True, "no": False}],
        blobs=[b"\x01", b""],
        pause=timedelta(seconds=3),
        at=None,
        shapes=f.all_shapes(),
    )
    equal(nested, f.echo_nested(nested))


def defaults():
    value = f.echo_defaults(f.Defaults(required="needed"))
    equal(f.Defaults(name="größe", required="needed", count=7, offset=-3, ratio=0.5, enabled=True, note=None, limit=9, tags=[]), value)
    value = f.echo_defaults(f.Defaults(required="x", name="", note="n", limit=None, tags=["t"], enabled=False))
    equal(("", "n", None, ["t"], False), (value.name, value.note, value.limit, value.tags, value.enabled))


def keywords():
    value = f.Keywords(
        _class="c", event=1, lock=True, object=None, string="s", params=["p"], namespace=-1, keywords=2, _in=3
    )
    equal(value, f.echo_keywords(value))


def lists():
    points = f.make_points(10_000)
    equal((10_000, -9_999, "9999"), (len(points), points[9_999].y, points[9_999].label))
    equal(49_995_000, f.sum_points(points))
    equal("7 at 7/-7", str(points[7]))
    equal([], f.make_points(0))


def enums():
    equal(f.Kind.UDP, f.next_kind(f.Kind.TCP))
    equal(f.Kind.TCP, f.next_kind(f.Kind.ICMP))
    equal((3, 1001), (f.Code.LOW.value, f.Code.NEXT.value))
    equal(1000, f.code_number(f.Code.HIGH))
    equal(f.Code.NEXT, f.code_of(1001))
    equal(None, f.code_of(0))
    shapes = f.all_shapes()
    assert shapes[0].is_EMPTY()
    equal(1.5, shapes[1].circle)
    named = f.echo_shape(shapes[2])
    equal(("ß", f.Kind.UDP), (named.shape, named.kind))
    pair = f.echo_shape(f.Shape.PAIR(7, "seven"))
    equal((7, "seven"), (pair[0], pair[1]))
    group = f.echo_shape(shapes[4])
    equal((2, 1.5), (len(group.members), group.members[1].circle))
    equal("one", shapes[5].point.label)
    printed = "nothing, circle of 1.5, ß, 7 and seven, group of 2, one at 1/-1"
    equal(printed, ", ".join(str(shape) for shape in shapes))


def errors():
    equal(42, f.fail_with(0))
    missing = throws(f.FixtureError.NotFound, lambda: f.fail_with(1))
    equal(("größe", -7), (missing.name, missing.code))
    throws(f.FixtureError.Busy, lambda: f.fail_with(2))
    equal("no", throws(f.FixtureError.Refused, lambda: f.fail_with(3))[0])
    equal(None, throws(f.FixtureError.Message, lambda: f.fail_with(4)).detail)
    throws(f.FixtureError, lambda: f.fail_with(2))


def flat_errors():
    equal("at line 12", str(throws(f.FlatError.Syntax, lambda: f.fail_flat(12))))
    equal("nothing there", str(throws(f.FlatError.Empty, lambda: f.fail_flat(0))))


def panics():
    equal("oh größe", str(throws(f.InternalError, lambda: f.panic_with("oh größe"))))
    counter = f.Counter(5)
    equal("boom at 5", str(throws(f.InternalError, counter.explode)))
    equal(6, counter.advance())


def constructors():
    equal(11, f.Counter(10).advance())
    equal(15, f.Counter.with_step(10, 5).advance())
    equal(8, f.Counter.parse("7").advance())
    equal("seven", throws(f.FixtureError.Refused, lambda: f.Counter.parse("seven"))[0])


def objects():
    registry = f.Registry()
    equal(None, registry.first())
    counter = registry.make(3)
    equal(6, counter.add(counter))
    registry.hold(counter)
    registry.hold(registry.make(50))
    held = registry.held()
    equal(2, len(held))
    equal(7, held[0].advance())
    equal(7, counter.value())
    equal(7, registry.first().value())
    handover = registry.hand_over(f.Handover(counter=counter, spare=held[1], label="both"))
    equal((57, 50, "both"), (handover.counter.value(), handover.spare.value(), handover.label))
    equal(None, registry.hand_over(f.Handover(counter=counter, spare=None, label="")).spare)
    equal("t:2:57", counter.tag("t", b"\0\0", counter))


def object_lifetimes():
    registry = f.Registry()
    for start in range(10_000):
        registry.make(start).advance()
    gc.collect()
    equal(0, registry.live())
    registry.hold(registry.make(1))
    gc.collect()
    equal(1, registry.live())
    registry.release()
    equal(0, registry.live())


def gone_objects():
    # Python frees an object with its last reference, so there is none to call that is gone; a call that can't be made
    # gives back what it has lowered already.
    registry = f.Registry()
    counter, spare = registry.make(2), registry.make(3)
    throws(TypeError, lambda: counter.tag(None, b"", spare))
    del counter, spare
    gc.collect()
    equal(0, registry.live())


class Recorder(f.Listener):
    def __init__(self):
        self.threads = set()

    def on_event(self, shape, at, took):
        self.shape, self.at, self.took = shape, at, took

    def describe(self, text, bytes):
        self.text, self.bytes = text, bytes
        self.threads.add(threading.get_ident())
        if text == "":
            return None
        if text == "reject":
            raise f.ListenerError.Rejected("größe", 200)
        if text == "crash":
            raise RuntimeError("on purpose")
        return f"{text} {len(bytes)}"

    def invert(self, value):
        return not value

    def add(self, small, medium, large, fraction):
        self.fraction = fraction
        return small + medium + large

    def turn(self, kind):
        return f.next_kind(kind)

    def _pass(self, counter):
        counter.add(f.Counter(100))
        return counter

    def again(self, text, times):
        return [text] * times


def listeners():
    recorder = Recorder()
    driver = f.Driver(recorder)
    equal('Some("größe 3") false -4999934466 Tcp 141 ab+ab', driver.call_all())
    equal("seven", recorder.shape[1])
    equal(datetime(2023, 11, 14, 22, 13, 20, 500_000, tzinfo=timezone.utc), recorder.at)
    equal(timedelta(milliseconds=1500), recorder.took)
    equal(b"\x00\x7f\xff", recorder.bytes)
    equal(0.25, recorder.fraction)
    assert driver.listener() is recorder
    driver.replace(Recorder())
    assert driver.listener() is not recorder


def listener_errors():
    recorder = Recorder()
    equal("answer: hi 0", f.outcome_of(recorder, "hi"))
    equal("no answer", f.outcome_of(recorder, ""))
    equal("rejected: größe 200", f.outcome_of(recorder, "reject"))
    unexpected = f.outcome_of(recorder, "crash")
    assert unexpected.startswith("unexpected: ") and "on purpose" in unexpected, unexpected


def listener_threads():
    recorder = Recorder()
    equal(1000, f.Driver(recorder).call_from_thread(1000))
    equal(1, len(recorder.threads))
    assert threading.get_ident() not in recorder.threads
    equal("call 999", recorder.text)


def rust_listeners():
    listener = f.rust_listener()
    equal("rust hi 2", listener.describe("hi", b"\0\0"))
    equal(200, throws(f.ListenerError.Rejected, lambda: listener.describe("reject", b"")).code)
    equal(f.Kind.UDP, listener.turn(f.Kind.TCP))
    equal(["a", "a"], listener.again("a", 2))
    driver = f.Driver(listener)
    equal('Some("rust größe 3") false -4999934466 Tcp 41 ab+ab', driver.call_all())
    equal(True, driver.listener().invert(False))


class CountingSink(f.Sink):
    def __init__(self, limit=2**63):
        self.writes, self.total, self.limit = 0, 0, limit

    def write(self, bytes):
        self.writes += 1
        self.total += len(bytes)
        if self.total > self.limit:
            raise f.ListenerError.Rejected("full", 1)
        return self.total


def sinks():
    sink = CountingSink()
    equal(3_000_000, f.fill(sink, 3, 1_000_000))
    equal(3, sink.writes)
    equal("full", throws(f.ListenerError.Rejected, lambda: f.fill(CountingSink(10), 1, 11)).reason)


def rare_types():
    equal({"a", "b"}, f.add_to_set({"a", "b"}, "a"))
    equal({"a", "b"}, f.add_to_set({"a"}, "b"))
    equal("größe", f.echo_label("größe"))
    leaf = f.Tree.LEAF()
    fork = f.Tree.NODE(label="l", left=leaf, right=leaf)
    equal(f.Tree.NODE(label="top", left=leaf, right=fork), f.mirror(f.Tree.NODE(label="top", left=fork, right=leaf)))
    equal("at 5", str(f.Counter(5)))


for scenario in (
    numbers, text, bytes_, times, optionals, records, defaults, keywords, lists, enums, errors, flat_errors, panics,
    constructors, objects, object_lifetimes, gone_objects, listeners, listener_errors, listener_threads,
    rust_listeners, sinks, rare_types,
):  # fmt: skip
    scenario()
    print("ok", scenario.__name__.rstrip("_").replace("_", " "), flush=True)
