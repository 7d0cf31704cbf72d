using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using Fixture;

internal static partial class Program
{
    private static void Numbers()
    {
        Equal(byte.MinValue, FixtureFunctions.EchoU8(byte.MinValue));
        Equal(byte.MaxValue, FixtureFunctions.EchoU8(byte.MaxValue));
        Equal(sbyte.MinValue, FixtureFunctions.EchoI8(sbyte.MinValue));
        Equal(sbyte.MaxValue, FixtureFunctions.EchoI8(sbyte.MaxValue));
        Equal(ushort.MaxValue, FixtureFunctions.EchoU16(ushort.MaxValue));
        Equal(short.MinValue, FixtureFunctions.EchoI16(short.MinValue));
        Equal(short.MaxValue, FixtureFunctions.EchoI16(short.MaxValue));
        Equal(uint.MaxValue, FixtureFunctions.EchoU32(uint.MaxValue));
        Equal(int.MinValue, FixtureFunctions.EchoI32(int.MinValue));
        Equal(int.MaxValue, FixtureFunctions.EchoI32(int.MaxValue));
        Equal(ulong.MaxValue, FixtureFunctions.EchoU64(ulong.MaxValue));
        Equal(long.MinValue, FixtureFunctions.EchoI64(long.MinValue));
        Equal(long.MaxValue, FixtureFunctions.EchoI64(long.MaxValue));
        Equal(float.MaxValue, FixtureFunctions.EchoF32(float.MaxValue));
        Equal(float.Epsilon, FixtureFunctions.EchoF32(float.Epsilon));
        Equal(true, float.IsNaN(FixtureFunctions.EchoF32(float.NaN)));
        Equal(double.MinValue, FixtureFunctions.EchoF64(double.MinValue));
        Equal(double.NegativeInfinity, FixtureFunctions.EchoF64(double.NegativeInfinity));
        Equal(true, FixtureFunctions.EchoBool(true));
        Equal(false, FixtureFunctions.EchoBool(false));
        FixtureFunctions.DoNothing();
    }

    private static void TextScenario()
    {
        foreach (string text in new[] { "", "plain", "größe ß 漢字 \U0001F600", "a\0b", new string('x', 100000) })
        {
            Equal(text, FixtureFunctions.EchoString(text));
            Equal((ulong)Encoding.UTF8.GetByteCount(text), FixtureFunctions.Utf8Length(text));
        }
        Equal("a, b", FixtureFunctions.Join(new[] { "a", "b" }));
        Equal("c-b", FixtureFunctions.Join(new[] { "b", "c", "d" }, "-", 2, true));
        Equal(10u, FixtureFunctions.KeywordArguments(1, 2, 3, 4));
    }

    private static void Bytes()
    {
        byte[] large = new byte[1 << 20];
        for (int i = 0; i < large.Length; i++)
        {
            large[i] = (byte)(i % 251);
        }
        Same(large, FixtureFunctions.EchoBytes(large));
        Equal((ulong)large.Sum(one => (long)one), FixtureFunctions.SumBytes(large));
        Same(new byte[0], FixtureFunctions.EchoBytes(new byte[0]));
        Equal(0ul, FixtureFunctions.SumBytes(new byte[0]));
        byte[] made = FixtureFunctions.MakeBytes(1000);
        Equal(1000, made.Length);
        Equal((byte)(999 % 251), made[999]);
    }

    private static void Times()
    {
        foreach (TimeSpan duration in new[] { TimeSpan.Zero, TimeSpan.FromTicks(1), TimeSpan.FromDays(10000), TimeSpan.FromMilliseconds(1500) })
        {
            Equal(duration, FixtureFunctions.EchoDuration(duration));
        }
        DateTime epoch = new DateTime(1970, 1, 1, 0, 0, 0, DateTimeKind.Utc);
        foreach (DateTime time in new[] { epoch, epoch.AddTicks(1), epoch.AddSeconds(-2.5), epoch.AddDays(30000).AddTicks(9999999), new DateTime(1, 1, 2, 0, 0, 0, DateTimeKind.Utc) })
        {
            DateTime back = FixtureFunctions.EchoTime(time);
            Equal(time, back);
            Equal(DateTimeKind.Utc, back.Kind);
        }
    }

