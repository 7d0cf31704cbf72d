#if canImport(Security)
import Foundation
import Security

/// Keeps tunnels' configurations, which hold private keys, in the keychain.
///
/// App and extension must share a keychain access group. An item can be read once the device was unlocked after a restart, so a
/// tunnel may also start while it is locked; it never leaves the device.
public enum TuntrailKeychain {
    /// Tells items apart from others of the app.
    private static let service = "tuntrail.configuration"

    /// Saves a wg-quick text under `name`. Returns what `passwordReference` of the VPN configuration needs. An older text of that
    /// name is replaced where it is: its reference stays good, also if something fails after this.
    ///
    /// - Throws: `TuntrailError.Storage` with the keychain's status; then an older text is as it was.
    public static func save(_ text: String, name: String, accessGroup: String) throws -> Data {
        let item = query(name: name, accessGroup: accessGroup)
        let content: [String: Any] = [
            kSecValueData as String: Data(text.utf8),
            kSecAttrAccessible as String: kSecAttrAccessibleAfterFirstUnlockThisDeviceOnly,
        ]
        let wanted: [String: Any] = [kSecReturnPersistentRef as String: true]
        var result: CFTypeRef?
        var status = SecItemUpdate(item as CFDictionary, content as CFDictionary)
        if status == errSecSuccess {
            status = SecItemCopyMatching(item.merging(wanted) { $1 } as CFDictionary, &result)
        } else if status == errSecItemNotFound {
            status = SecItemAdd(item.merging(content) { $1 }.merging(wanted) { $1 } as CFDictionary, &result)
        }
        guard status == errSecSuccess, let reference = result as? Data else { throw failed("saved", status) }
        return reference
    }

    /// Reads the text that a reference stands for.
    ///
    /// - Throws: `TuntrailError.Storage` with the keychain's status.
    public static func load(reference: Data) throws -> String {
        let query: [String: Any] = [
            kSecClass as String: kSecClassGenericPassword,
            kSecValuePersistentRef as String: reference,
            kSecReturnData as String: true,
            // Where it was saved.
            kSecUseDataProtectionKeychain as String: true,
        ]
        var result: CFTypeRef?
        let status = SecItemCopyMatching(query as CFDictionary, &result)
        guard status == errSecSuccess, let data = result as? Data else { throw failed("read", status) }
        return String(decoding: data, as: UTF8.self)
    }

    /// Deletes an item. Harmless if there is none.
    ///
    /// - Throws: `TuntrailError.Storage` with the keychain's status.
    public static func remove(name: String, accessGroup: String) throws {
        let status = SecItemDelete(query(name: name, accessGroup: accessGroup) as CFDictionary)
        guard status == errSecSuccess || status == errSecItemNotFound else { throw failed("deleted", status) }
    }

    private static func query(name: String, accessGroup: String) -> [String: Any] {
        [
            kSecClass as String: kSecClassGenericPassword,
            kSecAttrService as String: service,
            kSecAttrAccount as String: name,
            kSecAttrAccessGroup as String: accessGroup,
            // On macOS, too, the keychain that knows access groups.
            kSecUseDataProtectionKeychain as String: true,
        ]
    }

    private static func failed(_ what: String, _ status: OSStatus) -> TuntrailError {
        .Storage(reason: "the tunnel's configuration can't be \(what): keychain status \(status)")
    }
}
#endif
