import ClusterBase
import Testing

@Suite struct HeapTests {
    @Test(arguments: 0..<20 as Range<UInt64>)
    func `a heap gives back the smallest of what is in it`(seed: UInt64) {
        var random = PRNG(seed: seed)
        var heap = Heap<Int>()
        var model: [Int] = []
        let spread = [2, 10, 1_000_000][random.below(3)]
        for step in 0..<2_000 {
            if random.chance(step / 250 % 2 == 0 ? 6 : 4, in: 10) {
                let value = random.below(spread)
                heap.insert(value)
                model.append(value)
            } else {
                let least = model.min()
                let first = heap.popFirst()
                #expect(first == least)
                if let least, let i = model.firstIndex(of: least) { model.remove(at: i) }
            }
            #expect(heap.count == model.count)
            #expect(heap.isEmpty == model.isEmpty)
            #expect(heap.first == model.min())
        }
        var drained: [Int] = []
        while let least = heap.popFirst() { drained.append(least) }
        #expect(drained == model.sorted())
    }

    @Test func `every order of seven elements comes out sorted`() {
        func permute(_ rest: [Int], _ taken: [Int], _ visit: ([Int]) -> Void) {
            if rest.isEmpty { visit(taken) }
            for i in rest.indices {
                var left = rest
                let next = left.remove(at: i)
                permute(left, taken + [next], visit)
            }
        }
        var visited = 0
        permute(Array(0..<7), []) { order in
            var heap = Heap<Int>()
            for element in order { heap.insert(element) }
            var out: [Int] = []
            while let least = heap.popFirst() { out.append(least) }
            #expect(out == Array(0..<7), "inserted as \(order)")
            visited += 1
        }
        #expect(visited == 5_040)
    }

    @Test func `an emptied heap starts over`() {
        var heap = Heap<Int>()
        for i in 0..<10 { heap.insert(i) }
        heap.removeAll()
        #expect(heap.isEmpty)
        var first = heap.popFirst()
        #expect(first == nil)
        heap.insert(3)
        first = heap.popFirst()
        #expect(first == 3)
    }
}
