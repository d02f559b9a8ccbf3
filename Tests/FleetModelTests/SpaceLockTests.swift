import ClusterBase
import FleetModel
import Testing

@Suite struct SpaceLockTests {
    private struct Locks {
        var bench = Bench()

        mutating func results(_ commands: [SpaceCommand]) throws -> [SpaceResult.Outcome] {
            bench.index = bench.index.next
            let pack = Space.pack(commands, level: FeatureLevel.locks)
            return try Space.apply(pack: pack, index: bench.index, access: &bench.state).map(\.outcome)
        }
        mutating func result(
            _ operation: SpaceCommand.Operation, under fence: SpaceFence? = nil
        ) throws -> SpaceResult.Outcome? {
            try results([SpaceCommand(fence: fence, operation)]).first
        }
        mutating func take(_ lock: String, _ owner: String) throws -> SpaceResult.Outcome? {
            try result(.acquire(lock: lock, owner: owner, lease: .seconds(5)))
        }
        func found(_ query: SpaceQuery) throws -> [SpaceLock] {
            guard case .locks(let locks, _) = try Space.read(query, bench.state).body else {
                Issue.record("no locks")
                return []
            }
            return locks
        }
        var now: Revision { Revision(index: bench.index, slot: 0) }
    }

    @Test func `one owner holds a lock, renews it under the same token, and the next one's is higher`() throws {
        var locks = Locks()
        #expect(try locks.take("job", "me") == .held(token: locks.now))
        let token = locks.now
        #expect(try locks.take("job", "you") == .taken(token: token))
        #expect(try locks.take("job", "me") == .held(token: token))
        let held = try #require(try locks.found(.lock(name: "job")).first)
        #expect(held == SpaceLock(name: "job", owner: "me", token: token, renewed: locks.now, lease: .seconds(5)))
        #expect(try locks.result(.release(lock: "job", owner: "you")) == .taken(token: token))
        // One that was sent for another holding comes late.
        let late = SpaceCommand.Operation.release(lock: "job", owner: "me", token: Revision(1))
        #expect(try locks.result(late) == .taken(token: token))
        #expect(try locks.result(.release(lock: "job", owner: "me", token: token)) == .deleted)
        #expect(try locks.result(.release(lock: "job", owner: "me")) == .notFound)
        #expect(try locks.take("job", "you") == .held(token: locks.now))
        #expect(locks.now > token)
        // Two in one entry: the slot decides.
        let both = try locks.results(
            ["a", "b"].map { SpaceCommand(.acquire(lock: "two", owner: $0, lease: .seconds(5))) })
        #expect(both == [.held(token: locks.now), .taken(token: locks.now)])
    }

    @Test func `a lock ends only for the renewal that was seen`() throws {
        var locks = Locks()
        _ = try locks.take("job", "me")
        let first = locks.now
        _ = try locks.take("job", "me")
        let second = locks.now
        #expect(try locks.result(.expire(lock: "job", renewed: first)) == .notFound)
        #expect(try locks.found(.lock(name: "job")).first?.token == first)
        #expect(try locks.result(.expire(lock: "job", renewed: second)) == .deleted)
        #expect(try locks.found(.lock(name: "job")).isEmpty)
        #expect(try locks.result(.expire(lock: "job", renewed: second)) == .notFound)
        #expect(try locks.found(.renewals(after: .zero, limit: 0)).isEmpty)
    }

    @Test func `who has lost a lock writes nothing under it, and a retry gets the first answer`() throws {
        var locks = Locks()
        _ = try locks.take("job", "me")
        let mine = SpaceFence("job", locks.now)
        #expect(try locks.result(put("k", "1"), under: mine) == .written(version: 1))
        var retried = SpaceCommand(client: ClientID(7), sequence: 1, fence: mine, put("k", "2"))
        #expect(try locks.results([retried]) == [.written(version: 2)])
        let seen = try #require(try locks.found(.lock(name: "job")).first)
        _ = try locks.result(.expire(lock: "job", renewed: seen.renewed))
        #expect(try locks.result(put("k", "3"), under: mine) == .refused(.lockLost(held: nil)))
        _ = try locks.take("job", "you")
        let yours = SpaceFence("job", locks.now)
        for operation in [put("k", "3"), cas("k", .absent, "3"), delete("k")] {
            #expect(try locks.result(operation, under: mine) == .refused(.lockLost(held: yours.token)))
        }
        // It took effect while the lock was held: that is what a repetition is told.
        #expect(try locks.results([retried]) == [.written(version: 2)])
        retried.sequence = 2
        #expect(try locks.results([retried]) == [.refused(.lockLost(held: yours.token))])
        #expect(try locks.result(delete("k"), under: yours) == .deleted)
    }

