using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using System.Threading;
using Fixture;

internal static partial class Program
{
    private static void Constructors()
    {
        Equal(11ul, new Counter(10).Advance());
        Equal(15ul, Counter.WithStep(10, 5).Advance());
        Equal(8ul, Counter.Parse("7").Advance());
        Equal("seven", Throws<FixtureException.Refused>(() => Counter.Parse("seven")).Value1);
    }

    private static void Objects()
    {
        using (Registry registry = new Registry())
        {
            Equal(null, registry.First());
            Counter counter = registry.Make(3);
            Equal(6ul, counter.Add(counter));
            registry.Hold(counter);
            registry.Hold(registry.Make(50));
            IReadOnlyList<Counter> held = registry.Held();
            Equal(2, held.Count);
            Equal(7ul, held[0].Advance());
            Equal(7ul, counter.Value());
            Equal(7ul, registry.First().Value());

            Handover handover = registry.HandOver(new Handover(counter, held[1], "both"));
            Equal(57ul, handover.Counter.Value());
            Equal(50ul, handover.Spare.Value());
            Equal("both", handover.Label);
            Equal(null, registry.HandOver(new Handover(counter, null, "")).Spare);
            Equal("t:2:57", counter.Tag("t", new byte[2], counter));
        }
    }

    private static void ObjectLifetimes()
    {
        using (Registry registry = new Registry())
        {
            for (int i = 0; i < 10000; i++)
            {
                using (Counter counter = registry.Make((ulong)i))
                {
                    counter.Advance();
                }
            }
            Equal(0ul, registry.Live());
            Counter kept = registry.Make(1);
            registry.Hold(kept);
            kept.Dispose();
            Equal(1ul, registry.Live());
            registry.Release();
            Equal(0ul, registry.Live());
        }
    }

    private static void GoneObjects()
    {
        using (Registry registry = new Registry())
        {
            Counter gone = registry.Make(1);
            gone.Dispose();
            gone.Dispose();
            Equal(0ul, registry.Live());
            Equal("Counter", Throws<ObjectDisposedException>(() => gone.Advance()).ObjectName);
            Throws<ObjectDisposedException>(() => registry.Hold(gone));
            Throws<ObjectDisposedException>(() => registry.HandOver(new Handover(gone, null, "")));

            // A call that can't be made gives back what it has lowered already: the receiver and the other arguments.
            Counter counter = registry.Make(2);
            Counter spare = registry.Make(3);
            Throws<ObjectDisposedException>(() => counter.Tag("text", new byte[10], gone));
            Throws<ObjectDisposedException>(() => registry.HandOver(new Handover(counter, gone, "")));
            Throws<ArgumentNullException>(() => counter.Tag(null, new byte[10], spare));
            counter.Dispose();
            spare.Dispose();
            Equal(0ul, registry.Live());
        }
    }

    private static void Listeners()
    {
        Recorder recorder = new Recorder();
        using (Driver driver = new Driver(recorder))
        {
            Equal("Some(\"größe 3\") false -4999934466 Tcp 141 ab+ab", driver.CallAll());
            Shape.Pair pair = (Shape.Pair)recorder.Shape;
            Equal("seven", pair.Value2);
            Equal(new DateTime(2023, 11, 14, 22, 13, 20, 500, DateTimeKind.Utc), recorder.At);
            Equal(TimeSpan.FromMilliseconds(1500), recorder.Took);
            Same(new byte[] { 0, 127, 255 }, recorder.Bytes);
            Equal(0.25, recorder.Fraction);
            Equal(true, object.ReferenceEquals(recorder, driver.Listener()));
            driver.Replace(new Recorder());
            Equal(false, object.ReferenceEquals(recorder, driver.Listener()));
        }
    }

    private static void ListenerErrors()
    {
        Recorder recorder = new Recorder();
        Equal("answer: hi 0", FixtureFunctions.OutcomeOf(recorder, "hi"));
        Equal("no answer", FixtureFunctions.OutcomeOf(recorder, ""));
        Equal("rejected: größe 200", FixtureFunctions.OutcomeOf(recorder, "reject"));
        string unexpected = FixtureFunctions.OutcomeOf(recorder, "crash");
        Equal(true, unexpected.StartsWith("unexpected: ") && unexpected.Contains("on purpose"));
    }

    private static void ListenerThreads()
    {
        Recorder recorder = new Recorder();
        using (Driver driver = new Driver(recorder))
        {
            Equal(1000u, driver.CallFromThread(1000));
            Equal(1, recorder.Threads.Count);
            Equal(false, recorder.Threads.Contains(Thread.CurrentThread.ManagedThreadId));
            Equal("call 999", recorder.Text);
        }
    }

    private static void RustListeners()
    {
        IListener listener = FixtureFunctions.RustListener();
        Equal("rust hi 2", listener.Describe("hi", new byte[2]));
        Equal((byte)200, Throws<ListenerException.Rejected>(() => listener.Describe("reject", new byte[0])).Code);
        Equal(Kind.Udp, listener.Turn(Kind.Tcp));
        Same(new[] { "a", "a" }, listener.Again("a", 2));
        using (Driver driver = new Driver(listener))
        {
            Equal("Some(\"rust größe 3\") false -4999934466 Tcp 41 ab+ab", driver.CallAll());
            Equal(true, driver.Listener().Invert(false));
        }
    }

