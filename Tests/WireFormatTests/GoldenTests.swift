import BinaryCoding
import ClusterBase
import NodePorts
import RaftCore
import Schema
import Testing
import WireFormat

// The values that `Tools/protogen-golden` writes with another implementation of protobuf.

private let configuration = Configuration(
    members: [
        Member(peer: Peer(replica: ReplicaID(1), node: NodeID(11)), role: .voter, priority: -128),
        Member(peer: Peer(replica: ReplicaID(2), node: NodeID(12)), role: .leaving, priority: 127),
        Member(peer: Peer(replica: ReplicaID(300), node: NodeID(13)), role: .entering),
        Member(
            peer: Peer(replica: ReplicaID(301), node: NodeID(1 << 61)), role: .learner, promotesItself: true,
            priority: -1),
        Member(peer: Peer(replica: ReplicaID(302), node: NodeID(15)), role: .demoting),
    ], epoch: Epoch(4), replicaHighest: ReplicaID(400),
    recovery: RecoveryMark(possibleLossAfter: LogIndex(99), term: Term(3)))

private let base = LogBase(
    index: LogIndex(1000), term: Term(6), chain: 0xFEDC_BA98_7654_3210, configuration: configuration)

private let entries = [
    Entry(index: LogIndex(1001), term: Term(7), chain: 1, content: .noop),
    Entry(index: LogIndex(1002), term: Term(7), chain: 2, content: .command([])),
    Entry(index: LogIndex(1003), term: Term(7), chain: 3, content: .command([UInt8](0..<200))),
    Entry(index: LogIndex(1004), term: Term(8), chain: .max, content: .configuration(configuration)),
]

private let from = Peer(replica: ReplicaID(1), node: NodeID(11))
private let to = Peer(replica: ReplicaID(2), node: NodeID(12))
private let context = ReadContext(incarnation: Incarnation(3), number: 77)

private let bodies: [Message.Body] = [
    .append(
        Append(
            previousIndex: LogIndex(1000), previousTerm: Term(6), previousChain: 5, commit: LogIndex(999),
            entries: entries)),
    .append(Append(previousIndex: .zero, previousTerm: .zero, previousChain: 0, commit: .zero, entries: [])),
    .appendAnswer(AppendAnswer(verdict: .accepted(match: .zero), commit: LogIndex(998))),
    .appendAnswer(
        AppendAnswer(
            verdict: .rejected(previousIndex: LogIndex(10), hintIndex: LogIndex(9), hintTerm: Term(2)), commit: .zero)),
    .preVote(VoteRequest(lastIndex: LogIndex(5), lastTerm: Term(4), isTransfer: false)),
    .preVoteAnswer(VoteAnswer(isGranted: false, campaignTerm: Term(9), leader: to)),
    .vote(VoteRequest(lastIndex: LogIndex(5), lastTerm: Term(4), isTransfer: true)),
    .voteAnswer(
        VoteAnswer(
            isGranted: true, campaignTerm: Term(9), leader: nil, commit: LogIndex(998), commitTerm: Term(6))),
    .confirmLeadership(round: 0),
    .leadershipConfirmed(round: 1 << 61),
    .readRequest(context),
    .readAnswer(context, index: .zero),
    .readAnswer(ReadContext(incarnation: Incarnation(3), number: 78), index: nil),
    .campaignNow,
    .forward([[], Array("one".utf8), Array("two".utf8)]),
    .stale,
]

private let beat = Beat(
    incarnation: Incarnation(3), sequence: 500, sentAt: Instant(nanoseconds: -1),
    echo: Beat.Echo(
        incarnation: Incarnation(8), sequence: 499, sentAt: Instant(nanoseconds: 1 << 61),
        heldFor: .microseconds(250)),
    enginePulseAge: .milliseconds(1), storagePulseAge: .milliseconds(2), leadershipDigest: 0x8000_0000_0000_0001,
    leadershipVersion: 12, changesAfter: 9,
    changes: [
        Beat.LeadershipChange(group: GroupID(1), term: Term(9)), Beat.LeadershipChange(group: GroupID(2), term: nil),
        Beat.LeadershipChange(group: GroupID(3), term: .zero),
    ], isWhole: true, acknowledgedVersion: 11)