    @Test func `names, owners and leases have bounds, and so have the locks of a space`() throws {
        var locks = Locks()
        let bad: [SpaceCommand.Operation] = [
            .acquire(lock: "", owner: "me", lease: .seconds(5)), .acquire(lock: "a/b", owner: "me", lease: .seconds(5)),
            .acquire(lock: "a b", owner: "me", lease: .seconds(5)), .acquire(lock: "a", owner: "", lease: .seconds(5)),
            .acquire(lock: "a", owner: "é", lease: .seconds(5)),
            .acquire(lock: "a", owner: "me", lease: .milliseconds(999)),
            .acquire(lock: "a", owner: "me", lease: .seconds(3_601)), .release(lock: "a", owner: "\n"),
            .acquire(lock: String(repeating: "a", count: 257), owner: "me", lease: .seconds(5)),
            .acquire(lock: "a", owner: String(repeating: "a", count: 257), lease: .seconds(5)),
        ]
        for operation in bad { #expect(try locks.result(operation) == .refused(.lockInvalid), "\(operation)") }
        for from in stride(from: 0, to: SpaceLimits.locksMax, by: 250) {
            let commands = (from..<from + 250).map {
                SpaceCommand(.acquire(lock: "l\($0)", owner: "me", lease: .seconds(5)))
            }
            #expect(try locks.results(commands).allSatisfy { if case .held = $0 { true } else { false } })
        }
        #expect(try locks.take("more", "me") == .refused(.tooManyLocks))
        if case .held? = try locks.take("l7", "me") {} else { Issue.record("a full space takes no renewals") }
        #expect(try locks.result(.release(lock: "l7", owner: "me")) == .deleted)
        if case .held? = try locks.take("more", "me") {} else { Issue.record("there was room") }
        guard
            case .locks(let page, "l10001"?) = try Space.read(
                .locks(prefix: "l1000", after: "l1000", limit: 2), locks.bench.state
            ).body
        else {
            // Names from l1000 on by their bytes: l1000, then no l10000 of ten thousand.
            let rest = try locks.found(.locks(prefix: "l999", after: "l9990", limit: 3))
            #expect(rest.map(\.name) == ["l9991", "l9992", "l9993"])
            return
        }
        Issue.record("\(page)")
    }

    /// Against a model of a dictionary: owners, tokens, renewals in their order, and the count.
    @Test func `whatever comes in whatever order, the locks are those that a simple model has`() throws {
        for seed in 0..<40 as Range<UInt64> {
            var random = PRNG(seed: seed)
            var locks = Locks()
            var model: [String: (owner: String, token: Revision, renewed: Revision)] = [:]
            var highest: [String: Revision] = [:]
            for _ in 0..<300 {
                let (name, owner) = ("l\(random.below(4))", "o\(random.below(3))")
                switch random.below(4) {
                case 0, 1:
                    let outcome = try locks.take(name, owner)
                    if let held = model[name], held.owner != owner {
                        #expect(outcome == .taken(token: held.token))
                    } else {
                        let token = model[name]?.token ?? locks.now
                        if model[name] == nil { #expect(token > highest[name] ?? .zero) }
                        highest[name] = token
                        model[name] = (owner, token, locks.now)
                        #expect(outcome == .held(token: token))
                    }
                case 2:
                    let outcome = try locks.result(.release(lock: name, owner: owner))
                    if let held = model[name] {
                        #expect(outcome == (held.owner == owner ? .deleted : .taken(token: held.token)))
                        if held.owner == owner { model[name] = nil }
                    } else {
                        #expect(outcome == .notFound)
                    }
                default:
                    let renewed =
                        random.chance(1, in: 2) ? model[name]?.renewed ?? .zero : Revision(random.next() >> 50)
                    let outcome = try locks.result(.expire(lock: name, renewed: renewed))
                    let isIt = model[name]?.renewed == renewed
                    #expect(outcome == (isIt ? .deleted : .notFound))
                    if isIt { model[name] = nil }
                }
            }
            let expected = model.sorted { $0.key < $1.key }
            let found = try locks.found(.locks(prefix: "", after: nil, limit: 0))
            #expect(found.map(\.name) == expected.map(\.key) && found.map(\.token) == expected.map(\.value.token))
            let renewals = try locks.found(.renewals(after: .zero, limit: 0))
            #expect(renewals.map(\.renewed) == expected.map(\.value.renewed).sorted())
        }
    }
}
