import ClusterBase
import FleetModel
import Testing

@Suite struct RootEventsTests {
    private func events(_ root: RootBench) throws -> [RootEvent] { try root.all(RootEvent.self) }

    @Test
    func `what people ask of the root is written down with who, what, when and the result, and what nodes do is not`()
        throws
    {
        var root = try RootBench()
        _ = try root.apply(.createTenant(name: "old", .unlimited, tier: ""))
        #expect(try events(root).isEmpty, "an older program would not know of it")
        root.level = FeatureLevel.rootAudit
        let node = try root.node("n2")
        let before = try events(root).count
        #expect(
            try root.apply(.createTenant(name: "shop", Quota(vmCount: 3), tier: "gold"), by: "operator ann from ::1")
                == .done)
        #expect(
            try root.apply(.createTenant(name: "shop", .unlimited, tier: ""), by: "token t")
                == .refused(.tenantExists("shop")))
        #expect(try root.apply(.changeSetting(.spaceReplicas, 3), by: "operator ann from ::1") == .done)
        _ = try root.apply(.arrangeNode(node, voting: .never, isDraining: false), by: "operator bob")
        _ = try root.apply(.noteTime, by: "n1")
        let found = try Array(events(root).dropFirst(before))
        #expect(found.map(\.kind) == ["tenant.created", "refused", "setting.changed", "node.arranged"])
        #expect(found.map(\.by) == ["operator ann from ::1", "token t", "operator ann from ::1", "operator bob"])
        #expect(found[0].tenant == "shop" && found[0].text.contains("VMs 3") && found[0].time > .zero)
        #expect(found[1].text.contains("there already") && found[3].node == "n2")
        #expect(zip(found, found.dropFirst()).allSatisfy { $0.revision < $1.revision })
        #expect(found.allSatisfy { $0.shown.isAudit && $0.shown.revision == $0.revision })
        #expect(
            try root.read(.rows(after: nil, limit: 0)).records(RootEvent.self)?.isEmpty ?? true, "followers keep none")
    }

    @Test func `a recovery by force is written down with its reason and with what it may have lost`() throws {
        var root = try RootBench()
        root.level = FeatureLevel.rootAudit
        let record = RecoveryRecord(
            group: .root, epoch: Epoch(1), possibleLossAfter: LogIndex(812), reason: "rack 7 burnt")
        #expect(try root.apply(.recordRecovery(record), by: "operator ann") == .done)
        let found = try #require(try events(root).last)
        #expect(found.kind == "group.recovered" && found.by == "operator ann")
        for part in ["the root group", "entry 812", "rack 7 burnt"] {
            #expect(found.text.contains(part), "\(found.text)")
        }
    }

    @Test func `who asked for what is not theirs is written down, and how often nobody was`() throws {
        var root = try RootBench()
        root.level = FeatureLevel.rootAudit
        #expect(
            try root.apply(.noteForbidden(action: "may not manage hosts", omitted: 0), by: "token t from ::1") == .done)
        #expect(
            try root.apply(.noteForbidden(action: "may not manage cells", omitted: 7), by: "token t from ::1") == .done)
        let found = try events(root).suffix(2)
        #expect(found.map(\.kind) == ["forbidden", "forbidden"] && found.allSatisfy { $0.by == "token t from ::1" })
        #expect(found.first?.text == "may not manage hosts")
        #expect(found.last?.text.contains("7 refusals before it") == true)
    }

    @Test func `a repeated command is written down once, and no hash of a secret ever`() throws {
        var root = try RootBench()
        root.level = FeatureLevel.rootAudit
        let token = [UInt8](repeating: 0xAB, count: 32)
        let command = RootCommand(
            request: [UInt8](0..<16), by: "ann",
            .createToken(hash: token, note: "rack 7", lifetime: 0, uses: 2))
        for _ in 0..<3 { _ = try root.apply([command]) }
        let found = try events(root).filter { $0.kind == "token.created" }
        #expect(found.count == 1 && found[0].text.contains("rack 7"))
        for event in try events(root) { #expect(!event.encoded().contains(token)) }
    }

    @Test func `the oldest go when there are too many`() throws {
        var root = try RootBench()
        root.level = FeatureLevel.rootAudit
        let most = Int(RootLimits.eventsMax)
        for i in 0..<(most / 200 + 2) {
            var commands: [RootCommand] = []
            for j in 0..<200 {
                let value: UInt64 = (i + j) % 2 == 0 ? 1 : 3
                commands.append(RootCommand(by: "ann", .changeSetting(.spaceReplicas, value)))
            }
            _ = try root.apply(commands)
        }
        var count = 0
        var after: [UInt8]?
        var first: RootEvent?
        while true {
            let answer = try root.read(.list(.events, after: after, limit: 0))
            let some = try #require(answer.records(RootEvent.self))
            first = first ?? some.first
            count += some.count
            guard case .rows(_, let next?) = answer.body else { break }
            after = next
        }
        #expect(count == most)
        #expect(try #require(first).revision > .end(of: LogIndex(1)))
    }

    @Test func `what is older than the setting says goes, also while nobody asks for anything`() throws {
        var root = try RootBench()
        root.level = FeatureLevel.rootAudit
        #expect(try root.apply(.changeSetting(.auditLifetime, 1_000)) == .refused(.settingOutOfRange(.auditLifetime)))
        #expect(try root.apply(.changeSetting(.auditLifetime, 3_600_000), by: "ann") == .done)
        _ = try root.apply(.createTenant(name: "shop", .unlimited, tier: ""), by: "ann")
        #expect(try events(root).count >= 2)
        root.time = root.time.advanced(by: 3_599_000)
        _ = try root.apply(.noteTime)
        #expect(try events(root).count >= 2)
        root.time = root.time.advanced(by: 2_000)
        _ = try root.apply(.noteTime)
        #expect(try events(root).isEmpty)
        _ = try root.apply(.createTenant(name: "bank", .unlimited, tier: ""), by: "ann")
        #expect(try events(root).map(\.kind) == ["tenant.created"])
    }

    @Test func `a join is written down with the token that let it in, by the name that lists have`() throws {
        var root = try RootBench()
        root.level = FeatureLevel.rootAudit
        let hash = [UInt8](repeating: 0xAB, count: 32)
        let make = RootCommand.Operation.createToken(hash: hash, note: "rack 7", lifetime: 0, uses: 1)
        #expect(try root.apply(make, by: "ann") == .done)
        #expect(RootEvent.tokenName(hash) == "abababababab")
        #expect(try events(root).last?.text.contains("abababababab") == true)
        #expect(try root.apply(.revokeToken(hash: hash), by: "ann") == .done)
        #expect(try events(root).last?.text == "revoke the join token abababababab")
    }

    @Test func `the sealing key is rotated in steps, one rotation at a time`() throws {
        var root = try RootBench()
        root.level = FeatureLevel.secrets
        let keys = (1...4).map { [UInt8](repeating: UInt8($0), count: 32) }
        func step(_ step: RootCommand.SealingStep, _ key: [UInt8] = []) throws -> RootResult.Outcome {
            try root.apply(.rotateSealingKey(step, key))
        }
        func state() throws -> (key: UInt8, next: UInt8, before: UInt8, rotates: Bool) {
            let cluster = try #require(try root.view().cluster)
            return (
                cluster.sealingKey.first ?? 0, cluster.sealingKeyNext.first ?? 0, cluster.sealingKeyBefore.first ?? 0,
                cluster.sealingRotates
            )
        }
        #expect(try step(.begin) == .refused(.sealingKeyRotates), "there is none yet")
        #expect(try root.apply(.nameSealingKey(keys[0])) == .done)
        #expect(try step(.offer, keys[1]) == .refused(.sealingStepOver), "nobody asked for it")
        #expect(try step(.begin) == .done)
        #expect(try step(.begin) == .refused(.sealingKeyRotates))
        #expect(try step(.use, keys[1]) == .refused(.sealingStepOver))
        #expect(try step(.offer, keys[0]) == .refused(.sealingStepOver))
        #expect(try step(.offer, keys[1]) == .done)
        // Its maker is gone: another one is made.
        #expect(try step(.offer, keys[2]) == .done)
        #expect(try step(.use, keys[1]) == .refused(.sealingStepOver))
        #expect(try state() == (1, 3, 0, true))
        #expect(try step(.use, keys[2]) == .done)
        #expect(try step(.use, keys[2]) == .done, "said twice")
        #expect(try state() == (3, 0, 1, false))
        #expect(try step(.begin) == .refused(.sealingKeyRotates), "boxes of the one before are left")
        #expect(try step(.drop, keys[2]) == .refused(.sealingStepOver))
        #expect(try step(.drop, keys[0]) == .done)
        #expect(try state() == (3, 0, 0, false))
        #expect(try root.apply(.nameSealingKey(keys[0])) == .refused(.sealingKeyNamed))
        #expect(try step(.begin) == .done)
    }
}
