import ClusterBase
import FleetModel
import NodePorts
import RaftCore
import Simulator
import StoreLayout
import Testing

/// A random key of a state machine.
func machineKey(_ random: inout PRNG) -> [UInt8] {
    [0x20 + UInt8(random.below(3))] + (0..<random.below(4)).map { _ in UInt8(random.below(3)) }
}

func machineRange(_ random: inout PRNG) -> KeyRange {
    let a = machineKey(&random)
    let b = machineKey(&random)
    return a.precedes(b) ? KeyRange(from: a, to: b) : KeyRange(from: b, to: random.chance(1, in: 8) ? nil : a + [0])
}

/// Fills a generation with random records and returns where it stands.
@discardableResult func fill(
    _ store: inout MemoryStore, _ generation: UInt32, count: Int, index: UInt64 = 40
) throws -> AppliedState {
    var view = StateView()
    view.begin(group, generation: generation, applied: .nothing, store)
    var random = PRNG(seed: 5)
    for i in 0..<count {
        var key: [UInt8] = [0x20]
        key.appendBigEndian(UInt64(i))
        view.put(key, (0..<random.below(60)).map { _ in UInt8(random.below(256)) })
    }
    let (batch, applied) = view.finish(index: LogIndex(index), term: Term(3), chain: 77)
    try store.write(batch, isSynced: false)
    return applied
}

@Suite struct StoredStateTests {
    @Test(arguments: 0..<10)
    func `a view reads like the store it becomes, whatever is put, deleted and scanned in between`(seed: Int) throws {
        var random = PRNG(seed: UInt64(seed))
        var store = MemoryStore()
        var view = StateView()
        var naive = NaiveStore()
        var applied = AppliedState.nothing
        // Another group's and another generation's records stand close by.
        try fill(&store, 2, count: 3)
        for round in 1...40 as ClosedRange<UInt64> {
            view.begin(group, generation: 1, applied: applied, store)
            for _ in 0..<random.below(30) {
                var change = WriteBatch()
                switch random.below(8) {
                case 0..<4:
                    let key = machineKey(&random)
                    let value = (0..<random.below(3)).map { _ in UInt8(random.below(256)) }
                    view.put(key, value)
                    change.put(key, value)
                case 4..<6:
                    let key = machineKey(&random)
                    view.delete(key)
                    change.delete(key)
                case 6:
                    let range = machineRange(&random)
                    view.delete(range)
                    // An open range of the view ends with its generation.
                    change.delete(range)
                default: break
                }
                naive.write(change, isSynced: true)
                let key = machineKey(&random)
                #expect(try view.value(for: key) == naive.rows.first { $0.key == key }?.value)
                let range = machineRange(&random)
                let limit = 1 + random.below(20)
                var found: [(key: [UInt8], value: [UInt8])] = []
                try view.scan(range) {
                    found.append(($0, $1))
                    return found.count < limit
                }
                #expect(isEqual(found, Array(naive.rows.filter { range.contains($0.key) }.prefix(limit))))
            }
            if random.chance(1, in: 6) {
                view.abandon()
                naive.rows = try rows(StateReader(group, generation: 1, store), KeyRange(from: [0x10], to: nil))
                continue
            }
            let finished = view.finish(index: LogIndex(round), term: Term(1), chain: round)
            applied = finished.applied
            try store.write(finished.batch, isSynced: false)
            let reader = StateReader(group, generation: 1, store)
            #expect(isEqual(try rows(reader, KeyRange(from: [0x10], to: nil)), naive.rows))
            #expect(try StoredState.applied(group, generation: 1, in: store) == applied)
        }
        #expect(try rows(StateReader(group, generation: 2, store), KeyRange(from: [0x10], to: nil)).count == 3)
    }

    @Test func `the digest follows from the changes, not from how entries share batches`() throws {
        func digest(batches: [Range<UInt64>]) throws -> UInt64 {
            var store = MemoryStore()
            var view = StateView()
            var applied = AppliedState.nothing
            for batch in batches {
                view.begin(group, generation: 1, applied: applied, store)
                for index in batch {
                    view.put([0x20, UInt8(index % 3)], [UInt8(index)])
                    if index % 4 == 0 { view.delete([0x20, 1]) }
                }
                let finished = view.finish(index: LogIndex(batch.upperBound), term: Term(1), chain: 0)
                applied = finished.applied
                try store.write(finished.batch, isSynced: false)
            }
            return applied.digest
        }
        let one = try digest(batches: [0..<12])
        #expect(try digest(batches: [0..<5, 5..<6, 6..<12]) == one)
        #expect(try digest(batches: [0..<11]) != one)
        #expect(one != 0)
    }

