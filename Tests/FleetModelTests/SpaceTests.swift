import ClusterBase
import FleetModel
import Testing

private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

@Suite struct SpaceTests {
    // MARK: Keys

    @Test func `a key keeps its creation and counts its writes until it is deleted`() throws {
        var space = TestSpace()
        #expect(try space.put("a", "1").outcome == .written(version: 1))
        #expect(try space.put("a", "2").outcome == .written(version: 2))
        let record = try #require(try space.record("a"))
        #expect(record.value == bytes("2"))
        #expect(record.created == Revision(index: LogIndex(1), slot: 0))
        #expect(record.modified == Revision(index: LogIndex(2), slot: 0))
        #expect(try space.run(.delete(key: bytes("a"), revision: nil)).outcome == .deleted)
        #expect(try space.record("a") == nil)
        #expect(try space.run(.delete(key: bytes("a"), revision: nil)).outcome == .notFound)
        #expect(try space.put("a", "3").outcome == .written(version: 1))
        #expect(try space.record("a")?.created == Revision(index: LogIndex(5), slot: 0))
    }

    @Test func `a delete with a revision wants that revision`() throws {
        var space = TestSpace()
        let first = try space.put("a", "1").revision
        let second = try space.put("a", "2").revision
        #expect(
            try space.run(.delete(key: bytes("a"), revision: first)).outcome == .conflict(modified: second))
        #expect(try space.run(.delete(key: bytes("a"), revision: second)).outcome == .deleted)
        #expect(try space.run(.delete(key: bytes("a"), revision: second)).outcome == .conflict(modified: nil))
    }

    @Test func `a compare-and-set sees what earlier commands of its own entry did`() throws {
        var space = TestSpace()
        func swap(_ expected: SpaceCommand.Expectation, _ value: String) -> SpaceCommand {
            SpaceCommand(.compareAndSet(key: bytes("a"), expected: expected, value: bytes(value)))
        }
        let results = try space.apply([
            swap(.absent, "1"), swap(.absent, "2"), swap(.value(bytes("1")), "3"), swap(.value(bytes("1")), "4"),
            swap(.revision(Revision(index: LogIndex(1), slot: 2)), "5"),
            swap(.revision(Revision(index: LogIndex(1), slot: 2)), "6"),
        ])
        let at = (0..<6).map { Revision(index: LogIndex(1), slot: $0) }
        #expect(results.map(\.revision) == at)
        #expect(
            results.map(\.outcome) == [
                .written(version: 1), .conflict(modified: at[0]), .written(version: 2), .conflict(modified: at[2]),
                .written(version: 3), .conflict(modified: at[4]),
            ])
        #expect(try space.record("a")?.value == bytes("5"))
    }

    @Test(arguments: 0..<8)
    func `random commands leave what a dictionary would hold`(seed: Int) throws {
        var random = PRNG(seed: UInt64(seed))
        var space = TestSpace()
        var expected: [[UInt8]: [UInt8]] = [:]
        for _ in 0..<60 {
            var commands: [SpaceCommand] = []
            for _ in 0...random.below(6) {
                let key = bytes("k\(random.below(8))")
                let value = bytes("v\(random.below(4))")
                switch random.below(4) {
                case 0, 1:
                    commands.append(SpaceCommand(.put(key: key, value: value)))
                    expected[key] = value
                case 2:
                    commands.append(SpaceCommand(.delete(key: key, revision: nil)))
                    expected[key] = nil
                default:
                    let wanted = bytes("v\(random.below(4))")
                    commands.append(SpaceCommand(.compareAndSet(key: key, expected: .value(wanted), value: value)))
                    if expected[key] == wanted { expected[key] = value }
                }
            }
            try space.apply(commands)
        }
        guard
            case .page(let records, let more) = try Space.read(.list(prefix: [], after: nil, limit: 0), space.state)
                .body
        else {
            Issue.record("a list is no page")
            return
        }
        #expect(more == nil)
        let wanted = expected.sorted { $0.key.precedes($1.key) }
        #expect(records.map(\.key) == wanted.map(\.key))
        #expect(records.map(\.value) == wanted.map(\.value))
    }

    @Test func `a list goes on after the page before it, within its prefix`() throws {
        var space = TestSpace()
        for name in ["a1", "b1", "b2", "b3", "c1"] { try space.put(name, name) }
        var seen: [[UInt8]] = []
        var after: [UInt8]?
        var pages = 0
        repeat {
            let answer = try Space.read(.list(prefix: bytes("b"), after: after, limit: 2), space.state)
            guard case .page(let records, let resume) = answer.body else { break }
            seen += records.map(\.key)
            after = resume
            pages += 1
        } while after != nil && pages < 9
        #expect(seen == ["b1", "b2", "b3"].map(bytes))
        #expect(pages == 2)
    }

    // MARK: Bounds and hostile bytes

    @Test func `what no state could hold is refused and changes nothing`() throws {
        var space = TestSpace()
        let long = [UInt8](repeating: 65, count: SpaceLimits.keyBytesMax + 1)
        let large = [UInt8](repeating: 65, count: SpaceLimits.valueBytesMax + 1)
        #expect(try space.run(.put(key: [], value: [1])).outcome == .refused(.keyEmpty))
        #expect(try space.run(.put(key: long, value: [1])).outcome == .refused(.keyTooLong(1_025)))
        #expect(try space.run(.put(key: [1], value: large)).outcome == .refused(.valueTooLong(UInt64(large.count))))
        let early = SpaceCommand(client: ClientID(1), sequence: 2, acknowledged: 2, .put(key: [1], value: []))
        #expect(try space.apply([early])[0].outcome == .refused(.sequenceInvalid))
        guard case .page(let records, _) = try Space.read(.list(prefix: [], after: nil, limit: 0), space.state).body
        else { return }
        #expect(records.isEmpty)
    }

    @Test func `a pack of another version, cut short or with unknown fields is one refusal and no change`() throws {
        var space = TestSpace()
        let good = Space.pack([SpaceCommand(.put(key: [1], value: [2]))])
        var newer = good
        newer[1] = 2
        #expect(try space.apply(pack: newer).map(\.outcome) == [.refused(.unknownVersion(2))])
        #expect(try space.apply(pack: Array(good.dropLast())).map(\.outcome) == [.refused(.malformed)])
        #expect(try space.apply(pack: good + [7 << 3, 1]).map(\.outcome) == [.refused(.malformed)])
        #expect(try space.apply(pack: []).map(\.outcome) == [.refused(.unknownVersion(0))])
        let crowd = [[UInt8]](
            repeating: SpaceCommand(.delete(key: [1], revision: nil)).encoded(), count: SpaceLimits.packCommandsMax + 1)
        #expect(try space.apply(pack: Space.pack(crowd)).map(\.outcome) == [.refused(.packTooLarge(257))])
        #expect(try Space.read(.get(key: [1]), space.state).body == .record(nil))
    }

    @Test(arguments: 0..<8)
    func `a command comes back from its bytes, and changed bytes never trap`(seed: Int) throws {
        var random = PRNG(seed: UInt64(seed))
        for _ in 0..<200 {
            let key = (0..<random.below(5)).map { _ in UInt8(random.below(256)) }
            let value = (0..<random.below(9)).map { _ in UInt8(random.below(256)) }
            let operation: SpaceCommand.Operation =
                switch random.below(5) {
                case 0: .put(key: key, value: value)
                case 1: .compareAndSet(key: key, expected: .absent, value: value)
                case 2: .compareAndSet(key: key, expected: .value(key), value: value)
                case 3: .compareAndSet(key: key, expected: .revision(Revision(rawValue: random.next())), value: value)
                default:
                    .delete(
                        key: key, revision: random.chance(1, in: 2) ? nil : Revision(rawValue: 1 + random.next() / 2))
                }
            let command = SpaceCommand(
                client: ClientID(random.next()), sequence: random.next(), acknowledged: random.next() >> 8,
                born: LogIndex(random.next() >> 9), operation)
            var encoded = command.encoded()
            #expect(SpaceCommand.decode(encoded) == .success(command))
            encoded[random.below(encoded.count)] ^= 1 << UInt8(random.below(8))
            var space = TestSpace()
            #expect(try space.apply(pack: Space.pack([encoded])).count == 1)
        }
    }

    // MARK: Sessions

    @Test func `a retry has the first result and no second effect`() throws {
        var space = TestSpace()
        let command = SpaceCommand(client: ClientID(7), sequence: 1, .put(key: bytes("a"), value: bytes("1")))
        let first = try space.apply([command])
        try space.put("a", "2")
        #expect(try space.apply([command, command]) == first + first)
        #expect(try space.record("a")?.value == bytes("2"))
    }

    @Test func `results are kept for the window and refused below what was acknowledged`() throws {
        var space = TestSpace()
        func command(_ sequence: UInt64, acknowledged: UInt64 = 0) -> SpaceCommand {
            SpaceCommand(
                client: ClientID(7), sequence: sequence, acknowledged: acknowledged, .put(key: bytes("a"), value: []))
        }
        let window = UInt64(SpaceLimits.sessionWindow)
        for sequence in 1...window + 1 { try space.apply([command(sequence)]) }
        #expect(try space.apply([command(1)])[0].outcome == .refused(.sequenceTooOld(through: 1)))
        #expect(try space.apply([command(2)])[0].outcome == .written(version: 2))
        try space.apply([command(window + 2, acknowledged: 20)])
        #expect(try space.apply([command(20)])[0].outcome == .refused(.sequenceTooOld(through: 20)))
        #expect(try space.apply([command(21)])[0].outcome == .written(version: 21))
        // Nothing of this ran twice: the window's commands and one more.
        #expect(try space.record("a")?.version == window + 2)
    }

    @Test func `an unknown client may only begin, and one that began before an expiry may not begin again`() throws {
        var space = TestSpace()
        func command(_ client: UInt64, _ sequence: UInt64, born: LogIndex = .zero) -> SpaceCommand {
            SpaceCommand(client: ClientID(client), sequence: sequence, born: born, .put(key: bytes("a"), value: []))
        }
        #expect(try space.apply([command(9, 2)])[0].outcome == .refused(.sessionUnknown(bornAtLeast: .zero)))
        // One session more than there is room for: the oldest expires.
        for first in stride(from: 0, through: SpaceLimits.sessionsMax, by: 128) {
            let clients = first..<min(first + 128, SpaceLimits.sessionsMax + 1)
            try space.apply(clients.map { command(UInt64($0 + 1), 1) })
        }
        let again = try space.apply([command(1, 1)])[0].outcome
        #expect(again == .refused(.sessionUnknown(bornAtLeast: LogIndex(2))))
        #expect(try space.apply([command(1, 1, born: space.index)])[0].outcome != again)
        #expect(try space.apply([command(UInt64(SpaceLimits.sessionsMax), 1)])[0].revision.index < space.index)
    }

    // MARK: Watching

    @Test func `a watcher that asks page by page sees every change once and in order`() throws {
        var space = TestSpace()
        for round in 0..<7 {
            try space.apply((0..<5).map { SpaceCommand(.put(key: bytes("k\($0)"), value: bytes("\(round)"))) })
        }
        try space.run(.delete(key: bytes("k3"), revision: nil))
        var seen: [SpaceChange] = []
        var since = Revision.zero
        for _ in 0..<20 {
            let answer = try Space.read(.changes(since: since, prefix: bytes("k"), limit: 3), space.state)
            guard case .changes(let changes, let through) = answer.body else {
                Issue.record("\(answer.body)")
                return
            }
            seen += changes
            since = through
            if through == answer.revision { break }
        }
        #expect(seen.count == 36)
        #expect(zip(seen, seen.dropFirst()).allSatisfy { $0.revision < $1.revision })
        #expect(seen.last == .deleted(key: bytes("k3"), Revision(index: LogIndex(8), slot: 0)))
    }

    @Test func `a watcher that was away too long is told so, and no change is left out silently`() throws {
        var space = TestSpace()
        let pack = Space.pack((0..<250).map { SpaceCommand(.put(key: bytes("k\($0)"), value: [])) })
        for _ in 0..<42 { try space.apply(pack: pack) }
        // 10,500 changes were made and 10,000 are kept.
        #expect(
            try Space.read(.changes(since: .zero, prefix: [], limit: 1), space.state).body
                == .compacted(.end(of: LogIndex(2))))
        let rest = try Space.read(.changes(since: .end(of: LogIndex(2)), prefix: [], limit: 1), space.state)
        guard case .changes(let changes, _) = rest.body else {
            Issue.record("\(rest.body)")
            return
        }
        #expect(changes.first?.revision == Revision(index: LogIndex(3), slot: 0))
    }

    // MARK: Damage

    @Test func `a record that is shorter than its head is damage, not a missing key`() throws {
        var space = TestSpace()
        try space.put("a", "1")
        let at = try #require(space.state.rows.firstIndex { $0.key.dropFirst().elementsEqual(bytes("a")) })
        space.state.rows[at].value.removeLast(10)
        #expect(throws: StoreError.self) { try Space.read(.get(key: bytes("a")), space.state) }
        #expect(throws: StoreError.self) { try space.put("a", "2") }
    }
}
