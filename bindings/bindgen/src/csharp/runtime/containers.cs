    internal sealed class OptionalValue<T> : Converter<T?> where T : struct
    {
        private readonly Converter<T> inner;

        internal OptionalValue(Converter<T> inner)
        {
            this.inner = inner;
        }

        internal override T? Read(Reader reader)
        {
            return reader.U8() == 0 ? (T?)null : inner.Read(reader);
        }

        internal override void Write(Writer writer, T? value)
        {
            writer.U8(value.HasValue ? (byte)1 : (byte)0);
            if (value.HasValue)
            {
                inner.Write(writer, value.Value);
            }
        }
    }

    internal sealed class OptionalReference<T> : Converter<T> where T : class
    {
        private readonly Converter<T> inner;

        internal OptionalReference(Converter<T> inner)
        {
            this.inner = inner;
        }

        internal override T Read(Reader reader)
        {
            return reader.U8() == 0 ? null : inner.Read(reader);
        }

        internal override void Write(Writer writer, T value)
        {
            writer.U8(value == null ? (byte)0 : (byte)1);
            if (value != null)
            {
                inner.Write(writer, value);
            }
        }
    }

    internal sealed class SequenceConverter<T> : Converter<IReadOnlyList<T>>
    {
        private readonly Converter<T> inner;

        internal SequenceConverter(Converter<T> inner)
        {
            this.inner = inner;
        }

        internal override IReadOnlyList<T> Read(Reader reader)
        {
            int count = reader.I32();
            // The count is not trusted with an allocation: a list grows as its items are read.
            List<T> items = new List<T>(Math.Max(0, Math.Min(count, 1024)));
            for (int i = 0; i < count; i++)
            {
                items.Add(inner.Read(reader));
            }
            return items;
        }

        internal override void Write(Writer writer, IReadOnlyList<T> value)
        {
            RequireValue(value);
            writer.I32(value.Count);
            for (int i = 0; i < value.Count; i++)
            {
                inner.Write(writer, value[i]);
            }
        }
    }

    internal sealed class SetConverter<T> : Converter<ISet<T>>
    {
        private readonly Converter<T> inner;

        internal SetConverter(Converter<T> inner)
        {
            this.inner = inner;
        }

        internal override ISet<T> Read(Reader reader)
        {
            int count = reader.I32();
            HashSet<T> items = new HashSet<T>();
            for (int i = 0; i < count; i++)
            {
                items.Add(inner.Read(reader));
            }
            return items;
        }

        internal override void Write(Writer writer, ISet<T> value)
        {
            RequireValue(value);
            writer.I32(value.Count);
            foreach (T item in value)
            {
                inner.Write(writer, item);
            }
        }
    }

    internal sealed class MapConverter<K, V> : Converter<IReadOnlyDictionary<K, V>>
    {
        private readonly Converter<K> keys;
        private readonly Converter<V> values;

        internal MapConverter(Converter<K> keys, Converter<V> values)
        {
            this.keys = keys;
            this.values = values;
        }

        internal override IReadOnlyDictionary<K, V> Read(Reader reader)
        {
            int count = reader.I32();
            Dictionary<K, V> entries = new Dictionary<K, V>();
            for (int i = 0; i < count; i++)
            {
                K key = keys.Read(reader);
                entries[key] = values.Read(reader);
            }
            return entries;
        }

        internal override void Write(Writer writer, IReadOnlyDictionary<K, V> value)
        {
            RequireValue(value);
            writer.I32(value.Count);
            foreach (KeyValuePair<K, V> entry in value)
            {
                keys.Write(writer, entry.Key);
                values.Write(writer, entry.Value);
            }
        }
    }
