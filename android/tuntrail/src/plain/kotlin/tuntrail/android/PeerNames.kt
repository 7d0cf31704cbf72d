package tuntrail.android

import tuntrail.HostResolver
import tuntrail.TunnelConfig

/** A host name and a port. What has another form is an address, or wrong, and then the client says so. */
private val NAMED = Regex("""([^:\[\]]+):\d{1,5}""")
private val ADDRESS = Regex("""\d{1,3}(\.\d{1,3}){3}""")

/** The hosts of the peers that are given by name, once each. */
internal fun peerNames(config: TunnelConfig): List<String> =
    config.peers
        .mapNotNull { peer -> peer.endpoint?.let(NAMED::matchEntire)?.groupValues?.get(1) }
        .filterNot(ADDRESS::matches)
        .distinct()

/**
 * Answers what a tunnel asks at its start with what was [found] before, and later with what [resolver] says by then.
 *
 * The VPN is there before the tunnel: a look-up in between would hold up the whole device.
 */
internal class PreparedNames(@Volatile private var found: Map<String, List<String>>, private val resolver: HostResolver) : HostResolver {
    override fun resolve(host: String): List<String> = found[host] ?: resolver.resolve(host)

    /** The tunnel has started. */
    fun forget() {
        found = emptyMap()
    }
}
