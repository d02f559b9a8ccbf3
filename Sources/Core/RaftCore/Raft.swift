public import ClusterBase

/// What a core can be told. Every input is legal in every role; what does not apply is refused by an effect.
public enum Input: Sendable {
    /// A message for this replica. The shell has checked the sender's node.
    case received(Message)
    /// Time has passed; wanted at `deadline`, harmless at any time.
    case tick
    /// Client payloads, one entry each and at least one, appended together or refused together. One outcome for all.
    case propose([[UInt8]])
    /// A linearizable read; answered in `reads` by its ticket.
    case read(ticket: UInt64)
    /// Change who takes part, by one or more steps at once; only a leader takes it.
    case changeMembership([MembershipStep])
    /// Hand leadership to a voter; without a name, to the one that is furthest.
    case transferLeadership(to: ReplicaID?)
    /// Lead no more, if it does; another may then.
    case stepDown
    /// The log store stalls or works again. While it stalls the replica neither leads nor campaigns.
    case storageStalled(Bool)
    /// The write with this sequence, and all before it, are durable.
    case persisted(sequence: UInt64)
    /// The state machine has applied everything up to here.
    case applied(LogIndex)
    /// Forget the log up to `through`, whose chain hash is given. The state up to there is durable.
    case compact(through: LogIndex, chain: UInt64)
    /// The answer to a fetch. `previousChain` is the chain before the first entry, zero when not known.
    case fetched(ReplicaID, entries: [Entry], previousChain: UInt64)
    /// The entries asked for can't be read any more; the follower gets a snapshot.
    case fetchFailed(ReplicaID)
    /// A transfer to a follower has ended; with an index, the follower has installed a snapshot of that index.
    case snapshotSent(ReplicaID, installed: LogIndex?)
    /// A verified snapshot lies ready here, brought by `from`.
    case snapshotReceived(SnapshotID, base: LogBase, from: Peer)
    /// The node was not heard for too long: its replica is as good as dead.
    case nodeSuspected(NodeID)
    /// The node is heard again.
    case nodeAlive(NodeID)
    /// The node came back under a new incarnation: what it had in memory is gone.
    case nodeRestarted(NodeID)
    /// The connection to the node broke, which is a strong hint that it is dead.
    case linkBroken(NodeID)
    /// The node lives, but says that it does not lead this group in this term (any more).
    case leadershipDenied(NodeID, term: Term)
    /// The node says that it leads the group in the term.
    case leadershipClaimed(NodeID, term: Term)
    /// How long silence lasts before doubt, as measured between the nodes of this group.
    case suspicion(Nanoseconds)
    /// The operator's way out of a lost quorum: this replica alone goes on, under the next epoch.
    case forceRecovery
}

/// One replica of one group: a pure state machine, `step(input) → effects`.
///
///                      silence of the leader           majority would vote        majority of votes
///     ┌──────────┐ ────────────────────────▶ ┌──────────────┐ ──────▶ ┌───────────┐ ──────▶ ┌────────┐
///     │ follower │                           │ pre-candidate │         │ candidate │         │ leader │
///     └──────────┘ ◀──────────────────────── └──────────────┘ ◀────── └───────────┘         └────────┘
///          ▲        leader found, higher term                  no majority in time               │
///          └───────────── higher term, quorum lost, asked to step down, removed ◀───────────────┘
///
/// The rules it keeps beyond the Raft paper, each with its reason where the code is:
/// * votes, terms and entries are durable before a message that promises them leaves (`held`);
/// * a leader sends entries before its own write ends, and counts itself only after;
/// * a configuration takes effect when its entry is known to be committed; the append rule keeps that safe;
/// * an idle group has no timers: liveness is an input.
public struct Raft: Sendable {
    /// What part a replica plays in its term; `preCandidate` and `candidate` campaign.
    public enum Phase: UInt8, Sendable { case follower, preCandidate, candidate, leader }

    /// A pre-vote that was refused only because the leader was not doubted here yet.
    struct AskedInVain: Sendable {
        var from: Peer
        var term: Term
        var request: VoteRequest
        var at: Instant
    }

    struct PendingWrite: Sendable {
        var sequence: UInt64
        var last: LogIndex
        var term: Term
        var votedForSelf: Bool
        /// The index of the snapshot that this write switches over to.
        var installs: LogIndex?
    }

