using System;
using System.Collections.Generic;
using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace Tuntrail
{
    /// <summary>An address and the length of its network's prefix, such as 10.0.0.2/24. Never changes.</summary>
    public sealed class IpPrefix : IEquatable<IpPrefix>
    {
        /// <summary>Joins both.</summary>
        /// <param name="address">Any address; its bits behind the prefix are kept.</param>
        /// <param name="length">0 to 32, or to 128 for IPv6.</param>
        public IpPrefix(IPAddress address, int length)
        {
            if (address == null)
            {
                throw new ArgumentNullException(nameof(address));
            }
            int bits = address.AddressFamily == AddressFamily.InterNetworkV6 ? 128 : 32;
            if (length < 0 || length > bits)
            {
                throw new ArgumentOutOfRangeException(nameof(length), length, "expected 0 to " + bits);
            }
            Address = address;
            Length = length;
        }

        /// <summary>The address.</summary>
        public IPAddress Address { get; }

        /// <summary>How many of its first bits name the network.</summary>
        public int Length { get; }

        /// <summary>Whether it is IPv6.</summary>
        public bool IsV6
        {
            get { return Address.AddressFamily == AddressFamily.InterNetworkV6; }
        }

        /// <summary>Reads <c>10.0.0.0/8</c> or a single address.</summary>
        /// <exception cref="FormatException">It is neither.</exception>
        public static IpPrefix Parse(string text)
        {
            string[] parts = (text ?? "").Split('/');
            IPAddress address = null;
            // IPAddress.TryParse also takes 10.1, which nobody means, and zones, which no prefix has.
            if (parts.Length > 2 || !IsPlain(parts[0]) || !IPAddress.TryParse(parts[0], out address))
            {
                address = null;
            }
            if (address != null)
            {
                int bits = address.GetAddressBytes().Length * 8;
                int length = bits;
                if (parts.Length == 1
                    || (int.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out length) && length <= bits))
                {
                    return new IpPrefix(address, length);
                }
            }
            throw new FormatException("\"" + text + "\" is neither an IP address nor a prefix such as 10.0.0.0/8");
        }

        /// <summary>The prefix with nothing behind it: 10.0.0.2/24 becomes 10.0.0.0/24.</summary>
        public IpPrefix Network()
        {
            byte[] bytes = Address.GetAddressBytes();
            for (int bit = Length; bit < bytes.Length * 8; bit++)
            {
                bytes[bit / 8] &= (byte)(0xff ^ (0x80 >> (bit % 8)));
            }
            return new IpPrefix(new IPAddress(bytes), Length);
        }

        /// <summary>Whether both are the same.</summary>
        public bool Equals(IpPrefix other)
        {
            return other != null && Length == other.Length && Address.Equals(other.Address);
        }

        /// <summary>Whether both are the same.</summary>
        public override bool Equals(object obj)
        {
            return Equals(obj as IpPrefix);
        }

        /// <summary>A number for tables.</summary>
        public override int GetHashCode()
        {
            return Address.GetHashCode() ^ Length;
        }

        /// <summary>As in configuration files.</summary>
        public override string ToString()
        {
            return Address + "/" + Length.ToString(CultureInfo.InvariantCulture);
        }

        private static bool IsPlain(string text)
        {
            return text.IndexOf('%') < 0 && (text.IndexOf(':') >= 0 || text.Split('.').Length == 4);
        }
    }

    /// <summary>What Windows is told of a tunnel's adapter, computed from its configuration. Touches nothing; any thread.</summary>
    public sealed class TunnelPlan
    {
        /// <summary>The MTU if the configuration has none, as in the tunnel itself.</summary>
        private const int DefaultMtu = 1420;
        /// <summary>The least that IPv6 works with; below it, Windows refuses.</summary>
        internal const int MinMtuV6 = 1280;

        private TunnelPlan(IReadOnlyList<IpPrefix> addresses, IReadOnlyList<IpPrefix> routes,
            IReadOnlyList<IPAddress> dns, IReadOnlyList<string> searchDomains, int mtu)
        {
            Addresses = addresses;
            Routes = routes;
            Dns = dns;
            SearchDomains = searchDomains;
            Mtu = mtu;
        }

        /// <summary>The adapter's addresses.</summary>
        public IReadOnlyList<IpPrefix> Addresses { get; }

        /// <summary>What is routed into the tunnel: each network once, a default route as two halves.</summary>
        public IReadOnlyList<IpPrefix> Routes { get; }

        /// <summary>Name servers.</summary>
        public IReadOnlyList<IPAddress> Dns { get; }

        /// <summary>Search domains.</summary>
        public IReadOnlyList<string> SearchDomains { get; }

        /// <summary>The longest packet in bytes.</summary>
        public int Mtu { get; }

        /// <summary>Whether everything of the family goes into the tunnel.</summary>
        public bool TakesAll(bool v6)
        {
            int halves = 0;
            foreach (IpPrefix route in Routes)
            {
                halves += route.IsV6 == v6 && route.Length == 1 ? 1 : 0;
            }
            return halves == 2;
        }

        /// <summary>Computes the plan.</summary>
        /// <remarks>
        /// A default route is made as two halves: they are more specific than the physical network's default route, which so
        /// stays as it is, and is there again at once when the tunnel ends, however it ends. tuntrail's records count
        /// traffic through the halves as exit traffic, as with a whole default route.
        /// </remarks>
        /// <exception cref="FormatException">An address, a prefix or a name server is none.</exception>
        public static TunnelPlan Of(TunnelConfig config)
        {
            if (config == null)
            {
                throw new ArgumentNullException(nameof(config));
            }
            List<IpPrefix> addresses = new List<IpPrefix>();
            bool hasV6 = false;
            foreach (string text in config.Addresses)
            {
                IpPrefix address = IpPrefix.Parse(text);
                hasV6 |= address.IsV6;
                if (!addresses.Contains(address))
                {
                    addresses.Add(address);
                }
            }
            HashSet<IpPrefix> seen = new HashSet<IpPrefix>();
            List<IpPrefix> routes = new List<IpPrefix>();
            foreach (Peer peer in config.Peers)
            {
                foreach (string text in peer.AllowedIps)
                {
                    foreach (IpPrefix route in Halves(IpPrefix.Parse(text).Network()))
                    {
                        if (seen.Add(route))
                        {
                            routes.Add(route);
                        }
                    }
                }
            }
            List<IPAddress> dns = new List<IPAddress>();
            foreach (string text in config.Dns)
            {
                dns.Add(IpPrefix.Parse(text).Address);
            }
            int mtu = config.Mtu ?? DefaultMtu;
            if (hasV6 && mtu < MinMtuV6)
            {
                throw new FormatException("an MTU of " + mtu + " is too small for IPv6: give at least " + MinMtuV6);
            }
            return new TunnelPlan(addresses, routes, dns, config.SearchDomains, mtu);
        }

        private static IEnumerable<IpPrefix> Halves(IpPrefix route)
        {
            if (route.Length > 0)
            {
                yield return route;
                yield break;
            }
            byte[] upper = new byte[route.IsV6 ? 16 : 4];
            yield return new IpPrefix(new IPAddress(upper), 1);
            upper[0] = 0x80;
            yield return new IpPrefix(new IPAddress(upper), 1);
        }
    }
}
