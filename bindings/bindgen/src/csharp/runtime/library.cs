    /// <summary>Makes sure, once, that the native library is there and is the one this code was generated for.</summary>
    internal static partial class Library
    {
        private static readonly global::@NAMESPACE@.LibraryException failure = Verify();

        /// <summary>Called before anything that needs no object yet; objects exist only when it has passed.</summary>
        internal static void Require()
        {
            if (failure != null)
            {
                throw new global::@NAMESPACE@.LibraryException(failure.Message, failure.InnerException);
            }
        }

        private static global::@NAMESPACE@.LibraryException Verify()
        {
            try
            {
                uint contract = Native.ContractVersion();
                if (contract != ExpectedContract)
                {
                    return Mismatch("its UniFFI contract is " + contract + ", expected " + ExpectedContract, null);
                }
                string changed = FirstChange();
                if (changed != null)
                {
                    return Mismatch(changed + " has changed", null);
                }
                RegisterCallbacks();
                return null;
            }
            catch (DllNotFoundException error)
            {
                return new global::@NAMESPACE@.LibraryException("the native library " + Native.Name + " can't be loaded: " + error.Message, error);
            }
            catch (BadImageFormatException error)
            {
                return new global::@NAMESPACE@.LibraryException("the native library " + Native.Name + " is for another processor: " + error.Message, error);
            }
            catch (EntryPointNotFoundException error)
            {
                return Mismatch("it lacks " + error.Message, error);
            }
        }

        private static global::@NAMESPACE@.LibraryException Mismatch(string what, Exception inner)
        {
            return new global::@NAMESPACE@.LibraryException(
                "the native library " + Native.Name + " doesn't belong to this version of the bindings: " + what
                + "; ship both from the same build", inner);
        }
    }
