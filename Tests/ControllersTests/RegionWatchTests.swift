import ClusterBase
import Controllers
import FleetModel
import Testing

/// Who decides that a region is lost, and who holds a name for a VM that comes.
@Suite struct RegionWatchTests {
    private static let now = Instant(nanoseconds: 1_000_000_000_000)

    /// Nine nodes in three regions, and what their cluster was told.
    private struct Bench {
        var state = Rows()
        var index = LogIndex.zero
        var silent: Set<UInt64> = []

        init() throws {
            let about = Bench.about(1)
            let founding = RootCommand.Founding(
                cluster: [UInt8](repeating: 7, count: 16), name: "test", node: about,
                certificate: NodeCertificate(
                    fingerprint: World.hash(101), issuer: World.hash(1), expiresAt: LogTime(9)),
                authority: Authority(fingerprint: World.hash(1), certificate: [1], signs: true, since: .zero),
                administrator: Operator(
                    name: "admin", role: .administrator, kind: .certificate, credential: World.hash(50)))
            try ask(.found(founding), 1)
            try ask(.reportNode(NodeID(1), about), 1)
            try ask(.createToken(hash: World.hash(9), note: "", lifetime: 0, uses: 1_000), 1)
            for number in 2...9 as ClosedRange<UInt64> {
                try ask(.joinNode(token: World.hash(9), Bench.about(number)), 1)
                try ask(.reportNode(NodeID(number), Bench.about(number)), 1)
            }
        }

        static func about(_ number: UInt64) -> NodeDescription {
            NodeDescription(
                name: "n\(number)", locality: Locality(region: ["north", "east", "west"][Int(number - 1) / 3]),
                peerAddress: "n\(number):1", adminAddress: "n\(number):2", key: World.hash(UInt8(number)),
                programVersion: "1", level: 3)
        }

        mutating func ask(_ operation: RootCommand.Operation, _ level: UInt32 = 3) throws {
            index = index.next
            let pack = Root.pack([RootCommand(operation).encoded()], level: level, time: LogTime(1_000_000))
            let outcome = try Root.apply(pack: pack, index: index, access: &state)[0].outcome
            if case .refused(let refusal) = outcome { throw StoreError(.corrupt, "\(operation): \(refusal)") }
        }

        func plan(for silence: Nanoseconds = .seconds(61)) throws -> [RootCommand.Operation] {
            var view = RootView()
            while view.through == nil { _ = view.take(try Root.read(view.nextQuery, state)) }
            let facts = (2...9 as ClosedRange<UInt64>).map { number in
                let heard = silent.contains(number) ? now - silence : now - .milliseconds(100)
                return NodeWatch.Fact(node: NodeID(number), since: .origin, heardAt: heard)
            }
            let watch = NodeWatch(own: NodeID(1), watchingSince: .origin, facts: facts)
            return RegionWatch.plan(view, watch, now: now)
        }
    }

    private func declaration(_ isLost: Bool, _ epoch: UInt64, _ name: String = "west") -> RootCommand.Operation {
        .declareRegion(name: name, isLost: isLost, epoch: epoch, isAutomatic: true)
    }

    @Test func `a region is lost when all its nodes are silent for the set time, and most of the others are heard`()
        throws
    {
        var bench = try Bench()
        #expect(try bench.plan().isEmpty)
        bench.silent = [7, 8]
        #expect(try bench.plan().isEmpty, "one of them is heard")
        bench.silent = [7, 8, 9]
        #expect(try bench.plan(for: .seconds(59)).isEmpty, "not long enough")
        #expect(try bench.plan() == [declaration(true, 0)])
        bench.silent = [4, 5, 7, 8, 9]
        #expect(try bench.plan() == [declaration(true, 0)])
        bench.silent = [2, 4, 5, 7, 8, 9]
        #expect(try bench.plan().isEmpty, "who hears so few may be the one that is cut off")
        bench.silent = [7, 8, 9]
        try bench.ask(.changeSetting(.regionLostAfter, 0))
        #expect(try bench.plan().isEmpty, "it is turned off")
        try bench.ask(.changeSetting(.regionLostAfter, 5_000))
        #expect(try bench.plan(for: .seconds(6)) == [declaration(true, 0)])
    }

