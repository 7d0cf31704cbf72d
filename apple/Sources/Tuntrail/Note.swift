import Foundation

#if canImport(os)
import os
#endif

/// Tells in the system's log what went wrong here and stops nothing. The text must not name anything of the user's.
package func note(_ text: String) {
    #if canImport(os)
    Logger(subsystem: "tuntrail", category: "swift").error("\(text, privacy: .public)")
    #else
    FileHandle.standardError.write(Data("tuntrail: \(text)\n".utf8))
    #endif
}
