    /// <summary>Result of a call across the boundary. Layout is fixed by UniFFI.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct RustCallStatus
    {
        internal const sbyte Success = 0;
        internal const sbyte Error = 1;
        internal const sbyte Unexpected = 2;

        internal sbyte Code;
        internal RustBuffer ErrorBuffer;

        /// <summary>Throws what the call failed with, if it failed. For calls that declare no error.</summary>
        internal void Check()
        {
            if (Code != Success)
            {
                throw Failure();
            }
        }

        /// <summary>Throws what the call failed with, if it failed. <paramref name="errors"/> reads the declared error.</summary>
        internal void Check<E>(Converter<E> errors) where E : Exception
        {
            if (Code == Success)
            {
                return;
            }
            if (Code == Error)
            {
                throw errors.Lift(ErrorBuffer);
            }
            throw Failure();
        }

        private Exception Failure()
        {
            string text = ErrorBuffer.IsEmpty ? "" : TextConverter.Instance.Lift(ErrorBuffer);
            if (Code == Unexpected)
            {
                return new global::@NAMESPACE@.InternalException(text.Length == 0 ? "the library panicked" : text);
            }
            return new global::@NAMESPACE@.InternalException("the library returned an unknown status " + Code + ": " + text);
        }

        /// <summary>Tells Rust that foreign code threw something it doesn't declare.</summary>
        internal void SetUnexpected(Exception error)
        {
            Code = Unexpected;
            try
            {
                ErrorBuffer = TextConverter.Instance.Lower(error.GetType().FullName + ": " + error.Message);
            }
            catch (Exception)
            {
                // Rust takes an empty buffer for an error without a text.
                ErrorBuffer = default(RustBuffer);
            }
        }
    }
