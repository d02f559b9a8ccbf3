import ClusterBase
import NodePorts
import RaftCore
import StoreLayout

// Replicas coming, going, and who their leaders are.

extension NodeEngine {
    func take(_ found: OpenedNode.Replica, _ now: Instant) {
        let raft = Raft(
            peer: Peer(replica: found.replica, node: node), incarnation: incarnation, restored: found.log,
            applied: found.applied.index, settings: settings.raft, seed: seed(for: found.group, found.replica), now: now
        )
        replicas.append(Replica(group: found.group, raft: raft, generation: found.generation, applied: found.applied))
        if let staging = found.staging {
            // Its sender goes on with it, or it is given up.
            incoming.append(
                SnapshotReceiving(from: nil, staging: staging, givesUpAt: now + settings.snapshotTimeout))
        }
        // What a flush had made durable before the end may be cut, without another.
        cutsOwed.append(found.group)
        // What is known to be committed is applied again; the state may have been older than the log.
        step(replicas.count - 1, .tick, now)
    }

    private func seed(for group: GroupID, _ replica: ReplicaID) -> UInt64 {
        var stream = random.child(mix64(group.rawValue) ^ replica.rawValue)
        return stream.next()
    }

    /// Makes room for a replica and then makes it: the old state of the group must be gone for good before a log says
    /// that there is a new one.
    func createReplica(_ group: GroupID, _ replica: ReplicaID, _ members: Configuration, _ now: Instant) {
        guard position(of: group) == nil, !creations.contains(where: { $0.group == group }) else { return }
        for old in retired where old.group == group && old.replica >= replica { return }
        if isDestroying(group) {
            creationsHeld.removeAll { $0.group == group }
            return creationsHeld.append(Creation(ticket: 0, group: group, replica: replica, members: members))
        }
        if let own = members.member(replica) ?? members.members.first {
            precondition(
                own.peer == Peer(replica: replica, node: node),
                "replica \(replica) of group \(group) is not among its first members \(members)")
        }
        do throws(StoreError) {
            let batch = try StoredState.deleteGenerations(of: group, except: nil, in: ports.state)
            if batch.isEmpty && !retired.contains(where: { $0.group == group }) {
                // Nothing of the group was ever here: nothing has to be gone first.
                return create(Creation(ticket: 0, group: group, replica: replica, members: members), now)
            }
            if !batch.isEmpty { try ports.state.write(batch, isSynced: false) }
        } catch {
            return fail(error.message)
        }
        ticketNumber += 1
        creations.append(Creation(ticket: ticketNumber, group: group, replica: replica, members: members))
        ports.flushState(ticket: ticketNumber)
    }

    /// Whether the log of a replica that was here may come back after a crash. Its state must not be gone then.
    private func isDestroying(_ group: GroupID) -> Bool {
        if writes.contains(where: { $0.group == group }) { return true }
        for i in 0..<logTickets.count where logTickets[i].sequences.contains(where: { $0.group == group }) {
            return true
        }
        return false
    }

    func finishCreations(_ ticket: UInt64, _ now: Instant) {
        let ready = creations.filter { $0.ticket == ticket }
        creations.removeAll { $0.ticket == ticket }
        for made in ready where position(of: made.group) == nil { create(made, now) }
    }

    private func create(_ made: Creation, _ now: Instant) {
        let base = LogBase(index: .zero, term: .zero, chain: 0, configuration: made.members)
        let raft = Raft(
            peer: Peer(replica: made.replica, node: node), incarnation: incarnation,
            restored: RestoredLog(empty: base),
            applied: .zero, settings: settings.raft, seed: seed(for: made.group, made.replica), now: now)
        let at = replicas.firstIndex { $0.group > made.group } ?? replicas.count
        replicas.insert(
            Replica(group: made.group, raft: raft, generation: StoredState.firstGeneration, applied: .nothing),
            at: at)
        shareCache()
        hasUnreviewed = true
        let write = LogWrite(
            sequence: 0, hardState: HardState(), entries: [], last: .zero, base: base, snapshot: nil)
        writes.append(GroupWrite(group: made.group, replica: made.replica, act: .create, write: write))
        if !made.members.members.isEmpty { trackPeers(now) }
        schedule(at)
    }

