using System;
using System.Collections.Generic;
using System.Threading;
using Tuntrail.Native;

namespace Tuntrail
{
    /// <summary>What setting an adapter takes of the system; another in tests. Errors are Windows' numbers, 0 is none.</summary>
    internal interface IIpHelper
    {
        /// <summary>False if the family is not bound to the interface, or there is no such interface.</summary>
        bool TryGetInterface(ulong luid, ushort family, out MIB_IPINTERFACE_ROW row);

        uint SetInterface(ref MIB_IPINTERFACE_ROW row);

        /// <summary>Watches the interfaces of a family until the result is disposed of.</summary>
        IInterfaceWatch WatchInterfaces(ushort family);

        /// <summary>An address with Windows' defaults.</summary>
        MIB_UNICASTIPADDRESS_ROW NewAddress();

        uint CreateAddress(ref MIB_UNICASTIPADDRESS_ROW row);

        uint DeleteAddress(ref MIB_UNICASTIPADDRESS_ROW row);

        /// <summary>The addresses of a family on all interfaces.</summary>
        IReadOnlyList<MIB_UNICASTIPADDRESS_ROW> Addresses(ushort family);

        /// <summary>A route with Windows' defaults.</summary>
        MIB_IPFORWARD_ROW2 NewRoute();

        uint CreateRoute(ref MIB_IPFORWARD_ROW2 row);

        uint DeleteRoute(ref MIB_IPFORWARD_ROW2 row);

        /// <summary>Sets a family's name servers and, unless it is null, the search list of both.</summary>
        uint SetDns(ulong luid, ushort family, string servers, string search);
    }

    /// <summary>Waits for changes of interfaces.</summary>
    internal interface IInterfaceWatch : IDisposable
    {
        /// <summary>False if nothing has changed within the time, since the last call or the beginning.</summary>
        bool Wait(TimeSpan limit);
    }

    /// <summary>Windows' IP Helper functions.</summary>
    internal sealed class IpHelper : IIpHelper
    {
        // DNS_INTERFACE_SETTINGS.
        private const uint DnsVersion1 = 1;
        private const ulong DnsIpv6 = 1;
        private const ulong DnsNameServer = 2;
        private const ulong DnsSearchList = 4;

        public bool TryGetInterface(ulong luid, ushort family, out MIB_IPINTERFACE_ROW row)
        {
            row = new MIB_IPINTERFACE_ROW { ZoneIndices = new uint[16] };
            Functions.InitializeIpInterfaceEntry(ref row);
            row.Family = family;
            row.InterfaceLuid = luid;
            uint error = Functions.GetIpInterfaceEntry(ref row);
            Functions.Check(error, "can't read the interface", Functions.ErrorNotFound);
            return error == 0;
        }

        public uint SetInterface(ref MIB_IPINTERFACE_ROW row)
        {
            return Functions.SetIpInterfaceEntry(ref row);
        }

        public IInterfaceWatch WatchInterfaces(ushort family)
        {
            return new InterfaceWatch(family);
        }

        public MIB_UNICASTIPADDRESS_ROW NewAddress()
        {
            MIB_UNICASTIPADDRESS_ROW row;
            Functions.InitializeUnicastIpAddressEntry(out row);
            return row;
        }

        public uint CreateAddress(ref MIB_UNICASTIPADDRESS_ROW row)
        {
            return Functions.CreateUnicastIpAddressEntry(ref row);
        }

        public uint DeleteAddress(ref MIB_UNICASTIPADDRESS_ROW row)
        {
            return Functions.DeleteUnicastIpAddressEntry(ref row);
        }

        public IReadOnlyList<MIB_UNICASTIPADDRESS_ROW> Addresses(ushort family)
        {
            return MibTable.Read<MIB_UNICASTIPADDRESS_TABLE, MIB_UNICASTIPADDRESS_ROW>(
                Functions.GetUnicastIpAddressTable, family, "can't read the addresses");
        }

        public MIB_IPFORWARD_ROW2 NewRoute()
        {
            MIB_IPFORWARD_ROW2 row;
            Functions.InitializeIpForwardEntry(out row);
            return row;
        }

        public uint CreateRoute(ref MIB_IPFORWARD_ROW2 row)
        {
            return Functions.CreateIpForwardEntry2(ref row);
        }

        public uint DeleteRoute(ref MIB_IPFORWARD_ROW2 row)
        {
            return Functions.DeleteIpForwardEntry2(ref row);
        }

        public uint SetDns(ulong luid, ushort family, string servers, string search)
        {
            ulong id = luid;
            Guid adapter;
            uint error = Functions.ConvertInterfaceLuidToGuid(ref id, out adapter);
            if (error != 0)
            {
                return error;
            }
            DNS_INTERFACE_SETTINGS settings = new DNS_INTERFACE_SETTINGS
            {
                Version = DnsVersion1,
                Flags = DnsNameServer | (family == Families.Inet6 ? DnsIpv6 : 0) | (search == null ? 0 : DnsSearchList),
                NameServer = servers,
                SearchList = search,
            };
            return Functions.SetInterfaceDnsSettings(adapter, ref settings);
        }

        private sealed class InterfaceWatch : IInterfaceWatch
        {
            private readonly AutoResetEvent changed = new AutoResetEvent(false);
            private readonly ChangeNotice notice;

            internal InterfaceWatch(ushort family)
            {
                notice = ChangeNotice.OfInterfaces(family, () => changed.Set());
            }

            public bool Wait(TimeSpan limit)
            {
                return changed.WaitOne(limit);
            }

            public void Dispose()
            {
                // Waits for a call that still uses the event.
                notice.Dispose();
                changed.Dispose();
            }
        }
    }
}
