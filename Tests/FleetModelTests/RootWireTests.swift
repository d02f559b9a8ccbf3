import ClusterBase
import FleetModel
import Foundation
import Schema
import Testing

@Suite struct RootWireTests {
    /// The bytes of `Proto/golden/<name>.hex`.
    private func golden(_ name: String) throws -> [UInt8] { try SpaceWireTests().golden(name) }

    private static func sha(_ byte: UInt8) -> [UInt8] { [UInt8](repeating: byte, count: 32) }
    private static let about = NodeDescription(
        name: "n2", locality: Locality(region: "eu", zone: "a", rack: "7"), peerAddress: "n2.example:7001",
        adminAddress: "[::1]:7002", key: sha(5), programVersion: "1.2.3", level: 2)
    private static var nowhere: NodeDescription {
        var about = about
        about.locality = Locality()
        return about
    }
    private static let certificate = NodeCertificate(
        fingerprint: sha(6), issuer: sha(7), expiresAt: LogTime(1_700_000_000_000))
    private static let authority = Authority(
        fingerprint: sha(7), certificate: [0x30, 1], signs: true, since: LogTime(4))
    private static let administrator = Operator(
        name: "admin", role: .administrator, kind: .bearer, credential: sha(8), expiresAt: LogTime(9),
        createdAt: LogTime(8))
    private static let backup = BackupSchedule(
        name: "nightly", interval: 3_600_000, keep: 7, destination: "/backup", keyName: "k1", finishedAt: LogTime(3),
        succeededAt: LogTime(2), outcome: "12 groups")
    private static let recovery = RecoveryRecord(
        number: 1, group: .root, epoch: Epoch(2), possibleLossAfter: LogIndex(99), at: LogTime(5), by: "admin",
        reason: "fire")

    private static let operations: [RootCommand.Operation] = [
        .found(
            RootCommand.Founding(
                cluster: [UInt8](0..<16), name: "test", node: about, certificate: certificate, authority: authority,
                administrator: administrator)),
        .createToken(hash: sha(9), note: "rack 7", lifetime: 60_000, uses: 3), .revokeToken(hash: sha(9)),
        .joinNode(token: sha(9), about), .reportNode(NodeID(2), nowhere), .certifyNode(NodeID(2), certificate),
        .arrangeNode(NodeID(2), voting: .never, isDraining: true), .removeNode(NodeID(2), isForced: true),
        .trustAuthority(fingerprint: sha(7), certificate: [0x30, 1]), .signWithAuthority(fingerprint: sha(7)),
        .distrustAuthority(fingerprint: sha(7)), .createSpace(name: "locks", replicas: 3),
        .deleteSpace(name: "locks"), .foundGroup(GroupID(5), nodes: [NodeID(1), NodeID(2), NodeID(300)]),
        .changePlacement(
            GroupID(5), revision: Revision(513),
            [.add(NodeID(4), .standby), .setPart(ReplicaID(2), .voter), .leave(ReplicaID(1))]),
        .reportReplicas(
            NodeID(2), made: [HeldReplica(GroupID(5), ReplicaID(1))], lost: [HeldReplica(GroupID(6), ReplicaID(2))]),
        .reportGroup(GroupID(5), Epoch(1), gone: [ReplicaID(1), ReplicaID(2)]), .changeSetting(.rootVoters, 5),
        .addOperator(administrator), .removeOperator(name: "bot"), .finalizeLevel(2), .setBackup(backup),
        .removeBackup(name: "nightly"), .noteBackup(name: "nightly", succeeded: true, outcome: "12 groups"),
        .recordRecovery(recovery), .noteTime,
    ]

    @Test func `every command is as another implementation of protobuf has it`() throws {
        let bytes = try golden("root-pack-v1")
        let commands = RootWireTests.operations.map {
            RootCommand(request: [UInt8](0..<16), by: "admin", $0)
        }
        #expect(Root.pack(commands.map { $0.encoded() }, time: LogTime(1_700_000_000_000)) == bytes)
        let wire = try WireRootPack(serialized: bytes)
        #expect(try wire.commands.map { try RootCommand.decode($0).get() } == commands)
    }

