package tuntrail.android

import java.io.File
import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.withContext
import tuntrail.Client
import tuntrail.ClientConfig
import tuntrail.Consent
import tuntrail.DebugRequest
import tuntrail.Event
import tuntrail.ExitFlows
import tuntrail.ExportReport
import tuntrail.Stream
import tuntrail.UploadProgress
import tuntrail.UploadReport

/**
 * A client with coroutines: calls that wait for the disk or the network suspend, and events are a [Flow].
 *
 * A process has one, which lives as long as the process: the VPN service and the user interface share it. Everything that is not here
 * is in [client], whose calls block the thread as their documentation says; its listener is taken.
 */
class Tuntrail private constructor(
    /** The client itself. Its `setListener` must not be called. */
    val client: Client,
    private val blocking: CoroutineDispatcher,
    private val exports: File?,
) : AutoCloseable {
    internal val events = EventHub(client)

    /**
     * What happens, from the moment of collecting on. Each collector has a queue of its own; one that is too slow finds
     * [Event.EventsDropped] in place of its oldest events. Ends after [close].
     *
     * @throws tuntrail.TuntrailException.Closed when collected after the client was shut down otherwise than by [close].
     */
    fun events(): Flow<Event> = events.flow()

    /**
     * Sends what was recorded until now, the kinds named in [streams] or everything, and returns when that has ended, well or not: see
     * [UploadReport.complete]. [reason] goes to the SDK's own log.
     *
     * [onProgress] is called in the caller's context, never after this has returned. Cancelling the coroutine cancels the upload; what
     * was not delivered is kept. So an upload that shall outlive a screen belongs in a scope that does.
     */
    suspend fun upload(
        reason: String,
        streams: List<Stream> = emptyList(),
        onProgress: suspend (UploadProgress) -> Unit = {},
    ): UploadReport = send(events, blocking, { client.upload(reason, streams) }, {}, onProgress)

    /**
     * Sends what support needs, under a marker that the user can read out, and returns when that has ended: see
     * [Client.requestDebugUpload]. [onMarker] is called with the marker in the caller's context, as soon as the request is on disk.
     * Progress and cancelling are as in [upload]; the record of the request then goes with the next upload.
     */
    suspend fun debugUpload(
        request: DebugRequest,
        onProgress: suspend (UploadProgress) -> Unit = {},
        onMarker: suspend (String) -> Unit,
    ): UploadReport {
        lateinit var marker: String
        val begin = { client.requestDebugUpload(request).also { marker = it.marker }.upload }
        return send(events, blocking, begin, { onMarker(marker) }, onProgress)
    }

    /**
     * Writes everything recorded so far into one new file at [path], a `.tar.zst` that a user can look at and mail. Cancelling the
     * coroutine does not stop it.
     */
    suspend fun export(path: String): ExportReport = withContext(blocking) { client.export(path) }

    /** Applies the user's answer; see [Client.setConsent]. A denial deletes exported files, too. */
    suspend fun setConsent(consent: Consent) = withContext(blocking) {
        try {
            client.setConsent(consent)
        } finally {
            // Afterwards, so that an export that was still being written is among them.
            if (consent == Consent.DENIED) exports?.deleteRecursively()
        }
    }

    /** Deletes every record and exported file, and goes on recording; see [Client.clear]. */
    suspend fun clear() = withContext(blocking) {
        try {
            client.clear()
        } finally {
            exports?.deleteRecursively()
        }
    }

    /** Sets what is recorded of traffic to the Internet; see [Client.setExitFlows]. */
    suspend fun setExitFlows(exitFlows: ExitFlows) = withContext(blocking) { client.setExitFlows(exitFlows) }

    /** Gives everything recorded so far to the disk: for moments after which the process may be killed. */
    suspend fun flush() = withContext(blocking) { client.flush() }

    /**
     * Stops the tunnel, writes every record, ends the client and all flows of events. Waits for the disk. Harmless when repeated; other
     * calls then throw [tuntrail.TuntrailException.Closed].
     */
    override fun close() {
        try {
            client.shutdown()
        } finally {
            events.close()
        }
    }

    companion object {
        /**
         * Starts a client. Waits for the disk: not for the main thread.
         *
         * @param blocking where calls wait for the disk and the network.
         * @param exports the folder of exported files, which is deleted with the records. `Context.openTuntrail` knows it.
         */
        fun open(config: ClientConfig, blocking: CoroutineDispatcher = Dispatchers.IO, exports: File? = null): Tuntrail {
            // Also of an earlier run that was killed in the middle of the denial.
            if (config.consent == Consent.DENIED) exports?.deleteRecursively()
            return Tuntrail(Client(config), blocking, exports)
        }
    }
}
