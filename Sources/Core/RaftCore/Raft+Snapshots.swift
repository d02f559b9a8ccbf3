import ClusterBase

// Snapshots: the core decides when one is needed and when one may be installed; the pieces are the shell's.

extension Raft {
    /// A follower that installs a snapshot never goes backwards: what it has committed stays, and only a log that
    /// really differs is given up, as a whole.
    mutating func install(
        _ id: SnapshotID, _ received: LogBase, _ source: Peer, _ now: Instant, _ effects: inout Effects
    ) {
        var base = received
        base.configuration.epoch = max(base.configuration.epoch, epoch)
        if phase == .candidate || phase == .preCandidate { becomeFollower(term, leader: nil, now, &effects) }
        if phase == .leader || base.index <= commit || log.term(at: base.index) == base.term {
            // Here already, as entries: nothing to install.
            if phase != .leader && base.index > commit && base.index <= log.last {
                advanceCommit(to: base.index, &effects)
                watchLeaderAfterChange(now)
            }
            effects.events.append(.snapshotIgnored(id))
            acknowledgeInstall(source)
            return
        }
        // It may come before any message of the term that made it.
        if base.term > term { becomeFollower(base.term, leader: nil, now, &effects) }
        let tail = mutated(.installKeepsConflictingTail) ? conflictingTail(above: base.index) : []
        log.reset(to: base)
        logWasCut(after: base.index)
        for entry in tail { log.append(entry) }
        commit = base.index
        handedOut = base.index
        durable = base.index
        configuration = base.configuration
        configurationIndex = base.index
        appendedFrom = nil
        baseToWrite = base
        snapshotToWrite = id
        isHardStateDirty = true
        effects.events.append(.configurationApplied(index: base.index, base.configuration))
        watchLeaderAfterChange(now)
        acknowledgeInstall(source)
    }

    /// A snapshot may make a voter of a replica that had no need of a timer.
    private mutating func watchLeaderAfterChange(_ now: Instant) {
        if isLeaderDoubted && mayCampaign && electionDeadline == nil { restartElectionTimer(now) }
    }

    private mutating func acknowledgeInstall(_ source: Peer) {
        guard phase != .leader else { return }
        // To whoever leads by now, if this replica knows; the source may have lost its office since.
        let to = leader ?? source
        sendDurable(message(to: to, .appendAnswer(AppendAnswer(verdict: .accepted(match: commit), commit: commit))))
    }

    private func conflictingTail(above index: LogIndex) -> [Entry] {
        guard log.last > index, log.firstCached <= index.next, log.term(at: index.next) ?? .zero >= log.base.term else {
            return []
        }
        return log.entries(from: index.next, bytesMax: .max, countMax: .max)
    }

    mutating func snapshotSent(_ replica: ReplicaID, _ installed: LogIndex?, _ now: Instant, _ effects: inout Effects) {
        guard phase == .leader, let i = configuration.position(of: replica), progress[i].state == .snapshot else {
            return
        }
        if mutated(.snapshotLeavesFollowerPaused) {
            progress[i].becomeProbe(next: installed?.next ?? progress[i].match.next)
            progress[i].isProbeOutstanding = true
            return
        }
        if let installed, installed >= log.base.index, installed <= log.last {
            progress[i].becomeProbe(next: installed.next)
            sendAppends(to: i, isForced: true, now, &effects)
        } else {
            // Failed, or overtaken by compaction: ask again where it stands, not at once.
            progress[i].becomeProbe(next: progress[i].match.next)
            progress[i].isProbeOutstanding = true
            progress[i].retryAt = now + settings.suspicion * progress[i].retryFactor
        }
    }
}
