/// The half-open range of byte strings `from ..< to` in byte order. Without `to` it is open at the end.
public struct KeyRange: Hashable, Sendable {
    public var from: [UInt8]
    public var to: [UInt8]?

    public init(from: [UInt8], to: [UInt8]?) {
        self.from = from
        self.to = to
    }

    /// All keys that begin with `prefix`.
    public static func prefix(_ prefix: [UInt8]) -> KeyRange {
        KeyRange(from: prefix, to: successor(ofPrefix: prefix))
    }

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
    public mutating func appendBigEndian(_ value: UInt64) {
        var shift: UInt64 = 64
        while shift > 0 {
            shift -= 8
            append(UInt8(truncatingIfNeeded: value >> shift))
        }
    }

    public mutating func appendBigEndian(_ value: UInt32) {
        var shift: UInt32 = 32
        while shift > 0 {
            shift -= 8
            append(UInt8(truncatingIfNeeded: value >> shift))
        }
    }

    /// Reads eight bytes, most significant first; nil when they are not all there.
    public func bigEndian64(at offset: Int) -> UInt64? {
        guard offset >= 0, offset + 8 <= count else { return nil }
        var value: UInt64 = 0
        for i in offset..<offset + 8 { value = value << 8 | UInt64(self[i]) }
        return value
    }
}

/// Changes that take effect together or not at all, in this order.
public struct WriteBatch: Hashable, Sendable {
    public enum Operation: Hashable, Sendable {
        case put(key: [UInt8], value: [UInt8])
        case delete(key: [UInt8])
        case deleteRange(KeyRange)
    }
    public private(set) var operations: [Operation] = []
    /// Payload bytes of all operations, for bounds.
    public private(set) var byteCount = 0

    public init() {}
    public var isEmpty: Bool { operations.isEmpty }

    public mutating func put(_ key: [UInt8], _ value: [UInt8]) {
        operations.append(.put(key: key, value: value))
        byteCount += key.count + value.count
    }

    public mutating func delete(_ key: [UInt8]) {
        operations.append(.delete(key: key))
        byteCount += key.count
    }

    public mutating func delete(_ range: KeyRange) {
        operations.append(.deleteRange(range))
        byteCount += range.from.count + (range.to?.count ?? 0)
    }

    public mutating func append(_ other: WriteBatch) {
        operations.append(contentsOf: other.operations)
        byteCount += other.byteCount
    }

    public mutating func removeAll() {
        operations.removeAll(keepingCapacity: true)
        byteCount = 0
    }
}

/// Why an ordered store could not do what it was asked. After a failed write or flush the store is not used again:
/// the process ends, since what it holds in memory may differ from what is on the disk.
public struct StoreError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: Hashable, Sendable {
        case noSpace
        case writeFailed
        case readFailed
        /// Stored bytes are not what was written.
        case corrupt
    }
    public var code: Code
    public var message: String
    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }
    public var description: String { message }
}

/// Reading an ordered store, or one of its snapshots.
public protocol OrderedReader {
    func value(for key: [UInt8]) throws(StoreError) -> [UInt8]?
    /// Calls `body` for the keys of `range` in ascending order until it returns false.
    func scan(_ range: KeyRange, _ body: (_ key: [UInt8], _ value: [UInt8]) -> Bool) throws(StoreError)
}
