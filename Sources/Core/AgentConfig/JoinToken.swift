import ClusterBase

/// What a node needs to join a cluster, on one line that a person can copy: where to ask, the secret to show, and how to
/// know that it is the right cluster that answers.
///
///     "mst1_" · base64url( count · (length · address)… · length · secret · fingerprint (32) · CRC-32C (4, big-endian) )
///
/// The checksum is against slips in copying. The secret protects the cluster, the fingerprint the node.
package struct JoinToken: Hashable, Sendable, CustomStringConvertible {
    package let addresses: [Endpoint]
    package let secret: [UInt8]
    /// The SHA-256 of the authority's certificate.
    package let fingerprint: [UInt8]

    package static let prefix = "mst1_"
    package static let addressesMax = 8
    package static let secretBytes = 16...64
    package static let fingerprintBytes = 32
    /// Characters of the longest text that is looked at.
    package static let textBytesMax = 4_096

    /// The bounds are the caller's to keep: 1 to 8 addresses, a secret of 16 to 64 bytes, a fingerprint of 32.
    package init(addresses: [Endpoint], secret: [UInt8], fingerprint: [UInt8]) {
        precondition(
            (1...Self.addressesMax).contains(addresses.count), "a join token of \(addresses.count) addresses")
        precondition(Self.secretBytes.contains(secret.count), "a join token with a secret of \(secret.count) bytes")
        precondition(
            fingerprint.count == Self.fingerprintBytes, "a join token with a fingerprint of \(fingerprint.count) bytes")
        self.addresses = addresses
        self.secret = secret
        self.fingerprint = fingerprint
    }

    /// Without the secret, so that no log gets it by accident.
    package var description: String { "join token for \(addresses.map(\.description).joined(separator: ", "))" }

    /// The line to copy. It has the secret in it.
    package var text: String {
        var bytes: [UInt8] = [UInt8(addresses.count)]
        for address in addresses {
            let text = Array(address.description.utf8)
            precondition(text.count <= 255 + 8, "an address of \(text.count) bytes")
            bytes.append(UInt8(truncatingIfNeeded: text.count >> 8))
            bytes.append(UInt8(truncatingIfNeeded: text.count))
            bytes += text
        }
        bytes.append(UInt8(secret.count))
        bytes += secret
        bytes += fingerprint
        let checksum = CRC32C.of(bytes)
        for shift in [24, 16, 8, 0] { bytes.append(UInt8(truncatingIfNeeded: checksum >> UInt32(shift))) }
        return Self.prefix + Base64URL.text(bytes)
    }

    /// Reads a token. White space around it is allowed, and nothing else that `text` would not write.
    package init(_ text: String) throws(JoinTokenFailure) {
        guard text.utf8.count <= Self.textBytesMax else { throw .tooLong }
        let word = text.drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed()
        let line = String(word)
        guard line.hasPrefix(Self.prefix) else {
            if line.hasPrefix("mst"), line.dropFirst(3).prefix(while: \.isNumber).count > 0 { throw .otherVersion }
            throw .noToken
        }
        let encoded = Array(line.utf8.dropFirst(Self.prefix.utf8.count))
        if let position = encoded.firstIndex(where: { !Base64URL.isCharacter($0) }) {
            throw .badCharacter(position: position + Self.prefix.utf8.count + 1)
        }
        guard let bytes = Base64URL.bytes(encoded), bytes.count > 4 else { throw .damaged }
        let body = Array(bytes.dropLast(4))
        let checksum = bytes.suffix(4).reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        guard CRC32C.of(body) == checksum, let made = Self.read(body) else { throw .damaged }
        self = made
    }

    /// A body whose checksum is right may still be anybody's work.
    private static func read(_ body: [UInt8]) -> JoinToken? {
        var rest = body[...]
        func take(_ count: Int) -> [UInt8]? {
            guard rest.count >= count else { return nil }
            defer { rest = rest.dropFirst(count) }
            return Array(rest.prefix(count))
        }
        guard let count = take(1)?[0], (1...addressesMax).contains(Int(count)) else { return nil }
        var addresses: [Endpoint] = []
        for _ in 0..<count {
            guard let length = take(2), let bytes = take(Int(length[0]) << 8 | Int(length[1])) else { return nil }
            let text = String(decoding: bytes, as: UTF8.self)
            guard let address = Endpoint(text), address.description == text else { return nil }
            addresses.append(address)
        }
        guard let length = take(1)?[0], secretBytes.contains(Int(length)), let secret = take(Int(length)),
            let fingerprint = take(fingerprintBytes), rest.isEmpty
        else { return nil }
        return JoinToken(addresses: addresses, secret: secret, fingerprint: fingerprint)
    }
}

/// Why a text is no join token, as a sentence that says what to do.
package enum JoinTokenFailure: Error, Hashable, Sendable, CustomStringConvertible {
    case noToken
    case otherVersion
    case tooLong
    /// Counted from 1.
    case badCharacter(position: Int)
    case damaged

    package var description: String {
        switch self {
        case .noToken:
            "This is no join token; it must begin with \(JoinToken.prefix), as `muster token create` prints it."
        case .otherVersion:
            "This join token is of another version of Muster; make one with the version that this node runs."
        case .tooLong:
            "This is no join token: it has more than \(JoinToken.textBytesMax) characters; copy one line and no more."
        case .badCharacter(let position):
            "Character \(position) of the join token can't be part of one; copy it again as one line."
        case .damaged:
            "The join token was cut or changed; copy it again as one line, from its first to its last character."
        }
    }
}

/// Base 64 with the characters of URLs and without padding (RFC 4648 §5).
private enum Base64URL {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

    static func isCharacter(_ byte: UInt8) -> Bool { value(byte) != nil }

    static func text(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = []
        text.reserveCapacity((bytes.count * 4 + 2) / 3)
        var held: UInt32 = 0
        var bits: UInt32 = 0
        for byte in bytes {
            held = held << 8 | UInt32(byte)
            bits += 8
            while bits >= 6 {
                bits -= 6
                text.append(alphabet[Int(held >> bits & 63)])
            }
        }
        if bits > 0 { text.append(alphabet[Int(held << (6 - bits) & 63)]) }
        return String(decoding: text, as: UTF8.self)
    }

    /// Nil when the characters are not exactly what `text` gives for some bytes.
    static func bytes(_ text: [UInt8]) -> [UInt8]? {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count * 3 / 4)
        var held: UInt32 = 0
        var bits: UInt32 = 0
        for character in text {
            guard let value = value(character) else { return nil }
            held = held << 6 | value
            bits += 6
            if bits >= 8 {
                bits -= 8
                bytes.append(UInt8(truncatingIfNeeded: held >> bits))
            }
        }
        return bits < 6 && held & (1 << bits - 1) == 0 ? bytes : nil
    }

    private static func value(_ byte: UInt8) -> UInt32? {
        switch byte {
        case 0x41...0x5A: UInt32(byte) - 0x41
        case 0x61...0x7A: UInt32(byte) - 0x61 + 26
        case 0x30...0x39: UInt32(byte) - 0x30 + 52
        case 0x2D: 62
        case 0x5F: 63
        default: nil
        }
    }
}
