import ClusterBase
import FleetModel
import Testing

@Suite struct RootLogTests {
    @Test func `a command with a request id takes effect once, and another command under that id not at all`() throws {
        var root = try RootBench()
        let command = RootCommand(request: RootBench.request(1), by: "test", .createSpace(name: "a", replicas: 1))
        let first = try root.apply([command])[0]
        #expect(try root.apply([command, command]) == [first, first])
        // From level 3 on it is the same from whatever address it comes.
        root.level = FeatureLevel.placelessRequests
        for (by, isSame) in [("test from 10.0.0.1", true), ("test from ::1", true), ("other from 10.0.0.1", false)] {
            let again = RootCommand(request: RootBench.request(1), by: by, .createSpace(name: "a", replicas: 1))
            #expect(try (root.apply([again])[0] == first) == isSame, "\(by)")
        }
        let other = RootCommand(request: RootBench.request(1), by: "test", .createSpace(name: "b", replicas: 1))
        #expect(try root.apply([other])[0].outcome == .refused(.requestReused))
        #expect(try root.all(RootSpace.self).count == 1)
    }

    @Test func `a result is kept for a day of log time and then dropped`() throws {
        var root = try RootBench()
        let command = RootCommand(request: RootBench.request(1), .createSpace(name: "a", replicas: 1))
        let first = try root.apply([command])[0]
        root.time = root.time.advanced(by: RootLimits.requestLifetime)
        #expect(try root.apply([command])[0] == first)
        root.time = root.time.advanced(by: 1)
        #expect(try root.apply([command])[0].outcome == .refused(.spaceExists("a")))
    }

    @Test func `what is not exactly a command is refused and the next one in the pack is done`() throws {
        var root = try RootBench()
        let good = RootCommand(.createSpace(name: "a", replicas: 1)).encoded()
        let unknownField = good + [0x80 | 0x08, 0x7D, 1]
        root.index = root.index.next
        let pack = Root.pack([[1, 2, 3], [], unknownField, good], time: nil)
        let results = try Root.apply(pack: pack, index: root.index, access: &root.state)
        #expect(results.prefix(3).allSatisfy { $0.outcome == .refused(.malformed) })
        #expect(results[3].outcome == .group(GroupID(1)))
        root.index = root.index.next
        let before = root.state.rows.filter { $0.key != [0x20] }
        let bad = try Root.apply(pack: [1, 2, 3], index: root.index, access: &root.state)
        #expect(bad.map(\.outcome) == [.refused(.malformed)])
        #expect(root.state.rows.filter { $0.key != [0x20] } == before)
    }

    @Test func `a refused command changes nothing but the bookkeeping of the entry`() throws {
        var root = try RootBench()
        _ = try root.node("n2")
        let before = root.state.rows.filter { $0.key != [0x20] }
        let refused: [RootCommand.Operation] = [
            .revokeToken(hash: RootBench.hash(3)), .removeNode(NodeID(9), isForced: true), .deleteSpace(name: "x"),
            .certifyNode(
                NodeID(2),
                NodeCertificate(fingerprint: RootBench.hash(4), issuer: RootBench.hash(5), expiresAt: LogTime(1))),
            .changeSetting(.tokenUses, 0), .removeOperator(name: "admin"), .finalizeLevel(9), .removeBackup(name: "x"),
            .reportGroup(GroupID(5), .zero, gone: []), .foundGroup(.root, nodes: [NodeID(1)]),
        ]
        for operation in refused {
            guard case .refused(let refusal) = try root.apply(operation) else {
                Issue.record("\(operation) was not refused")
                continue
            }
            #expect(refusal.description.count > 10)
        }
        #expect(root.state.rows.filter { $0.key != [0x20] } == before)
    }

    @Test func `a state that can't be read stops the entry`() throws {
        var root = try RootBench()
        root.state.failsReads = true
        #expect(throws: StoreError.self) { try root.apply(.noteTime) }
    }

    @Test func `a follower's view is the state, whether it loads, follows or loads again`() throws {
        var root = try RootBench()
        var early = RootView()
        _ = try root.follow(&early)
        for i in 0..<1_500 {
            _ = try root.apply(.createSpace(name: "s\(i)", replicas: 1))
            if i == 700 { _ = try root.follow(&early) }
        }
        _ = try root.apply(.deleteSpace(name: "s3"))
        _ = try root.apply(.changeSetting(.rootVoters, 5))
        #expect(try root.follow(&early) < 10, "changes come many at a time")
        let late = try root.view()
        #expect(early.spaces == late.spaces && early.spaces.count == 1_499)
        #expect(early.placements == late.placements && early.nodes == late.nodes && early.cluster == late.cluster)
        #expect(early.settings == late.settings && early.settings[.rootVoters] == 5)
        #expect(early.operators == late.operators && early.authorities == late.authorities)
        #expect(late.space("s4")?.group == GroupID(5))
    }

