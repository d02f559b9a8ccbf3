internal import CLinux
internal import ClusterBase

/// An IPv4 or IPv6 address with its port, as the system takes it.
package struct SocketAddress: Hashable, Sendable, CustomStringConvertible {
    /// In the order of the network: the first four bytes in the low half's top for IPv4.
    var high: UInt64
    var low: UInt64
    var scope: UInt32
    package var port: UInt16
    package var isV6: Bool

    package static func loopback(port: UInt16 = 0) -> SocketAddress {
        SocketAddress(high: 0x7F00_0001 << 32, low: 0, scope: 0, port: port, isV6: false)
    }

    package static func any(port: UInt16) -> SocketAddress {
        SocketAddress(high: 0, low: 0, scope: 0, port: port, isV6: false)
    }

    init(high: UInt64, low: UInt64, scope: UInt32, port: UInt16, isV6: Bool) {
        self.high = high
        self.low = low
        self.scope = scope
        self.port = port
        self.isV6 = isV6
    }

    /// An address in digits, without brackets; nil when it is a name.
    package init?(digits: String, port: UInt16) {
        var raw = clinux_address()
        guard clinux_parse(digits, &raw) == 1 else { return nil }
        raw.port = port
        self.init(raw)
    }

    init(_ raw: clinux_address) {
        let words = withUnsafeBytes(of: raw.bytes) {
            (
                UInt64(bigEndian: $0.loadUnaligned(as: UInt64.self)),
                UInt64(bigEndian: $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
            )
        }
        self.init(high: words.0, low: words.1, scope: raw.scope, port: raw.port, isV6: raw.is_v6 != 0)
    }

    var raw: clinux_address {
        var raw = clinux_address()
        withUnsafeMutableBytes(of: &raw.bytes) {
            $0.storeBytes(of: high.bigEndian, as: UInt64.self)
            $0.storeBytes(of: low.bigEndian, toByteOffset: 8, as: UInt64.self)
        }
        raw.scope = scope
        raw.port = port
        raw.is_v6 = isV6 ? 1 : 0
        return raw
    }

    /// The address without its port.
    package var host: String {
        var text = [CChar](repeating: 0, count: 46)
        var raw = raw
        clinux_print(&raw, &text)
        return text.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
    }

    package var description: String { isV6 ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
