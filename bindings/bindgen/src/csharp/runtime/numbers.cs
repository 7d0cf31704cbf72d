    internal sealed class UInt8Converter : Converter<byte>
    {
        internal static readonly UInt8Converter Instance = new UInt8Converter();

        internal override byte Read(Reader reader)
        {
            return reader.U8();
        }

        internal override void Write(Writer writer, byte value)
        {
            writer.U8(value);
        }
    }

    internal sealed class Int8Converter : Converter<sbyte>
    {
        internal static readonly Int8Converter Instance = new Int8Converter();

        internal override sbyte Read(Reader reader)
        {
            return unchecked((sbyte)reader.U8());
        }

        internal override void Write(Writer writer, sbyte value)
        {
            writer.U8(unchecked((byte)value));
        }
    }

    internal sealed class UInt16Converter : Converter<ushort>
    {
        internal static readonly UInt16Converter Instance = new UInt16Converter();

        internal override ushort Read(Reader reader)
        {
            return reader.U16();
        }

        internal override void Write(Writer writer, ushort value)
        {
            writer.U16(value);
        }
    }

    internal sealed class Int16Converter : Converter<short>
    {
        internal static readonly Int16Converter Instance = new Int16Converter();

        internal override short Read(Reader reader)
        {
            return unchecked((short)reader.U16());
        }

        internal override void Write(Writer writer, short value)
        {
            writer.U16(unchecked((ushort)value));
        }
    }

    internal sealed class UInt32Converter : Converter<uint>
    {
        internal static readonly UInt32Converter Instance = new UInt32Converter();

        internal override uint Read(Reader reader)
        {
            return reader.U32();
        }

        internal override void Write(Writer writer, uint value)
        {
            writer.U32(value);
        }
    }

    internal sealed class Int32Converter : Converter<int>
    {
        internal static readonly Int32Converter Instance = new Int32Converter();

        internal override int Read(Reader reader)
        {
            return reader.I32();
        }

        internal override void Write(Writer writer, int value)
        {
            writer.I32(value);
        }
    }

    internal sealed class UInt64Converter : Converter<ulong>
    {
        internal static readonly UInt64Converter Instance = new UInt64Converter();

        internal override ulong Read(Reader reader)
        {
            return reader.U64();
        }

        internal override void Write(Writer writer, ulong value)
        {
            writer.U64(value);
        }
    }

    internal sealed class Int64Converter : Converter<long>
    {
        internal static readonly Int64Converter Instance = new Int64Converter();

        internal override long Read(Reader reader)
        {
            return unchecked((long)reader.U64());
        }

        internal override void Write(Writer writer, long value)
        {
            writer.U64(unchecked((ulong)value));
        }
    }

    internal sealed class Float32Converter : Converter<float>
    {
        internal static readonly Float32Converter Instance = new Float32Converter();

        internal override float Read(Reader reader)
        {
            return BitConverter.ToSingle(BitConverter.GetBytes(reader.U32()), 0);
        }

        internal override void Write(Writer writer, float value)
        {
            writer.U32(BitConverter.ToUInt32(BitConverter.GetBytes(value), 0));
        }
    }

    internal sealed class Float64Converter : Converter<double>
    {
        internal static readonly Float64Converter Instance = new Float64Converter();

        internal override double Read(Reader reader)
        {
            return BitConverter.Int64BitsToDouble(unchecked((long)reader.U64()));
        }

        internal override void Write(Writer writer, double value)
        {
            writer.U64(unchecked((ulong)BitConverter.DoubleToInt64Bits(value)));
        }
    }
