import ClusterBase
import Glibc
import NodePorts
import NodeStorage
import RaftCore
import StoreFolder
import StoreLayout
import Testing

@Suite struct StateStoreTests {
    let folder = Folder()

    func directory(_ name: String) throws -> NodeDirectory {
        let path = folder.path + "/" + name
        return Folder.names(path).isEmpty
            ? try NodeDirectory.create(path, identity, smallSettings())
            : try NodeDirectory.open(path, identity, smallSettings())
    }

    func key(_ parts: UInt8..., number: UInt64? = nil) -> [UInt8] {
        var key = parts
        if let number { key.appendBigEndian(number) }
        return key
    }

    /// Rows `numbers` of sequence `s`, and the put that tells how far they go.
    func load(_ s: UInt8, _ numbers: Range<UInt64>, bytes: Int = 30) -> WriteBatch {
        var batch = WriteBatch()
        for number in numbers {
            batch.put(key(s, 1, number: number), [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: bytes))
        }
        var value: [UInt8] = []
        value.appendBigEndian(numbers.upperBound)
        batch.put(key(s, 0), value)
        return batch
    }

    func rows(_ reader: some OrderedReader, _ range: KeyRange) throws -> [[UInt8]] {
        var found: [[UInt8]] = []
        try reader.scan(range) { key, value in
            found.append(key + value)
            return true
        }
        return found
    }

    @Test func `of a load that comes slowly a crash leaves all but the newest, and what tells how far it goes`() throws
    {
        let directory = try directory("slow")
        for piece in 0..<5 as Range<UInt64> {
            if piece == 4 { usleep(2_100_000) }
            try directory.state.load(load(1, piece * 50..<piece * 50 + 50))
        }
        // The thread that takes it may be at it.
        for _ in 0..<100 where try directory.state.value(for: [1, 0]) == nil { usleep(50_000) }
        Folder.copy(directory.path, to: folder.path + "/crashed")
        let crashed = try self.directory("crashed")
        #expect(try rows(crashed.state, .prefix([1, 1])).count == 250)
        #expect(try crashed.state.value(for: [1, 0])?.bigEndian64(at: 0) == 250)
    }

    @Test func `what was loaded is there after a flush, several sequences at once`() throws {
        let directory = try directory("a")
        for piece in 0..<20 as Range<UInt64> {
            for s in 1...3 as ClosedRange<UInt8> {
                try directory.state.load(load(s, piece * 50..<piece * 50 + 50))
            }
            var other = WriteBatch()
            other.put([9, UInt8(piece)], [1])
            try directory.state.write(other, isSynced: false)
        }
        try directory.state.flush()
        for s in 1...3 as ClosedRange<UInt8> {
            #expect(try rows(directory.state, .prefix([s, 1])).count == 1_000)
            #expect(try directory.state.value(for: [s, 0])?.bigEndian64(at: 0) == 1_000)
        }
        #expect(try rows(directory.state, .prefix([9])).count == 20)
        // They came as files, past the write buffers.
        #expect(Folder.names(directory.path + "/state").count { $0.hasSuffix(".sst") } >= 4)
        #expect(Folder.names(directory.path + "/incoming").isEmpty)
    }

    @Test func `a deletion of its range ends a sequence, wherever its rows are`() throws {
        let directory = try directory("a")
        for isFlushed in [false, true] {
            for piece in 0..<10 as Range<UInt64> { try directory.state.load(load(1, piece * 100..<piece * 100 + 100)) }
            if isFlushed { try directory.state.flush() }
            var cut = WriteBatch()
            cut.delete(.prefix([1]))
            try directory.state.write(cut, isSynced: false)
            try directory.state.load(load(1, 500..<501))
            try directory.state.flush()
            #expect(try rows(directory.state, .prefix([1, 1])).count == 1)
            #expect(Folder.names(directory.path + "/incoming").isEmpty)
            try directory.state.write(cut, isSynced: true)
        }
    }

