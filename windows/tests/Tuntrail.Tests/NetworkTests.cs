using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Net;
using System.Runtime.InteropServices;
using System.Threading;
using Tuntrail.Native;
using Xunit;

namespace Tuntrail.Tests
{
    /// <summary>A real tunnel whose sockets are bound as on Windows, while networks come and go; only Windows is made up.</summary>
    public sealed class NetworkTests
    {
        private const uint WifiIndex = 70;
        private static readonly PhysicalRoute Wifi = new PhysicalRoute(7, WifiIndex, IPAddress.Parse("192.168.1.1"), 50);
        private static readonly PhysicalRoute Cable = new PhysicalRoute(8, 80, IPAddress.Parse("10.1.1.1"), 25);
        private static readonly PhysicalRoute Own = new PhysicalRoute(9, 90, IPAddress.Any, 1);

        [Fact]
        public void A_socket_is_bound_to_the_way_out_and_to_nothing_without_one()
        {
            FakeNetwork network = new FakeNetwork();
            OutsideSockets sockets = new OutsideSockets(() => 9, network);
            network.Routes = new[] { Wifi, Own };
            Assert.True(sockets.Protect(FakeNetwork.MadeUp));
            Assert.Equal(WifiIndex, network.Bound.Take());
            Assert.False(sockets.AreStale());
            network.Routes = new[] { Wifi, Cable, Own };
            Assert.True(sockets.AreStale());
            // Nothing would be better; and it may come back as it was.
            network.Routes = new[] { Own };
            Assert.False(sockets.AreStale());
            Assert.True(sockets.Protect(FakeNetwork.MadeUp));
            Assert.Equal(OutsideSockets.Loopback, network.Bound.Take());
            network.Routes = new[] { Wifi, Own };
            Assert.True(sockets.AreStale());
            // Only families that have sockets matter.
            Assert.False(new OutsideSockets(() => 9, network).AreStale());
        }

        [Fact]
        public void What_is_no_socket_is_not_protected()
        {
            Assert.False(new OutsideSockets(() => 9, new FakeNetwork()).Protect(FakeNetwork.NoSocket));
        }

        [LinuxFact]
        public void A_tunnel_that_starts_offline_moves_to_the_first_network()
        {
            FakeNetwork network = new FakeNetwork();
            Watched(network, (client, monitor) =>
            {
                network.ExpectBound(OutsideSockets.Loopback);
                network.Routes = new[] { Wifi };
                network.Change();
                network.ExpectBound(WifiIndex);
            });
        }

        [LinuxFact]
        public void A_tunnel_that_wakes_up_before_its_network_follows_it_though_it_is_the_same()
        {
            FakeNetwork network = new FakeNetwork { Routes = new[] { Wifi } };
            Watched(network, (client, monitor) =>
            {
                network.ExpectBound(WifiIndex);
                // Asleep, Wi-Fi goes; what the power monitor does after waking up comes before Wi-Fi is back.
                network.Routes = new PhysicalRoute[0];
                client.RefreshTunnel();
                network.ExpectBound(OutsideSockets.Loopback);
                network.Routes = new[] { Wifi };
                network.Change();
                network.ExpectBound(WifiIndex);
            });
        }

        [LinuxFact]
        public void A_failure_to_read_the_network_is_told_and_the_next_change_is_read()
        {
            FakeNetwork network = new FakeNetwork { Routes = new[] { Wifi } };
            Watched(network, (client, monitor) =>
            {
                network.ExpectBound(WifiIndex);
                network.Failure = new UnauthorizedAccessException("on purpose");
                network.Change();
                Exception told;
                Assert.True(network.Failures.TryTake(out told, Bench.Limit));
                Assert.Equal("on purpose", told.Message);
                network.Failure = null;
                network.Routes = new[] { Cable };
                network.Change();
                network.ExpectBound(Cable.Index);
            });
        }

        [LinuxFact]
        public void A_burst_of_changes_is_read_once_more_and_nothing_after_the_end()
        {
            FakeNetwork network = new FakeNetwork { Routes = new[] { Wifi } };
            Watched(network, (client, monitor) =>
            {
                network.ExpectRead();
                ManualResetEventSlim go = new ManualResetEventSlim();
                network.Gate = go;
                // The first is being read, the second will be; the others ask for nothing that the second doesn't see.
                network.Change();
                Assert.True(network.Reading.Wait(Bench.Limit));
                for (int i = 0; i < 20; i++)
                {
                    network.Change();
                }
                network.Gate = null;
                go.Set();
                network.ExpectRead();
                network.ExpectRead();
                monitor.Dispose();
                Assert.False(network.IsWatched);
                Assert.Equal(0, network.Reads.Count);
            });
        }

