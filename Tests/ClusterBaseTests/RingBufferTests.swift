import ClusterBase
import Testing

@Suite struct RingBufferTests {
    @Test(arguments: 0..<20 as Range<UInt64>)
    func `a ring behaves like an array that is used at its ends`(seed: UInt64) {
        var random = PRNG(seed: seed)
        var ring = RingBuffer<Int>(capacity: random.below(9))
        var model: [Int] = []
        for step in 0..<3_000 {
            // The balance swings, so that the ring wraps, grows, runs dry and starts over.
            let growing = step / 300 % 2 == 0
            switch random.below(20) {
            case ..<(growing ? 11 : 5):
                ring.append(step)
                model.append(step)
            case ..<15:
                let first = ring.popFirst()
                #expect(first == (model.isEmpty ? nil : model.removeFirst()))
            case 15, 16:
                let last = ring.popLast()
                #expect(last == model.popLast())
            case 17:
                if !model.isEmpty {
                    let i = random.below(model.count)
                    ring[i] = -step
                    model[i] = -step
                }
            case 18:
                if random.chance(1, in: 20) {
                    ring.removeAll()
                    model.removeAll()
                }
            default:
                #expect((0..<ring.count).map { ring[$0] } == model)
            }
            #expect(ring.count == model.count)
            #expect(ring.isEmpty == model.isEmpty)
            #expect(ring.first == model.first)
            #expect(ring.last == model.last)
        }
    }

    private final class Tracked {
        static func make(_ count: Int) -> [Tracked] { (0..<count).map { _ in Tracked() } }
    }

    @Test func `what left the ring is let go of at once`() {
        var ring = RingBuffer<Tracked>()
        var owners = Tracked.make(10)
        weak let first = owners[0]
        weak let last = owners[9]
        weak let middle = owners[5]
        for owner in owners { ring.append(owner) }
        owners = []
        #expect(first != nil)
        _ = ring.popFirst()
        _ = ring.popLast()
        #expect(first == nil)
        #expect(last == nil)
        #expect(middle != nil)
        ring.removeAll()
        #expect(middle == nil)
    }

    @Test func `copies do not see each other's changes`() {
        var one = RingBuffer<Int>()
        for i in 0..<5 { one.append(i) }
        var other = one
        other[0] = 100
        _ = other.popLast()
        #expect(one[0] == 0)
        #expect(one.count == 5)
        #expect(other.count == 4)
    }

    @Test func `an index outside of the ring ends the process`() async {
        await #expect(processExitsWith: .failure) {
            let ring = RingBuffer<Int>(capacity: 8)
            _ = ring[0]
        }
        await #expect(processExitsWith: .failure) {
            var ring = RingBuffer<Int>(capacity: 8)
            ring.append(1)
            _ = ring[-1]
        }
        await #expect(processExitsWith: .failure) {
            var ring = RingBuffer<Int>(capacity: 8)
            ring.append(1)
            ring[1] = 2
        }
    }
}
