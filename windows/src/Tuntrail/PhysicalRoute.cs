using System.Collections.Generic;
using System.Net;
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
            foreach (MIB_IPFORWARD_ROW2 route in MibTable.Read<MIB_IPFORWARD_TABLE2, MIB_IPFORWARD_ROW2>(
                Functions.GetIpForwardTable2, family, "can't read the routes"))
            {
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
            return routes;
        }
    }
}
