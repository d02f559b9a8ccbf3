import BinaryCoding
import Testing

@Suite struct StoredRecordTests {
    let key: [UInt8] = [1, 2, 3]
    let payload = [UInt8](0..<50)

    @Test func `what was sealed is opened under its key`() throws {
        let record = StoredRecord.seal(version: 2, payload: payload, key: key)
        #expect(record.count == payload.count + StoredRecord.overheadBytes)
        var (version, reader) = try StoredRecord.open(record, key: key, versions: 1...2)
        #expect(version == 2)
        #expect(reader.rest() == payload)
    }

    @Test func `an empty payload is a record too`() throws {
        let record = StoredRecord.seal(version: 1, payload: [], key: [])
        var opened = try StoredRecord.open(record, key: [], versions: 1...1)
        #expect(opened.payload.rest().isEmpty)
    }

    @Test func `every flipped bit is found`() {
        let record = StoredRecord.seal(version: 1, payload: payload, key: key)
        for bit in 0..<record.count * 8 {
            var damaged = record
            damaged[bit / 8] ^= 1 << (bit % 8)
            let error = #expect(throws: DecodeError.self) {
                try StoredRecord.open(damaged, key: key, versions: 1...255)
            }
            #expect(error?.reason == .checksumMismatch)
        }
    }

    @Test func `every shortening is found`() {
        let record = StoredRecord.seal(version: 1, payload: payload, key: key)
        for count in 0..<record.count {
            #expect(throws: DecodeError.self) {
                try StoredRecord.open(Array(record.prefix(count)), key: key, versions: 1...1)
            }
        }
    }

    @Test func `a record found under another key is damage, even one that moves the border between key and record`() {
        let record = StoredRecord.seal(version: 1, payload: payload, key: key)
        for other in [[1, 2, 4], [1, 2], [1, 2, 3, 1], []] as [[UInt8]] {
            let error = #expect(throws: DecodeError.self) {
                try StoredRecord.open(record, key: other, versions: 1...1)
            }
            #expect(error?.reason == .checksumMismatch)
        }
        let error = #expect(throws: DecodeError.self) {
            try StoredRecord.open(Array(record.dropFirst()), key: key + [1], versions: 0...255)
        }
        #expect(error?.reason == .checksumMismatch)
    }

    @Test func `a version that is not read is named`() {
        let record = StoredRecord.seal(version: 3, payload: payload, key: key)
        let error = #expect(throws: DecodeError.self) { try StoredRecord.open(record, key: key, versions: 1...2) }
        #expect(error?.reason == .unsupportedVersion(3))
    }
}
