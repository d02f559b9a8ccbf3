internal import BinaryCoding
internal import ClusterBase
package import Schema

/// Why bytes are no whole backup: one sentence that says what to do.
package struct BackupFailure: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Reason: Hashable, Sendable {
        /// A record is not what was written.
        case damaged
        /// It ends before its end.
        case cutOff
        /// Written by a program that this one does not understand.
        case tooNew
        /// Whole, but something that the root names is not in it.
        case incomplete
        /// It can't become a cluster of this program.
        case notUsable
    }

    package var reason: Reason
    package var description: String

    init(_ reason: Reason, _ description: String) {
        self.reason = reason
        self.description = description
    }

    static func damaged(_ finding: String) -> BackupFailure {
        BackupFailure(.damaged, "The backup is damaged (\(finding)); use another one.")
    }
}

/// The frame around a record: `length, four bytes ‖ record ‖ CRC-32C of both, four bytes`, most significant byte first.
package enum BackupFrame {
    /// A record's length; the largest holds one row alone, whose value is bounded by a log entry.
    package static let recordBytesMax = 4 << 20
    static let version: UInt32 = 1
    static let headBytes = 4
    static let tailBytes = 4

    /// Appends a record in its frame.
    package static func append(_ body: BackupRecord.Body, to bytes: inout [UInt8]) {
        let record = BackupRecord(version: version, body: body).serialized()
        precondition(record.count <= recordBytesMax, "a record of \(record.count) bytes, above \(recordBytesMax)")
        let start = bytes.count
        bytes.reserveCapacity(start + headBytes + record.count + tailBytes)
        bytes.appendBigEndian(UInt32(record.count))
        bytes.append(contentsOf: record)
        bytes.appendBigEndian(checksum(bytes[start...]))
    }

    static func checksum(_ bytes: ArraySlice<UInt8>) -> UInt32 {
        var crc = CRC32C()
        crc.add(bytes.span)
        return crc.value
    }
}

/// Cuts a stream of bytes into records, however the stream is cut.
package struct BackupFrames: Sendable {
    private var held: [UInt8] = []
    private var start = 0
    /// Bytes of the stream before the next record.
    package private(set) var offset: UInt64 = 0

    package init() {}

    /// Whether nothing waits for the rest of its record.
    package var isEmpty: Bool { start == held.count }

    package mutating func append(_ bytes: some Collection<UInt8>) {
        if start > 0 {
            held.removeFirst(start)
            start = 0
        }
        held.append(contentsOf: bytes)
    }

    /// The next whole record, with the bytes that it came in; nil when more bytes are needed.
    package mutating func next() throws(BackupFailure) -> (body: BackupRecord.Body, bytes: [UInt8])? {
        let there = held.count - start
        if there < BackupFrame.headBytes { return nil }
        let length = Int(number(at: start))
        if length > BackupFrame.recordBytesMax { throw .damaged("a record at byte \(offset) says \(length) bytes") }
        let whole = BackupFrame.headBytes + length + BackupFrame.tailBytes
        if there < whole { return nil }
        let end = start + whole - BackupFrame.tailBytes
        if BackupFrame.checksum(held[start..<end]) != number(at: end) {
            throw .damaged("the record at byte \(offset) does not match its checksum")
        }
        let bytes = Array(held[start..<start + whole])
        let record: BackupRecord
        do throws(DecodeError) {
            record = try BackupRecord(serialized: Array(held[start + BackupFrame.headBytes..<end]))
        } catch {
            throw .damaged("the record at byte \(offset) is unreadable: \(error)")
        }
        guard record.version <= BackupFrame.version, let body = record.body else {
            throw BackupFailure(.tooNew, "The backup was made by a newer program; use that one, or a newer one.")
        }
        start += whole
        offset += UInt64(whole)
        return (body, bytes)
    }

    private func number(at index: Int) -> UInt32 {
        var value: UInt32 = 0
        for byte in held[index..<index + 4] { value = value << 8 | UInt32(byte) }
        return value
    }
}
