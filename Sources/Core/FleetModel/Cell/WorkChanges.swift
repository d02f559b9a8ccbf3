import ClusterBase

/// What changed of what a host is to do: rows, and which VMs there are. With the rows that the host has it gives all of them, or,
/// where those are not what the cell thinks, nothing; then the host takes all anew.
package struct WorkChanges: Hashable, Sendable {
    /// Ascending by id.
    package var vms: [CellVM]
    /// Of all that there are, ascending.
    package var ids: [VMID]
    /// Of all of them, as the cell has them.
    package var digest: UInt64

    package init(vms: [CellVM], ids: [VMID], digest: UInt64) {
        self.vms = vms
        self.ids = ids
        self.digest = digest
    }

    /// Of one VM as it is after its last change; the digest of several is their sum.
    package static func digest(_ vm: VMID, _ revision: Revision) -> UInt64 {
        mix64(vm.rawValue &+ mix64(revision.rawValue))
    }

    /// All rows, from those that a host has, ascending; nil when these are not those that the changes begin with.
    package func merged(with known: [CellVM]) -> [CellVM]? {
        var merged: [CellVM] = []
        merged.reserveCapacity(ids.count)
        var (changed, old) = (vms.startIndex, known.startIndex)
        var sum: UInt64 = 0
        for id in ids {
            while old < known.endIndex, known[old].id < id { old += 1 }
            if changed < vms.endIndex, vms[changed].id == id {
                merged.append(vms[changed])
                changed += 1
            } else if old < known.endIndex, known[old].id == id {
                merged.append(known[old])
            } else {
                return nil
            }
            sum &+= WorkChanges.digest(id, merged[merged.count - 1].revision)
        }
        return changed == vms.endIndex && sum == digest ? merged : nil
    }
}