    @Test func `the commands of level 3 are as another implementation of protobuf has them`() throws {
        var report = CellReport(group: GroupID(.cell, number: 2))
        report.hosts = 3
        report.offered = Resources(cpuMillis: 1, memoryMiB: 2, diskMiB: 3, networkMbps: 4)
        report.free = Resources(cpuMillis: 1)
        report.waiting = 4
        report.vms = 500
        report.zones = ["a", "b"]
        report.at = LogTime(7)
        var image = RootImage(
            tenant: "t", name: "i", sha256: RootWireTests.sha(9), size: 300, holders: [NodeID(1), NodeID(300)])
        (image.guestBytes, image.isQCOW2) = (700, true)
        var split = HostsPlan.Wish(.split)
        (split.into, split.nodes) = ("north-2", [NodeID(1), NodeID(300)])
        var merge = HostsPlan.Wish(.merge)
        (merge.number, merge.into, merge.retires, merge.isAutomatic) = (300, "south", true, true)
        let later: [RootCommand.Operation] = [
            .createCell(name: "north", replicas: 5, region: "north", survives: .region),
            .moveHost(NodeID(300), to: GroupID(.cell, number: 2), epoch: 9, .finish), .retireCell(name: "north"),
            .reportCell(report), .nameSealingKey(RootWireTests.sha(9)),
            .addImage(image),
            .holdImage(tenant: "t", name: "i", sha256: RootWireTests.sha(9), NodeID(300), isHeld: true),
            .removeImage(tenant: "t", name: "i", .cancel, removal: 300),
            .rotateSealingKey(.use, RootWireTests.sha(9)),
            .markDomain(name: "fast", mark: RootWireTests.sha(9), before: RootWireTests.sha(8)),
            .declareRegion(name: "north", isLost: true, epoch: 300, isAutomatic: true),
            .planRegion(name: "north", .evacuate, returns: .all, epoch: 300),
            .planRegion(name: "north", .cancel, returns: nil, epoch: 0),
            .planHosts(cell: "north", split), .planHosts(cell: "north", merge),
            .noteHosts(cell: "north", number: 300, NodeID(7), reason: "it is down"),
            .moveHost(
                NodeID(300), to: GroupID(.cell, number: 2), epoch: 9, .cancel, vms: 500, reason: "it is down"),
            .setTenant(name: "t", Quota(vmCount: 9, priorityMax: -5), tier: "gold"),
            .noteForbidden(action: "may not", omitted: 300), .deleteSpace(name: "locks", group: GroupID(5)),
        ]
        let commands =
            RootWireTests.operations.map { RootCommand(request: [UInt8](0..<16), by: "admin", $0) }
            + later.map { RootCommand(by: "admin", $0) }
            + [RootCommand(origin: CellWireTests.origin, by: "admin", .noteTime)]
        let bytes = try golden("root-pack-v3")
        #expect(Root.pack(commands.map { $0.encoded() }, level: 3, time: LogTime(1_700_000_000_000)) == bytes)
        let wire = try WireRootPack(serialized: bytes)
        #expect(try wire.commands.map { try RootCommand.decode($0, level: 3).get() } == commands)
        #expect(later.allSatisfy { $0.level == FeatureLevel.cells })
        #expect(wire.commands.suffix(19).allSatisfy { RootCommand.decode($0, level: 2) == .failure(.malformed) })
    }

