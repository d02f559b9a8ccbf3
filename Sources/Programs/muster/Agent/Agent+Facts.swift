import AdminAPI
import AdminHTTP
import AgentConfig
import ClusterBase
import Controllers
import FleetModel
import NodePorts
import NodeRuntime
import NodeStorage
import PeerTransport
import RaftCore
import Reactor
import StoreLayout
import TLSSession

// What a node says of itself and its cluster.

extension Agent {
    static func description(_ settings: AgentSettings, key: [UInt8]) -> NodeDescription {
        NodeDescription(
            name: settings.nodeName,
            locality: Locality(region: settings.region, zone: settings.zone, rack: settings.rack),
            peerAddress: (settings.peerAdvertise ?? settings.peerListen).description,
            adminAddress: (settings.adminAdvertise ?? settings.adminListen).description, key: key,
            programVersion: version, level: level(settings))
    }

    /// The highest feature level that this node acts by.
    static func level(_ settings: AgentSettings) -> UInt32 {
        settings.featureLevel == 0
            ? FeatureLevel.newest : min(FeatureLevel.newest, UInt32(clamping: settings.featureLevel))
    }

    var level: UInt32 { Agent.level(settings) }

    /// Certificates of authorities that signed this node's own, for clients that know one by its fingerprint.
    var signers: [Certificate] { authorities.filter { identity.chain[0].isSigned(by: $0) } }

    var adminAddresses: [Endpoint] {
        let all = view.nodes.filter { $0.state == .active }.compactMap { Endpoint($0.about.adminAddress) }
        let own = settings.adminAdvertise ?? settings.adminListen
        return Array(([own] + all.filter { $0 != own }).prefix(AgentConfig.JoinToken.addressesMax))
    }

    /// Where this host's lease can be renewed: first with those that may lead its cell, last here.
    var leaseAddresses: [Endpoint] {
        let holders = view.assignment(of: node).flatMap { view.placement($0.cell) }?.replicas.map(\.node) ?? []
        let others = view.nodes.filter { $0.state == .active && $0.id != node }
        let ordered = others.filter { holders.contains($0.id) } + others.filter { !holders.contains($0.id) }
        let own = settings.adminAdvertise ?? settings.adminListen
        return ordered.prefix(63).compactMap { Endpoint($0.about.adminAddress) } + [own]
    }

    func name(of node: NodeID) -> String { view.node(node)?.name ?? "node-\(node)" }

    /// A space's or a cell's; empty while the root here does not know the group.
    func name(of group: GroupID) -> String {
        if group == .root { return "root" }
        return view.spaces.first { $0.group == group }?.name ?? view.cells.first { $0.group == group }?.name ?? ""
    }

    /// Whether the node's process is there: a connection outlives one that hangs. Who shares a group with this node is heard by
    /// its beats, and missed sooner than others.
    func isHeard(_ other: NodeID) -> Bool {
        if other == node { return true }
        let beats = engine.liveness.suspicionTimeout(other) != nil
        return network.isHeard(other) && (!beats || engine.liveness.isAlive(other))
    }

    func info(_ node: RootNode) -> NodeInfo {
        let placed = view.placement(.root)?.replica(on: node.id)
        let role = placed.map { $0.isLeaving ? "leaving" : $0.part == .voter ? "voter" : "standby" } ?? "member"
        let state =
            node.isDraining
            ? "draining"
            : node.state == .joining
                ? "joining" : isHeard(node.id) ? "up" : network.isLinked(node.id) ? "silent" : "not reachable from here"
        return NodeInfo(
            name: node.name, node: node.id.rawValue, region: node.about.locality.region, zone: node.about.locality.zone,
            rack: node.about.locality.rack, address: node.about.peerAddress, adminAddress: node.about.adminAddress,
            role: role, state: state, version: node.about.programVersion,
            certificateExpires: Int64((node.certificate?.expiresAt.rawValue ?? 0) / 1_000),
            cell: view.assignment(of: node.id).flatMap { view.cell($0.cell) }?.name ?? "",
            movesTo: node.movesTo.flatMap { view.cell($0) }?.name)
    }

