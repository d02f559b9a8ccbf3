import ClusterBase
import FleetModel
import Testing

@Suite struct RootGroupsTests {

    @Test func `a space has a group of its own, and a deleted one's name gets another group`() throws {
        var root = try RootBench()
        root.level = FeatureLevel.spaceEnds
        guard case .group(let first) = try root.apply(.createSpace(name: "locks", replicas: 0)) else {
            Issue.record("no space")
            return
        }
        #expect(first.kind == .space)
        #expect(try root.all(RootSpace.self).map(\.replicas) == [3])
        #expect(try root.apply(.createSpace(name: "locks", replicas: 1)) == .refused(.spaceExists("locks")))
        #expect(try root.apply(.createSpace(name: "two", replicas: 2)) == .refused(.invalid(.replicas)))
        // Of another one of that name it was never said that it has ended.
        let another = RootCommand.Operation.deleteSpace(name: "locks", group: GroupID(.space, number: 77))
        #expect(try root.apply(another) == .refused(.unknownSpace("locks")))
        #expect(try root.apply(.deleteSpace(name: "locks", group: first)) == .group(first))
        #expect(try root.read(.placement(first)).records(GroupPlacement.self) == [])
        guard case .group(let second) = try root.apply(.createSpace(name: "locks", replicas: 1)) else {
            Issue.record("no space")
            return
        }
        #expect(second > first)
    }

    @Test func `a group is founded once, on different nodes that are there`() throws {
        var root = try RootBench()
        let nodes = try ["n2", "n3"].map { try root.node($0) }
        guard case .group(let group) = try root.apply(.createSpace(name: "s", replicas: 3)) else { return }
        #expect(try root.apply(.foundGroup(group, nodes: [])) == .refused(.invalid(.nodes)))
        #expect(try root.apply(.foundGroup(group, nodes: [nodes[0], nodes[0]])) == .refused(.invalid(.nodes)))
        #expect(try root.apply(.foundGroup(group, nodes: [NodeID(8)])) == .refused(.nodeNotUsable(NodeID(8))))
        _ = try root.apply(.arrangeNode(nodes[1], voting: .automatic, isDraining: true))
        #expect(try root.apply(.foundGroup(group, nodes: nodes)) == .refused(.nodeNotUsable(nodes[1])))
        _ = try root.apply(.arrangeNode(nodes[1], voting: .automatic, isDraining: false))
        #expect(try root.apply(.foundGroup(group, nodes: [NodeID(1)] + nodes)) == .done)
        #expect(try root.apply(.foundGroup(group, nodes: nodes)) == .refused(.alreadyPlaced(group)))
        let placement = try root.placement(group)
        #expect(placement.replicas.map(\.replica) == [1, 2, 3].map { ReplicaID($0) })
        #expect(placement.founders.count == 3)
    }

    @Test func `all founders are known until the last of them is made`() throws {
        var root = try RootBench()
        let nodes = try [NodeID(1)] + ["n2", "n3"].map { try root.node($0) }
        let group = try root.space("s", on: nodes)
        for (i, node) in nodes.enumerated() {
            #expect(try root.placement(group).founders.count == 3)
            let held = HeldReplica(group, ReplicaID(UInt64(i) + 1))
            _ = try root.apply(.reportReplicas(node, made: [held], lost: []))
        }
        #expect(try root.placement(group).founders.isEmpty)
        #expect(try root.placement(group).replicas.allSatisfy { $0.phase == .made })
    }

    @Test func `a replica is made once, and lost once it was made`() throws {
        var root = try RootBench()
        let group = try root.space("s", replicas: 1, on: [NodeID(1)])
        let held = HeldReplica(group, ReplicaID(1))
        func phase() throws -> PlacedReplica.Phase { try root.placement(group).replicas[0].phase }
        _ = try root.apply(.reportReplicas(NodeID(1), made: [], lost: [held]))
        #expect(try phase() == .wanted)
        _ = try root.apply(.reportReplicas(NodeID(2), made: [held], lost: []))
        #expect(try phase() == .wanted, "that is not its node")
        _ = try root.apply(.reportReplicas(NodeID(1), made: [held], lost: []))
        #expect(try phase() == .made)
        _ = try root.apply(.reportReplicas(NodeID(1), made: [], lost: [held]))
        _ = try root.apply(.reportReplicas(NodeID(1), made: [held], lost: []))
        #expect(try phase() == .lost)
    }

