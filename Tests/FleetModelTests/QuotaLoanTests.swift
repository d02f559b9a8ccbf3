import ClusterBase
import FleetModel
import Testing

@Suite struct QuotaLoanTests {
    private static let tenant = "t"
    private static let one = QuotaShare(vms: 1, CellBench.spec().charge)

    /// Three cells; the first has a quota, the others nothing of it.
    private func cells(_ quota: Quota) throws -> [CellBench] {
        try (1...3).map { number in
            var cell = CellBench()
            cell.group = GroupID(.cell, number: UInt64(number))
            cell.level = FeatureLevel.cells
            try cell.must(
                .setSlice(tenant: Self.tenant, revision: Revision(256), number == 1 ? quota : quota.emptied))
            return cell
        }
    }

    private func slice(_ cell: CellBench) throws -> TenantSlice {
        for case .slice(_, let slice?) in try cell.rows(.slice(Self.tenant)) { return slice }
        return TenantSlice(tenant: Self.tenant)
    }

    private func lend(_ vms: Int64, to: UInt64) -> CellCommand.Operation {
        .lendQuota(tenant: Self.tenant, to: to, QuotaShare(vms: vms))
    }

    private func take(_ loan: QuotaLoan, from: UInt64) -> CellCommand.Operation {
        .takeQuota(tenant: Self.tenant, from: from, number: loan.number, loan.share)
    }

    @Test func `what is lent is gone at once, comes once, and lets VMs in where it is`() throws {
        var cells = try cells(Quota(vmCount: 4))
        let creation = VMCreation(name: "a", tenant: Self.tenant, spec: CellBench.spec())
        guard case .quotaExceeded? = try cells[1].refusal(.createVMs([creation], isAtomic: false)) else {
            Issue.record("a VM was let in without a quota")
            return
        }
        try cells[0].create("x", tenant: Self.tenant)
        guard case .quotaExceeded? = try cells[0].refusal(lend(4, to: 2)) else {
            Issue.record("what is in use was lent")
            return
        }
        try cells[0].must(lend(3, to: 2))
        #expect(try slice(cells[0]).allowed.vmCount == 1)
        #expect(try cells[0].refusal(lend(1, to: 2)) == .loanUnderWay(2))
        let loan = try #require(try slice(cells[0]).lending.first)
        for _ in 0..<2 { try cells[1].must(take(loan, from: 1)) }
        #expect(try slice(cells[1]).allowed.vmCount == 3)
        try cells[1].create("a", tenant: Self.tenant)
        for _ in 0..<2 {
            try cells[0].must(.settleLoan(tenant: Self.tenant, to: 2, number: loan.number, isTaken: true))
        }
        #expect(try slice(cells[0]).lending.isEmpty && slice(cells[0]).allowed.vmCount == 1)
        // A later one of the same lender has a higher number, and the old one comes no more.
        try cells[1].must(lend(2, to: 1))
        let back = try #require(try slice(cells[1]).lending.first)
        try cells[0].must(take(back, from: 2))
        try cells[1].must(take(loan, from: 1))
        #expect(try slice(cells[0]).allowed.vmCount == 3 && slice(cells[1]).allowed.vmCount == 1)
    }

    @Test func `a closed cell takes nothing more, says what it took, and closes only without loans`() throws {
        var cells = try cells(Quota(vmCount: 4))
        try cells[0].must(lend(1, to: 2))
        let first = try #require(try slice(cells[0]).lending.first)
        try cells[1].must(take(first, from: 1))
        #expect(try cells[1].refusal(.closeCell) == .cellInUse("a part of the quota of tenant t"))
        try cells[1].must(lend(1, to: 1))
        let back = try #require(try slice(cells[1]).lending.first)
        #expect(try cells[1].refusal(.closeCell) != nil, "it is not there yet")
        try cells[0].must(take(back, from: 2))
        try cells[1].must(.settleLoan(tenant: Self.tenant, to: 1, number: back.number, isTaken: true))
        try cells[0].must(.settleLoan(tenant: Self.tenant, to: 2, number: first.number, isTaken: true))
        try cells[1].must(.closeCell)
        try cells[0].must(lend(2, to: 2))
        let late = try #require(try slice(cells[0]).lending.first)
        #expect(try cells[1].refusal(take(late, from: 1)) == .cellClosed)
        try cells[1].must(take(first, from: 1))
        try cells[0].must(.settleLoan(tenant: Self.tenant, to: 2, number: late.number, isTaken: false))
        #expect(try slice(cells[0]).allowed.vmCount == 4)
    }