    var groupInfos: [GroupInfo] {
        engine.groups.compactMap { group in
            engine.inspect(group) { raft, applied in
                let members = raft.configuration.members
                return GroupInfo(
                    group: group.rawValue, kind: group.kind.map { "\($0)" } ?? "unknown",
                    name: name(of: group),
                    leader: raft.leader.map { name(of: $0.node) } ?? "", term: raft.term.rawValue,
                    committed: raft.commit.rawValue, applied: applied.index.rawValue, last: raft.lastIndex.rawValue,
                    lastTerm: raft.lastTerm.rawValue,
                    voters: members.filter { $0.role.isVoting }.map { name(of: $0.peer.node) },
                    learners: members.filter { !$0.role.isVoting }.map { name(of: $0.peer.node) })
            }
        }
    }

    var status: ClusterStatus {
        let groups = groupInfos
        var alarms: [String] = groups.filter(\.leader.isEmpty).map { "group \($0.group) \($0.name) has no leader here" }
        alarms += groups.compactMap(thinness)
        if isSpaceLow { alarms.append("the disk of this node is nearly full: clients' writes are refused") }
        alarms += directory.findings + backupAlarms + riskAlarms
        var status = ClusterStatus(
            cluster: cluster, node: settings.nodeName, version: Agent.version,
            isReady: view.through != nil && groups.allSatisfy { !$0.leader.isEmpty }, groups: groups, alarms: alarms,
            addresses: adminAddresses.map(\.description))
        status.advice = rebalanceAdvice
        return status
    }

    /// What cells' controllers propose and do not make.
    private var rebalanceAdvice: [String] {
        let cells = view.cells.sorted { $0.group < $1.group }
        return cells.compactMap { cell in
            guard let text = view.report(of: cell.group)?.advice, !text.isEmpty else { return nil }
            let which = cells.count > 1 ? " --cell \(cell.name)" : ""
            return "cell \(cell.name): \(text); `muster rebalance run\(which)` makes them"
        }
    }

    /// A group that one lost node would stop, though there are nodes enough and more voters are wished for.
    private func thinness(_ group: GroupInfo) -> String? {
        let wished =
            view.spaces.first { $0.group.rawValue == group.group }?.replicas
            ?? view.cells.first { $0.group.rawValue == group.group }?.replicas ?? 3
        let canVote = view.nodes.count { $0.state == .active && !$0.isDraining }
        guard group.voters.count < 3, canVote >= 3, wished == 0 || wished >= 3 else { return nil }
        return "group \(group.group) \(group.name) has \(group.voters.count) of 3 voters, "
            + "\(group.voters.joined(separator: " and ")): until more have caught up, the loss of one stops it"
    }

    var certificates: [CertificateInfo] {
        let own = identity.chain[0]
        var list = view.authorities.compactMap { authority -> CertificateInfo? in
            // An authority that can't be read is not shown.
            guard let read = try? Certificate(der: authority.certificate) else { return nil }
            return CertificateInfo(
                subject: read.commonName, serial: Fingerprints.short(authority.fingerprint), begins: read.notBefore,
                expires: read.notAfter, state: authority.signs ? "signs" : "trusted")
        }
        if let cluster = view.cluster {
            for (hash, state) in [
                (cluster.sealingKeyNext, "waits for all root voters to hold it"), (cluster.sealingKey, "seals"),
                (cluster.sealingKeyBefore, "opens what is not sealed anew yet"),
            ] where !hash.isEmpty {
                list.append(
                    CertificateInfo(
                        subject: "secret fields", serial: Fingerprints.short(hash), begins: 0, expires: 0,
                        state: state))
            }
        }
        list += view.nodes.filter { $0.state != .removed }.compactMap { node in
            node.certificate.map { certificate in
                CertificateInfo(
                    subject: node.name, serial: Fingerprints.short(certificate.fingerprint),
                    begins: node.id == self.node ? own.notBefore : 0,
                    expires: Int64(certificate.expiresAt.rawValue / 1_000),
                    state: "signed by " + Fingerprints.short(certificate.issuer))
            }
        }
        return list
    }

