import ClusterBase
import Compression
import Testing

@Suite struct LZ4CodecTests {
    func text(_ count: Int, seed: UInt64) -> [UInt8] {
        var random = PRNG(seed: seed)
        return (0..<count).map { $0 % 7 == 0 ? UInt8(random.below(256)) : UInt8($0 % 16) }
    }

    @Test(arguments: [1_000, 65_536, 300_000])
    func `what is packed comes back`(count: Int) throws {
        let bytes = text(count, seed: UInt64(count))
        let packed = try #require(LZ4Codec.compress(bytes))
        #expect(packed.count < bytes.count - bytes.count / 8)
        #expect(try LZ4Codec.decompress(packed, byteCountMax: count) == bytes)
    }

    @Test func `bytes that don't shrink stay as they are`() {
        var random = PRNG(seed: 3)
        #expect(LZ4Codec.compress((0..<10_000).map { _ in UInt8(random.below(256)) }) == nil)
        #expect(LZ4Codec.compress([]) == nil)
        #expect(LZ4Codec.compress([1, 2, 3]) == nil)
    }

    @Test func `more than was allowed is refused before any memory is taken`() throws {
        let packed = try #require(LZ4Codec.compress([UInt8](repeating: 9, count: 10_000)))
        #expect(throws: LZ4Failure.tooLarge(byteCount: 10_000, byteCountMax: 9_999)) {
            try LZ4Codec.decompress(packed, byteCountMax: 9_999)
        }
        #expect(throws: LZ4Failure.self) { try LZ4Codec.decompress([255, 255, 255, 127, 0], byteCountMax: .max) }
    }

    @Test func `no change of packed bytes reads or writes beyond them`() throws {
        let bytes = text(2_000, seed: 5)
        let packed = try #require(LZ4Codec.compress(bytes))
        var refused = 0
        for i in packed.indices {
            for change: UInt8 in [1, 0x80, 0xFF] {
                var broken = packed
                broken[i] ^= change
                do {
                    #expect(try LZ4Codec.decompress(broken, byteCountMax: 4_000).count <= 4_000)
                } catch {
                    refused += 1
                }
            }
        }
        #expect(refused > 0)
        for count in 0..<packed.count {
            #expect(throws: LZ4Failure.self) {
                try LZ4Codec.decompress(Array(packed[..<count]), byteCountMax: 4_000)
            }
        }
    }
}