    struct HeldMessage: Sendable {
        var sequence: UInt64
        var message: Message
    }

    /// The replica that this is, and its node.
    public let peer: Peer
    /// Of this process; read contexts and snapshots carry it.
    public let incarnation: Incarnation
    /// Bounds and times; `suspicion` follows what the nodes measure.
    public internal(set) var settings: Settings

    // What survives a restart.
    /// The latest term that it knows; durable before anything that depends on it leaves.
    public internal(set) var term: Term
    /// Whom it voted for in `term`; nil for nobody.
    public internal(set) var votedFor: ReplicaID?
    /// How far it knows entries to be committed.
    public internal(set) var commit: LogIndex
    var log: RaftLog

    // The configuration in force: the last one whose entry is known to be committed.
    /// The last configuration whose entry it knows to be committed.
    public internal(set) var configuration: Configuration
    /// The index of that entry.
    public internal(set) var configurationIndex: LogIndex

    /// What it does in its term.
    public internal(set) var phase: Phase = .follower
    /// Who leads `term`, as far as it knows; itself when it leads.
    public internal(set) var leader: Peer?
    /// Every entry up to here is on this replica's disk and equal to its log.
    public internal(set) var durable: LogIndex
    /// What the shell has said the state machine holds.
    public internal(set) var applied: LogIndex
    /// How far `commit` was handed to the shell.
    var handedOut: LogIndex
    /// Set once this replica must not act any more: its log differs from its group's.
    public internal(set) var isStopped = false
    /// Whether its epoch or id is out of date: then it must not campaign until it hears from its group again.
    public internal(set) var isFenced = false
    /// Whether its log store stands: then it neither leads nor campaigns.
    public internal(set) var isStorageStalled = false

    // Durability: what was issued and what waits for it.
    var writeSequence: UInt64 = 0
    var pendingWrites = RingBuffer<PendingWrite>()
    var held = RingBuffer<HeldMessage>()
    var isHardStateDirty = false
    /// The commit of the last write issued: what a restart knows once everything issued is durable.
    var commitWritten: LogIndex
    var appendedFrom: LogIndex?
    var baseToWrite: LogBase?
    var snapshotToWrite: SnapshotID?
    var afterWrite: [Message] = []

    // Elections.
    var random: PRNG
    package internal(set) var suspected: [NodeID] = []
    package internal(set) var electionDeadline: Instant?
    var campaignRounds: Int64 = 0
    /// Of meaning while it campaigns.
    var askAgainAt = Instant.origin
    var askAgainWait = Nanoseconds.zero
    var isCampaigning: Bool { phase == .preCandidate || phase == .candidate }
    var isTransferCampaign = false
    var askedInVain: AskedInVain?
    /// The leader whose connection ended, until it is followed again.
    var leaderForgotten: Peer?
    /// The node whose beats say that it leads no more in this term, though others may still believe it.
    var leaderDenied: (node: NodeID, term: Term)?
    /// One per member: 0 no answer, 1 granted, -1 refused.
    var votes: [Int8] = []

    // Leadership.
    var progress: [Progress] = []
    var termStart: LogIndex = .zero
    /// Whoever holds a later entry was told with it that the configuration in force is committed.
    var heardOfMembersAfter: LogIndex = .zero
    /// Appended by this leader and not committed.
    public internal(set) var uncommittedBytes = 0
    var quorumDeadline: Instant?
    var transferTarget: ReplicaID?
    var transferDeadline: Instant?
    var isBroadcastOwed = false
    var promotionDeadline: Instant?

    // Reads.
    var reads = ReadQueue()

    #if MUTANTS
    /// The first broken invariant; an ordinary build stops the process instead.
    public internal(set) var violation: String?
    var previousConfiguration: Configuration?
    var mutantPreVotes: [ReplicaID] = []
    #endif

