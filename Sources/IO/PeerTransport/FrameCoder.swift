package import BinaryCoding
internal import ClusterBase
internal import Schema
internal import WireFormat

/// What a frame holds.
package enum FrameKind: UInt8 {
    case hello = 1
    case helloAnswer = 2
    case peerFrame = 3
    case request = 4
    case answer = 5
    case streamWord = 6
    case sign = 7
}

/// Why a connection's bytes are no frames.
package enum FrameDamage: Error {
    case checksum
    case oversize(Int)
    case undecodable(String)
    /// A frame that this connection must not carry: of another node, or before the first message.
    case foreign(String)

    var sentence: String {
        switch self {
        case .checksum: "a frame's checksum does not match"
        case .oversize(let count): "a frame of \(count) bytes is larger than any node sends"
        case .undecodable(let reason): reason
        case .foreign(let reason): reason
        }
    }
}

/// The frame around every message between two nodes, numbers least significant byte first.
///
///     length of the payload u32 │ CRC-32C u32 │ kind u8 │ flags u8 │ zero u16 │ payload
///
/// The checksum covers everything behind it. It protects against our own bugs; TLS protects against others.
package enum FrameCoder {
    package static let headerBytes = 12
    /// Of the payload, as it is on the wire. What a codec puts around the largest frame fits too.
    package static let payloadBytesMax = WireLimits.frameBytesMax + 4
    /// Of the first messages, which come from somebody who has not been judged yet.
    static let helloBytesMax = 4 << 10
    static let frameVersion: UInt32 = 1
    static let helloVersion: UInt32 = 1
    /// Set when the payload is the count of the bytes (u32) and then those bytes, compressed.
    package static let compressedFlag: UInt8 = 1

    package struct Header {
        package var count: Int
        var checksum: UInt32
        var kind: UInt8
        var flags: UInt8
    }

    /// Appends one frame in place. Gives the count of the payload's bytes and whether it is compressed.
    @inline(__always) package static func append(
        _ kind: FrameKind, to output: inout [UInt8], codec: (any FrameCodec)? = nil, compressFrom: Int = .max,
        _ encode: (inout ByteWriter) -> Void
    ) -> (count: Int, isCompressed: Bool) {
        let start = output.count
        var bytes: [UInt8] = []
        swap(&bytes, &output)
        var writer = ByteWriter(appendingTo: consume bytes)
        writer.fixed64(0)
        writer.fixed32(UInt32(kind.rawValue))
        encode(&writer)
        // Consumed here: a second owner would cost a copy of the whole output at the next store.
        output = (consume writer).finish()
        let isCompressed = seal(&output, from: start, codec, compressFrom)
        return (output.count - start - headerBytes, isCompressed)
    }

    private static func seal(
        _ output: inout [UInt8], from start: Int, _ codec: (any FrameCodec)?, _ compressFrom: Int
    ) -> Bool {
        let isCompressed = compress(&output, from: start + headerBytes, codec, compressFrom)
        if isCompressed { output[start + 9] = compressedFlag }
        var crc = CRC32C()
        crc.add(output.span.extracting(start + 8..<output.count))
        put(UInt32(output.count - start - headerBytes), &output, start)
        put(crc.value, &output, start + 4)
        return isCompressed
    }

    private static func compress(
        _ output: inout [UInt8], from start: Int, _ codec: (any FrameCodec)?, _ compressFrom: Int
    ) -> Bool {
        let count = output.count - start
        guard let codec, count >= compressFrom else { return false }
        var packed: [UInt8] = []
        packed.reserveCapacity(count + 4)
        packed.append(contentsOf: repeatElement(0, count: 4))
        put(UInt32(count), &packed, 0)
        let isSmaller = output.withUnsafeBytes { bytes in
            codec.compress(UnsafeRawBufferPointer(rebasing: bytes[start...]), into: &packed)
        }
        guard isSmaller, packed.count < count else { return false }
        output.removeLast(count)
        output.append(contentsOf: packed)
        return true
    }

    /// The header of the next frame; nil when it has not all arrived.
    package static func header(_ bytes: [UInt8], from: Int, to: Int, payloadMax: Int) throws(FrameDamage) -> Header? {
        guard to - from >= headerBytes else { return nil }
        let count = Int(get(bytes, from))
        guard count <= payloadMax else { throw .oversize(count) }
        return Header(count: count, checksum: get(bytes, from + 4), kind: bytes[from + 8], flags: bytes[from + 9])
    }

    /// Calls `body` with the checked payload of the frame that stands at `from` and has all arrived.
    package static func open<Result>(
        _ bytes: [UInt8], from: Int, _ header: Header, codec: (any FrameCodec)?,
        _ body: (inout ByteReader) throws(DecodeError) -> Result
    ) throws(FrameDamage) -> Result {
        let start = from + headerBytes
        let end = start + header.count
        var crc = CRC32C()
        crc.add(bytes.span.extracting(from + 8..<end))
        guard crc.value == header.checksum else { throw .checksum }
        var reader: ByteReader
        if header.flags & compressedFlag != 0 {
            let expanded = try expand(bytes, from: start, to: end, codec)
            reader = ByteReader(expanded, messagesMax: WireLimits.frameMessagesMax)
        } else {
            reader = ByteReader(bytes, from: start, to: end, messagesMax: WireLimits.frameMessagesMax)
        }
        do throws(DecodeError) {
            return try body(&reader)
        } catch {
            throw .undecodable(error.description)
        }
    }

    private static func expand(
        _ bytes: [UInt8], from: Int, to: Int, _ codec: (any FrameCodec)?
    ) throws(FrameDamage) -> [UInt8] {
        guard let codec else { throw .undecodable("a frame is compressed, which this node did not offer") }
        guard to - from >= 4 else { throw .undecodable("a compressed frame has no length") }
        let count = Int(get(bytes, from))
        guard count <= WireLimits.frameBytesMax else { throw .oversize(count) }
        let expanded = bytes.withUnsafeBytes { bytes in
            codec.expand(UnsafeRawBufferPointer(rebasing: bytes[from + 4..<to]), count: count)
        }
        guard let expanded, expanded.count == count else { throw .undecodable("a compressed frame does not expand") }
        return expanded
    }

    private static func put(_ value: UInt32, _ bytes: inout [UInt8], _ at: Int) {
        for i in 0..<4 { bytes[at + i] = UInt8(truncatingIfNeeded: value >> UInt32(8 * i)) }
    }

    private static func get(_ bytes: [UInt8], _ at: Int) -> UInt32 {
        UInt32(bytes[at]) | UInt32(bytes[at + 1]) << 8 | UInt32(bytes[at + 2]) << 16 | UInt32(bytes[at + 3]) << 24
    }
}
