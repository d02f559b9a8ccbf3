import AdminAPI
import AdminHTTP
import ClusterBase
import FleetModel
import RaftCore
import TLSSession

// Shared disks that VMs left, as people ask for them.

extension AdminPort {
    static let remainsShownMax = 10_000

    func listRemains(
        _ tenant: String?, _ cells: ArraySlice<GroupID>, _ sofar: [RemainsInfo], after: [UInt8]?, _ asker: FleetAsker,
        through: LogIndex? = nil
    ) {
        guard let cell = cells.first, sofar.count < AdminPort.remainsShownMax else {
            let listing = Listing(Array(sofar.prefix(AdminPort.remainsShownMax)))
            // Over several cells there is no one index.
            return answer(asker, AdminResponse(json: listing.json, index: asker.cell == nil ? nil : through))
        }
        read(.list(.remains, after: after, limit: 0), .linearizable, cell) { [self] result in
            switch result {
            case .failure(let problem): fail(asker, problem)
            case .success(let found):
                let (rows, next) = AdminPort.rows(found.answer)
                let name = agent.view.cell(cell)?.name ?? "\(cell)"
                let more = rows.compactMap { row -> RemainsInfo? in
                    guard case .remains(_, let left?) = row, asker.reaches(left.tenant),
                        tenant.map({ $0 == left.tenant }) ?? true
                    else { return nil }
                    return RemainsInfo(left, cell: name)
                }
                // Of several pages the first holds all that a later one was sure to hold.
                listRemains(
                    tenant, next == nil ? cells.dropFirst() : cells, sofar + more, after: next, asker,
                    through: through ?? found.answer.index)
            }
        }
    }

    func forgetRemains(_ vm: VMID, _ tenant: String, _ cells: ArraySlice<GroupID>, _ asker: FleetAsker) {
        guard let cell = cells.first else {
            return fail(asker, Problem(.notFound, "no disks of VM \(vm) are listed for this tenant; see /v1/remains"))
        }
        read(.one(.remains, key: AdminPort.bytes(vm.rawValue)), .linearizable, cell) { [self] result in
            switch result {
            case .failure(let problem): fail(asker, problem)
            case .success(let found):
                guard case .remains(_, let left?)? = AdminPort.rows(found.answer).rows.first, left.tenant == tenant
                else {
                    return forgetRemains(vm, tenant, cells.dropFirst(), asker)
                }
                guard !left.kept.isEmpty else {
                    return fail(
                        asker,
                        Problem(.notPossible, "a host is to remove disks of VM \(vm), which then are gone here too"))
                }
                command(.dropRemains([CellRemains.Left(vm, left.kept)]), cell, asker) { [self] result in
                    switch result {
                    case .failure(let problem): fail(asker, problem)
                    case .success(let done):
                        let said = Acceptance("the kept disks of VM \(vm) are listed no more")
                        answer(asker, AdminResponse(json: said.json, index: done.revision.index))
                    }
                }
            }
        }
    }
}