    @Test func `it is back when most of its nodes are heard again, if nobody declared it lost by hand`() throws {
        var bench = try Bench()
        bench.silent = [7, 8, 9]
        try bench.ask(declaration(true, 0))
        #expect(try bench.plan().isEmpty, "it is lost already")
        bench.silent = [7, 8]
        #expect(try bench.plan().isEmpty)
        bench.silent = [7]
        #expect(try bench.plan() == [declaration(false, 1)])
        try bench.ask(declaration(false, 1))
        #expect(try bench.plan().isEmpty)
        try bench.ask(.declareRegion(name: "west", isLost: true, epoch: 2, isAutomatic: false))
        #expect(try bench.plan().isEmpty, "a person said so, and says when it is back")
    }

    @Test func `what was found lost by itself is not taken back by itself once a person has declared it lost, too`()
        throws
    {
        var bench = try Bench()
        bench.silent = [7, 8, 9]
        try bench.ask(declaration(true, 0))
        bench.silent = []
        let back = declaration(false, 1)
        #expect(try bench.plan() == [back])
        try bench.ask(.declareRegion(name: "west", isLost: true, epoch: 1, isAutomatic: false))
        #expect(try bench.plan().isEmpty)
        #expect(throws: StoreError.self, "it was on its way when the person spoke") { try bench.ask(back) }
        try bench.ask(.declareRegion(name: "west", isLost: false, epoch: 2, isAutomatic: false))
        bench.silent = [7, 8, 9]
        #expect(try bench.plan() == [declaration(true, 3)], "from then on as ever")
    }

    // MARK: Names

    private static let request = [UInt8](0..<16)
    private static let other = [UInt8](repeating: 9, count: 16)

    private func claim() -> NameClaim {
        NameClaim(tenant: "t", name: "web", vm: VMID(7), to: 4, of: [3, 4], request: Self.request)
    }

    private func hold(replaces: [UInt8] = []) -> NameClaim.Ask {
        .command(
            3, .holdName(tenant: "t", name: "web", cell: 4, request: Self.request, replaces: replaces), request: nil)
    }

    private func look(_ cell: UInt64) -> NameClaim.Ask { .query(cell, .vmNamed(tenant: "t", name: "web")) }

    @Test func `a name that nobody has is held at once`() {
        var claim = claim()
        #expect(claim.next == hold())
        #expect(claim.heard(.outcome(.done)) == .held)
        #expect(
            claim.heard(.outcome(nil)) == .unknown
                && claim.heard(.outcome(.refused(.cellClosed))) == .refused(.cellClosed))
    }

    @Test func `a name held for a creation that came to nothing is taken over, once that can't come to anything`() {
        var claim = claim()
        #expect(claim.heard(.outcome(.refused(.nameHeld(cell: 4, request: Self.other)))) == nil)
        let own = CellTombstone(id: VMID(7), name: "web", tenant: "t", deletedAt: .zero, deletedBy: "a")
        var gone = own
        gone.movedTo = 9
        for isUsedUp in [false, true] {
            #expect(claim.next == look(3))
            #expect(claim.heard(.rows([.tombstone(VMID(7), gone)])) == nil)
            #expect(claim.next == look(4))
            #expect(claim.heard(.rows([])) == nil)
            if isUsedUp { continue }
            #expect(claim.next == .command(4, .noteTime, request: Self.other))
            #expect(claim.heard(.outcome(.done)) == nil)
        }
        #expect(claim.next == hold(replaces: Self.other))
        #expect(claim.heard(.outcome(.done)) == .held)
    }

    @Test func `a name that a VM has is taken, also where that VM went meanwhile`() {
        var claim = claim()
        _ = claim.heard(.outcome(.refused(.nameHeld(cell: 4, request: Self.other))))
        let row = CellVM(
            id: VMID(8), name: "web", tenant: "t", spec: VMDescription(resources: .zero), at: .zero, by: "a")
        var moved = claim
        #expect(claim.heard(.rows([.vm(VMID(8), row)])) == .refused(.vmNameTaken("web")))
        var stone = CellTombstone(id: VMID(8), name: "web", tenant: "t", deletedAt: .zero, deletedBy: "a")
        stone.movedTo = 4
        #expect(moved.heard(.rows([])) == nil && moved.heard(.rows([.tombstone(VMID(8), stone)])) == nil)
        #expect(moved.next == look(4))
        #expect(moved.heard(.rows([.vm(VMID(8), row)])) == .refused(.vmNameTaken("web")))
        var silent = self.claim()
        _ = silent.heard(.outcome(.refused(.nameHeld(cell: 4, request: Self.other))))
        #expect(silent.heard(.rows(nil)) == .unknown)
    }
}
