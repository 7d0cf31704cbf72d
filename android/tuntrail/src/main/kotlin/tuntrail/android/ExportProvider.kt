package tuntrail.android

import android.content.ContentProvider
import android.content.ContentValues
import android.content.Context
import android.content.Intent
import android.database.Cursor
import android.database.MatrixCursor
import android.net.Uri
import android.os.ParcelFileDescriptor
import android.provider.OpenableColumns
import java.io.File
import java.io.FileNotFoundException
import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.Dispatchers
import tuntrail.ClientConfig

/**
 * Starts a client as [Tuntrail.open] does, which deletes the files of [newExportFile] with the records: at a denial, and by
 * [Tuntrail.clear]. Waits for the disk: not for the main thread.
 */
fun Context.openTuntrail(config: ClientConfig, blocking: CoroutineDispatcher = Dispatchers.IO): Tuntrail =
    Tuntrail.open(config, blocking, exportFolder(this))

/**
 * Where [Tuntrail.export] may write for [shareExport]: each call is a new file, and earlier ones are deleted, so that the user's records
 * don't pile up. The system deletes the folder when it needs room; [openTuntrail] says who else.
 */
fun Context.newExportFile(): File {
    deleteExports()
    val folder = exportFolder(this)
    folder.mkdirs()
    return File(folder, "tuntrail-${System.currentTimeMillis() / 1000}.tar.zst")
}

/** An intent that lets the user send an exported [file] from [newExportFile], by mail or whatever the device has. */
fun Context.shareExport(file: File, subject: String): Intent {
    val uri = Uri.Builder().scheme("content").authority("$packageName.tuntrail.exports").appendPath(file.name).build()
    val send = Intent(Intent.ACTION_SEND)
        .setType(ExportProvider.TYPE)
        .putExtra(Intent.EXTRA_STREAM, uri)
        .putExtra(Intent.EXTRA_SUBJECT, subject)
        .addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION)
    // The chooser passes the permission on from here, not from the extra.
    send.clipData = android.content.ClipData.newRawUri(subject, uri)
    return Intent.createChooser(send, null)
}

/** Deletes the files of [newExportFile]: for an app that denies or clears otherwise than by a [Tuntrail] of [openTuntrail]. */
fun Context.deleteExports() {
    exportFolder(this).deleteRecursively()
}

private fun exportFolder(context: Context) = File(context.cacheDir, "tuntrail-exports")

/** Reads exported files for the apps that the user chose, and only for them: it is not exported, each address is granted. */
class ExportProvider : ContentProvider() {
    override fun onCreate(): Boolean = true

    override fun openFile(uri: Uri, mode: String): ParcelFileDescriptor {
        if (mode != "r") throw FileNotFoundException("$uri can only be read")
        return ParcelFileDescriptor.open(file(uri), ParcelFileDescriptor.MODE_READ_ONLY)
    }

    override fun query(
        uri: Uri,
        projection: Array<out String>?,
        selection: String?,
        selectionArgs: Array<out String>?,
        sortOrder: String?,
    ): Cursor {
        val file = file(uri)
        val columns = projection ?: arrayOf(OpenableColumns.DISPLAY_NAME, OpenableColumns.SIZE)
        val row = columns.map {
            when (it) {
                OpenableColumns.DISPLAY_NAME -> file.name
                OpenableColumns.SIZE -> file.length()
                else -> null
            }
        }
        return MatrixCursor(columns, 1).apply { addRow(row) }
    }

    override fun getType(uri: Uri): String = TYPE

    override fun insert(uri: Uri, values: ContentValues?): Uri? = null

    override fun delete(uri: Uri, selection: String?, selectionArgs: Array<out String>?): Int = 0

    override fun update(uri: Uri, values: ContentValues?, selection: String?, selectionArgs: Array<out String>?): Int = 0

    /** A file right in the folder, and none elsewhere, whatever the address says. */
    private fun file(uri: Uri): File {
        val folder = exportFolder(context ?: throw FileNotFoundException("the provider is not attached"))
        val name = uri.pathSegments.singleOrNull() ?: throw FileNotFoundException("$uri is no export")
        return folder.listFiles()?.find { it.name == name } ?: throw FileNotFoundException("$uri is no export")
    }

    internal companion object {
        const val TYPE = "application/zstd"
    }
}
