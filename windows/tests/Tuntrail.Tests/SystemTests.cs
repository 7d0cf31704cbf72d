using System.Net;
using System.Net.NetworkInformation;
using System.Reflection;
using System.Runtime.InteropServices;
using Tuntrail.Native;
using Xunit;

namespace Tuntrail.Tests
{
    /// <summary>What is made of what Windows tells.</summary>
    public sealed class SystemTests
    {
        private static readonly PhysicalRoute Wifi = new PhysicalRoute(7, 70, IPAddress.Parse("192.168.1.1"), 50);
        private static readonly PhysicalRoute Cable = new PhysicalRoute(8, 80, IPAddress.Parse("10.1.1.1"), 25);
        private static readonly PhysicalRoute Tunnel = new PhysicalRoute(9, 90, IPAddress.Any, 1);
        private static readonly IPAddress[] Addresses = { IPAddress.Parse("192.168.1.5"), IPAddress.Parse("2001:db8::5") };

        [Fact]
        public void The_way_out_is_the_cheapest_default_route_but_never_the_tunnel()
        {
            PhysicalRoute[] all = { Wifi, Tunnel, Cable };
            Assert.Equal(8UL, PhysicalRoute.Best(all, 9).Luid);
            Assert.Equal(9UL, PhysicalRoute.Best(all, null).Luid);
            Assert.Null(PhysicalRoute.Best(new[] { Tunnel }, 9));
        }

        [Fact]
        public void Another_way_out_is_another_network_and_a_new_ipv6_address_is_not()
        {
            ulong id = NetworkMonitor.Identity(Wifi, null, Addresses);
            IPAddress[] laterV6 = { Addresses[0], IPAddress.Parse("2001:db8::6") };
            IPAddress[] laterV4 = { IPAddress.Parse("192.168.1.6") };
            PhysicalRoute otherGateway = new PhysicalRoute(7, 70, IPAddress.Parse("192.168.1.254"), 50);
            Assert.Equal(id, NetworkMonitor.Identity(Wifi, null, laterV6));
            Assert.NotEqual(id, NetworkMonitor.Identity(Wifi, null, laterV4));
            Assert.NotEqual(id, NetworkMonitor.Identity(Cable, null, Addresses));
            Assert.NotEqual(id, NetworkMonitor.Identity(otherGateway, null, Addresses));
            Assert.NotEqual(id, NetworkMonitor.Identity(Wifi, Cable, Addresses));
            Assert.NotEqual(id, NetworkMonitor.Identity(null, Wifi, Addresses));
        }

        [Fact]
        public void Without_a_default_route_there_is_no_network()
        {
            NetworkState state = NetworkMonitor.StateOf(null, null, NetworkInterfaceType.Ethernet, Addresses, NetworkCost.Fixed);
            Assert.False(state.Connected);
            Assert.Equal(0UL, state.Id);
        }

        [Fact]
        public void The_kind_and_the_cost_of_a_network_are_told()
        {
            NetworkState phone = NetworkMonitor.StateOf(
                Wifi, null, NetworkInterfaceType.Wwanpp, Addresses, NetworkCost.Variable | NetworkCost.Roaming | NetworkCost.ApproachingDataLimit);
            Assert.Equal<InterfaceKind?>(InterfaceKind.Cellular, phone.Interface);
            Assert.True(phone.Connected && phone.Metered && phone.Roaming && phone.LowData);
            NetworkState home = NetworkMonitor.StateOf(Wifi, null, NetworkInterfaceType.Wireless80211, Addresses, 1);
            Assert.Equal<InterfaceKind?>(InterfaceKind.Wifi, home.Interface);
            Assert.False(home.Metered || home.Roaming || home.LowData);
            Assert.Equal(InterfaceKind.Wired, NetworkMonitor.KindOf(NetworkInterfaceType.GigabitEthernet));
            Assert.Equal(InterfaceKind.Unknown, NetworkMonitor.KindOf(NetworkInterfaceType.Ppp));
        }

        [Fact]
        public void The_socket_option_has_its_number_in_network_order_for_ipv4_only()
        {
            Assert.Equal(0x12000000U, WindowsSockets.OptionValue(Families.Inet, 0x12));
            Assert.Equal(0xf0010000U, WindowsSockets.OptionValue(Families.Inet, 0x1f0));
            Assert.Equal(0x12U, WindowsSockets.OptionValue(Families.Inet6, 0x12));
        }

        [Fact]
        public void Power_is_told_with_and_without_a_battery()
        {
            PowerState laptop = PowerMonitor.StateOf(Status(0, 1, 37, 1));
            Assert.Equal<byte?>(37, laptop.BatteryPercent);
            Assert.True(laptop.LowPower);
            Assert.False(laptop.Charging);
            PowerState desktop = PowerMonitor.StateOf(Status(1, 128, 255, 0));
            Assert.Equal<byte?>(null, desktop.BatteryPercent);
            Assert.True(desktop.Charging);
            Assert.False(desktop.LowPower);
            PowerState unknown = PowerMonitor.StateOf(Status(255, 255, 255, 0));
            Assert.Equal<byte?>(null, unknown.BatteryPercent);
            Assert.False(unknown.Charging);
        }

        [Fact]
        public void Addresses_survive_the_way_through_windows_structures()
        {
            foreach (string text in new[] { "10.1.2.3", "2001:db8:1:2:3:4:5:6", "0.0.0.0", "::" })
            {
                IPAddress address = IPAddress.Parse(text);
                Assert.Equal(address, SOCKADDR_INET.Of(address).ToAddress());
            }
            Assert.Null(new SOCKADDR_INET().ToAddress());
            // The bytes must be where Windows looks for them: 10.1.2.3 in the order of the wire, at 4.
            System.IntPtr memory = Marshal.AllocHGlobal(Marshal.SizeOf(typeof(SOCKADDR_INET)));
            Marshal.StructureToPtr(SOCKADDR_INET.Of(IPAddress.Parse("10.1.2.3")), memory, false);
            byte[] bytes = new byte[8];
            Marshal.Copy(memory, bytes, 0, 8);
            Marshal.FreeHGlobal(memory);
            Assert.Equal("02-00-00-00-0A-01-02-03", System.BitConverter.ToString(bytes));
        }

        [Fact]
        public void Windows_own_libraries_are_taken_from_its_own_folder()
        {
            int imports = 0;
            foreach (System.Type type in typeof(TuntrailClient).Assembly.GetTypes())
            {
                foreach (MethodInfo method in type.GetMethods(BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic))
                {
                    DllImportAttribute import = method.GetCustomAttribute<DllImportAttribute>();
                    if (import == null || !import.Value.EndsWith(".dll", System.StringComparison.Ordinal))
                    {
                        continue;
                    }
                    imports++;
                    DefaultDllImportSearchPathsAttribute paths = method.GetCustomAttribute<DefaultDllImportSearchPathsAttribute>();
                    Assert.True(paths != null && paths.Paths == DllImportSearchPath.System32);
                }
            }
            Assert.True(imports > 20);
        }

        private static SYSTEM_POWER_STATUS Status(byte line, byte battery, byte percent, byte saver)
        {
            return new SYSTEM_POWER_STATUS
            {
                ACLineStatus = line,
                BatteryFlag = battery,
                BatteryLifePercent = percent,
                SystemStatusFlag = saver,
            };
        }
    }
}
