import ClusterBase
import Testing

@Suite struct ChecksumTests {
    /// One bit at a time, straight from the polynomial: slow, and sharing nothing with the code under test.
    private func bitwise(_ bytes: [UInt8]) -> UInt32 {
        var crc: UInt32 = 0xFFFF_FFFF
        for byte in bytes {
            for bit in 0..<8 {
                let input = UInt32(byte >> UInt8(bit)) & 1
                let carry = (crc ^ input) & 1
                crc >>= 1
                if carry == 1 { crc ^= 0x82F6_3B78 }
            }
        }
        return ~crc
    }

    @Test func `the check value of CRC-32C comes out`() {
        #expect(CRC32C.of(Array("123456789".utf8)) == 0xE306_9283)
        #expect(CRC32C.of([]) == 0)
        // RFC 3720, appendix B.4.
        #expect(CRC32C.of([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
        #expect(CRC32C.of([UInt8](repeating: 0xFF, count: 32)) == 0x62A8_AB43)
        #expect(CRC32C.of((0..<32).map { UInt8($0) }) == 0x46DD_794E)
    }

    @Test func `every length up to 64 agrees with a bitwise reference`() {
        var random = PRNG(seed: 3)
        for length in 0...64 {
            for _ in 0..<8 {
                let bytes = (0..<length).map { _ in UInt8(random.below(256 as UInt64)) }
                #expect(CRC32C.of(bytes) == bitwise(bytes), "\(length) bytes: \(bytes)")
            }
        }
    }

    @Test func `the processor's instruction and the tables give the same at every length and place in memory`() {
        var random = PRNG(seed: 6)
        let bytes = (0..<400).map { _ in UInt8(random.below(256 as UInt64)) }
        for begin in 0..<9 {
            for end in begin...bytes.count {
                var (instruction, table) = (CRC32C(), CRC32C())
                instruction.add(bytes.span.extracting(begin..<end))
                table.addByTable(bytes.span.extracting(begin..<end))
                #expect(instruction.value == table.value, "\(begin)..<\(end)")
            }
        }
        #expect(bitwise(Array(bytes[3..<331])) == CRC32C.of(Array(bytes[3..<331])))
    }

    @Test func `a checksum does not depend on how its bytes were cut`() {
        var random = PRNG(seed: 4)
        let bytes = (0..<200).map { _ in UInt8(random.below(256 as UInt64)) }
        let whole = CRC32C.of(bytes)
        for cut in 0...bytes.count {
            var crc = CRC32C()
            crc.add(Array(bytes[..<cut]))
            crc.add(Array(bytes[cut...]))
            #expect(crc.value == whole, "cut at \(cut)")
        }
    }

    @Test func `every burst of up to 32 bits in a record is found`() {
        var random = PRNG(seed: 5)
        let record = (0..<48).map { _ in UInt8(random.below(256 as UInt64)) }
        let sum = CRC32C.of(record)
        for start in 0..<record.count * 8 {
            for _ in 0..<4 {
                let burst = UInt32(truncatingIfNeeded: random.next()) | 1
                var damaged = record
                for bit in 0..<32 where burst >> UInt32(bit) & 1 == 1 && start + bit < record.count * 8 {
                    damaged[(start + bit) / 8] ^= 1 << UInt8((start + bit) % 8)
                }
                #expect(CRC32C.of(damaged) != sum, "burst \(burst) at bit \(start) went unseen")
            }
        }
    }

    private func hash(_ strings: [[UInt8]]) -> UInt64 {
        var chain = ChainHash()
        for bytes in strings { chain.add(bytes) }
        return chain.value
    }

    @Test func `moving bytes over the border between two strings changes the hash`() {
        let text = Array("abcdefghijklmnopqrstuvwxyz".utf8)
        var seen: [UInt64: Int] = [:]
        for cut in 0...text.count {
            let value = hash([Array(text[..<cut]), Array(text[cut...])])
            #expect(seen[value] == nil, "cuts at \(cut) and \(seen[value] ?? -1) hash alike")
            seen[value] = cut
        }
    }

    @Test func `trailing zeros and empty strings count`() {
        var seen: Set<UInt64> = []
        for zeros in 0...40 { seen.insert(hash([[UInt8](repeating: 0, count: zeros)])) }
        #expect(seen.count == 41)
        for empties in 0...40 { seen.insert(hash([[UInt8]](repeating: [], count: empties))) }
        // No string at all is new; one empty string is the one with no zeros.
        #expect(seen.count == 41 + 40)
    }

    @Test func `the order of what went in counts`() {
        #expect(hash([[1], [2]]) != hash([[2], [1]]))
        var one = ChainHash()
        one.add(1 as UInt64)
        one.add(2 as UInt64)
        var other = ChainHash()
        other.add(2 as UInt64)
        other.add(1 as UInt64)
        #expect(one.value != other.value)
        #expect(ChainHash(1).value != ChainHash(2).value)
    }

    @Test func `three hundred thousand small inputs do not collide`() {
        // By chance alone two of them would with a probability of 3 in a billion.
        var seen: Set<UInt64> = []
        var count = 0
        // A string of two bytes goes in as the words 2 and its bytes: the pairs begin above that.
        for first in 16..<272 as Range<UInt64> {
            for second in 0..<1_024 as Range<UInt64> {
                var chain = ChainHash()
                chain.add(first)
                chain.add(second)
                seen.insert(chain.value)
                count += 1
            }
        }
        for first in 0..<256 {
            for second in 0..<256 {
                seen.insert(hash([[UInt8(first), UInt8(second)]]))
                count += 1
            }
        }
        #expect(seen.count == count)
    }

    @Test func `each bit of a word moves about half of the bits of the hash`() {
        var random = PRNG(seed: 6)
        for bit in 0..<64 {
            var moved = 0
            for _ in 0..<64 {
                let word = random.next()
                var one = ChainHash()
                one.add(word)
                one.add(9 as UInt64)
                var other = ChainHash()
                other.add(word ^ 1 << UInt64(bit))
                other.add(9 as UInt64)
                moved += (one.value ^ other.value).nonzeroBitCount
            }
            // 64 tries of 64 fair bits: 2,048 expected, six standard deviations are 192.
            #expect(abs(moved - 2_048) < 192, "bit \(bit) moves \(moved / 64) bits on average")
        }
    }

    @Test func `a chain tells an entry changed anywhere in it`() {
        let entries = (0..<100).map { [UInt8($0), 7, 7] }
        let whole = hash(entries)
        for i in entries.indices {
            var changed = entries
            changed[i][1] ^= 1
            #expect(hash(changed) != whole, "entry \(i)")
        }
    }
}
