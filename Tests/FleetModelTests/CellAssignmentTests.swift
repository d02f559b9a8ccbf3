import ClusterBase
import FleetModel
import Testing

@Suite struct CellAssignmentTests {
    private func bench() throws -> CellBench {
        var cell = try CellBench(hosts: 2)
        cell.level = FeatureLevel.cells
        return cell
    }

    private func register(_ id: UInt64, _ assignment: UInt64, incarnation: UInt64 = 1) -> CellCommand.Operation {
        .registerHost(
            HostID(id), Incarnation(incarnation), CellBench.about(id), running: [], assignment: assignment)
    }

    @Test func `a host with VMs is not let go, and one that is let go comes back only under a later assignment`() throws
    {
        var cell = try bench()
        let host = HostID(1)
        let vm = try cell.running("a", on: 1)
        #expect(try cell.refusal(.releaseHost(host, assignment: 0)) == .hostInUse(host))
        try cell.must(.setPower(vm, .stopped, generation: nil))
        try cell.report(vm, .stopped)
        #expect(try cell.refusal(.releaseHost(host, assignment: 0)) == .hostInUse(host), "a stopped VM keeps its place")
        try cell.must(.deleteVM(vm, generation: nil))
        for _ in 0..<2 { try cell.must(.releaseHost(host, assignment: 0)) }
        guard case .work(let rows?, _, let lease) = try cell.read(.hostWork(host, since: .zero)).body else {
            Issue.record("no work")
            return
        }
        #expect(rows.isEmpty && lease == 0, "nothing is granted to it any more")
        #expect(try cell.refusal(register(1, 0, incarnation: 9)) == .hostReleased(host), "however new its agent is")
        #expect(try cell.refusal(.reportVMs(host, Incarnation(1), [])) == .hostRemoved(host))
        try cell.must(register(1, 5))
        #expect(try cell.host(1).health == .up && cell.host(1).assignment == 5 && cell.host(1).duty == .inService)
        #expect(try cell.refusal(register(1, 4)) == .assignmentOutdated(host))
        #expect(try cell.refusal(.releaseHost(host, assignment: 4)) == .assignmentOutdated(host), "late")
        try cell.place(try cell.create("b"), on: 1)
    }

    @Test func `a host that never came is refused under the assignment that was ended`() throws {
        var cell = try bench()
        try cell.must(.releaseHost(HostID(7), assignment: 3))
        #expect(try cell.refusal(register(7, 3)) == .hostReleased(HostID(7)))
        #expect(try cell.refusal(register(7, 0)) == .assignmentOutdated(HostID(7)))
        try cell.must(register(7, 4))
        #expect(try cell.host(7).about.name == "h7")
    }

    @Test func `a host that is down leaves when nothing of it may run any more`() throws {
        var cell = try bench()
        let keeps = try cell.running("a", on: 1, VMDescription(resources: CellBench.spec().resources))
        try cell.must(.declareDown(HostID(1), Incarnation(1)))
        #expect(try cell.vm(keeps).place == nil)
        try cell.must(.releaseHost(HostID(1), assignment: 0))
        // Its name is free, and it counts among the lost hosts no more.
        try cell.must(.registerHost(HostID(9), Incarnation(1), CellBench.about(1), running: []))
        try cell.must(.declareDown(HostID(2), Incarnation(1)))
    }

    @Test func `a cell closes when it is empty, and nothing comes then`() throws {
        var cell = try bench()
        let vm = try cell.create("a", power: .stopped)
        #expect(try cell.refusal(.closeCell) == .cellInUse("2 hosts"))
        for id in 1...2 { try cell.must(.releaseHost(HostID(UInt64(id)), assignment: 0)) }
        #expect(try cell.refusal(.closeCell) == .cellInUse("1 VMs"))
        try cell.must(.deleteVM(vm, generation: nil))
        for _ in 0..<2 { try cell.must(.closeCell) }
        #expect(try cell.refusal(register(1, 9)) == .cellClosed)
        let creation = VMCreation(name: "b", tenant: "t", spec: CellBench.spec())
        #expect(try cell.refusal(.createVMs([creation], isAtomic: false)) == .cellClosed)
        #expect(
            try cell.refusal(.putGroup(CellGroup(name: "g", tenant: "t", rule: .spread(skewMax: 1), scope: .host)))
                == .cellClosed)
    }

    @Test
    func `a name is held for one creation, which says so again, and is taken over only from the one that is named`()
        throws
    {
        var cell = try bench()
        let (a, b) = (CellBench.request(1), CellBench.request(2))
        func hold(_ number: UInt64, _ request: [UInt8], replaces: [UInt8] = [], name: String = "x")
            -> CellCommand.Operation
        {
            .holdName(tenant: "t", name: name, cell: number, request: request, replaces: replaces)
        }
        for _ in 0..<2 { try cell.must(hold(7, a)) }
        #expect(try cell.refusal(hold(7, b)) == .nameHeld(cell: 7, request: a))
        #expect(
            try cell.refusal(hold(8, a)) == .nameHeld(cell: 7, request: a), "the same creation goes on where it was")
        #expect(try cell.refusal(hold(8, b, replaces: b)) == .nameHeld(cell: 7, request: a))
        try cell.must(hold(8, b, replaces: a))
        #expect(try cell.refusal(hold(7, a)) == .nameHeld(cell: 8, request: b), "it came too late")
        // Nobody else makes a VM of that name, here either.
        let creation = VMCreation(name: "x", tenant: "t", spec: CellBench.spec())
        #expect(try cell.refusal(.createVMs([creation], isAtomic: false)) == .vmNameTaken("x"))
        try cell.must(hold(1, b, replaces: b))
        try cell.create("x")
        // One of before the region had several cells.
        let old = try cell.create("old")
        #expect(try cell.refusal(hold(7, a, name: "old")) == .vmNameTaken("old"))
        try cell.must(.deleteVM(old, generation: nil))
        try cell.must(hold(7, a, name: "old"))
        let held = CellRefusal.nameHeld(cell: 7, request: [UInt8](0..<16).map { $0 &* 17 })
        let result = CellResult(revision: Revision(index: LogIndex(3), slot: 1), outcome: .refused(held))
        #expect(CellResult.decode(result.encoded()) == result)
    }

    @Test func `before the level is open none of it means anything`() throws {
        var cell = try CellBench(hosts: 1)
        #expect(try cell.refusal(register(1, 1)) == .malformed)
        #expect(try cell.refusal(.releaseHost(HostID(1), assignment: 0)) == .malformed)
        #expect(try cell.refusal(.closeCell) == .malformed)
        #expect(try cell.host(1).health == .up)
    }
}
