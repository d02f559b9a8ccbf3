import AdminAPI
import AdminHTTP
import ClusterBase
import FleetModel
import NodeRuntime
import RaftCore
import TLSSession

// Parts of tenants' quotas go to the cells that want them: when one refuses VMs, or a larger one, for a quota, another lends what it has
// and does not use. What is begun here and not ended, the lender's leader ends.

extension AdminPort {
    /// Lenders that are asked for one VM.
    private static let lendersMax = 4

    /// Gets a cell what it lacks for so much more; true when it may be tried again.
    func borrow(
        _ wanted: QuotaShare, of tenant: String, in cell: GroupID, _ asker: FleetAsker, _ done: @escaping (Bool) -> Void
    ) {
        findLoans(wanted, of: tenant, for: cell) { [self] loans in
            if loans.isEmpty { return done(false) }
            var left = loans.count
            var came = 0
            for (lender, share) in loans {
                lend(share, of: tenant, from: lender, to: cell, asker) { isThere in
                    left -= 1
                    came += isThere ? 1 : 0
                    if left == 0 { done(came == loans.count) }
                }
            }
        }
    }

    /// What other cells would lend a cell that is to give out so much more; none where nothing is missing, or they have too little.
    func findLoans(
        _ wanted: QuotaShare, of tenant: String, for cell: GroupID,
        _ done: @escaping ([(lender: GroupID, share: QuotaShare)]) -> Void
    ) {
        let all = cells.map(\.group)
        readAll(.slice(tenant), .linearizable, all) { answers in
            var slices: [(cell: GroupID, slice: TenantSlice)] = []
            for (group, answer) in zip(all, answers) {
                // One that does not answer lends nothing.
                guard case .success(let found) = answer else { continue }
                for row in AdminPort.rows(found.answer).rows {
                    if case .slice(_, let slice?) = row { slices.append((group, slice)) }
                }
            }
            guard let own = slices.first(where: { $0.cell == cell })?.slice else { return done([]) }
            let lenders = slices.filter { $0.cell != cell && $0.slice.lending.allSatisfy { $0.to != cell.number } }
            let loans = own.loans(for: wanted, from: lenders.map(\.slice), atMost: AdminPort.lendersMax)
            done(loans.map { (lenders[$0.lender].cell, $0.share) })
        }
    }

    /// The same for VMs of several tenants, one after the other.
    func borrow(
        for creations: [VMCreation], in cell: GroupID, _ asker: FleetAsker, _ done: @escaping () -> Void
    ) {
        guard let tenant = creations.first?.tenant else { return done() }
        let own = creations.filter { $0.tenant == tenant }
        let charge = own.reduce(Resources.zero) { $0 + $1.spec.charge }
        borrow(QuotaShare(vms: Int64(own.count), charge), of: tenant, in: cell, asker) { [self] _ in
            borrow(for: creations.filter { $0.tenant != tenant }, in: cell, asker, done)
        }
    }

    func lend(
        _ share: QuotaShare, of tenant: String, from lender: GroupID, to cell: GroupID, _ asker: FleetAsker,
        _ done: @escaping (Bool) -> Void
    ) {
        let lending = CellCommand.Operation.lendQuota(tenant: tenant, to: cell.number, share)
        command(lending, .once(), lender, asker) { [self] result in
            guard case .success(let lent) = result, lent.outcome == .done else { return done(false) }
            let number = lent.revision.rawValue
            let taking = CellCommand.Operation.takeQuota(
                tenant: tenant, from: lender.number, number: number, share)
            command(taking, .once(), cell, asker) { [self] result in
                guard case .success(let taken) = result, taken.outcome == .done else { return done(false) }
                let settling = CellCommand.Operation.settleLoan(
                    tenant: tenant, to: cell.number, number: number, isTaken: true)
                command(settling, .once(), lender, asker) { _ in done(true) }
            }
        }
    }