    var gates: [GateInfo] {
        let open = view.cluster?.level ?? 0
        return (1...max(open, level)).map { level in
            GateInfo(
                name: "level-\(level)", summary: FeatureLevel.summary(level), isOpen: level <= open,
                missing: view.nodes.filter { $0.state != .removed && $0.about.level < level }.map(\.name))
        }
    }

    func metrics(_ port: AdminPort) -> Metrics {
        var metrics = Metrics()
        metrics.add(
            "muster_build_info", .gauge, "The running program.", UInt64(1), [Metrics.Label("version", Agent.version)])
        let groups = groupInfos
        func perGroup(_ name: String, _ help: String, _ value: (GroupInfo) -> UInt64) {
            for group in groups {
                metrics.add(
                    name, .gauge, help, value(group),
                    [Metrics.Label("group", "\(group.group)"), Metrics.Label("name", group.name)])
            }
        }
        perGroup("muster_group_term", "The group's term.", \.term)
        perGroup("muster_group_committed_index", "The last committed index.", \.committed)
        perGroup("muster_group_applied_index", "The last applied index.", \.applied)
        perGroup("muster_group_leader", "1 where this node leads the group.") { $0.leader == settings.nodeName ? 1 : 0 }
        let peers = network.counters
        for (name, help, value) in [
            ("frames_sent", "Frames sent to peers.", peers.framesSent),
            ("frames_received", "Frames received from peers.", peers.framesReceived),
            ("bytes_sent", "Bytes sent to peers.", peers.bytesSent),
            ("bytes_received", "Bytes received from peers.", peers.bytesReceived),
            ("stream_bytes_sent", "Bytes of guests' memory sent to peers.", peers.streamBytesSent),
            ("pieces_sent", "Pieces of snapshots sent to peers.", peers.piecesSent),
            ("streams_unclaimed", "Streams closed because nobody waited for them.", peers.streamsUnclaimed),
            ("streams_refused", "Streams refused because another node sends them.", peers.streamsRefused),
            ("links_ended", "Connections with peers that ended.", peers.linksEnded),
            ("silences", "Times that a peer's connection stood and nothing came over it.", peers.silences),
            ("garbage", "Connections that peers lost for what they sent.", peers.garbage),
            ("refused", "Connections that were refused for who asked for them.", peers.refused),
        ] { metrics.add("muster_peer_\(name)_total", .counter, help, value) }
        addRegions(&metrics)
        metrics.add(
            "muster_ready", .gauge, "1 where this node serves all that it is to serve.",
            UInt64(port.unready == nil ? 1 : 0))
        metrics.add(
            "muster_space_low", .gauge, "1 while the disk is nearly full and nothing more is kept.",
            UInt64(isSpaceLow ? 1 : 0))
        metrics.add(
            "muster_certificate_end_seconds", .gauge, "When this node's certificate ends, in seconds since 1970.",
            UInt64(clamping: identity.chain.first?.notAfter ?? 0))
        let writes = writerStatistics
        metrics.add("muster_log_commits_total", .counter, "Synced writes of the log.", writes.commitCount)
        metrics.add("muster_log_tickets_total", .counter, "Turns whose writes were synced.", writes.ticketCount)
        metrics.add("muster_admin_requests_total", .counter, "Requests to the admin port.", port.counters.requests)
        metrics.add(
            "muster_admin_requests_limited_total", .counter,
            "Requests that were told 429, since their client asked more than it may in a second.",
            port.counters.tooOften)
        metrics.add("muster_admin_connections", .gauge, "Open connections.", UInt64(port.connectionCount))
        let suspicions = engine.liveness.counters
        metrics.add(
            "muster_suspicions_total", .counter, "Times that a node was held for dead.", UInt64(suspicions.suspicions))
        metrics.add(
            "muster_own_pauses_total", .counter, "Times that this process stood still.", UInt64(suspicions.ownPauses))
        metrics.add("muster_host_vms", .gauge, "VMs that this host's driver has.", UInt64(host.keeper.vms.count))
        let lease = host.keeper.lease.map { max(0, Double(($0 - loop.now).count) / 1e9) } ?? 0
        metrics.add("muster_host_lease_seconds", .gauge, "What is left of this host's lease.", lease)
        metrics.add(
            "muster_loop_turn_longest_seconds", .gauge, "The longest turn of the loop.",
            Double(loop.counters.turnLongest.count) / 1e9)
        addFleet(&metrics)
        addUsage(&metrics)
        return metrics
    }
}

