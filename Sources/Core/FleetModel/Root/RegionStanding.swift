import ClusterBase
internal import Schema

/// Whether a region counts as lost.
///
///     (never heard of) ──lost, epoch 1──▶ lost ──back, epoch 2──▶ back ──lost, epoch 3──▶ …
///
/// What the root's leader found out by itself it takes back by itself, until a person declares the same: then it is that
/// person's.
///
/// Nothing is started elsewhere by it: that is for leases to allow. It lets cells give up all hosts of the region, however many
/// they are, and lets their VMs go to other regions.
package struct RegionStanding: Hashable, Sendable {
    package var name: String
    /// One higher with every declaration of any region.
    package var epoch: UInt64
    package var isLost: Bool
    package var since: LogTime
    package var by: String
    /// The root's leader found it out by itself.
    package var isAutomatic: Bool
    /// The last that was planned for it. As long as there is one, it alone says who leaves and who goes back.
    package var plan: RegionPlan?
    package init(
        name: String, epoch: UInt64, isLost: Bool, since: LogTime = .zero, by: String = "", isAutomatic: Bool = false,
        plan: RegionPlan? = nil
    ) {
        self.name = name
        self.epoch = epoch
        self.isLost = isLost
        self.since = since
        self.by = by
        self.isAutomatic = isAutomatic
        self.plan = plan
    }

    init(_ wire: WireRegionStanding) {
        self.init(
            name: wire.name, epoch: wire.epoch, isLost: wire.isLost, since: LogTime(wire.since), by: wire.by,
            isAutomatic: wire.isAutomatic, plan: wire.plan.flatMap(RegionPlan.init))
    }
    var wire: WireRegionStanding {
        WireRegionStanding(
            name: name, epoch: epoch, isLost: isLost, since: since.rawValue, by: by, isAutomatic: isAutomatic,
            plan: plan?.wire)
    }
}

extension RootView {
    /// What was last declared of a region; nil where nothing ever was.
    package func region(_ name: String) -> RegionStanding? { cluster?.regions.first { $0.name == name } }
    /// Of the nodes that are in the cluster, each once, ascending. Places that nobody named are none.
    package var regionNames: [String] {
        // hash order: read sorted
        let names = Set(nodes.filter { $0.state != .removed }.map(\.about.locality.region))
        return names.filter { !$0.isEmpty }.sorted()
    }
}

extension RootStep {
    /// Whether its nodes are silent is not for the root to say: whoever asks answers for it.
    mutating func declareRegion(
        _ name: String, _ isLost: Bool, _ epoch: UInt64, _ isAutomatic: Bool, _ cluster: inout RootCluster
    ) throws(StoreError) -> RootResult.Outcome {
        if name.isEmpty || !RootCheck.isText(name) { return .refused(.invalid(.region)) }
        let known = cluster.regions.first { $0.name == name }
        // What was found out by itself becomes that of the person who says it too, under another epoch: who takes it back because
        // nodes are heard again knew the one before.
        let isTakenOver = known.map { $0.isLost && $0.isAutomatic } == true && isLost && !isAutomatic
        if known?.isLost == isLost && !isTakenOver { return .done }
        if epoch != known?.epoch ?? 0 { return .refused(.regionChanged(known?.epoch ?? 0)) }
        let nodes = try all(RootNode.self).filter { $0.state != .removed }
        if isLost {
            if !nodes.contains(where: { $0.about.locality.region == name }) { return .refused(.unknownRegion(name)) }
            if nodes.allSatisfy({ $0.about.locality.region == name }) { return .refused(.onlyRegion(name)) }
        } else if known == nil {
            return nodes.contains { $0.about.locality.region == name } ? .done : .refused(.unknownRegion(name))
        }
        let highest = cluster.regions.map(\.epoch).max() ?? 0
        let standing = RegionStanding(
            name: name, epoch: cluster.floor(highest) + 1, isLost: isLost,
            since: isTakenOver ? known?.since ?? time : time, by: by,
            // Who was to leave still is, when it is there again; what else was planned is over.
            isAutomatic: isAutomatic, plan: known?.isEvacuated == true || !isLost ? known?.plan : nil)
        return set(standing, &cluster) ? .done : .refused(.tooMany(.regions))
    }

    /// In the place of what is known of the region. Of those that are there, and are not evacuated, the oldest is forgotten where
    /// there are too many; false where there is none.
    mutating func set(_ standing: RegionStanding, _ cluster: inout RootCluster) -> Bool {
        var regions = cluster.regions.filter { $0.name != standing.name }
        if regions.count >= RootLimits.regionsMax {
            let idle = regions.filter { !$0.isLost && !$0.isEvacuated }
            guard let oldest = idle.min(by: { $0.epoch < $1.epoch }) else { return false }
            regions.removeAll { $0.name == oldest.name }
        }
        regions.insert(standing, at: regions.firstIndex { $0.name > standing.name } ?? regions.count)
        cluster.regions = regions
        put(cluster)
        return true
    }
}
