using System;
using System.Collections.Generic;
using Xunit;

namespace Tuntrail.Tests
{
    public sealed class PlanTests
    {
        internal const string Key = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
        internal const string PeerKey = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";

        [Fact]
        public void A_default_route_becomes_two_halves_in_both_families()
        {
            TunnelPlan plan = TunnelPlan.Of(Config("10.0.0.2/32", "0.0.0.0/0", "::/0"));
            Assert.Equal("0.0.0.0/1 128.0.0.0/1 ::/1 8000::/1", string.Join(" ", plan.Routes));
            Assert.True(plan.TakesAll(false));
            Assert.True(plan.TakesAll(true));
        }

        [Fact]
        public void Routes_lose_the_bits_behind_their_prefix_and_appear_once()
        {
            TunnelPlan plan = TunnelPlan.Of(Config("10.0.0.2/24", "10.20.30.40/16", "10.20.0.0/16", "2001:db8:1:ffff::1/47"));
            Assert.Equal("10.20.0.0/16 2001:db8::/47", string.Join(" ", plan.Routes));
            Assert.False(plan.TakesAll(false));
            Assert.Equal("10.0.0.2/24", plan.Addresses[0].ToString());
        }

        [Fact]
        public void A_single_address_is_a_route_of_its_own()
        {
            TunnelPlan plan = TunnelPlan.Of(Config("10.0.0.2", "192.0.2.7", "2001:db8::7"));
            Assert.Equal("192.0.2.7/32 2001:db8::7/128", string.Join(" ", plan.Routes));
        }

        [Fact]
        public void The_mtu_is_the_tunnels_and_one_too_small_for_ipv6_is_refused()
        {
            Assert.Equal(1420, TunnelPlan.Of(Config("10.0.0.2/32", "0.0.0.0/0")).Mtu);
            TunnelConfig config = Config("fd00::2/128", "::/0");
            config.Mtu = 1200;
            Assert.Contains("1280", Assert.Throws<FormatException>(() => TunnelPlan.Of(config)).Message);
        }

        [Fact]
        public void Name_servers_of_both_families_are_kept()
        {
            TunnelConfig config = Config("10.0.0.2/32", "10.0.0.0/8");
            config.Dns = new[] { "10.0.0.1", "fd00::1" };
            config.SearchDomains = new[] { "corp.example" };
            TunnelPlan plan = TunnelPlan.Of(config);
            Assert.Equal("10.0.0.1 fd00::1", string.Join(" ", plan.Dns));
            Assert.Equal("corp.example", string.Join(" ", plan.SearchDomains));
        }

        [Fact]
        public void What_is_no_prefix_is_named()
        {
            foreach (string text in new[] { "", "10.1/8", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "10.0.0.0/8/8", "fe80::1%3/64", "host" })
            {
                FormatException error = Assert.Throws<FormatException>(() => IpPrefix.Parse(text));
                Assert.Contains("\"" + text + "\"", error.Message);
            }
        }

        internal static TunnelConfig Config(string address, params string[] allowedIps)
        {
            Peer peer = new Peer(PeerKey, new List<string>(allowedIps));
            return new TunnelConfig(Key, new[] { address }, new[] { peer });
        }
    }
}
