import BinaryCoding
import ClusterBase
import Controllers
import FleetModel
import NodePorts
import Testing

/// A host that is told what changed, and not all that it has.
@Suite struct HostChangesTests {
    private static func vm(_ number: UInt64, revision: UInt64 = 5, _ phase: CellVM.Phase = .starting) -> CellVM {
        var vm = HostKeeperTests.vm(number, phase)
        vm.revision = .end(of: LogIndex(revision))
        return vm
    }

    private static func digest(_ rows: [CellVM]) -> UInt64 {
        rows.reduce(0) { $0 &+ WorkChanges.digest($1.id, $1.revision) }
    }

    private func keeper(_ rows: [CellVM]) -> HostKeeperTests.Pair {
        var pair = HostKeeperTests.Pair()
        pair.step()
        pair.answer(rows)
        return pair
    }

    @Test func `what changed takes the place of what was, and what is named no more goes`() throws {
        let rows = (1...3).map { Self.vm($0) }
        var pair = keeper(rows)
        #expect(pair.keeper.known == rows)
        pair.now = pair.now + .seconds(1)
        pair.step()
        guard case .hostWork(_, since: LogIndex(11), takesChanges: true)? = pair.queries.last else {
            Issue.record("\(pair.queries)")
            return
        }
        let new = [Self.vm(2, revision: 12), Self.vm(4, revision: 12)]
        let all = [rows[0], new[0], new[1]]
        let changes = WorkChanges(vms: new, ids: all.map(\.id), digest: Self.digest(all))
        pair.answer(.workChanges(changes, workIndex: LogIndex(12), lease: 3_000))
        #expect(pair.keeper.known == all)
        #expect(pair.orders.contains { $0.vm == VMID(4) })
    }

    @Test func `who has other rows begins nothing by them, and takes all anew`() throws {
        let rows = (1...3).map { Self.vm($0) }
        var pair = keeper(rows)
        pair.now = pair.now + .seconds(1)
        pair.step()
        pair.orders = []
        let new = Self.vm(4, revision: 12)
        let changes = WorkChanges(vms: [new], ids: (rows + [new]).map(\.id), digest: 7)
        pair.answer(.workChanges(changes, workIndex: LogIndex(12), lease: 3_000))
        #expect(pair.orders.isEmpty && pair.keeper.known == rows)
        pair.now = pair.now + .seconds(1)
        pair.step()
        guard case .hostWork(_, since: .zero, _)? = pair.queries.last else {
            Issue.record("\(pair.queries)")
            return
        }
        pair.answer(rows + [new])
        #expect(pair.keeper.known == rows + [new] && pair.orders.contains { $0.vm == VMID(4) })
    }
}
