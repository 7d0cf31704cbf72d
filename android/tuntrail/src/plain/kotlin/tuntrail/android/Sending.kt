package tuntrail.android

import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.async
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext
import tuntrail.Event
import tuntrail.UploadInterface
import tuntrail.UploadProgress
import tuntrail.UploadReport

/**
 * Runs the upload that [begin] starts, from its beginning to its end. However the caller leaves early, by being cancelled or because
 * [onBegun] or [onProgress] throws, the upload is cancelled: nobody else knows of it.
 */
internal suspend fun <T> send(
    events: EventHub,
    blocking: CoroutineDispatcher,
    begin: () -> T,
    onBegun: suspend () -> Unit,
    onProgress: suspend (UploadProgress) -> Unit,
): UploadReport where T : UploadInterface, T : AutoCloseable {
    // Before the upload begins, so that no progress is missed.
    val mailbox = Mailbox()
    val receiver = mailbox::put
    events.add(receiver)
    try {
        // Not to be cancelled in the middle. Both are needed: what a change of the dispatcher returns is dropped if the context that it
        // returns to is cancelled, so that context is the outer one.
        val upload = withContext(NonCancellable) { withContext(blocking) { begin() } }
        return upload.use {
            try {
                onBegun()
            } catch (thrown: Throwable) {
                it.cancel()
                throw thrown
            }
            follow(it, mailbox, blocking, onProgress)
        }
    } finally {
        events.remove(receiver)
    }
}

/** Waits for the end of [upload], and tells its progress meanwhile; cancels it if the coroutine is cancelled. */
internal suspend fun follow(
    upload: UploadInterface,
    mailbox: Mailbox,
    blocking: CoroutineDispatcher,
    onProgress: suspend (UploadProgress) -> Unit,
): UploadReport = coroutineScope {
    val id = upload.id()
    val progress = launch {
        while (true) {
            val event = mailbox.take() ?: break
            if (event is Event.UploadProgress && event.upload == id) onProgress(event.progress)
        }
    }
    val report = async(blocking) { upload.join() }
    try {
        report.await()
    } catch (cancelled: CancellationException) {
        // Ends the wait, too, which this scope waits for. Returns at once; on `blocking` it might come after that wait.
        upload.cancel()
        throw cancelled
    } finally {
        progress.cancel()
    }
}