    @Test func `rows that change while their pages are loaded are right in the end`() throws {
        var root = try RootBench()
        for i in 0..<1_200 { _ = try root.apply(.createSpace(name: "s\(i)", replicas: 1)) }
        var view = RootView()
        _ = view.take(try root.read(view.nextQuery))
        #expect(view.through == nil)
        _ = try root.apply(.deleteSpace(name: "s0"))
        _ = try root.apply(.createSpace(name: "a-first", replicas: 3))
        _ = try root.apply(.deleteSpace(name: "s999"))
        _ = try root.follow(&view)
        #expect(view.spaces == (try root.all(RootSpace.self).isEmpty ? [] : try root.view().spaces))
        #expect(view.space("s0") == nil && view.space("s999") == nil && view.space("a-first") != nil)
    }

    @Test func `history is bounded, and who fell behind it loads everything again`() throws {
        var root = try RootBench()
        var view = RootView()
        _ = try root.follow(&view)
        for _ in 0..<(RootLimits.historyChangesMax / 256 + 3) {
            let names = (0..<128).map {
                RootCommand(
                    .setBackup(
                        BackupSchedule(name: "b", interval: 60_000 + UInt64($0), keep: 1, destination: "d", keyName: "")
                    ))
            }
            _ = try root.apply(names + names)
        }
        guard case .compacted(let through) = try root.read(.changes(since: LogIndex(1), limit: 0)).body else {
            Issue.record("nothing was dropped")
            return
        }
        #expect(through > LogIndex(1))
        #expect(try root.read(.changes(since: through, limit: 0)).body != .compacted(through))
        _ = try root.follow(&view)
        #expect(view.backups == (try root.all(BackupSchedule.self)))
    }

    @Test func `secrets' hashes of join tokens are not followed`() throws {
        var root = try RootBench()
        try root.addToken(9)
        for query in [RootQuery.rows(after: nil, limit: 0), .changes(since: .zero, limit: 0)] {
            switch try root.read(query).body {
            case .rows(let rows, _), .changes(let rows, _): #expect(!rows.contains { $0.table == .tokens })
            default: Issue.record("no rows")
            }
        }
        #expect(try root.all(JoinToken.self).count == 1)
    }

    @Test func `lists come in pages that miss and repeat nothing`() throws {
        var root = try RootBench()
        for i in 0..<25 { _ = try root.apply(.createSpace(name: "s\(i)", replicas: 1)) }
        var names: [String] = []
        var after: [UInt8]?
        repeat {
            let answer = try root.read(.list(.spaces, after: after, limit: 7))
            names += try #require(answer.records(RootSpace.self)).map(\.name)
            guard case .rows(_, let next) = answer.body else { return }
            after = next
        } while after != nil
        #expect(names == (0..<25).map { "s\($0)" }.sorted())
    }

    // MARK: Random commands

    /// What must hold whatever is asked.
    private struct Invariants {
        var nodeIDs: [NodeID] = []
        var groups: [GroupID] = []
        var groupHighest = GroupID(0)
        var replicas: [HeldReplica] = []

        mutating func check(_ root: RootBench) throws {
            let nodes = try root.all(RootNode.self)
            let names = nodes.filter { $0.state != .removed }.map(\.name).sorted()
            #expect(zip(names, names.dropFirst()).allSatisfy { $0 != $1 }, "two nodes of one name")
            for node in nodes where !nodeIDs.contains(node.id) {
                #expect(nodeIDs.allSatisfy { $0 < node.id }, "an id is used again")
                nodeIDs.append(node.id)
            }
            for token in try root.all(JoinToken.self) { #expect(token.usesLeft <= token.usesAllowed) }
            #expect(try root.all(Authority.self).filter(\.signs).count == 1)
            #expect(try root.all(Operator.self).contains { $0.role == .administrator && $0.expiresAt == nil })
            for space in try root.all(RootSpace.self) where !groups.contains(space.group) {
                #expect(groupHighest < space.group, "a group is used again")
                groups.append(space.group)
            }
            groupHighest = groups.max() ?? groupHighest
            for placement in try root.all(GroupPlacement.self) {
                for placed in placement.replicas {
                    #expect(placed.replica <= placement.replicaHighest)
                    let held = HeldReplica(placement.group, placed.replica)
                    guard !replicas.contains(held) else { continue }
                    #expect(
                        replicas.allSatisfy { $0.group != held.group || $0.replica < held.replica },
                        "a replica id is used again")
                    replicas.append(held)
                }
                let nodes = placement.replicas.map(\.node).sorted()
                #expect(zip(nodes, nodes.dropFirst()).allSatisfy { $0 != $1 }, "two replicas on a node")
            }
        }
    }

