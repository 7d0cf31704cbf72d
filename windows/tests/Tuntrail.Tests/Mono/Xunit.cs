// The few parts of xunit that the tests use, for Mono, where there is no NuGet. Runs every fact, or writes the layouts as C.
using System;
using System.Collections.Generic;
using System.Reflection;

namespace Xunit
{
    [AttributeUsage(AttributeTargets.Method)]
    public class FactAttribute : Attribute
    {
        public string Skip { get; set; }
    }

    public sealed class AssertException : Exception
    {
        public AssertException(string message) : base(message)
        {
        }
    }

    public static class Assert
    {
        public static void Equal<T>(T expected, T actual)
        {
            if (!EqualityComparer<T>.Default.Equals(expected, actual))
            {
                throw new AssertException("expected " + expected + ", got " + actual);
            }
        }

        public static void NotEqual<T>(T expected, T actual)
        {
            if (EqualityComparer<T>.Default.Equals(expected, actual))
            {
                throw new AssertException("expected something else than " + expected);
            }
        }

        public static void True(bool condition)
        {
            Equal(true, condition);
        }

        public static void False(bool condition)
        {
            Equal(false, condition);
        }

        public static void Null(object value)
        {
            Equal(null, value);
        }

        public static void Contains(string expected, string actual)
        {
            if (actual == null || actual.IndexOf(expected, StringComparison.Ordinal) < 0)
            {
                throw new AssertException("expected \"" + expected + "\" in \"" + actual + "\"");
            }
        }

        public static T Throws<T>(Action action) where T : Exception
        {
            try
            {
                action();
            }
            catch (T error)
            {
                return error;
            }
            throw new AssertException("expected " + typeof(T).FullName);
        }
    }

    internal static class Program
    {
        private static int Main(string[] arguments)
        {
            if (arguments.Length == 1 && arguments[0] == "--layout")
            {
                Console.Write(Tuntrail.Tests.Layout.Statements());
                return 0;
            }
            int failed = 0;
            foreach (Type type in Assembly.GetExecutingAssembly().GetTypes())
            {
                foreach (MethodInfo method in type.GetMethods())
                {
                    FactAttribute fact = (FactAttribute)Attribute.GetCustomAttribute(method, typeof(FactAttribute));
                    if (fact != null && fact.Skip == null)
                    {
                        failed += Run(type, method) ? 0 : 1;
                    }
                }
            }
            return failed == 0 ? 0 : 1;
        }

        // One value for each fact, as xunit does it.
        private static bool Run(Type type, MethodInfo method)
        {
            string name = type.Name + "." + method.Name;
            try
            {
                object tests = Activator.CreateInstance(type);
                try
                {
                    method.Invoke(tests, null);
                }
                finally
                {
                    (tests as IDisposable)?.Dispose();
                }
                Console.WriteLine("ok " + name);
                return true;
            }
            catch (Exception error)
            {
                Console.WriteLine("FAILED " + name + ": " + (error.InnerException ?? error));
                return false;
            }
        }
    }
}
