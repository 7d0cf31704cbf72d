import Foundation

/// Where records and exports are: in the container of the app group, so that the app can read what its extension wrote.
public struct TuntrailDirectories: Equatable, Sendable {
    /// For `ClientConfig.directory`. Excluded from backups. App and extension may share it, each in its own role.
    public let records: URL
    /// Where exported files appear. Excluded from backups, and the system may empty it when it wants space.
    public let exports: URL

    /// Makes both in `container`, if they are not there.
    ///
    /// - Throws: `TuntrailError.Storage`.
    public init(container: URL) throws {
        try self.init(container: container, mark: Self.mark)
    }

    package init(container: URL, mark: (URL) throws -> Void) throws {
        let library = container.appendingPathComponent("Library", isDirectory: true)
        records = library.appendingPathComponent("Application Support/tuntrail", isDirectory: true)
        exports = library.appendingPathComponent("Caches/tuntrail-exports", isDirectory: true)
        for directory in [records, exports] {
            do {
                // Also looks whether what is there is one.
                try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
            } catch {
                throw TuntrailError.Storage(reason: "\(directory.path) can't be made: \(error.localizedDescription)")
            }
            do {
                // Each time: the process may have ended right after it had made the directory.
                try mark(directory)
            } catch {
                // Records are kept all the same. As before the first unlock, when nothing can be changed.
                let error = error as NSError
                note("\(directory.lastPathComponent) can't be marked: \(error.domain) \(error.code)")
            }
        }
    }

    private static func mark(_ directory: URL) throws {
        #if os(iOS)
        // Readable while the device is locked, as a tunnel runs then, too; what is made inside inherits it.
        try FileManager.default.setAttributes(
            [.protectionKey: FileProtectionType.completeUntilFirstUserAuthentication], ofItemAtPath: directory.path)
        #endif
        #if canImport(NetworkExtension)
        var values = URLResourceValues()
        values.isExcludedFromBackup = true
        var directory = directory
        try directory.setResourceValues(values)
        #endif
    }

    #if canImport(NetworkExtension)
    /// Makes both in the container of an app group that the entitlements of app and extension name.
    ///
    /// - Throws: `TuntrailError.Config` if the entitlements don't, `TuntrailError.Storage` as ``init(container:)``.
    public init(appGroup: String) throws {
        guard let container = FileManager.default.containerURL(forSecurityApplicationGroupIdentifier: appGroup) else {
            throw TuntrailError.Config(
                reason: "there is no container for \(appGroup): add the app group to the entitlements of app and extension")
        }
        try self.init(container: container)
    }
    #endif
}

extension URL {
    /// Deletes all that is in a directory, which need not be there.
    package func deleteContents() throws {
        let files = FileManager.default
        guard files.fileExists(atPath: path) else { return }
        for file in try files.contentsOfDirectory(at: self, includingPropertiesForKeys: nil) {
            try files.removeItem(at: file)
        }
    }
}
