import ClusterBase

/// What lists of VMs are filtered by: each VM has a row for each of its marks, so that a list looks at no others.
package enum CellMark: Hashable, Sendable {
    case phase(CellVM.Phase)
    /// Groups of this name, whichever tenant's.
    case group(String)
    case label(String, String)
}

extension CellKey {
    /// The keys of the rows of a mark begin so; a VM's id is behind it. Words hold no zeros.
    static func marked(_ mark: CellMark) -> [UInt8] {
        switch mark {
        case .phase(let phase): [Kind.vmMark, 1, UInt8(truncatingIfNeeded: phase.rawValue), 0]
        case .group(let name): [Kind.vmMark, 2] + name.utf8 + [0]
        case .label(let key, let value): [Kind.vmMark, 3] + key.utf8 + [0] + value.utf8 + [0]
        }
    }

    static func marked(_ mark: CellMark, _ vm: VMID) -> [UInt8] {
        var key = marked(mark)
        key.appendBigEndian(vm.rawValue)
        return key
    }
}

extension CellVM {
    /// All but its phase.
    fileprivate var lastingMarks: [CellMark] {
        spec.groups.map { .group($0) } + spec.labels.map { .label($0.key, $0.value) }
    }
}

extension CellStep {
    mutating func followMarks(_ old: CellVM?, _ new: CellVM?, _ id: VMID) {
        if id.rawValue > summary.markedThrough { return }
        if old?.phase != new?.phase {
            if let old { access.delete(CellKey.marked(.phase(old.phase), id)) }
            if let new { access.put(CellKey.marked(.phase(new.phase), id), []) }
        }
        if let old, let new, old.spec.groups == new.spec.groups, old.spec.labels == new.spec.labels { return }
        // hash order: looked up only
        let before = Set(old?.lastingMarks ?? [])
        // hash order: looked up only
        let after = Set(new?.lastingMarks ?? [])
        for mark in old?.lastingMarks ?? [] where !after.contains(mark) { access.delete(CellKey.marked(mark, id)) }
        for mark in new?.lastingMarks ?? [] where !before.contains(mark) { access.put(CellKey.marked(mark, id), []) }
    }

    /// Marks some of the VMs that were there before there were marks, until all have theirs.
    mutating func markMore() throws(StoreError) {
        if level < FeatureLevel.marks || summary.areAllMarked { return }
        let range = KeyRange(
            from: CellTable.vms.key(summary.markedThrough) + [0], to: [CellTable.vms.kind + 1])
        var vms: [CellVM] = []
        var bad: [UInt8]?
        try access.scan(range) { key, value in
            guard let vm = CellVM.decode(value) else {
                bad = key
                return false
            }
            vms.append(vm)
            return vms.count < CellLimits.markedAtOnceMax
        }
        if let bad { throw CellKey.corrupt(bad) }
        summary.markedThrough = .max
        for vm in vms { followMarks(nil, vm, vm.id) }
        if vms.count == CellLimits.markedAtOnceMax, let last = vms.last { summary.markedThrough = last.id.rawValue }
    }
}
