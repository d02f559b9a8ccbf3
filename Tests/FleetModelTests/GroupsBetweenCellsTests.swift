import ClusterBase
import FleetModel
import Testing

/// Placement groups and settings where hosts go from cell to cell: what is kept, and what is refused for it.
@Suite struct GroupsBetweenCellsTests {
    private static let tenant = "t"

    /// Two cells with two hosts each: those of the first in racks 1 and 2 of zone a, those of the other in racks 3 and 4 of zone b.
    private func cells() throws -> [CellBench] {
        try (1...2).map { number in
            var cell = CellBench()
            cell.group = GroupID(.cell, number: UInt64(number))
            cell.level = FeatureLevel.cells
            for host in 1...2 {
                let id = UInt64(10 * number + host)
                try cell.register(
                    id, CellBench.about(id, zone: number == 1 ? "a" : "b", rack: "r\(2 * number - 2 + host)"))
            }
            try cell.must(.setSlice(tenant: Self.tenant, revision: Revision(256), .unlimited))
            return cell
        }
    }

    private func group(
        _ rule: PlacementGroup.Rule, _ scope: PlacementGroup.Scope = .host, isHard: Bool = true, _ name: String = "g"
    ) -> CellGroup {
        CellGroup(name: name, tenant: Self.tenant, rule: rule, scope: scope, isHard: isHard)
    }

    private func member(_ cell: inout CellBench, _ name: String, on host: UInt64?, of group: String = "g") throws
        -> VMID
    {
        var spec = CellBench.spec()
        spec.groups = [group]
        let id = try cell.create(name, spec)
        guard let host else { return id }
        try cell.place(id, on: host)
        try cell.report(id, .running)
        return id
    }

    private func send(
        _ host: UInt64, with others: [UInt64] = [], racksApart: Bool = false, zonesApart: Bool = false,
        isAll: Bool = false
    ) -> CellCommand.Operation {
        var company = HostCompany()
        company.hosts = others.map { HostID($0) }
        (company.racksApart, company.zonesApart, company.isAll) = (racksApart, zonesApart, isAll)
        return .sendHost(HostID(host), to: 2, assignment: 0, keepsNames: false, company: company)
    }

    private func move(_ cell: CellBench) throws -> HostMove {
        let moves = try cell.rows(.all(.hostMoves)).compactMap {
            if case .hostMove(_, let move?) = $0 { move } else { nil }
        }
        return try #require(moves.first)
    }

    private func parts(_ cell: CellBench) throws -> [CellCommand.Operation] {
        let move = try move(cell)
        let vms: [CellVM] = try cell.rows(.vmsOnHost(move.host, after: nil, limit: 0)).compactMap {
            if case .vm(_, let vm?) = $0 { vm } else { nil }
        }
        return move.preparations(
            of: try cell.host(move.host.rawValue), vms, from: 1,
            groups: try known(cell).filter { $0.tenant == Self.tenant })
    }

    private func known(_ cell: CellBench) throws -> [CellGroup] {
        try cell.rows(.all(.groups)).compactMap { if case .group(_, let group?) = $0 { group } else { nil } }
    }

    /// Why it is refused; nil where it is done.
    private func why(_ cell: inout CellBench, _ operation: CellCommand.Operation) throws -> CellRefusal? {
        if case .refused(let refusal) = try cell.apply(operation) { refusal } else { nil }
    }

    private func fits(_ cell: inout CellBench, _ id: VMID, _ host: UInt64) throws -> Bool {
        try cell.place(id, on: Assignment(host: HostID(host))) == .items([.vm(id)])
    }

    private func finish(_ cells: inout [CellBench]) throws {
        let move = try move(cells[0])
        for part in try parts(cells[0]) { for _ in 0..<2 { try cells[1].must(part) } }
        try cells[0].must(.advanceHost(move.number, .commit(through: cells[0].index)))
        try cells[1].must(try self.move(cells[0]).ending(from: 1, open: [move]))
        try cells[0].must(.advanceHost(move.number, .settle))
    }

    @Test func `a group goes along where the other cell has none, with its rule, and its members count there`() throws {
        var cells = try cells()
        try cells[0].must(.putGroup(group(.antiAffinity(perDomainMax: 1), .rack)))
        _ = try member(&cells[0], "a", on: 11)
        _ = try member(&cells[0], "b", on: 12)
        try cells[0].must(send(11, racksApart: true))
        for part in try parts(cells[0]) { try cells[1].must(part) }
        var made = try #require(try known(cells[1]).first)
        #expect(made.memberCount == 1 && made.isBrought)
        (made.id, made.memberCount, made.isBrought) = (PlacementGroupID(0), 0, false)
        #expect(made == group(.antiAffinity(perDomainMax: 1), .rack))
        try finish(&cells)
        #expect(try known(cells[0]).map(\.memberCount) == [1] && known(cells[1]).map(\.memberCount) == [1])
        let third = try member(&cells[1], "c", on: nil)
        #expect(try !fits(&cells[1], third, 11), "two are in one rack")
        #expect(try fits(&cells[1], third, 21))
    }