    @Test(arguments: 1...4) func `no order of commands breaks what must hold, and all replicas agree`(seed: UInt64)
        throws
    {
        var random = PRNG(seed: seed)
        var root = try RootBench()
        var copy = try RootBench()
        var invariants = Invariants()
        var done = 0
        for step in 0..<400 {
            var commands: [RootCommand] = []
            for _ in 0...random.below(3) {
                let operation = try RootLogTests.operation(&random, root)
                let request = random.chance(1, in: 3) ? RootBench.request(UInt8(random.below(40))) : nil
                commands.append(RootCommand(request: request, by: "fuzz", operation))
            }
            for command in commands { #expect(RootCommand.decode(command.encoded()) == .success(command)) }
            root.time = LogTime(root.time.rawValue + UInt64(random.below(600_000)) - 1_000)
            copy.time = root.time
            let results = try root.apply(commands)
            #expect(try copy.apply(commands) == results)
            for result in results {
                #expect(RootResult.decode(result.encoded()) == result)
                if case .refused = result.outcome { continue }
                done += 1
            }
            if step % 10 == 0 { try invariants.check(root) }
        }
        try invariants.check(root)
        #expect(root.state == copy.state)
        #expect(done > 100, "only \(done) commands did anything")
    }

    private static func operation(_ random: inout PRNG, _ root: RootBench) throws -> RootCommand.Operation {
        func byte(_ below: Int) -> UInt8 { UInt8(random.below(below)) }
        func name() -> String { "n\(random.below(8))" }
        func node() -> NodeID { NodeID(UInt64(random.below(12))) }
        func about() -> NodeDescription {
            RootBench.about(name(), key: byte(20), level: 1 + UInt32(random.below(2)), zone: "z\(random.below(3))")
        }
        let groups = try root.all(GroupPlacement.self)
        let placement = groups[random.below(groups.count)]
        func replica() -> ReplicaID {
            placement.replicas.isEmpty
                ? ReplicaID(1) : placement.replicas[random.below(placement.replicas.count)].replica
        }
        let part: PlacedReplica.Part = random.chance(1, in: 2) ? .voter : .standby
        switch random.below(20) {
        case 0: return .createToken(hash: RootBench.hash(byte(4)), note: "", lifetime: 0, uses: UInt32(random.below(4)))
        case 1: return .revokeToken(hash: RootBench.hash(byte(8)))
        case 2, 3, 4: return .joinNode(token: RootBench.hash(byte(4)), about())
        case 5:
            let known = try root.all(RootNode.self)
            let one = known[random.below(known.count)]
            return .reportNode(one.id, one.about)
        case 6: return .arrangeNode(node(), voting: .automatic, isDraining: random.chance(1, in: 3))
        case 7: return .removeNode(node(), isForced: random.chance(1, in: 2))
        case 8: return .createSpace(name: "s\(random.below(6))", replicas: [0, 1, 3, 5][random.below(4)])
        case 9: return .deleteSpace(name: "s\(random.below(6))")
        case 10: return .foundGroup(placement.group, nodes: (0...random.below(2)).map { _ in node() })
        case 11, 12:
            let change: [PlacementChange] = [.add(node(), part), .setPart(replica(), part), .leave(replica())]
            return .changePlacement(placement.group, revision: placement.revision, [change[random.below(3)]])
        case 13:
            let held = [HeldReplica(placement.group, replica())]
            return .reportReplicas(
                placement.replicas.first?.node ?? node(), made: random.chance(2, in: 3) ? held : [],
                lost: random.chance(1, in: 3) ? held : [])
        case 14:
            let gone = placement.replicas.filter(\.isLeaving).map(\.replica)
            return .reportGroup(placement.group, placement.epoch, gone: gone)
        case 15: return .trustAuthority(fingerprint: RootBench.hash(byte(6)), certificate: [1])
        case 16: return .signWithAuthority(fingerprint: RootBench.hash(byte(6)))
        case 17: return .distrustAuthority(fingerprint: RootBench.hash(byte(6)))
        case 18:
            return .addOperator(
                Operator(
                    name: name(), role: random.chance(1, in: 2) ? .administrator : .reader, kind: .bearer,
                    credential: RootBench.hash(byte(10))))
        default: return .removeOperator(name: random.chance(1, in: 4) ? "admin" : name())
        }
    }
}
