using System;
using System.Collections.Generic;
using System.Net;
using System.Net.NetworkInformation;
using Tuntrail.Native;

namespace Tuntrail
{
    /// <summary>Who knows which network the machine is in.</summary>
    internal interface INetworkSource
    {
        /// <summary>The network now. Blocks for milliseconds.</summary>
        NetworkState Read();

        /// <summary>Calls <paramref name="changed"/> after each change, on any thread, until the result is disposed of.</summary>
        IDisposable Watch(Action changed);
    }

    /// <summary>Windows, seen without the tunnel's own adapter.</summary>
    internal sealed class WindowsNetwork : INetworkSource
    {
        private readonly Func<ulong?> tunnel;

        /// <param name="tunnel">The tunnel's adapter, once there is one.</param>
        internal WindowsNetwork(Func<ulong?> tunnel)
        {
            this.tunnel = tunnel;
        }

        public IDisposable Watch(Action changed)
        {
            return new Watcher(changed);
        }

        public NetworkState Read()
        {
            PhysicalRoute v4 = PhysicalRoute.Best(PhysicalRoute.Read(Families.Inet), tunnel());
            PhysicalRoute v6 = PhysicalRoute.Best(PhysicalRoute.Read(Families.Inet6), tunnel());
            List<IPAddress> addresses = new List<IPAddress>();
            NetworkInterfaceType type = NetworkInterfaceType.Unknown;
            foreach (NetworkInterface candidate in NetworkInterface.GetAllNetworkInterfaces())
            {
                if (!IsThrough(candidate, v4, NetworkInterfaceComponent.IPv4)
                    && !(v4 == null && IsThrough(candidate, v6, NetworkInterfaceComponent.IPv6)))
                {
                    continue;
                }
                type = candidate.NetworkInterfaceType;
                foreach (UnicastIPAddressInformation address in candidate.GetIPProperties().UnicastAddresses)
                {
                    addresses.Add(address.Address);
                }
            }
            return NetworkMonitor.StateOf(v4, v6, type, addresses, NetworkCost.Read());
        }

        private static bool IsThrough(NetworkInterface candidate, PhysicalRoute route, NetworkInterfaceComponent family)
        {
            if (route == null || !candidate.Supports(family))
            {
                return false;
            }
            IPInterfaceProperties properties = candidate.GetIPProperties();
            int index = family == NetworkInterfaceComponent.IPv4
                ? properties.GetIPv4Properties().Index
                : properties.GetIPv6Properties().Index;
            return index == route.Index;
        }

        /// <summary>
        /// Addresses, routes and interfaces: a default route may appear after its address, another gateway changes no address, and an
        /// interface connects with everything as it was.
        /// </summary>
        private sealed class Watcher : IDisposable
        {
            private readonly NetworkAddressChangedEventHandler addresses;
            private readonly ChangeNotice routes;
            private readonly ChangeNotice interfaces;

            internal Watcher(Action changed)
            {
                addresses = (sender, nothing) => changed();
                NetworkChange.NetworkAddressChanged += addresses;
                try
                {
                    routes = ChangeNotice.OfRoutes(Families.Any, changed);
                    interfaces = ChangeNotice.OfInterfaces(Families.Any, changed);
                }
                catch
                {
                    Dispose();
                    throw;
                }
            }

            public void Dispose()
            {
                NetworkChange.NetworkAddressChanged -= addresses;
                routes?.Dispose();
                interfaces?.Dispose();
            }
        }
    }
}
