import BinaryCoding
import ClusterBase
import Testing

@Suite struct PrimitiveTests {
    @Test func `a varint of every width comes back and has the width that is said`() throws {
        var random = PRNG(seed: 1)
        for bits in 0...64 {
            for _ in 0..<20 {
                let value = bits == 0 ? 0 : random.next() >> UInt64(64 - bits)
                var writer = ByteWriter()
                writer.varint(value)
                #expect(writer.count == varintWidth(value))
                var reader = ByteReader(writer.bytes)
                #expect(try reader.varint() == value)
                #expect(!reader.hasMore)
            }
        }
    }

    @Test(arguments: [Int64.min, Int64.min + 1, -(1 << 32), -129, -128, -1, 0, 1, 63, 64, 1 << 40, Int64.max])
    func `a signed number comes back in both of its forms`(_ value: Int64) throws {
        var writer = ByteWriter()
        writer.signed(value)
        writer.zigzag(value)
        var reader = ByteReader(writer.finish())
        #expect(try reader.int64() == value)
        #expect(try reader.sint64() == value)
    }

    @Test func `small magnitudes are small in zigzag form and ten bytes otherwise when negative`() {
        var zigzag = ByteWriter()
        zigzag.zigzag(-1)
        #expect(zigzag.bytes == [1])
        var plain = ByteWriter()
        plain.signed(-1)
        #expect(plain.count == 10)
    }

    @Test func `fixed numbers are least significant byte first`() throws {
        var writer = ByteWriter()
        writer.fixed32(0x0403_0201)
        writer.fixed64(0x0C0B_0A09_0807_0605)
        #expect(writer.bytes == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
        var reader = ByteReader(writer.bytes)
        #expect(try reader.fixed32() == 0x0403_0201)
        #expect(try reader.fixed64() == 0x0C0B_0A09_0807_0605)
    }

    @Test func `a varint of more than 64 bits is refused and its longest form is not`() throws {
        var longest = ByteReader([UInt8](repeating: 0x80, count: 9) + [1])
        #expect(try longest.varint() == 1 << 63)
        for bytes in [
            [UInt8](repeating: 0x80, count: 9) + [2], [UInt8](repeating: 0xFF, count: 11),
            [UInt8](repeating: 0x80, count: 10) + [0],
        ] {
            var reader = ByteReader(bytes)
            let error = #expect(throws: DecodeError.self) { try reader.varint() }
            #expect(error?.reason == .varintTooLong)
        }
    }

    @Test func `a length beyond the end is refused before anything is allocated`() {
        var writer = ByteWriter()
        writer.varint(UInt64.max)
        writer.raw([1, 2, 3])
        var reader = ByteReader(writer.bytes)
        let error = #expect(throws: DecodeError.self) { try reader.bytes() }
        #expect(error?.reason == .lengthBeyondEnd(.max))
    }

    /// The guess of `begin` is too narrow, right and too wide; the bytes are the same each time.
    @Test(arguments: [0, 1, 127, 128, 129, 16_383, 16_384, 70_000])
    func `a nested value has the shortest length whatever was expected`(_ length: Int) {
        var plain = ByteWriter()
        plain.byte(42)
        plain.lengthDelimited([UInt8](repeating: 7, count: length))
        plain.byte(43)
        for expected in [0, 127, 128, length, 1 << 30] {
            var nested = ByteWriter()
            nested.byte(42)
            let mark = nested.begin(expecting: expected)
            nested.raw([UInt8](repeating: 7, count: length))
            nested.end(mark)
            nested.byte(43)
            #expect(nested.bytes == plain.bytes)
        }
    }

    @Test func `a reader of a part does not see beyond it`() {
        var reader = ByteReader([1, 2, 3, 4], from: 1, to: 3)
        #expect(reader.remaining == 2)
        #expect(reader.rest() == [2, 3])
        #expect(throws: DecodeError(.truncated, field: "", offset: 3)) { try reader.byte() }
    }
}
