package tuntrail.android

import org.junit.Assert.assertEquals
import org.junit.Test
import tuntrail.Peer
import tuntrail.TunnelConfig

class PeerNamesTest {
    @Test
    fun `names are those of all peers, once each, and addresses and nonsense are none`() {
        val endpoints = listOf(
            "vpn.example.com:51820", "192.0.2.1:51820", "[2001:db8::1]:51820", null, "vpn.example.com:443", "other:1", "no.port", ":1", "x:y",
        )
        val peers = endpoints.map { Peer(publicKey = "unused", allowedIps = emptyList(), endpoint = it) }
        val config = TunnelConfig(privateKey = "unused", addresses = emptyList(), peers = peers)
        assertEquals(listOf("vpn.example.com", "other"), peerNames(config))
    }
}
