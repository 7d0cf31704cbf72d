using System;
using Xunit;

namespace Tuntrail.Tests
{
    /// <summary>A fact that needs Linux's descriptors in place of an adapter.</summary>
    [AttributeUsage(AttributeTargets.Method)]
    public sealed class LinuxFactAttribute : FactAttribute
    {
        public LinuxFactAttribute()
        {
            if (Environment.OSVersion.Platform != PlatformID.Unix)
            {
                Skip = "needs Linux";
            }
        }
    }

    /// <summary>A fact about access rules, which .NET knows on Windows only, and Mono everywhere.</summary>
    [AttributeUsage(AttributeTargets.Method)]
    public sealed class AccessRulesFactAttribute : FactAttribute
    {
        public AccessRulesFactAttribute()
        {
            if (Environment.OSVersion.Platform != PlatformID.Win32NT && Type.GetType("Mono.Runtime") == null)
            {
                Skip = "needs Windows or Mono";
            }
        }
    }
}
