/// A host, by name or by address, and a port.
package struct Endpoint: Hashable, Sendable, CustomStringConvertible {
    /// A DNS name, an IPv4 address, or an IPv6 address without brackets.
    package let host: String
    package let port: UInt16

    package static let hostBytesMax = 253

    /// Nil unless the host is a name or an address in its usual characters.
    package init?(host: String, port: UInt16) {
        let bytes = Array(host.utf8)
        guard (1...Self.hostBytesMax).contains(bytes.count) else { return nil }
        if bytes.contains(0x3A) {
            guard bytes.count <= 45, bytes.allSatisfy({ Self.isHexDigit($0) || $0 == 0x3A || $0 == 0x2E }),
                bytes.count(where: { $0 == 0x3A }) >= 2
            else { return nil }
        } else {
            guard Self.isName(bytes) else { return nil }
        }
        self.host = host
        self.port = port
    }

    /// Reads `10.0.0.1:7471`, `host.example:7471` or `[fd00::1]:7471`.
    package init?(_ text: String) {
        guard text.utf8.count <= Self.hostBytesMax + 8, let colon = text.lastIndex(of: ":") else { return nil }
        var host = String(text[..<colon])
        let digits = text[text.index(after: colon)...]
        guard (1...5).contains(digits.utf8.count), digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let port = UInt16(digits)
        else { return nil }
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = String(host.dropFirst().dropLast())
            guard host.contains(":") else { return nil }
        } else if host.contains(":") {
            return nil
        }
        self.init(host: host, port: port)
    }

    package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

    /// True for the address that stands for all of this machine's: good to listen on, and nobody else can use it.
    package var isWildcard: Bool {
        host == "0.0.0.0" || host.allSatisfy { $0 == ":" || $0 == "0" } && host.contains(":")
    }

    private static func isHexDigit(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x46).contains(byte) || (0x61...0x66).contains(byte)
    }

    /// Labels of 1 to 63 letters, digits and dashes, with dots between them; no dash at either end.
    private static func isName(_ bytes: [UInt8]) -> Bool {
        bytes.split(separator: 0x2E, omittingEmptySubsequences: false).allSatisfy { label in
            (1...63).contains(label.count) && label.first != 0x2D && label.last != 0x2D
                && label.allSatisfy { byte in
                    (0x61...0x7A).contains(byte | 0x20) || (0x30...0x39).contains(byte) || byte == 0x2D
                }
        }
    }
}
