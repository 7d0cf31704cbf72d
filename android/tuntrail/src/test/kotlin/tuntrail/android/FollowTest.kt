package tuntrail.android

import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import tuntrail.Event
import tuntrail.UploadProgress

class FollowTest {
    private val mailbox = Mailbox()
    private val upload = FakeUpload()

    @Test
    fun `progress of this upload and of no other is told until the report`() = runBlocking {
        val told = mutableListOf<ULong>()
        val second = CompletableDeferred<Unit>()
        val report = async {
            follow(upload, mailbox, Dispatchers.IO) {
                told += it.sentRecords
                if (told.size == 2) second.complete(Unit)
            }
        }
        mailbox.put(progress(7u, 1u))
        mailbox.put(progress(8u, 2u))
        mailbox.put(progress(7u, 3u))
        withTimeout(LIMIT) { second.await() }
        upload.ended.complete(FakeUpload.REPORT)
        assertEquals(FakeUpload.REPORT, withTimeout(LIMIT) { report.await() })
        assertEquals(listOf<ULong>(1u, 3u), told)
        assertFalse(upload.cancelled)
    }

    @Test
    fun `cancelling ends the upload, and returns when it has ended`() = runBlocking {
        val begun = CompletableDeferred<Unit>()
        val following = launch { follow(upload, mailbox, Dispatchers.IO) { begun.complete(Unit) } }
        mailbox.put(progress(7u, 1u))
        withTimeout(LIMIT) { begun.await() }
        withTimeout(LIMIT) { following.cancelAndJoin() }
        assertTrue(upload.cancelled)
    }

    @Test
    fun `a receiver of progress that throws ends the upload, too`() {
        mailbox.put(progress(7u, 1u))
        assertThrows(IllegalStateException::class.java) {
            runBlocking { withTimeout(LIMIT) { follow(upload, mailbox, Dispatchers.IO) { error("the screen is gone") } } }
        }
        assertTrue(upload.cancelled)
    }

    private fun progress(upload: ULong, records: ULong): Event =
        Event.UploadProgress(upload, UploadProgress("netlog", sentRecords = records, totalRecords = 9u, sentBytes = 1u))
}
