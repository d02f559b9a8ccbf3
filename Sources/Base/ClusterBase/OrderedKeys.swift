/// The half-open range of byte strings `from ..< to` in byte order. Without `to` it is open at the end.
public struct KeyRange: Hashable, Sendable {
    /// The first key that may belong to it.
    public var from: [UInt8]
    /// The first key that does not belong to it any more; nil when nothing ends it.
    public var to: [UInt8]?

    public init(from: [UInt8], to: [UInt8]?) {
        self.from = from
        self.to = to
    }

    /// All keys that begin with `prefix`.
    public static func prefix(_ prefix: [UInt8]) -> KeyRange {
        KeyRange(from: prefix, to: successor(ofPrefix: prefix))
    }

    /// Whether `key` lies in the range.
    public func contains(_ key: [UInt8]) -> Bool {
        if key.precedes(from) { return false }
        guard let to else { return true }
        return key.precedes(to)
    }
}

/// The first byte string after all that begin with `prefix`; nil when there is none.
public func successor(ofPrefix prefix: [UInt8]) -> [UInt8]? {
    var end = prefix
    while let byte = end.popLast() {
        if byte < 0xFF {
            end.append(byte + 1)
            return end
        }
    }
    return nil
}

extension [UInt8] {
    /// Byte order: the order of keys in every store.
    public func precedes(_ other: [UInt8]) -> Bool {
        let a = self.span
        let b = other.span
        let shared = Swift.min(a.count, b.count)
        var i = 0
        while i < shared {
            if a[i] != b[i] { return a[i] < b[i] }
            i += 1
        }
        return a.count < b.count
    }

    /// Appends eight bytes, most significant first, so that byte order is numeric order.
    @inlinable public mutating func appendBigEndian(_ value: UInt64) {
        append(addingCapacity: 8) { bytes in
            bytes.append(UInt8(truncatingIfNeeded: value >> 56))
            bytes.append(UInt8(truncatingIfNeeded: value >> 48))
            bytes.append(UInt8(truncatingIfNeeded: value >> 40))
            bytes.append(UInt8(truncatingIfNeeded: value >> 32))
            bytes.append(UInt8(truncatingIfNeeded: value >> 24))
            bytes.append(UInt8(truncatingIfNeeded: value >> 16))
            bytes.append(UInt8(truncatingIfNeeded: value >> 8))
            bytes.append(UInt8(truncatingIfNeeded: value))
        }
    }

    /// The same for four bytes.
    @inlinable public mutating func appendBigEndian(_ value: UInt32) {
        append(addingCapacity: 4) { bytes in
            bytes.append(UInt8(truncatingIfNeeded: value >> 24))
            bytes.append(UInt8(truncatingIfNeeded: value >> 16))
            bytes.append(UInt8(truncatingIfNeeded: value >> 8))
            bytes.append(UInt8(truncatingIfNeeded: value))
        }
    }

    /// Reads eight bytes, most significant first; nil when they are not all there.
    @inlinable public func bigEndian64(at offset: Int) -> UInt64? {
        let bytes = self.span
        guard offset >= 0, bytes.count >= 8, offset <= bytes.count - 8 else { return nil }
        let high =
            UInt64(bytes[offset]) << 56 | UInt64(bytes[offset + 1]) << 48 | UInt64(bytes[offset + 2]) << 40
            | UInt64(bytes[offset + 3]) << 32
        let low =
            UInt64(bytes[offset + 4]) << 24 | UInt64(bytes[offset + 5]) << 16 | UInt64(bytes[offset + 6]) << 8
            | UInt64(bytes[offset + 7])
        return high | low
    }
}

/// Changes that take effect together or not at all, in this order.
public struct WriteBatch: Hashable, Sendable {
    /// One change.
    public enum Operation: Hashable, Sendable {
        /// The key has this value from now on, whatever it had.
        case put(key: [UInt8], value: [UInt8])
        /// The key is gone; nothing changes where it was not there.
        case delete(key: [UInt8])
        /// All keys of the range are gone.
        case deleteRange(KeyRange)
    }
    /// In the order in which they take effect.
    public private(set) var operations: [Operation] = []
    /// Payload bytes of all operations, for bounds.
    public private(set) var byteCount = 0

