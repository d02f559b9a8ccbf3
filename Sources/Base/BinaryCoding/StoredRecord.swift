internal import ClusterBase

/// The frame around every stored value: `version byte | payload | CRC-32C, least significant byte first`.
///
/// The checksum also covers the key with its length, so that a value found under another key than it was written under
/// is damage, not data.
public enum StoredRecord {
    /// What the frame adds to a payload.
    public static let overheadBytes = 5

    public static func seal(version: UInt8, payload: [UInt8], key: [UInt8]) -> [UInt8] {
        seal(version: version, key: key, expecting: payload.count) { $0.raw(payload) }
    }

    /// Seals what `write` appends; `expecting` is a guess of its length. Nothing is copied.
    public static func seal(
        version: UInt8, key: [UInt8], expecting length: Int = 123, _ write: (inout ByteWriter) -> Void
    ) -> [UInt8] {
        var writer = ByteWriter(capacity: length + overheadBytes)
        writer.byte(version)
        write(&writer)
        writer.fixed32(checksum(writer.storage, count: writer.count, key: key))
        return writer.finish()
    }

    /// Checks a stored value and gives its payload to read, without a copy.
    public static func open(
        _ record: [UInt8], key: [UInt8], versions: ClosedRange<UInt8>
    ) throws(DecodeError) -> (version: UInt8, payload: ByteReader) {
        guard record.count >= overheadBytes else {
            throw DecodeError(.truncated, field: "StoredRecord", offset: record.count)
        }
        let end = record.count - 4
        var trailer = ByteReader(record, from: end, to: record.count)
        guard try trailer.fixed32() == checksum(record, count: end, key: key) else {
            throw DecodeError(.checksumMismatch, field: "StoredRecord", offset: end)
        }
        guard versions.contains(record[0]) else {
            throw DecodeError(.unsupportedVersion(UInt32(record[0])), field: "StoredRecord", offset: 0)
        }
        return (record[0], ByteReader(record, from: 1, to: end))
    }

    private static func checksum(_ record: [UInt8], count: Int, key: [UInt8]) -> UInt32 {
        var crc = CRC32C()
        let count32 = UInt32(truncatingIfNeeded: key.count)
        let prefix: InlineArray<4, UInt8> = [
            UInt8(truncatingIfNeeded: count32), UInt8(truncatingIfNeeded: count32 >> 8),
            UInt8(truncatingIfNeeded: count32 >> 16), UInt8(truncatingIfNeeded: count32 >> 24),
        ]
        crc.add(prefix.span)
        crc.add(key)
        crc.add(record.span.extracting(first: count))
        return crc.value
    }
}