extension Problem {
    /// What a node made of a request that did not come to a result.
    init(_ answer: ClientAnswer) {
        switch answer {
        case .refused(let refusal): self.init(refusal)
        case .unknown:
            self.init(
                .outcomeUnknown,
                "the leader changed or its answer was lost, and the change may have taken effect or not; look, then ask again"
            )
        case .applied, .read, .accepted: self.init(.internal, "the answer was not of the kind that was asked for")
        }
    }

    init(_ refusal: RootRefusal) {
        let kind: Kind
        switch refusal {
        case .malformed, .unknownVersion: kind = .malformed
        case .invalid, .settingOutOfRange: kind = .invalid
        case .unknownNode, .unknownSpace, .unknownGroup, .unknownReplica, .unknownOperator, .unknownBackup,
            .unknownAuthority, .unknownTenant, .unknownImage, .unknownRegion, .unknownCell:
            kind = .notFound
        case .unknownToken, .tokenExpired, .tokenUsedUp, .tokenRevoked: kind = .unauthenticated
        case .nameTaken, .spaceExists, .operatorExists, .tokenExists, .authorityExists, .credentialTaken,
            .alreadyPlaced,
            .nodeHasReplica, .alreadyFounded, .cellExists, .tenantExists, .imageExists:
            kind = .alreadyExists
        case .requestReused: kind = .retryUnknown
        case .sessionUnknown, .commandSettled: kind = .outcomeUnknown
        case .notFounded: kind = .unavailable
        default: kind = .notPossible
        }
        self.init(kind, "\(refusal)")
    }
}

/// Names under which a node's certificate is good.
struct CertificateNames {
    var dnsNames: [String] = ["localhost"]
    var addresses: [String] = ["127.0.0.1", "::1"]

    init(_ settings: AgentSettings) {
        let endpoints = [settings.peerAdvertise, settings.adminAdvertise, settings.peerListen, settings.adminListen]
        for endpoint in endpoints {
            guard let endpoint, !endpoint.isWildcard else { continue }
            if SocketAddress(digits: endpoint.host, port: 0) != nil {
                if !addresses.contains(endpoint.host) { addresses.append(endpoint.host) }
            } else if !dnsNames.contains(endpoint.host) {
                dnsNames.append(endpoint.host)
            }
        }
        if !dnsNames.contains(settings.nodeName) { dnsNames.append(settings.nodeName) }
    }
}

enum Fingerprints {
    /// Enough of it to tell one from another.
    static func short(_ bytes: [UInt8]) -> String {
        bytes.prefix(6).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}

extension [UInt8] {
    /// Nil when the text is no hexadecimal number of whole bytes.
    init?(hexadecimal text: String) {
        let digits = Array<UInt8>(text.utf8)
        guard digits.count % 2 == 0 else { return nil }
        self.init()
        for at in stride(from: 0, to: digits.count, by: 2) {
            guard let byte = UInt8(String(decoding: digits[at...(at + 1)], as: UTF8.self), radix: 16) else {
                return nil
            }
            append(byte)
        }
    }
}