    public init() {}
    /// Whether it changes nothing.
    public var isEmpty: Bool { operations.isEmpty }

    /// Adds a change: the key has this value from now on.
    public mutating func put(_ key: [UInt8], _ value: [UInt8]) {
        operations.append(.put(key: key, value: value))
        byteCount += key.count + value.count
    }

    /// Adds a change: the key is gone.
    public mutating func delete(_ key: [UInt8]) {
        operations.append(.delete(key: key))
        byteCount += key.count
    }

    /// Adds a change: all keys of the range are gone.
    public mutating func delete(_ range: KeyRange) {
        operations.append(.deleteRange(range))
        byteCount += range.from.count + (range.to?.count ?? 0)
    }

    /// Adds the changes of another batch, after those that are here.
    public mutating func append(_ other: WriteBatch) {
        operations.append(contentsOf: other.operations)
        byteCount += other.byteCount
    }

    /// Forgets all changes and keeps the memory.
    public mutating func removeAll() {
        operations.removeAll(keepingCapacity: true)
        byteCount = 0
    }
}

/// Why an ordered store could not do what it was asked. After a failed write or flush the store is not used again:
/// the process ends, since what it holds in memory may differ from what is on the disk.
public struct StoreError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What went wrong, for programs.
    public enum Code: Hashable, Sendable {
        /// The disk is full.
        case noSpace
        /// A write or a flush failed; what of it is on the disk is not known.
        case writeFailed
        /// A read failed; the data may still be there.
        case readFailed
        /// Stored bytes are not what was written.
        case corrupt
        /// A newer program wrote them, and this one must not guess what they mean.
        case outdated
    }
    /// For programs.
    public var code: Code
    /// One sentence for people, with the reason that the store gave.
    public var message: String
    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }
    public var description: String { message }
    /// Whether the same may succeed another time, with a new store over the same disk.
    package var mayPass: Bool { code == .noSpace || code == .writeFailed || code == .readFailed }
}

/// Reading an ordered store, or one of its snapshots.
public protocol OrderedReader {
    /// The value of a key, copied; nil where there is none.
    func value(for key: [UInt8]) throws(StoreError) -> [UInt8]?
    /// The same for whoever looks at part of the value: no copy of it is made.
    func row(for key: [UInt8]) throws(StoreError) -> StoredRow?
    /// Calls `body` for the keys of `range` in ascending order until it returns false.
    func scan(_ range: KeyRange, _ body: (_ key: [UInt8], _ value: [UInt8]) -> Bool) throws(StoreError)
}

extension OrderedReader {
    /// For readers that have no cheaper way: copies the value.
    public func row(for key: [UInt8]) throws(StoreError) -> StoredRow? {
        try value(for: key).map { StoredRow($0, valueCount: $0.count) }
    }
}

/// A value where it lies: the first `count` bytes of `bytes`. What follows belongs to the store.
public struct StoredRow: Sendable {
    /// Begins with the value; longer than it where the store keeps more there.
    public let bytes: [UInt8]
    /// How many bytes the value has.
    public let count: Int

    /// `valueCount` is at most the number of bytes.
    public init(_ bytes: [UInt8], valueCount: Int) {
        precondition(valueCount >= 0 && valueCount <= bytes.count, "\(valueCount) of \(bytes.count) bytes are a value")
        self.bytes = bytes
        count = valueCount
    }

    /// A copy of the value, from the byte `start` on.
    public func value(from start: Int = 0) -> [UInt8] { start < count ? Array(bytes[start..<count]) : [] }

    /// Eight bytes of the value, most significant first; nil when they are not all there.
    public func bigEndian64(at offset: Int) -> UInt64? {
        offset <= count - 8 ? bytes.bigEndian64(at: offset) : nil
    }
}