    @Test func `others lend what is missing, those with the most first, and none where it is not enough`() {
        func slice(_ vms: UInt64, used: UInt64 = 0) -> TenantSlice {
            var slice = TenantSlice(tenant: Self.tenant, quota: Quota(vmCount: vms))
            slice.usedCount = used
            return slice
        }
        func loans(_ lenders: [TenantSlice], atMost: Int = 4) -> [String] {
            slice(0, used: 3).loans(for: Self.one, from: lenders, atMost: atMost).map {
                "\($0.lender): \($0.share.vector[0])"
            }
        }
        #expect(loans([slice(9), slice(30, used: 10)]) == ["1: 8"], "four are missing, and a quarter of the rest")
        #expect(loans([slice(3), slice(1)]) == ["0: 3", "1: 1"])
        #expect(loans([slice(2), slice(1)]) == [])
        #expect(loans([slice(3), slice(1)], atMost: 1) == [])
        #expect(slice(1).loans(for: Self.one, from: [slice(5)], atMost: 4).isEmpty, "nothing is missing")
    }

    @Test(arguments: 1...12)
    func `whatever is lost, late or repeated, all cells together give out no more than the quota`(seed: UInt64) throws {
        var random = PRNG(seed: seed)
        var quota: Int64 = 12
        var cells = try cells(Quota(vmCount: UInt64(quota), cpuMillis: 20_000))
        var vms: [(cell: Int, id: VMID)] = []
        var sent: [(from: Int, loan: QuotaLoan)] = []
        var revision: UInt64 = 256
        var made = 0
        func open() throws -> [(from: Int, loan: QuotaLoan)] {
            try cells.indices.flatMap { i in try slice(cells[i]).lending.map { (i, $0) } }
        }
        func isTaken(_ from: Int, _ loan: QuotaLoan) throws -> Bool {
            try slice(cells[Int(loan.to) - 1]).taken.contains {
                $0.from == UInt64(from + 1) && $0.number >= loan.number
            }
        }
        func check() throws {
            var sum = SIMD4<Int64>(repeating: 0)
            var allowed: Int64 = 0
            for cell in cells {
                sum &+= try slice(cell).net.vector
                allowed += Int64(try slice(cell).allowed.vmCount ?? 0)
            }
            for (from, loan) in try open() where try isTaken(from, loan) == false { sum &+= loan.share.vector }
            #expect(sum == SIMD4(repeating: 0), "what is lent comes from somewhere, and goes somewhere once")
            let lent = -(try slice(cells[0]).net.vector[0])
            #expect(allowed <= max(quota, lent), "\(allowed) of \(quota), \(lent) lent")
        }
        for _ in 0..<400 {
            let i = Int(random.below(3))
            switch random.below(8) {
            case 0, 1:
                made += 1
                let creation = VMCreation(name: "v\(made)", tenant: Self.tenant, spec: CellBench.spec())
                if case .items(let items) = try cells[i].apply(.createVMs([creation], isAtomic: false)),
                    case .vm(let id)? = items.first
                {
                    vms.append((i, id))
                    let now = try slice(cells[i])
                    #expect(now.usedCount <= now.allowed.vmCount ?? .max)
                }
            case 2:
                guard !vms.isEmpty else { continue }
                let vm = vms.remove(at: Int(random.below(UInt64(vms.count))))
                try cells[vm.cell].must(.deleteVM(vm.id, generation: nil))
            case 3, 4:
                let share = QuotaShare(
                    vms: Int64(random.below(4)), cpuMillis: Int64(random.below(5)) * 1_000)
                _ = try cells[i].apply(.lendQuota(tenant: Self.tenant, to: random.below(3) + 1, share))
                for loan in try open() where !sent.contains(where: { $0.loan == loan.loan && $0.from == loan.from }) {
                    sent.append(loan)
                }
            case 5:
                // What was sent at any time may come now, and again.
                guard !sent.isEmpty else { continue }
                let (from, loan) = sent[Int(random.below(UInt64(sent.count)))]
                // A lender that settled a loan as taken sends no other before, so only the newest may be unheard of.
                guard try isTaken(from, loan) || slice(cells[from]).lending.contains(loan) else { continue }
                try cells[Int(loan.to) - 1].must(take(loan, from: UInt64(from + 1)))
            case 6:
                for (from, loan) in try open() where try isTaken(from, loan) && random.chance(1, in: 2) {
                    try cells[from].must(
                        .settleLoan(tenant: Self.tenant, to: loan.to, number: loan.number, isTaken: true))
                }
            default:
                // The root's news comes to the first cell, or late to another.
                if random.chance(1, in: 4) {
                    revision += 256
                    quota = Int64(4 + random.below(16))
                }
                let wanted = Quota(vmCount: UInt64(quota), cpuMillis: 20_000)
                try cells[0].must(.setSlice(tenant: Self.tenant, revision: Revision(revision), wanted))
                try cells[i].must(
                    .setSlice(
                        tenant: Self.tenant, revision: Revision(revision), i == 0 ? wanted : wanted.emptied))
            }
            try check()
        }
        for (from, loan) in try open() {
            try cells[Int(loan.to) - 1].must(take(loan, from: UInt64(from + 1)))
            try cells[from].must(.settleLoan(tenant: Self.tenant, to: loan.to, number: loan.number, isTaken: true))
        }
        #expect(try open().isEmpty && vms.count > 0)
        try check()
    }
}