    /// Takes up a replica where its disk left it. `applied` is what the state machine holds already; it is at least
    /// the log's base and at most its last entry.
    public init(
        peer: Peer, incarnation: Incarnation, restored: RestoredLog, applied: LogIndex, settings: Settings,
        seed: UInt64,
        now: Instant
    ) {
        self.peer = peer
        self.incarnation = incarnation
        self.settings = settings
        self.log = RaftLog(restored)
        self.term = restored.hardState.term
        self.votedFor = restored.hardState.votedFor
        // The state machine holds only what was committed, so `applied` is as good a hint as the stored one.
        self.commit = min(max(restored.hardState.commit, restored.base.index, applied), restored.last)
        precondition(
            applied >= restored.base.index && applied <= restored.last,
            "applied \(applied) lies outside the log \(restored.base.index)...\(restored.last)")
        self.commitWritten = commit
        self.durable = restored.last
        self.applied = applied
        self.handedOut = applied
        self.configuration = restored.base.configuration
        self.configurationIndex = restored.base.index
        self.random = PRNG(seed: seed)
        for entry in restored.configurations where entry.index <= commit {
            if case .configuration(let configuration) = entry.content {
                self.configuration = configuration
                self.configurationIndex = entry.index
            }
        }
        // A replica that starts gives a leader it does not know yet time to be heard.
        restartElectionTimer(now)
        deadline = electionDeadline
    }

    /// When the next `tick` is wanted; nil while the group is idle.
    public private(set) var deadline: Instant?

    private func earliestDeadline() -> Instant? {
        var earliest = Raft.never
        if let at = electionDeadline { earliest = min(earliest, at) }
        if isCampaigning { earliest = min(earliest, askAgainAt) }
        if phase == .leader {
            for i in 0..<progress.count {
                if let at = progress[i].retryAt { earliest = min(earliest, at) }
            }
            if let at = quorumDeadline { earliest = min(earliest, at) }
            if let at = promotionDeadline { earliest = min(earliest, at) }
        }
        if let at = transferDeadline { earliest = min(earliest, at) }
        if let at = reads.retryAt { earliest = min(earliest, at) }
        return earliest == Raft.never ? nil : earliest
    }

    private static var never: Instant { Instant(nanoseconds: .max) }

    /// The epoch of this replica, which never falls: a log that is replayed may hold configurations of older epochs.
    public var epoch: Epoch { max(configuration.epoch, log.base.configuration.epoch) }
    /// Whether it was just made: it knows no members, and has nothing of any history.
    package var isBlank: Bool { configuration.members.isEmpty && log.last == .zero }
    /// The last index of its log, durable or not.
    public var lastIndex: LogIndex { log.last }
    /// The term of its last entry.
    public var lastTerm: Term { log.lastTerm }
    /// The chain of its last entry: equal chains mean equal logs.
    public var lastChain: UInt64 { log.lastChain }
    /// What its log starts behind.
    public var base: LogBase { log.base }
    /// The index of the last configuration entry in the log, committed or not.
    public var lastConfigurationIndex: LogIndex { log.configurations.last?.index ?? log.base.index }
    /// Whether it leads its term; another may lead a later one already.
    public var isLeader: Bool { phase == .leader }
    /// Whether this leader has committed an entry of its own term, and so may read and change members.
    public var hasCommittedInTerm: Bool { phase == .leader && commit >= termStart }

    /// Whether no change of members is under way at this leader, and the group needs nobody who left, not even without this leader:
    /// a majority goes by the last change, and whoever goes by the members before has no log that is longer than theirs.
    public var isMembershipSettled: Bool {
        guard hasCommittedInTerm, lastConfigurationIndex <= commit, !configuration.isJoint else { return false }
        if mutated(.settlesBeforeOthersKnow) { return true }
        return hasMajority { i in
            progress[i].member.peer == peer
                || progress[i].commitKnown >= configurationIndex && progress[i].match >= heardOfMembersAfter
        }
    }

    /// Whether this replica holds the node for dead or unfit to lead.
    public func doubts(_ node: NodeID) -> Bool { isSuspected(node) }

    /// Where each member stands, as this leader sees it; on others, whether it may lead and when it tries. For people.
    public var describedProgress: String {
        var text = reads.count == 0 ? "" : "\(reads.described); "
        if phase != .leader {
            let role = configuration.member(peer.replica)?.role
            text += role.map { "\($0)" } ?? "no member"
            text += mayCampaign ? "" : ", may not campaign"
            text += isStorageStalled ? ", stalled" : ""
            text += electionDeadline.map { ", campaigns at \($0)" } ?? ", waits"
            text += suspected.isEmpty ? "; " : ", doubts \(suspected); "
            return text
        }
        for i in 0..<progress.count {
            text +=
                "\(progress[i].member.peer) \(progress[i].member.role) \(progress[i].state) match \(progress[i].match)"
            text += isSuspected(progress[i].member.peer.node) ? " doubted; " : "; "
        }
        return text
    }

