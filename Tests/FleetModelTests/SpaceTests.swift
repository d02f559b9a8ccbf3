import ClusterBase
import FleetModel
import Testing

/// The slowest correct state access: a list of rows.
struct NaiveState: StateAccess, Equatable {
    struct Row: Equatable {
        var key: [UInt8]
        var value: [UInt8]
    }
    var rows: [Row] = []
    var failsReads = false

    /// Where the key is or belongs.
    func place(_ key: [UInt8]) -> (at: Int, isFound: Bool) {
        var low = 0
        var high = rows.count
        while low < high {
            let middle = (low + high) / 2
            if rows[middle].key.precedes(key) { low = middle + 1 } else { high = middle }
        }
        return (low, low < rows.count && rows[low].key == key)
    }

    func value(for key: [UInt8]) throws(StoreError) -> [UInt8]? {
        if failsReads { throw StoreError(.readFailed, "the test's state can't be read") }
        let (at, isFound) = place(key)
        return isFound ? rows[at].value : nil
    }
    func scan(_ range: KeyRange, _ body: ([UInt8], [UInt8]) -> Bool) throws(StoreError) {
        var at = place(range.from).at
        while at < rows.count, range.contains(rows[at].key) {
            if !body(rows[at].key, rows[at].value) { return }
            at += 1
        }
    }
    mutating func put(_ key: [UInt8], _ value: [UInt8]) {
        let (at, isFound) = place(key)
        if isFound { rows[at].value = value } else { rows.insert(Row(key: key, value: value), at: at) }
    }
    mutating func delete(_ key: [UInt8]) {
        let (at, isFound) = place(key)
        if isFound { rows.remove(at: at) }
    }
    mutating func delete(_ range: KeyRange) { rows.removeAll { range.contains($0.key) } }
}

/// A space on its own, with the log that leads to it.
struct Bench {
    var state = NaiveState()
    var index = LogIndex.zero

    mutating func apply(_ commands: [SpaceCommand]) throws -> [SpaceResult] {
        index = index.next
        return try Space.apply(pack: Space.pack(commands), index: index, access: &state)
    }
    mutating func apply(_ operation: SpaceCommand.Operation) throws -> SpaceResult {
        try #require(try apply([SpaceCommand(operation)]).first)
    }
    mutating func apply(
        client: UInt64, _ sequence: UInt64, acknowledged: UInt64 = 0, born: UInt64 = 0,
        _ operation: SpaceCommand.Operation
    ) throws -> SpaceResult {
        let command = SpaceCommand(
            client: ClientID(client), sequence: sequence, acknowledged: acknowledged, born: LogIndex(born), operation)
        return try #require(try apply([command]).first)
    }
    func get(_ key: String) throws -> SpaceRecord? {
        guard case .record(let record) = try Space.read(.get(key: bytes(key)), state).body else { return nil }
        return record
    }
    func value(_ key: String) throws -> String? {
        try get(key).map { String(decoding: $0.value, as: UTF8.self) }
    }
    func changes(since: Revision, _ prefix: String = "", limit: Int = 0) throws -> SpaceAnswer {
        try Space.read(.changes(since: since, prefix: bytes(prefix), limit: limit), state)
    }
}

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }
func put(_ key: String, _ value: String) -> SpaceCommand.Operation { .put(key: bytes(key), value: bytes(value)) }
func cas(_ key: String, _ expected: SpaceCommand.Expectation, _ value: String) -> SpaceCommand.Operation {
    .compareAndSet(key: bytes(key), expected: expected, value: bytes(value))
}
func delete(_ key: String, _ revision: Revision? = nil) -> SpaceCommand.Operation {
    .delete(key: bytes(key), revision: revision)
}

