import ClusterBase
import NodePorts
import Simulator
import StoreLayout
import Testing

@Suite struct MemoryStoreTests {
    @Test(arguments: 0..<8)
    func `a store in memory does what the naive store does, through random operations and crashes`(seed: Int) throws {
        var store = MemoryStore()
        try checkOrderedStore(&store, seed: UInt64(seed), steps: 500) { store, random in store.crash(&random) }
    }

    func batch(_ key: UInt8, _ value: UInt8 = 1) -> WriteBatch {
        var batch = WriteBatch()
        batch.put([key], [value])
        return batch
    }

    @Test func `a synced write makes all earlier writes durable`() throws {
        for seed in 0..<32 as Range<UInt64> {
            var store = MemoryStore()
            var random = PRNG(seed: seed)
            try store.write(batch(1), isSynced: false)
            try store.write(batch(2), isSynced: true)
            store.crash(&random)
            #expect(try store.value(for: [1]) == [1])
            #expect(try store.value(for: [2]) == [1])
        }
    }

    @Test func `every prefix of the unsynced batches can survive a crash`() throws {
        var seen: Set<Int> = []
        for seed in 0..<64 as Range<UInt64> {
            var store = MemoryStore()
            var random = PRNG(seed: seed)
            for key in 1...4 as ClosedRange<UInt8> { try store.write(batch(key), isSynced: false) }
            store.crash(&random)
            seen.insert(store.count)
        }
        #expect(seen == [0, 1, 2, 3, 4])
    }

    @Test func `writes in flight survive a crash in order, and only after all that was written before them`() throws {
        var seen: Set<[UInt8]> = []
        for seed in 0..<64 as Range<UInt64> {
            var store = MemoryStore()
            var random = PRNG(seed: seed)
            try store.write(batch(1), isSynced: false)
            let kept = store.crash(&random, inFlight: [batch(2), batch(3)])
            let keys = try rows(store).map { $0.key[0] }
            #expect(kept == max(0, keys.count - 1))
            seen.insert(keys)
        }
        #expect(seen == [[], [1], [1, 2], [1, 2, 3]])
    }

    @Test func `what a failed sync was to save is lost, even when a later sync succeeds`() throws {
        for seed in 0..<32 as Range<UInt64> {
            var store = MemoryStore()
            var random = PRNG(seed: seed)
            try store.write(batch(1), isSynced: true)
            try store.write(batch(2), isSynced: false)
            store.fault = .writeError
            #expect(throws: StoreError.self) { try store.flush() }
            store.fault = .none
            try store.write(batch(3), isSynced: true)
            #expect(store.count == 3)
            store.crash(&random)
            #expect(try rows(store).map(\.key) == [[1]])
        }
    }

    @Test func `a synced write that failed may still be on the disk`() throws {
        var seen: Set<Int> = []
        for seed in 0..<32 as Range<UInt64> {
            var store = MemoryStore()
            var random = PRNG(seed: seed)
            store.fault = .noSpace
            let error = #expect(throws: StoreError.self) { try store.write(batch(1), isSynced: true) }
            #expect(error?.code == .noSpace)
            #expect(store.count == 0)
            store.crash(&random)
            seen.insert(store.count)
        }
        #expect(seen == [0, 1])
    }

    @Test func `rot changes one bit of one value, and a lost record is gone`() throws {
        var store = MemoryStore()
        var random = PRNG(seed: 7)
        for key in 0..<200 as Range<UInt8> { try store.write(batch(key, key), isSynced: true) }
        let before = store.view()
        let rotten = store.rot(&random)
        let key = try #require(rotten)
        let bad = try #require(try store.value(for: key))[0]
        #expect((bad ^ key[0]).nonzeroBitCount == 1)
        #expect(try before.value(for: key) == key)
        let loss = store.loseRecord(&random)
        let lost = try #require(loss)
        #expect(try store.value(for: lost) == nil)
        #expect(store.count == 199)
    }
}