    @Test func `a hard group is parted where no domain of its rule is in both cells, and else keeps its host`() throws {
        let parting: [(PlacementGroup.Rule, PlacementGroup.Scope, CellCommand.Operation, Bool)] = [
            (.antiAffinity(perDomainMax: 1), .host, send(11), true),
            (.spread(skewMax: 1), .host, send(11), true),
            (.antiAffinity(perDomainMax: 1), .rack, send(11), false),
            (.antiAffinity(perDomainMax: 1), .rack, send(11, racksApart: true), true),
            (.spread(skewMax: 1), .rack, send(11, racksApart: true), true),
            (.antiAffinity(perDomainMax: 2), .zone, send(11, racksApart: true), false),
            (.antiAffinity(perDomainMax: 2), .zone, send(11, racksApart: true, zonesApart: true), true),
            (.spread(skewMax: 2), .zone, send(11, racksApart: true), false),
            (.affinity, .zone, send(11, racksApart: true, zonesApart: true), false),
            (.affinity, .zone, send(11, with: [12]), true),
            (.pack, .zone, send(11, isAll: true), true),
            (.antiAffinity(perDomainMax: 2), .zone, send(11, with: [12]), true),
        ]
        for (rule, scope, send, goes) in parting {
            for isHard in [true, false] {
                var cells = try cells()
                try cells[0].must(.putGroup(group(rule, scope, isHard: isHard)))
                _ = try member(&cells[0], "a", on: 11)
                _ = try member(&cells[0], "b", on: 12)
                let refusal = try why(&cells[0], send)
                #expect((refusal == nil) == (goes || !isHard), "\(rule) \(scope) hard \(isHard): \(refusal as Any)")
                if let refusal { #expect("\(refusal)".contains("group g") && "\(refusal)".contains("VM b")) }
            }
        }
    }

    @Test func `what is said of hosts before they are chosen is what the cell says when they are to go`() throws {
        var random = PRNG(seed: 7)
        var heldBack = 0
        for _ in 0..<60 {
            var cell = try cells()[0]
            try cell.register(13, CellBench.about(13, zone: "b", rack: "r3"))
            let scopes = [PlacementGroup.Scope.host, .rack, .zone]
            let rules: [PlacementGroup.Rule] = [.antiAffinity(perDomainMax: 4), .spread(skewMax: 9), .affinity, .pack]
            for name in ["g", "h"] {
                try cell.must(
                    .putGroup(
                        group(
                            rules[random.below(rules.count)], scopes[random.below(scopes.count)],
                            isHard: random.chance(5, in: 6), name)))
            }
            for number in 0..<4 {
                let id = try member(&cell, "v\(number)", on: nil, of: random.chance(2, in: 3) ? "g" : "h")
                let host = Assignment(host: HostID(UInt64(11 + random.below(3))))
                guard random.chance(7, in: 8), try cell.place(id, on: host) == .items([.vm(id)]) else { continue }
                try cell.report(id, .running)
            }
            if random.chance(1, in: 6) { try cell.must(.setHostDuty(HostID(12), .draining)) }
            var company = HostCompany()
            company.hosts = [11, 12, 13].filter { _ in random.chance(2, in: 3) }.map { HostID($0) }
            (company.racksApart, company.zonesApart) = (random.chance(1, in: 2), random.chance(1, in: 3))
            var ties = CellTies()
            for case .host(_, let host?) in try cell.rows(.all(.hosts)) { ties.note(host) }
            for group in try known(cell) { ties.note(group) }
            for case .vm(_, let vm?) in try cell.rows(.all(.vms)) { ties.note(vm) }
            let held = ties.held(company, ties.groups)
            // An empty one is released instead.
            for host in company.hosts where try cell.host(host.rawValue).vmCount > 0 {
                var copy = cell
                let refusal = try why(
                    &copy, .sendHost(host, to: 2, assignment: 0, keepsNames: false, company: company))
                #expect((held[host] != nil) == (refusal != nil), "\(held[host] as Any) and \(refusal as Any)")
                if held[host] != nil { heldBack += 1 }
            }
        }
        #expect(heldBack > 20)
    }

    @Test func `a member without a host stays, and keeps those that it is to be with`() throws {
        var cells = try cells()
        try cells[0].must(.putGroup(group(.affinity, .rack)))
        _ = try member(&cells[0], "a", on: 11)
        _ = try member(&cells[0], "waits", on: nil)
        let refusal = try cells[0].refusal(send(11, with: [12], racksApart: true, zonesApart: true))
        #expect("\(refusal as Any)".contains("VM waits, which is on no host"))
        #expect(try why(&cells[0], send(11, isAll: true)) == nil)
    }

    @Test func `a cell takes no host whose VMs would break a hard group there, or are in one of another rule`() throws {
        for (there, isRefused) in [
            (group(.antiAffinity(perDomainMax: 1), .zone), true), (group(.antiAffinity(perDomainMax: 2), .zone), true),
            (group(.antiAffinity(perDomainMax: 1), .rack), true), (group(.affinity), true),
        ] {
            var cells = try cells()
            try cells[0].must(.putGroup(group(.antiAffinity(perDomainMax: 1), .zone)))
            try cells[1].must(.putGroup(there))
            // Both cells have hosts in zone a.
            try cells[1].register(23, CellBench.about(23, zone: "a", rack: "r9"))
            _ = try member(&cells[0], "a", on: 11)
            _ = try member(&cells[1], "b", on: 23)
            try cells[0].must(send(11, isAll: true))
            let part = try #require(try parts(cells[0]).first)
            let refusal = try why(&cells[1], part)
            #expect((refusal != nil) == isRefused && "\(refusal as Any)".contains("group g"), "\(there)")
            if there.rule == .antiAffinity(perDomainMax: 2) { #expect(refusal == .groupDiffers("g")) }
            #expect(try known(cells[1]).map(\.memberCount) == [1], "nothing is kept")
        }
        var cells = try cells()
        for at in 0..<2 { try cells[at].must(.putGroup(group(.affinity, .zone))) }
        _ = try member(&cells[0], "a", on: 11)
        _ = try member(&cells[1], "b", on: 21)
        try cells[0].must(send(11, isAll: true))
        let part = try #require(try parts(cells[0]).first)
        #expect("\(try cells[1].refusal(part) as Any)".contains("group g keeps its members in one zone"))
    }

    @Test func `members that may come count from then on, wherever their host stands, and no more when it stays`()
        throws
    {
        var cells = try cells()
        try cells[0].must(.putGroup(group(.antiAffinity(perDomainMax: 1), .zone)))
        _ = try member(&cells[0], "a", on: 11)
        try cells[0].must(send(11, isAll: true))
        for part in try parts(cells[0]) { try cells[1].must(part) }
        try cells[1].register(23, CellBench.about(23, zone: "a", rack: "r9"))
        let other = try member(&cells[1], "b", on: nil)
        #expect(try !fits(&cells[1], other, 23), "its place is kept")
        // It says that it stands in zone b.
        try cells[0].register(11, CellBench.about(11, zone: "b", rack: "r1"), incarnation: 2)
        for part in try parts(cells[0]) { try cells[1].must(part) }
        #expect(try fits(&cells[1], other, 23))
        let third = try member(&cells[1], "c", on: nil)
        #expect(try !fits(&cells[1], third, 21), "its new place is kept")
        let move = try move(cells[0])
        try cells[0].must(.advanceHost(move.number, .abort(reason: "no")))
        try cells[1].must(try self.move(cells[0]).ending(from: 1, open: [move]))
        #expect(try fits(&cells[1], third, 21) && known(cells[1]).map(\.memberCount) == [2])
    }

    @Test func `a way that is called off leaves no empty group, nor does the last VM of one that came along`() throws {
        var cells = try cells()
        for name in ["g", "h", "none"] {
            try cells[0].must(.putGroup(group(.antiAffinity(perDomainMax: 1), .rack, name)))
        }
        let ids = [try member(&cells[0], "a", on: 11), try member(&cells[0], "b", on: 11, of: "h")]
        func left(_ cell: CellBench) throws -> [String] { try known(cell).map(\.name).sorted() }
        try cells[0].must(send(11, racksApart: true))
        for part in try parts(cells[0]) { try cells[1].must(part) }
        #expect(try left(cells[1]) == ["g", "h"])
        // It comes to nothing: by a cancelled plan, or a host that was lost.
        let move = try move(cells[0])
        try cells[0].must(.advanceHost(move.number, .abort(reason: "no")))
        try cells[1].must(try self.move(cells[0]).ending(from: 1, open: [move]))
        #expect(try left(cells[1]).isEmpty)
        #expect(try cells[1].slice(Self.tenant)?.groupCount == 0)
        try cells[0].must(.advanceHost(move.number, .settle))
        #expect(try left(cells[0]) == ["g", "h", "none"], "where they were made they are")

        var apart = HostCompany()
        apart.racksApart = true
        try cells[0].must(.sendHost(HostID(11), to: 2, assignment: 1, keepsNames: false, company: apart))
        try finish(&cells)
        #expect(try left(cells[0]) == ["g", "h", "none"], "without members, too")
        #expect(try known(cells[1]).allSatisfy(\.isBrought))
        // Somebody sets one of them here, which stays then.
        try cells[1].must(.putGroup(group(.antiAffinity(perDomainMax: 1), .rack, "h")))
        for id in ids {
            try cells[1].must(.deleteVM(id, generation: nil))
            try cells[1].report(id, .stopped)
        }
        #expect(try cells[1].find(ids[0]) == nil && cells[1].find(ids[1]) == nil)
        #expect(try left(cells[1]) == ["h"])
        let events = try cells[1].events().filter { $0.kind == "group.left" }
        #expect(events.map(\.text).sorted() == ["g", "g", "h"])
    }

    @Test func `a group that came along stays when the cell ends that it came from, without members, too`() throws {
        var cells = try cells()
        try cells[0].must(.putGroup(group(.antiAffinity(perDomainMax: 1))))
        let id = try member(&cells[0], "a", on: 11)
        try cells[0].must(send(11, isAll: true))
        try finish(&cells)
        let all = try known(cells[0])
        for _ in 0..<2 { try cells[1].must(.takeSettings(from: 1, plan: 300, [:], groups: all)) }
        #expect(try known(cells[1]).map(\.isBrought) == [false])
        try cells[1].must(.deleteVM(id, generation: nil))
        try cells[1].report(id, .stopped)
        #expect(try known(cells[1]).map(\.memberCount) == [0])
    }

    @Test func `a VM that goes alone takes its groups along`() throws {
        var cells = try cells()
        try cells[0].must(.putGroup(group(.antiAffinity(perDomainMax: 1))))
        var spec = CellBench.spec()
        spec.groups = ["g"]
        let id = try cells[0].create("a", spec, power: .stopped)
        try cells[0].must(.moveVM(id, to: 2, request: []))
        let moves = try cells[0].rows(.all(.moves)).compactMap {
            if case .move(_, let move?) = $0 { move } else { nil }
        }
        let move = try #require(moves.first)
        let row = try cells[0].vm(id)
        #expect(try cells[1].refusal(.prepareArrival(move.preparation(of: row, from: 1))) == .unknownGroup("g"))
        try cells[1].must(.prepareArrival(move.preparation(of: row, from: 1, groups: try known(cells[0]))))
        #expect(try known(cells[1]).map(\.memberCount) == [1] && known(cells[1]).first?.isHard == true)
    }

    @Test func `settings of the cell that one was split from are taken once, where nobody has set others`() throws {
        var cell = try cells()[1]
        try cell.must(.setSetting(.migrationsMax, 3))
        let take = CellCommand.Operation.takeSettings(
            from: 1, plan: 300,
            [.rebalance: 2, .migrationsMax: 9, .splitAbove: SplitBound(.hosts, 9).value, .leaseBefore: 99, .policy: 77])
        for _ in 0..<2 { try cell.must(take) }
        func setting(_ setting: CellSetting) throws -> UInt64 {
            for case .setting(setting, let value?) in try cell.rows(.all(.settings)) { return value }
            return setting.standard
        }
        #expect(try setting(.rebalance) == 2 && setting(.migrationsMax) == 3 && setting(.policy) == 1)
        #expect(try setting(.splitAbove) == SplitBound(.hosts, 9).value && setting(.leaseBefore) == 0)
        try cell.must(.setSetting(.rebalance, 0))
        try cell.must(take)
        #expect(try setting(.rebalance) == 0, "what is said again changes nothing")
        #expect(try cell.refusal(.setSetting(.settingsTaken, 0)) == .settingOutOfRange(.settingsTaken))
        for operation in [take, send(11, with: [12, 13], racksApart: true), send(11, isAll: true)] {
            let command = CellCommand(by: "admin", operation)
            #expect(CellCommand.decode(command.encoded(), level: 3) == .success(command))
            #expect(CellCommand.decode(command.encoded(), level: 2) == .failure(.malformed))
        }
    }
}
