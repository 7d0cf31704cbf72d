package tuntrail.android

import java.io.File
import java.net.InetAddress
import java.net.ServerSocket
import java.time.Duration
import java.util.concurrent.CompletableFuture
import java.util.concurrent.TimeUnit
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.annotation.Config
import tuntrail.ClientConfig
import tuntrail.Collections
import tuntrail.Consent
import tuntrail.DebugRequest
import tuntrail.Event
import tuntrail.TuntrailException
import tuntrail.UploadOutcome

/** The coroutines on the real library. The log server is the reference server, which `tests/bindings` starts. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [34], manifest = Config.NONE)
class TuntrailTest {
    @get:Rule
    val folder = TemporaryFolder()
    private var tuntrail: Tuntrail? = null

    @After
    fun close() {
        tuntrail?.close()
    }

    @Test
    fun `an upload returns its report when it has ended`() = runBlocking {
        val tuntrail = open(logServer())
        record(tuntrail)
        val report = withTimeout(LIMIT) { tuntrail.upload("the user asked") }
        assertEquals(report.summary, UploadOutcome.Complete, report.outcome)
        assertTrue(report.sentRecords > 0u)
    }

    @Test
    fun `a debug upload tells its marker and then its report`() = runBlocking {
        val tuntrail = open(logServer())
        record(tuntrail)
        var marker = ""
        val report = withTimeout(LIMIT) { tuntrail.debugUpload(DebugRequest(note = "no network")) { marker = it } }
        assertEquals(report.summary, UploadOutcome.Complete, report.outcome)
        assertTrue(marker, marker.startsWith("BUG-" + tuntrail.client.logId()))
    }

    @Test
    fun `cancelling the coroutine cancels the request and keeps the records`() = runBlocking {
        // Takes the request and never answers.
        ServerSocket(0, 1, InetAddress.getLoopbackAddress()).use { server ->
            val tuntrail = open("http://127.0.0.1:${server.localPort}")
            record(tuntrail)
            val accepted = CompletableFuture.supplyAsync(server::accept)
            val upload = launch(Dispatchers.IO) { tuntrail.upload("nobody answers") }
            val connection = accepted.get(LIMIT, TimeUnit.MILLISECONDS)
            withTimeout(LIMIT) { upload.cancelAndJoin() }
            connection.soTimeout = LIMIT.toInt()
            // Whatever was sent of the request, and then the end: a request that went on would stay open.
            connection.use { it.getInputStream().readBytes() }
            assertTrue(tuntrail.client.stats().store!!.sockets.diskBytes > 0u)
        }
    }

    @Test
    fun `events reach every collector, and closing ends them`() = runBlocking {
        val tuntrail = open(logServer())
        record(tuntrail)
        val collectors = List(2) { async(start = CoroutineStart.UNDISPATCHED) { tuntrail.events().toList() } }
        withTimeout(LIMIT) { tuntrail.upload("events") }
        // Collects until the event of the end is there, whose order to the report is open.
        withTimeout(LIMIT) { tuntrail.upload("so that the first has surely been told") }
        tuntrail.close()
        for (collector in collectors) {
            val ended = withTimeout(LIMIT) { collector.await() }.filterIsInstance<Event.UploadEnded>()
            assertEquals(UploadOutcome.Complete, ended.first().report.outcome)
        }
    }

    @Test
    fun `an export is a file of its own, and consent decides`() = runBlocking {
        val tuntrail = open(logServer())
        record(tuntrail)
        val path = folder.root.resolve("export.tar.zst")
        tuntrail.export(path.path)
        assertTrue(path.length() > 0)
        assertNotNull(tuntrail.client.logId())
        tuntrail.setConsent(Consent.DENIED)
        assertThrows(TuntrailException.NoConsent::class.java) { runBlocking { tuntrail.upload("not allowed") } }
        Unit
    }

    @Test
    fun `exported files are deleted with the records`() = runBlocking {
        val context = RuntimeEnvironment.getApplication()
        val tuntrail = context.openTuntrail(config(logServer())).also { tuntrail = it }
        record(tuntrail)
        suspend fun export(): File = context.newExportFile().also { tuntrail.export(it.path) }
        for (deletes in listOf(suspend { tuntrail.clear() }, suspend { tuntrail.setConsent(Consent.DENIED) })) {
            val file = export()
            assertTrue(file.exists())
            deletes()
            assertFalse(file.exists())
        }
        // A denial that was killed before it came to the files.
        tuntrail.close()
        val left = context.newExportFile().apply { writeText("records") }
        context.openTuntrail(config(logServer()).copy(consent = Consent.DENIED)).close()
        assertFalse(left.exists())
        val another = context.newExportFile().apply { writeText("records") }
        context.deleteExports()
        assertFalse(another.exists())
    }

    @Test
    fun `after closing, calls say so`() {
        val tuntrail = open(logServer())
        tuntrail.close()
        tuntrail.close()
        assertThrows(TuntrailException.Closed::class.java) { runBlocking { tuntrail.flush() } }
    }

    private fun open(server: String): Tuntrail = Tuntrail.open(config(server)).also { tuntrail = it }

    private fun config(server: String) = ClientConfig(
        directory = folder.root.resolve("tuntrail").path,
        baseUrl = server,
        consent = Consent.GRANTED,
        collections = Collections(sockets = "sockets.android.test"),
        logFilter = "off",
    )

    /** One record of socket statistics, on disk. */
    private fun record(tuntrail: Tuntrail) {
        tuntrail.client.enableSocketStats(Duration.ofMinutes(1))
        tuntrail.client.socketCounter(64u).use { it.add(1000u, 2000u) }
        tuntrail.client.flush()
        assertTrue("nothing was recorded", tuntrail.client.stats().store!!.sockets.appended > 0u)
    }
}

internal fun logServer(): String = checkNotNull(System.getProperty("tuntrail.logserver")) {
    "run by `cargo test -p tuntrail-bindings-tests --test android`, which starts the log server"
}
