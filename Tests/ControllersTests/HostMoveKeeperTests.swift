import ClusterBase
import Controllers
import FleetModel
import Testing

/// What leaders do for hosts that go from cell to cell with their VMs.
@Suite struct HostMoveKeeperTests {
    private static let host = HostID(2)

    private static func row() -> CellHost {
        var host = CellHost(
            id: host,
            about: HostDescription(
                name: "h2", capacity: Resources(cpuMillis: 8_000, memoryMiB: 8_192, diskMiB: 1_000, networkMbps: 1_000)),
            incarnation: Incarnation(1), since: LogTime(0))
        host.workIndex = LogIndex(9)
        return host
    }

    private static func vm(_ revision: UInt64 = 9) -> CellVM {
        var vm = CellVM(
            id: VMID(9 << 40 | 1), name: "v", tenant: "default",
            spec: VMDescription(resources: Resources(cpuMillis: 1_000, memoryMiB: 1_024)), at: LogTime(0), by: "test")
        vm.place = VMPlace(Assignment(host: host), epoch: 3)
        (vm.phase, vm.epochHighest, vm.revision) = (.running, 3, Revision(index: LogIndex(revision), slot: 0))
        return vm
    }

    @Test func `a host that came with its VMs is given up no sooner than its old lease can have ended`() throws {
        let world = CellWorld()
        world.level = FeatureLevel.cells
        try world.addHost()
        // It spoke to the cell where it was, and never to this one's leader.
        try world.tick(200)
        let part = HostPreparation(
            from: 9, number: 300, host: Self.row(), items: [.init(vm: Self.vm(), share: .zero)])
        #expect(try world.apply(.prepareHost(part)) == .done)
        let ending = HostEnding(
            from: 9, number: 300, host: Self.host, isCommitted: true, vms: 1, leaseBase: 77, lease: 6_000, floor: 0)
        #expect(try world.apply(.endHost(ending)) == .done)
        // Ten percent more than the longer lease of the other cell, and half a second.
        try world.tick(70)
        #expect(try world.view().hosts[Self.host]?.health == .up && world.vm(Self.vm().id)?.phase == .running)
        try world.tick(3)
        #expect(try world.view().hosts[Self.host]?.health == .down)
        #expect(try world.vm(Self.vm().id)?.place?.assignment.host != Self.host)
    }

    private func move(_ phase: HostMove.Phase) -> HostMove {
        var move = HostMove(number: 300, host: Self.host, to: 2, assignment: 4, since: LogTime(0))
        move.phase = phase
        return move
    }

    private func asks(
        _ keeper: inout HostMoveKeeper, _ move: HostMove, _ vms: [CellVM], at seconds: Int64, index: UInt64 = 9,
        isThere: Bool = true
    ) -> [HostMoveKeeper.Ask] {
        var host = Self.row()
        host.departure = CellHost.Departure(number: 300, to: 2)
        return keeper.plan([move], of: 1, now: .origin + .seconds(seconds), isHeld: false) { _ in
            HostMoveKeeper.Rows(host: host, vms: vms, index: LogIndex(index))
        } mayArrive: { _ in
            true
        } isThere: { _ in
            isThere
        }.map(\.ask)
    }

    @Test func `all rows go first, then those that changed, and the root hears last`() throws {
        var keeper = HostMoveKeeper()
        let preparing = move(.preparing)
        let first = asks(&keeper, preparing, [Self.vm()], at: 0)
        guard case .other(2, let sent)? = first.first, case .prepareHost(let part) = sent, first.count == 1 else {
            Issue.record("\(first)")
            return
        }
        #expect(part.items.map(\.vm) == [Self.vm()] && part.host.assignment == 4)
        #expect(asks(&keeper, preparing, [Self.vm()], at: 1).isEmpty, "what is under way is waited for")
        let commit = CellCommand.Operation.advanceHost(300, .commit(through: LogIndex(9)))
        func heard(_ operation: CellCommand.Operation, _ outcome: CellResult.Outcome) -> [HostMoveKeeper.Ask] {
            keeper.hear(.cell(operation, outcome), of: preparing, 300, in: 1, now: .origin + .seconds(2))
        }
        #expect(heard(sent, .done) == [.own(commit)])
        #expect(heard(commit, .refused(.hostBehind(Self.host))).isEmpty)
        let second = asks(&keeper, preparing, [Self.vm(12)], at: 2, index: 12)
        guard case .other(2, let again)? = second.first, case .prepareHost(let more) = again else {
            Issue.record("\(second)")
            return
        }
        #expect(more.items.map(\.vm) == [Self.vm(12)])
        #expect(heard(again, .done) == [.own(.advanceHost(300, .commit(through: LogIndex(12))))])
        let committed = move(.committed)
        let ending = committed.ending(from: 1, open: [committed])
        #expect(asks(&keeper, committed, [], at: 3) == [.other(2, ending)])
        #expect(heard(ending, .done).isEmpty)
        #expect(asks(&keeper, committed, [], at: 4) == [.root(committed)])
        for (outcome, follows) in [
            (RootResult.Outcome.refused(.assignmentChanged(4)), false), (.done, true),
            (.refused(.assignmentChanged(5)), true),
        ] {
            let next = keeper.hear(.root(outcome), of: committed, 300, in: 1, now: .origin + .seconds(5))
            #expect(next == (follows ? [.own(.advanceHost(300, .settle))] : []))
        }
    }

    @Test func `one that is not kept in time, or by no cell, is called off`() throws {
        for (isThere, seconds) in [(false, Int64(0)), (true, 21)] {
            var keeper = HostMoveKeeper()
            _ = asks(&keeper, move(.preparing), [Self.vm()], at: 0, isThere: isThere)
            let late = asks(&keeper, move(.preparing), [Self.vm()], at: seconds + 1, isThere: isThere)
            guard case .own(.advanceHost(300, .abort))? = late.first else {
                Issue.record("\(late)")
                return
            }
        }
    }
}
