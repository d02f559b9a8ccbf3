import ClusterBase
import Testing

@Suite struct OrderedKeysTests {
    /// All byte strings of up to `length` bytes over a small alphabet that has both ends of the byte range.
    private func strings(_ length: Int) -> [[UInt8]] {
        let alphabet: [UInt8] = [0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF]
        var all: [[UInt8]] = [[]]
        var longest: [[UInt8]] = [[]]
        for _ in 0..<length {
            longest = longest.flatMap { start in alphabet.map { start + [$0] } }
            all += longest
        }
        return all
    }

    @Test func `byte order is a total order that agrees with the standard library`() {
        let all = strings(3)
        for a in all {
            for b in all {
                #expect(a.precedes(b) == a.lexicographicallyPrecedes(b), "\(a) and \(b)")
            }
        }
    }

    @Test func `a prefix range holds exactly the keys that begin with it`() {
        let all = strings(3)
        for prefix in strings(2) {
            let range = KeyRange.prefix(prefix)
            for key in all {
                #expect(range.contains(key) == key.starts(with: prefix), "prefix \(prefix), key \(key)")
            }
        }
    }

    @Test func `the successor of a prefix is the first key after all that begin with it`() {
        #expect(successor(ofPrefix: []) == nil)
        #expect(successor(ofPrefix: [0xFF]) == nil)
        #expect(successor(ofPrefix: [0xFF, 0xFF]) == nil)
        #expect(successor(ofPrefix: [0x00]) == [0x01])
        #expect(successor(ofPrefix: [0x61, 0xFF]) == [0x62])
        #expect(successor(ofPrefix: [0x61, 0xFE]) == [0x61, 0xFF])
        let all = strings(3)
        for prefix in strings(2) {
            guard let after = successor(ofPrefix: prefix) else { continue }
            #expect(!after.starts(with: prefix))
            for key in all where !key.starts(with: prefix) && prefix.precedes(key) {
                #expect(!key.precedes(after), "\(key) lies between \(prefix) and \(after)")
            }
        }
    }

    @Test func `a range is half-open, and without an end it has none`() {
        let range = KeyRange(from: [1], to: [3])
        #expect(!range.contains([]))
        #expect(!range.contains([0, 0xFF]))
        #expect(range.contains([1]))
        #expect(range.contains([2, 0xFF, 0xFF]))
        #expect(!range.contains([3]))
        #expect(KeyRange(from: [1], to: nil).contains([0xFF, 0xFF, 0xFF]))
        #expect(!KeyRange(from: [3], to: [1]).contains([2]))
    }

    @Test func `byte order of big-endian numbers is their numeric order`() {
        var random = PRNG(seed: 8)
        var numbers: [UInt64] = [0, 1, 0xFF, 0x100, 0xFFFF_FFFF, 0x1_0000_0000, 1 << 63, .max - 1, .max]
        for _ in 0..<200 { numbers.append(random.next() >> random.below(64 as UInt64)) }
        let keys = numbers.map { number in
            var key: [UInt8] = []
            key.appendBigEndian(number)
            return key
        }
        for i in numbers.indices {
            #expect(keys[i].count == 8)
            #expect(keys[i].bigEndian64(at: 0) == numbers[i])
            for j in numbers.indices {
                #expect(keys[i].precedes(keys[j]) == (numbers[i] < numbers[j]), "\(numbers[i]), \(numbers[j])")
            }
        }
        var short: [UInt8] = [0xAA]
        short.appendBigEndian(0x0102_0304 as UInt32)
        #expect(short == [0xAA, 1, 2, 3, 4])
    }

    @Test func `eight bytes that are not all there are no number`() {
        let bytes: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 5, 9]
        #expect(bytes.bigEndian64(at: 0) == 5)
        #expect(bytes.bigEndian64(at: 1) == 0x509)
        #expect(bytes.bigEndian64(at: 2) == nil)
        #expect(bytes.bigEndian64(at: -1) == nil)
        #expect([UInt8]().bigEndian64(at: 0) == nil)
    }

    @Test func `a batch keeps the order of its operations and counts their bytes`() {
        var batch = WriteBatch()
        #expect(batch.isEmpty)
        batch.put([1], [2, 3])
        batch.delete([4])
        batch.delete(KeyRange(from: [5], to: [6, 7]))
        batch.delete(KeyRange(from: [8, 9], to: nil))
        #expect(batch.byteCount == 3 + 1 + 3 + 2)
        var second = WriteBatch()
        second.put([1], [])
        batch.append(second)
        #expect(
            batch.operations == [
                .put(key: [1], value: [2, 3]), .delete(key: [4]), .deleteRange(KeyRange(from: [5], to: [6, 7])),
                .deleteRange(KeyRange(from: [8, 9], to: nil)), .put(key: [1], value: []),
            ])
        #expect(batch.byteCount == 10)
        batch.removeAll()
        #expect(batch == WriteBatch())
    }
}
