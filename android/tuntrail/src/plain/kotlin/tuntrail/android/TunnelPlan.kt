package tuntrail.android

import java.net.Inet4Address
import java.net.InetAddress
import java.net.UnknownHostException
import tuntrail.TunnelConfig
import tuntrail.TuntrailException

/**
 * What Android's `VpnService.Builder` is told of a tunnel.
 *
 * @property addresses the device's own, as configured.
 * @property routes what goes into the tunnel: the peers' allowed IPs without host bits, which Android refuses.
 * @property dns name servers.
 * @property searchDomains search domains.
 * @property mtu the longest packet in bytes.
 * @property takesEverything a default route, also one in halves. If not, an address family without any address stays outside the
 *   tunnel. If so, it is blocked, as Android does by default: whoever sends all IPv4 traffic through a VPN doesn't expect that IPv6
 *   goes around it.
 */
internal data class TunnelPlan(
    val addresses: List<Prefix>,
    val routes: List<Prefix>,
    val dns: List<InetAddress>,
    val searchDomains: List<String>,
    val mtu: Int,
    val takesEverything: Boolean,
) {
    companion object {
        /** The core's own default: WireGuard over IPv6 with 80 bytes of headers in 1,500. */
        private const val DEFAULT_MTU: UShort = 1420u

        /** @throws TuntrailException.Config naming the text that can't be read. */
        fun of(config: TunnelConfig): TunnelPlan {
            val routes = config.peers.flatMap { it.allowedIps }.map { Prefix.parse(it).network() }.distinct()
            return TunnelPlan(
                addresses = config.addresses.map(Prefix::parse),
                routes = routes,
                dns = config.dns.map(::numericAddress),
                searchDomains = config.searchDomains,
                mtu = (config.mtu ?: DEFAULT_MTU).toInt(),
                takesEverything = routes.groupBy { it.address.address.size }.values.any(::coverEverything),
            )
        }

        /** Two halves of the same family are a default route, too: that is how some configurations write it. */
        private fun coverEverything(routes: List<Prefix>) =
            routes.any { it.length == 0 } || routes.filter { it.length == 1 }.toSet().size == 2
    }
}

/** An address with the length of its network's prefix. */
internal data class Prefix(val address: InetAddress, val length: Int) {
    /** The same without host bits. */
    fun network(): Prefix {
        val bytes = address.address
        for (index in bytes.indices) {
            val kept = (length - 8 * index).coerceIn(0, 8)
            bytes[index] = (bytes[index].toInt() and (0xff shl (8 - kept))).toByte()
        }
        return Prefix(InetAddress.getByAddress(bytes), length)
    }

    companion object {
        /** Reads `10.0.0.0/8` or a single address. */
        fun parse(text: String): Prefix {
            val address = numericAddress(text.substringBefore('/'))
            val longest = 8 * address.address.size
            if ('/' !in text) return Prefix(address, longest)
            val length = text.substringAfter('/').takeIf { it.length in 1..3 && it.all { digit -> digit in '0'..'9' } }?.toInt()
            if (length == null || length > longest) {
                throw TuntrailException.Config("\"$text\" is not a prefix: the length must be 0 to $longest")
            }
            return Prefix(address, length)
        }
    }
}

private val IPV4 = Regex("""\d{1,3}(\.\d{1,3}){3}""")
private val IPV6 = Regex("""[0-9a-fA-F:.]*:[0-9a-fA-F:.]*""")

/** Reads an address, and never asks a name server: [InetAddress.getByName] does for everything that doesn't look like an address. */
internal fun numericAddress(text: String): InetAddress {
    val wrong = { TuntrailException.Config("\"$text\" is not an IP address") }
    if (!IPV4.matches(text) && !IPV6.matches(text)) throw wrong()
    val address = try {
        InetAddress.getByName(text)
    } catch (_: UnknownHostException) {
        throw wrong()
    }
    // Java reads ::ffff:192.0.2.1 as 192.0.2.1, which a prefix length of IPv6 would not fit.
    if (address is Inet4Address && ':' in text) throw wrong()
    return address
}