    private static void Optionals()
    {
        Equal(null, FixtureFunctions.EchoOptional(null));
        Equal(0L, FixtureFunctions.EchoOptional(0));
        Equal(long.MinValue, FixtureFunctions.EchoOptional(long.MinValue));
    }

    private static void Records()
    {
        Primitives primitives = FixtureFunctions.EchoPrimitives(new Primitives(
            255, -128, 65535, -32768, uint.MaxValue, int.MinValue, ulong.MaxValue, long.MinValue, 0.1f, 0.1, true, "ß", new byte[] { 0, 255 }));
        Equal((byte)255, primitives.AU8);
        Equal((sbyte)-128, primitives.AI8);
        Equal((ushort)65535, primitives.AU16);
        Equal((short)-32768, primitives.AI16);
        Equal(uint.MaxValue, primitives.AU32);
        Equal(int.MinValue, primitives.AI32);
        Equal(ulong.MaxValue, primitives.AU64);
        Equal(long.MinValue, primitives.AI64);
        Equal(0.1f, primitives.AF32);
        Equal(0.1, primitives.AF64);
        Equal(true, primitives.ABool);
        Equal("ß", primitives.AString);
        Same(new byte[] { 0, 255 }, primitives.ABytes);

        Nested nested = FixtureFunctions.EchoNested(new Nested(
            new uint?[] { 1, null, uint.MaxValue },
            new Dictionary<string, IReadOnlyList<Kind>> { { "some", new[] { Kind.Icmp, Kind.Tcp } }, { "none", new Kind[0] } },
            new Dictionary<ushort, Point> { { 7, new Point(1, 2, "p") } },
            new[] { new Dictionary<string, bool> { { "yes", true }, { "no", false } } },
            new[] { new byte[] { 1 }, new byte[0] },
            TimeSpan.FromSeconds(3),
            null,
            FixtureFunctions.AllShapes()));
        Same(new uint?[] { 1, null, uint.MaxValue }, nested.Numbers);
        Same(new[] { Kind.Icmp, Kind.Tcp }, nested.Kinds["some"]);
        Equal(0, nested.Kinds["none"].Count);
        Equal("p", nested.Points[7].Label);
        Equal(true, nested.Tables[0]["yes"]);
        Equal(false, nested.Tables[0]["no"]);
        Equal(2, nested.Blobs.Count);
        Equal((byte)1, nested.Blobs[0][0]);
        Equal(TimeSpan.FromSeconds(3), nested.Pause);
        Equal(null, nested.At);
        Equal(6, nested.Shapes.Count);
    }

    private static void Defaults()
    {
        Defaults value = FixtureFunctions.EchoDefaults(new Defaults("needed"));
        Equal("größe", value.Name);
        Equal("needed", value.Required);
        Equal(7u, value.Count);
        Equal(-3L, value.Offset);
        Equal(0.5, value.Ratio);
        Equal(true, value.Enabled);
        Equal(null, value.Note);
        Equal((ushort?)9, value.Limit);
        Equal(0, value.Tags.Count);
        value = FixtureFunctions.EchoDefaults(new Defaults("x") { Name = "", Note = "n", Limit = null, Tags = new[] { "t" }, Enabled = false });
        Equal("", value.Name);
        Equal("n", value.Note);
        Equal(null, value.Limit);
        Same(new[] { "t" }, value.Tags);
        Equal(false, value.Enabled);
    }

    private static void Keywords()
    {
        Keywords value = FixtureFunctions.EchoKeywords(new Keywords("c", 1, true, null, "s", new[] { "p" }, -1, 2, 3));
        Equal("c", value.Class);
        Equal(1u, value.Event);
        Equal(true, value.Lock);
        Equal(null, value.Object);
        Equal("s", value.String);
        Same(new[] { "p" }, value.Params);
        Equal((sbyte)-1, value.Namespace);
        Equal((byte)2, value.KeywordsValue);
        Equal((ushort)3, value.In);
    }

