import AdminAPI
import AdminHTTP
import ClusterBase
import FleetModel
import NodeRuntime
import RaftCore
import TLSSession

// VMs that are to go to another cell. What is begun here the leader of the VM's cell brings to its end.

extension AdminPort {
    static func isThereAlready(_ cell: String) -> Problem {
        Problem(.notPossible, "the VM is in cell \(cell) already; name another one")
    }

    func moveVM(_ reference: VMReference, to name: String, isCold: Bool, _ cell: GroupID, _ asker: FleetAsker) {
        guard let target = cells.first(where: { $0.name == name }) else { return fail(asker, AdminPort.noCell(name)) }
        withVM(reference, cell, asker) { [self] vm in
            if target.group == cell { return fail(asker, AdminPort.isThereAlready(name)) }
            guard let home = cells.first(where: { $0.group == cell }), home.region != target.region else {
                return begin(vm, to: target, request: [], isCold, cell, asker)
            }
            // Its name has to be free there as well, and stays free for it.
            let request = asker.request(2) ?? Crypto.randomBytes(CellLimits.requestBytes)
            let wish = VMCreation(name: vm.name, tenant: vm.tenant, spec: vm.spec, power: vm.power)
            holdName(of: wish, for: target.group, request, replaces: [], asker) { [self] held in
                switch held {
                case .failure(let problem): fail(asker, problem)
                case .success(let (_, request)): begin(vm, to: target, request: request, isCold, cell, asker)
                }
            }
        }
    }

    /// Has the cell that the VM leaves begin.
    func beginning(
        _ vm: CellVM, to target: RootCell, request: [UInt8], isCold: Bool, _ cell: GroupID
    ) -> CellCommand.Operation {
        // Within a region its name stays held where the region's names are kept, and was not if it is older than the second cell.
        let home = cells.first { $0.group == cell }
        let keepsName =
            home?.region == target.region && cells.first { $0.region == target.region }?.group == cell
        return .moveVM(vm.id, to: target.group.number, request: request, keepsName: keepsName, isCold: isCold)
    }

    private func begin(
        _ vm: CellVM, to target: RootCell, request: [UInt8], _ isCold: Bool, _ cell: GroupID, _ asker: FleetAsker
    ) {
        command(beginning(vm, to: target, request: request, isCold: isCold, cell), cell, asker) { [self] result in
            switch result {
            case .failure(let problem): fail(asker, problem)
            case .success(let done):
                if case .refused(let refusal) = done.outcome {
                    return fail(asker, problem(refusal, cell), done.revision.index)
                }
                var response = AdminResponse(
                    Acceptance("the VM goes to cell \(target.name) as soon as that has room for it"), status: 202)
                response.index = done.revision.index
                answer(asker, response)
            }
        }
    }
}