    @Test func `effects and position survive a crash together or not at all`() throws {
        for seed in 0..<40 as Range<UInt64> {
            var store = MemoryStore()
            var random = PRNG(seed: seed)
            var view = StateView()
            var applied = AppliedState.nothing
            for index in 1...10 as ClosedRange<UInt64> {
                view.begin(group, generation: 1, applied: applied, store)
                view.put([0x20], [UInt8(index)])
                let finished = view.finish(index: LogIndex(index), term: Term(1), chain: 0)
                applied = finished.applied
                try store.write(finished.batch, isSynced: false)
                if index == 3 { try store.flush() }
            }
            store.crash(&random)
            let found = try StoredState.applied(group, generation: 1, in: store)
            #expect(found.index >= LogIndex(3))
            #expect(
                try StateReader(group, generation: 1, store).value(for: [0x20]) == [UInt8(found.index.rawValue)])
        }
    }

    @Test func `every flipped bit of a state is found when it is read`() throws {
        var store = MemoryStore()
        try fill(&store, 1, count: 4)
        let all = try rows(store)
        for (key, value) in all {
            for bit in 0..<value.count * 8 {
                var bad = store
                bad.rot(key, bit: bit)
                let error = #expect(throws: StoreError.self) {
                    _ = try StoredState.contents(group, generation: 1, in: bad)
                }
                #expect(error?.code == .corrupt && error?.message.contains("group 7") == true)
                let own = Array(key[12...])
                #expect(throws: StoreError.self) { try StateReader(group, generation: 1, bad).value(for: own) }
            }
        }
    }

    // MARK: Snapshots

    let id = SnapshotID(source: ReplicaID(1), incarnation: Incarnation(2), number: 3)

    func source(_ store: MemoryStore, bytesMax: Int) throws -> SnapshotSource<MemoryStore.View> {
        let applied = try StoredState.applied(group, generation: 1, in: store)
        let base = LogBase(index: applied.index, term: applied.term, chain: applied.chain, configuration: members)
        return try SnapshotSource(group, generation: 1, base: base, bytesMax: bytesMax, store.view())
    }

    @Test(arguments: [1, 50, 400, 1 << 20])
    func `a snapshot arrives whole, in pieces of any size, while the source goes on`(bytesMax: Int) throws {
        var sender = MemoryStore()
        try fill(&sender, 1, count: 60)
        var source = try source(sender, bytesMax: bytesMax)
        let expected = try StoredState.contents(group, generation: 1, in: sender)
        var receiver = MemoryStore()
        try fill(&receiver, 1, count: 5, index: 2)
        var (staging, first) = try SnapshotStaging.open(group, id, current: 1, in: receiver)
        try receiver.write(first, isSynced: false)
        while !staging.isComplete {
            let piece = try #require(try source.piece(staging.next))
            #expect(piece.bytes.count <= max(bytesMax, 200))
            try receiver.write(staging.receive(piece), isSynced: false)
            try fill(&sender, 1, count: 61)
        }
        #expect(try source.piece(staging.next) == nil)
        #expect(staging.generation == 2)
        #expect(try StoredState.generation(of: group, snapshot: id, in: receiver) == 2)
        #expect(try StoredState.contents(group, generation: 2, in: receiver) == expected)
        #expect(try StoredState.applied(group, generation: 2, in: receiver).index == LogIndex(40))
        #expect(try StoredState.generations(of: group, in: receiver) == [1, 2])
        try receiver.write(StoredState.deleteGenerations(of: group, except: 2, in: receiver), isSynced: false)
        #expect(try StoredState.generations(of: group, in: receiver) == [2])
    }

    @Test func `a receiver that crashes goes on where its store stands`() throws {
        var sender = MemoryStore()
        try fill(&sender, 1, count: 60)
        let expected = try StoredState.contents(group, generation: 1, in: sender)
        for seed in 0..<30 as Range<UInt64> {
            var random = PRNG(seed: seed)
            var source = try source(sender, bytesMax: 150)
            var receiver = MemoryStore()
            var crashes = 0
            var (staging, first) = try SnapshotStaging.open(group, id, current: 1, in: receiver)
            try receiver.write(first, isSynced: false)
            while !staging.isComplete {
                let piece = try #require(try source.piece(staging.next))
                try receiver.write(staging.receive(piece), isSynced: false)
                if random.chance(1, in: 8) { try receiver.flush() }
                if crashes < 5 && random.chance(1, in: 6) {
                    crashes += 1
                    receiver.crash(&random)
                    (staging, first) = try SnapshotStaging.open(group, id, current: 1, in: receiver)
                    try receiver.write(first, isSynced: false)
                }
            }
            #expect(try StoredState.contents(group, generation: staging.generation, in: receiver) == expected)
        }
    }

    @Test func `a snapshot that is not what its manifest says is refused`() throws {
        var sender = MemoryStore()
        try fill(&sender, 1, count: 6)
        var source = try source(sender, bytesMax: 1 << 20)
        let good = try #require(try source.piece(0))
        let receiver = MemoryStore()
        func refusal(_ change: (inout SnapshotPiece) -> Void) throws -> SnapshotRefusal? {
            var piece = good
            change(&piece)
            var (staging, _) = try SnapshotStaging.open(group, id, current: 1, in: receiver)
            do {
                _ = try staging.receive(piece)
                return nil
            } catch let refusal {
                #expect(staging.next == 0 && !staging.isComplete)
                return refusal
            }
        }
        #expect(try refusal { _ in } == nil)
        #expect(try refusal { $0.bytes[9] ^= 1 } == .checksum(piece: 0))
        #expect(try refusal { $0.number = 1 } == .outOfOrder(expected: 0))
        guard case .digest? = try refusal({ $0.manifest?.digest ^= 1 }) else {
            Issue.record("another digest was accepted")
            return
        }
        guard case .digest? = try refusal({ $0.manifest?.keyCount += 1 }) else {
            Issue.record("another count was accepted")
            return
        }
        guard case .position? = try refusal({ $0.manifest?.base.chain ^= 1 }) else {
            Issue.record("another position was accepted")
            return
        }
        for cut in 1..<good.bytes.count {
            let found = try refusal {
                $0.bytes.removeLast(cut)
                $0.checksum = CRC32C.of($0.bytes)
            }
            #expect(found != nil, "cut by \(cut)")
        }
        // Wrong bytes under a right piece checksum: the records' own seals speak.
        for at in good.bytes.indices {
            let found = try refusal {
                $0.bytes[at] ^= 0x40
                $0.checksum = CRC32C.of($0.bytes)
            }
            #expect(found != nil, "byte \(at)")
        }
    }

    @Test func `a source with a damaged record does not send it`() throws {
        var sender = MemoryStore()
        try fill(&sender, 1, count: 6)
        sender.rot(try rows(sender)[4].key, bit: 3)
        var source = try source(sender, bytesMax: 1 << 20)
        #expect(throws: StoreError.self) { try source.piece(0) }
    }

    @Test func `another snapshot starts over, and what an unfinished one left is removed`() throws {
        var sender = MemoryStore()
        try fill(&sender, 1, count: 60)
        var source = try source(sender, bytesMax: 100)
        var receiver = MemoryStore()
        try fill(&receiver, 1, count: 5, index: 2)
        var (staging, first) = try SnapshotStaging.open(group, id, current: 1, in: receiver)
        try receiver.write(first, isSynced: false)
        try receiver.write(staging.receive(try #require(try source.piece(0))), isSynced: false)
        #expect(try StoredState.generation(of: group, snapshot: id, in: receiver) == nil)
        let newer = SnapshotID(source: ReplicaID(1), incarnation: Incarnation(2), number: 4)
        (staging, first) = try SnapshotStaging.open(group, newer, current: 1, in: receiver)
        try receiver.write(first, isSynced: false)
        #expect(staging.next == 0)
        #expect(try StoredState.generations(of: group, in: receiver) == [1, staging.generation])
        try receiver.write(staging.discard(), isSynced: false)
        #expect(try StoredState.generations(of: group, in: receiver) == [1])
        #expect(try StoredState.groups(in: receiver) == [group])
    }
}