    @Test func `a sequence that is begun again goes on from what the store has`() throws {
        let directory = try directory("a")
        try directory.state.load(load(1, 0..<100))
        try directory.state.flush()
        try directory.state.load(load(1, 100..<200))
        // The owner forgot, and reads how far the store is.
        #expect(try directory.state.value(for: [1, 0])?.bigEndian64(at: 0) == 100)
        try directory.state.load(load(1, 100..<150))
        try directory.state.load(load(1, 150..<300))
        try directory.state.flush()
        #expect(try rows(directory.state, .prefix([1, 1])).count == 300)
        #expect(try directory.state.value(for: [1, 0])?.bigEndian64(at: 0) == 300)
    }

    @Test func `loads without end don't fill the memory`() throws {
        let directory = try directory("a")
        for piece in 0..<600 as Range<UInt64> {
            try directory.state.load(load(1, piece * 100..<piece * 100 + 100, bytes: 2_000))
        }
        try directory.state.flush()
        #expect(try directory.state.value(for: [1, 0])?.bigEndian64(at: 0) == 60_000)
        var count = 0
        try directory.state.scan(.prefix([1, 1])) { _, _ in
            count += 1
            return true
        }
        #expect(count == 60_000)
    }

    /// A state of some rows at index 9, made as a state machine makes it.
    func makeState(_ store: inout some OrderedStore, _ group: GroupID, rows: Int, _ random: inout PRNG) throws
        -> AppliedState
    {
        var view = StateView()
        view.begin(group, generation: StoredState.firstGeneration, applied: .nothing, store)
        for _ in 0..<rows {
            view.put(
                [0x20] + (0..<12).map { _ in UInt8(random.below(256)) },
                (0..<random.below(300)).map { _ in UInt8(random.below(8)) })
        }
        let (batch, applied) = view.finish(index: LogIndex(9), term: Term(2), chain: 77)
        try store.write(batch, isSynced: true)
        return applied
    }

    @Test(arguments: 0..<4 as Range<UInt64>)
    func `a snapshot arrives whole through crashes of its receiver, or begins again`(seed: UInt64) throws {
        var random = PRNG(seed: seed)
        let group = GroupID(7)
        let source = try directory("source")
        var from = source.state
        let applied = try makeState(&from, group, rows: 4_000, &random)
        let base = LogBase(index: applied.index, term: applied.term, chain: applied.chain, configuration: members)
        var pieces = try SnapshotSource(
            group, generation: StoredState.firstGeneration, base: base, bytesMax: 8 << 10, from.view())
        let id = SnapshotID(source: ReplicaID(1), incarnation: Incarnation(1), number: 1)

        var life = 0
        var receiver: NodeDirectory? = try directory("receiver0")
        func open() throws -> SnapshotStaging {
            let (staging, batch) = try SnapshotStaging.open(
                group, id, current: StoredState.firstGeneration, in: receiver!.state)
            if !batch.isEmpty { try receiver!.state.write(batch, isSynced: false) }
            return staging
        }
        var staging = try open()
        var crashes = 0
        while !staging.isComplete {
            if random.chance(1, in: 40) && crashes < 5 {
                // What its files are now is what a new process finds.
                crashes += 1
                life += 1
                Folder.copy(receiver!.path, to: folder.path + "/receiver\(life)")
                receiver = nil
                receiver = try directory("receiver\(life)")
                #expect(receiver!.findings.isEmpty)
                staging = try open()
                continue
            }
            if random.chance(1, in: 20) { try receiver!.state.flush() }
            // Others' writes fill the buffers, which then go to files by themselves.
            var other = WriteBatch()
            other.put([9, UInt8(random.below(256))], (0..<60_000).map { _ in UInt8(random.below(256)) })
            try receiver!.state.write(other, isSynced: false)
            let piece = try #require(try pieces.piece(staging.next))
            let batch = try staging.receive(piece)
            try receiver!.state.load(batch)
        }
        try receiver!.state.flush()
        life += 1
        Folder.copy(receiver!.path, to: folder.path + "/receiver\(life)")
        receiver = nil
        let arrived = try directory("receiver\(life)")
        let generation = try #require(try StoredState.generation(of: group, snapshot: id, in: arrived.state))
        #expect(try StoredState.applied(group, generation: generation, in: arrived.state) == applied)
        let sent = try StoredState.contents(group, generation: StoredState.firstGeneration, in: source.state)
        let found = try StoredState.contents(group, generation: generation, in: arrived.state)
        #expect(found == sent)
    }
}
