    internal delegate ulong CloneHandle(ulong handle, ref RustCallStatus status);

    internal delegate void FreeHandle(ulong handle, ref RustCallStatus status);

    /// <summary>
    /// One reference to a Rust object. A call clones it first, so disposing it on another thread never frees an object
    /// in use; after that, calls throw <see cref="ObjectDisposedException"/>.
    /// </summary>
    internal sealed class RustHandle : SafeHandle
    {
        private readonly ulong raw;
        private readonly string owner;
        private readonly CloneHandle clone;
        private readonly FreeHandle free;

        internal RustHandle(ulong raw, string owner, CloneHandle clone, FreeHandle free) : base(IntPtr.Zero, true)
        {
            // A pointer of Rust's may not fit into IntPtr's signed range on 32-bit systems, so it is kept here.
            this.raw = raw;
            this.owner = owner;
            this.clone = clone;
            this.free = free;
        }

        public override bool IsInvalid
        {
            get { return raw == 0; }
        }

        internal ulong Clone()
        {
            bool added = false;
            try
            {
                DangerousAddRef(ref added);
                RustCallStatus status = default(RustCallStatus);
                ulong cloned = clone(raw, ref status);
                status.Check();
                return cloned;
            }
            catch (ObjectDisposedException)
            {
                throw new ObjectDisposedException(owner);
            }
            finally
            {
                if (added)
                {
                    DangerousRelease();
                }
            }
        }

        protected override bool ReleaseHandle()
        {
            Release(raw, free);
            return true;
        }

        /// <summary>Frees one reference. Never throws: it also runs on the finalizer's thread.</summary>
        internal static void Release(ulong raw, FreeHandle free)
        {
            if (raw == 0)
            {
                return;
            }
            RustCallStatus status = default(RustCallStatus);
            free(raw, ref status);
            status.ErrorBuffer.Free();
        }
    }

    /// <summary>Foreign objects that Rust holds, by handle. Handles are odd, those of Rust objects are even.</summary>
    internal sealed class HandleMap<T> where T : class
    {
        private readonly Dictionary<ulong, T> objects = new Dictionary<ulong, T>();
        private ulong next = 1;

        internal int Count
        {
            get
            {
                lock (objects)
                {
                    return objects.Count;
                }
            }
        }

        internal ulong Insert(T target)
        {
            lock (objects)
            {
                ulong handle = next;
                next += 2;
                objects.Add(handle, target);
                return handle;
            }
        }

        internal T Get(ulong handle)
        {
            lock (objects)
            {
                T target;
                if (!objects.TryGetValue(handle, out target))
                {
                    throw new global::@NAMESPACE@.InternalException("no foreign object has the handle " + handle);
                }
                return target;
            }
        }

        internal ulong Clone(ulong handle)
        {
            return Insert(Get(handle));
        }

        internal T Remove(ulong handle)
        {
            lock (objects)
            {
                T target = Get(handle);
                objects.Remove(handle);
                return target;
            }
        }

        internal static bool IsForeign(ulong handle)
        {
            return (handle & 1) == 1;
        }
    }
