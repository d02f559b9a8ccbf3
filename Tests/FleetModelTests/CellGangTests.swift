import ClusterBase
import FleetModel
import Testing

/// VMs that are created all or none, and get their first places so.
@Suite struct CellGangTests {
    private func bench(hosts: Int = 2) throws -> CellBench {
        var cell = try CellBench(hosts: hosts)
        cell.level = FeatureLevel.newest
        return cell
    }

    private func gang(
        _ cell: inout CellBench, _ count: Int, cores: Int64 = 2, stopped: Int = 0, prefix: String = "g"
    ) throws -> [VMID] {
        let items = (0..<count).map {
            VMCreation(
                name: "\(prefix)\($0)", tenant: "t", spec: CellBench.spec(cores),
                power: $0 < stopped ? .stopped : .running)
        }
        guard case .items(let made) = try cell.apply(.createVMs(items, isAtomic: true)) else { return [] }
        return made.compactMap { if case .vm(let id) = $0 { id } else { nil } }
    }

    private func placings(_ cell: CellBench, _ ids: [VMID], on hosts: [UInt64]) throws -> [Placing] {
        try zip(ids, hosts).map { Placing($0, generation: try cell.vm($0).generation, Assignment(host: HostID($1))) }
    }

    @Test func `a gang is placed whole or not at all`() throws {
        var cell = try bench()
        let ids = try gang(&cell, 3)
        let number = try cell.vm(ids[0]).gang
        #expect(try number > 0 && ids.allSatisfy { try cell.vm($0).gang == number })
        // One by one, not all of them, and all of them but each for itself.
        let singly = try placings(cell, ids, on: [1, 1, 2])
        #expect(
            try cell.apply(.placeVMs([singly[0]], isAtomic: true))
                == .items([.refused(.gangIncomplete(ids[0]))]))
        #expect(
            try cell.apply(.placeVMs(Array(singly[1...]), isAtomic: true))
                == .items([.refused(.gangIncomplete(ids[1])), .refused(.anotherItem)]))
        #expect(
            try cell.apply(.placeVMs(singly, isAtomic: false)) == .items(ids.map { .refused(.gangIncomplete($0)) }))
        // One of them does not fit: so none is placed.
        let big = try cell.create("big", CellBench.spec(7))
        try cell.place(big, on: 2)
        guard case .items(let refused) = try cell.apply(.placeVMs(singly, isAtomic: true)) else {
            Issue.record("no items")
            return
        }
        #expect(refused.prefix(2) == [.refused(.anotherItem), .refused(.anotherItem)])
        for id in ids { #expect(try cell.vm(id).place == nil && cell.vm(id).gang == number) }
        // On one host they all fit.
        let whole = try placings(cell, ids, on: [1, 1, 1])
        #expect(try cell.apply(.placeVMs(whole, isAtomic: true)) == .items(ids.map { .vm($0) }))
        for id in ids { #expect(try cell.vm(id).place != nil && cell.vm(id).gang == 0) }
        // From here on each lives by itself.
        try cell.report(ids[0], .running)
        let release = Release(ids[0], epoch: 1, reason: "room")
        #expect(try cell.apply(.releaseVMs([release], cause: .asked)) == .items([.vm(ids[0])]))
        try cell.report(ids[0], .stopped)
        #expect(try cell.vm(ids[0]).phase == .waiting && cell.vm(ids[0]).gang == 0)
        try cell.place(ids[0], on: 1)
    }

    @Test func `who wants no place any more leaves the gang, and the others are placed without it`() throws {
        var cell = try bench()
        let ids = try gang(&cell, 4, cores: 1)
        try cell.must(.setPower(ids[0], .stopped, generation: nil))
        try cell.must(.deleteVM(ids[1], generation: nil))
        #expect(try cell.vm(ids[0]).gang == 0)
        // Started again it is by itself.
        try cell.must(.setPower(ids[0], .running, generation: nil))
        try cell.place(ids[0], on: 1)
        let rest = try placings(cell, Array(ids[2...]), on: [1, 2])
        #expect(try cell.apply(.placeVMs(rest, isAtomic: true)) == .items([.vm(ids[2]), .vm(ids[3])]))
    }

    @Test func `gangs may go in one command with others, and one that is refused takes all with it`() throws {
        var cell = try bench()
        let first = try gang(&cell, 2, cores: 1)
        let second = try gang(&cell, 2, cores: 1, prefix: "h")
        let single = try cell.create("single", CellBench.spec(1))
        let half = try placings(cell, first + [second[0], single], on: [1, 1, 1, 1])
        guard case .items(let refused) = try cell.apply(.placeVMs(half, isAtomic: true)) else {
            Issue.record("no items")
            return
        }
        #expect(refused[2] == .refused(.gangIncomplete(second[0])))
        #expect(try cell.vm(first[0]).place == nil && cell.vm(single).place == nil)
        let all = try placings(cell, first + second + [single], on: [1, 1, 1, 1, 1])
        #expect(try cell.apply(.placeVMs(all, isAtomic: true)) == .items(all.map { .vm($0.vm) }))
    }

    @Test func `one alone, those that are stopped, and those of before level 3 are no gang`() throws {
        var cell = try bench()
        for id in try gang(&cell, 1) { #expect(try cell.vm(id).gang == 0) }
        for id in try gang(&cell, 2, stopped: 1, prefix: "s") { #expect(try cell.vm(id).gang == 0) }
        let some = try gang(&cell, 3, stopped: 1, prefix: "p")
        #expect(try some.map { try cell.vm($0).gang > 0 } == [false, true, true])
        cell.level = FeatureLevel.cells - 1
        for id in try gang(&cell, 3, prefix: "o") { #expect(try cell.vm(id).gang == 0) }
    }

    @Test func `a gang as large as a command is placed by one command`() throws {
        var cell = try bench(hosts: 1)
        var about = CellBench.about(9, cores: 2_000, memory: 1 << 22)
        about.capacity.diskMiB = 1 << 30
        try cell.register(9, about)
        let ids = try gang(&cell, CellLimits.itemsMax, cores: 1)
        #expect(ids.count == CellLimits.itemsMax)
        let all = try placings(cell, ids, on: ids.map { _ in 9 })
        #expect(try cell.apply(.placeVMs(all, isAtomic: true)) == .items(ids.map { .vm($0) }))
        #expect(try cell.rows(.waitingVMs(limit: 0)).isEmpty)
    }
}
