internal import ClusterBase
package import FleetModel

// What is kept free for losses is judged by the cell. Here, what it would refuse is not asked for, so that a VM waits for that
// reason and is tried again when more is free.

/// The reserve's part of a plan.
struct ReservePlan: Sendable {
    /// What is left when all that is under way has its place; nil where nothing is judged by it.
    var left: ReserveStanding?
    /// The least that was left when something was refused for it.
    var refusedAt: SIMD4<Int64>?
}

extension CellKeeper {
    /// Counts what is under way, and has what was refused tried again where more is left than then. O(under way).
    mutating func beginReserve() {
        reserve.left = nil
        if var left = view.reserve, !left.isCounting {
            // hash order: a sum, and the largest
            for (id, asked) in pending {
                guard case .place = asked.kind, !asked.isNomination, let vm = view.vms[id], vm.place == nil,
                    !vm.isOwedAPlace
                else { continue }
                left.take(vm.demand, counts: vm.startsElsewhereOncePlaced)
            }
            reserve.left = left
        }
        guard let refusedAt = reserve.refusedAt else { return }
        if let left = reserve.left, !any(left.slack.vector .> refusedAt) { return }
        reserve.refusedAt = nil
        queue.roomAppearedAnywhere()
    }

    /// Counts VMs that are to have places; false where they would leave too little, and then none is counted.
    mutating func useReserve(_ vms: [CellVM]) -> Bool {
        guard var left = reserve.left, !mutated(.reserveNotJudged) else { return true }
        // What is owed a place is counted where it waits.
        for vm in vms where !vm.isOwedAPlace {
            let counts = vm.startsElsewhereOncePlaced
            if !vm.mayUseReserve, left.lack(for: vm.demand, counts: counts) != nil {
                let slack = reserve.left?.slack.vector ?? .zero
                let least = reserve.refusedAt ?? slack
                reserve.refusedAt = least.replacing(with: slack, where: slack .< least)
                return false
            }
            left.take(vm.demand, counts: counts)
        }
        reserve.left = left
        return true
    }

    /// Why VMs that wait don't get their places, as far as it is for what is kept free; nil where it is not.
    func reserveText(_ vms: [CellVM]) -> String? {
        guard var left = reserve.left ?? view.reserve else { return nil }
        for vm in vms where CellKeeper.isWaiting(vm) && !vm.mayUseReserve {
            let counts = vm.startsElsewhereOncePlaced
            if let lack = left.lack(for: vm.demand, counts: counts) { return left.text(lack, hostName) }
            left.take(vm.demand, counts: counts)
        }
        return nil
    }
    func reserveText(_ vm: CellVM) -> String? { reserveText([vm]) }

    /// What a plan says where a host as it would be leaves too little for losses. O(VMs).
    func reserveNotes(_ id: HostID, as changed: CellHost?, isRefused: Bool) -> [String] {
        guard let before = view.reserve, let after = view.reserve(if: id, were: changed),
            let breach = after.breach(after: before, hostName)
        else { return [] }
        return [isRefused ? "the cell refuses it: \(breach)" : breach]
    }

    /// What is kept free for losses and is not there.
    package var reserveAtRisk: CellRiskWatch.Found? {
        view.reserve?.shortage(hostName).map { CellRiskWatch.Found(.reserve, $0) }
    }

    /// Of each kind of amount: whose loss is the worst.
    package func worstLosses(_ standing: ReserveStanding) -> [[String]] {
        ResourceKind.allCases.map { standing.worstNames($0, hostName) }
    }
}
