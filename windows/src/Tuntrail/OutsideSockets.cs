using System;
using System.Collections.Generic;
using Tuntrail.Native;

namespace Tuntrail
{
    /// <summary>
    /// Keeps the tunnel's own datagrams out of the tunnel: binds each of its sockets to the physical interface that its family's
    /// default route leads to. No route is added for that, so none is left behind, also if the process is killed. The tunnel asks again for
    /// the new sockets that it makes after a change of the network. Called on the threads that <see cref="ISocketProtector"/> names.
    /// </summary>
    internal sealed class OutsideSockets : ISocketProtector
    {
        /// <summary>The loopback interface. What is bound to it can't leave the machine.</summary>
        internal const uint Loopback = 1;

        private readonly Func<ulong?> tunnel;
        private readonly ISocketSystem system;
        // The interface that each family's newest socket is bound to. Locked, as two threads come here.
        private readonly Dictionary<ushort, uint> bound = new Dictionary<ushort, uint>();

        /// <param name="tunnel">The tunnel's adapter, once there is one.</param>
        internal OutsideSockets(Func<ulong?> tunnel)
            : this(tunnel, new WindowsSockets())
        {
        }

        internal OutsideSockets(Func<ulong?> tunnel, ISocketSystem system)
        {
            this.tunnel = tunnel;
            this.system = system;
        }

        public bool Protect(ulong socket)
        {
            ushort family;
            if (!system.TryGetFamily(socket, out family))
            {
                return false;
            }
            // Under the lock: between reading the routes and noting what came of it, nobody may find the socket before it current.
            lock (bound)
            {
                PhysicalRoute route = WayOut(family);
                // Without a way out, a socket that is bound to nothing would send into the tunnel as soon as it has a default route.
                uint index = route == null ? Loopback : route.Index;
                bound[family] = index;
                return system.Bind(socket, family, index);
            }
        }

        /// <summary>
        /// Whether there is another way out than the newest sockets are bound to. Not if there is none: new sockets would be no
        /// better off, and the way out may come back as it was.
        /// </summary>
        internal bool AreStale()
        {
            lock (bound)
            {
                foreach (KeyValuePair<ushort, uint> family in bound)
                {
                    PhysicalRoute route = WayOut(family.Key);
                    if (route != null && route.Index != family.Value)
                    {
                        return true;
                    }
                }
                return false;
            }
        }

        private PhysicalRoute WayOut(ushort family)
        {
            return PhysicalRoute.Best(system.DefaultRoutes(family), tunnel());
        }
    }

    /// <summary>What binding sockets takes of the system; another in tests.</summary>
    internal interface ISocketSystem
    {
        /// <summary>The address family of a socket, as Windows numbers them. False if it is none.</summary>
        bool TryGetFamily(ulong socket, out ushort family);

        /// <summary>Default routes of a family, of connected interfaces.</summary>
        IReadOnlyList<PhysicalRoute> DefaultRoutes(ushort family);

        /// <summary>Lets a socket send by this interface only. False if it can't be.</summary>
        bool Bind(ulong socket, ushort family, uint index);
    }

    /// <summary>Windows' sockets.</summary>
    internal sealed class WindowsSockets : ISocketSystem
    {
        private const int SolSocket = 0xffff;
        private const int SoProtocolInfo = 0x2005;
        private const int IpprotoIp = 0;
        private const int IpprotoIpv6 = 41;
        /// <summary>IP_UNICAST_IF and IPV6_UNICAST_IF.</summary>
        private const int UnicastInterface = 31;

        /// <summary>Size of WSAPROTOCOL_INFOW.</summary>
        internal const int ProtocolInfoSize = 628;
        /// <summary>Place of iAddressFamily in it.</summary>
        internal const int ProtocolInfoFamily = 76;

        public bool TryGetFamily(ulong socket, out ushort family)
        {
            byte[] info = new byte[ProtocolInfoSize];
            int length = info.Length;
            bool known = Functions.getsockopt(new UIntPtr(socket), SolSocket, SoProtocolInfo, info, ref length) == 0;
            family = BitConverter.ToUInt16(info, ProtocolInfoFamily);
            return known;
        }

        public IReadOnlyList<PhysicalRoute> DefaultRoutes(ushort family)
        {
            return PhysicalRoute.Read(family);
        }

        public bool Bind(ulong socket, ushort family, uint index)
        {
            uint value = OptionValue(family, index);
            int level = family == Families.Inet6 ? IpprotoIpv6 : IpprotoIp;
            return Functions.setsockopt(new UIntPtr(socket), level, UnicastInterface, ref value, sizeof(uint)) == 0;
        }

        /// <summary>IPv4's option takes the interface's number in network order, IPv6's in the machine's.</summary>
        internal static uint OptionValue(ushort family, uint index)
        {
            return family == Families.Inet6
                ? index
                : unchecked((uint)System.Net.IPAddress.HostToNetworkOrder((int)index));
        }
    }
}
