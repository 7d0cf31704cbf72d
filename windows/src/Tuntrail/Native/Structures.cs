// Structures of Windows' IP Helper functions, as the Windows SDK declares them for 64-bit systems. Nothing else is here.
// Names of fields are the SDK's: the tests compare each with its headers, and the sizes.
using System;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace Tuntrail.Native
{
    [StructLayout(LayoutKind.Sequential)]
    internal struct SOCKADDR_INET
    {
        /// <summary>AF_INET (2), AF_INET6 (23) or AF_UNSPEC (0), whatever the runtime's own numbers are.</summary>
        public ushort si_family;
        public ushort Port;
        /// <summary>An IPv4 address as on the wire; the flow label of IPv6.</summary>
        public uint Ipv4;
        // Four words, as the address is aligned to 4 bytes only.
        public uint Ipv6Word0;
        public uint Ipv6Word1;
        public uint Ipv6Word2;
        public uint Ipv6Word3;
        public uint ScopeId;

        public static SOCKADDR_INET Of(IPAddress address)
        {
            byte[] bytes = address.GetAddressBytes();
            SOCKADDR_INET result = new SOCKADDR_INET { si_family = Families.Of(address.AddressFamily) };
            if (bytes.Length == 4)
            {
                result.Ipv4 = BitConverter.ToUInt32(bytes, 0);
                return result;
            }
            result.Ipv6Word0 = BitConverter.ToUInt32(bytes, 0);
            result.Ipv6Word1 = BitConverter.ToUInt32(bytes, 4);
            result.Ipv6Word2 = BitConverter.ToUInt32(bytes, 8);
            result.Ipv6Word3 = BitConverter.ToUInt32(bytes, 12);
            return result;
        }

        /// <summary>Null for AF_UNSPEC.</summary>
        public IPAddress ToAddress()
        {
            if (si_family == Families.Inet)
            {
                return new IPAddress(BitConverter.GetBytes(Ipv4));
            }
            if (si_family != Families.Inet6)
            {
                return null;
            }
            byte[] bytes = new byte[16];
            BitConverter.GetBytes(Ipv6Word0).CopyTo(bytes, 0);
            BitConverter.GetBytes(Ipv6Word1).CopyTo(bytes, 4);
            BitConverter.GetBytes(Ipv6Word2).CopyTo(bytes, 8);
            BitConverter.GetBytes(Ipv6Word3).CopyTo(bytes, 12);
            return new IPAddress(bytes);
        }
    }

    internal static class Families
    {
        /// <summary>AF_UNSPEC: all of them.</summary>
        internal const ushort Any = 0;
        internal const ushort Inet = 2;
        internal const ushort Inet6 = 23;

        internal static ushort Of(AddressFamily family)
        {
            return family == AddressFamily.InterNetworkV6 ? Inet6 : Inet;
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct MIB_UNICASTIPADDRESS_ROW
    {
        public SOCKADDR_INET Address;
        public ulong InterfaceLuid;
        public uint InterfaceIndex;
        public int PrefixOrigin;
        public int SuffixOrigin;
        public uint ValidLifetime;
        public uint PreferredLifetime;
        public byte OnLinkPrefixLength;
        public byte SkipAsSource;
        public int DadState;
        public uint ScopeId;
        public long CreationTimeStamp;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct MIB_UNICASTIPADDRESS_TABLE
    {
        public uint NumEntries;
        /// <summary>The first of them.</summary>
        public MIB_UNICASTIPADDRESS_ROW Table;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct IP_ADDRESS_PREFIX
    {
        public SOCKADDR_INET Prefix;
        public byte PrefixLength;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct MIB_IPFORWARD_ROW2
    {
        public ulong InterfaceLuid;
        public uint InterfaceIndex;
        public IP_ADDRESS_PREFIX DestinationPrefix;
        public SOCKADDR_INET NextHop;
        public byte SitePrefixLength;
        public uint ValidLifetime;
        public uint PreferredLifetime;
        public uint Metric;
        public int Protocol;
        public byte Loopback;
        public byte AutoconfigureAddress;
        public byte Publish;
        public byte Immortal;
        public uint Age;
        public int Origin;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct MIB_IPFORWARD_TABLE2
    {
        public uint NumEntries;
        /// <summary>The first of them.</summary>
        public MIB_IPFORWARD_ROW2 Table;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct MIB_IPINTERFACE_ROW
    {
        public ushort Family;
        public ulong InterfaceLuid;
        public uint InterfaceIndex;
        public uint MaxReassemblySize;
        public ulong InterfaceIdentifier;
        public uint MinRouterAdvertisementInterval;
        public uint MaxRouterAdvertisementInterval;
        public byte AdvertisingEnabled;
        public byte ForwardingEnabled;
        public byte WeakHostSend;
        public byte WeakHostReceive;
        public byte UseAutomaticMetric;
        public byte UseNeighborUnreachabilityDetection;
        public byte ManagedAddressConfigurationSupported;
        public byte OtherStatefulConfigurationSupported;
        public byte AdvertiseDefaultRoute;
        public int RouterDiscoveryBehavior;
        public uint DadTransmits;
        public uint BaseReachableTime;
        public uint RetransmitTime;
        public uint PathMtuDiscoveryTimeout;
        public int LinkLocalAddressBehavior;
        public uint LinkLocalAddressTimeout;
        [MarshalAs(UnmanagedType.ByValArray, SizeConst = 16)]
        public uint[] ZoneIndices;
        public uint SitePrefixLength;
        public uint Metric;
        public uint NlMtu;
        public byte Connected;
        public byte SupportsWakeUpPatterns;
        public byte SupportsNeighborDiscovery;
        public byte SupportsRouterDiscovery;
        public uint ReachableTime;
        public byte TransmitOffload;
        public byte ReceiveOffload;
        public byte DisableDefaultRoutes;
    }

    [StructLayout(LayoutKind.Sequential, CharSet = CharSet.Unicode)]
    internal struct DNS_INTERFACE_SETTINGS
    {
        public uint Version;
        public ulong Flags;
        [MarshalAs(UnmanagedType.LPWStr)]
        public string Domain;
        [MarshalAs(UnmanagedType.LPWStr)]
        public string NameServer;
        [MarshalAs(UnmanagedType.LPWStr)]
        public string SearchList;
        public uint RegistrationEnabled;
        public uint RegisterAdapterName;
        public uint EnableLLMNR;
        public uint QueryAdapterName;
        [MarshalAs(UnmanagedType.LPWStr)]
        public string ProfileNameServer;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct SYSTEM_POWER_STATUS
    {
        public byte ACLineStatus;
        public byte BatteryFlag;
        public byte BatteryLifePercent;
        public byte SystemStatusFlag;
        public uint BatteryLifeTime;
        public uint BatteryFullLifeTime;
    }

    /// <summary>DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS: who is called, and with what.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS
    {
        public IntPtr Callback;
        public IntPtr Context;
    }

    [StructLayout(LayoutKind.Sequential, CharSet = CharSet.Unicode)]
    internal struct WINTRUST_FILE_INFO
    {
        public uint cbStruct;
        [MarshalAs(UnmanagedType.LPWStr)]
        public string pcwszFilePath;
        public IntPtr hFile;
        public IntPtr pgKnownSubject;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct WINTRUST_DATA
    {
        public uint cbStruct;
        public IntPtr pPolicyCallbackData;
        public IntPtr pSIPClientData;
        public uint dwUIChoice;
        public uint fdwRevocationChecks;
        public uint dwUnionChoice;
        public IntPtr pFile;
        public uint dwStateAction;
        public IntPtr hWVTStateData;
        public IntPtr pwszURLReference;
        public uint dwProvFlags;
        public uint dwUIContext;
    }
}
