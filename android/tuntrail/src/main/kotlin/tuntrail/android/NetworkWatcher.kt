package tuntrail.android

import android.content.BroadcastReceiver
import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.net.ConnectivityManager
import android.net.Network
import android.net.NetworkCapabilities
import android.net.NetworkRequest
import android.os.Build
import android.os.Handler
import android.os.Looper
import java.net.UnknownHostException
import tuntrail.InterfaceKind
import tuntrail.NetworkState

/**
 * Watches the network below the VPN.
 *
 * Inside a VPN app the default network is the VPN itself, so the usual callback would tell of the tunnel's own comings and goings. This
 * one asks for the best network that is not a VPN. It calls [onChange] on the main thread, and only if something has changed that counts:
 * Android also tells of every change of the signal's strength.
 */
internal class NetworkWatcher(private val context: Context, private val onChange: (NetworkState) -> Unit) {
    private val manager = context.getSystemService(ConnectivityManager::class.java)
    private val main = Handler(Looper.getMainLooper())
    private var capabilities: NetworkCapabilities? = null
    private var told: Told? = null

    @Volatile
    private var network: Network? = null

    /** @property validated makes a portal that the user has passed a change, after which names may be found. */
    private data class Told(val state: NetworkState, val validated: Boolean)

    private val callback = object : ConnectivityManager.NetworkCallback() {
        // Follows each onAvailable, with what is needed.
        override fun onCapabilitiesChanged(network: Network, networkCapabilities: NetworkCapabilities) =
            changed(network, networkCapabilities)

        // Of one that was replaced by a better one nothing is told but the better one; if something is, it is old news.
        override fun onLost(network: Network) {
            if (network == this@NetworkWatcher.network) changed(null, null)
        }
    }

    private val dataSaver = object : BroadcastReceiver() {
        override fun onReceive(context: Context, intent: Intent) = changed(network, capabilities)
    }

    /** Begins, with the network of now. */
    fun start() {
        // Asks for Internet access, and for no VPN unless told otherwise.
        val request = NetworkRequest.Builder().addCapability(NetworkCapabilities.NET_CAPABILITY_INTERNET).build()
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.S) {
            manager.registerBestMatchingNetworkCallback(request, callback, main)
        } else {
            // Before, only a request was told of the best one alone. The default network satisfies it, so that nothing is switched on.
            manager.requestNetwork(request, callback, main)
        }
        context.registerReceiver(dataSaver, IntentFilter(ConnectivityManager.ACTION_RESTRICT_BACKGROUND_CHANGED))
        // No callback comes while there is none.
        if (manager.activeNetwork == null) changed(null, null)
    }

    fun stop() {
        manager.unregisterNetworkCallback(callback)
        context.unregisterReceiver(dataSaver)
    }

    /** Addresses of a host by the name servers of the network below the VPN. May wait for them. Any thread. */
    fun resolve(host: String): List<String> {
        val network = network ?: throw UnknownHostException("there is no network")
        // A name's address has no zone, but a literal may.
        return network.getAllByName(host).mapNotNull { it.hostAddress?.substringBefore('%') }
    }

    private fun changed(network: Network?, capabilities: NetworkCapabilities?) {
        this.network = network
        this.capabilities = capabilities
        val saves = manager.restrictBackgroundStatus == ConnectivityManager.RESTRICT_BACKGROUND_STATUS_ENABLED
        val now = if (network == null || capabilities == null) {
            Told(NetworkState(connected = false, lowData = saves), validated = false)
        } else {
            Told(
                networkState(network.networkHandle, capabilities, saves),
                capabilities.hasCapability(NetworkCapabilities.NET_CAPABILITY_VALIDATED),
            )
        }
        if (now == told) return
        told = now
        onChange(now.state)
    }
}

/** A network in the client's terms. */
internal fun networkState(handle: Long, capabilities: NetworkCapabilities, dataSaver: Boolean): NetworkState {
    val free = capabilities.hasCapability(NetworkCapabilities.NET_CAPABILITY_NOT_METERED) ||
        Build.VERSION.SDK_INT >= Build.VERSION_CODES.R &&
        capabilities.hasCapability(NetworkCapabilities.NET_CAPABILITY_TEMPORARILY_NOT_METERED)
    return NetworkState(
        connected = true,
        id = handle.toULong(),
        `interface` = when {
            capabilities.hasTransport(NetworkCapabilities.TRANSPORT_WIFI) -> InterfaceKind.WIFI
            capabilities.hasTransport(NetworkCapabilities.TRANSPORT_CELLULAR) -> InterfaceKind.CELLULAR
            capabilities.hasTransport(NetworkCapabilities.TRANSPORT_ETHERNET) -> InterfaceKind.WIRED
            else -> InterfaceKind.UNKNOWN
        },
        metered = !free,
        // Android 8 doesn't tell.
        roaming = Build.VERSION.SDK_INT >= Build.VERSION_CODES.P &&
            !capabilities.hasCapability(NetworkCapabilities.NET_CAPABILITY_NOT_ROAMING),
        lowData = dataSaver,
    )
}
