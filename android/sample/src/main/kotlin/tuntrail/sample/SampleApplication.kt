package tuntrail.sample

import android.app.Application
import java.io.File
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.sync.Mutex
import tuntrail.ClientConfig
import tuntrail.Consent
import tuntrail.ExitFlows
import tuntrail.FlowSettings
import tuntrail.android.TunnelState
import tuntrail.android.Tuntrail
import tuntrail.android.openTuntrail
import tuntrail.android.tuntrailDirectory

/** Owns what lives as long as the process: the client, which the VPN service and the screen share, and what the user chose. */
class SampleApplication : Application() {
    val settings by lazy { Settings(this) }

    /** For what a screen begins and does not have to stay for. */
    val scope = CoroutineScope(SupervisorJob() + Dispatchers.Main)

    /** Held while a choice is kept and applied, so that the last one stays. */
    val choices = Mutex()

    /** What the VPN service is doing. */
    val tunnelState = MutableStateFlow<TunnelState>(TunnelState.Stopped)

    /** The first use waits for the disk: not on the main thread. */
    val tuntrail: Tuntrail by lazy {
        openTuntrail(
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

/**
 * What the user chose: one small file each, where no backup and no move to another device takes it. A choice is made per device, and
 * the tunnel's key belongs to one. Waits for the disk.
 */
class Settings(application: SampleApplication) {
    private val folder = application.noBackupFilesDir
    private val tunnelFile = File(folder, "tunnel.conf")
    private val consentFile = File(folder, "consent")
    private val exitFlowsFile = File(folder, "exit-flows")

    /** Until the user has answered, nothing is recorded. */
    var consent: Consent
        get() = Consent.entries.find { it.name == consentFile.text() } ?: Consent.UNKNOWN
        set(value) = consentFile.writeText(value.name)

    /** Each single connection to the Internet, or only sums. */
    var exitFlows: ExitFlows
        get() = ExitFlows.entries.find { it.name == exitFlowsFile.text() } ?: ExitFlows.AGGREGATED
        set(value) = exitFlowsFile.writeText(value.name)

    /** A wg-quick file. An app that gets its tunnel from a server should encrypt it with a key of the Android Keystore. */
    var tunnel: String
        get() = tunnelFile.text()
        set(value) = tunnelFile.writeText(value)

    private fun File.text() = if (exists()) readText() else ""
}