    func destroyReplica(_ group: GroupID) {
        guard let i = position(of: group) else { return }
        let replica = replicas[i].raft.peer.replica
        retire(i)
        let write = LogWrite(sequence: 0, hardState: HardState(), entries: [], last: .zero, base: nil, snapshot: nil)
        writes.append(GroupWrite(group: group, replica: replica, act: .destroy, write: write))
        ports.report(.replicaRemoved(group, replica))
    }

    /// A thousand groups have no more memory than one.
    func shareCache() {
        let share = settings.cacheShare(of: replicas.count)
        for i in replicas.indices where replicas[i].raft.settings.cacheBytesMax != share {
            replicas[i].raft.setCache(bytesMax: share)
        }
    }

    func countUncommitted(_ i: Int) {
        let bytes = replicas[i].uncommittedBytes
        if bytes == replicas[i].uncommittedCounted { return }
        uncommittedBytes += bytes - replicas[i].uncommittedCounted
        replicas[i].uncommittedCounted = bytes
    }

    func retire(_ i: Int) {
        let gone = replicas.remove(at: i)
        uncommittedBytes -= gone.uncommittedCounted
        shareCache()
        if gone.leadershipTold != nil { ledCount -= 1 }
        for waiting in gone.queue { answer(waiting.ticket, .refused(.noSuchGroup)) }
        for n in 0..<gone.underWay.count {
            for ticket in gone.underWay[n].tickets { answer(ticket, .unknown) }
        }
        for reading in gone.reading { answer(reading.ticket, .refused(.noSuchGroup)) }
        retired.append((gone.group, gone.raft.peer.replica))
        liveness.setLeadership(gone.group, term: nil, sharedWith: [], now: lastNow)
        outgoing.removeAll { $0.group == gone.group }
        incoming.removeAll { $0.group == gone.group }
        writes.removeAll { $0.group == gone.group }
    }

    /// Beats go to every node that shares a group with this one.
    func trackPeers(_ now: Instant) {
        var wanted: [NodeID] = []
        for replica in replicas {
            for member in replica.raft.configuration.members where member.peer.node != node {
                wanted.append(member.peer.node)
            }
            if let leader = replica.raft.leader, leader.node != node { wanted.append(leader.node) }
        }
        visitors.removeAll { $0.until <= now }
        for visitor in visitors { wanted.append(visitor.node) }
        wanted += steward.latencies.measured(now)
        wanted.sort()
        for other in tracked where !wanted.contains(other) { liveness.untrack(other) }
        for other in wanted where !tracked.contains(other) { _ = liveness.track(other, now: now) }
        tracked = wanted
    }

    /// A leader beats for a new replica before that replica knows of any member; it must hear something back.
    func welcome(_ other: NodeID, _ now: Instant) {
        if steward.latencies.isAnswer(from: other, now) { return }
        let until = now + .seconds(10)
        if let i = visitors.firstIndex(where: { $0.node == other }) {
            visitors[i].until = until
        } else if !tracked.contains(other) && visitors.count < NodeEngine.visitorsMax {
            visitors.append((other, until))
            trackPeers(now)
        }
    }

    /// More strangers than this get no beats.
    static var visitorsMax: Int { 64 }

