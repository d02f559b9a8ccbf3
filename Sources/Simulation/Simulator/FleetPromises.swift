import ClusterBase
import FleetModel

/// What a fleet has promised of its VMs, whichever cell they are in.
final class FleetPromises {
    // hash order: looked up only
    var permissions: [FleetChecker.VMEpoch: FleetChecker.Permission] = [:]
    /// Moves of which all memory is at the destination.
    // hash order: looked up only
    var committedMoves: Set<FleetChecker.VMEpoch> = []
    /// VMs by their names, which are never given twice.
    // hash order: looked up only
    var named: [String: VMID] = [:]
    // hash order: looked up, or read sorted
    var everSeen: Set<VMID> = []
    /// Somebody asked for their deletion.
    // hash order: looked up only
    var deletions: Set<VMID> = []
}

// What several cells promise together.

extension Fleet {
    /// Replays what became committed in each cell.
    func follow(_ clusters: [ClusterChecker]) {
        var isNews = false
        for (cell, checker) in checkers.enumerated() where checker.follow(clusters[cell], self) { isNews = true }
        if isNews && profile.cells > 1, let broken = brokenBetweenCells { world.fail(broken.promise, broken.detail) }
    }

    /// One cell owns a VM: the one that has it, or, once its way is committed, the one that keeps what it needs. Of quotas there
    /// is more than was given only while both cells of a way count the VM.
    private var brokenBetweenCells: FleetRules.Broken? {
        // hash order: looked up, or read by sorted keys
        var owners: [VMID: [Int]] = [:]
        // hash order: looked up, or read by sorted keys
        var kept: [VMID: [(cell: Int, arrival: CellVM.Arrival)]] = [:]
        // hash order: read by sorted keys
        var surplus: [String: SIMD4<Int64>] = [:]
        for (cell, checker) in checkers.enumerated() {
            for id in checker.view.vms.keys.sorted() {
                guard let vm = checker.view.vms[id] else { continue }
                if let arrival = vm.arrival {
                    kept[id, default: []].append((cell, arrival))
                    surplus[vm.tenant, default: .zero] &-= arrival.share.vector
                } else {
                    owners[id, default: []].append(cell)
                }
            }
            for tenant in checker.view.slices.keys.sorted() {
                surplus[tenant, default: .zero] &+= checker.view.slices[tenant]?.net.vector ?? .zero
            }
        }
        for (cell, checker) in checkers.enumerated() {
            for move in checker.moves where move.phase == .committed {
                let there = kept[move.vm]?.first {
                    $0.arrival.from == UInt64(cell + 1) && $0.arrival.number == move.number
                }
                guard let there, there.cell + 1 == Int(move.to) else { continue }
                owners[move.vm, default: []].append(there.cell)
                surplus[move.tenant, default: .zero] &+= move.share.vector
            }
        }
        for (cell, checker) in checkers.enumerated() {
            for move in checker.hostMoves where move.phase == .committed {
                for id in kept.keys.sorted() {
                    for there in kept[id] ?? []
                    where there.arrival.host == move.host && there.arrival.from == UInt64(cell + 1)
                        && there.arrival.number == move.number && there.cell + 1 == Int(move.to)
                    {
                        owners[id, default: []].append(there.cell)
                        guard let tenant = checkers[there.cell].view.vms[id]?.tenant else { continue }
                        surplus[tenant, default: .zero] &+= there.arrival.share.vector
                    }
                }
            }
        }
        for tenant in surplus.keys.sorted() where surplus[tenant] != .zero {
            return FleetRules.Broken(
                promise: "no quota is exceeded",
                detail: "cells have \(surplus[tenant] ?? .zero) more of tenant \(tenant)'s quota than they were given")
        }
        for id in checkers[0].everSeen {
            let cells = owners[id] ?? []
            if cells.count > 1 {
                return FleetRules.Broken(promise: "a VM is one cell's", detail: "VM \(id) is owned by cells \(cells)")
            }
            if cells.isEmpty && !checkers[0].mayBeGone(id) {
                return FleetRules.Broken(
                    promise: "an acknowledged VM exists", detail: "VM \(id) is no cell's, kept by \(kept[id] ?? [])")
            }
        }
        return nil
    }
}