    private static void Sinks()
    {
        CountingSink sink = new CountingSink();
        Equal(3000000ul, FixtureFunctions.Fill(sink, 3, 1000000));
        Equal(3, sink.Writes);
        Equal("full", Throws<ListenerException.Rejected>(() => FixtureFunctions.Fill(new CountingSink { Limit = 10 }, 1, 11)).Reason);
    }

    // What only the C# backend promises.
    private static void OnlyHere()
    {
        // Everything that Rust held has been given back.
        Equal(0, Fixture.Interop.ListenerCodec.Foreign.Count);
        Equal(0, Fixture.Interop.SinkCodec.Foreign.Count);
        Throws<ArgumentNullException>(() => FixtureFunctions.EchoString(null));
        Throws<ArgumentNullException>(() => FixtureFunctions.Join(new[] { "a", null }));
        Throws<ArgumentNullException>(() => new Defaults(null));
        Throws<ArgumentNullException>(() => new Defaults("").Tags = null);
        Throws<ArgumentOutOfRangeException>(() => FixtureFunctions.EchoDuration(TimeSpan.FromTicks(-1)));
        Throws<ArgumentOutOfRangeException>(() => FixtureFunctions.EchoTime(new DateTime(1969, 12, 31, 23, 59, 59, 500, DateTimeKind.Utc)));
        Throws<ArgumentOutOfRangeException>(() => FixtureFunctions.NextKind((Kind)99));
        Equal("\uFFFD", FixtureFunctions.EchoString("\uD800"));
        DateTime local = new DateTime(2024, 6, 1, 12, 0, 0, DateTimeKind.Local);
        Equal(local.ToUniversalTime(), FixtureFunctions.EchoTime(local));
        EveryLength();
        DisposeWhileCalling();
    }

    // Whichever value it is for which the buffer has to grow, it arrives.
    private static void EveryLength()
    {
        for (int length = 0; length < 300; length++)
        {
            string text = new string('x', length);
            byte[] bytes = Encoding.UTF8.GetBytes(text);
            Primitives primitives = FixtureFunctions.EchoPrimitives(new Primitives(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, true, text, bytes));
            Equal(text, primitives.AString);
            Same(bytes, primitives.ABytes);
            Defaults defaults = FixtureFunctions.EchoDefaults(new Defaults(text) { Name = "", Note = text, Tags = new[] { text } });
            Equal(text, defaults.Required);
            Equal(true, defaults.Enabled);
            Equal(text, defaults.Note);
            Equal((ushort?)9, defaults.Limit);
            Equal(text, defaults.Tags[0]);
        }
    }

    // Calls on some threads, Dispose on another: each call either works or says that the object is gone.
    private static void DisposeWhileCalling()
    {
        using (Registry registry = new Registry())
        {
            for (int round = 0; round < 50; round++)
            {
                Counter counter = registry.Make(0);
                int failures = 0;
                using (Barrier start = new Barrier(3))
                {
                    ThreadStart call = () =>
                    {
                        start.SignalAndWait();
                        try
                        {
                            for (int i = 0; i < 100; i++)
                            {
                                counter.Advance();
                            }
                        }
                        catch (ObjectDisposedException)
                        {
                        }
                        catch (Exception)
                        {
                            Interlocked.Increment(ref failures);
                        }
                    };
                    Thread[] threads = { new Thread(call), new Thread(call) };
                    foreach (Thread thread in threads)
                    {
                        thread.Start();
                    }
                    start.SignalAndWait();
                    counter.Dispose();
                    foreach (Thread thread in threads)
                    {
                        thread.Join();
                    }
                }
                Equal(0, failures);
                Equal(0ul, registry.Live());
            }
        }
    }

    private sealed class Recorder : IListener
    {
        internal Shape Shape;
        internal DateTime At;
        internal TimeSpan Took;
        internal byte[] Bytes;
        internal double Fraction;
        internal string Text;
        internal readonly HashSet<int> Threads = new HashSet<int>();

        public void OnEvent(Shape shape, DateTime at, TimeSpan took)
        {
            Shape = shape;
            At = at;
            Took = took;
        }

        public string Describe(string text, byte[] bytes)
        {
            Text = text;
            Bytes = bytes;
            Threads.Add(Thread.CurrentThread.ManagedThreadId);
            switch (text)
            {
                case "": return null;
                case "reject": throw new ListenerException.Rejected("größe", 200);
                case "crash": throw new InvalidOperationException("on purpose");
                default: return text + " " + bytes.Length;
            }
        }

        public bool Invert(bool value)
        {
            return !value;
        }

        public long Add(sbyte small, ushort medium, long large, double fraction)
        {
            Fraction = fraction;
            return small + medium + large;
        }

        public Kind Turn(Kind kind)
        {
            return FixtureFunctions.NextKind(kind);
        }

        public Counter Pass(Counter counter)
        {
            counter.Add(new Counter(100));
            return counter;
        }

        public IReadOnlyList<string> Again(string text, uint times)
        {
            return Enumerable.Repeat(text, (int)times).ToList();
        }
    }

    private sealed class CountingSink : ISink
    {
        internal int Writes;
        internal ulong Limit = ulong.MaxValue;
        private ulong total;

        public ulong Write(byte[] bytes)
        {
            Writes++;
            total += (ulong)bytes.Length;
            if (total > Limit)
            {
                throw new ListenerException.Rejected("full", 1);
            }
            return total;
        }
    }
}