    func roleChanged(_ i: Int, _ now: Instant) {
        let raft = replicas[i].raft
        let told: Term? = raft.isLeader ? raft.term : nil
        if told != nil || replicas[i].leadershipTold != nil {
            var shared: [NodeID] = []
            for member in raft.configuration.members where member.peer.node != node { shared.append(member.peer.node) }
            liveness.setLeadership(replicas[i].group, term: told, sharedWith: shared, now: now)
            ledCount += (told == nil ? 0 : 1) - (replicas[i].leadershipTold == nil ? 0 : 1)
            replicas[i].leadershipTold = told
        }
        if let leader = raft.leader, !raft.isLeader {
            if !tracked.contains(leader.node) { trackPeers(now) }
            replicas[i].leaderCheckAt = now + settings.raft.suspicion * 4
        } else {
            replicas[i].leaderCheckAt = nil
        }
        if !raft.isLeader { refuseQueue(i) }
    }

    /// A leader counts as alive only if its node is alive and says that it leads this group in this term.
    func checkLeader(_ i: Int, _ now: Instant) {
        guard let check = replicas[i].leaderCheckAt, now >= check else { return }
        replicas[i].leaderCheckAt = nil
        guard let leader = replicas[i].raft.leader, !replicas[i].raft.isLeader else { return }
        let term = replicas[i].raft.term
        if !liveness.leads(leader.node, replicas[i].group, term), liveness.isAlive(leader.node) {
            step(i, .leadershipDenied(leader.node, term: term), now)
        }
    }

    // MARK: Liveness

    func drainLiveness(_ now: Instant) {
        if livenessEffects.isEmpty { return }
        for item in livenessEffects.beats { frame(to: item.to) { $0.beat = item.beat } }
        if livenessEffects.events.isEmpty { return livenessEffects.removeAll() }
        let events = livenessEffects.events
        livenessEffects = LivenessEffects()
        for event in events {
            switch event {
            case .nodeAlive(let node), .nodeRecovered(let node):
                if case .nodeAlive = event { ports.report(.peerHeard(node)) }
                tellAll(.nodeAlive(node), now)
            case .nodeSuspected(let node, _), .nodeStalled(let node):
                if case .nodeSuspected(_, let cause) = event, let path = liveness.path(to: node) {
                    ports.report(.peerSuspected(node, cause, path))
                }
                tellAll(.nodeSuspected(node), now)
                // A client need not wait for what a frozen node was asked.
                forwardsLost(at: node, now)
            case .nodeRestarted(let node, _): tellAll(.nodeRestarted(node), now)
            case .leadershipLost(let node, let group, let term):
                if let i = position(of: group) { step(i, .leadershipDenied(node, term: term), now) }
            case .leadershipClaimed(let node, let group, let term):
                if let i = position(of: group) { step(i, .leadershipClaimed(node, term: term), now) }
            }
        }
    }

    /// Steps every group; one that turns out damaged is gone from under the loop.
    func tellAll(_ input: Input, _ now: Instant) {
        var i = 0
        while i < replicas.count {
            let group = replicas[i].group
            step(i, input, now)
            if i < replicas.count && replicas[i].group == group { i += 1 }
        }
    }

    var watchesStorage: Bool {
        #if MUTANTS
        return settings.raft.mutant != .beatsHideStall
        #else
        return true
        #endif
    }

    func pulses(_ now: Instant) -> Pulses {
        guard watchesStorage else { return Pulses(engineAge: .zero, storageAge: .zero) }
        let age = logTickets.isEmpty ? .zero : now - writingSince
        return Pulses(engineAge: .zero, storageAge: age)
    }

    var stallMin: Nanoseconds { storagePace.stallMin(most: settings.storageStallMax) }

    /// Leadership depends on a disk that works: a leader that can't write stands in its group's way.
    func watchStorage(_ now: Instant) {
        guard watchesStorage else { return }
        let age = logTickets.isEmpty ? .zero : now - writingSince
        let stalls = age >= stallMin
        if stalls == isStalled { return }
        isStalled = stalls
        tellAll(.storageStalled(stalls), now)
    }

    /// When the next empty batch shows whether the disk still works: only a leader's disk stands in anyone's way, and only
    /// while nothing else is under way.
    var pulseAt: Instant? {
        guard let interval = settings.storagePulseInterval, ledCount > 0, logTickets.isEmpty else { return nil }
        return submittedAt + interval
    }

