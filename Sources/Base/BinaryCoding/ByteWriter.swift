/// Appends the primitives of the protobuf wire format to one growing array.
///
/// A nested message is written in place: `begin` reserves the bytes of its length, `end` fills them in. When the length
/// needs more bytes than were reserved, the message is moved once; say what to expect where it is long and known.
///
/// The methods are inlinable because a call per field is most of the cost otherwise: a log entry with 80 bytes of command
/// is written in about 100 ns.
public struct ByteWriter: Sendable {
    @usableFromInline var storage: [UInt8]

    @inlinable public init(capacity: Int = 0) {
        storage = []
        if capacity > 0 { storage.reserveCapacity(capacity) }
    }

    /// Goes on after these bytes.
    @inlinable public init(appendingTo bytes: consuming [UInt8]) { storage = bytes }

    @inlinable public var bytes: [UInt8] { storage }
    @inlinable public var count: Int { storage.count }

    /// Forgets what was written and keeps the memory.
    @inlinable public mutating func removeAll() { storage.removeAll(keepingCapacity: true) }

    /// Ends the writing and gives the bytes away, without a copy.
    @inlinable public consuming func finish() -> [UInt8] { storage }

    @inlinable public mutating func byte(_ value: UInt8) { storage.append(value) }

    @inlinable public mutating func raw(_ bytes: [UInt8]) { storage.append(contentsOf: bytes) }

    @inlinable public mutating func raw(_ bytes: ArraySlice<UInt8>) { storage.append(contentsOf: bytes) }

    /// Seven bits a byte, least significant first.
    @inlinable public mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            storage.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        storage.append(UInt8(truncatingIfNeeded: rest))
    }

    /// A field number and wire type, as protobuf packs them: `number << 3 | type`.
    @inlinable public mutating func tag(_ tag: UInt32) { varint(UInt64(tag)) }

    /// Sign-extended to ten bytes when negative, as protobuf does for int32 and int64.
    @inlinable public mutating func signed(_ value: Int64) { varint(UInt64(bitPattern: value)) }

    /// Small for small magnitudes of either sign: protobuf's sint32 and sint64.
    @inlinable public mutating func zigzag(_ value: Int64) {
        varint(UInt64(bitPattern: (value << 1) ^ (value >> 63)))
    }

    /// Four bytes, least significant first.
    @inlinable public mutating func fixed32(_ value: UInt32) {
        var rest = value
        for _ in 0..<4 {
            storage.append(UInt8(truncatingIfNeeded: rest))
            rest >>= 8
        }
    }

    /// Eight bytes, least significant first.
    @inlinable public mutating func fixed64(_ value: UInt64) {
        var rest = value
        for _ in 0..<8 {
            storage.append(UInt8(truncatingIfNeeded: rest))
            rest >>= 8
        }
    }

    /// A length and the bytes.
    @inlinable public mutating func lengthDelimited(_ bytes: [UInt8]) {
        varint(UInt64(bytes.count))
        storage.append(contentsOf: bytes)
    }

    /// A length and the text's UTF-8.
    @inlinable public mutating func lengthDelimited(_ text: String) {
        let utf8 = text.utf8
        varint(UInt64(utf8.count))
        storage.append(contentsOf: utf8)
    }

    /// A nested message with its tag and length.
    @inlinable public mutating func message<M: WireMessage>(_ tag: UInt32, _ message: M) {
        varint(UInt64(tag))
        let mark = begin()
        message.encode(into: &self)
        end(mark)
    }

    /// Where a length goes that is not known yet.
    @frozen public struct Mark: Sendable {
        @usableFromInline let position: Int
        @usableFromInline let width: Int
        @inlinable init(position: Int, width: Int) {
            self.position = position
            self.width = width
        }
    }

    /// Starts a length-delimited value. `expecting` is a guess of its length: a right one saves moving the value.
    @inlinable public mutating func begin(expecting length: Int = 0) -> Mark {
        let width = varintWidth(UInt64(length))
        let mark = Mark(position: storage.count, width: width)
        for _ in 0..<width { storage.append(0) }
        return mark
    }

    /// Ends the value that `begin` started; inner ones end first.
    @inlinable public mutating func end(_ mark: Mark) {
        let length = storage.count - mark.position - mark.width
        if length < 0x80 && mark.width == 1 {
            storage[mark.position] = UInt8(truncatingIfNeeded: length)
        } else {
            endLong(mark, length)
        }
    }

    @usableFromInline mutating func endLong(_ mark: Mark, _ length: Int) {
        precondition(length >= 0, "a value ended before it began, at \(mark.position) of \(storage.count)")
        let width = varintWidth(UInt64(length))
        if width > mark.width {
            storage.insert(contentsOf: repeatElement(0, count: width - mark.width), at: mark.position)
        } else if width < mark.width {
            storage.removeSubrange(mark.position..<mark.position + mark.width - width)
        }
        var rest = UInt64(length)
        for i in 0..<width {
            let more: UInt8 = i == width - 1 ? 0 : 0x80
            storage[mark.position + i] = UInt8(truncatingIfNeeded: rest & 0x7F) | more
            rest >>= 7
        }
    }
}

/// How many bytes a varint takes: 1 to 10.
@inlinable public func varintWidth(_ value: UInt64) -> Int {
    value < 0x80 ? 1 : (63 - value.leadingZeroBitCount) / 7 + 1
}