    /// What this leader counts of a member's log; nil when it does not lead, or has no such member.
    public func match(of replica: ReplicaID) -> LogIndex? {
        guard phase == .leader, let i = configuration.position(of: replica), i < progress.count else { return nil }
        return progress[i].match
    }

    /// Changes what entries may take in memory: the owner of many groups shares it out among them.
    public mutating func setCache(bytesMax: Int) {
        settings.cacheBytesMax = bytesMax
        log.evict(below: min(applied, durable), bytesMax: bytesMax)
    }

    /// What the entries in memory take.
    public var cacheBytes: Int { log.cacheBytes }
    /// Whether leadership is being handed over.
    public var isTransferring: Bool { transferTarget != nil }

    /// The entry at `index` if it is in memory.
    public func cachedEntry(at index: LogIndex) -> Entry? { log.entry(at: index) }
    /// The term of an entry, also of one that is not in memory; nil outside of the log.
    public func term(at index: LogIndex) -> Term? { log.term(at: index) }
    /// The chain of an entry; nil when it is not in memory.
    public func chain(at index: LogIndex) -> UInt64? { log.chain(at: index) }

    /// The configuration that was in force at `index`, a committed index at or above the base.
    public func configuration(at index: LogIndex) -> Configuration {
        var found = log.base.configuration
        for entry in log.configurations where entry.index <= index {
            if case .configuration(let configuration) = entry.content { found = configuration }
        }
        return found
    }

    /// The only way to change a replica. Appends to `effects`, which the caller empties between steps.
    public mutating func step(_ input: Input, now: Instant, into effects: inout Effects) {
        if isStopped { return refuseWhileStopped(input, into: &effects) }
        #if MUTANTS
        if violation != nil { return }
        #endif
        let before = Checkpoint(self)
        dispatch(input, now, &effects)
        if phase == .leader && isBroadcastOwed { broadcast(now, &effects) }
        isBroadcastOwed = false
        issueWrite(&effects)
        handOutCommit(&effects)
        deadline = earliestDeadline()
        checkInvariants(since: before, effects)
    }

    private mutating func dispatch(_ input: Input, _ now: Instant, _ effects: inout Effects) {
        switch input {
        case .received(let message): receive(message, now, &effects)
        case .tick: tick(now, &effects)
        case .propose(let payloads): propose(payloads, now, &effects)
        case .read(let ticket): read(ticket, now, &effects)
        case .changeMembership(let steps): changeMembership(steps, now, &effects)
        case .transferLeadership(let target): transfer(to: target, now, &effects)
        case .stepDown: yieldLeadership(now, &effects)
        case .storageStalled(let isStalled): storageStalled(isStalled, now, &effects)
        case .persisted(let sequence): persisted(sequence, now, &effects)
        case .applied(let index): applied(index, &effects)
        case .compact(let index, let chain): compact(through: index, chain: chain)
        case .fetched(let replica, let entries, let chain): fetched(replica, entries, chain, now, &effects)
        case .fetchFailed(let replica): fetchFailed(replica, &effects)
        case .snapshotSent(let replica, let index): snapshotSent(replica, index, now, &effects)
        case .snapshotReceived(let id, let base, let source): install(id, base, source, now, &effects)
        case .nodeSuspected(let node): nodeSuspected(node, now, &effects)
        case .nodeAlive(let node): nodeAlive(node, now, &effects)
        case .nodeRestarted(let node): nodeRestarted(node, now, &effects)
        case .linkBroken(let node): linkBroken(node, now, &effects)
        case .leadershipDenied(let node, let term): leadershipDenied(node, term, now, &effects)
        case .leadershipClaimed(let node, let claimed):
            if leaderDenied?.node == node && claimed >= term { leaderDenied = nil }
        case .suspicion(let length): settings.suspicion = length
        case .forceRecovery: forceRecovery(now, &effects)
        }
    }