    func isPulseDue(_ now: Instant) -> Bool { pulseAt.map { $0 <= now } ?? false }

    // MARK: The log store

    func submitWrites(_ now: Instant) {
        ticketNumber += 1
        submittedAt = now
        var sequences: [(group: GroupID, sequence: UInt64)] = []
        sequences.reserveCapacity(writes.count)
        for write in writes { sequences.append((write.group, write.write.sequence)) }
        if logTickets.isEmpty { writingSince = now }
        logTickets.append(LogTicket(ticket: ticketNumber, sequences: sequences))
        var given: [GroupWrite] = []
        swap(&given, &writes)
        ports.submit(given, ticket: ticketNumber)
    }

    func logWritten(_ ticket: UInt64, _ now: Instant) {
        precondition(ticket <= ticketNumber, "log write \(ticket) was never asked for")
        while let first = logTickets.first, first.ticket <= ticket {
            _ = logTickets.popFirst()
            storagePace.wrote(within: now - writingSince, now: now)
            // Not since it was handed over: the disk gets on.
            writingSince = now
            for done in first.sequences {
                guard let i = position(of: done.group), done.sequence > 0 else { continue }
                switchState(i, through: done.sequence)
                if let again = position(of: done.group) { step(again, .persisted(sequence: done.sequence), now) }
            }
        }
        if !creationsHeld.isEmpty {
            let held = creationsHeld
            creationsHeld = []
            for made in held { createReplica(made.group, made.replica, made.members, now) }
        }
        watchStorage(now)
    }

    // MARK: Cutting the log

    func flushIfDue(_ now: Instant) {
        guard flush == nil, appliedSinceFlush > 0 else { return }
        guard
            appliedSinceFlush >= settings.flushEntries || bytesSinceFlush >= settings.flushBytes
                || now - flushedAt >= settings.flushInterval
        else { return }
        startFlush(now)
    }

    func startFlush(_ now: Instant) {
        ticketNumber += 1
        // Noted before the flush begins: what is applied while it runs may not be in it.
        flush = (ticketNumber, replicas.map { ($0.group, $0.applied.index) })
        flushedAt = now
        appliedSinceFlush = 0
        bytesSinceFlush = 0
        ports.flushState(ticket: ticketNumber)
    }

    func stateFlushed(_ ticket: UInt64, _ now: Instant) {
        if let done = flush, done.ticket == ticket {
            flush = nil
            for item in done.applied {
                guard let i = position(of: item.group) else { continue }
                replicas[i].durableApplied = max(replicas[i].durableApplied, item.index)
                cutLog(i, now)
            }
        }
        snapshotsFlushed(ticket, now)
        finishCreations(ticket, now)
    }

    /// Logs that a follower, a transfer or a snapshot kept long are looked at again: without new entries nobody else would.
    func cutOwedLogs(_ now: Instant) {
        if cutsOwed.isEmpty { return }
        let owed = cutsOwed
        cutsOwed.removeAll(keepingCapacity: true)
        #if MUTANTS
        if settings.raft.mutant == .logKeptWhenIdle { return }
        #endif
        for group in owed {
            if let i = position(of: group) { cutLog(i, now) }
        }
    }

