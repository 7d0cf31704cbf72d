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
        private const int SolSocket = 0xffff;
        private const int SoProtocolInfo = 0x2005;
        private const int IpprotoIp = 0;
        private const int IpprotoIpv6 = 41;
        /// <summary>IP_UNICAST_IF and IPV6_UNICAST_IF.</summary>
        private const int UnicastInterface = 31;
        /// <summary>The loopback interface. What is bound to it can't leave the machine.</summary>
        private const uint Loopback = 1;

        /// <summary>Size of WSAPROTOCOL_INFOW.</summary>
        internal const int ProtocolInfoSize = 628;
        /// <summary>Place of iAddressFamily in it.</summary>
        internal const int ProtocolInfoFamily = 76;

        private readonly Func<ulong?> tunnel;
        // The interface that each family's newest socket is bound to. Locked, as two threads come here.
        private readonly Dictionary<ushort, uint> bound = new Dictionary<ushort, uint>();

        /// <param name="tunnel">The tunnel's adapter, once there is one.</param>
        internal OutsideSockets(Func<ulong?> tunnel)
        {
            this.tunnel = tunnel;
        }

        public bool Protect(ulong socket)
        {
            UIntPtr handle = new UIntPtr(socket);
            byte[] info = new byte[ProtocolInfoSize];
            int length = info.Length;
            if (Functions.getsockopt(handle, SolSocket, SoProtocolInfo, info, ref length) != 0)
            {
                return false;
            }
            ushort family = BitConverter.ToUInt16(info, ProtocolInfoFamily);
            uint index = WayOut(family);
            lock (bound)
            {
                bound[family] = index;
            }
            uint value = OptionValue(family, index);
            int level = family == Families.Inet6 ? IpprotoIpv6 : IpprotoIp;
            return Functions.setsockopt(handle, level, UnicastInterface, ref value, sizeof(uint)) == 0;
        }

        /// <summary>Whether the newest sockets are bound to what is the way out now.</summary>
        internal bool IsCurrent()
        {
            lock (bound)
            {
                foreach (KeyValuePair<ushort, uint> family in bound)
                {
                    if (WayOut(family.Key) != family.Value)
                    {
                        return false;
                    }
                }
                return true;
            }
        }

        private uint WayOut(ushort family)
        {
            PhysicalRoute route = PhysicalRoute.Best(PhysicalRoute.Read(family), tunnel());
            // Without a way out, a socket that is bound to nothing would send into the tunnel as soon as it has a default route.
            return route == null ? Loopback : route.Index;
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
