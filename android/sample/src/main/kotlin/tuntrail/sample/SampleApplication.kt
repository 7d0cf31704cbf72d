package tuntrail.sample

import android.app.Application
import java.io.File
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.flow.MutableStateFlow
import tuntrail.ClientConfig
import tuntrail.Consent
import tuntrail.ExitFlows
import tuntrail.FlowSettings
import tuntrail.android.TunnelState
import tuntrail.android.Tuntrail
import tuntrail.android.tuntrailDirectory

/** Owns what lives as long as the process: the client, which the VPN service and the screen share, and what the user chose. */
class SampleApplication : Application() {
    val settings by lazy { Settings(this) }

    /** For what a screen begins and does not have to stay for. */
    val scope = CoroutineScope(SupervisorJob() + Dispatchers.Main)

    /** What the VPN service is doing. */
    val tunnelState = MutableStateFlow<TunnelState>(TunnelState.Stopped)

    /** The first use waits for the disk: not on the main thread. */
    val tuntrail: Tuntrail by lazy {
        Tuntrail.open(
            ClientConfig(
                directory = tuntrailDirectory.path,
                baseUrl = LOG_SERVER,
                consent = settings.consent,
                flows = FlowSettings(exitFlows = settings.exitFlows, events = true),
            ),
        )
    }

    private companion object {
        /** Put your own here. Nothing is sent to it before the user touches "Upload debug logs". */
        const val LOG_SERVER = "https://logs.example.com"
    }
}

/** What the user chose. Kept where no backup takes it: a choice is made per device, and the tunnel's key belongs to one. */
class Settings(application: SampleApplication) {
    private val preferences = application.getSharedPreferences("settings", Application.MODE_PRIVATE)
    private val tunnelFile = File(application.noBackupFilesDir, "tunnel.conf")

    /** Until the user has answered, nothing is recorded. */
    var consent: Consent
        get() = when {
            !preferences.contains(CONSENT) -> Consent.UNKNOWN
            preferences.getBoolean(CONSENT, false) -> Consent.GRANTED
            else -> Consent.DENIED
        }
        set(value) = preferences.edit().putBoolean(CONSENT, value == Consent.GRANTED).apply()

    /** Each single connection to the Internet, or only sums. */
    var exitFlows: ExitFlows
        get() = if (preferences.getBoolean(EXIT_FLOWS, false)) ExitFlows.FULL else ExitFlows.AGGREGATED
        set(value) = preferences.edit().putBoolean(EXIT_FLOWS, value == ExitFlows.FULL).apply()

    /** A wg-quick file. An app that gets its tunnel from a server should encrypt it with a key of the Android Keystore. */
    var tunnel: String
        get() = if (tunnelFile.exists()) tunnelFile.readText() else ""
        set(value) = tunnelFile.writeText(value)

    private companion object {
        const val CONSENT = "consent"
        const val EXIT_FLOWS = "exit_flows"
    }
}
