using System;
using System.Collections.Generic;
using System.Net;
using System.Net.NetworkInformation;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
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
        private readonly INetworkSource source;
        private readonly Func<bool> isStale;
        private readonly Action<Exception> failed;
        private readonly IDisposable watch;
        // The last to read must be the last to tell.
        private readonly object turn = new object();
        // 1 while somebody will read what has changed.
        private int asked;
        private bool disposed;

        /// <summary>Tells the state, and watches. For a client without a tunnel of this library.</summary>
        /// <param name="client">Who is told.</param>
        /// <param name="failed">Is called, on a thread of the pool, when Windows could not be asked; may be null.</param>
        public NetworkMonitor(Client client, Action<Exception> failed)
            : this(client, new WindowsNetwork(() => null), () => false, failed)
        {
        }

        /// <param name="client">Who is told.</param>
        /// <param name="source">Who knows of networks.</param>
        /// <param name="isStale">Whether the tunnel's sockets are bound to what is no longer the way out. The state of the network alone
        /// doesn't tell that: sockets that were made while there was no network are bound to nothing, and the network may come back as
        /// it was.</param>
        /// <param name="failed">Is called, on a thread of the pool, when Windows could not be asked; may be null.</param>
        internal NetworkMonitor(Client client, INetworkSource source, Func<bool> isStale, Action<Exception> failed)
        {
            this.client = client ?? throw new ArgumentNullException(nameof(client));
            this.source = source;
            this.isStale = isStale;
            this.failed = failed;
            // First, so that no change is missed.
            watch = source.Watch(OnChange);
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
            watch.Dispose();
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

        // Changes come in bursts, on threads of Windows: one thread of the pool reads what came of them.
        private void OnChange()
        {
            if (Interlocked.Exchange(ref asked, 1) == 0)
            {
                Task.Run(() => TellAgain());
            }
        }

        private void TellAgain()
        {
            try
            {
                Tell();
            }
            // Whatever it is, it must neither end the process nor the watching.
            catch (Exception error)
            {
                failed?.Invoke(error);
            }
        }

        private void Tell()
        {
            lock (turn)
            {
                // Before it reads: what changes from now on is read by the next one, who waits for the lock.
                Interlocked.Exchange(ref asked, 0);
                if (disposed)
                {
                    return;
                }
                client.SetNetworkState(source.Read());
                if (isStale())
                {
                    client.RefreshTunnel();
                }
            }
        }
    }
}
