import ClusterBase

// Parts of tenants' quotas that go from cell to cell. What is lent is gone here before it can be anywhere else, and comes
// there once, so that what all cells may give out together is never more than the quota.
//
//     lender: lendQuota ─▶ on its way ─▶ taker: takeQuota, once by its number ─▶ lender: settleLoan, taken
//                                            └─ closed, and never open again ──▶ lender: settleLoan, not taken: it is back

extension CellStep {
    mutating func lendQuota(
        _ tenant: String, to cell: UInt64, _ share: QuotaShare
    ) throws(StoreError) -> CellResult.Outcome {
        if !CellCheck.isName(tenant) { return .refused(.invalid(field: "tenant", CellCheck.nameRule)) }
        if cell == number || cell == 0 { return .refused(.invalid(field: "to", "name another cell")) }
        if share == .zero || !Self.isShare(share) {
            return .refused(.invalid(field: "share", "amounts are not negative, and one of them is more than 0"))
        }
        var slice = try slice(tenant)
        if slice.lending.contains(where: { $0.to == cell }) { return .refused(.loanUnderWay(cell)) }
        let free = slice.free
        for lane in 0..<4 where share.vector[lane] > free.vector[lane] {
            return .refused(
                .quotaExceeded(
                    tenant: tenant, resource: QuotaShare.names[lane],
                    limit: slice.use.vector[lane] + free.vector[lane], used: slice.use.vector[lane],
                    asked: share.vector[lane]))
        }
        slice.net.vector &-= share.vector
        slice.lending.append(QuotaLoan(to: cell, number: revision.rawValue, share: share))
        put(slice)
        return .done
    }

    mutating func takeQuota(
        _ tenant: String, _ receipt: QuotaReceipt, _ share: QuotaShare
    ) throws(StoreError) -> CellResult.Outcome {
        if !CellCheck.isName(tenant) { return .refused(.invalid(field: "tenant", CellCheck.nameRule)) }
        if !Self.isShare(share) { return .refused(.invalid(field: "share", "amounts are not negative")) }
        var slice = try slice(tenant)
        if slices[tenant]?.record == nil && summary.tenants >= CellLimits.tenantsMax {
            return .refused(.tooMany(.tenants))
        }
        if let i = slice.taken.firstIndex(where: { $0.from == receipt.from }) {
            if slice.taken[i].number >= receipt.number { return .done }
            if summary.isClosed { return .refused(.cellClosed) }
            slice.taken[i] = receipt
        } else {
            if summary.isClosed { return .refused(.cellClosed) }
            slice.taken.append(receipt)
        }
        slice.net.vector &+= share.vector
        put(slice)
        return .done
    }

    mutating func settleLoan(
        _ tenant: String, to cell: UInt64, _ number: UInt64, _ isTaken: Bool
    ) throws(StoreError) -> CellResult.Outcome {
        if !CellCheck.isName(tenant) { return .refused(.invalid(field: "tenant", CellCheck.nameRule)) }
        var slice = try slice(tenant)
        guard let i = slice.lending.firstIndex(where: { $0.to == cell && $0.number == number }) else { return .done }
        let loan = slice.lending.remove(at: i)
        if !isTaken { slice.net.vector &+= loan.share.vector }
        put(slice)
        return .done
    }

    static func isShare(_ share: QuotaShare) -> Bool {
        (0..<4).allSatisfy { (0...Resources.amountMax).contains(share.vector[$0]) }
    }

    /// One whose loans are not all back.
    func tenantWithLoans() throws(StoreError) -> String? {
        var tenants = slices.keys.sorted()
        var bad: [UInt8]?
        try access.scan(.prefix([CellTable.slices.kind])) { key, _ in
            guard let tenant = String(validating: key.dropFirst(), as: UTF8.self) else {
                bad = key
                return false
            }
            if slices[tenant] == nil { tenants.append(tenant) }
            return true
        }
        if let bad { throw CellKey.corrupt(bad) }
        for tenant in tenants {
            let slice =
                if let cached = slices[tenant] { cached.record } else {
                    try access.record(TenantSlice.self, CellTable.slices.key(tenant))
                }
            if let slice, slice.net != .zero || !slice.lending.isEmpty { return tenant }
        }
        return nil
    }
}
