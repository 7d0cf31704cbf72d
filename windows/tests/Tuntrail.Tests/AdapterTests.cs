using System;
using System.Collections.Generic;
using System.ComponentModel;
using System.Net;
using Tuntrail.Native;
using Xunit;

namespace Tuntrail.Tests
{
    /// <summary>What an adapter is given, by a system that only notes it.</summary>
    public sealed class AdapterTests
    {
        private const ulong Adapter = 90;
        private const ulong Other = 80;
        private const uint AccessDenied = 5;

        private readonly FakeSystem system = new FakeSystem();

        [Fact]
        public void Both_families_are_set_if_only_routes_name_one()
        {
            system.Bind(Adapter, Families.Inet, true);
            system.Bind(Adapter, Families.Inet6, true);
            TunnelConfig config = PlanTests.Config("10.0.0.2/32", "0.0.0.0/0", "::/0");
            config.Mtu = 1200;
            using (AdapterSettings settings = Apply(config))
            {
                Assert.Equal(0, settings.Warnings.Count);
                Assert.Equal("0.0.0.0/1 128.0.0.0/1 ::/1 8000::/1", string.Join(" ", system.Routes));
                Assert.Equal("2 mtu 1200, 23 mtu 1280", string.Join(", ", system.Interfaces));
            }
            Assert.Equal(0, system.Routes.Count);
            Assert.Equal(0, system.Held.Count);
        }

        [Fact]
        public void Without_ipv6_its_routes_are_left_out_with_a_warning()
        {
            system.Bind(Adapter, Families.Inet, true);
            // As Windows says it, where the family isn't there.
            system.DnsErrors[Families.Inet6] = Functions.ErrorNotFound;
            using (AdapterSettings settings = Apply(PlanTests.Config("10.0.0.2/32", "0.0.0.0/0", "::/0")))
            {
                Assert.Equal("0.0.0.0/1 128.0.0.0/1", string.Join(" ", system.Routes));
                Assert.Equal(1, settings.Warnings.Count);
                Assert.Contains("IPv6", settings.Warnings[0]);
            }
        }

        [Fact]
        public void An_address_of_a_family_that_is_not_there_fails()
        {
            system.Bind(Adapter, Families.Inet, true);
            InvalidOperationException error = Assert.Throws<InvalidOperationException>(
                () => Apply(PlanTests.Config("fd00::2/128", "::/0")));
            Assert.Contains("IPv6", error.Message);
        }

        [Fact]
        public void An_address_that_a_dead_interface_has_kept_is_taken_from_it()
        {
            system.Bind(Adapter, Families.Inet, true);
            system.Bind(Other, Families.Inet, false);
            system.Hold(Other, "10.0.0.2");
            system.Hold(Other, "10.0.0.3");
            using (Apply(PlanTests.Config("10.0.0.2/24", "10.0.0.0/24")))
            {
                Assert.Equal("80 10.0.0.3, 90 10.0.0.2", system.HeldText());
            }
            Assert.Equal("80 10.0.0.3", system.HeldText());
        }

        [Fact]
        public void An_address_of_an_interface_that_is_gone_is_taken_too()
        {
            system.Bind(Adapter, Families.Inet, true);
            system.Hold(Other, "10.0.0.2");
            using (Apply(PlanTests.Config("10.0.0.2/24", "10.0.0.0/24")))
            {
                Assert.Equal("90 10.0.0.2", system.HeldText());
            }
        }

        [Fact]
        public void An_address_in_use_elsewhere_is_an_error_and_everything_is_taken_back()
        {
            system.Bind(Adapter, Families.Inet, true);
            system.Bind(Other, Families.Inet, true);
            system.Hold(Other, "10.0.0.2");
            Win32Exception error = Assert.Throws<Win32Exception>(() => Apply(PlanTests.Config("10.0.0.2/24", "10.0.0.0/24")));
            Assert.Equal((int)Functions.ErrorObjectAlreadyExists, error.NativeErrorCode);
            Assert.Contains("10.0.0.2/24", error.Message);
            Assert.Equal("80 10.0.0.2", system.HeldText());
        }

        [Fact]
        public void An_address_that_the_adapter_has_already_is_no_error()
        {
            system.Bind(Adapter, Families.Inet, true);
            system.Hold(Adapter, "10.0.0.2");
            using (Apply(PlanTests.Config("10.0.0.2/24", "10.0.0.0/24")))
            {
                Assert.Equal("90 10.0.0.2", system.HeldText());
            }
        }

        [Fact]
        public void Name_servers_of_an_earlier_run_are_overwritten_by_none()
        {
            system.Bind(Adapter, Families.Inet, true);
            system.Dns[Families.Inet] = "10.0.0.1 corp.example";
            system.Dns[Families.Inet6] = "fd00::1";
            using (Apply(PlanTests.Config("10.0.0.2/24", "10.0.0.0/24")))
            {
                Assert.Equal(" ", system.Dns[Families.Inet]);
                Assert.Equal("", system.Dns[Families.Inet6]);
            }
        }

