import Foundation

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#endif

/// Finds the descriptor of the utun device that the system has opened for a packet tunnel provider.
///
/// Apple hands packets over by `NEPacketTunnelFlow`, one array of copies per call; the descriptor behind it lets the core read and
/// write batches without a copy into Swift. There is no public property for it. Some read a private one by key-value coding
/// (`socket.fileDescriptor`), which may be refused at review or vanish. This uses public system calls only: among the
/// process's descriptors, of which an extension has few, it is the one that is connected to the kernel control
/// `com.apple.net.utun_control`. The constants are those of `sys/kern_control.h` and `sys/sys_domain.h`, which not all of Apple's SDKs
/// have as a module.
package enum UtunDescriptor {
    private static let controlName = "com.apple.net.utun_control"
    /// `AF_SYSTEM`.
    private static let family: UInt8 = 32
    /// `sizeof(struct sockaddr_ctl)`: length and family (1 byte each), kind (2), control (4), unit (4), reserved (20).
    private static let addressSize = 32
    private static let controlOffset = 4
    /// `sizeof(struct ctl_info)`: control (4), name (96).
    private static let infoSize = 100
    private static let nameOffset = 4
    /// `CTLIOCGINFO`, that is `_IOWR('N', 3, struct ctl_info)`.
    private static let getInfo: UInt = 0xC000_0000 | UInt(infoSize) << 16 | 0x4E << 8 | 3
    /// An extension has some dozens. The first that the process opened come first, so the search is short.
    private static let last: Int32 = 1023

    /// The descriptor, which stays the system's: it must be neither closed nor handed to code that closes it. Ask after
    /// `setTunnelNetworkSettings` has finished; `nil` before.
    package static func find() -> Int32? {
        (0...last).first { descriptor in
            var address = [UInt8](repeating: 0, count: addressSize)
            guard peer(of: descriptor, &address), let control = control(of: address) else { return false }
            return control == utunControl(askedThrough: descriptor)
        }
    }

    /// The kernel control that an address names, if it is one of a kernel control.
    package static func control(of address: [UInt8]) -> UInt32? {
        guard address.count == addressSize, address[1] == family else { return nil }
        return number(address, at: controlOffset)
    }

    private static func peer(of descriptor: Int32, _ address: inout [UInt8]) -> Bool {
        var length = socklen_t(addressSize)
        return address.withUnsafeMutableBytes { bytes in
            guard let base = bytes.baseAddress else { return false }
            return getpeername(descriptor, base.assumingMemoryBound(to: sockaddr.self), &length) == 0
        }
    }

    /// The number that utun has since the device was started.
    private static func utunControl(askedThrough descriptor: Int32) -> UInt32? {
        var info = [UInt8](repeating: 0, count: infoSize)
        info.replaceSubrange(nameOffset..<nameOffset + controlName.utf8.count, with: controlName.utf8)
        let status = info.withUnsafeMutableBytes { bytes -> Int32 in
            guard let base = bytes.baseAddress else { return -1 }
            return ioctl(descriptor, getInfo, base)
        }
        return status == 0 ? number(info, at: 0) : nil
    }

    private static func number(_ bytes: [UInt8], at offset: Int) -> UInt32 {
        bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self) }
    }
}
