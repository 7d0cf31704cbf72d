using System;
using System.Collections.Generic;
using System.Net;
using System.Runtime.InteropServices;
using Tuntrail.Native;

namespace Tuntrail
{
    /// <summary>A default route: by which interface, and which gateway, a family of addresses leaves the machine.</summary>
    internal sealed class PhysicalRoute
    {
        internal PhysicalRoute(ulong luid, uint index, IPAddress gateway, uint metric)
        {
            Luid = luid;
            Index = index;
            Gateway = gateway;
            Metric = metric;
        }

        internal ulong Luid { get; }

        internal uint Index { get; }

        internal IPAddress Gateway { get; }

        /// <summary>Of the route and its interface together: the lowest is used.</summary>
        internal uint Metric { get; }

        /// <summary>The route that Windows would use without the tunnel's adapter; null if there is none.</summary>
        internal static PhysicalRoute Best(IEnumerable<PhysicalRoute> routes, ulong? tunnel)
        {
            PhysicalRoute best = null;
            foreach (PhysicalRoute route in routes)
            {
                if (route.Luid != tunnel && (best == null || route.Metric < best.Metric))
                {
                    best = route;
                }
            }
            return best;
        }

        /// <summary>Reads Windows' default routes of a family, of connected interfaces.</summary>
        internal static IReadOnlyList<PhysicalRoute> Read(ushort family)
        {
            List<PhysicalRoute> routes = new List<PhysicalRoute>();
            IpHelper system = new IpHelper();
            IntPtr table;
            uint error = Functions.GetIpForwardTable2(family, out table);
            if (error == Functions.ErrorNotFound)
            {
                return routes;
            }
            Functions.Check(error, "can't read the routes");
            try
            {
                uint count = (uint)Marshal.ReadInt32(table);
                IntPtr row = table + (int)Marshal.OffsetOf(typeof(MIB_IPFORWARD_TABLE2), nameof(MIB_IPFORWARD_TABLE2.Table));
                int size = Marshal.SizeOf(typeof(MIB_IPFORWARD_ROW2));
                for (uint i = 0; i < count; i++, row += size)
                {
                    MIB_IPFORWARD_ROW2 route = (MIB_IPFORWARD_ROW2)Marshal.PtrToStructure(row, typeof(MIB_IPFORWARD_ROW2));
                    MIB_IPINTERFACE_ROW through;
                    if (route.DestinationPrefix.PrefixLength == 0
                        && system.TryGetInterface(route.InterfaceLuid, family, out through)
                        && through.Connected != 0)
                    {
                        uint metric = route.Metric + through.Metric;
                        routes.Add(new PhysicalRoute(
                            route.InterfaceLuid, route.InterfaceIndex, route.NextHop.ToAddress(), metric));
                    }
                }
            }
            finally
            {
                Functions.FreeMibTable(table);
            }
            return routes;
        }
    }
}
