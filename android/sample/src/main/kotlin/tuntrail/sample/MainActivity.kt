package tuntrail.sample

import android.Manifest
import android.app.Activity
import android.content.Intent
import android.content.pm.PackageManager
import android.net.VpnService
import android.os.Build
import android.os.Bundle
import android.text.InputType
import android.view.View
import android.widget.Button
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.ProgressBar
import android.widget.ScrollView
import android.widget.Switch
import android.widget.TextView
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.MainScope
import kotlinx.coroutines.cancel
import kotlinx.coroutines.launch
import kotlinx.coroutines.sync.withLock
import kotlinx.coroutines.withContext
import tuntrail.Consent
import tuntrail.DebugRequest
import tuntrail.ExitFlows
import tuntrail.TuntrailException
import tuntrail.UploadProgress
import tuntrail.UploadReport
import tuntrail.android.TunnelState
import tuntrail.android.Tuntrail
import tuntrail.android.TuntrailVpnService
import tuntrail.android.newExportFile
import tuntrail.android.reason
import tuntrail.android.shareExport
import tuntrail.parseTunnelConfig

/** The one screen: the tunnel, the user's choices, and the debug logs. Plain views, so that nothing distracts from the SDK. */
class MainActivity : Activity() {
    private val sample get() = application as SampleApplication
    private val settings get() = sample.settings
    private val scope = MainScope()
    private var upload: Job? = null

