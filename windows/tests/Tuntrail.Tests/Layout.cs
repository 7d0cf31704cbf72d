using System;
using System.Collections.Generic;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Text;
using Tuntrail.Native;

namespace Tuntrail.Tests
{
    /// <summary>
    /// Writes sizes and places of fields, as the runtime marshals them, as C that a compiler accepts only if the Windows
    /// headers agree. A Rust test gives it to mingw's compiler.
    /// </summary>
    public static class Layout
    {
        /// <summary>C# field to C expression, where they are not the same: unions, and structures in structures.</summary>
        private static readonly Dictionary<string, string> Fields = new Dictionary<string, string>
        {
            { "SOCKADDR_INET.Port", "Ipv4.sin_port" },
            { "SOCKADDR_INET.Ipv4", "Ipv4.sin_addr" },
            { "SOCKADDR_INET.Ipv6Word0", "Ipv6.sin6_addr" },
            { "SOCKADDR_INET.ScopeId", "Ipv6.sin6_scope_id" },
            // Its name in older headers, among which are mingw's.
            { "SYSTEM_POWER_STATUS.SystemStatusFlag", "Reserved1" },
        };

        private static readonly Type[] Structures =
        {
            typeof(SOCKADDR_INET), typeof(MIB_UNICASTIPADDRESS_ROW), typeof(MIB_UNICASTIPADDRESS_TABLE), typeof(IP_ADDRESS_PREFIX),
            typeof(MIB_IPFORWARD_ROW2), typeof(MIB_IPFORWARD_TABLE2), typeof(MIB_IPINTERFACE_ROW), typeof(DNS_INTERFACE_SETTINGS),
            typeof(SYSTEM_POWER_STATUS), typeof(DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS), typeof(WINTRUST_FILE_INFO),
            typeof(WINTRUST_DATA),
        };

        public static string Statements()
        {
            StringBuilder c = new StringBuilder();
            foreach (Type type in Structures)
            {
                Expect(c, "sizeof(" + type.Name + ")", Marshal.SizeOf(type));
                foreach (FieldInfo field in type.GetFields(BindingFlags.Instance | BindingFlags.Public))
                {
                    string name;
                    if (!Fields.TryGetValue(type.Name + "." + field.Name, out name))
                    {
                        name = field.Name;
                    }
                    if (name.StartsWith("Ipv6Word", StringComparison.Ordinal))
                    {
                        continue;
                    }
                    long place = Marshal.OffsetOf(type, field.Name).ToInt64();
                    Expect(c, "offsetof(" + type.Name + ", " + name + ")", place);
                    if (!field.FieldType.IsValueType || field.FieldType.IsPrimitive)
                    {
                        Expect(c, "sizeof(((" + type.Name + "*)0)->" + name + ")", SizeOf(field, name));
                    }
                }
            }
            Expect(c, "sizeof(WSAPROTOCOL_INFOW)", WindowsSockets.ProtocolInfoSize);
            Expect(c, "offsetof(WSAPROTOCOL_INFOW, iAddressFamily)", WindowsSockets.ProtocolInfoFamily);
            return c.ToString();
        }

        private static int SizeOf(FieldInfo field, string name)
        {
            // sin6_addr, of which the field is the first word.
            if (name == "Ipv6.sin6_addr")
            {
                return 16;
            }
            if (field.FieldType == typeof(string))
            {
                return IntPtr.Size;
            }
            if (field.FieldType.IsArray)
            {
                MarshalAsAttribute how = (MarshalAsAttribute)Attribute.GetCustomAttribute(field, typeof(MarshalAsAttribute));
                return how.SizeConst * Marshal.SizeOf(field.FieldType.GetElementType());
            }
            return Marshal.SizeOf(field.FieldType);
        }

        private static void Expect(StringBuilder c, string expression, long value)
        {
            c.Append("_Static_assert(").Append(expression).Append(" == ").Append(value)
                .Append(", \"").Append(expression).Append("\");\n");
        }
    }
}