    /// A stopped replica answers its clients and nobody else.
    private func refuseWhileStopped(_ input: Input, into effects: inout Effects) {
        switch input {
        case .propose: effects.proposals.append(.refused(.notLeader(hint: nil)))
        case .read(let ticket): effects.reads.append(ReadOutcome(ticket: ticket, verdict: .refused(hint: nil)))
        case .changeMembership, .forceRecovery: effects.events.append(.membershipRefused(.notLeader(hint: nil)))
        case .transferLeadership: effects.events.append(.transferRefused)
        default: break
        }
    }

    // MARK: Time

    private mutating func tick(_ now: Instant, _ effects: inout Effects) {
        if let deadline = electionDeadline, now >= deadline {
            electionDeadline = nil
            campaign(now, &effects)
        }
        if isCampaigning && now >= askAgainAt { askAgain(now, &effects) }
        if let at = reads.retryAt, now >= at { retryReads(now, &effects) }
        if let deadline = transferDeadline, now >= deadline { endTransfer(succeeded: false, &effects) }
        guard phase == .leader else { return }
        checkQuorum(now, &effects)
        guard phase == .leader else { return }
        for i in 0..<progress.count {
            if let at = progress[i].retryAt, now >= at { repeatAppend(to: i, now, &effects) }
        }
        if let at = promotionDeadline, now >= at { promoteLearners(now, &effects) }
    }

    // MARK: Durability

    /// Sends a message that promises something this replica must not forget: after everything issued is durable.
    mutating func sendDurable(_ message: Message) { afterWrite.append(message) }

    func message(to peer: Peer, _ body: Message.Body) -> Message {
        Message(from: self.peer, to: peer, epoch: epoch, term: term, body: body)
    }

    /// Turns what this step changed into at most one write, and holds back what depends on it.
    private mutating func issueWrite(_ effects: inout Effects) {
        let isNeeded = isHardStateDirty || appendedFrom != nil || baseToWrite != nil
        if isNeeded {
            writeSequence += 1
            var entries: [Entry] = []
            if let from = appendedFrom, from <= log.last {
                entries = log.entries(from: from, bytesMax: .max, countMax: .max)
            }
            var hardState = HardState(term: term, votedFor: votedFor, commit: commit)
            var isStillDirty = false
            if mutated(.termNotDurable) && entries.isEmpty && phase == .follower {
                hardState.term = Term(term.rawValue - 1)
            }
            if mutated(.entryDurableBeforeItsTerm) && !entries.isEmpty && isHardStateDirty {
                hardState.term = Term(max(1, term.rawValue) - 1)
                hardState.votedFor = nil
                isStillDirty = true
            }
            effects.writes.append(
                LogWrite(
                    sequence: writeSequence, hardState: hardState, entries: entries, last: log.last, base: baseToWrite,
                    snapshot: snapshotToWrite))
            pendingWrites.append(
                PendingWrite(
                    sequence: writeSequence, last: log.last, term: term,
                    votedForSelf: phase == .candidate && votedFor == peer.replica,
                    installs: snapshotToWrite == nil ? nil : baseToWrite?.index))
            isHardStateDirty = isStillDirty
            commitWritten = commit
            appendedFrom = nil
            baseToWrite = nil
            snapshotToWrite = nil
        }
        if afterWrite.isEmpty { return }
        if let last = pendingWrites.last {
            for message in afterWrite { held.append(HeldMessage(sequence: last.sequence, message: message)) }
        } else {
            effects.messages.append(contentsOf: afterWrite)
        }
        afterWrite.removeAll(keepingCapacity: true)
    }

    /// Takes in that the log was cut: an unfinished write vouches for nothing above the cut, not even when the same
    /// index and term come back later, because a write in between replaces them on disk (the ABA case).
    mutating func logWasCut(after index: LogIndex) {
        durable = min(durable, index)
        if mutated(.staleWriteMarksDurable) { return }
        for i in 0..<pendingWrites.count where pendingWrites[i].last > index { pendingWrites[i].last = index }
    }

