internal import CLZ4

/// Why packed bytes could not be unpacked: they are not what `LZ4Codec.compress` made, or more than was allowed.
package enum LZ4Failure: Error, Hashable, Sendable, CustomStringConvertible {
    /// The bytes say that they unpack to more than the caller takes.
    case tooLarge(byteCount: Int, byteCountMax: Int)
    case malformed

    package var description: String {
        switch self {
        case .tooLarge(let byteCount, let byteCountMax):
            "the packed bytes unpack to \(byteCount) bytes, and at most \(byteCountMax) are taken"
        case .malformed: "the packed bytes are damaged: they don't unpack to the length that they name"
        }
    }
}

/// LZ4 blocks with their length: `unpacked length, four bytes, least significant first ‖ LZ4 block`.
///
/// There is no checksum in it: what carries the bytes has one. Unpacking never reads or writes beyond its bounds,
/// whatever the bytes are.
package enum LZ4Codec {
    /// No block is larger, packed or not.
    package static let byteCountMax = 64 << 20
    private static let headBytes = 4

    /// Packs bytes; nil when that would save less than an eighth of them, and plain bytes are better.
    package static func compress(_ bytes: [UInt8]) -> [UInt8]? {
        precondition(bytes.count <= byteCountMax, "a block of \(bytes.count) bytes, above \(byteCountMax)")
        let limit = bytes.count - bytes.count / 8 - headBytes
        if limit <= 0 { return nil }
        var packedCount = 0
        let packed = [UInt8](unsafeUninitializedCapacity: headBytes + limit) { out, count in
            packedCount = bytes.withUnsafeBytes { source in
                UnsafeMutableRawBufferPointer(out).withMemoryRebound(to: CChar.self) { target in
                    guard let to = target.baseAddress else { return 0 }
                    return source.withMemoryRebound(to: CChar.self) { from in
                        Int(LZ4_compress_default(from.baseAddress, to + headBytes, CInt(bytes.count), CInt(limit)))
                    }
                }
            }
            for i in 0..<headBytes { out[i] = UInt8(truncatingIfNeeded: bytes.count >> (8 * i)) }
            count = packedCount > 0 ? headBytes + packedCount : 0
        }
        return packedCount > 0 ? packed : nil
    }

    /// Unpacks what `compress` made, if it is at most `byteCountMax` bytes.
    package static func decompress(_ packed: [UInt8], byteCountMax: Int) throws(LZ4Failure) -> [UInt8] {
        guard packed.count > headBytes else { throw .malformed }
        var expected = 0
        for i in 0..<headBytes { expected |= Int(packed[i]) << (8 * i) }
        let allowed = min(byteCountMax, Self.byteCountMax)
        if expected > allowed { throw .tooLarge(byteCount: expected, byteCountMax: allowed) }
        // A block shrinks by no more than this; a larger claim is not worth the memory.
        if expected > packed.count * 256 { throw .malformed }
        var found = -1
        let bytes = [UInt8](unsafeUninitializedCapacity: expected) { out, count in
            found = packed.withUnsafeBytes { source in
                UnsafeMutableRawBufferPointer(out).withMemoryRebound(to: CChar.self) { target in
                    source.withMemoryRebound(to: CChar.self) { from in
                        guard let start = from.baseAddress else { return -1 }
                        return Int(
                            LZ4_decompress_safe(
                                start + headBytes, target.baseAddress, CInt(packed.count - headBytes), CInt(expected)))
                    }
                }
            }
            count = max(found, 0)
        }
        if found != expected { throw .malformed }
        return bytes
    }
}
