import ClusterBase

// What must hold after every step, in production too. A broken one is our own bug: the process ends rather than go on
// with a state that no rule describes. Numbers are those of the invariant list in RaftCore.md.

struct Checkpoint: Sendable {
    let term: Term
    let votedFor: ReplicaID?
    let commit: LogIndex
    let isLeader: Bool
    let last: LogIndex

    init(_ raft: borrowing Raft) {
        term = raft.term
        votedFor = raft.votedFor
        commit = raft.commit
        isLeader = raft.phase == .leader
        last = raft.log.last
    }
}

extension Raft {
    /// Stops the process; a build with mutants notes the violation instead, for the simulator to report.
    mutating func fail(_ number: Int, _ message: String) {
        #if MUTANTS
        if violation == nil { violation = "invariant \(number): \(message)" }
        #else
        preconditionFailure("invariant \(number) of replica \(peer) is broken: \(message)")
        #endif
    }

    mutating func checkInvariants(since before: Checkpoint, _ effects: borrowing Effects) {
        if let broken = brokenInvariant(since: before) { fail(broken.number, broken.message) }
        // One of an earlier term may leave when a later leader has begun to cut what it vouches for: the disk still has that.
        for i in effects.messages.indices where effects.messages[i].term == term {
            guard case .appendAnswer(let answer) = effects.messages[i].body,
                case .accepted(let match) = answer.verdict, match > durable
            else { continue }
            fail(15, "it acknowledges \(match), of which \(durable) is durable")
        }
    }

    private func brokenInvariant(since before: Checkpoint) -> (number: Int, message: String)? {
        if term < before.term { return (2, "the term fell from \(before.term) to \(term)") }
        if term == before.term, let vote = before.votedFor, votedFor != vote {
            return (3, "the vote of term \(term) changed from \(vote)")
        }
        if before.isLeader && phase == .leader && term == before.term && log.last < before.last {
            return (5, "a leader's log shrank from \(before.last) to \(log.last)")
        }
        if log.lastTerm > term { return (7, "the last entry's term \(log.lastTerm) is above the term \(term)") }
        if log.base.index > handedOut {
            return (8, "the log begins at \(log.base.index), above handed-out \(handedOut)")
        }
        if applied > handedOut { return (8, "applied \(applied) is above handed-out \(handedOut)") }
        if handedOut > commit { return (8, "handed-out \(handedOut) is above commit \(commit)") }
        if commit > log.last { return (8, "commit \(commit) is above the last entry \(log.last)") }
        if commit < before.commit { return (9, "commit fell from \(before.commit) to \(commit)") }
        if durable > log.last { return (17, "durable \(durable) is above the last entry \(log.last)") }
        if phase != .follower && isFenced {
            return (31, "a replica of a group that was recovered without it is \(phase)")
        }
        if isCampaigning && configuration.member(peer.replica)?.role.isVoting != true {
            return (31, "a replica that may not vote campaigns")
        }
        if log.configurations.count > 1 {
            let previous = log.configurations[log.configurations.count - 2].index
            if commit < previous {
                return (28, "a configuration follows \(previous), which is not known to be committed")
            }
        }
        if configurationIndex > max(commitWritten, log.base.index) {
            return (
                28, "the configuration at \(configurationIndex) is in force, and a restart would not know of its commit"
            )
        }
        if phase == .follower && isLeaderDoubted && mayCampaign && electionDeadline == nil {
            return (44, "a follower without a leader has no election timer")
        }
        if held.count > Raft.heldMax { return (40, "\(held.count) messages wait for a write") }
        return phase == .leader ? brokenLeaderInvariant(since: before) : nil
    }

    /// Messages that may wait for the disk: far above what the windows of a full group allow.
    static let heldMax = 1 << 20

    private func brokenLeaderInvariant(since before: Checkpoint) -> (number: Int, message: String)? {
        if commit > before.commit && before.isLeader && log.term(at: commit) != term {
            return (10, "commit moved to \(commit), whose term is not the leader's \(term)")
        }
        if progress.count != configuration.members.count { return (23, "progress does not follow the configuration") }
        for i in 0..<progress.count {
            if progress[i].match >= progress[i].next {
                return (23, "next of \(progress[i].member.peer) is not above its match")
            }
            if progress[i].match > log.last {
                return (23, "match of \(progress[i].member.peer) is above the last entry")
            }
            if progress[i].inflight.count > settings.inflightMessagesMax {
                return (24, "\(progress[i].inflight.count) appends are under way to \(progress[i].member.peer)")
            }
            // Of the bytes the last append may be beyond the bound, since one must always fit.
            let last = progress[i].inflight.last?.bytes ?? 0
            if progress[i].inflight.count > 1 && progress[i].inflightBytes - last >= settings.inflightBytesMax {
                return (24, "\(progress[i].inflightBytes) bytes are under way to \(progress[i].member.peer)")
            }
            if progress[i].member.peer == peer && progress[i].match > durable {
                return (17, "the leader counts \(progress[i].match), of which \(durable) is durable")
            }
        }
        return nil
    }
}
