/// Reads the protobuf wire format out of an array that somebody else may have made: nothing in it is trusted.
///
/// No method traps on any input and none reads or allocates beyond the bytes that are there. Work is bounded by
/// `nestingMax` and `messagesMax`, since a nested message of two bytes on the wire may be hundreds in memory.
public struct ByteReader: Sendable {
    /// Our deepest message has six levels.
    public static let nestingMax = 32
    /// Nested messages in one value, all levels together. A frame of the largest size stays below it.
    public static let messagesMax = 1 << 20

    @usableFromInline let storage: [UInt8]
    @usableFromInline var position: Int
    /// Where the message that is being read ends.
    @usableFromInline var limit: Int
    @usableFromInline var lastTag: UInt32 = 0
    @usableFromInline var nesting: Int
    @usableFromInline var messages: Int
    @usableFromInline let nestingMax: Int
    @usableFromInline let messagesMax: Int

    @inlinable public init(
        _ bytes: [UInt8], nestingMax: Int = ByteReader.nestingMax, messagesMax: Int = ByteReader.messagesMax
    ) {
        self.init(bytes, from: 0, to: bytes.count, nestingMax: nestingMax, messagesMax: messagesMax)
    }

    /// Reads `bytes[from ..< to]` without copying it.
    @inlinable public init(
        _ bytes: [UInt8], from: Int, to: Int, nestingMax: Int = ByteReader.nestingMax,
        messagesMax: Int = ByteReader.messagesMax
    ) {
        precondition(from >= 0 && from <= to && to <= bytes.count, "\(from)..<\(to) of \(bytes.count) bytes")
        storage = bytes
        position = from
        limit = to
        nesting = 0
        messages = 0
        self.nestingMax = nestingMax
        self.messagesMax = messagesMax
    }

    /// Bytes from the start of the array, not of the part that is read.
    @inlinable public var offset: Int { position }
    @inlinable public var remaining: Int { limit - position }
    @inlinable public var hasMore: Bool { position < limit }

    /// An error at the field that was begun last.
    @inlinable public func error(_ reason: DecodeError.Reason) -> DecodeError {
        makeError(reason)
    }

    @usableFromInline @inline(never) func makeError(_ reason: DecodeError.Reason) -> DecodeError {
        DecodeError(reason, offset: position, number: lastTag >> 3)
    }

    // MARK: primitives

    @inlinable public mutating func byte() throws(DecodeError) -> UInt8 {
        guard position < limit else { throw makeError(.truncated) }
        let value = storage[position]
        position += 1
        return value
    }

    @inlinable public mutating func varint() throws(DecodeError) -> UInt64 {
        guard position < limit else { throw makeError(.truncated) }
        let first = storage[position]
        if first < 0x80 {
            position += 1
            return UInt64(first)
        }
        return try longVarint()
    }

