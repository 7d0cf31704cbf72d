package tuntrail.android

/** Ends a test that hangs, in milliseconds; nothing is timed. */
internal const val LIMIT = 30_000L
