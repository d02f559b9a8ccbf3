import ClusterBase

// Spaces, and where groups' replicas are to be.

extension RootStep {
    mutating func createSpace(
        _ name: String, _ replicas: UInt32, _ cluster: inout RootCluster
    ) throws(StoreError) -> RootResult.Outcome {
        if !RootCheck.isName(name) { return .refused(.invalid(.name)) }
        let replicas = replicas == 0 ? UInt32(clamping: settings[.spaceReplicas]) : replicas
        if !RootSetting.spaceReplicas.allows(UInt64(replicas)) { return .refused(.invalid(.replicas)) }
        if try access.record(RootSpace.self, RootTable.spaces.key(name)) != nil { return .refused(.spaceExists(name)) }
        if summary.spaces >= RootLimits.spacesMax { return .refused(.tooMany(.spaces)) }
        try endRoles(ofSpace: name)
        let group = GroupID(.space, number: cluster.floor(cluster.groupHighest) + 1)
        cluster.groupHighest = group.number
        put(cluster)
        put(RootSpace(name: name, group: group, replicas: replicas, createdAt: time, createdBy: by))
        put(GroupPlacement(group: group, revision: revision))
        summary.spaces += 1
        return .group(group)
    }

    /// Of that group alone, where it is named: another space of the name has not ended.
    mutating func deleteSpace(_ name: String, _ group: GroupID?) throws(StoreError) -> RootResult.Outcome {
        guard let space = try access.record(RootSpace.self, RootTable.spaces.key(name)),
            group == nil || group == space.group
        else { return .refused(.unknownSpace(name)) }
        delete(space)
        if let placement = try placement(space.group) { delete(placement) }
        summary.spaces -= 1
        try endRoles(ofSpace: name)
        return .group(space.group)
    }

    private func placement(_ group: GroupID) throws(StoreError) -> GroupPlacement? {
        try access.record(GroupPlacement.self, RootTable.placements.key(group.rawValue))
    }

    private func isUsable(_ node: NodeID) throws(StoreError) -> Bool {
        guard let node = try self.node(node) else { return false }
        return node.state == .active && !node.isDraining
    }

    private mutating func keep(_ placement: GroupPlacement) {
        var changed = placement
        changed.revision = revision
        changed.founders = changed.founders.filter { founder in
            changed.replicas.contains { $0.replica == founder.replica && $0.phase == .wanted }
        }
        // While one founder is still to be made it needs them all.
        if !changed.founders.isEmpty { changed.founders = placement.founders }
        put(changed)
    }

    mutating func foundGroup(
        _ group: GroupID, _ nodes: [NodeID], _ cluster: RootCluster
    ) throws(StoreError) -> RootResult.Outcome {
        guard var placement = try placement(group) else { return .refused(.unknownGroup(group)) }
        if placement.replicaHighest.rawValue > 0 { return .refused(.alreadyPlaced(group)) }
        let isSound = (1...RootLimits.replicasPerGroupMax).contains(nodes.count)
        for (i, node) in nodes.enumerated() where !isSound || nodes[..<i].contains(node) {
            return .refused(.invalid(.nodes))
        }
        if !isSound { return .refused(.invalid(.nodes)) }
        for node in nodes where try isUsable(node) == false { return .refused(.nodeNotUsable(node)) }
        for node in nodes { place(node, .voter, &placement, cluster) }
        placement.founders = placement.replicas.map {
            GroupPlacement.Founder(replica: $0.replica, node: $0.node)
        }
        keep(placement)
        return .done
    }

    private func place(
        _ node: NodeID, _ part: PlacedReplica.Part, _ placement: inout GroupPlacement, _ cluster: RootCluster
    ) {
        let replica = ReplicaID(cluster.floor(placement.replicaHighest.rawValue) + 1)
        placement.replicaHighest = replica
        placement.replicas.append(
            PlacedReplica(replica: replica, node: node, part: part, phase: .wanted, since: time))
    }