    private mutating func persisted(_ sequence: UInt64, _ now: Instant, _ effects: inout Effects) {
        var isSelfVoteDurable = false
        while let write = pendingWrites.first, write.sequence <= sequence {
            _ = pendingWrites.popFirst()
            if let index = write.installs {
                applied = max(applied, index)
                effects.events.append(.snapshotInstalled(index))
            }
            durable = max(durable, min(write.last, log.last))
            if write.votedForSelf && write.term == term { isSelfVoteDurable = true }
        }
        releaseReads(&effects)
        while let first = held.first, first.sequence <= sequence {
            effects.messages.append(first.message)
            _ = held.popFirst()
        }
        switch phase {
        case .leader:
            if countOwnLog(now) { advanceLeaderCommit(now, &effects) }
        case .candidate where isSelfVoteDurable:
            tally(peer.replica, granted: true, now, &effects)
        default:
            break
        }
    }

    /// The state machine may have what is committed and durable here, so that a restart never finds it ahead of the log.
    private mutating func handOutCommit(_ effects: inout Effects) {
        let bound = min(commit, durable)
        if bound > handedOut {
            handedOut = bound
            effects.commit = bound
        }
    }

    private mutating func applied(_ index: LogIndex, _ effects: inout Effects) {
        precondition(index <= handedOut, "applied \(index) was never handed out: \(handedOut)")
        if index > applied { applied = index }
        log.evict(below: min(applied, durable), bytesMax: settings.cacheBytesMax)
        releaseReads(&effects)
    }

    /// The core's own view of what `compact` may take: followers that are being served keep their entries.
    public var compactionBound: LogIndex {
        var bound = min(applied, durable)
        guard phase == .leader else { return bound }
        for i in 0..<progress.count where progress[i].state == .replicate && !isSuspected(progress[i].member.peer.node)
        {
            bound = min(bound, progress[i].match)
        }
        return bound
    }

    private mutating func compact(through index: LogIndex, chain: UInt64) {
        guard index > log.base.index else { return }
        precondition(index <= applied && index <= durable, "a log is cut at \(index), beyond applied \(applied)")
        guard let term = log.term(at: index) else { preconditionFailure("no term at \(index)") }
        if let known = log.chain(at: index) { precondition(known == chain, "the chain at \(index) is not \(chain)") }
        var base = LogBase(index: index, term: term, chain: chain, configuration: configuration(at: index))
        base.configuration.epoch = max(base.configuration.epoch, log.base.configuration.epoch)
        log.compact(to: base)
        baseToWrite = base
    }

    // MARK: Roles

    mutating func becomeFollower(_ newTerm: Term, leader newLeader: Peer?, _ now: Instant, _ effects: inout Effects) {
        let wasLeading = phase == .leader
        let isNews = phase != .follower || newTerm > term || leader != newLeader
        if newTerm > term {
            term = newTerm
            votedFor = nil
            isHardStateDirty = true
        } else if mutated(.voteClearedOnSameTermStepDown) && phase == .candidate {
            votedFor = nil
            isHardStateDirty = true
        }
        phase = .follower
        leader = newLeader
        leaderForgotten = nil
        if newLeader != nil { leaderDenied = nil }
        isTransferCampaign = false
        if wasLeading { leaveOffice() }
        // The target's campaign ends the leader's office, but only the next leader's name tells how it went.
        if let newLeader { endTransfer(succeeded: newLeader.replica == transferTarget, &effects) }
        if isNews {
            failReads(&effects)
            effects.events.append(.becameFollower(term: term, leader: newLeader))
        }
        if newLeader == nil || isLeaderDoubted {
            if electionDeadline == nil || wasLeading { restartElectionTimer(now) }
        } else {
            electionDeadline = nil
            campaignRounds = 0
        }
    }

    mutating func leaveOffice() {
        progress.removeAll(keepingCapacity: true)
        quorumDeadline = nil
        promotionDeadline = nil
        uncommittedBytes = 0
    }

    func isSuspected(_ node: NodeID) -> Bool {
        for suspect in suspected where suspect == node { return true }
        return false
    }

    /// Whether there is no leader, or one that seems dead: only then is another campaign welcome here.
    package var isLeaderDoubted: Bool {
        guard let leader else { return true }
        return leader.replica != peer.replica && isSuspected(leader.node)
    }

    @inline(__always) func mutated(_ mutant: Mutant) -> Bool {
        #if MUTANTS
        return settings.mutant == mutant
        #else
        return false
        #endif
    }
}