private let snapshotID = SnapshotID(source: ReplicaID(2), incarnation: Incarnation(3), number: 4)

private let snapshotBodies: [SnapshotMessage.Body] = [
    .piece(
        number: 0, bytes: (0..<200).map { $0 % 2 == 0 ? 0 : 0xFF }, checksum: 0xDEAD_BEEF, manifest: nil),
    .piece(number: 1, bytes: [], checksum: 1, manifest: SnapshotManifest(base: base, keyCount: 17, digest: 18)),
    .received(next: 0), .done, .abandoned,
]

private let frame = PeerFrame(
    from: NodeID(11), incarnation: Incarnation(3), beat: beat,
    messages: bodies.enumerated().map { i, body in
        GroupMessage(
            group: GroupID(UInt64(i + 1)),
            message: Message(from: from, to: to, epoch: Epoch(4), term: Term(9), body: body))
    },
    snapshots: snapshotBodies.map {
        SnapshotMessage(
            group: GroupID(7), from: from, to: to, epoch: Epoch(4), term: Term(9), snapshot: snapshotID, body: $0)
    })

private let forwards = PeerFrame(
    from: NodeID(11), incarnation: Incarnation(3),
    requests: [
        ForwardedRequest(number: 1, group: GroupID(5), hops: 0, body: .command([])),
        ForwardedRequest(number: 2, group: GroupID.root, hops: 3, body: .query([1, 2])),
        ForwardedRequest(number: 3, group: GroupID(5), hops: 0, body: .transferLeadership(to: nil)),
        ForwardedRequest(number: 4, group: GroupID(5), hops: 0, body: .transferLeadership(to: ReplicaID(9))),
    ],
    answers: [
        ForwardedAnswer(number: 7, incarnation: Incarnation(2), body: .applied([3])),
        ForwardedAnswer(number: 8, incarnation: Incarnation(2), body: .read([])),
        ForwardedAnswer(number: 9, incarnation: Incarnation(2), body: .accepted),
        ForwardedAnswer(number: 10, incarnation: Incarnation(2), body: .unknown),
        ForwardedAnswer(number: 11, incarnation: Incarnation(2), body: .refused(.notLeader, leader: to)),
        ForwardedAnswer(number: 12, incarnation: Incarnation(2), body: .refused(.malformed, leader: nil)),
    ])

@Suite struct GoldenTests {
    @Test func `forwarded requests are as another implementation of protobuf has them`() throws {
        let bytes = try golden("peer-frame-forwards-v1")
        #expect(try PeerFrame(serialized: bytes) == forwards)
        #expect(forwards.serialized() == bytes)
        #expect(forwards.wire.serialized() == bytes)
    }

    @Test func `a frame is as another implementation of protobuf has it`() throws {
        let bytes = try golden("peer-frame-v1")
        #expect(try PeerFrame(serialized: bytes) == frame)
        #expect(frame.serialized() == bytes)
        #expect(try RaftPeerFrame(serialized: bytes).serialized() == bytes)
    }

    @Test(arguments: entries.indices)
    func `a stored entry is as another implementation of protobuf has it`(_ i: Int) throws {
        let bytes = try golden("log-entry-\(i)-v1")
        let record = try LogEntryRecord(serialized: bytes)
        #expect(record == LogEntryRecord(version: 1, entry: entries[i].wire))
        #expect(record.serialized() == bytes)
        let sealed = entries[i].sealed(under: [1])
        #expect(Array(sealed.dropFirst().dropLast(4)) == bytes)
    }

