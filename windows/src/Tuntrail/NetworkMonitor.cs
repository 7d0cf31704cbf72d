using System;
using System.Collections.Generic;
using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;
using Tuntrail.Native;

namespace Tuntrail
{
    /// <summary>
    /// Tells a client which network the machine is in, now and whenever Windows tells of a change, until it is disposed of. Sleeps
    /// otherwise. A tunnel moves when the network has changed; automatic uploads heed what the network costs.
    /// </summary>
    public sealed class NetworkMonitor : IDisposable
    {
        private readonly Client client;
        private readonly Func<ulong?> tunnel;
        private readonly Action<Exception> failed;
        // Changes come on several threads; the last to read must be the last to tell.
        private readonly object turn = new object();
        private bool disposed;

        /// <summary>Tells the state, and watches. For a client without a tunnel of this library.</summary>
        /// <param name="client">Who is told.</param>
        /// <param name="failed">Is called, on a thread of the runtime, when Windows could not be asked; may be null.</param>
        public NetworkMonitor(Client client, Action<Exception> failed)
            : this(client, () => null, failed)
        {
        }

        internal NetworkMonitor(Client client, Func<ulong?> tunnel, Action<Exception> failed)
        {
            this.client = client ?? throw new ArgumentNullException(nameof(client));
            this.tunnel = tunnel;
            this.failed = failed;
            // First, so that no change is missed.
            NetworkChange.NetworkAddressChanged += OnChange;
            try
            {
                Tell();
            }
            catch
            {
                Dispose();
                throw;
            }
        }

        /// <summary>Stops watching.</summary>
        public void Dispose()
        {
            NetworkChange.NetworkAddressChanged -= OnChange;
            lock (turn)
            {
                disposed = true;
            }
        }

        /// <summary>Makes the state of what Windows told.</summary>
        internal static NetworkState StateOf(
            PhysicalRoute v4, PhysicalRoute v6, NetworkInterfaceType type, IEnumerable<IPAddress> addresses, uint cost)
        {
            if (v4 == null && v6 == null)
            {
                return new NetworkState(false);
            }
            return new NetworkState(true)
            {
                Id = Identity(v4, v6, addresses),
                Interface = KindOf(type),
                Metered = (cost & (NetworkCost.Fixed | NetworkCost.Variable | NetworkCost.OverDataLimit)) != 0,
                Roaming = (cost & NetworkCost.Roaming) != 0,
                LowData = (cost & (NetworkCost.OverDataLimit | NetworkCost.ApproachingDataLimit)) != 0,
            };
        }

        /// <summary>
        /// Another number for another way out: interfaces, gateways and IPv4 addresses. Not the IPv6 addresses, of which a machine makes
        /// new ones every day without being elsewhere. FNV-1a, as it only has to differ.
        /// </summary>
        internal static ulong Identity(PhysicalRoute v4, PhysicalRoute v6, IEnumerable<IPAddress> addresses)
        {
            List<string> parts = new List<string>();
            foreach (IPAddress address in addresses)
            {
                if (address.AddressFamily == AddressFamily.InterNetwork)
                {
                    parts.Add(address.ToString());
                }
            }
            parts.Sort(StringComparer.Ordinal);
            foreach (PhysicalRoute route in new[] { v4, v6 })
            {
                parts.Add(route == null ? "none" : route.Luid + " " + route.Gateway);
            }
            ulong hash = 0xcbf29ce484222325;
            foreach (char c in string.Join("|", parts))
            {
                hash = unchecked((hash ^ c) * 0x100000001b3);
            }
            return hash;
        }

        internal static InterfaceKind KindOf(NetworkInterfaceType type)
        {
            switch (type)
            {
                case NetworkInterfaceType.Wireless80211:
                    return InterfaceKind.Wifi;
                case NetworkInterfaceType.Wwanpp:
                case NetworkInterfaceType.Wwanpp2:
                    return InterfaceKind.Cellular;
                case NetworkInterfaceType.Ethernet:
                case NetworkInterfaceType.FastEthernetFx:
                case NetworkInterfaceType.FastEthernetT:
                case NetworkInterfaceType.GigabitEthernet:
                    return InterfaceKind.Wired;
                default:
                    return InterfaceKind.Unknown;
            }
        }

        private void OnChange(object sender, EventArgs change)
        {
            try
            {
                Tell();
            }
            catch (Exception error) when (IsExpected(error))
            {
                failed?.Invoke(error);
            }
        }

        private void Tell()
        {
            lock (turn)
            {
                if (!disposed)
                {
                    client.SetNetworkState(Read());
                }
            }
        }

        // Nothing else may end a thread of the runtime, and with it the process.
        private static bool IsExpected(Exception error)
        {
            return error is TuntrailException || error is ObjectDisposedException
                || error is NetworkInformationException || error is System.ComponentModel.Win32Exception;
        }

        private NetworkState Read()
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
            return StateOf(v4, v6, type, addresses, NetworkCost.Read());
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
    }
}