    private static void Lists()
    {
        IReadOnlyList<Point> points = FixtureFunctions.MakePoints(10000);
        Equal(10000, points.Count);
        Equal(-9999, points[9999].Y);
        Equal("9999", points[9999].Label);
        Equal("7 at 7/-7", points[7].ToString());
        Equal(49995000L, FixtureFunctions.SumPoints(points));
        Equal(0, FixtureFunctions.MakePoints(0).Count);
    }

    private const string Printed = "nothing, circle of 1.5, ß, 7 and seven, group of 2, one at 1/-1";

    private static void Enums()
    {
        Equal(Kind.Udp, FixtureFunctions.NextKind(Kind.Tcp));
        Equal(Kind.Tcp, FixtureFunctions.NextKind(Kind.Icmp));
        Equal(3, (int)Code.Low);
        Equal(1001, (int)Code.Next);
        Equal((ushort)1000, FixtureFunctions.CodeNumber(Code.High));
        Equal(Code.Next, FixtureFunctions.CodeOf(1001));
        Equal(null, FixtureFunctions.CodeOf(0));

        IReadOnlyList<Shape> shapes = FixtureFunctions.AllShapes();
        Equal(true, shapes[0] is Shape.Empty);
        Equal(1.5, ((Shape.Circle)shapes[1]).CircleValue);
        Shape.Named named = (Shape.Named)FixtureFunctions.EchoShape(shapes[2]);
        Equal("ß", named.Shape);
        Equal(Kind.Udp, named.Kind);
        Shape.Pair pair = (Shape.Pair)FixtureFunctions.EchoShape(new Shape.Pair(7, "seven"));
        Equal(7u, pair.Value1);
        Equal("seven", pair.Value2);
        Shape.Group group = (Shape.Group)FixtureFunctions.EchoShape(shapes[4]);
        Equal(2, group.Members.Count);
        Equal(1.5, ((Shape.Circle)group.Members[1]).CircleValue);
        Equal("one", ((Shape.Point)shapes[5]).PointValue.Label);
        Equal(Printed, string.Join(", ", shapes));
    }

    private static void Errors()
    {
        Equal(42u, FixtureFunctions.FailWith(0));
        FixtureException.NotFound missing = Throws<FixtureException.NotFound>(() => FixtureFunctions.FailWith(1));
        Equal("größe", missing.Name);
        Equal(-7, missing.Code);
        Equal("NotFound (name: größe, code: -7)", missing.Message);
        Throws<FixtureException.Busy>(() => FixtureFunctions.FailWith(2));
        FixtureException.Refused refused = Throws<FixtureException.Refused>(() => FixtureFunctions.FailWith(3));
        Equal("no", refused.Value1);
        Equal("no", refused.Message);
        Equal(null, Throws<FixtureException.MessageException>(() => FixtureFunctions.FailWith(4)).Detail);
        Throws<FixtureException>(() => FixtureFunctions.FailWith(2));
    }

    private static void FlatErrors()
    {
        Equal("at line 12", Throws<FlatException.Syntax>(() => FixtureFunctions.FailFlat(12)).Message);
        Equal("nothing there", Throws<FlatException.Empty>(() => FixtureFunctions.FailFlat(0)).Message);
    }

    private static void RareTypes()
    {
        ISet<string> names = FixtureFunctions.AddToSet(new HashSet<string> { "a", "b" }, "a");
        Equal(true, names.SetEquals(new[] { "b", "a" }));
        Equal(3, FixtureFunctions.AddToSet(names, "c").Count);
        Equal("größe", FixtureFunctions.EchoLabel("größe"));
        Tree.Node node = (Tree.Node)FixtureFunctions.Mirror(new Tree.Node("top", new Tree.Node("l", new Tree.Leaf(), new Tree.Leaf()), new Tree.Leaf()));
        Equal("top", node.Label);
        Equal(true, node.Left is Tree.Leaf);
        Equal("l", ((Tree.Node)node.Right).Label);
        Equal("at 5", new Counter(5).ToString());
    }

    private static void Panics()
    {
        Equal("oh größe", Throws<InternalException>(() => FixtureFunctions.PanicWith("oh größe")).Message);
        using (Counter counter = new Counter(5))
        {
            Equal("boom at 5", Throws<InternalException>(() => counter.Explode()).Message);
            Equal(6ul, counter.Advance());
        }
    }
}