    @Test func `a change is for the placement that it was planned for, and leaves a voter`() throws {
        var root = try RootBench()
        let other = try root.node("n2")
        let group = try root.space("s", replicas: 1, on: [NodeID(1)])
        let seen = try root.placement(group).revision
        #expect(try root.apply(.changePlacement(group, revision: seen, [.add(other, .voter)])) == .done)
        let now = try root.placement(group).revision
        #expect(
            try root.apply(.changePlacement(group, revision: seen, [.leave(ReplicaID(1))]))
                == .refused(.placementChanged(now)))
        #expect(
            try root.apply(.changePlacement(group, revision: now, [.leave(ReplicaID(1)), .leave(ReplicaID(2))]))
                == .refused(.noVoterLeft))
        #expect(
            try root.apply(.changePlacement(group, revision: now, [.add(other, .standby)]))
                == .refused(.nodeHasReplica(other)))
        #expect(
            try root.apply(.changePlacement(group, revision: now, [.setPart(ReplicaID(7), .voter)]))
                == .refused(.unknownReplica(ReplicaID(7))))
        #expect(try root.placement(group).revision == now, "refusals change nothing")
        #expect(try root.apply(.changePlacement(group, revision: now, [.leave(ReplicaID(1))])) == .done)
        let left = try root.placement(group)
        #expect(
            try root.apply(.changePlacement(group, revision: left.revision, [.setPart(ReplicaID(1), .voter)]))
                == .refused(.unknownReplica(ReplicaID(1))), "leaving is never taken back")
    }

    @Test func `a replica id never comes back after its replica is gone`() throws {
        var root = try RootBench()
        let other = try root.node("n2")
        let group = try root.space("s", replicas: 1, on: [NodeID(1)])
        for round in 2...5 {
            let placement = try root.placement(group)
            _ = try root.apply(.changePlacement(group, revision: placement.revision, [.add(other, .standby)]))
            let added = try root.placement(group).replicas[1].replica
            #expect(added == ReplicaID(UInt64(round)))
            #expect(try root.apply(.reportGroup(group, .zero, gone: [added])) == .done)
        }
    }

    @Test func `ids given out after a forced recovery of the root begin above all that was lost`() throws {
        var root = try RootBench()
        let record = RecoveryRecord(
            group: .root, epoch: Epoch(1), possibleLossAfter: LogIndex(10), reason: "two of three burned")
        #expect(try root.apply(.recordRecovery(record)) == .done)
        let node = try root.node("n2")
        #expect(node.rawValue == 1 << 32 + 1)
        let group = try root.space("s", replicas: 1, on: [node])
        #expect(group.number == 1 << 32 + 1)
        #expect(try root.placement(group).replicas[0].replica.rawValue == 1 << 32 + 1)
        let kept = try #require(try root.all(RecoveryRecord.self).first)
        #expect(kept.by == "test" && kept.reason == "two of three burned" && kept.at == root.time)
        #expect(
            try root.apply(.reportGroup(.root, .zero, gone: [ReplicaID(1)])) == .refused(.epochOutdated(Epoch(1))),
            "a leader left behind by the recovery has no say")
    }

    @Test func `an authority goes only after another one signs and no node needs it`() throws {
        var root = try RootBench()
        let (old, new) = (RootBench.hash(1), RootBench.hash(2))
        #expect(try root.apply(.trustAuthority(fingerprint: new, certificate: [9])) == .done)
        #expect(try root.apply(.trustAuthority(fingerprint: new, certificate: [9])) == .refused(.authorityExists))
        #expect(try root.apply(.distrustAuthority(fingerprint: old)) == .refused(.authoritySigns))
        #expect(try root.apply(.signWithAuthority(fingerprint: new)) == .done)
        #expect(try root.all(Authority.self).filter(\.signs).map(\.fingerprint) == [new])
        #expect(try root.apply(.distrustAuthority(fingerprint: old)) == .refused(.authorityInUse(NodeID(1))))
        let renewed = NodeCertificate(
            fingerprint: RootBench.hash(70), issuer: new, expiresAt: root.time.advanced(by: 1_000))
        #expect(try root.apply(.certifyNode(NodeID(1), renewed)) == .node(NodeID(1)))
        #expect(try root.apply(.distrustAuthority(fingerprint: old)) == .done)
        let stale = NodeCertificate(
            fingerprint: RootBench.hash(71), issuer: old, expiresAt: root.time.advanced(by: 1_000))
        #expect(try root.apply(.certifyNode(NodeID(1), stale)) == .refused(.unknownAuthority))
    }

    @Test func `an authority signs only when every node that is not removed trusts it`() throws {
        var root = try RootBench()
        root.level = FeatureLevel.newest
        let (old, new) = (RootBench.hash(1), RootBench.hash(2))
        let second = try root.node("n2", level: FeatureLevel.newest)
        func tell(_ node: NodeID, _ name: String, _ trusts: [[UInt8]]) throws {
            var about = RootBench.about(name, level: FeatureLevel.newest)
            about.trusts = trusts
            #expect(try root.apply(.reportNode(node, about)) == .node(node))
        }
        try tell(NodeID(1), "n1", [old])
        for level in 2...FeatureLevel.newest { #expect(try root.apply(.finalizeLevel(level)) == .done) }
        #expect(try root.apply(.trustAuthority(fingerprint: new, certificate: [9])) == .done)
        #expect(try root.apply(.signWithAuthority(fingerprint: new)) == .refused(.authorityDoubted(NodeID(1))))
        try tell(NodeID(1), "n1", [old, new])
        #expect(try root.apply(.signWithAuthority(fingerprint: new)) == .refused(.authorityDoubted(second)))
        #expect(try root.apply(.removeNode(second, isForced: false)) == .node(second))
        #expect(try root.apply(.signWithAuthority(fingerprint: new)) == .done)
        // The root has heard of a renewed certificate, and the node's disk has the old one.
        let renewed = NodeCertificate(
            fingerprint: RootBench.hash(70), issuer: new, expiresAt: root.time.advanced(by: 1_000))
        #expect(try root.apply(.certifyNode(NodeID(1), renewed)) == .node(NodeID(1)))
        var about = RootBench.about("n1", level: FeatureLevel.newest)
        (about.trusts, about.issuer) = ([old, new], old)
        #expect(try root.apply(.reportNode(NodeID(1), about)) == .node(NodeID(1)))
        #expect(try root.apply(.distrustAuthority(fingerprint: old)) == .refused(.authorityInUse(NodeID(1))))
        about.issuer = new
        #expect(try root.apply(.reportNode(NodeID(1), about)) == .node(NodeID(1)))
        #expect(try root.apply(.distrustAuthority(fingerprint: old)) == .done)
        about.trusts = [[1, 2]]
        #expect(try root.apply(.reportNode(NodeID(1), about)) == .refused(.invalid(.fingerprint)))
    }

    @Test func `the last administrator stays, and a credential is one operator's`() throws {
        var root = try RootBench()
        func add(_ name: String, _ byte: UInt8, _ role: Operator.Role, expires: UInt64? = nil) throws
            -> RootResult.Outcome
        {
            try root.apply(
                .addOperator(
                    Operator(
                        name: name, role: role, kind: .bearer, credential: RootBench.hash(byte),
                        expiresAt: expires.map { root.time.advanced(by: $0) })))
        }
        #expect(try add("bot", 50, .reader) == .refused(.credentialTaken("admin")))
        #expect(try add("admin", 51, .reader) == .refused(.operatorExists("admin")))
        #expect(try add("guest", 52, .administrator, expires: 60_000) == .done)
        #expect(try root.apply(.removeOperator(name: "admin")) == .refused(.lastAdministrator), "the other one expires")
        #expect(try add("second", 53, .administrator) == .done)
        #expect(try root.apply(.removeOperator(name: "admin")) == .done)
        #expect(
            try root.read(.operatorWith(credential: RootBench.hash(53))).records(Operator.self)?.map(\.name) == [
                "second"
            ])
        #expect(try root.read(.operatorWith(credential: RootBench.hash(50))).records(Operator.self) == [])
    }

    @Test func `a setting has bounds, and one that is set to its standard is no setting any more`() throws {
        var root = try RootBench()
        #expect(try root.apply(.changeSetting(.rootVoters, 4)) == .refused(.settingOutOfRange(.rootVoters)))
        #expect(try root.apply(.changeSetting(.rootVoters, 5)) == .done)
        #expect(try root.view().settings[.rootVoters] == 5)
        #expect(try root.apply(.changeSetting(.rootVoters, 3)) == .done)
        #expect(try root.all(RootSettingValue.self).isEmpty)
    }

    @Test func `a backup schedule keeps what became of the last one when it is changed`() throws {
        var root = try RootBench()
        let schedule = BackupSchedule(
            name: "nightly", interval: 3_600_000, keep: 7, destination: "/backup", keyName: "k")
        #expect(
            try root.apply(.noteBackup(name: "nightly", succeeded: true, outcome: ""))
                == .refused(.unknownBackup("nightly")))
        #expect(try root.apply(.setBackup(schedule)) == .done)
        #expect(try root.apply(.noteBackup(name: "nightly", succeeded: true, outcome: "12 groups")) == .done)
        var changed = schedule
        changed.keep = 14
        #expect(try root.apply(.setBackup(changed)) == .done)
        let kept = try #require(try root.all(BackupSchedule.self).first)
        #expect(kept.keep == 14 && kept.succeededAt == root.time && kept.outcome == "12 groups")
        #expect(try root.apply(.removeBackup(name: "nightly")) == .done)
        #expect(try root.all(BackupSchedule.self).isEmpty)
    }
}