    /// Cuts a log only below what a flush made durable, and leaves what followers still need.
    func cutLog(_ i: Int, _ now: Instant) {
        let base = replicas[i].raft.base.index
        let durable = replicas[i].durableApplied
        var bound = min(durable, replicas[i].raft.compactionBound)
        for transfer in outgoing where transfer.group == replicas[i].group { bound = min(bound, transfer.base.index) }
        if bound < durable || replicas[i].installing != nil {
            if !cutsOwed.contains(replicas[i].group) { cutsOwed.append(replicas[i].group) }
        }
        guard replicas[i].installing == nil else { return }
        replicas[i].logSize.wasCut(at: base)
        let byCount = LogIndex(bound.rawValue - min(bound.rawValue, settings.trailingEntries))
        let bySize = replicas[i].logSize.cut(
            through: bound, keeping: settings.trailingBytesMax, freeing: settings.cutBytesMin)
        let isWorthIt = byCount > base && byCount.rawValue - base.rawValue >= settings.cutEntriesMin
        guard isWorthIt || bySize != nil else { return }
        let cut = max(isWorthIt ? byCount : base, bySize ?? base)
        guard cut > base else { return }
        if let chain = replicas[i].chain(at: cut) {
            return step(i, .compact(through: cut, chain: chain), now)
        }
        do throws(StoreError) {
            let found = try ports.entries(
                of: replicas[i].group, replica: replicas[i].raft.peer.replica, from: cut, through: cut, bytesMax: 1)
            if let entry = found.first { step(i, .compact(through: cut, chain: entry.chain), now) }
        } catch {
            damaged(i, error.message)
        }
    }

    /// Doubt follows what is known now, not only what was told once: a node may have come back under another replica, or
    /// have been forgotten for a while.
    private func endDoubts(_ i: Int, _ now: Instant) {
        for member in replicas[i].members where member.peer.node != node {
            let other = member.peer.node
            if replicas[i].doubts(other) && liveness.isFitToLead(other) { step(i, .nodeAlive(other), now) }
        }
    }

    func beatEarly(_ now: Instant) {
        guard liveness.mayBeatEarly(now) else { return }
        liveness.tick(now: now, pulses: pulses(now), into: &livenessEffects)
        drainLiveness(now)
    }

    /// Whether what decides how groups judge a peer has changed.
    private func reviewPeers() -> Bool {
        NodeEngine.review(tracked, &liveness, settings.raft.suspicion, &reviewed)
    }

    /// In place: a copy of all that is known of the peers would cost a retain for every reference in it.
    private static func review(
        _ tracked: [NodeID], _ liveness: inout NodeLiveness, _ suspicion: Nanoseconds, _ reviewed: inout [PeerReview]
    ) -> Bool {
        var isNews = reviewed.count != tracked.count
        for (at, other) in tracked.enumerated() {
            let timeout = liveness.suspicionTimeout(other)
            let isFit = liveness.isFitToLead(other)
            let found = PeerReview(node: other, suspicion: max(suspicion, timeout ?? .zero), isFit: isFit)
            if at == reviewed.count {
                reviewed.append(found)
            } else if reviewed[at] != found {
                reviewed[at] = found
                isNews = true
            }
        }
        if reviewed.count > tracked.count { reviewed.removeLast(reviewed.count - tracked.count) }
        return isNews
    }

    /// Elections and repetitions keep pace with what is measured between the nodes of a group.
    func reviewSuspicion(_ now: Instant) {
        guard now >= suspicionReviewAt else { return }
        suspicionReviewAt = now + .milliseconds(250)
        if visitors.contains(where: { $0.until <= now }) || steward.latencies.isOver(now) { trackPeers(now) }
        cutOwedLogs(now)
        let isNews = reviewPeers()
        // A thousand idle groups cost nothing: what was looked at stays as it is until the group or a peer changes.
        if !isNews && !hasUnreviewed { return }
        hasUnreviewed = false
        var i = -1
        while i + 1 < replicas.count {
            i += 1
            if !isNews && replicas[i].isReviewed { continue }
            replicas[i].isReviewed = true
            var longest = settings.raft.suspicion
            for member in replicas[i].raft.configuration.members where member.peer.node != node && member.role.isVoting
            {
                if let measured = liveness.suspicionTimeout(member.peer.node) { longest = max(longest, measured) }
            }
            endDoubts(i, now)
            let known = replicas[i].raft.settings.suspicion
            if longest > known || longest * 4 < known * 3 { step(i, .suspicion(longest), now) }
        }
    }
}
