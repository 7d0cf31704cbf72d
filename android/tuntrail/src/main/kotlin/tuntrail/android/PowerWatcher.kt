package tuntrail.android

import android.content.BroadcastReceiver
import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.os.BatteryManager
import android.os.PowerManager
import tuntrail.PowerState

/**
 * Watches the power supply, for automatic uploads.
 *
 * Being told of every percent would wake the app all day long. Told are a charger that is plugged in or out, the battery getting low or
 * well again, and Battery Saver; the charge is read then. Calls [onChange] on the main thread.
 */
internal class PowerWatcher(private val context: Context, private val onChange: (PowerState) -> Unit) {
    private val receiver = object : BroadcastReceiver() {
        override fun onReceive(context: Context, intent: Intent) = onChange(current())
    }

    /** Begins, with the state of now. */
    fun start() {
        val filter = IntentFilter().apply {
            addAction(Intent.ACTION_POWER_CONNECTED)
            addAction(Intent.ACTION_POWER_DISCONNECTED)
            addAction(Intent.ACTION_BATTERY_LOW)
            addAction(Intent.ACTION_BATTERY_OKAY)
            addAction(PowerManager.ACTION_POWER_SAVE_MODE_CHANGED)
        }
        // Only the system may send these, so that the receiver needs no flag that says who else may.
        context.registerReceiver(receiver, filter)
        onChange(current())
    }

    fun stop() = context.unregisterReceiver(receiver)

    private fun current(): PowerState {
        // Kept by the system, and returned at once: nothing is registered without a receiver.
        val battery = context.registerReceiver(null, IntentFilter(Intent.ACTION_BATTERY_CHANGED))
        val saves = context.getSystemService(PowerManager::class.java).isPowerSaveMode
        return powerState(battery, saves)
    }
}

/** The battery's broadcast in the client's terms. A device without a battery is always being charged. */
internal fun powerState(battery: Intent?, saves: Boolean): PowerState {
    val present = battery?.getBooleanExtra(BatteryManager.EXTRA_PRESENT, true) ?: false
    val level = battery?.getIntExtra(BatteryManager.EXTRA_LEVEL, -1) ?: -1
    val scale = battery?.getIntExtra(BatteryManager.EXTRA_SCALE, -1) ?: -1
    val percent = if (present && level >= 0 && scale > 0) (100L * level / scale).coerceIn(0, 100).toUByte() else null
    val plugged = (battery?.getIntExtra(BatteryManager.EXTRA_PLUGGED, 0) ?: 0) != 0
    return PowerState(batteryPercent = percent, charging = plugged || !present, lowPower = saves)
}
