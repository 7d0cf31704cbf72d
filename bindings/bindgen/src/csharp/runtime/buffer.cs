    /// <summary>Bytes that Rust allocated and that whoever holds them must free. Layout is fixed by UniFFI.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct RustBuffer
    {
        internal ulong Capacity;
        internal ulong Length;
        internal IntPtr Data;

        internal bool IsEmpty
        {
            get { return Length == 0; }
        }

        /// <summary>A buffer with room for <paramref name="size"/> bytes, all zero.</summary>
        internal static RustBuffer Allocate(int size)
        {
            RustCallStatus status = default(RustCallStatus);
            RustBuffer buffer = Native.BufferAllocate((ulong)size, ref status);
            status.Check();
            return buffer;
        }

        /// <summary>A buffer with a copy of the first <paramref name="count"/> bytes.</summary>
        internal static RustBuffer Copy(byte[] bytes, int count)
        {
            if (count == 0)
            {
                return default(RustBuffer);
            }
            RustBuffer buffer = Allocate(count);
            Marshal.Copy(bytes, 0, buffer.Data, count);
            buffer.Length = (ulong)count;
            return buffer;
        }

        /// <summary>The bytes as an array; the buffer stays as it is.</summary>
        internal byte[] ToArray(int skip)
        {
            if (Length > int.MaxValue)
            {
                throw new global::@NAMESPACE@.InternalException("a value of " + Length + " bytes is too large");
            }
            byte[] bytes = new byte[Math.Max(0, (int)Length - skip)];
            if (bytes.Length > 0)
            {
                Marshal.Copy(IntPtr.Add(Data, skip), bytes, 0, bytes.Length);
            }
            return bytes;
        }

        internal void Free()
        {
            if (Data == IntPtr.Zero)
            {
                return;
            }
            RustCallStatus status = default(RustCallStatus);
            Native.BufferFree(this, ref status);
            this = default(RustBuffer);
        }
    }

    /// <summary>Bytes lent to Rust for the time of one call. Layout is fixed by UniFFI.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct ForeignBytes
    {
        internal int Length;
        internal IntPtr Data;
    }

    /// <summary>Keeps an array where it is while Rust looks at it, so that it needn't be copied.</summary>
    internal struct PinnedBytes
    {
        private GCHandle handle;
        internal ForeignBytes Bytes;

        internal PinnedBytes(byte[] bytes)
        {
            handle = GCHandle.Alloc(bytes, GCHandleType.Pinned);
            Bytes.Length = bytes.Length;
            Bytes.Data = bytes.Length == 0 ? IntPtr.Zero : handle.AddrOfPinnedObject();
        }

        internal void Release()
        {
            if (handle.IsAllocated)
            {
                handle.Free();
            }
        }
    }

    /// <summary>Reads big-endian values in the order in which Rust wrote them.</summary>
    internal sealed class Reader
    {
        private readonly byte[] bytes;
        private int position;

        internal Reader(byte[] bytes)
        {
            this.bytes = bytes;
        }

        internal bool AtEnd
        {
            get { return position == bytes.Length; }
        }

        /// <summary>Moves <paramref name="count"/> bytes on and returns where they began.</summary>
        internal int Take(int count)
        {
            if (count < 0 || count > bytes.Length - position)
            {
                throw new global::@NAMESPACE@.InternalException("a value ends after " + bytes.Length + " bytes, too early");
            }
            int start = position;
            position += count;
            return start;
        }

        internal byte U8()
        {
            return bytes[Take(1)];
        }

        internal ushort U16()
        {
            int at = Take(2);
            return (ushort)(bytes[at] << 8 | bytes[at + 1]);
        }

        internal uint U32()
        {
            int at = Take(4);
            return (uint)bytes[at] << 24 | (uint)bytes[at + 1] << 16 | (uint)bytes[at + 2] << 8 | bytes[at + 3];
        }

        internal ulong U64()
        {
            ulong high = U32();
            return high << 32 | U32();
        }

        internal int I32()
        {
            return unchecked((int)U32());
        }

        internal string Utf8()
        {
            int length = I32();
            return Encoding.UTF8.GetString(bytes, Take(length), length);
        }

        internal byte[] Bytes()
        {
            int length = I32();
            byte[] copy = new byte[length < 0 ? 0 : length];
            Buffer.BlockCopy(bytes, Take(length), copy, 0, copy.Length);
            return copy;
        }
    }

    /// <summary>Writes big-endian values in the order in which Rust reads them.</summary>
    internal sealed class Writer
    {
        // Holds a small record without growing.
        private byte[] bytes = new byte[128];
        private int length;
        private List<Action> undo;

        /// <summary>Makes room for <paramref name="count"/> bytes and returns where they begin.</summary>
        private int Grow(int count)
        {
            int start = length;
            int needed = checked(length + count);
            if (needed > bytes.Length)
            {
                Array.Resize(ref bytes, (int)Math.Max(needed, Math.Min(2L * bytes.Length, 0x7FFFFFC7)));
            }
            length = needed;
            return start;
        }

        /// <summary>Runs <paramref name="action"/> if writing fails later: it gives back what was written so far.</summary>
        internal void OnFailure(Action action)
        {
            if (undo == null)
            {
                undo = new List<Action>();
            }
            undo.Add(action);
        }

        internal void Abandon()
        {
            if (undo != null)
            {
                undo.ForEach(action => action());
            }
        }

        internal void U8(byte value)
        {
            // Not in one expression: the array that is written to must be the one that has grown.
            int at = Grow(1);
            bytes[at] = value;
        }

        internal void U16(ushort value)
        {
            int at = Grow(2);
            bytes[at] = (byte)(value >> 8);
            bytes[at + 1] = unchecked((byte)value);
        }

        internal void U32(uint value)
        {
            int at = Grow(4);
            bytes[at] = (byte)(value >> 24);
            bytes[at + 1] = unchecked((byte)(value >> 16));
            bytes[at + 2] = unchecked((byte)(value >> 8));
            bytes[at + 3] = unchecked((byte)value);
        }

        internal void U64(ulong value)
        {
            U32((uint)(value >> 32));
            U32(unchecked((uint)value));
        }

        internal void I32(int value)
        {
            U32(unchecked((uint)value));
        }

        internal void Utf8(string value)
        {
            int count = Encoding.UTF8.GetByteCount(value);
            I32(count);
            int start = Grow(count);
            Encoding.UTF8.GetBytes(value, 0, value.Length, bytes, start);
        }

        internal void Bytes(byte[] value)
        {
            I32(value.Length);
            int start = Grow(value.Length);
            Buffer.BlockCopy(value, 0, bytes, start, value.Length);
        }

        internal RustBuffer ToRust()
        {
            return RustBuffer.Copy(bytes, length);
        }
    }