    @usableFromInline mutating func longVarint() throws(DecodeError) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        var at = position
        while at < limit {
            let byte = storage[at]
            at += 1
            // The tenth byte holds the 64th bit alone.
            if shift == 63 && byte > 1 { throw makeError(.varintTooLong) }
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 {
                position = at
                return value
            }
            shift += 7
        }
        throw makeError(.truncated)
    }

    @inlinable public mutating func uint64() throws(DecodeError) -> UInt64 { try varint() }
    @inlinable public mutating func int64() throws(DecodeError) -> Int64 { Int64(bitPattern: try varint()) }
    @inlinable public mutating func bool() throws(DecodeError) -> Bool { try varint() != 0 }

    /// Unlike other protobuf readers it refuses a number of more than 32 bits instead of cutting it.
    @inlinable public mutating func uint32() throws(DecodeError) -> UInt32 {
        guard let value = UInt32(exactly: try varint()) else { throw makeError(.valueOutOfRange) }
        return value
    }

    /// Unlike other protobuf readers it refuses a number of more than 32 bits instead of cutting it.
    @inlinable public mutating func int32() throws(DecodeError) -> Int32 {
        guard let value = Int32(exactly: Int64(bitPattern: try varint())) else { throw makeError(.valueOutOfRange) }
        return value
    }

    @inlinable public mutating func sint64() throws(DecodeError) -> Int64 {
        let value = try varint()
        return Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1)
    }

    @inlinable public mutating func sint32() throws(DecodeError) -> Int32 {
        guard let value = Int32(exactly: try sint64()) else { throw makeError(.valueOutOfRange) }
        return value
    }

    @inlinable public mutating func fixed32() throws(DecodeError) -> UInt32 {
        guard limit - position >= 4 else { throw makeError(.truncated) }
        var value: UInt32 = 0
        for i in 0..<4 { value |= UInt32(storage[position + i]) << UInt32(i * 8) }
        position += 4
        return value
    }

    @inlinable public mutating func fixed64() throws(DecodeError) -> UInt64 {
        guard limit - position >= 8 else { throw makeError(.truncated) }
        var value: UInt64 = 0
        for i in 0..<8 { value |= UInt64(storage[position + i]) << UInt64(i * 8) }
        position += 8
        return value
    }

    @inlinable public mutating func sfixed32() throws(DecodeError) -> Int32 { Int32(bitPattern: try fixed32()) }
    @inlinable public mutating func sfixed64() throws(DecodeError) -> Int64 { Int64(bitPattern: try fixed64()) }
    @inlinable public mutating func float() throws(DecodeError) -> Float { Float(bitPattern: try fixed32()) }
    @inlinable public mutating func double() throws(DecodeError) -> Double { Double(bitPattern: try fixed64()) }

    /// A length that is known to fit into what is left.
    @inlinable public mutating func length() throws(DecodeError) -> Int {
        let value = try varint()
        guard value <= UInt64(limit - position) else { throw makeError(.lengthBeyondEnd(value)) }
        return Int(value)
    }

    /// A length and the bytes.
    @inlinable public mutating func bytes() throws(DecodeError) -> [UInt8] {
        let count = try length()
        let start = position
        position += count
        return count == 0 ? [] : Array(storage[start..<position])
    }

    /// A length and UTF-8, checked.
    @inlinable public mutating func string() throws(DecodeError) -> String {
        let count = try length()
        let start = position
        guard let text = String(validating: storage[start..<start + count], as: UTF8.self) else {
            throw makeError(.invalidUTF8)
        }
        position += count
        return text
    }

    /// Everything up to the end.
    @inlinable public mutating func rest() -> [UInt8] {
        let start = position
        position = limit
        return Array(storage[start..<limit])
    }

    // MARK: fields

    /// The next field's number and wire type, `number << 3 | type`; 0 at the end of the message.
    @inlinable public mutating func nextTag() throws(DecodeError) -> UInt32 {
        guard position < limit else { return 0 }
        let first = storage[position]
        if first < 0x80 && first >= 8 {
            position += 1
            lastTag = UInt32(first)
            return lastTag
        }
        return try longTag()
    }

    @usableFromInline mutating func longTag() throws(DecodeError) -> UInt32 {
        lastTag = 0
        guard let tag = UInt32(exactly: try varint()), tag >= 8 else { throw makeError(.badFieldNumber) }
        lastTag = tag
        return tag
    }

    /// Reads over the field whose tag was read last, and keeps it as it stands.
    public mutating func keepUnknown(in unknownFields: inout [UInt8]) throws(DecodeError) {
        let tag = lastTag
        let start = position
        switch tag & 7 {
        case 0: _ = try varint()
        case 1: _ = try fixed64()
        case 2: position += try length()
        case 5: _ = try fixed32()
        default: throw makeError(.badWireType(UInt8(tag & 7)))
        }
        var writer = ByteWriter(appendingTo: unknownFields)
        writer.tag(tag)
        writer.raw(storage[start..<position])
        unknownFields = writer.finish()
    }

    /// Narrows the reader to a length-delimited value; gives what `leave` wants back.
    @inlinable public mutating func enter() throws(DecodeError) -> Int {
        let count = try length()
        let outer = limit
        limit = position + count
        return outer
    }

    /// Widens the reader again, at the end of the value.
    @inlinable public mutating func leave(_ outer: Int) { limit = outer }

    /// Merges a nested message of the field whose tag was read last.
    @inlinable public mutating func message<M: WireMessage>(_ value: inout M) throws(DecodeError) {
        let tag = lastTag
        guard nesting < nestingMax else { throw makeError(.nestedTooDeep(max: nestingMax)) }
        guard messages < messagesMax else { throw makeError(.tooManyMessages(max: messagesMax)) }
        let outer = try enter()
        nesting += 1
        messages += 1
        do throws(DecodeError) {
            try value.merge(from: &self)
        } catch {
            throw error.inside(M.self, asField: tag >> 3)
        }
        nesting -= 1
        limit = outer
        lastTag = tag
    }

    /// A nested message of the field whose tag was read last.
    @inlinable public mutating func message<M: WireMessage>(_ type: M.Type) throws(DecodeError) -> M {
        var value = M()
        try message(&value)
        return value
    }
}
