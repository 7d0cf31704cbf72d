// Calls a library that these bindings don't belong to, and prints what comes of it.
using System;
using Fixture;

internal static class Program
{
    private static int Main()
    {
        try
        {
            FixtureFunctions.EchoU8(1);
        }
        catch (Exception error)
        {
            Console.WriteLine(error.GetType().Name + ": " + error.Message);
            try
            {
                new Counter(1);
            }
            catch (Exception again)
            {
                // The second call says the same as the first.
                return again.Message == error.Message ? 0 : 2;
            }
        }
        return 1;
    }
}