@Suite struct SpaceKeyTests {
    @Test func `a key remembers when it was created, when it last changed, and how often`() throws {
        var bench = Bench()
        #expect(try bench.get("a") == nil)
        let first = try bench.apply(put("a", "1"))
        #expect(first.outcome == .written(version: 1))
        #expect(first.revision == Revision(index: LogIndex(1), slot: 0))
        let second = try bench.apply(put("a", "2"))
        #expect(
            try bench.get("a")
                == SpaceRecord(
                    key: bytes("a"), value: bytes("2"), created: first.revision, modified: second.revision, version: 2))
        #expect(try bench.apply(delete("a")).outcome == .deleted)
        #expect(try bench.get("a") == nil)
        let again = try bench.apply(put("a", "3"))
        #expect(try bench.get("a")?.created == again.revision)
        #expect(try bench.get("a")?.version == 1)
    }

    @Test func `an empty value is a value`() throws {
        var bench = Bench()
        _ = try bench.apply(put("a", ""))
        #expect(try bench.value("a") == "")
        #expect(try bench.apply(cas("a", .value([]), "x")).outcome == .written(version: 2))
    }

    @Test func `compare-and-set takes effect only when the key holds what was expected`() throws {
        var bench = Bench()
        #expect(try bench.apply(cas("a", .revision(Revision(1)), "1")).outcome == .conflict(modified: nil))
        #expect(try bench.apply(cas("a", .value(bytes("")), "1")).outcome == .conflict(modified: nil))
        let made = try bench.apply(cas("a", .absent, "1"))
        #expect(made.outcome == .written(version: 1))
        #expect(try bench.apply(cas("a", .absent, "2")).outcome == .conflict(modified: made.revision))
        #expect(try bench.apply(cas("a", .value(bytes("0")), "2")).outcome == .conflict(modified: made.revision))
        #expect(try bench.value("a") == "1")
        #expect(try bench.apply(cas("a", .value(bytes("1")), "2")).outcome == .written(version: 2))
        #expect(try bench.apply(cas("a", .revision(made.revision), "3")).outcome.isConflict)
        let now = try #require(try bench.get("a")).modified
        #expect(try bench.apply(cas("a", .revision(now), "3")).outcome == .written(version: 3))
        #expect(try bench.value("a") == "3")
    }

    @Test func `two writes of one key in one entry have different revisions, so that neither passes for the other`()
        throws
    {
        var bench = Bench()
        let results = try bench.apply([SpaceCommand(put("a", "1")), SpaceCommand(put("a", "2"))])
        #expect(results.map(\.outcome) == [.written(version: 1), .written(version: 2)])
        #expect(results[0].revision < results[1].revision)
        #expect(try bench.apply(cas("a", .revision(results[0].revision), "x")).outcome.isConflict)
        #expect(try bench.apply(cas("a", .revision(results[1].revision), "x")).outcome == .written(version: 3))
    }

    @Test func `a guarded delete takes effect only at its revision`() throws {
        var bench = Bench()
        let made = try bench.apply(put("a", "1"))
        #expect(try bench.apply(delete("b")).outcome == .notFound)
        #expect(try bench.apply(delete("b", made.revision)).outcome == .conflict(modified: nil))
        let changed = try bench.apply(put("a", "2"))
        #expect(try bench.apply(delete("a", made.revision)).outcome == .conflict(modified: changed.revision))
        #expect(try bench.apply(delete("a", changed.revision)).outcome == .deleted)
    }

    @Test func `commands of one entry see each other's effects in their order`() throws {
        var bench = Bench()
        let results = try bench.apply([
            SpaceCommand(put("a", "1")), SpaceCommand(delete("a")), SpaceCommand(cas("a", .absent, "2")),
            SpaceCommand(cas("a", .value(bytes("2")), "3")),
        ])
        #expect(results.map(\.outcome) == [.written(version: 1), .deleted, .written(version: 1), .written(version: 2)])
        #expect(results.map(\.revision.slot) == [0, 1, 2, 3])
        #expect(try bench.value("a") == "3")
    }

    @Test func `what exceeds a bound is refused with a sentence, and changes nothing`() throws {
        var bench = Bench()
        func refusal(_ operation: SpaceCommand.Operation) throws -> SpaceRefusal? {
            guard case .refused(let refusal) = try bench.apply(operation).outcome else { return nil }
            #expect(!refusal.description.isEmpty)
            return refusal
        }
        let longKey = [UInt8](repeating: 1, count: 1_025)
        #expect(try refusal(.put(key: [], value: [])) == .keyEmpty)
        #expect(try refusal(.put(key: longKey, value: [])) == .keyTooLong(1_025))
        #expect(
            try refusal(.put(key: [1], value: [UInt8](repeating: 0, count: (1 << 20) + 1)))
                == .valueTooLong((1 << 20) + 1))
        #expect(try refusal(.delete(key: longKey, revision: nil)) == .keyTooLong(1_025))
        #expect(
            try Space.read(.list(prefix: [], after: nil, limit: 0), bench.state).body == .page([], resumeAfter: nil))
        #expect(try bench.apply(.put(key: Array(longKey.dropLast()), value: [])).outcome == .written(version: 1))
        #expect(
            try bench.apply(.put(key: [1], value: [UInt8](repeating: 0, count: 1 << 20))).outcome
                == .written(version: 1))
        #expect(try Space.read(.get(key: []), bench.state).body == .refused(.keyEmpty))
    }

    @Test func `a list comes in pages, in byte order, and each goes on where the last one ended`() throws {
        var bench = Bench()
        for key in ["b/2", "a", "b/10", "b/", "c", "b/1", "b"] { _ = try bench.apply(put(key, key)) }
        func page(_ prefix: String, after: [UInt8]? = nil, limit: Int) throws -> ([String], [UInt8]?) {
            let answer = try Space.read(.list(prefix: bytes(prefix), after: after, limit: limit), bench.state)
            #expect(answer.revision == .end(of: LogIndex(7)))
            guard case .page(let records, let resume) = answer.body else { return ([], nil) }
            return (records.map { String(decoding: $0.key, as: UTF8.self) }, resume)
        }
        #expect(try page("b/", limit: 10).0 == ["b/", "b/1", "b/10", "b/2"])
        #expect(try page("b/", limit: 4).1 == nil)
        let first = try page("b/", limit: 3)
        #expect(first.0 == ["b/", "b/1", "b/10"])
        let second = try page("b/", after: first.1, limit: 3)
        #expect(second.0 == ["b/2"])
        #expect(second.1 == nil)
        #expect(try page("", limit: 0).0 == ["a", "b", "b/", "b/1", "b/10", "b/2", "c"])
        #expect(try page("b/", after: bytes("z"), limit: 3).0 == [])
        #expect(try page("b/", after: bytes("a"), limit: 1).0 == ["b/"])
    }

    @Test func `a page of large values holds one at least and no more than its bytes`() throws {
        var bench = Bench()
        for key in 0..<3 as Range<UInt8> {
            _ = try bench.apply(.put(key: [key], value: [UInt8](repeating: key, count: 600_000)))
        }
        guard
            case .page(let records, let resume) = try Space.read(.list(prefix: [], after: nil, limit: 0), bench.state)
                .body
        else { return }
        #expect(records.count == 1)
        #expect(resume == [0])
    }

    @Test func `a state that can't be read stops the apply`() throws {
        var bench = Bench()
        _ = try bench.apply(put("a", "1"))
        bench.state.failsReads = true
        #expect(throws: StoreError.self) { try bench.apply(put("a", "2")) }
    }
}

