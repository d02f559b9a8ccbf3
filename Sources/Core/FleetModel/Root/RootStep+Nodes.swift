import ClusterBase

// The cluster's beginning, tokens, and nodes coming and going.

extension RootStep {
    mutating func found(_ founding: RootCommand.Founding) -> RootResult.Outcome {
        if cluster != nil { return .refused(.alreadyFounded) }
        if founding.cluster.count != RootLimits.clusterBytes { return .refused(.invalid(.cluster)) }
        if !RootCheck.isName(founding.name) { return .refused(.invalid(.name)) }
        if let refusal = RootCheck.refusal(of: founding.node) ?? RootCheck.refusal(of: founding.certificate) {
            return .refused(refusal)
        }
        var authority = founding.authority
        var administrator = founding.administrator
        if !RootCheck.isHash(authority.fingerprint) || founding.certificate.issuer != authority.fingerprint {
            return .refused(.invalid(.fingerprint))
        }
        if !RootCheck.isCertificate(authority.certificate) { return .refused(.invalid(.certificate)) }
        if !RootCheck.isName(administrator.name) { return .refused(.invalid(.name)) }
        if !RootCheck.isHash(administrator.credential) { return .refused(.invalid(.hash)) }

        let first = NodeID(1)
        put(
            RootNode(
                id: first, about: founding.node, state: .active, since: time, certificate: founding.certificate))
        access.put(RootKey.nodeName(founding.node.name), RootTable.nodes.key(first.rawValue))
        authority.signs = true
        authority.since = time
        put(authority)
        administrator.role = .administrator
        administrator.createdAt = time
        administrator.expiresAt = nil
        put(administrator)
        access.put(RootKey.credential(administrator.credential), Array(administrator.name.utf8))
        let replica = PlacedReplica(replica: ReplicaID(1), node: first, part: .voter, phase: .made, since: time)
        put(
            GroupPlacement(
                group: .root, replicas: [replica], replicaHighest: replica.replica, revision: revision))
        let cluster = RootCluster(
            id: founding.cluster, name: founding.name, level: founding.node.level, nodeHighest: first, foundedAt: time)
        put(cluster)
        self.cluster = cluster
        summary.nodes = 1
        summary.operators = 1
        return .node(first)
    }

    // MARK: Tokens

    mutating func createToken(
        _ hash: [UInt8], _ note: String, _ lifetime: UInt64, _ uses: UInt32
    ) throws(StoreError) -> RootResult.Outcome {
        if !RootCheck.isHash(hash) { return .refused(.invalid(.hash)) }
        if !RootCheck.isText(note) { return .refused(.invalid(.note)) }
        let lifetime = lifetime == 0 ? settings[.tokenLifetime] : lifetime
        if !RootSetting.tokenLifetime.allows(lifetime) { return .refused(.invalid(.lifetime)) }
        let uses = uses == 0 ? UInt32(clamping: settings[.tokenUses]) : uses
        if !RootSetting.tokenUses.allows(UInt64(uses)) { return .refused(.invalid(.uses)) }
        if try access.record(JoinToken.self, RootTable.tokens.key(hash)) != nil { return .refused(.tokenExists) }
        if summary.tokens >= RootLimits.tokensMax { try dropExpiredTokens() }
        if summary.tokens >= RootLimits.tokensMax { return .refused(.tooMany(.tokens)) }
        put(
            JoinToken(
                hash: hash, note: note, createdAt: time, expiresAt: time.advanced(by: lifetime), usesLeft: uses,
                usesAllowed: uses, createdBy: by))
        summary.tokens += 1
        return .done
    }

    private mutating func dropExpiredTokens() throws(StoreError) {
        for token in try all(JoinToken.self) where token.expiresAt <= time {
            delete(token)
            summary.tokens -= 1
        }
    }

