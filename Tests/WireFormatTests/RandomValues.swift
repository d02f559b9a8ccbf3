import ClusterBase
import NodePorts
import RaftCore
import WireFormat

/// Values of the core as a correct node could have them, the rare and the extreme ones more often.
struct RandomValues {
    var random: PRNG

    init(seed: UInt64) { random = PRNG(seed: seed) }

    mutating func number() -> UInt64 {
        switch random.below(6) {
        case 0: 0
        case 1: WireLimits.numberMax
        case 2: 1 + random.below(UInt64(127))
        default: random.next() >> (3 + random.below(UInt64(61)))
        }
    }

    mutating func identity<ID: Identity>() -> ID { ID(rawValue: number()) }
    mutating func bytes(below bound: Int) -> [UInt8] {
        (0..<random.below(bound)).map { _ in UInt8(random.below(256)) }
    }
    mutating func flag() -> Bool { random.chance(1, in: 2) }
    mutating func maybe<Value>(_ make: (inout RandomValues) -> Value) -> Value? { flag() ? make(&self) : nil }
    mutating func some<Value>(below bound: Int, _ make: (inout RandomValues) -> Value) -> [Value] {
        (0..<random.below(bound)).map { _ in make(&self) }
    }

    mutating func peer() -> Peer { Peer(replica: identity(), node: identity()) }

    mutating func configuration() -> Configuration {
        var members: [Member] = []
        for _ in 0..<random.below(Configuration.membersMax + 1) {
            let peer = peer()
            let taken = members.contains { $0.peer.replica == peer.replica || $0.peer.node == peer.node }
            if taken { continue }
            members.append(
                Member(
                    peer: peer, role: Role.allCases[random.below(Role.allCases.count)], promotesItself: flag(),
                    priority: Int8(truncatingIfNeeded: random.next())))
        }
        return Configuration(
            members: members, epoch: identity(), replicaHighest: identity(),
            recovery: maybe { RecoveryMark(possibleLossAfter: $0.identity(), term: $0.identity()) })
    }

    mutating func entry() -> Entry {
        let content: EntryContent =
            switch random.below(8) {
            case 0: .noop
            case 1: .configuration(configuration())
            default: .command(bytes(below: random.chance(1, in: 20) ? 40_000 : 300))
            }
        return Entry(index: identity(), term: identity(), chain: random.next(), content: content)
    }

    mutating func base() -> LogBase {
        LogBase(index: identity(), term: identity(), chain: random.next(), configuration: configuration())
    }

    mutating func voteRequest() -> VoteRequest {
        VoteRequest(lastIndex: identity(), lastTerm: identity(), isTransfer: flag())
    }
    mutating func voteAnswer() -> VoteAnswer {
        VoteAnswer(
            isGranted: flag(), campaignTerm: identity(), leader: maybe { $0.peer() }, commit: identity(),
            commitTerm: identity())
    }
    mutating func context() -> ReadContext { ReadContext(incarnation: identity(), number: number()) }

    mutating func body(_ kind: Int) -> Message.Body {
        switch kind {
        case 0: .preVote(voteRequest())
        case 1: .preVoteAnswer(voteAnswer())
        case 2: .vote(voteRequest())
        case 3: .voteAnswer(voteAnswer())
        case 4:
            .append(
                Append(
                    previousIndex: identity(), previousTerm: identity(), previousChain: random.next(),
                    commit: identity(), entries: some(below: 6) { $0.entry() }))
        case 5: .appendAnswer(AppendAnswer(verdict: .accepted(match: identity()), commit: identity()))
        case 6:
            .appendAnswer(
                AppendAnswer(
                    verdict: .rejected(previousIndex: identity(), hintIndex: identity(), hintTerm: identity()),
                    commit: identity()))
        case 7: .confirmLeadership(round: number())
        case 8: .leadershipConfirmed(round: number())
        case 9: .readRequest(context())
        case 10: .readAnswer(context(), index: maybe { $0.identity() })
        case 11: .campaignNow
        case 12: .forward(some(below: 5) { $0.bytes(below: 200) })
        default: .stale
        }
    }
    static let bodyKinds = 14

    mutating func message() -> Message {
        let kind = random.below(Self.bodyKinds)
        return Message(from: peer(), to: peer(), epoch: identity(), term: identity(), body: body(kind))
    }

    mutating func instant() -> Instant {
        let range = -WireLimits.nanosecondsMax...WireLimits.nanosecondsMax
        return Instant(nanoseconds: random.within(range))
    }
    mutating func elapsed() -> Nanoseconds { Nanoseconds(random.within(0...WireLimits.nanosecondsMax)) }

    mutating func beat() -> Beat {
        Beat(
            incarnation: identity(), sequence: number(), sentAt: instant(),
            echo: maybe {
                Beat.Echo(
                    incarnation: $0.identity(), sequence: $0.number(), sentAt: $0.instant(), heldFor: $0.elapsed())
            }, enginePulseAge: elapsed(), storagePulseAge: elapsed(), leadershipDigest: random.next(),
            leadershipVersion: number(), changesAfter: number(),
            changes: some(below: 20) {
                Beat.LeadershipChange(group: $0.identity(), term: $0.maybe { $0.identity() })
            }, isWhole: flag(), acknowledgedVersion: number())
    }

    mutating func snapshotID() -> SnapshotID {
        SnapshotID(source: identity(), incarnation: identity(), number: number())
    }

    mutating func snapshotMessage() -> SnapshotMessage {
        let body: SnapshotMessage.Body =
            switch random.below(4) {
            case 0:
                .piece(
                    number: number(), bytes: bytes(below: 1_000), checksum: UInt32(truncatingIfNeeded: random.next()),
                    manifest: maybe {
                        SnapshotManifest(base: $0.base(), keyCount: $0.number(), digest: $0.random.next())
                    })
            case 1: .received(next: number())
            case 2: .done
            default: .abandoned
            }
        return SnapshotMessage(
            group: identity(), from: peer(), to: peer(), epoch: identity(), term: identity(), snapshot: snapshotID(),
            body: body)
    }

    mutating func frame() -> PeerFrame {
        PeerFrame(
            from: identity(), incarnation: identity(), beat: maybe { $0.beat() },
            messages: some(below: 12) { GroupMessage(group: $0.identity(), message: $0.message()) },
            snapshots: some(below: 3) { $0.snapshotMessage() }, requests: some(below: 3) { $0.request() },
            answers: some(below: 3) { $0.answer() })
    }

    mutating func request() -> ForwardedRequest {
        let body: ForwardedRequest.Body =
            switch random.below(3) {
            case 0: .command(bytes(below: 300))
            case 1: .query(bytes(below: 300))
            // Zero is nobody in particular.
            default: .transferLeadership(to: maybe { ReplicaID(max($0.number(), 1)) })
            }
        return ForwardedRequest(
            number: number(), group: identity(), hops: UInt32(truncatingIfNeeded: random.next()), body: body)
    }

    mutating func answer() -> ForwardedAnswer {
        let refusals = ForwardedAnswer.Refusal.allCases
        let body: ForwardedAnswer.Body =
            switch random.below(5) {
            case 0: .applied(bytes(below: 300))
            case 1: .read(bytes(below: 300))
            case 2: .accepted
            case 3: .unknown
            default: .refused(refusals[random.below(refusals.count)], leader: maybe { $0.peer() })
            }
        return ForwardedAnswer(number: number(), incarnation: identity(), body: body)
    }
}