@Suite struct SpacePackTests {
    @Test func `a command comes back from its bytes`() throws {
        let operations: [SpaceCommand.Operation] = [
            put("key", "value"), put("k", ""), cas("k", .absent, "v"), cas("k", .revision(Revision(9)), "v"),
            cas("k", .value([]), "v"), cas("k", .value(bytes("old")), ""), delete("k"), delete("k", Revision(77)),
            .put(key: [0, 255], value: [UInt8](repeating: 7, count: 100_000)),
        ]
        for operation in operations {
            for client in [0, 5, UInt64.max] {
                let command = SpaceCommand(
                    client: ClientID(client), sequence: client == 0 ? 0 : 300, acknowledged: client == 0 ? 0 : 299,
                    born: LogIndex(client == 0 ? 0 : 12), operation)
                #expect(try SpaceCommand.decode(command.encoded()).get() == command)
            }
        }
    }

    @Test func `no bytes trap, and a malformed command is refused alone`() throws {
        var random = PRNG(seed: 3)
        let good = SpaceCommand(client: ClientID(4), sequence: 1, cas("key", .value(bytes("old")), "new")).encoded()
        for cut in 0..<good.count {
            #expect(throws: SpaceRefusal.malformed) { try SpaceCommand.decode(Array(good[..<cut])).get() }
        }
        let pack = Space.pack([good, good])
        for _ in 0..<3_000 {
            var bad = pack
            for _ in 0..<1 + random.below(3) { bad[random.below(bad.count)] = UInt8(random.below(256)) }
            var bench = Bench()
            do throws(StoreError) {
                let results = try Space.apply(pack: bad, index: LogIndex(1), access: &bench.state)
                #expect(!results.isEmpty)
            } catch {
                #expect(error.code == .outdated && bench.state.rows.isEmpty)
            }
        }
        var bench = Bench()
        let results = try Space.apply(
            pack: Space.pack([SpaceCommand(put("a", "1")).encoded(), [1, 2, 3], SpaceCommand(put("b", "1")).encoded()]),
            index: LogIndex(1), access: &bench.state)
        #expect(results.map(\.outcome) == [.written(version: 1), .refused(.malformed), .written(version: 1)])
    }

