package androidx.test.platform.app

import android.app.Instrumentation
import android.os.Bundle

object InstrumentationRegistry {
    @JvmStatic
    fun registerInstance(
        @Suppress("UNUSED_PARAMETER") instrumentation: Instrumentation?,
        @Suppress("UNUSED_PARAMETER") arguments: Bundle?,
    ) = Unit
}