    mutating func revokeToken(_ hash: [UInt8]) throws(StoreError) -> RootResult.Outcome {
        guard var token = try access.record(JoinToken.self, RootTable.tokens.key(hash)) else {
            return .refused(.unknownToken)
        }
        token.isRevoked = true
        put(token)
        return .done
    }

    private func refusal(of token: JoinToken) -> RootRefusal? {
        if token.isRevoked { return .tokenRevoked }
        return token.expiresAt <= time ? .tokenExpired(token.expiresAt) : nil
    }

    // MARK: Joining

    mutating func joinNode(
        _ hash: [UInt8], _ about: NodeDescription, _ cluster: inout RootCluster
    ) throws(StoreError) -> RootResult.Outcome {
        if let refusal = RootCheck.refusal(of: about) { return .refused(refusal) }
        guard var token = try access.record(JoinToken.self, RootTable.tokens.key(hash)) else {
            return .refused(.unknownToken)
        }
        if about.level < cluster.level { return .refused(.levelTooLow(needed: cluster.level)) }
        if var known = try node(named: about.name) {
            if known.about.key == about.key {
                if known.state == .active { return .node(known.id) }
                if token.isRevoked { return .refused(.tokenRevoked) }
                known.about = about
                put(known)
                return .node(known.id)
            }
            // Whoever holds the token may try again with a new key as long as nobody runs under the old one. The new id
            // makes sure that a certificate for the old key is worth nothing.
            guard known.state == .joining, known.token == hash else { return .refused(.nameTaken(about.name)) }
            if let refusal = refusal(of: token) { return .refused(refusal) }
            try markRemoved(&known)
            return .node(try addNode(about, hash, &cluster))
        }
        if let refusal = refusal(of: token) { return .refused(refusal) }
        if token.usesLeft == 0 { return .refused(.tokenUsedUp) }
        if summary.nodes >= RootLimits.nodesMax { return .refused(.tooMany(.nodes)) }
        token.usesLeft -= 1
        put(token)
        return .node(try addNode(about, hash, &cluster))
    }

    private mutating func addNode(
        _ about: NodeDescription, _ token: [UInt8], _ cluster: inout RootCluster
    ) throws(StoreError) -> NodeID {
        let id = NodeID(cluster.floor(cluster.nodeHighest.rawValue) + 1)
        cluster.nodeHighest = id
        var node = RootNode(id: id, about: about, state: .joining, since: time, token: token)
        if let cell = try cell(for: about.locality) {
            cluster.mapEpoch = cluster.floor(cluster.mapEpoch) + 1
            node.cell = cell
            node.cellEpoch = cluster.mapEpoch
        }
        put(cluster)
        put(node)
        access.put(RootKey.nodeName(about.name), RootTable.nodes.key(id.rawValue))
        summary.nodes += 1
        return id
    }

    private func node(named name: String) throws(StoreError) -> RootNode? {
        guard let key = try access.value(for: RootKey.nodeName(name)) else { return nil }
        return try access.record(RootNode.self, key)
    }

    func node(_ id: NodeID) throws(StoreError) -> RootNode? {
        try access.record(RootNode.self, RootTable.nodes.key(id.rawValue))
    }

    private func living(_ id: NodeID) throws(StoreError) -> Result<RootNode, RootRefusal> {
        guard let node = try node(id) else { return .failure(.unknownNode(id)) }
        return node.state == .removed ? .failure(.nodeRemoved(id)) : .success(node)
    }

    // MARK: Life

    mutating func reportNode(
        _ id: NodeID, _ about: NodeDescription, _ cluster: RootCluster
    ) throws(StoreError) -> RootResult.Outcome {
        if let refusal = RootCheck.refusal(of: about) { return .refused(refusal) }
        switch try living(id) {
        case .failure(let refusal): return .refused(refusal)
        case .success(var node):
            if node.about.name != about.name || node.about.key != about.key { return .refused(.nodeMismatch(id)) }
            if about.level < cluster.level { return .refused(.levelTooLow(needed: cluster.level)) }
            let known = node
            node.about = about
            if node.state == .joining {
                node.state = .active
                node.since = time
            }
            if node != known { put(node) }
            return .node(id)
        }
    }

