    /// <summary>The library panicked, or the two sides disagree on how a value looks: a bug, not a state of affairs.</summary>
    public sealed class InternalException : global::System.Exception
    {
        internal InternalException(string message) : base(message)
        {
        }
    }

    /// <summary>The native library is missing or was built from other sources than this code was generated from.</summary>
    public sealed class LibraryException : global::System.Exception
    {
        internal LibraryException(string message, global::System.Exception inner) : base(message, inner)
        {
        }
    }