        /// <summary>Starts a tunnel and what watches over it, and does something with both.</summary>
        private static void Watched(FakeNetwork network, Action<Client, NetworkMonitor> work)
        {
            using (Bench bench = new Bench(ClientTests.Server()))
            using (PacketEnd end = new PacketEnd())
            {
                OutsideSockets sockets = new OutsideSockets(() => null, network);
                Client client = bench.Left.Client;
                client.StartTunnel(
                    PlanTests.Config("10.9.0.1/32", "10.9.0.2/32"), new TunDevice.Tun(end.TakeTheirs()), sockets, null);
                using (NetworkMonitor monitor = new NetworkMonitor(client, network, sockets.AreStale, network.Failures.Add))
                {
                    work(client, monitor);
                }
            }
        }

        /// <summary>Routes of IPv4 alone, for sockets of Linux.</summary>
        private sealed class FakeNetwork : INetworkSource, ISocketSystem
        {
            internal const ulong NoSocket = ulong.MaxValue;
            /// <summary>A socket of IPv4 that is none of the machine's.</summary>
            internal const ulong MadeUp = ulong.MaxValue - 1;

            internal readonly BlockingCollection<uint> Bound = new BlockingCollection<uint>();
            internal readonly BlockingCollection<bool> Reads = new BlockingCollection<bool>();
            internal readonly BlockingCollection<Exception> Failures = new BlockingCollection<Exception>();
            internal readonly ManualResetEventSlim Reading = new ManualResetEventSlim();
            private volatile Action changed;
            private uint? last;

            internal volatile PhysicalRoute[] Routes = new PhysicalRoute[0];
            internal volatile Exception Failure;
            internal volatile ManualResetEventSlim Gate;

            internal bool IsWatched
            {
                get { return changed != null; }
            }

            internal void Change()
            {
                changed();
            }

            /// <summary>Waits until the network has been read once more.</summary>
            internal void ExpectRead()
            {
                bool read;
                Assert.True(Reads.TryTake(out read, Bench.Limit));
            }

            /// <summary>Waits for a socket that is not bound as the one before, and expects this interface.</summary>
            internal void ExpectBound(uint index)
            {
                uint bound;
                do
                {
                    Assert.True(Bound.TryTake(out bound, Bench.Limit));
                }
                while (bound == last);
                Assert.Equal(index, bound);
                last = index;
            }

            public NetworkState Read()
            {
                ManualResetEventSlim gate = Gate;
                if (gate != null)
                {
                    Reading.Set();
                    Assert.True(gate.Wait(Bench.Limit));
                }
                Reads.Add(true);
                if (Failure != null)
                {
                    throw Failure;
                }
                return NetworkMonitor.StateOf(
                    PhysicalRoute.Best(Routes, null), null, System.Net.NetworkInformation.NetworkInterfaceType.Wireless80211,
                    new IPAddress[0], NetworkCost.Unknown);
            }

            public IDisposable Watch(Action onChange)
            {
                changed = onChange;
                return new End(this);
            }

            public bool TryGetFamily(ulong socket, out ushort family)
            {
                const int solSocket = 1;
                const int domain = 39;
                const int inet6 = 10;
                int length = sizeof(int);
                int found = Families.Inet;
                bool known = socket == MadeUp || (socket != NoSocket
                    && getsockopt(checked((int)socket), solSocket, domain, out found, ref length) == 0);
                family = found == inet6 ? Families.Inet6 : Families.Inet;
                return known;
            }

            public IReadOnlyList<PhysicalRoute> DefaultRoutes(ushort family)
            {
                return family == Families.Inet ? Routes : new PhysicalRoute[0];
            }

            public bool Bind(ulong socket, ushort family, uint index)
            {
                if (family == Families.Inet)
                {
                    Bound.Add(index);
                }
                return true;
            }

            [DllImport("libc", SetLastError = true)]
            private static extern int getsockopt(int socket, int level, int option, out int value, ref int length);

            private sealed class End : IDisposable
            {
                private readonly FakeNetwork network;

                internal End(FakeNetwork network)
                {
                    this.network = network;
                }

                public void Dispose()
                {
                    network.changed = null;
                }
            }
        }
    }
}
