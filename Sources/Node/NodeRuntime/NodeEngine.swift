package import ClusterBase
import FleetModel
package import NodePorts
package import RaftCore
package import StoreLayout

/// One node: all its replicas, driven over the ports. A synchronous object with one owner; nothing in it waits.
///
///     events ─▶ handle ─▶ Raft.step per group ─▶ effects ─┬─▶ outbox    ─▶ ports.send     one frame per peer
///                                                         ├─▶ writes    ─▶ ports.submit   one write for all groups
///                                                         ├─▶ commit    ─▶ state machine  ─▶ ports.answer
///                                                         └─▶ snapshots ─▶ transfers
///     endTurn: packs queued commands, then hands over everything that the turn collected
///
/// Frames leave before the writes of the same turn are handed over: a leader replicates while its own disk works, and
/// what depends on a write is held by the core until `logWritten`.
package final class NodeEngine<Ports: WorldPorts> {
    package let node: NodeID
    package let incarnation: Incarnation
    package let settings: NodeSettings
    let ports: Ports

    /// Sorted by group.
    var replicas: [Replica] = []
    /// The highest replica id that this node held per group, so that none is held again. Sorted by group.
    var retired: [(group: GroupID, replica: ReplicaID)] = []
    package internal(set) var liveness: NodeLiveness
    var random: PRNG
    var view = StateView()

    // Collected in a turn.
    var effects = Effects()
    var livenessEffects = LivenessEffects()
    var outbox: [PeerFrame] = []
    var outboxNodes: [NodeID] = []
    var writes: [GroupWrite] = []
    var results: [ClientAnswer] = []

    // The log store: tickets under way, oldest first.
    var ticketNumber: UInt64 = 0
    var logTickets = RingBuffer<LogTicket>()
    /// Since when the oldest of them is under way; of no meaning while there is none.
    var writingSince = Instant.origin
    var isStalled = false
    var storagePace: StoragePace
    var isSpaceLow = false
    /// When a batch was last handed over, and how many groups say here that this node leads them.
    var submittedAt: Instant
    var ledCount = 0

    // Flushes of the applied state.
    var flush: (ticket: UInt64, applied: [(group: GroupID, index: LogIndex)])?
    var flushedAt: Instant
    var appliedSinceFlush: UInt64 = 0
    var bytesSinceFlush = 0
    /// Groups whose log something kept from being cut. Each at most once.
    var cutsOwed: [GroupID] = []

    // Snapshots, and replicas that wait for their place to be cleared.
    var creations: [Creation] = []
    /// Those that wait for the old replica's log to be gone. At most one a group.
    var creationsHeld: [Creation] = []
    var outgoing: [SnapshotSending<Ports.State.View>] = []
    var outgoingWaiting: [(group: GroupID, peer: Peer)] = []
    var incoming: [SnapshotReceiving] = []
    var snapshotNumber: UInt64 = 0

    var suspicionReviewAt: Instant
    /// Over all groups that this node leads.
    var uncommittedBytes = 0
    /// What the last review found of each tracked peer, and whether a group has changed since.
    var reviewed: [PeerReview] = []
    var hasUnreviewed = true
    var deadlines = Heap<GroupDeadline>()
    var ready: [GroupID] = []
    var lastNow: Instant
    /// Nodes that beats go to, sorted.
    var tracked: [NodeID] = []
    /// Nodes that send beats though this node knows of no group shared with them, and until when they get some back.
    var visitors: [(node: NodeID, until: Instant)] = []
    /// Groups whose state turned out damaged in this turn.
    var unreadable: [(group: GroupID, reason: String)] = []
    package private(set) var hasFailed = false
    /// Requests that other nodes answer for this one's clients, and the reverse.
    var forwards = Forwards()
    /// What this node does for its cluster.
    var steward: Steward
    /// The cells that it leads.
    var cells = Cells()
    var locks = LockWatches()
    var hostSigns = HostSigns()
    /// The nodes whose frames came here, ascending by node.
    package internal(set) var contacts = Contacts()
    /// What to add to an instant of this node's clock for the wall clock, in milliseconds.
    var wallOffset: Int64?
    /// The feature level that is open in the cluster, as far as this node has heard.
    package internal(set) var levelOpen = FeatureLevel.oldest

    /// Takes up the node with the replicas that its disk holds. Damaged ones stay out: they have no vote and no voice.
    package init(
        node: NodeID, opened: OpenedNode, settings: NodeSettings, ports: Ports, seed: UInt64, now: Instant
    ) {
        self.node = node
        self.incarnation = opened.incarnation
        self.settings = settings
        self.ports = ports
        self.random = PRNG(seed: seed)
        self.flushedAt = now
        self.submittedAt = now
        self.storagePace = StoragePace(now: now)
        self.suspicionReviewAt = now
        self.lastNow = now
        self.steward = Steward(now: now)
        #if MUTANTS
        view.mutant = settings.fleetMutant
        #endif
        self.liveness = NodeLiveness(node: node, incarnation: opened.incarnation, settings: settings.liveness, now: now)
        self.retired = opened.tombstones
        for lost in opened.damaged {
            retired.append((lost.group, lost.replica))
            ports.report(.damaged(lost.group, lost.replica, lost.reason))
        }
        for found in opened.replicas { take(found, now) }
        shareCache()
        trackPeers(now)
    }

    // MARK: Events

    /// A turn that is later than this is one after a standstill: whoever was silent meanwhile may have spoken, and does not
    /// lose that time.
    static var standstillMin: Nanoseconds { .seconds(1) }
    /// And after this much a disk that says nothing may have spoken long ago.
    static var pauseMin: Nanoseconds { .milliseconds(20) }

    private func takeOutPause(_ now: Instant) {
        let pause = now - max(lastNow, deadline)
        writingSince = min(writingSince + pause, now)
        guard pause > NodeEngine.standstillMin else { return }
        contacts.takeOut(pause, now)
        hostSigns.takeOut(pause, now)
    }

    package func handle(_ event: consuming NodeEvent, now: Instant) {
        if hasFailed { return }
        if now - lastNow > NodeEngine.pauseMin, now - deadline > NodeEngine.pauseMin { takeOutPause(now) }
        lastNow = now
        defer { dropUnreadable() }
        switch consume event {
        case .frame(let frame): receive(frame, now)
        case .tick: tick(at: now)
        case .logWritten(let ticket): logWritten(ticket, now)
        case .stateFlushed(let ticket): stateFlushed(ticket, now)
        case .linkBroken(let node, let how):
            liveness.linkBroken(node, how, now: now, into: &livenessEffects)
            drainLiveness(now)
            tellAll(.linkBroken(node), now)
            forwards.note(node, isCutOff: true)
            forwardsLost(at: node, now)
        case .linkUp(let node):
            liveness.linkUp(node, now: now)
            forwards.note(node, isCutOff: false)
        case .request(let request, let ticket):
            precondition(ticket < Forwards.firstTicket, "ticket \(ticket) is one of the engine's own")
            take(request, ticket, now)
        case .createReplica(let group, let replica):
            createReplica(group, replica, Configuration(members: []), now)
        case .createGroup(let group, let replica, let members):
            createReplica(group, replica, members, now)
        case .directory(let directory): forwards.directory = directory
        case .wallClock(let time):
            wallOffset = Int64(clamping: time.rawValue) - now.nanoseconds / 1_000_000
        case .destroyReplica(let group): destroyReplica(group)
        case .spaceLow(let isLow): isSpaceLow = isLow
        case .storageFailed(let reason): fail(reason)
        }
    }

    /// Ends a turn: everything that its events brought about leaves now. Wanted after each bounded batch of events.
    package func endTurn(now: Instant) {
        if hasFailed { return }
        beatEarly(now)
        sweepForwards(now)
        tendCells(now)
        tendLocks(now)
        packCommands(now)
        if hasFailed { return }
        if !outbox.isEmpty {
            for i in outbox.indices {
                // Given away, not copied: most frames have one reader.
                var frame = PeerFrame(from: node, incarnation: incarnation)
                swap(&frame, &outbox[i])
                ports.send(frame, to: outboxNodes[i])
            }
            outbox.removeAll(keepingCapacity: true)
            outboxNodes.removeAll(keepingCapacity: true)
        }
        sendForwards()
        if !writes.isEmpty || isPulseDue(now) { submitWrites(now) }
        flushIfDue(now)
    }

    /// When the next `tick` is wanted.
    package var deadline: Instant {
        var earliest = liveness.deadline
        if let next = deadlines.first { earliest = min(earliest, next.at) }
        // `isEmpty` of a generic element is looked up at every call; this is asked after every event.
        if outgoing.count > 0 { for transfer in outgoing { earliest = min(earliest, transfer.deadline) } }
        if incoming.count > 0 { for transfer in incoming { earliest = min(earliest, transfer.deadline) } }
        if logTickets.isEmpty {
            if let next = pulseAt { earliest = min(earliest, next) }
        } else if !isStalled, watchesStorage {
            earliest = min(earliest, writingSince + stallMin)
        }
        if appliedSinceFlush > 0 && flush == nil { earliest = min(earliest, flushedAt + settings.flushInterval) }
        return min(earliest, forwards.sweepAt, stewardDeadline, cellsDeadline, locksDeadline)
    }

    /// Storage that lies or fails ends the node: it says so once, and then nothing more.
    func fail(_ reason: String, isOutdated: Bool = false) {
        if hasFailed { return }
        hasFailed = true
        ports.report(isOutdated ? .outdated(reason) : .storageFailed(reason))
    }

    private func receive(_ frame: PeerFrame, _ now: Instant) {
        // A process that ended took what was asked of it along.
        forwards.note(frame.from, isCutOff: false)
        if contacts.heard(frame.from, frame.incarnation, now, settings) { forwardsLost(at: frame.from, now) }
        if let beat = frame.beat {
            welcome(frame.from, now)
            liveness.received(beat, from: frame.from, now: now, into: &livenessEffects)
            drainLiveness(now)
        } else if frame.snapshots.isEmpty {
            // Snapshots come over a connection of their own, which no beat waits for.
            liveness.sawSign(of: frame.from, frame.incarnation, now: now)
        }
        for item in frame.messages {
            guard let i = position(of: item.group), replicas[i].raft.peer.replica == item.message.to.replica else {
                receiveForUnknown(item, now)
                continue
            }
            // A message speaks for the node that the connection belongs to, and for no other.
            guard item.message.from.node == frame.from else { continue }
            step(i, .received(item.message), now)
        }
        for piece in frame.snapshots { receiveSnapshot(piece, now) }
        for answer in frame.answers { take(answer, from: frame.from, now) }
        for request in frame.requests { serve(request, for: frame.from, frame.incarnation, now) }
    }

    /// A replica that is not here was lost or removed. Whoever writes to it finds out from its silence; a new one comes
    /// only by `createReplica` under a new id, since the old one's votes and acknowledgements are gone.
    private func receiveForUnknown(_ item: GroupMessage, _ now: Instant) {
        #if MUTANTS
        if settings.raft.mutant == .wipedReplicaRejoins, position(of: item.group) == nil,
            case .append = item.message.body
        {
            createReplica(item.group, item.message.to.replica, Configuration(members: []), now)
        }
        #endif
    }

    private func tick(at now: Instant) {
        watchStorage(now)
        liveness.tick(now: now, pulses: pulses(now), into: &livenessEffects)
        drainLiveness(now)
        reviewSuspicion(now)
        while let next = deadlines.first, next.at <= now {
            _ = deadlines.popFirst()
            guard let i = position(of: next.group), replicas[i].scheduled == next.at else { continue }
            replicas[i].scheduled = nil
            checkLeader(i, now)
            step(i, .tick, now)
        }
        tickSnapshots(now)
        sweepForwards(now)
        tendCluster(now)
    }

    // MARK: Stepping

    func position(of group: GroupID) -> Int? {
        var low = 0
        var high = replicas.count
        while low < high {
            let middle = (low + high) / 2
            if replicas[middle].group < group { low = middle + 1 } else { high = middle }
        }
        return low < replicas.count && replicas[low].group == group ? low : nil
    }

    /// Steps one group and takes care of all that follows from it.
    func step(_ i: Int, _ input: Input, _ now: Instant) {
        precondition(effects.isEmpty, "the effects of the last step were not taken")
        replicas[i].raft.step(input, now: now, into: &effects)
        finishStep(i, now)
    }

    /// Takes the effects of a step. A replica that turns out damaged is gone afterwards.
    func finishStep(_ i: Int, _ now: Instant) {
        let group = replicas[i].group
        replicas[i].isReviewed = false
        hasUnreviewed = true
        drainEffects(i, now)
        guard let at = position(of: group) else { return }
        countUncommitted(at)
        forgetCut(at)
        if let commit = replicas[at].pendingCommit {
            replicas[at].pendingCommit = nil
            apply(at, through: commit, now)
        }
        if let at = position(of: group) { schedule(at) }
    }

    private func drainEffects(_ i: Int, _ now: Instant) {
        if effects.isEmpty { return }
        let group = replicas[i].group
        for message in effects.messages { send(GroupMessage(group: group, message: message)) }
        if !effects.writes.isEmpty { liveness.stir(now: now) }
        for write in effects.writes {
            if let snapshot = write.snapshot { acceptSnapshot(i, snapshot, write.sequence) }
            writes.append(GroupWrite(group: group, replica: replicas[i].raft.peer.replica, write: write))
        }
        if let commit = effects.commit { replicas[i].pendingCommit = commit }
        for outcome in effects.reads { answerRead(i, outcome) }
        for peer in effects.snapshots { outgoingWaiting.append((group, peer)) }
        if effects.events.isEmpty && effects.fetches.isEmpty {
            effects.removeAll()
        } else {
            let fetches = effects.fetches
            let events = effects.events
            effects = Effects()
            for event in events { take(event, i, now) }
            for fetch in fetches {
                guard let at = position(of: group) else { return }
                self.fetch(at, fetch, now)
            }
        }
        if !outgoingWaiting.isEmpty { startSnapshots(now) }
    }

    func send(_ message: GroupMessage) {
        let to = message.message.to.node
        frame(to: to) { $0.messages.append(message) }
    }

    func frame(to node: NodeID, _ body: (inout PeerFrame) -> Void) {
        for i in outboxNodes.indices where outboxNodes[i] == node { return body(&outbox[i]) }
        outbox.append(PeerFrame(from: self.node, incarnation: incarnation))
        outboxNodes.append(node)
        body(&outbox[outbox.count - 1])
    }

    func schedule(_ i: Int) {
        var wanted = replicas[i].raft.deadline
        if let check = replicas[i].leaderCheckAt { wanted = min(wanted ?? check, check) }
        guard let wanted, replicas[i].scheduled.map({ wanted < $0 }) ?? true else {
            return
        }
        replicas[i].scheduled = wanted
        deadlines.insert(GroupDeadline(at: wanted, group: replicas[i].group))
    }

    private func take(_ event: Event, _ i: Int, _ now: Instant) {
        switch event {
        case .becameFollower, .becamePreCandidate, .becameLeader, .steppedDown:
            roleChanged(i, now)
            forwards.wake(replicas[i].group, now)
        case .configurationApplied:
            trackPeers(now)
            roleChanged(i, now)
        case .snapshotIgnored(let id):
            dropIncoming(id, of: replicas[i].group)
        case .membershipProposed:
            results.append(.accepted)
        case .membershipRefused(let refusal):
            results.append(.refused(.membership(refusal)))
        case .transferStarted:
            results.append(.accepted)
        case .transferRefused:
            results.append(.refused(.transferNotPossible))
        default: break
        }
        ports.report(.event(replicas[i].group, event))
    }

    private func fetch(_ i: Int, _ fetch: Fetch, _ now: Instant) {
        do throws(StoreError) {
            let replica = replicas[i].raft.peer.replica
            var previousChain: UInt64 = 0
            let previous = fetch.from.previous
            if previous > replicas[i].raft.base.index {
                let before = try ports.entries(
                    of: replicas[i].group, replica: replica, from: previous, through: previous, bytesMax: 1)
                previousChain = before.first?.chain ?? 0
            }
            let entries = try ports.entries(
                of: replicas[i].group, replica: replica, from: fetch.from, through: fetch.through,
                bytesMax: fetch.bytesMax)
            step(i, .fetched(fetch.peer.replica, entries: entries, previousChain: previousChain), now)
        } catch {
            damaged(i, error.message)
        }
    }

    /// A stored record of this replica is not what was written. It may have promised things it has forgotten, so it
    /// says nothing more; its group replaces it under a new id.
    func damaged(_ i: Int, _ reason: String) {
        let group = replicas[i].group
        let replica = replicas[i].raft.peer.replica
        retire(i)
        ports.report(.damaged(group, replica, reason))
    }

    private func dropUnreadable() {
        if unreadable.isEmpty { return }
        let found = unreadable
        unreadable.removeAll()
        for item in found {
            if let i = position(of: item.group) { damaged(i, item.reason) }
        }
    }

    // MARK: Looking in

    package var groups: [GroupID] { replicas.map(\.group) }

    /// Where a replica stands, in a few numbers; nil when it is not here. Costs nothing, unlike a look at all of it.
    package func standing(of group: GroupID) -> Standing? {
        position(of: group).map { replicas[$0].standing }
    }

    /// What is under way at a replica; nil when it is not here.
    package func backlog(of group: GroupID) -> Backlog? {
        guard let i = position(of: group) else { return nil }
        var sending: [NodeID] = []
        for transfer in outgoing where transfer.group == group { sending.append(transfer.to.node) }
        for waiting in outgoingWaiting where waiting.group == group { sending.append(waiting.peer.node) }
        return Backlog(
            commands: replicas[i].queue.count + replicas[i].commandsUnderWay, reads: replicas[i].reading.count,
            isTransferring: replicas[i].isTransferring, snapshotsTo: sending,
            snapshotsFrom: incoming.count { $0.group == group }, logEntries: replicas[i].logEntries,
            cacheBytes: replicas[i].cacheBytes)
    }

    /// Lets the caller look at one replica without copying it.
    package func inspect<Result>(_ group: GroupID, _ body: (borrowing Raft, AppliedState) -> Result) -> Result? {
        guard let i = position(of: group) else { return nil }
        return NodeEngine.look(at: &replicas[i], body)
    }

    /// In place: a copy of a replica would cost a retain for every reference in it.
    private static func look<Result>(
        at replica: inout Replica, _ body: (borrowing Raft, AppliedState) -> Result
    ) -> Result {
        body(replica.raft, replica.applied)
    }
}
