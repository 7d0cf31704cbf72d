package tuntrail.android

import java.util.concurrent.CompletableFuture
import kotlinx.coroutines.CompletableDeferred
import tuntrail.UploadInterface
import tuntrail.UploadOutcome
import tuntrail.UploadReport

/** An upload that ends when it is cancelled, or when the test says so. */
internal class FakeUpload : UploadInterface, AutoCloseable {
    val ended = CompletableFuture<UploadReport>()

    /** Somebody waits for the end. */
    val joined = CompletableDeferred<Unit>()

    @Volatile
    var cancelled = false

    override fun id(): ULong = 7u

    override fun join(): UploadReport {
        joined.complete(Unit)
        return ended.get()
    }

    override fun report(): UploadReport? = ended.getNow(null)

    override fun cancel() {
        cancelled = true
        ended.complete(REPORT.copy(outcome = UploadOutcome.Cancelled))
    }

    override fun close() = Unit

    companion object {
        val REPORT = UploadReport(
            complete = true,
            outcome = UploadOutcome.Complete,
            summary = "",
            sentRecords = 3u,
            remainingRecords = 0u,
            droppedRecords = 0u,
            sentBytes = 1u,
            rawBytes = 1u,
        )
    }
}
