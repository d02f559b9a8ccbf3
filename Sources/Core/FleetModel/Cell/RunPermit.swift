import ClusterBase

/// That a host may run a VM under an epoch: part of what a lease grants.
package struct RunPermit: Hashable, Comparable, Sendable {
    package var vm: VMID
    package var epoch: UInt64
    package var isolation: VMDescription.Isolation
    package init(_ vm: VMID, epoch: UInt64, isolation: VMDescription.Isolation) {
        self.vm = vm
        self.epoch = epoch
        self.isolation = isolation
    }
    package static func < (a: RunPermit, b: RunPermit) -> Bool { (a.vm, a.epoch) < (b.vm, b.epoch) }

    /// What tells two sets of permits apart; both in ascending order.
    package static func digest(_ permits: [RunPermit]) -> UInt64 {
        var hash = ChainHash(UInt64(permits.count))
        for permit in permits {
            hash.add(permit.vm.rawValue)
            hash.add(permit.epoch)
            hash.add(UInt64(permit.isolation.rawValue))
        }
        return hash.value
    }

    /// What the rows of a host's work let it run, ascending.
    package static func permits(_ rows: [CellVM], on host: HostID) -> [RunPermit] {
        rows.compactMap { $0.permit(on: host) }.sorted()
    }
}

extension CellVM {
    /// The copy that this host may have at most: the VM's own while it is placed there and has not ended, or the one that a
    /// migration brings. After a migration's commit the source has none.
    package func permit(on host: HostID) -> RunPermit? {
        if let arrival {
            // Its memory comes to a copy that waits for the word that it is this cell's.
            guard arrival.sender != nil, let place, place.assignment.host == host else { return nil }
            return RunPermit(id, epoch: place.epoch, isolation: spec.isolation)
        }
        if let place, place.assignment.host == host {
            switch phase {
            // One that is to stop runs until it has.
            case .stopped where !place.isReleasing && !isDeleting: return nil
            case .crashed where !place.isReleasing && !isDeleting && power != .stopped: return nil
            case .looping where !place.isReleasing && !isDeleting && power != .stopped: return nil
            case .waiting, .starting, .running, .paused, .stopping, .unknown, .stopped, .crashed, .looping:
                return RunPermit(id, epoch: place.epoch, isolation: spec.isolation)
            }
        }
        guard let migration, migration.phase == .copying, migration.target.assignment.host == host else { return nil }
        return RunPermit(id, epoch: migration.target.epoch, isolation: spec.isolation)
    }
}