    private val tunnel by lazy { EditText(this) }
    private val consent by lazy { switch("Record connections, to be sent when I ask for it") }
    private val exitFlows by lazy { switch("Record each connection to the Internet, not only sums") }
    private val note by lazy { EditText(this) }
    private val status by lazy { TextView(this) }
    private val progress by lazy { ProgressBar(this, null, android.R.attr.progressBarStyleHorizontal) }
    private val result by lazy { TextView(this) }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        tunnel.inputType = InputType.TYPE_CLASS_TEXT or InputType.TYPE_TEXT_FLAG_MULTI_LINE or InputType.TYPE_TEXT_FLAG_NO_SUGGESTIONS
        tunnel.hint = "[Interface] … (a wg-quick file)"
        note.hint = "What went wrong?"
        progress.visibility = View.GONE
        val column = LinearLayout(this).apply {
            orientation = LinearLayout.VERTICAL
            addView(tunnel)
            addView(button("Connect", ::connect))
            addView(button("Disconnect", ::disconnect))
            addView(status)
            addView(consent)
            addView(exitFlows)
            addView(note)
            addView(button("Upload debug logs", ::uploadDebugLogs))
            addView(button("Cancel the upload") { upload?.cancel() })
            addView(progress)
            addView(result)
            addView(button("Share debug logs as a file", ::share))
        }
        setContentView(ScrollView(this).apply { addView(column) })
        scope.launch { sample.tunnelState.collect(::show) }
        scope.launch { showSettings() }
    }

    private suspend fun showSettings() {
        val (text, granted, full) = withContext(Dispatchers.IO) {
            Triple(settings.tunnel, settings.consent == Consent.GRANTED, settings.exitFlows == ExitFlows.FULL)
        }
        tunnel.setText(text)
        consent.isChecked = granted
        exitFlows.isChecked = full
        // From here on it is the user who touches them.
        consent.setOnCheckedChangeListener { _, checked -> setConsent(checked) }
        exitFlows.setOnCheckedChangeListener { _, checked -> setExitFlows(checked) }
    }

    override fun onDestroy() {
        scope.cancel()
        super.onDestroy()
    }

    private fun connect() {
        val text = tunnel.text.toString()
        scope.launch {
            try {
                withContext(Dispatchers.IO) {
                    parseTunnelConfig(text)
                    settings.tunnel = text
                }
            } catch (error: TuntrailException) {
                status.text = error.reason
                return@launch
            }
            askForNotifications()
            // Null if the user has allowed it already.
            val question = VpnService.prepare(this@MainActivity)
            if (question == null) start() else @Suppress("DEPRECATION") startActivityForResult(question, ASK_FOR_VPN)
        }
    }

    /** Without the notification the VPN runs all the same: nobody waits for the answer. */
    private fun askForNotifications() {
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.TIRAMISU) return
        val permission = Manifest.permission.POST_NOTIFICATIONS
        if (checkSelfPermission(permission) == PackageManager.PERMISSION_GRANTED) return
        requestPermissions(arrayOf(permission), ASK_FOR_NOTIFICATIONS)
    }

    @Deprecated("The replacement is in androidx, which this sample does without")
    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        if (requestCode == ASK_FOR_VPN && resultCode == RESULT_OK) start()
    }

    private fun start() = TuntrailVpnService.connect(this, SampleVpnService::class.java, foreground = true)

    private fun disconnect() = TuntrailVpnService.disconnect(this, SampleVpnService::class.java)

    private fun show(state: TunnelState) {
        status.text = when (state) {
            TunnelState.Stopped -> "Off"
            is TunnelState.Waiting -> "Waiting: ${state.reason}"
            is TunnelState.Running -> "On"
            is TunnelState.Failed -> "Failed: ${(state.error as? TuntrailException)?.reason ?: state.error.message}"
        }
    }

    private fun setConsent(granted: Boolean) {
        val consent = if (granted) Consent.GRANTED else Consent.DENIED
        choose({ settings.consent = consent }) { it.setConsent(consent) }
    }

    private fun setExitFlows(full: Boolean) {
        val exitFlows = if (full) ExitFlows.FULL else ExitFlows.AGGREGATED
        choose({ settings.exitFlows = exitFlows }) { it.setExitFlows(exitFlows) }
    }

    /** Keeps a choice and then applies it, one after the other, and also if the screen is closed meanwhile: denying deletes. */
    private fun choose(keep: () -> Unit, apply: suspend (Tuntrail) -> Unit) {
        sample.scope.launch {
            sample.choices.withLock {
                withContext(Dispatchers.IO) { keep() }
                attempt { apply(tuntrail()) }
            }
        }
    }

    private fun uploadDebugLogs() {
        if (upload?.isActive == true) return
        upload = scope.launch {
            progress.visibility = View.VISIBLE
            progress.progress = 0
            try {
                attempt {
                    var marker = ""
                    val moved: suspend (UploadProgress) -> Unit = {
                        progress.max = it.totalRecords.toInt()
                        progress.progress = it.sentRecords.toInt()
                    }
                    val report = tuntrail().debugUpload(DebugRequest(note = note.text.toString()), moved) { marker = it }
                    result.text = describe(report, marker)
                }
            } finally {
                progress.visibility = View.GONE
            }
        }
    }

    private fun describe(report: UploadReport, marker: String): String =
        if (report.complete) "Sent ${report.sentRecords} records. Tell support: $marker" else "Not sent: ${report.summary}"

    private fun share() {
        scope.launch {
            attempt {
                val file = withContext(Dispatchers.IO) { newExportFile() }
                tuntrail().export(file.path)
                startActivity(shareExport(file, "Debug logs"))
            }
        }
    }

    private suspend fun tuntrail(): Tuntrail = withContext(Dispatchers.IO) { sample.tuntrail }

    private suspend fun attempt(what: suspend () -> Unit) {
        try {
            what()
        } catch (error: TuntrailException) {
            result.text = error.reason
        }
    }

    private fun button(label: String, action: () -> Unit) = Button(this).apply {
        text = label
        setOnClickListener { action() }
    }

    @Suppress("UseSwitchCompatOrMaterialCode") // Those are in androidx and Material.
    private fun switch(label: String) = Switch(this).apply { text = label }

    private companion object {
        const val ASK_FOR_VPN = 1
        const val ASK_FOR_NOTIFICATIONS = 2
    }
}