    mutating func certifyNode(
        _ id: NodeID, _ certificate: NodeCertificate
    ) throws(StoreError) -> RootResult.Outcome {
        if let refusal = RootCheck.refusal(of: certificate) { return .refused(refusal) }
        if try access.record(Authority.self, RootTable.authorities.key(certificate.issuer)) == nil {
            return .refused(.unknownAuthority)
        }
        if certificate.expiresAt <= time || certificate.expiresAt > time.advanced(by: RootLimits.lifetimeMax) {
            return .refused(.invalid(.expiry))
        }
        switch try living(id) {
        case .failure(let refusal): return .refused(refusal)
        case .success(var node):
            if node.certificate?.fingerprint == certificate.fingerprint { return .node(id) }
            node.previousCertificate = node.certificate
            let overlapEnds = time.advanced(by: settings[.certificateOverlap])
            if let old = node.previousCertificate {
                node.previousCertificate?.expiresAt = min(old.expiresAt, overlapEnds)
            }
            node.certificate = certificate
            put(node)
            return .node(id)
        }
    }

    mutating func arrangeNode(
        _ id: NodeID, _ voting: RootNode.VotingWish, _ isDraining: Bool
    ) throws(StoreError) -> RootResult.Outcome {
        switch try living(id) {
        case .failure(let refusal): return .refused(refusal)
        case .success(var node):
            node.voting = voting
            node.isDraining = isDraining
            put(node)
            return .node(id)
        }
    }

    mutating func removeNode(_ id: NodeID, _ isForced: Bool) throws(StoreError) -> RootResult.Outcome {
        switch try living(id) {
        case .failure(let refusal): return .refused(refusal)
        case .success(var node):
            if node.state == .active {
                let others = try all(RootNode.self).contains { $0.id != id && $0.state == .active }
                if !others { return .refused(.lastNode) }
            }
            if !isForced, let group = try groupOnly(on: id) { return .refused(.holdsOnlyCopy(group)) }
            try markRemoved(&node)
            return .node(id)
        }
    }

    /// A group whose every copy that was made lies on this node.
    private func groupOnly(on id: NodeID) throws(StoreError) -> GroupID? {
        for placement in try all(GroupPlacement.self) where placement.replica(on: id)?.phase == .made {
            var isElsewhere = false
            for replica in placement.replicas where replica.node != id && replica.phase == .made {
                if replica.part == .voter, try node(replica.node)?.state == .active { isElsewhere = true }
            }
            if !isElsewhere { return placement.group }
        }
        return nil
    }

    mutating func markRemoved(_ node: inout RootNode) throws(StoreError) {
        access.delete(RootKey.nodeName(node.name))
        node.state = .removed
        node.since = time
        put(node)
        let first = try all(RootCell.self).map(\.group).min()
        if let home = node.cell ?? first { try hostMoved(node.id, from: home, to: home, vms: 0, "") }
        summary.nodes -= 1
        access.put(RootKey.removal(summary.removals), RootTable.nodes.key(node.id.rawValue))
        summary.removals += 1
        summary.nodesRemoved += 1
        if summary.nodesRemoved > RootLimits.nodesRemovedMax { try dropOldestRemoved() }
    }

    /// A node that nobody knows is refused like one that is known to be removed.
    private mutating func dropOldestRemoved() throws(StoreError) {
        var oldest: (key: [UInt8], row: [UInt8])?
        try access.scan(.prefix([RootKey.Kind.removal])) { key, row in
            oldest = (key, row)
            return false
        }
        guard let oldest else { return }
        access.delete(oldest.key)
        if let node = try access.record(RootNode.self, oldest.row) { delete(node) }
        summary.nodesRemoved -= 1
    }
}
