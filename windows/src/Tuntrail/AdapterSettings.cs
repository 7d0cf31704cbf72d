using System;
using System.Collections.Generic;
using System.Net;
using System.Runtime.InteropServices;
using System.Threading;
using Tuntrail.Native;

namespace Tuntrail
{
    /// <summary>
    /// Addresses, routes, MTU and name servers of one adapter, set by its LUID, and taken back by <see cref="Dispose"/>.
    /// Blocks for milliseconds, or until Windows has bound its protocols to a new adapter. One thread at a time.
    /// </summary>
    internal sealed class AdapterSettings : IDisposable
    {
        /// <summary>Preferred over every automatic metric, the least of which is 5: so the adapter's name servers are asked first.</summary>
        private const uint InterfaceMetric = 1;
        /// <summary>Binding protocols to a new adapter takes a fraction of a second; on a machine that is busy with booting, longer.</summary>
        private static readonly TimeSpan ReadyLimit = TimeSpan.FromSeconds(15);

        // DNS_INTERFACE_SETTINGS.
        private const uint DnsVersion1 = 1;
        private const ulong DnsIpv6 = 1;
        private const ulong DnsNameServer = 2;
        private const ulong DnsSearchList = 4;
        /// <summary>IpDadStatePreferred: the address is used at once, without looking for another one like it: there is nobody to ask.</summary>
        private const int DadPreferred = 4;

        private readonly ulong luid;
        // What takes back what was done, the latest first.
        private readonly Stack<Action> undo = new Stack<Action>();

        private AdapterSettings(ulong luid)
        {
            this.luid = luid;
        }

        /// <summary>Applies a plan. If a step fails, those before it are taken back.</summary>
        internal static AdapterSettings Apply(ulong luid, TunnelPlan plan)
        {
            AdapterSettings settings = new AdapterSettings(luid);
            try
            {
                settings.SetInterface(Families.Inet, plan, HasFamily(plan, false));
                settings.SetInterface(Families.Inet6, plan, HasFamily(plan, true));
                foreach (IpPrefix address in plan.Addresses)
                {
                    settings.Add(address);
                }
                settings.SetDns(plan, false);
                settings.SetDns(plan, true);
                foreach (IpPrefix route in plan.Routes)
                {
                    settings.AddRoute(route);
                }
                return settings;
            }
            catch
            {
                settings.Dispose();
                throw;
            }
        }

        /// <summary>Takes everything back, best effort: with its adapter, everything goes anyway but the name servers.</summary>
        public void Dispose()
        {
            while (undo.Count > 0)
            {
                undo.Pop()();
            }
        }

        internal static bool TryGetInterface(ulong luid, ushort family, out MIB_IPINTERFACE_ROW row)
        {
            row = new MIB_IPINTERFACE_ROW { ZoneIndices = new uint[16] };
            Functions.InitializeIpInterfaceEntry(ref row);
            row.Family = family;
            row.InterfaceLuid = luid;
            uint error = Functions.GetIpInterfaceEntry(ref row);
            Functions.Check(error, "can't read the interface", Functions.ErrorNotFound);
            return error == 0;
        }

        private static bool HasFamily(TunnelPlan plan, bool v6)
        {
            foreach (IpPrefix address in plan.Addresses)
            {
                if (address.IsV6 == v6)
                {
                    return true;
                }
            }
            return false;
        }

        private void SetInterface(ushort family, TunnelPlan plan, bool needed)
        {
            MIB_IPINTERFACE_ROW row;
            if (!needed)
            {
                return;
            }
            row = WaitForInterface(family);
            row.NlMtu = (uint)plan.Mtu;
            row.UseAutomaticMetric = 0;
            row.Metric = InterfaceMetric;
            if (family == Families.Inet)
            {
                // Windows refuses what it has given itself.
                row.SitePrefixLength = 0;
            }
            else
            {
                // A tunnel has no routers to ask, and no neighbours.
                row.DadTransmits = 0;
                row.RouterDiscoveryBehavior = 0;
            }
            Functions.Check(Functions.SetIpInterfaceEntry(ref row), "can't set the adapter's MTU to " + plan.Mtu);
        }

