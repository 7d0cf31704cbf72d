package tuntrail.android

import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import tuntrail.Peer
import tuntrail.TunnelConfig
import tuntrail.TuntrailException

class TunnelPlanTest {
    @Test
    fun `routes are the allowed IPs of all peers, once each and without host bits`() {
        val plan = plan("10.20.30.40/8", "192.0.2.129/25", "2001:db8:ffff::1/33", "10.0.0.0/8", "198.51.100.7")
        assertEquals(
            listOf("10.0.0.0/8", "192.0.2.128/25", "2001:db8:8000:0:0:0:0:0/33", "198.51.100.7/32"),
            plan.routes.map { "${it.address.hostAddress}/${it.length}" },
        )
    }

    @Test
    fun `addresses keep their host bits`() {
        assertEquals(listOf("10.0.0.2/24", "fd00:0:0:0:0:0:0:2/128"), plan().addresses.map { "${it.address.hostAddress}/${it.length}" })
    }

    @Test
    fun `a default route takes everything, also in halves of one family`() {
        assertTrue(plan("0.0.0.0/0").takesEverything)
        assertTrue(plan("::/0").takesEverything)
        assertTrue(plan("0.0.0.0/1", "128.0.0.0/1").takesEverything)
        assertTrue(plan("::/1", "8000::/1").takesEverything)
        assertFalse(plan("0.0.0.0/1", "8000::/1").takesEverything)
        assertFalse(plan("0.0.0.0/1", "1.2.3.4/1").takesEverything)
        assertFalse(plan("10.0.0.0/8").takesEverything)
        assertFalse(plan().takesEverything)
    }

    @Test
    fun `the MTU is the core's unless it is given`() {
        assertEquals(1420, plan().mtu)
        assertEquals(1280, TunnelPlan.of(config().copy(mtu = 1280u)).mtu)
        assertEquals(65472, TunnelPlan.of(config().copy(mtu = 65472u)).mtu)
    }

    @Test
    fun `what is no prefix is named, and no name server is asked`() {
        val wrong = listOf(
            "", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/8/8", "10.0.0/8", "256.0.0.0/8",
            "example.com/32", "cafe/16", "::/129", "2001:db8::1::/64", "fe80::1%1/64", "::ffff:192.0.2.1/32",
        )
        for (text in wrong) {
            val error = assertThrows(text, TuntrailException.Config::class.java) { plan(text) }
            assertTrue(error.reason, error.reason.contains(text.substringBefore('/')))
        }
        assertThrows(TuntrailException.Config::class.java) { TunnelPlan.of(config().copy(dns = listOf("dns.example.com"))) }
    }

    private fun plan(vararg allowedIps: String) = TunnelPlan.of(config(*allowedIps))

    private fun config(vararg allowedIps: String) = TunnelConfig(
        privateKey = "unused",
        addresses = listOf("10.0.0.2/24", "fd00::2/128"),
        peers = allowedIps.map { Peer(publicKey = "unused", allowedIps = listOf(it)) },
        dns = listOf("10.0.0.53", "fd00::53"),
    )
}
