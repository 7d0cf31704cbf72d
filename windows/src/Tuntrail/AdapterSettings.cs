using System;
using System.Collections.Generic;
using System.Net;
using System.Net.Sockets;
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
        /// <summary>For a family that the adapter can do without: where it is switched off, each start waits for nothing.</summary>
        private static readonly TimeSpan OptionalLimit = TimeSpan.FromSeconds(5);
        /// <summary>IpDadStatePreferred: the address is used at once, without looking for another one like it: there is nobody to ask.</summary>
        private const int DadPreferred = 4;

        private readonly ulong luid;
        private readonly IIpHelper system;
        private readonly HashSet<ushort> bound = new HashSet<ushort>();
        private readonly List<string> warnings = new List<string>();
        // What takes back what was done, the latest first.
        private readonly Stack<Action> undo = new Stack<Action>();

        private AdapterSettings(ulong luid, IIpHelper system)
        {
            this.luid = luid;
            this.system = system;
        }

        /// <summary>What of the plan could be left out, and was.</summary>
        internal IReadOnlyList<string> Warnings
        {
            get { return warnings; }
        }

        /// <summary>Applies a plan. If a step fails, those before it are taken back.</summary>
        internal static AdapterSettings Apply(ulong luid, TunnelPlan plan, IIpHelper system)
        {
            AdapterSettings settings = new AdapterSettings(luid, system);
            try
            {
                settings.SetInterface(Families.Inet, plan);
                settings.SetInterface(Families.Inet6, plan);
                foreach (IpPrefix address in plan.Addresses)
                {
                    settings.Add(address);
                }
                settings.SetDns(Families.Inet, plan);
                settings.SetDns(Families.Inet6, plan);
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

        private void SetInterface(ushort family, TunnelPlan plan)
        {
            bool hasAddress = Has(plan.Addresses, family);
            if (!hasAddress && !Has(plan.Routes, family))
            {
                return;
            }
            MIB_IPINTERFACE_ROW row;
            if (!WaitForInterface(family, hasAddress ? ReadyLimit : OptionalLimit, out row))
            {
                string problem = "Windows has not bound " + NameOf(family) + " to the adapter";
                if (hasAddress)
                {
                    throw new InvalidOperationException(
                        problem + " within " + ReadyLimit.TotalSeconds + " s: is it switched off on this machine?");
                }
                // Configurations route both families, whatever the machine has. Without an address nothing of it could be sent.
                warnings.Add(problem + ": its routes are left out");
                return;
            }
            bound.Add(family);
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
                // The plan may have less, if it has no IPv6 address; Windows refuses it.
                row.NlMtu = (uint)Math.Max(plan.Mtu, TunnelPlan.MinMtuV6);
                // A tunnel has no routers to ask, and no neighbours.
                row.DadTransmits = 0;
                row.RouterDiscoveryBehavior = 0;
            }
            Functions.Check(system.SetInterface(ref row), "can't set the adapter's MTU to " + row.NlMtu);
        }

        private bool WaitForInterface(ushort family, TimeSpan limit, out MIB_IPINTERFACE_ROW row)
        {
            using (IInterfaceWatch changes = system.WatchInterfaces(family))
            {
                System.Diagnostics.Stopwatch waited = System.Diagnostics.Stopwatch.StartNew();
                while (!system.TryGetInterface(luid, family, out row))
                {
                    TimeSpan rest = limit - waited.Elapsed;
                    if (rest <= TimeSpan.Zero || !changes.Wait(rest))
                    {
                        return false;
                    }
                }
            }
            return true;
        }

        private void Add(IpPrefix address)
        {
            MIB_UNICASTIPADDRESS_ROW row = system.NewAddress();
            row.InterfaceLuid = luid;
            row.Address = SOCKADDR_INET.Of(address.Address);
            row.OnLinkPrefixLength = (byte)address.Length;
            row.DadState = DadPreferred;
            uint error = system.CreateAddress(ref row);
            if (error == Functions.ErrorObjectAlreadyExists && !IsOurs(address.Address))
            {
                // Also an interface that is gone or not connected keeps its addresses: what another VPN left behind.
                RemoveFromDeadInterfaces(address.Address);
                error = system.CreateAddress(ref row);
            }
            else if (error == Functions.ErrorObjectAlreadyExists)
            {
                error = 0;
            }
            Functions.Check(error, "can't give the adapter the address " + address);
            undo.Push(() => system.DeleteAddress(ref row));
        }

        private bool IsOurs(IPAddress address)
        {
            foreach (MIB_UNICASTIPADDRESS_ROW row in system.Addresses(Families.Of(address.AddressFamily)))
            {
                if (row.InterfaceLuid == luid && address.Equals(row.Address.ToAddress()))
                {
                    return true;
                }
            }
            return false;
        }

        private void RemoveFromDeadInterfaces(IPAddress address)
        {
            ushort family = Families.Of(address.AddressFamily);
            foreach (MIB_UNICASTIPADDRESS_ROW row in system.Addresses(family))
            {
                MIB_IPINTERFACE_ROW holder;
                bool isDead = row.InterfaceLuid != luid
                    && (!system.TryGetInterface(row.InterfaceLuid, family, out holder) || holder.Connected == 0);
                if (isDead && address.Equals(row.Address.ToAddress()))
                {
                    MIB_UNICASTIPADDRESS_ROW left = row;
                    Functions.Check(
                        system.DeleteAddress(ref left),
                        "can't take the address " + address + " from an interface that is not connected",
                        Functions.ErrorNotFound);
                }
            }
        }

        private void AddRoute(IpPrefix route)
        {
            if (!bound.Contains(Families.Of(route.Address.AddressFamily)))
            {
                return;
            }
            MIB_IPFORWARD_ROW2 row = system.NewRoute();
            row.InterfaceLuid = luid;
            row.DestinationPrefix.Prefix = SOCKADDR_INET.Of(route.Address);
            row.DestinationPrefix.PrefixLength = (byte)route.Length;
            // Without a gateway: everything is on the link.
            row.NextHop = new SOCKADDR_INET { si_family = Families.Of(route.Address.AddressFamily) };
            // Added to the interface's.
            row.Metric = 0;
            // A route belongs to its interface: if there is one already, it is the one that is wanted.
            Functions.Check(system.CreateRoute(ref row), "can't route " + route + " into the tunnel",
                Functions.ErrorObjectAlreadyExists);
            undo.Push(() => system.DeleteRoute(ref row));
        }

        private void SetDns(ushort family, TunnelPlan plan)
        {
            List<string> servers = new List<string>();
            foreach (IPAddress server in plan.Dns)
            {
                if (Families.Of(server.AddressFamily) == family)
                {
                    servers.Add(server.ToString());
                }
            }
            // The search list is one for both families.
            string search = family == Families.Inet ? string.Join(",", plan.SearchDomains) : null;
            bool isEmpty = servers.Count == 0 && string.IsNullOrEmpty(search);
            // Also if there are none: Windows keeps them for the adapter's GUID when the adapter is gone, so those of a killed process
            // are still there.
            uint error = system.SetDns(luid, family, string.Join(",", servers), search);
            if (bound.Contains(family))
            {
                Functions.Check(error, "can't set the adapter's name servers");
            }
            // Else nobody asks them: the family isn't there.
            if (!isEmpty && error == 0)
            {
                undo.Push(() => system.SetDns(luid, family, "", search == null ? null : ""));
            }
        }

        private static bool Has(IEnumerable<IpPrefix> prefixes, ushort family)
        {
            foreach (IpPrefix prefix in prefixes)
            {
                if (Families.Of(prefix.Address.AddressFamily) == family)
                {
                    return true;
                }
            }
            return false;
        }

        private static string NameOf(ushort family)
        {
            return family == Families.Inet ? "IPv4" : "IPv6";
        }
    }
}
