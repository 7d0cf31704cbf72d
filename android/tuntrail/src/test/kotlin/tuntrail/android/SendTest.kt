package tuntrail.android

import java.lang.reflect.Proxy
import java.util.concurrent.CountDownLatch
import java.util.concurrent.Executors
import java.util.concurrent.TimeUnit
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.ExecutorCoroutineDispatcher
import kotlinx.coroutines.asCoroutineDispatcher
import kotlinx.coroutines.awaitCancellation
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import tuntrail.ClientInterface

/** The caller is on the test's thread, and what blocks on another, as an app's main thread and its pool are. */
class SendTest {
    /** One thread only, which the wait for the end takes. */
    private val blocking: ExecutorCoroutineDispatcher = Executors.newSingleThreadExecutor().asCoroutineDispatcher()
    private val upload = FakeUpload()
    private val events = EventHub(
        Proxy.newProxyInstance(ClientInterface::class.java.classLoader, arrayOf(ClientInterface::class.java)) { _, method, _ ->
            assertEquals("setListener", method.name)
            null
        } as ClientInterface,
    )

    @After
    fun close() {
        upload.cancel()
        blocking.close()
    }

    @Test
    fun `cancelling while the upload begins cancels it`() = runBlocking {
        val begins = CompletableDeferred<Unit>()
        val held = CountDownLatch(1)
        val caller = launch {
            send(
                events, blocking,
                begin = {
                    begins.complete(Unit)
                    assertTrue(held.await(LIMIT, TimeUnit.MILLISECONDS))
                    upload
                },
                onBegun = {}, onProgress = {},
            )
        }
        withTimeout(LIMIT) { begins.await() }
        caller.cancel()
        held.countDown()
        withTimeout(LIMIT) { caller.join() }
        assertTrue(upload.cancelled)
    }

    @Test
    fun `a receiver of the marker that throws ends the upload`() {
        assertThrows(IllegalStateException::class.java) {
            runBlocking { send(events, blocking, { upload }, { error("the screen is gone") }, {}) }
        }
        assertTrue(upload.cancelled)
    }

    @Test
    fun `cancelling while the marker is told cancels the upload`() = runBlocking {
        val told = CompletableDeferred<Unit>()
        val tell: suspend () -> Unit = {
            told.complete(Unit)
            awaitCancellation()
        }
        val caller = launch { send(events, blocking, { upload }, tell, {}) }
        withTimeout(LIMIT) { told.await() }
        withTimeout(LIMIT) { caller.cancelAndJoin() }
        assertTrue(upload.cancelled)
    }

    @Test
    fun `cancelling needs no thread beside the one that waits`() = runBlocking {
        val caller = launch { send(events, blocking, { upload }, {}, {}) }
        withTimeout(LIMIT) { upload.joined.await() }
        try {
            withTimeout(LIMIT) { caller.cancelAndJoin() }
        } finally {
            // Or this test would wait for ever if it fails.
            upload.ended.complete(FakeUpload.REPORT)
        }
        assertTrue(upload.cancelled)
    }
}
