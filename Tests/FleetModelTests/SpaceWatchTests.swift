import ClusterBase
import FleetModel
import Testing

@Suite struct SpaceWatchTests {
    func events(_ answer: SpaceAnswer) -> [SpaceChange] {
        guard case .changes(let changes, _) = answer.body else { return [] }
        return changes
    }
    func through(_ answer: SpaceAnswer) -> Revision? {
        guard case .changes(_, let through) = answer.body else { return nil }
        return through
    }

    @Test func `a watcher sees every change once, in order, with its value`() throws {
        var bench = Bench()
        let first = try bench.apply(put("a", "1"))
        let pair = try bench.apply([SpaceCommand(put("a", "2")), SpaceCommand(put("b", "1"))])
        let gone = try bench.apply(delete("a"))
        let answer = try bench.changes(since: .zero)
        #expect(
            events(answer) == [
                .written(
                    SpaceRecord(
                        key: bytes("a"), value: bytes("1"), created: first.revision, modified: first.revision,
                        version: 1)),
                .written(
                    SpaceRecord(
                        key: bytes("a"), value: bytes("2"), created: first.revision, modified: pair[0].revision,
                        version: 2)),
                .written(
                    SpaceRecord(
                        key: bytes("b"), value: bytes("1"), created: pair[1].revision, modified: pair[1].revision,
                        version: 1)),
                .deleted(key: bytes("a"), gone.revision),
            ])
        #expect(through(answer) == answer.revision)
        #expect(
            events(try bench.changes(since: pair[0].revision)).map(\.revision) == [pair[1].revision, gone.revision])
        #expect(events(try bench.changes(since: .zero, "b")).count == 1)
        #expect(events(try bench.changes(since: answer.revision)).isEmpty)
    }

    @Test func `a watcher that goes on from each answer's end misses nothing and sees nothing twice`() throws {
        for seed in 0..<20 as Range<UInt64> {
            var random = PRNG(seed: seed)
            var bench = Bench()
            var expected: [Revision] = []
            var seen: [Revision] = []
            var since = Revision.zero
            for _ in 0..<120 {
                let results = try bench.apply(
                    (0..<1 + random.below(5)).map { _ in
                        SpaceCommand(
                            random.chance(1, in: 4) ? delete("x") : put(random.chance(1, in: 2) ? "x" : "y", "v"))
                    })
                // Keys "x" only.
                let all = events(try bench.changes(since: .end(of: bench.index.previous)))
                expected += all.filter { $0.key == bytes("x") }.map(\.revision)
                #expect(results.count >= all.count)
                while random.chance(1, in: 2) {
                    let answer = try bench.changes(since: since, "x", limit: 1 + random.below(4))
                    seen += events(answer).map(\.revision)
                    let end = try #require(through(answer))
                    #expect(end >= since)
                    since = end
                }
            }
            while since < .end(of: bench.index) {
                let answer = try bench.changes(since: since, "x", limit: 3)
                seen += events(answer).map(\.revision)
                since = try #require(through(answer))
            }
            #expect(seen == expected)
        }
    }

    @Test func `a conflict, a refusal and a retry are no changes`() throws {
        var bench = Bench()
        _ = try bench.apply(client: 1, 1, put("a", "1"))
        _ = try bench.apply(client: 1, 1, put("a", "1"))
        _ = try bench.apply(cas("a", .absent, "2"))
        _ = try bench.apply(delete("b"))
        _ = try bench.apply(.put(key: [], value: []))
        #expect(events(try bench.changes(since: .zero)).count == 1)
    }

    @Test
    func `a watcher that saw what this state never held is told to list again, and nothing is skipped in silence`()
        throws
    {
        var bench = Bench()
        for i in 1...5 { _ = try bench.apply(put("k", "\(i)")) }
        let last = try bench.changes(since: .zero).revision
        // Up to date is not ahead.
        #expect(through(try bench.changes(since: last)) == last)
        let ahead = try bench.changes(since: .end(of: last.index.next))
        guard case .compacted(let from) = ahead.body else {
            Issue.record("\(ahead.body)")
            return
        }
        #expect(from == last)
        _ = try bench.apply(put("k", "6"))
        #expect(events(try bench.changes(since: from)).count == 1)
    }

    @Test func `history is bounded by count, and a watcher from before it is told where to restart`() throws {
        var bench = Bench()
        let perPack = 200
        let packs = SpaceLimits.historyChangesMax / perPack + 10
        for _ in 0..<packs {
            _ = try bench.apply((0..<perPack).map { SpaceCommand(.put(key: [UInt8($0)], value: [1])) })
        }
        let restart = Revision.end(of: LogIndex(10))
        #expect(try bench.changes(since: .zero).body == .compacted(restart))
        #expect(try bench.changes(since: Revision(restart.rawValue - 1)).body == .compacted(restart))
        var since = restart
        var count = 0
        while since < .end(of: bench.index) {
            let answer = try bench.changes(since: since)
            count += events(answer).count
            since = try #require(through(answer))
        }
        #expect(count == SpaceLimits.historyChangesMax)
        #expect(bench.state.rows.count { $0.key[0] == 0x14 } == SpaceLimits.historyChangesMax / perPack)
    }

    @Test func `history is bounded by bytes, and the newest entry always stays`() throws {
        var bench = Bench()
        let size = SpaceLimits.valueBytesMax
        let value = [UInt8](repeating: 3, count: size)
        for _ in 0..<SpaceLimits.historyBytesMax / size + 8 { _ = try bench.apply(.put(key: [1], value: value)) }
        let kept = bench.state.rows.filter { $0.key[0] == 0x14 }.map(\.value.count)
        #expect(kept.reduce(0, +) <= SpaceLimits.historyBytesMax)
        #expect(kept.reduce(0, +) > SpaceLimits.historyBytesMax - 2 * size)
        #expect(events(try bench.changes(since: .end(of: bench.index.previous))).count == 1)
    }

    @Test func `two replicas that apply the same log hold the same state`() throws {
        var random = PRNG(seed: 4)
        var one = Bench()
        var two = Bench()
        for _ in 0..<300 {
            let commands = (0..<1 + random.below(5)).map { _ in
                SpaceCommand(
                    client: ClientID(UInt64(1 + random.below(5))), sequence: UInt64(1 + random.below(40)),
                    random.chance(1, in: 5)
                        ? delete("k\(random.below(9))") : cas("k\(random.below(9))", .absent, "\(random.below(99))"))
            }
            #expect(try one.apply(commands) == two.apply(commands))
        }
        #expect(one.state == two.state)
    }
}