    @Test func `a key is deleted only while it holds the expected value`() throws {
        var bench = Bench()
        func result(_ operation: SpaceCommand.Operation, _ index: UInt64) throws -> SpaceResult.Outcome? {
            let pack = Space.pack([SpaceCommand(operation)], level: FeatureLevel.conditionalDeletes)
            return try Space.apply(pack: pack, index: LogIndex(index), access: &bench.state).first?.outcome
        }
        let key = Array("lock".utf8)
        #expect(try result(.compareAndDelete(key: key, expected: Array("me".utf8)), 1) == .conflict(modified: nil))
        #expect(try result(.put(key: key, value: Array("me".utf8)), 2) == .written(version: 1))
        let written = Revision(index: LogIndex(2), slot: 0)
        #expect(try result(.compareAndDelete(key: key, expected: Array("you".utf8)), 3) == .conflict(modified: written))
        #expect(try result(.compareAndDelete(key: key, expected: []), 4) == .conflict(modified: written))
        #expect(try result(.compareAndDelete(key: key, expected: Array("me".utf8)), 5) == .deleted)
        #expect(try result(.delete(key: key, revision: nil), 6) == .notFound)
        #expect(try result(.compareAndDelete(key: [], expected: []), 7) == .refused(.keyEmpty))
    }

