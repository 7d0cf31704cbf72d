// The annotation that UniFFI's Kotlin for Android uses. The real one is at Google's Maven repository only; it has no effect at run time.

package androidx.annotation

@Retention(AnnotationRetention.BINARY)
annotation class RequiresApi(val value: Int = 1, val api: Int = 1)