        [Fact]
        public void Name_servers_are_set_and_taken_back()
        {
            system.Bind(Adapter, Families.Inet, true);
            TunnelConfig config = PlanTests.Config("10.0.0.2/24", "10.0.0.0/24");
            config.Dns = new[] { "10.0.0.1", "10.0.0.3", "fd00::1" };
            config.SearchDomains = new[] { "corp.example" };
            using (Apply(config))
            {
                Assert.Equal("10.0.0.1,10.0.0.3 corp.example", system.Dns[Families.Inet]);
                Assert.Equal("fd00::1", system.Dns[Families.Inet6]);
            }
            Assert.Equal(" ", system.Dns[Families.Inet]);
            Assert.Equal("", system.Dns[Families.Inet6]);
        }

        [Fact]
        public void A_name_server_that_windows_refuses_fails_the_start_and_leaves_nothing()
        {
            system.Bind(Adapter, Families.Inet, true);
            system.DnsErrors[Families.Inet] = AccessDenied;
            Assert.Throws<Win32Exception>(() => Apply(PlanTests.Config("10.0.0.2/24", "10.0.0.0/24")));
            Assert.Equal(0, system.Held.Count);
        }

        private AdapterSettings Apply(TunnelConfig config)
        {
            return AdapterSettings.Apply(Adapter, TunnelPlan.Of(config), system);
        }

        /// <summary>Interfaces, addresses and routes as Windows keeps them.</summary>
        private sealed class FakeSystem : IIpHelper
        {
            internal readonly List<KeyValuePair<ulong, IPAddress>> Held = new List<KeyValuePair<ulong, IPAddress>>();
            internal readonly List<string> Routes = new List<string>();
            internal readonly List<string> Interfaces = new List<string>();
            internal readonly Dictionary<ushort, string> Dns = new Dictionary<ushort, string>();
            internal readonly Dictionary<ushort, uint> DnsErrors = new Dictionary<ushort, uint>();
            private readonly Dictionary<string, byte> bound = new Dictionary<string, byte>();

            internal void Bind(ulong luid, ushort family, bool connected)
            {
                bound[luid + " " + family] = (byte)(connected ? 1 : 0);
            }

            internal void Hold(ulong luid, string address)
            {
                Held.Add(new KeyValuePair<ulong, IPAddress>(luid, IPAddress.Parse(address)));
            }

            internal string HeldText()
            {
                List<string> lines = Held.ConvertAll(entry => entry.Key + " " + entry.Value);
                lines.Sort(StringComparer.Ordinal);
                return string.Join(", ", lines);
            }

            public bool TryGetInterface(ulong luid, ushort family, out MIB_IPINTERFACE_ROW row)
            {
                byte connected;
                bool found = bound.TryGetValue(luid + " " + family, out connected);
                row = new MIB_IPINTERFACE_ROW { InterfaceLuid = luid, Family = family, Connected = connected };
                return found;
            }

            public uint SetInterface(ref MIB_IPINTERFACE_ROW row)
            {
                Interfaces.Add(row.Family + " mtu " + row.NlMtu);
                return 0;
            }

            public IInterfaceWatch WatchInterfaces(ushort family)
            {
                return new NoChanges();
            }

            public MIB_UNICASTIPADDRESS_ROW NewAddress()
            {
                return new MIB_UNICASTIPADDRESS_ROW();
            }

            public uint CreateAddress(ref MIB_UNICASTIPADDRESS_ROW row)
            {
                IPAddress address = row.Address.ToAddress();
                if (Held.Exists(entry => entry.Value.Equals(address)))
                {
                    return Functions.ErrorObjectAlreadyExists;
                }
                Held.Add(new KeyValuePair<ulong, IPAddress>(row.InterfaceLuid, address));
                return 0;
            }

            public uint DeleteAddress(ref MIB_UNICASTIPADDRESS_ROW row)
            {
                KeyValuePair<ulong, IPAddress> entry =
                    new KeyValuePair<ulong, IPAddress>(row.InterfaceLuid, row.Address.ToAddress());
                return Held.Remove(entry) ? 0 : Functions.ErrorNotFound;
            }

            public IReadOnlyList<MIB_UNICASTIPADDRESS_ROW> Addresses(ushort family)
            {
                return Held.ConvertAll(entry => new MIB_UNICASTIPADDRESS_ROW
                {
                    InterfaceLuid = entry.Key,
                    Address = SOCKADDR_INET.Of(entry.Value),
                });
            }

            public MIB_IPFORWARD_ROW2 NewRoute()
            {
                return new MIB_IPFORWARD_ROW2();
            }

            public uint CreateRoute(ref MIB_IPFORWARD_ROW2 row)
            {
                Routes.Add(Text(row));
                return 0;
            }

            public uint DeleteRoute(ref MIB_IPFORWARD_ROW2 row)
            {
                return Routes.Remove(Text(row)) ? 0 : Functions.ErrorNotFound;
            }

            public uint SetDns(ulong luid, ushort family, string servers, string search)
            {
                uint error;
                if (DnsErrors.TryGetValue(family, out error))
                {
                    return error;
                }
                Dns[family] = search == null ? servers : servers + " " + search;
                return 0;
            }

            private static string Text(MIB_IPFORWARD_ROW2 row)
            {
                return row.DestinationPrefix.Prefix.ToAddress() + "/" + row.DestinationPrefix.PrefixLength;
            }
        }

        /// <summary>An interface that isn't there never comes.</summary>
        private sealed class NoChanges : IInterfaceWatch
        {
            public bool Wait(TimeSpan limit)
            {
                return false;
            }

            public void Dispose()
            {
            }
        }
    }
}
