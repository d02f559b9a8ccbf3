package import ClusterBase
package import FleetModel

/// Finds out that a region is lost, or back; runs where the root group is led, so that a quorum of the root has to agree by
/// taking the command.
///
///     heard ──(none of its nodes for `region-lost-after`, and most of the others are)──▶ lost ──(most of its nodes again)──▶ back
///
/// Only what was found out by itself is taken back by itself: who declares a region lost says when it is back, also where it was
/// lost already.
package enum RegionWatch {
    package static let commandsMax = 16

    /// What the root should be asked now. O(nodes).
    package static func plan(_ view: RootView, _ watch: NodeWatch, now: Instant) -> [RootCommand.Operation] {
        guard let cluster = view.cluster, cluster.level >= FeatureLevel.regions else { return [] }
        let after = view.settings[.regionLostAfter]
        if after == 0 && !cluster.regions.contains(where: { $0.isLost && $0.isAutomatic }) { return [] }
        let silenceMax = Nanoseconds.milliseconds(Int64(clamping: after))
        let stableFor = Nanoseconds.milliseconds(Int64(clamping: view.settings[.stableFor]))
        // hash order: looked up only
        var counts: [String: Count] = [:]
        var all = Count()
        for node in view.nodes where node.state == .active {
            let presence = watch.presence(of: node.id, at: now)
            let one = Count(
                nodes: 1, heard: presence == nil ? 0 : 1, stable: presence.map { $0 >= stableFor } ?? false ? 1 : 0,
                silent: watch.silence(of: node.id, at: now) >= silenceMax ? 1 : 0)
            counts[node.about.locality.region, default: Count()].add(one)
            all.add(one)
        }
        var operations: [RootCommand.Operation] = []
        for name in view.regionNames where operations.count < commandsMax {
            guard let here = counts[name] else { continue }
            let standing = view.region(name)
            if let standing, standing.isLost {
                if standing.isAutomatic && here.stable * 2 > here.nodes {
                    operations.append(
                        .declareRegion(name: name, isLost: false, epoch: standing.epoch, isAutomatic: true))
                }
            } else if after > 0, here.silent == here.nodes, (all.heard - here.heard) * 2 > all.nodes - here.nodes {
                operations.append(
                    .declareRegion(name: name, isLost: true, epoch: standing?.epoch ?? 0, isAutomatic: true))
            }
        }
        return operations
    }

    private struct Count {
        var nodes = 0
        var heard = 0
        /// Heard without a break for long enough.
        var stable = 0
        var silent = 0

        mutating func add(_ other: Count) {
            nodes += other.nodes
            heard += other.heard
            stable += other.stable
            silent += other.silent
        }
    }
}