        private MIB_IPINTERFACE_ROW WaitForInterface(ushort family)
        {
            MIB_IPINTERFACE_ROW row;
            using (AutoResetEvent changed = new AutoResetEvent(false))
            using (new InterfaceChanges(family, () => changed.Set()))
            {
                System.Diagnostics.Stopwatch waited = System.Diagnostics.Stopwatch.StartNew();
                while (!TryGetInterface(luid, family, out row))
                {
                    TimeSpan rest = ReadyLimit - waited.Elapsed;
                    if (rest <= TimeSpan.Zero || !changed.WaitOne(rest))
                    {
                        string name = family == Families.Inet ? "IPv4" : "IPv6";
                        throw new InvalidOperationException("Windows has not bound " + name + " to the adapter within "
                            + ReadyLimit.TotalSeconds + " s: is it switched off on this machine?");
                    }
                }
            }
            return row;
        }

        private void Add(IpPrefix address)
        {
            MIB_UNICASTIPADDRESS_ROW row;
            Functions.InitializeUnicastIpAddressEntry(out row);
            row.InterfaceLuid = luid;
            row.Address = SOCKADDR_INET.Of(address.Address);
            row.OnLinkPrefixLength = (byte)address.Length;
            row.DadState = DadPreferred;
            Functions.Check(Functions.CreateUnicastIpAddressEntry(ref row), "can't give the adapter the address " + address,
                Functions.ErrorObjectAlreadyExists);
            undo.Push(() => Functions.DeleteUnicastIpAddressEntry(ref row));
        }

        private void AddRoute(IpPrefix route)
        {
            MIB_IPFORWARD_ROW2 row;
            Functions.InitializeIpForwardEntry(out row);
            row.InterfaceLuid = luid;
            row.DestinationPrefix.Prefix = SOCKADDR_INET.Of(route.Address);
            row.DestinationPrefix.PrefixLength = (byte)route.Length;
            // Without a gateway: everything is on the link.
            row.NextHop = new SOCKADDR_INET { si_family = Families.Of(route.Address.AddressFamily) };
            // Added to the interface's.
            row.Metric = 0;
            Functions.Check(Functions.CreateIpForwardEntry2(ref row), "can't route " + route + " into the tunnel",
                Functions.ErrorObjectAlreadyExists);
            undo.Push(() => Functions.DeleteIpForwardEntry2(ref row));
        }

        private void SetDns(TunnelPlan plan, bool v6)
        {
            List<string> servers = new List<string>();
            foreach (IPAddress server in plan.Dns)
            {
                if (server.AddressFamily == System.Net.Sockets.AddressFamily.InterNetworkV6 == v6)
                {
                    servers.Add(server.ToString());
                }
            }
            // The search list is one for both families.
            string search = v6 ? "" : string.Join(",", plan.SearchDomains);
            if (servers.Count == 0 && search.Length == 0)
            {
                return;
            }
            Functions.Check(WriteDns(v6, string.Join(",", servers), search), "can't set the adapter's name servers");
            // They are kept for the adapter's GUID, also when the adapter is gone.
            undo.Push(() => WriteDns(v6, "", ""));
        }

        private uint WriteDns(bool v6, string servers, string search)
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
                Flags = DnsNameServer | (v6 ? DnsIpv6 : DnsSearchList),
                NameServer = servers,
                SearchList = v6 ? null : search,
            };
            return Functions.SetInterfaceDnsSettings(adapter, ref settings);
        }
    }

    /// <summary>Tells of changes to the interfaces of a family until it is disposed of, on a thread of Windows.</summary>
    internal sealed class InterfaceChanges : IDisposable
    {
        // Windows calls it as long as the registration lives; the field keeps the runtime from freeing it.
        private readonly Callback callback;
        private IntPtr registration;

        internal InterfaceChanges(ushort family, Action changed)
        {
            callback = (context, row, kind) => changed();
            Functions.Check(NotifyIpInterfaceChange(family, callback, IntPtr.Zero, 0, out registration),
                "can't watch the interfaces");
        }

        [UnmanagedFunctionPointer(CallingConvention.Winapi)]
        private delegate void Callback(IntPtr context, IntPtr row, int kind);

        /// <summary>Waits for a call that is under way.</summary>
        public void Dispose()
        {
            if (registration != IntPtr.Zero)
            {
                CancelMibChangeNotify2(registration);
                registration = IntPtr.Zero;
            }
            GC.KeepAlive(callback);
        }

        [DllImport("iphlpapi.dll", ExactSpelling = true)]
        private static extern uint NotifyIpInterfaceChange(
            ushort family, Callback callback, IntPtr context, byte initial, out IntPtr registration);

        [DllImport("iphlpapi.dll", ExactSpelling = true)]
        private static extern uint CancelMibChangeNotify2(IntPtr registration);
    }
}
