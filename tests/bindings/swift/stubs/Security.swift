// The part of Security that apple/ uses; see NetworkExtension.swift. Core Foundation's types are those that they are bridged to. The
// keychain is one of passwords in memory.
import Foundation

public typealias CFString = String
public typealias CFDictionary = [String: Any]
public typealias CFTypeRef = AnyObject
public typealias OSStatus = Int32

public let errSecSuccess: OSStatus = 0
public let errSecItemNotFound: OSStatus = -25300
public let errSecDuplicateItem: OSStatus = -25299

public let kSecClass: CFString = "class"
public let kSecClassGenericPassword: CFString = "genp"
public let kSecAttrService: CFString = "svce"
public let kSecAttrAccount: CFString = "acct"
public let kSecAttrAccessGroup: CFString = "agrp"
public let kSecAttrAccessible: CFString = "pdmn"
public let kSecAttrAccessibleAfterFirstUnlockThisDeviceOnly: CFString = "cku"
public let kSecUseDataProtectionKeychain: CFString = "nleg"
public let kSecValueData: CFString = "v_Data"
public let kSecValuePersistentRef: CFString = "v_PersistentRef"
public let kSecReturnData: CFString = "r_Data"
public let kSecReturnPersistentRef: CFString = "r_PersistentRef"

/// What the test's keychain holds, and what it answers instead of obeying.
public enum Keychain {
    nonisolated(unsafe) public static var items: [(attributes: CFDictionary, reference: Data)] = []
    nonisolated(unsafe) public static var refusal: OSStatus?
}

public func SecItemAdd(_ attributes: CFDictionary, _ result: UnsafeMutablePointer<CFTypeRef?>?) -> OSStatus {
    if let refusal = Keychain.refusal { return refusal }
    guard places(attributes).isEmpty else { return errSecDuplicateItem }
    let reference = Data(UUID().uuidString.utf8)
    Keychain.items.append((attributes, reference))
    if attributes[kSecReturnPersistentRef] != nil { result?.pointee = reference as AnyObject }
    return errSecSuccess
}

public func SecItemUpdate(_ query: CFDictionary, _ attributes: CFDictionary) -> OSStatus {
    if let refusal = Keychain.refusal { return refusal }
    let found = places(query)
    for place in found { Keychain.items[place].attributes.merge(attributes) { $1 } }
    return found.isEmpty ? errSecItemNotFound : errSecSuccess
}

public func SecItemCopyMatching(_ query: CFDictionary, _ result: UnsafeMutablePointer<CFTypeRef?>?) -> OSStatus {
    if let refusal = Keychain.refusal { return refusal }
    guard let place = places(query).first else { return errSecItemNotFound }
    let item = Keychain.items[place]
    let value = query[kSecReturnData] != nil ? item.attributes[kSecValueData] : item.reference
    result?.pointee = value as AnyObject
    return errSecSuccess
}

public func SecItemDelete(_ query: CFDictionary) -> OSStatus {
    if let refusal = Keychain.refusal { return refusal }
    let found = places(query)
    for place in found.reversed() { Keychain.items.remove(at: place) }
    return found.isEmpty ? errSecItemNotFound : errSecSuccess
}

/// Items that a query means. Those of the data protection keychain are found there only.
private func places(_ query: CFDictionary) -> [Int] {
    Keychain.items.indices.filter { place in
        let item = Keychain.items[place]
        if let reference = query[kSecValuePersistentRef] as? Data, reference != item.reference { return false }
        if (query[kSecUseDataProtectionKeychain] as? Bool) != (item.attributes[kSecUseDataProtectionKeychain] as? Bool) {
            return false
        }
        return [kSecClass, kSecAttrService, kSecAttrAccount, kSecAttrAccessGroup].allSatisfy { key in
            guard let wanted = query[key] as? String else { return true }
            return wanted == item.attributes[key] as? String
        }
    }
}
