package tuntrail.android

import android.content.Intent
import android.net.NetworkCapabilities
import android.os.BatteryManager
import org.junit.Assert.assertEquals
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import org.robolectric.shadows.ShadowNetworkCapabilities
import tuntrail.InterfaceKind
import tuntrail.NetworkState
import tuntrail.PowerState

/** What Android tells, in the client's terms. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [34], manifest = Config.NONE)
class WatchersTest {
    @Test
    fun `a network is what its capabilities say`() {
        val network = ShadowNetworkCapabilities.newInstance()
        shadowOf(network).addTransportType(NetworkCapabilities.TRANSPORT_CELLULAR)
        shadowOf(network).removeCapability(NetworkCapabilities.NET_CAPABILITY_NOT_METERED)
        shadowOf(network).removeCapability(NetworkCapabilities.NET_CAPABILITY_NOT_ROAMING)
        val expected = NetworkState(
            connected = true, id = 9u, `interface` = InterfaceKind.CELLULAR, metered = true, roaming = true, lowData = true,
        )
        assertEquals(expected, networkState(9, network, dataSaver = true))
        shadowOf(network).addCapability(NetworkCapabilities.NET_CAPABILITY_TEMPORARILY_NOT_METERED)
        shadowOf(network).addCapability(NetworkCapabilities.NET_CAPABILITY_NOT_ROAMING)
        assertEquals(expected.copy(metered = false, roaming = false, lowData = false), networkState(9, network, dataSaver = false))
    }

    @Test
    fun `the charge is a percentage, and a device without a battery is on power`() {
        val battery = Intent(Intent.ACTION_BATTERY_CHANGED)
            .putExtra(BatteryManager.EXTRA_LEVEL, 30)
            .putExtra(BatteryManager.EXTRA_SCALE, 200)
        assertEquals(PowerState(batteryPercent = 15u, charging = false, lowPower = true), powerState(battery, saves = true))
        battery.putExtra(BatteryManager.EXTRA_PLUGGED, BatteryManager.BATTERY_PLUGGED_USB)
        assertEquals(PowerState(batteryPercent = 15u, charging = true), powerState(battery, saves = false))
        battery.putExtra(BatteryManager.EXTRA_PRESENT, false).putExtra(BatteryManager.EXTRA_PLUGGED, 0)
        assertEquals(PowerState(charging = true), powerState(battery, saves = false))
    }
}