    @Test func `every row is as another implementation of protobuf has it`() throws {
        let answer = try #require(RootAnswer.decode(try golden("root-answer-v1")))
        #expect(answer.encoded() == (try golden("root-answer-v1")))
        func check<Record: RootRecord>(_ record: Record) {
            #expect(answer.records(Record.self) == [record])
            guard case .rows(let rows, _) = answer.body else { return }
            #expect(rows.first { $0.table == Record.table }?.value == record.encoded())
        }
        check(
            RootCluster(
                id: [UInt8](0..<16), name: "test", level: 2, nodeHighest: NodeID(3), groupHighest: 4, epoch: Epoch(1),
                recoveries: 1, foundedAt: .zero))
        check(
            RootNode(
                id: NodeID(2), about: RootWireTests.about, state: .active, since: LogTime(7),
                certificate: RootWireTests.certificate, previousCertificate: RootWireTests.certificate,
                voting: .preferred, isDraining: true, token: RootWireTests.sha(9)))
        check(
            JoinToken(
                hash: RootWireTests.sha(9), note: "rack 7", createdAt: LogTime(1), expiresAt: LogTime(2), usesLeft: 1,
                usesAllowed: 3, isRevoked: true, createdBy: "admin"))
        check(RootWireTests.authority)
        check(RootSpace(name: "locks", group: GroupID(5), replicas: 3, createdAt: LogTime(1), createdBy: "admin"))
        let replicas = [
            PlacedReplica(
                replica: ReplicaID(1), node: NodeID(2), part: .voter, phase: .made, isLeaving: true, since: LogTime(3)),
            PlacedReplica(replica: ReplicaID(2), node: NodeID(3), part: .standby, phase: .wanted, since: .zero),
        ]
        check(
            GroupPlacement(
                group: GroupID(5), replicas: replicas, replicaHighest: ReplicaID(2), epoch: Epoch(1),
                revision: Revision(513),
                founders: [GroupPlacement.Founder(replica: ReplicaID(1), node: NodeID(2))]))
        check(RootSettingValue(.rootVoters, 5))
        check(RootWireTests.administrator)
        check(RootWireTests.backup)
        check(RootWireTests.recovery)
    }

    @Test func `a result is as another implementation of protobuf has it`() throws {
        let result = RootResult(revision: Revision(230_600), outcome: .refused(.holdsOnlyCopy(.root)))
        #expect(try result.encoded() == golden("root-result-v1"))
        #expect(try RootResult.decode(golden("root-result-v1")) == result)
    }

    @Test func `queries and answers come back as they were`() {
        let queries: [RootQuery] = [
            .cluster, .all(.nodes), .node(NodeID(3)), .nodeNamed("n"), .space("s"), .placement(.root),
            .token(hash: [1]), .operatorWith(credential: [2]), .changes(since: LogIndex(4), limit: 5),
            .rows(after: nil, limit: 0), .rows(after: [], limit: 1), .list(.spaces, after: [1], limit: 2),
        ]
        for query in queries { #expect(RootQuery.decode(query.encoded()) == query) }
        let bodies: [RootAnswer.Body] = [
            .rows([], resumeAfter: nil), .rows([RootRow(key: [1], value: [2])], resumeAfter: []),
            .changes([RootRow(key: [1], value: nil), RootRow(key: [1], value: [])], through: LogIndex(6)),
            .compacted(LogIndex(7)), .refused(.notFounded),
        ]
        for body in bodies {
            let answer = RootAnswer(index: LogIndex(1), time: LogTime(2), body: body)
            #expect(RootAnswer.decode(answer.encoded()) == answer)
        }
    }

    @Test func `a command cut or changed at any byte is refused or another command, never a trap`() throws {
        var random = PRNG(seed: 3)
        for operation in RootWireTests.operations {
            let bytes = RootCommand(by: "admin", operation).encoded()
            for count in 0..<bytes.count { _ = RootCommand.decode(Array(bytes.prefix(count))) }
            for _ in 0..<40 {
                var changed = bytes
                changed[random.below(changed.count)] = UInt8(random.below(256))
                var root = try RootBench()
                root.index = root.index.next
                let pack = Root.pack([changed], time: LogTime(random.next()))
                let results = try Root.apply(pack: pack, index: root.index, access: &root.state)
                #expect(results.count == 1)
                // What is kept must be readable again.
                _ = try root.view()
            }
        }
    }
}
