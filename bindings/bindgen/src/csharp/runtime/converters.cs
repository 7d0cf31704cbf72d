    /// <summary>Carries values of one type across the boundary in a serialised form.</summary>
    internal abstract class Converter<T>
    {
        internal abstract T Read(Reader reader);

        internal abstract void Write(Writer writer, T value);

        /// <summary>Takes over a buffer, frees it, and returns the value that was in it.</summary>
        internal virtual T Lift(RustBuffer buffer)
        {
            Reader reader;
            try
            {
                reader = new Reader(buffer.ToArray(0));
            }
            finally
            {
                buffer.Free();
            }
            T value = Read(reader);
            if (!reader.AtEnd)
            {
                throw new global::@NAMESPACE@.InternalException("bytes are left over after a value");
            }
            return value;
        }

        /// <summary>A buffer with the value in it; Rust frees it.</summary>
        internal virtual RustBuffer Lower(T value)
        {
            Writer writer = new Writer();
            try
            {
                Write(writer, value);
                return writer.ToRust();
            }
            catch (Exception)
            {
                writer.Abandon();
                throw;
            }
        }

        /// <summary>Fails early where Rust has no null.</summary>
        protected static void RequireValue(object value)
        {
            if (value == null)
            {
                throw new ArgumentNullException("value", "a value inside an argument is null");
            }
        }
    }

    internal sealed class BooleanConverter : Converter<bool>
    {
        internal static readonly BooleanConverter Instance = new BooleanConverter();

        internal override bool Read(Reader reader)
        {
            return FromByte(unchecked((sbyte)reader.U8()));
        }

        internal override void Write(Writer writer, bool value)
        {
            writer.U8(value ? (byte)1 : (byte)0);
        }

        internal static bool FromByte(sbyte value)
        {
            return value != 0;
        }

        internal static sbyte ToByte(bool value)
        {
            return value ? (sbyte)1 : (sbyte)0;
        }
    }

    /// <summary>Text: alone it is the buffer, inside other values it has its length in front.</summary>
    internal sealed class TextConverter : Converter<string>
    {
        internal static readonly TextConverter Instance = new TextConverter();

        internal override string Read(Reader reader)
        {
            return reader.Utf8();
        }

        internal override void Write(Writer writer, string value)
        {
            RequireValue(value);
            writer.Utf8(value);
        }

        internal override string Lift(RustBuffer buffer)
        {
            try
            {
                return Encoding.UTF8.GetString(buffer.ToArray(0));
            }
            finally
            {
                buffer.Free();
            }
        }

        // Unpaired surrogates become U+FFFD: Rust relies on the bytes being valid UTF-8.
        internal override RustBuffer Lower(string value)
        {
            RequireValue(value);
            byte[] bytes = Encoding.UTF8.GetBytes(value);
            return RustBuffer.Copy(bytes, bytes.Length);
        }
    }

    /// <summary>Bytes: the length in front also when they are alone. One copy each way.</summary>
    internal sealed class BytesConverter : Converter<byte[]>
    {
        internal static readonly BytesConverter Instance = new BytesConverter();

        // Size of the length in front of the bytes.
        private const int Prefix = 4;

        internal override byte[] Read(Reader reader)
        {
            return reader.Bytes();
        }

        internal override void Write(Writer writer, byte[] value)
        {
            RequireValue(value);
            writer.Bytes(value);
        }

        internal override byte[] Lift(RustBuffer buffer)
        {
            try
            {
                return buffer.ToArray(Prefix);
            }
            finally
            {
                buffer.Free();
            }
        }

        internal override RustBuffer Lower(byte[] value)
        {
            RequireValue(value);
            RustBuffer buffer = RustBuffer.Allocate(checked(value.Length + Prefix));
            byte[] length = BitConverter.GetBytes(System.Net.IPAddress.HostToNetworkOrder(value.Length));
            Marshal.Copy(length, 0, buffer.Data, Prefix);
            Marshal.Copy(value, 0, IntPtr.Add(buffer.Data, Prefix), value.Length);
            return buffer;
        }
    }

    /// <summary>Seconds and nanoseconds; .NET counts ticks of 100 ns, so a rest below that is cut off.</summary>
    internal sealed class DurationConverter : Converter<TimeSpan>
    {
        internal static readonly DurationConverter Instance = new DurationConverter();

        internal override TimeSpan Read(Reader reader)
        {
            ulong seconds = reader.U64();
            uint nanoseconds = reader.U32();
            if (seconds > (ulong)(long.MaxValue / TimeSpan.TicksPerSecond - 1))
            {
                throw new OverflowException("a duration of " + seconds + " seconds doesn't fit into a TimeSpan");
            }
            return TimeSpan.FromTicks((long)seconds * TimeSpan.TicksPerSecond + nanoseconds / 100);
        }

        internal override void Write(Writer writer, TimeSpan value)
        {
            if (value < TimeSpan.Zero)
            {
                throw new ArgumentOutOfRangeException("value", value, "a duration can't be negative");
            }
            writer.U64((ulong)(value.Ticks / TimeSpan.TicksPerSecond));
            writer.U32((uint)(value.Ticks % TimeSpan.TicksPerSecond) * 100);
        }
    }

    /// <summary>
    /// Seconds from 1970 with the sign in front, and the nanoseconds of the distance. Always UTC; a local time is
    /// converted, a time of unspecified kind is taken for a local one, as .NET does.
    /// </summary>
    internal sealed class TimestampConverter : Converter<DateTime>
    {
        internal static readonly TimestampConverter Instance = new TimestampConverter();

        private static readonly DateTime Epoch = new DateTime(1970, 1, 1, 0, 0, 0, DateTimeKind.Utc);

        internal override DateTime Read(Reader reader)
        {
            long seconds = unchecked((long)reader.U64());
            long rest = reader.U32() / 100;
            long limit = DateTime.MaxValue.Ticks / TimeSpan.TicksPerSecond;
            if (seconds > limit || seconds < -limit)
            {
                throw new OverflowException("a time " + seconds + " seconds from 1970 doesn't fit into a DateTime");
            }
            return Epoch.AddTicks(seconds * TimeSpan.TicksPerSecond + (seconds < 0 ? -rest : rest));
        }

        internal override void Write(Writer writer, DateTime value)
        {
            long ticks = value.ToUniversalTime().Ticks - Epoch.Ticks;
            long seconds = ticks / TimeSpan.TicksPerSecond;
            if (ticks < 0 && seconds == 0)
            {
                // There is no negative zero to carry the sign.
                throw new ArgumentOutOfRangeException("value", value, "the last second before 1970 can't be passed on");
            }
            writer.U64(unchecked((ulong)seconds));
            writer.U32((uint)Math.Abs(ticks % TimeSpan.TicksPerSecond) * 100);
        }
    }
