internal import CProcessor

/// CRC-32C (Castagnoli), the checksum of stored records and frames. Finds every burst of up to 32 bits.
@frozen public struct CRC32C: Sendable {
    @usableFromInline var state: UInt32 = 0xFFFF_FFFF
    @inlinable public init() {}

    /// The checksum of all bytes added so far.
    public var value: UInt32 { state ^ 0xFFFF_FFFF }

    /// Adds bytes; in pieces or at once they give the same checksum.
    public mutating func add(_ bytes: Span<UInt8>) {
        guard hasInstruction else {
            addByTable(bytes)
            return
        }
        // The instruction reads `count` bytes of a buffer that outlives the call, and keeps nothing.
        state = unsafe bytes.withUnsafeBufferPointer { unsafe cprocessor_crc32c(state, $0.baseAddress, $0.count) }
    }

    /// The same where the processor has no instruction for it.
    package mutating func addByTable(_ bytes: Span<UInt8>) {
        var crc = state
        let table = crcTables.span
        var i = 0
        let count = bytes.count
        // Eight bytes a round, one table each (slicing by 8): about eight times the plain loop.
        while i + 8 <= count {
            let low = crc ^ word32(bytes, i)
            let high = word32(bytes, i + 4)
            crc =
                table[1792 + Int(low & 0xFF)] ^ table[1536 + Int((low >> 8) & 0xFF)]
                ^ table[1280 + Int((low >> 16) & 0xFF)] ^ table[1024 + Int(low >> 24)]
                ^ table[768 + Int(high & 0xFF)] ^ table[512 + Int((high >> 8) & 0xFF)]
                ^ table[256 + Int((high >> 16) & 0xFF)] ^ table[Int(high >> 24)]
            i += 8
        }
        while i < count {
            crc = table[Int((crc ^ UInt32(bytes[i])) & 0xFF)] ^ (crc >> 8)
            i += 1
        }
        state = crc
    }

    /// The same for an array.
    public mutating func add(_ bytes: [UInt8]) { add(bytes.span) }

    /// The checksum of `bytes` alone.
    public static func of(_ bytes: [UInt8]) -> UInt32 {
        var crc = CRC32C()
        crc.add(bytes)
        return crc.value
    }
}

/// A fast 64-bit hash for chains and digests of our own data. Not for secrets, and not keyed against an attacker.
@frozen public struct ChainHash: Sendable {
    @usableFromInline var state: UInt64

    /// Hashes that begin with another seed have nothing in common.
    @inlinable public init(_ seed: UInt64 = 0) { state = seed ^ 0x9E37_79B9_7F4A_7C15 }

    /// Adds eight bytes as one number; their order matters.
    @inlinable public mutating func add(_ word: UInt64) {
        // Multiply and fold: every input bit reaches every output bit.
        let product = (state ^ word).multipliedFullWidth(by: 0xA076_1D64_78BD_642F)
        state = product.high ^ product.low &+ (word &* 0xE703_7ED1_A0B4_28DB)
    }

    /// The length goes in first, so that no two sequences of byte strings give the same words.
    public mutating func add(_ bytes: Span<UInt8>) {
        add(UInt64(bytes.count))
        var i = 0
        while i + 8 <= bytes.count {
            add(UInt64(word32(bytes, i)) | UInt64(word32(bytes, i + 4)) << 32)
            i += 8
        }
        if i < bytes.count {
            var tail: UInt64 = 0
            var shift: UInt64 = 0
            while i < bytes.count {
                tail |= UInt64(bytes[i]) << shift
                shift += 8
                i += 1
            }
            add(tail)
        }
    }

    /// The same for an array.
    public mutating func add(_ bytes: [UInt8]) { add(bytes.span) }

    /// The hash of all that was added so far; more may be added after it was asked for.
    @inlinable public var value: UInt64 { mix64(state) }
}

/// Asked once: what the processor can do does not change.
private let hasInstruction = cprocessor_has_crc32c() != 0

@inline(__always) private func word32(_ bytes: Span<UInt8>, _ i: Int) -> UInt32 {
    UInt32(bytes[i]) | UInt32(bytes[i + 1]) << 8 | UInt32(bytes[i + 2]) << 16 | UInt32(bytes[i + 3]) << 24
}

/// Eight tables of 256 for slicing by 8, one after another.
private let crcTables: [UInt32] = {
    var tables = [UInt32](repeating: 0, count: 8 * 256)
    for i in 0..<256 {
        var crc = UInt32(i)
        for _ in 0..<8 { crc = crc & 1 == 1 ? (crc >> 1) ^ 0x82F6_3B78 : crc >> 1 }
        tables[i] = crc
    }
    for t in 1..<8 {
        for i in 0..<256 {
            let before = tables[(t - 1) * 256 + i]
            tables[t * 256 + i] = (before >> 8) ^ tables[Int(before & 0xFF)]
        }
    }
    return tables
}()
