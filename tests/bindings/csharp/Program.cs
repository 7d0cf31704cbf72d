// The scenarios of tests/bindings/src/lib.rs in C# 7. Prints "ok NAME" for each that holds; any other ends the program.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using System.Threading;
using Fixture;

internal static partial class Program
{
    private static int Main()
    {
        Run("numbers", Numbers);
        Run("text", TextScenario);
        Run("bytes", Bytes);
        Run("times", Times);
        Run("optionals", Optionals);
        Run("records", Records);
        Run("defaults", Defaults);
        Run("keywords", Keywords);
        Run("lists", Lists);
        Run("enums", Enums);
        Run("errors", Errors);
        Run("flat errors", FlatErrors);
        Run("panics", Panics);
        Run("constructors", Constructors);
        Run("objects", Objects);
        Run("object lifetimes", ObjectLifetimes);
        Run("gone objects", GoneObjects);
        Run("listeners", Listeners);
        Run("listener errors", ListenerErrors);
        Run("listener threads", ListenerThreads);
        Run("rust listeners", RustListeners);
        Run("sinks", Sinks);
        Run("rare types", RareTypes);
        OnlyHere();
        return 0;
    }

    private static void Run(string name, Action scenario)
    {
        scenario();
        Console.WriteLine("ok " + name);
    }

    private static void Equal<T>(T expected, T actual)
    {
        if (!EqualityComparer<T>.Default.Equals(expected, actual))
        {
            throw new Exception("expected " + expected + ", got " + actual);
        }
    }

    private static void Same<T>(IEnumerable<T> expected, IEnumerable<T> actual)
    {
        if (!expected.SequenceEqual(actual))
        {
            throw new Exception("expected [" + string.Join(", ", expected) + "], got [" + string.Join(", ", actual) + "]");
        }
    }

    private static E Throws<E>(Action action) where E : Exception
    {
        try
        {
            action();
        }
        catch (E error)
        {
            return error;
        }
        throw new Exception("expected " + typeof(E).FullName);
    }
}
