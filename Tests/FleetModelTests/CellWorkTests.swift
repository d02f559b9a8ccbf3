import ClusterBase
import FleetModel
import Testing

/// What a host is told when one of its many VMs changes.
@Suite struct CellWorkTests {
    private static func crowd(_ count: Int) throws -> (cell: CellBench, ids: [VMID]) {
        var cell = CellBench()
        cell.level = FeatureLevel.workChanges
        var about = CellBench.about(1, cores: 100_000, memory: 100_000_000)
        about.capacity.diskMiB = 100_000_000
        try cell.must(.registerHost(HostID(1), Incarnation(1), about, running: []))
        var ids: [VMID] = []
        for start in stride(from: 0, to: count, by: 500) {
            let names = (start..<min(start + 500, count)).map { "vm-\($0)" }
            var spec = CellBench.spec()
            spec.labels = [Named("app", "web"), Named("team", "shop")]
            spec.annotations = [Named("sim.boot-ms", "20")]
            let creations = names.map { VMCreation(name: $0, tenant: "t", spec: spec) }
            guard case .items(let items) = try cell.apply(.createVMs(creations, isAtomic: true)) else { break }
            let made = items.compactMap { if case .vm(let id) = $0 { id } else { nil } }
            _ = try cell.apply(
                .placeVMs(made.map { Placing($0, generation: 1, Assignment(host: HostID(1))) }, isAtomic: true))
            ids += made
        }
        return (cell, ids)
    }

    @Test func `one change among two thousand VMs of a host costs it one row and not all of them`() throws {
        var (cell, ids) = try Self.crowd(2_000)
        #expect(try cell.work(1)?.count == 2_000)
        func read(_ query: CellQuery) throws -> (body: CellAnswer.Body, bytes: Int) {
            // As it goes from the cell's leader to the host.
            let bytes = try cell.read(query).encoded()
            return (try #require(CellAnswer.decode(bytes)).body, bytes.count)
        }
        let clock = ContinuousClock()
        var known = try #require(try cell.work(1))
        var (all, some) = (0, 0)
        var (allTime, someTime) = (Duration.zero, Duration.zero)
        for round in 0..<5 {
            let since = try cell.host(1).workIndex
            try cell.must(.setPower(ids[round * 333], .paused, generation: nil))
            let begun = clock.now
            let whole = try read(.hostWork(HostID(1), since: since))
            let middle = clock.now
            let changed = try read(.hostWork(HostID(1), since: since, takesChanges: true))
            guard case .work(let rows?, _, _) = whole.body, case .workChanges(let changes, _, _) = changed.body else {
                Issue.record("\(changed.bytes)")
                return
            }
            known = try #require(changes.merged(with: known))
            someTime += clock.now - middle
            allTime += middle - begun
            #expect(known == rows && changes.vms.map(\.id) == [ids[round * 333]])
            all += whole.bytes
            some += changed.bytes
        }
        print("2,000 VMs: all \(all / 5) bytes, \(allTime / 5); what changed \(some / 5) bytes, \(someTime / 5)")
        #expect(some * 20 < all && someTime < allTime)
    }

    @Test func `VMs of which an older program wrote no revision are told until they change`() throws {
        var cell = try CellBench(hosts: 1)
        let old = try cell.running("old", on: 1)
        let other = try cell.running("other", on: 1)
        // Later than the last change of those before.
        let last = try cell.running("last", on: 1)
        cell.level = FeatureLevel.workChanges
        let known = try #require(try cell.work(1))
        let since = try cell.host(1).workIndex
        let new = try cell.running("new", on: 1)
        try cell.must(.setPower(old, .paused, generation: nil))
        let answer = try cell.read(.hostWork(HostID(1), since: since, takesChanges: true)).body
        guard case .workChanges(let changes, _, _) = answer else {
            Issue.record("\(answer)")
            return
        }
        #expect(changes.vms.map(\.id) == [old, last, new] && changes.ids == [old, other, last, new])
        #expect(try changes.merged(with: known) == cell.work(1))
    }
}