    /// Gives back what was lent to a cell, to the first one, as far as it is not in use.
    func returnLoans(of cell: GroupID, _ asker: FleetAsker, _ done: @escaping () -> Void) {
        guard let first = cells.first?.group, first != cell else { return done() }
        openSlices([cell], asker) { [self] found in
            guard case .success(let slices) = found else { return done() }
            let owing = slices.map(\.slice).filter { $0.net != .zero }
            returnLoans(owing[...], from: cell, to: first, asker, done)
        }
    }

    private func returnLoans(
        _ slices: ArraySlice<TenantSlice>, from cell: GroupID, to first: GroupID, _ asker: FleetAsker,
        _ done: @escaping () -> Void
    ) {
        guard let slice = slices.first else { return done() }
        var owed = QuotaShare.zero
        var lacking = QuotaShare.zero
        for lane in 0..<4 {
            owed.vector[lane] = max(0, slice.net.vector[lane])
            lacking.vector[lane] = max(0, -slice.net.vector[lane])
        }
        func next() { returnLoans(slices.dropFirst(), from: cell, to: first, asker, done) }
        func giveBack() {
            if owed == .zero { return next() }
            lend(owed, of: slice.tenant, from: cell, to: first, asker) { _ in next() }
        }
        // More went with VMs than it had, where the quota was lowered.
        if lacking == .zero { return giveBack() }
        lend(lacking, of: slice.tenant, from: first, to: cell, asker) { _ in giveBack() }
    }

    /// Brings every loan to a closed cell to its end: what it has not taken, it never will.
    func settleLoans(to cell: GroupID, _ asker: FleetAsker, _ done: @escaping (Problem?) -> Void) {
        openSlices(cells.map(\.group).filter { $0 != cell }, asker) { [self] found in
            switch found {
            case .failure(let problem): done(problem)
            case .success(let slices):
                var open: [(lender: GroupID, tenant: String, loan: QuotaLoan)] = []
                for (lender, slice) in slices {
                    for loan in slice.lending where loan.to == cell.number { open.append((lender, slice.tenant, loan)) }
                }
                settle(open[...], to: cell, asker, done)
            }
        }
    }

    private func settle(
        _ open: ArraySlice<(lender: GroupID, tenant: String, loan: QuotaLoan)>, to cell: GroupID, _ asker: FleetAsker,
        _ done: @escaping (Problem?) -> Void
    ) {
        guard let (lender, tenant, loan) = open.first else { return done(nil) }
        let taking = CellCommand.Operation.takeQuota(
            tenant: tenant, from: lender.number, number: loan.number, loan.share)
        command(taking, .once(), cell, asker) { [self] result in
            let isTaken: Bool
            switch result {
            case .failure(let problem): return done(problem)
            case .success(let said):
                switch said.outcome {
                case .done: isTaken = true
                case .refused(.cellClosed): isTaken = false
                case .refused(let refusal): return done(Problem(refusal))
                case .items, .kept:
                    return done(Problem(.internal, "the cell's answer was of another kind; report this"))
                }
            }
            let settling = CellCommand.Operation.settleLoan(
                tenant: tenant, to: cell.number, number: loan.number, isTaken: isTaken)
            command(settling, .once(), lender, asker) { [self] result in
                if case .failure(let problem) = result { return done(problem) }
                settle(open.dropFirst(), to: cell, asker, done)
            }
        }
    }

    /// All slices of these cells.
    private func openSlices(
        _ cells: [GroupID], after: [UInt8]? = nil, _ asker: FleetAsker,
        found: [(cell: GroupID, slice: TenantSlice)] = [],
        _ done: @escaping (Result<[(cell: GroupID, slice: TenantSlice)], Problem>) -> Void
    ) {
        guard let cell = cells.first else { return done(.success(found)) }
        read(.list(.slices, after: after, limit: 0), .linearizable, cell) { [self] result in
            switch result {
            case .failure(let problem): done(.failure(problem))
            case .success(let read):
                let (rows, resumeAfter) = AdminPort.rows(read.answer)
                let more = rows.compactMap { row in
                    if case .slice(_, let slice?) = row { (cell: cell, slice: slice) } else { nil }
                }
                openSlices(
                    resumeAfter == nil ? Array(cells.dropFirst()) : cells, after: resumeAfter, asker,
                    found: found + more,
                    done)
            }
        }
    }
}
