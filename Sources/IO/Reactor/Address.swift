/// Where something listens, as people write it: `host:port`, `10.0.0.7:7400`, `[fd00::7]:7400`.
package struct Address: Hashable, Sendable, CustomStringConvertible {
    /// A name or an address in digits, without brackets.
    package var host: String
    package var port: UInt16

    package static let hostLengthMax = 253

    package init(host: String, port: UInt16) {
        self.host = host
        self.port = port
    }

    /// Reads `host:port`, or `host` alone when there is a port to assume. An IPv6 address stands in brackets.
    package init(parsing text: String, defaultPort: UInt16? = nil) throws(AddressError) {
        guard text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { throw AddressError(text, .badCharacter) }
        var host: Substring
        var rest: Substring
        if text.first == "[" {
            guard let close = text.firstIndex(of: "]") else { throw AddressError(text, .bracketOpen) }
            host = text[text.index(after: text.startIndex)..<close]
            rest = text[text.index(after: close)...]
            guard SocketAddress(digits: String(host), port: 0)?.isV6 == true else { throw AddressError(text, .notV6) }
        } else {
            let colon = text.firstIndex(of: ":") ?? text.endIndex
            host = text[..<colon]
            rest = text[colon...]
            if rest.dropFirst().contains(":") { throw AddressError(text, .v6WithoutBrackets) }
        }
        guard !host.isEmpty else { throw AddressError(text, .noHost) }
        guard host.utf8.count <= Address.hostLengthMax else { throw AddressError(text, .hostTooLong) }
        if rest.isEmpty {
            guard let defaultPort else { throw AddressError(text, .noPort) }
            self.init(host: String(host), port: defaultPort)
            return
        }
        let digits = rest.dropFirst()
        guard rest.first == ":", !digits.isEmpty, digits.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }),
            let port = UInt16(digits)
        else { throw AddressError(text, .badPort) }
        self.init(host: String(host), port: port)
    }

    /// The address for the system when the host is in digits; nil when a name has to be resolved first.
    package var resolved: SocketAddress? { SocketAddress(digits: host, port: port) }

    package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

/// Why a text is no address.
package struct AddressError: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Reason: Hashable, Sendable {
        case noHost
        case noPort
        case badPort
        case badCharacter
        case bracketOpen
        case notV6
        case v6WithoutBrackets
        case hostTooLong
    }
    package var text: String
    package var reason: Reason

    init(_ text: String, _ reason: Reason) {
        self.text = text
        self.reason = reason
    }

    package var description: String {
        let shown = text.unicodeScalars.prefix(80).map { $0.isASCII ? String($0) : "?" }.joined()
        return switch reason {
        case .noHost: "'\(shown)' names no host; write host:port, for example 10.0.0.7:7400"
        case .noPort: "'\(shown)' has no port; write host:port, for example 10.0.0.7:7400"
        case .badPort: "'\(shown)' has no valid port; a port is a number from 0 to 65535 behind the last colon"
        case .badCharacter: "'\(shown)' holds a blank or a character that no address has; write host:port in ASCII"
        case .bracketOpen: "'\(shown)' opens a bracket and does not close it; write [fd00::7]:7400"
        case .notV6: "'\(shown)' has no IPv6 address in its brackets; write [fd00::7]:7400, or leave the brackets out"
        case .v6WithoutBrackets: "'\(shown)' has several colons; put an IPv6 address in brackets, as in [fd00::7]:7400"
        case .hostTooLong: "'\(shown)' has a host of more than \(Address.hostLengthMax) bytes; use its real name"
        }
    }
}