    mutating func changePlacement(
        _ group: GroupID, _ planned: Revision, _ changes: [PlacementChange], _ cluster: RootCluster
    ) throws(StoreError) -> RootResult.Outcome {
        guard var placement = try placement(group) else { return .refused(.unknownGroup(group)) }
        if placement.revision != planned { return .refused(.placementChanged(placement.revision)) }
        for change in changes {
            switch change {
            case .add(let node, let part):
                if try isUsable(node) == false { return .refused(.nodeNotUsable(node)) }
                if placement.replica(on: node) != nil { return .refused(.nodeHasReplica(node)) }
                if placement.replicas.count >= RootLimits.replicasPerGroupMax { return .refused(.tooMany(.replicas)) }
                place(node, part, &placement, cluster)
            case .setPart(let replica, let part):
                guard let i = placement.position(of: replica), !placement.replicas[i].isLeaving else {
                    return .refused(.unknownReplica(replica))
                }
                placement.replicas[i].part = part
            case .leave(let replica):
                guard let i = placement.position(of: replica) else { return .refused(.unknownReplica(replica)) }
                placement.replicas[i].isLeaving = true
            }
        }
        if placement.voterCount == 0 { return .refused(.noVoterLeft) }
        keep(placement)
        return .done
    }

    mutating func reportReplicas(
        _ node: NodeID, _ made: [HeldReplica], _ lost: [HeldReplica]
    ) throws(StoreError) -> RootResult.Outcome {
        if made.count + lost.count > RootLimits.reportMax { return .refused(.tooMany(.report)) }
        for held in made { try setPhase(of: held, on: node, from: .wanted, to: .made) }
        for held in lost { try setPhase(of: held, on: node, from: .made, to: .lost) }
        return .done
    }

    /// What is not in the phase `from` is news from before: nothing changes.
    private mutating func setPhase(
        of held: HeldReplica, on node: NodeID, from: PlacedReplica.Phase, to: PlacedReplica.Phase
    ) throws(StoreError) {
        guard var placement = try placement(held.group), let i = placement.position(of: held.replica),
            placement.replicas[i].node == node, placement.replicas[i].phase == from
        else { return }
        placement.replicas[i].phase = to
        placement.replicas[i].since = time
        keep(placement)
    }

    mutating func reportGroup(
        _ group: GroupID, _ epoch: Epoch, _ gone: [ReplicaID]
    ) throws(StoreError) -> RootResult.Outcome {
        guard var placement = try placement(group) else { return .refused(.unknownGroup(group)) }
        // A leader that an operator's recovery left behind speaks for a history that does not count.
        if epoch < placement.epoch { return .refused(.epochOutdated(placement.epoch)) }
        if epoch.rawValue > RootStep.epochMax { return .refused(.malformed) }
        let known = placement
        placement.epoch = epoch
        placement.replicas.removeAll { gone.contains($0.replica) }
        if placement != known { keep(placement) }
        return .done
    }

    static var epochMax: UInt64 { 1 << 24 - 1 }

    mutating func recordRecovery(
        _ record: RecoveryRecord, _ cluster: inout RootCluster
    ) throws(StoreError) -> RootResult.Outcome {
        if !RootCheck.isText(record.reason) { return .refused(.invalid(.reason)) }
        guard var placement = try placement(record.group) else { return .refused(.unknownGroup(record.group)) }
        if record.epoch < placement.epoch { return .refused(.epochOutdated(placement.epoch)) }
        if record.epoch.rawValue > RootStep.epochMax { return .refused(.malformed) }
        placement.epoch = record.epoch
        keep(placement)
        var kept = record
        kept.number = cluster.recoveries
        kept.at = time
        kept.by = by
        put(kept)
        if cluster.recoveries >= RootLimits.recoveriesMax {
            let oldest = RootTable.recoveries.key(cluster.recoveries - RootLimits.recoveriesMax)
            if let old = try access.record(RecoveryRecord.self, oldest) { delete(old) }
        }
        cluster.recoveries += 1
        if record.group == .root { cluster.epoch = record.epoch }
        put(cluster)
        return .done
    }
}
