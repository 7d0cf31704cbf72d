// The steps about uploads: what arrives, what holds them up, and the app's own HTTP.

import java.net.HttpURLConnection
import java.net.URI
import java.time.Duration
import tuntrail.*
import uniffi.testpeer.Place

fun upload(app: App) {
    val flows = listOf(Place.NODE_V6, Place.SUBNET).map { app.network.exchange(it, 30_000u, 40_000u) }
    val exitFlow = app.network.exchange(Place.INTERNET, 1_000u, 2_000u)
    app.client.upload("scenario").use { upload ->
        val report = upload.join()
        holds(report.complete && report.outcome is UploadOutcome.Complete && report.remainingRecords == 0uL, report)
        val last = app.recorder.waitFor<Event.UploadProgress> { it.progress.sentRecords == it.progress.totalRecords }
        equal(upload.id() to report.sentBytes, last.upload to last.progress.sentBytes)
        equal(report, app.recorder.waitFor<Event.UploadEnded>().report)
        equal(report, upload.report())
    }
    for (flow in flows) equal(flow.counts(), app.recorded(flow))
    equal(4, app.server.flows(WINDOWS).map { it.kind }.toSet().size)
    equal(exitFlow.counts(), app.exitRows().counts())
    val text = app.server.entries(WINDOWS).joinToString()
    for (name in listOf("phone.example.com", "office.example.com", "user@example.com")) holds(name in text, name)
    equal(1, app.server.entries(FLOWS).count { "\"event\":\"open\"" in it && "\"10.20.0.5:22\"" in it })
}

fun cancelledUpload(app: App) {
    app.server.stall()
    val flow = app.network.exchange(Place.NODE, 5_000u, 5_000u)
    app.client.upload("scenario").use { upload ->
        app.server.waitUntilStalled()
        equal(null, upload.report())
        upload.cancel()
        val report = upload.join()
        holds(report.outcome is UploadOutcome.Cancelled && !report.complete && report.remainingRecords > 0u, report)
    }
    equal(Counts(), app.recorded(flow))
    app.server.goOn()
    app.upload()
    equal(flow.counts(), app.recorded(flow))
    equal(0uL, app.server.duplicates())
}

fun heldUpUpload(app: App) {
    val flow = app.network.exchange(Place.NODE, 6_000u, 6_000u)
    app.server.refuseNext(403u)
    app.client.upload("scenario").use { upload ->
        val outcome = upload.join().outcome as UploadOutcome.Unauthorized
        equal(403.toUShort(), outcome.status)
        holds("on purpose" in outcome.detail, outcome.detail)
    }
    app.client.pauseUploads()
    val before = app.server.uploads()
    app.client.upload("scenario").use { upload ->
        holds(app.client.stats().uploads!!.paused)
        equal(null, upload.report())
        equal(before, app.server.uploads())
        app.client.resumeUploads()
        holds(upload.join().complete)
    }
    equal(flow.counts(), app.recorded(flow))
}

fun debugUpload(app: App) {
    val debug = app.client.requestDebugUpload(DebugRequest(note = "It is slow."))
    debug.upload.use { holds(it.join().complete && debug.marker.startsWith("BUG-"), debug.marker) }
    equal(1, app.server.entries(DIAGNOSTICS).count { debug.marker in it && "\"It is slow.\"" in it })
    val command = """{"v":1,"id":"case-1","kind":"socket_stats","seconds":600}"""
    equal(CommandOutcome.RecordingSockets(Duration.ofMinutes(10)), app.client.handleCommand(command))
    holds(app.client.handleCommand(command) is CommandOutcome.Duplicate)
    app.client.disableSocketStats()
    throws<TuntrailException.Config> { app.client.handleCommand("""{"v":1,"id":"case-2","kind":"unheard of"}""") }
}

fun hostTransport(app: App) {
    val uploads = UploadSettings(hostTransport = true, headers = listOf(Header("x-app", "scenario")))
    Client(app.config("background").copy(uploads = uploads)).use { client ->
        val recorder = Recorder()
        client.setListener(recorder)
        app.startTunnel(client)
        val flow = app.network.exchange(Place.NODE, 3_000u, 3_000u)
        client.upload("scenario").use { upload ->
            recorder.waitFor<Event.UploadWorkWaiting>()
            throws<TuntrailException.Config> { client.completeUploadTask(12_345u, UploadTaskResult.Failed("on purpose")) }
            while (true) {
                when (val task = client.nextUploadTask()) {
                    is UploadTask.Send -> client.completeUploadTask(task.id, send(task))
                    is UploadTask.Wait -> throw AssertionError("nothing has failed: $task")
                    is UploadTask.Done -> break
                }
            }
            holds(upload.join().complete)
        }
        equal(flow.counts(), app.recorded(flow))
        app.left = app.network.exchange(Place.NODE, 4_000u, 4_000u)
        client.shutdown()
    }
}

/** What the app's own HTTP makes of a task. */
fun send(task: UploadTask.Send): UploadTaskResult {
    equal("scenario", task.headers.single { it.name == "x-app" }.value)
    val connection = URI(task.url).toURL().openConnection() as HttpURLConnection
    try {
        connection.requestMethod = "POST"
        connection.instanceFollowRedirects = false
        connection.doOutput = true
        for (header in task.headers) connection.setRequestProperty(header.name, header.value)
        connection.outputStream.use { it.write(task.body) }
        val status = connection.responseCode
        val body = (if (status < 400) connection.inputStream else connection.errorStream)?.use { it.readNBytes(1024) }
        return UploadTaskResult.Answered(status.toUShort(), connection.getHeaderField("Retry-After"), body ?: ByteArray(0))
    } finally {
        connection.disconnect()
    }
}

fun claim(app: App) {
    // Without lines of the log, which go along with uploads.
    Client(app.config("background").copy(role = Role.APP, logFilter = "off")).use { client ->
        client.upload("scenario").use { holds(it.join().outcome is UploadOutcome.NothingToSend) }
        holds(client.claim(Role.EXTENSION) > 0u)
        app.upload(client)
        equal(app.left.counts(), app.recorded(app.left))
    }
}