    /// Decodes to the expected message and encodes to the same bytes.
    private func expectGolden<M: WireMessage>(_ name: String, _ expected: M) throws {
        let bytes = try golden(name)
        #expect(try M(serialized: bytes) == expected)
        #expect(expected.serialized() == bytes)
    }

    @Test func `the first messages and requests of a connection are as another implementation of protobuf has them`()
        throws
    {
        try expectGolden(
            "peer-hello-v1",
            PeerHello(
                version: 1, cluster: "main", node: 11, incarnation: 3, to: 12, lane: .bulk, framesOldest: 1,
                framesNewest: 1, featureLevel: 4, sequence: 300, codecs: 1))
        try expectGolden(
            "peer-hello-answer-v1",
            PeerHelloAnswer(
                version: 1, node: 12, incarnation: 8, frames: 1, featureLevel: 5, sequence: 301, refusal: .identity,
                reason: "node 11 was removed", codecs: 1))
        try expectGolden(
            "peer-hello-stream-v1",
            PeerHello(
                version: 1, cluster: "main", node: 11, incarnation: 3, to: 12, lane: .stream, framesOldest: 1,
                framesNewest: 1, featureLevel: 4, sequence: 302, stream: PeerStreamName(vm: 1 << 40 | 1, epoch: 300)))
        try expectGolden(
            "peer-stream-word-v1", PeerStreamWord(version: 1, kind: .failed, reason: "its QEMU ended"))
        try expectGolden(
            "guard-order-v1",
            GuardOrder(
                version: 1,
                body: .grant(
                    GuardGrant(
                        sentAt: 1 << 50, lengthMilliseconds: 3_000, generation: 812,
                        permits: [
                            GuardPermit(vm: (1 << 40) + 1, epoch: 7, isolation: 1),
                            GuardPermit(vm: (1 << 40) + 2, epoch: 300, isolation: 2),
                        ]))))
        try expectGolden(
            "guard-word-v1",
            GuardWord(
                version: 1,
                body: .ended(GuardEnded(vm: (1 << 40) + 1, epoch: 7, incarnation: 3, status: 137, cause: 2))))
        try expectGolden("peer-request-v1", PeerRequest(id: (1 << 40) + 1, bytes: [UInt8](0..<200)))
        try expectGolden("peer-answer-v1", PeerAnswer(id: (1 << 40) + 1, bytes: Array("ok".utf8)))
        try expectGolden("peer-answer-overloaded-v1", PeerAnswer(id: 7, isOverloaded: true))
        try expectGolden("peer-sign-v1", PeerSign(version: 1, withinMilliseconds: 50_000))
    }

    @Test func `the other stored records are as another implementation of protobuf has them`() throws {
        try expectGolden(
            "hard-state-v1",
            HardStateRecord(
                HardState(term: Term(9), votedFor: ReplicaID(0), commit: LogIndex(1003)), last: LogIndex(2000)))
        try expectGolden("hard-state-no-vote-v1", HardStateRecord(HardState(term: Term(9)), last: .zero))
        try expectGolden("log-base-v1", LogBaseRecord(base))
        try expectGolden("snapshot-v1", SnapshotRecord(snapshotID))
        try expectGolden("replica-v1", ReplicaRecord(replica: ReplicaID(301), standing: .damaged))
        try expectGolden(
            "node-v1",
            NodeMark(
                clusterID: [UInt8](0..<16), node: NodeID(11), incarnation: Incarnation(3), formatVersion: 1
            ).wire)
        let applied = AppliedRecord(version: 1, index: 1, term: 1, chain: 2, digest: 3)
        try expectGolden("applied-v1", applied)
        try expectGolden(
            "generation-v1",
            GenerationRecord(
                version: 1, snapshot: snapshotID.wire, pieces: 3, keyCount: 4, digest: 5, lastKey: [6, 7],
                isComplete: true, applied: applied))
    }
}
