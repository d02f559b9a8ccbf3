/// Percent-encoding (RFC 3986 2.1) of any bytes as path or query text.
package enum PercentCoding {
    /// The bytes meant by `encoded`; nil where a percent sign is not followed by two hex digits. In a query a plus sign
    /// is a space.
    package static func decode(_ encoded: ArraySlice<UInt8>, plusIsSpace: Bool = false) -> [UInt8]? {
        if !encoded.contains(UInt8(ascii: "%")) && !(plusIsSpace && encoded.contains(UInt8(ascii: "+"))) {
            return Array(encoded)
        }
        var decoded: [UInt8] = []
        decoded.reserveCapacity(encoded.count)
        var at = encoded.startIndex
        while at < encoded.endIndex {
            let byte = encoded[at]
            if byte == UInt8(ascii: "%") {
                guard at + 2 < encoded.endIndex, let high = HTTPSyntax.hexDigit(encoded[at + 1]),
                    let low = HTTPSyntax.hexDigit(encoded[at + 2])
                else { return nil }
                decoded.append(high << 4 | low)
                at += 3
            } else {
                decoded.append(plusIsSpace && byte == UInt8(ascii: "+") ? UInt8(ascii: " ") : byte)
                at += 1
            }
        }
        return decoded
    }

    /// Appends `bytes` so that they may stand in a path or a query. Slashes stay where `keepsSlashes`.
    package static func encode(_ bytes: some Collection<UInt8>, keepsSlashes: Bool, into out: inout [UInt8]) {
        if bytes.allSatisfy({ isUnreserved($0) || (keepsSlashes && $0 == UInt8(ascii: "/")) }) {
            out.append(contentsOf: bytes)
            return
        }
        for byte in bytes {
            if isUnreserved(byte) || (keepsSlashes && byte == UInt8(ascii: "/")) {
                out.append(byte)
            } else {
                out.append(UInt8(ascii: "%"))
                out.append(hex(byte >> 4))
                out.append(hex(byte & 15))
            }
        }
    }

    @inline(__always) static func isUnreserved(_ byte: UInt8) -> Bool {
        switch byte {
        case 48...57, 65...90, 97...122, UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"):
            true
        default: false
        }
    }

    private static func hex(_ digit: UInt8) -> UInt8 { digit < 10 ? 48 + digit : 55 + digit }
}

/// Base64 (RFC 4648), both alphabets.
package enum Base64 {
    /// Appends `bytes` in the standard alphabet, padded.
    package static func encode(_ bytes: some Collection<UInt8>, into out: inout [UInt8]) {
        out.reserveCapacity(out.count + (bytes.count + 2) / 3 * 4)
        var group: UInt32 = 0
        var held = 0
        for byte in bytes {
            group = group << 8 | UInt32(byte)
            held += 1
            if held == 3 {
                out.append(digit(group >> 18))
                out.append(digit(group >> 12))
                out.append(digit(group >> 6))
                out.append(digit(group))
                group = 0
                held = 0
            }
        }
        if held == 1 {
            out.append(digit(group >> 2))
            out.append(digit(group << 4))
            out.append(UInt8(ascii: "="))
            out.append(UInt8(ascii: "="))
        } else if held == 2 {
            out.append(digit(group >> 10))
            out.append(digit(group >> 4))
            out.append(digit(group << 2))
            out.append(UInt8(ascii: "="))
        }
    }

    /// Appends `bytes` in the alphabet for URLs, without padding.
    package static func encodeForURL(_ bytes: some Collection<UInt8>, into out: inout [UInt8]) {
        let from = out.count
        encode(bytes, into: &out)
        while out.count > from && out[out.count - 1] == UInt8(ascii: "=") { out.removeLast() }
        for i in from..<out.count {
            if out[i] == UInt8(ascii: "+") { out[i] = UInt8(ascii: "-") }
            if out[i] == UInt8(ascii: "/") { out[i] = UInt8(ascii: "_") }
        }
    }

    /// The bytes meant by either alphabet, padded or not; nil for anything that the encoder would not have written.
    package static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
        var decoded: [UInt8] = []
        decoded.reserveCapacity(text.count / 4 * 3 + 2)
        var group: UInt32 = 0
        var bits = 0
        var digits = 0
        var padding = 0
        for byte in text {
            if byte == UInt8(ascii: "=") {
                padding += 1
                continue
            }
            guard padding == 0, let value = value(byte) else { return nil }
            digits += 1
            group = group << 6 | value
            bits += 6
            if bits >= 8 {
                bits -= 8
                decoded.append(UInt8(truncatingIfNeeded: group >> UInt32(bits)))
                group &= (1 << UInt32(bits)) - 1
            }
        }
        // A lone digit, bits that mean nothing, and padding to no multiple of four are not the encoder's.
        if digits % 4 == 1 || group != 0 || (padding > 0 && (digits + padding) % 4 != 0) || padding > 2 { return nil }
        return decoded
    }

    @inline(__always) private static func digit(_ bits: UInt32) -> UInt8 {
        let value = UInt8(truncatingIfNeeded: bits & 63)
        switch value {
        case 0..<26: return 65 + value
        case 26..<52: return 71 + value
        case 52..<62: return value &- 4
        case 62: return UInt8(ascii: "+")
        default: return UInt8(ascii: "/")
        }
    }

    @inline(__always) private static func value(_ digit: UInt8) -> UInt32? {
        switch digit {
        case 65...90: UInt32(digit - 65)
        case 97...122: UInt32(digit - 71)
        case 48...57: UInt32(digit + 4)
        case UInt8(ascii: "+"), UInt8(ascii: "-"): 62
        case UInt8(ascii: "/"), UInt8(ascii: "_"): 63
        default: nil
        }
    }
}
