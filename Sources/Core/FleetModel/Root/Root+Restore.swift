package import ClusterBase

// A saved root that becomes the root of a new cluster.

extension RootCluster {
    /// The id that the next node gets.
    package var nodeNext: NodeID { NodeID(floor(nodeHighest.rawValue) + 1) }
}

extension Root {
    /// Turns a saved root into that of a new cluster, which begins with one node and holds everything else that was saved:
    /// spaces, settings, schedules, tokens to ask with. What trusts the old cluster goes: its nodes are removed, its
    /// authorities, its operators' certificates and its join tokens are forgotten.
    ///
    /// `saved` groups get one replica each, on that node; `gone` ones are deleted. Returns the placements of the saved ones.
    /// Not a command: nobody follows the state yet. It is as if it were the entry at `index`.
    package static func restore<Access: StateAccess>(
        as founding: RootCommand.Founding, saved: [GroupID], gone: [GroupID], at index: LogIndex, access: inout Access
    ) throws(StoreError) -> Result<[GroupPlacement], RootRefusal> {
        var step = try RootStep(index, access)
        let outcome = try step.restore(founding, saved, gone)
        if case .success = outcome {
            try step.finish()
            access = step.access
            // Followers of the old root are not this one's.
            access.delete(.prefix([RootKey.Kind.history]))
            var summary = step.summary
            (summary.historyChanges, summary.historyBytes, summary.compactedThrough) = (0, 0, index)
            access.put(RootKey.summary, summary.encoded())
        }
        return outcome
    }
}

extension RootStep {
    fileprivate mutating func restore(
        _ founding: RootCommand.Founding, _ saved: [GroupID], _ gone: [GroupID]
    ) throws(StoreError) -> Result<[GroupPlacement], RootRefusal> {
        guard var cluster else { return .failure(.notFounded) }
        if founding.cluster.count != RootLimits.clusterBytes || founding.cluster == cluster.id {
            return .failure(.invalid(.cluster))
        }
        if let refusal = RootCheck.refusal(of: founding.node) ?? RootCheck.refusal(of: founding.certificate) {
            return .failure(refusal)
        }
        if founding.node.level < cluster.level { return .failure(.levelTooLow(needed: cluster.level)) }
        revision = .end(of: index)
        level = cluster.level
        let node = cluster.nodeNext
        for var old in try all(RootNode.self) where old.state != .removed { try markRemoved(&old) }
        cluster.id = founding.cluster
        cluster.nodeHighest = node
        cluster.foundedAt = time
        // Whoever leads this root names the key that was given along, or a new one.
        (cluster.sealingKey, cluster.sealingKeyNext, cluster.sealingKeyBefore) = ([], [], [])
        cluster.sealingRotates = false
        self.cluster = cluster
        put(cluster)
        put(RootNode(id: node, about: founding.node, state: .active, since: time, certificate: founding.certificate))
        access.put(RootKey.nodeName(founding.node.name), RootTable.nodes.key(node.rawValue))
        summary.nodes += 1
        try renewTrust(founding)
        for space in try all(RootSpace.self) where gone.contains(space.group) {
            delete(space)
            summary.spaces -= 1
            try endRoles(ofSpace: space.name)
        }
        // Hosts of the old cluster go nowhere.
        for var cell in try all(RootCell.self) where cell.plan != nil {
            cell.plan = nil
            put(cell)
        }
        for cell in try all(RootCell.self) where gone.contains(cell.group) {
            delete(cell)
            summary.cells -= 1
            if let report = try access.record(CellReport.self, RootTable.cellReports.key(cell.group.rawValue)) {
                delete(report)
            }
        }
        var placed: [GroupPlacement] = []
        for var placement in try all(GroupPlacement.self) {
            if gone.contains(placement.group) {
                delete(placement)
                continue
            }
            placement.replicas = []
            placement.founders = []
            placement.revision = revision
            if saved.contains(placement.group) {
                let replica = ReplicaID(cluster.floor(placement.replicaHighest.rawValue) + 1)
                placement.replicaHighest = replica
                placement.replicas = [
                    PlacedReplica(replica: replica, node: node, part: .voter, phase: .made, since: time)
                ]
                placed.append(placement)
            }
            put(placement)
        }
        return .success(placed)
    }

    /// One authority and one administrator with a certificate; tokens to ask with are good as before.
    private mutating func renewTrust(_ founding: RootCommand.Founding) throws(StoreError) {
        for old in try all(Authority.self) { delete(old) }
        var authority = founding.authority
        authority.signs = true
        authority.since = time
        put(authority)
        for old in try all(JoinToken.self) {
            delete(old)
            summary.tokens -= 1
        }
        var administrator = founding.administrator
        administrator.role = .administrator
        administrator.createdAt = time
        administrator.expiresAt = nil
        for old in try all(Operator.self) where old.kind == .certificate || old.name == administrator.name {
            delete(old)
            access.delete(RootKey.credential(old.credential))
            summary.operators -= 1
        }
        put(administrator)
        access.put(RootKey.credential(administrator.credential), Array(administrator.name.utf8))
        summary.operators += 1
    }
}
