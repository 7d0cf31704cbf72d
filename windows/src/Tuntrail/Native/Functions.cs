// Entry points of Windows. All of them exist on Windows 10 2004 and later, the oldest system that SetInterfaceDnsSettings has.
// Their libraries are looked for in System32 only, not beside the program.
using System;
using System.ComponentModel;
using System.Runtime.InteropServices;

namespace Tuntrail.Native
{
    internal static class Functions
    {
        internal const uint ErrorNotFound = 1168;
        internal const uint ErrorObjectAlreadyExists = 5010;
        /// <summary>DEVICE_NOTIFY_CALLBACK: by a function, so that no window is needed.</summary>
        internal const uint NotifyByCallback = 2;

        [DllImport("iphlpapi.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern void InitializeUnicastIpAddressEntry(out MIB_UNICASTIPADDRESS_ROW row);

        [DllImport("iphlpapi.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern uint CreateUnicastIpAddressEntry(ref MIB_UNICASTIPADDRESS_ROW row);

        [DllImport("iphlpapi.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern uint DeleteUnicastIpAddressEntry(ref MIB_UNICASTIPADDRESS_ROW row);

        [DllImport("iphlpapi.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern uint GetUnicastIpAddressEntry(ref MIB_UNICASTIPADDRESS_ROW row);

        [DllImport("iphlpapi.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern uint GetUnicastIpAddressTable(ushort family, out IntPtr table);

        [DllImport("iphlpapi.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern void InitializeIpForwardEntry(out MIB_IPFORWARD_ROW2 row);

        [DllImport("iphlpapi.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern uint CreateIpForwardEntry2(ref MIB_IPFORWARD_ROW2 row);

        [DllImport("iphlpapi.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern uint DeleteIpForwardEntry2(ref MIB_IPFORWARD_ROW2 row);

        [DllImport("iphlpapi.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern uint GetIpForwardTable2(ushort family, out IntPtr table);

        [DllImport("iphlpapi.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern void FreeMibTable(IntPtr table);

        [DllImport("iphlpapi.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern void InitializeIpInterfaceEntry(ref MIB_IPINTERFACE_ROW row);

        [DllImport("iphlpapi.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern uint GetIpInterfaceEntry(ref MIB_IPINTERFACE_ROW row);

        [DllImport("iphlpapi.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern uint SetIpInterfaceEntry(ref MIB_IPINTERFACE_ROW row);

        [DllImport("iphlpapi.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern uint ConvertInterfaceLuidToGuid(ref ulong luid, out Guid guid);

        [DllImport("iphlpapi.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern uint SetInterfaceDnsSettings(Guid adapter, ref DNS_INTERFACE_SETTINGS settings);

        [DllImport("iphlpapi.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern uint NotifyIpInterfaceChange(
            ushort family, ChangeCallback callback, IntPtr context, byte initial, out IntPtr registration);

        [DllImport("iphlpapi.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern uint NotifyRouteChange2(
            ushort family, ChangeCallback callback, IntPtr context, byte initial, out IntPtr registration);

        [DllImport("iphlpapi.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern uint CancelMibChangeNotify2(IntPtr registration);

        [DllImport("ws2_32.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern int setsockopt(UIntPtr socket, int level, int option, ref uint value, int length);

        [DllImport("ws2_32.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern int getsockopt(UIntPtr socket, int level, int option, byte[] value, ref int length);

        [DllImport("powrprof.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern uint PowerRegisterSuspendResumeNotification(
            uint flags, ref DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS recipient, out IntPtr registration);

        [DllImport("powrprof.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern uint PowerUnregisterSuspendResumeNotification(IntPtr registration);

        [DllImport("powrprof.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern uint PowerSettingRegisterNotification(
            ref Guid setting, uint flags, ref DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS recipient, out IntPtr registration);

        [DllImport("powrprof.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern uint PowerSettingUnregisterNotification(IntPtr registration);

        [DllImport("kernel32.dll", ExactSpelling = true, SetLastError = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        [return: MarshalAs(UnmanagedType.Bool)]
        internal static extern bool GetSystemPowerStatus(out SYSTEM_POWER_STATUS status);

        [DllImport("wintrust.dll", ExactSpelling = true)]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        internal static extern int WinVerifyTrust(IntPtr window, ref Guid action, ref WINTRUST_DATA data);

        /// <summary>What runs when the system tells of suspending, waking up, or the power supply.</summary>
        [UnmanagedFunctionPointer(CallingConvention.Winapi)]
        internal delegate uint PowerCallback(IntPtr context, uint type, IntPtr setting);

        /// <summary>What runs when an interface or a route has changed. Nothing may be thrown in it.</summary>
        [UnmanagedFunctionPointer(CallingConvention.Winapi)]
        internal delegate void ChangeCallback(IntPtr context, IntPtr row, int kind);

        /// <summary>Throws if <paramref name="error"/> is none of success and <paramref name="harmless"/>.</summary>
        internal static void Check(uint error, string what, uint harmless = 0)
        {
            if (error != 0 && error != harmless)
            {
                throw new Win32Exception((int)error, what + ": " + new Win32Exception((int)error).Message);
            }
        }
    }
}