    @Test func `a space that has ended takes and tells nothing more, and a restored one does again`() throws {
        var bench = Bench()
        func results(_ operations: [SpaceCommand.Operation], _ index: UInt64) throws -> [SpaceResult.Outcome] {
            let pack = Space.pack(operations.map { SpaceCommand($0) }, level: FeatureLevel.spaceEnds)
            return try Space.apply(pack: pack, index: LogIndex(index), access: &bench.state).map(\.outcome)
        }
        let key = Array("a".utf8)
        #expect(
            try results([put("a", "1"), .end, put("a", "2"), .end], 1)
                == [.written(version: 1), .deleted, .refused(.ended), .refused(.ended)])
        #expect(
            try results([.delete(key: key, revision: nil), put("b", "1")], 2) == [.refused(.ended), .refused(.ended)])
        let queries: [SpaceQuery] = [
            .get(key: key), .list(prefix: [], after: nil, limit: 0), .changes(since: .zero, prefix: [], limit: 0),
        ]
        for query in queries { #expect(try Space.read(query, bench.state).body == .refused(.ended)) }
        // A saved state of a moment before the deletion was done: the space was still there.
        try Space.restore(at: LogIndex(3), &bench.state)
        guard case .record(let record?) = try Space.read(.get(key: key), bench.state).body else {
            Issue.record("the key is gone")
            return
        }
        #expect(record.value == Array("1".utf8))
        #expect(try results([put("a", "3")], 4) == [.written(version: 2)])
    }

    @Test func `an entry means what its level says, and above what a program knows it stops`() throws {
        let commands = [
            SpaceCommand(.put(key: Array("a".utf8), value: Array("1".utf8))),
            SpaceCommand(.compareAndDelete(key: Array("a".utf8), expected: Array("1".utf8))),
            SpaceCommand(.put(key: Array("b".utf8), value: Array("2".utf8))),
        ]
        #expect(commands.map(\.level) == [1, 2, 1])
        var states: [NaiveState] = []
        for knows: UInt32 in [1, 2] {
            var bench = Bench()
            // Packed while the level was closed: programs of both ages refuse the one command that came with it.
            let results = try Space.apply(
                pack: Space.pack(commands, level: 1), index: LogIndex(1), knows: knows, access: &bench.state)
            #expect(results.map(\.outcome) == [.written(version: 1), .refused(.malformed), .written(version: 1)])
            states.append(bench.state)
        }
        #expect(states[0].rows == states[1].rows)
        var (older, newer) = (Bench(), Bench())
        let pack = Space.pack(commands, level: 2)
        #expect(throws: StoreError.self) {
            _ = try Space.apply(pack: pack, index: LogIndex(1), knows: 1, access: &older.state)
        }
        #expect(older.state.rows.isEmpty)
        let results = try Space.apply(pack: pack, index: LogIndex(1), knows: 2, access: &newer.state)
        #expect(results.map(\.outcome) == [.written(version: 1), .deleted, .written(version: 1)])
    }

    @Test func `a pack of a newer version stops the program, and one above a bound is refused as a whole`() throws {
        var bench = Bench()
        func refused(_ pack: [UInt8]) throws -> SpaceRefusal? {
            let results = try Space.apply(pack: pack, index: LogIndex(1), access: &bench.state)
            guard results.count == 1, case .refused(let refusal) = results[0].outcome else { return nil }
            return refusal
        }
        #expect(try refused([]) == .unknownVersion(0))
        do throws(StoreError) {
            _ = try Space.apply(pack: [8, UInt8(FeatureLevel.newest + 1)], index: LogIndex(1), access: &bench.state)
            Issue.record("a pack of a later level was applied")
        } catch {
            #expect(error.code == .outdated)
        }
        #expect(try refused([8, 1]) == .malformed)
        let small = SpaceCommand(put("a", "1")).encoded()
        #expect(try refused(Space.pack([[UInt8]](repeating: small, count: 257))) == .packTooLarge(257))
        let large = SpaceCommand(.put(key: [1], value: [UInt8](repeating: 0, count: 40_000))).encoded()
        #expect(try refused(Space.pack([large, large])) == .packTooLarge(UInt64(Space.pack([large, large]).count)))
        #expect(bench.state.rows.isEmpty)
        #expect(try refused(Space.pack([large])) == nil)
    }

    @Test func `what fits is what is accepted`() throws {
        var random = PRNG(seed: 8)
        for _ in 0..<200 {
            var commands: [[UInt8]] = []
            var bytes = 0
            while true {
                let size = random.below(random.below(4) == 0 ? 5_000 : 60)
                let next = SpaceCommand(.put(key: [1], value: [UInt8](repeating: 0, count: size))).encoded()
                if !Space.fits(next.count, count: commands.count, bytes: bytes) { break }
                commands.append(next)
                bytes += next.count
            }
            var bench = Bench()
            let results = try Space.apply(pack: Space.pack(commands), index: LogIndex(1), access: &bench.state)
            #expect(results.count == commands.count)
        }
    }

    @Test func `results come back from their bytes`() throws {
        let outcomes: [SpaceResult.Outcome] = [
            .written(version: 3), .deleted, .notFound, .conflict(modified: nil), .conflict(modified: Revision(5)),
            .refused(.malformed), .refused(.unknownVersion(2)), .refused(.packTooLarge(300)), .refused(.keyEmpty),
            .refused(.keyTooLong(2_000)), .refused(.valueTooLong(9)), .refused(.sequenceInvalid),
            .refused(.sessionUnknown(bornAtLeast: LogIndex(8))), .refused(.sequenceTooOld(through: 5)),
            .refused(.ended), .refused(.lockInvalid),
            .refused(.tooManyLocks), .refused(.lockLost(held: nil)), .refused(.lockLost(held: Revision(9))),
            .held(token: Revision(9)), .taken(token: Revision(9)),
        ]
        for outcome in outcomes {
            let result = SpaceResult(revision: Revision(index: LogIndex(900), slot: 200), outcome: outcome)
            #expect(SpaceResult.decode(result.encoded()) == result)
        }
    }
}

extension SpaceResult.Outcome {
    var isConflict: Bool {
        if case .conflict = self { return true }
        return false
    }
}
