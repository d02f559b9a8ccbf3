import ClusterBase
internal import Schema

/// What the root declared of a region, as a cell knows it.
package struct CellRegion: Hashable, Sendable {
    package var name: String
    /// Of the declaration; an older one is not followed.
    package var epoch: UInt64
    package var isLost: Bool
    package init(name: String, epoch: UInt64, isLost: Bool) {
        self.name = name
        self.epoch = epoch
        self.isLost = isLost
    }

    init(_ wire: WireCellRegion) { self.init(name: wire.name, epoch: wire.epoch, isLost: wire.isLost) }
    var wire: WireCellRegion { WireCellRegion(name: name, epoch: epoch, isLost: isLost) }
}

// Regions that are lost, and what that changes: the brake does not hold for their hosts.

extension CellStep {
    mutating func noteRegion(_ region: CellRegion) -> CellResult.Outcome {
        if region.name.isEmpty || !CellCheck.isText(region.name) || region.epoch == 0 {
            return .refused(.invalid(field: "region", "name one, with the epoch of the root's declaration"))
        }
        let at = summary.regions.firstIndex { $0.name >= region.name } ?? summary.regions.count
        if at < summary.regions.count, summary.regions[at].name == region.name {
            let known = summary.regions[at]
            if region.epoch < known.epoch { return .refused(.regionOutdated(known.epoch)) }
            if region.epoch == known.epoch { return .done }
            summary.regions[at] = region
            if known.isLost != region.isLost { noteChange(region) }
            return .done
        }
        summary.regions.insert(region, at: at)
        if summary.regions.count > CellLimits.regionsMax {
            let back = summary.regions.filter { !$0.isLost }.min { $0.epoch < $1.epoch }
            let oldest = back ?? summary.regions.min { $0.epoch < $1.epoch }
            summary.regions.removeAll { $0 == oldest }
        }
        if region.isLost { noteChange(region) }
        return .done
    }

    private mutating func noteChange(_ region: CellRegion) {
        note(
            region.isLost ? "region.lost" : "region.back",
            region.isLost
                ? "region \(region.name) was declared lost, with epoch \(region.epoch): its hosts are given up when their leases end"
                : "region \(region.name) is back, with epoch \(region.epoch)")
    }

    private func isLost(_ region: String) -> Bool { summary.regions.contains { $0.name == region && $0.isLost } }

    /// Whether so many hosts were lost lately, and have not come back, that a person must look first. One always may be. Hosts
    /// of a region that was declared lost are let go, and are not held against the others.
    mutating func brakeHolds(for host: CellHost) throws(StoreError) -> Bool {
        let hasLost = summary.regions.contains(where: \.isLost)
        if hasLost && isLost(host.about.locality.region) { return false }
        let start = LogTime(time.rawValue > CellLimits.brakeWindow ? time.rawValue - CellLimits.brakeWindow : 0)
        var old: [[UInt8]] = []
        var down: [UInt64] = []
        try access.scan(.prefix([CellKey.Kind.down])) { key, _ in
            if key.precedes(CellKey.down(start, HostID(0))) {
                old.append(key)
            } else if let id = key.bigEndian64(at: key.count - 8) {
                down.append(id)
            }
            return true
        }
        for key in old { access.delete(key) }
        var lost: UInt64 = 0
        var hosts = summary.hosts
        for id in down {
            if hasLost, let other = try self.host(HostID(id)), isLost(other.about.locality.region) {
                hosts -= min(hosts, 1)
            } else {
                lost += 1
            }
        }
        let share = try setting(.brakeMillis)
        return lost > 0 && (lost + 1) * 1_000 > hosts * share
    }
}
