package tuntrail.sample

import android.app.Notification
import android.app.NotificationChannel
import android.app.NotificationManager
import android.app.PendingIntent
import android.content.Intent
import tuntrail.NetworkMap
import tuntrail.Node
import tuntrail.Routes
import tuntrail.TunnelConfig
import tuntrail.android.TunnelState
import tuntrail.android.Tuntrail
import tuntrail.android.TuntrailVpnService
import tuntrail.parseTunnelConfig

/** The VPN: where the tunnel leads, and what is shown of it. Everything else is [TuntrailVpnService]'s. */
class SampleVpnService : TuntrailVpnService() {
    private val sample get() = application as SampleApplication

    override fun tuntrail(): Tuntrail = sample.tuntrail

    override fun tunnelConfig(): TunnelConfig {
        val config = parseTunnelConfig(sample.settings.tunnel)
        // Which addresses are this device's and the network's: traffic to all others is exit traffic. A default route doesn't count.
        val self = Node(id = 1, stableId = "self", addresses = config.addresses.map { it.substringBefore('/') })
        val routes = Routes(local = config.addresses, remote = config.peers.flatMap { it.allowedIps })
        sample.tuntrail.client.setNetwork(NetworkMap(selfNode = self), routes)
        return config
    }

    override fun configure(builder: Builder) {
        builder.setSession("tuntrail sample").setConfigureIntent(openScreen())
    }

    override fun notification(state: TunnelState): Notification {
        val channel = NotificationChannel(CHANNEL, "VPN", NotificationManager.IMPORTANCE_LOW)
        getSystemService(NotificationManager::class.java).createNotificationChannel(channel)
        return Notification.Builder(this, CHANNEL)
            .setSmallIcon(android.R.drawable.stat_sys_upload_done)
            .setContentTitle(if (state is TunnelState.Running) "The VPN is on" else "The VPN is waiting")
            .setContentText((state as? TunnelState.Waiting)?.reason)
            .setOnlyAlertOnce(true)
            .setContentIntent(openScreen())
            .setOngoing(true)
            .build()
    }

    override fun onTunnelState(state: TunnelState) {
        sample.tunnelState.value = state
    }

    private fun openScreen(): PendingIntent =
        PendingIntent.getActivity(this, 0, Intent(this, MainActivity::class.java), PendingIntent.FLAG_IMMUTABLE)

    private companion object {
        const val CHANNEL = "vpn"
    }
}
