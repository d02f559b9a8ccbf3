import ClusterBase
import RaftCore

/// A bug that another engine shipped, as a short scripted run. `run` returns what went wrong: nothing here, and
/// something when the same bug is switched on by its mutant.
package struct KnownBug: Sendable, CustomStringConvertible {
    package var mutant: Mutant
    /// Where it is told.
    package var reference: String
    package var run: @Sendable (Settings) -> [String]
    package var description: String { "\(mutant.rawValue) (\(reference))" }
}

private let three = Configuration.voters(1...3)
private let five = Configuration.voters(1...5)

private func alone(
    _ configuration: Configuration, _ settings: Settings, term: UInt64, votedFor: UInt64? = nil, _ log: [UInt64] = [],
    commit: UInt64 = 0
) -> RaftTestCluster {
    var cluster = RaftTestCluster(configuration, up: [], settings: settings)
    cluster.add(1, restored(configuration, term: term, votedFor: votedFor, commit: commit, entries(log)))
    return cluster
}

private func group(_ configuration: Configuration, _ settings: Settings, term: UInt64, _ logs: [[UInt64]])
    -> RaftTestCluster
{
    var cluster = RaftTestCluster(configuration, up: [], settings: settings)
    for (i, log) in logs.enumerated() {
        cluster.add(UInt64(i + 1), restored(configuration, term: term, entries(log)))
    }
    return cluster
}

extension RaftTestCluster {
    fileprivate mutating func ask(_ from: UInt64, term: UInt64, last: UInt64 = 0, _ lastTerm: UInt64 = 0) -> Bool {
        take()
        let request = VoteRequest(lastIndex: LogIndex(last), lastTerm: Term(lastTerm), isTransfer: false)
        step(1, .received(message(from: from, to: 1, term: term, .vote(request))))
        return take().contains { $0.voteAnswer?.isGranted == true }
    }

    fileprivate mutating func timeOut(_ id: UInt64) {
        now = max(now, self[id].raft.electionDeadline ?? now)
        step(id, .tick)
    }

    fileprivate mutating func preVote(_ from: UInt64, term: UInt64) {
        let yes = VoteAnswer(isGranted: true, campaignTerm: Term(term), leader: nil)
        step(1, .received(message(from: from, to: 1, term: term - 1, .preVoteAnswer(yes))))
    }

    fileprivate mutating func vote(_ from: UInt64, term: UInt64) {
        let yes = VoteAnswer(isGranted: true, campaignTerm: Term(term), leader: nil)
        step(1, .received(message(from: from, to: 1, term: term, .voteAnswer(yes))))
    }

    fileprivate mutating func check(_ condition: Bool, _ problem: String) {
        if !condition { problems.append(problem) }
    }

    fileprivate func isReady(_ id: UInt64, ticket: UInt64, atLeast index: UInt64) -> Bool? {
        guard let outcome = self[id].reads.first(where: { $0.ticket == ticket }),
            case .ready(let at) = outcome.verdict
        else { return nil }
        return at >= LogIndex(index)
    }
}

/// Mutants of the shell, which no script of a core can show: its storage, its beats, its start.
package let mutantsOfTheShell: Set<Mutant> = [
    .installRacesWithApply, .corruptionTakenForTornTail, .failedSyncRetried, .wipedReplicaRejoins,
    .appliedIndexNotAtomic, .beatsHideStall, .cutCommandNeverAnswered, .logKeptWhenIdle,
]

package let knownBugs: [KnownBug] = [
    KnownBug(mutant: .voteAnsweredBeforeDurable, reference: "Raft §5.2; canonical/raft #386") { settings in
        var cluster = alone(three, settings, term: 1)
        cluster.persistsAtOnce = false
        let first = cluster.ask(2, term: 2)
        cluster.crash(1)
        cluster.restart(1)
        cluster.persistsAtOnce = true
        let second = cluster.ask(3, term: 2)
        cluster.check(!(first && second), "two votes in one term")
        return cluster.problems
    },
    KnownBug(mutant: .termNotDurable, reference: "raft.tla PR 5") { settings in
        var cluster = alone(three, settings, term: 1)
        let first = cluster.ask(2, term: 5)
        cluster.crash(1)
        cluster.restart(1)
        let second = cluster.ask(3, term: 5)
        cluster.check(!(first && second), "two votes in one term")
        return cluster.problems
    },
    KnownBug(mutant: .voteClearedOnSameTermStepDown, reference: "CCF #5891") { settings in
        var cluster = alone(three, settings, term: 1)
        cluster.timeOut(1)
        cluster.preVote(2, term: 2)
        cluster.step(1, .received(cluster.append(from: 2, to: 1, term: 2, after: nil, [], commit: 0)))
        cluster.step(1, .linkBroken(NodeID(2)))
        cluster.check(!cluster.ask(3, term: 2), "a second vote after the own one")
        return cluster.problems
    },
    KnownBug(mutant: .voteClearedByPreCandidate, reference: "CCF pre_vote_double_leader") { settings in
        var cluster = alone(three, settings, term: 1)
        cluster.check(cluster.ask(2, term: 2), "no vote for the first")
        cluster.timeOut(1)
        cluster.check(!cluster.ask(3, term: 2), "a second vote after a pre-vote")
        return cluster.problems
    },
    KnownBug(
        mutant: .preVoteCountedAsVote, reference: "etcd TestCandidateDeliversPreCandidateSelfVoteAfterBecomingCandidate"
    ) { settings in
        var cluster = alone(five, settings, term: 1)
        cluster.timeOut(1)
        cluster.preVote(2, term: 2)
        cluster.preVote(3, term: 2)
        cluster.check(!cluster[1].raft.isLeader, "leader without a vote")
        return cluster.problems
    },
    KnownBug(mutant: .lateVoteCounted, reference: "votes of an older campaign") { settings in
        var cluster = alone(five, settings, term: 1)
        for term in 2...3 as ClosedRange<UInt64> {
            cluster.timeOut(1)
            cluster.preVote(2, term: term)
            cluster.preVote(3, term: term)
        }
        cluster.check(cluster[1].raft.phase == .candidate && cluster[1].raft.term == Term(3), "no second campaign")
        cluster.vote(2, term: 2)
        cluster.vote(3, term: 2)
        cluster.check(!cluster[1].raft.isLeader, "leader by votes of another term")
        return cluster.problems
    },
    KnownBug(mutant: .logsComparedByIndexFirst, reference: "openraft a48a3282") { settings in
        var cluster = alone(three, settings, term: 3, [1, 2])
        cluster.check(!cluster.ask(2, term: 4, last: 9, 1), "a vote for a longer log of an older term")
        return cluster.problems
    },
    KnownBug(mutant: .oldTermCommittedByCounting, reference: "logcabin #44; canonical/raft #220; Raft figure 8") {
        settings in
        var cluster = group(five, settings, term: 3, [[1, 2], [1, 2], [1], [1]])
        cluster.elect(1, delivers: false)
        cluster.take()
        let term = cluster[1].raft.term.rawValue
        let held = AppendAnswer(verdict: .accepted(match: LogIndex(2)), commit: .zero)
        for id in [2, 3] as [UInt64] {
            cluster[id].disk.entries = Array(cluster[1].disk.entries.prefix(2))
            cluster.step(1, .received(cluster.message(from: id, to: 1, term: term, .appendAnswer(held))))
        }
        cluster.check(cluster[1].raft.commit == .zero, "an older term's entry committed by counting")
        return cluster.problems
    },
    KnownBug(mutant: .quorumOffByOne, reference: "openraft d882e743") { settings in
        var cluster = RaftTestCluster(three, settings: settings)
        cluster.elect(1)
        cluster.isolate(1)
        cluster.propose(1, [1])
        cluster.deliver()
        cluster.check(cluster[1].raft.commit <= LogIndex(1), "a commit without a majority")
        return cluster.problems
    },
    KnownBug(mutant: .quorumTrackerUnsorted, reference: "openraft #1802") { settings in
        var cluster = RaftTestCluster(five, settings: settings)
        cluster.elect(1)
        cluster.deliver()
        for id in [2, 4, 5] as [UInt64] { cluster.cut(1, id) }
        cluster.propose(1, [1])
        cluster.deliver()
        cluster.check(cluster[1].raft.commit <= LogIndex(1), "a commit with two of five")
        return cluster.problems
    },
    KnownBug(mutant: .jointCommitByNewHalfOnly, reference: "Raft §6: majorities of both") { settings in
        var cluster = RaftTestCluster(three, settings: settings)
        cluster.elect(1)
        cluster.deliver()
        cluster.addEmpty(4)
        cluster.addEmpty(5)
        cluster.step(
            1,
            .changeMembership([
                .addVoter(cluster.peer(4), priority: 0), .addVoter(cluster.peer(5), priority: 0), .remove(ReplicaID(2)),
                .remove(ReplicaID(3)),
            ]))
        cluster.deliverUntilJoint(1)
        let joint = cluster[1].raft.commit
        cluster.isolate(2)
        cluster.isolate(3)
        cluster.deliver()
        cluster.check(cluster[1].raft.commit == joint, "committed without the old half")
        return cluster.problems
    },
    KnownBug(mutant: .truncatesWithoutConflict, reference: "async-raft 9540c904") { settings in
        var cluster = alone(three, settings, term: 1, [1, 1, 1, 1])
        let log = entries([1, 1, 1, 1])
        cluster.step(1, .received(cluster.append(from: 2, to: 1, term: 1, after: nil, Array(log[0..<2]), commit: 0)))
        cluster.check(cluster[1].raft.lastIndex == LogIndex(4), "a reordered append removed acknowledged entries")
        return cluster.problems
    },
    KnownBug(mutant: .truncatesBelowCommit, reference: "canonical/raft #355") { settings in
        var cluster = alone(three, settings, term: 1, [1, 1, 1, 1], commit: 3)
        let log = entries([1])
        cluster.step(1, .received(cluster.append(from: 2, to: 1, term: 1, after: nil, log, commit: 0)))
        cluster.check(cluster[1].raft.lastIndex == LogIndex(4), "committed entries were removed")
        return cluster.problems
    },
    KnownBug(mutant: .staleAnswerRaisesMatch, reference: "an answer that outlived its term") { settings in
        var cluster = group(three, settings, term: 2, [[1, 2], [1], [1]])
        cluster.elect(1, delivers: false)
        cluster.take()
        let term = cluster[1].raft.term.rawValue
        let old = AppendAnswer(verdict: .accepted(match: LogIndex(3)), commit: .zero)
        cluster.step(1, .received(cluster.message(from: 2, to: 1, term: term - 1, .appendAnswer(old))))
        cluster.check(cluster[1].raft.commit == .zero, "an older term's answer committed")
        return cluster.problems
    },
    KnownBug(mutant: .leaderCountsUnsyncedEntries, reference: "thesis §10.2.1") { settings in
        var cluster = RaftTestCluster(three, settings: settings)
        cluster.elect(1)
        cluster.deliver()
        cluster.persistsAtOnce = false
        cluster.propose(1, [1])
        cluster.deliver { $0.isTo(2) }
        cluster.persist(2)
        cluster.deliver { $0.isTo(1) }
        cluster.check(cluster[1].raft.commit == LogIndex(1), "committed with one disk of three")
        return cluster.problems
    },
    KnownBug(mutant: .staleWriteMarksDurable, reference: "etcd-io/raft async_storage_writes_append_aba_race") {
        settings in
        var cluster = alone(three, settings, term: 1)
        cluster.persistsAtOnce = false
        let old = entries([1, 1, 1])
        let new = entries([2, 2, 2])
        cluster.step(1, .received(cluster.append(from: 2, to: 1, term: 1, after: nil, old, commit: 0)))
        cluster.step(1, .received(cluster.append(from: 3, to: 1, term: 2, after: nil, new, commit: 3)))
        cluster.persist(1, 1)
        cluster.check(cluster[1].raft.durable == .zero, "an overtaken write counts as durable")
        cluster.persist(1)
        cluster.check(cluster[1].raft.durable == LogIndex(3), "durable entries are not counted")
        return cluster.problems
    },
    KnownBug(mutant: .entryDurableBeforeItsTerm, reference: "openraft io_ordering.md") { settings in
        var cluster = alone(three, settings, term: 1)
        cluster.persistsAtOnce = false
        cluster.step(1, .received(cluster.append(from: 2, to: 1, term: 5, after: nil, entries([5]), commit: 0)))
        cluster.crash(1, durable: 1)
        let disk = cluster[1].disk
        cluster.check(disk.hardState.term >= (disk.entries.last?.term ?? .zero), "an entry is durable before its term")
        return cluster.problems
    },
    KnownBug(mutant: .commitBeyondMatch, reference: "Raft figure 2, AppendEntries 5") { settings in
        var cluster = alone(three, settings, term: 1, [1, 1, 1, 1])
        let log = entries([1, 1])
        cluster.step(1, .received(cluster.append(from: 2, to: 1, term: 2, after: log[0], [log[1]], commit: 9)))
        cluster.check(cluster[1].raft.commit == LogIndex(2), "committed what may differ")
        return cluster.problems
    },
    KnownBug(mutant: .readBeforeOwnTermCommit, reference: "etcd #7331") { settings in
        var cluster = group(three, settings, term: 1, [[1, 1], [1, 1], [1, 1]])
        cluster.elect(1, delivers: false)
        cluster.step(1, .read(ticket: 1))
        cluster.deliver { $0.append == nil }
        cluster.check(cluster[1].reads.isEmpty, "a read before the term's first commit")
        cluster.deliver()
        cluster.check(cluster.isReady(1, ticket: 1, atLeast: 3) == true, "the read was not answered (etcd #12762)")
        return cluster.problems
    },
    KnownBug(mutant: .readContextReused, reference: "etcd #20418") { settings in
        var cluster = RaftTestCluster(five, settings: settings)
        cluster.elect(1)
        cluster.deliver()
        cluster.step(1, .read(ticket: 1))
        let rounds = cluster.take()
        for message in rounds { cluster.deliver(message) }
        let late = cluster.take { $0.isFrom(4) || $0.isFrom(5) }
        cluster.deliver()
        cluster.check(cluster.isReady(1, ticket: 1, atLeast: 1) == true, "the first read was not answered")
        cluster.isolate(1)
        cluster.elect(2)
        cluster.propose(2, [1])
        cluster.deliver()
        cluster.heal()
        cluster.step(1, .read(ticket: 2))
        for message in late { cluster.deliver(message) }
        cluster.check(
            cluster.isReady(1, ticket: 2, atLeast: 3) != false, "a late confirmation let a stale read through")
        return cluster.problems
    },
    KnownBug(mutant: .readBatchSharesFirstIndex, reference: "tikv #7971") { settings in
        var cluster = RaftTestCluster(three, settings: settings)
        cluster.elect(1)
        cluster.deliver()
        cluster.step(1, .read(ticket: 1))
        let round = cluster.take()
        cluster.step(1, .read(ticket: 2))
        cluster.propose(1, [1])
        cluster.deliver()
        cluster.step(1, .read(ticket: 3))
        for message in round { cluster.deliver(message) }
        cluster.deliver()
        cluster.check(cluster.isReady(1, ticket: 3, atLeast: 2) == true, "a read got the index of an earlier one")
        return cluster.problems
    },
    KnownBug(mutant: .campaignsWithUnappliedConfiguration, reference: "etcd-io/raft #456") { settings in
        var cluster = RaftTestCluster(three, settings: settings)
        cluster.elect(1)
        cluster.deliver()
        cluster.addEmpty(4)
        cluster.addEmpty(5)
        cluster.step(
            1,
            .changeMembership([.addVoter(cluster.peer(4), priority: 0), .addVoter(cluster.peer(5), priority: 0)]))
        cluster.deliverUntilJoint(2)
        cluster.deliverUntilJoint(3)
        for id in [1, 4, 5] as [UInt64] { cluster.crash(id) }
        cluster.take()
        cluster.live(for: .seconds(2))
        cluster.check(cluster.leader == nil, "elected without the new half")
        return cluster.problems
    },
    KnownBug(mutant: .changeBeforeOwnTermCommit, reference: "Ongaro, raft-dev 2015") { settings in
        var cluster = group(three, settings, term: 1, [[1, 1], [1, 1], [1, 1]])
        cluster.elect(1, delivers: false)
        cluster.step(1, .changeMembership([.remove(ReplicaID(3))]))
        cluster.check(
            cluster[1].events.contains(.membershipRefused(.termNotCommitted)), "a change before the term's first commit"
        )
        return cluster.problems
    },
    KnownBug(mutant: .twoChangesInFlight, reference: "etcd #7280") { settings in
        var cluster = RaftTestCluster(five, settings: settings)
        cluster.elect(1)
        cluster.deliver()
        cluster.step(1, .changeMembership([.remove(ReplicaID(5))]))
        cluster.step(1, .changeMembership([.remove(ReplicaID(4))]))
        cluster.check(cluster[1].events.contains(.membershipRefused(.changeInFlight)), "two changes at once")
        return cluster.problems
    },
    KnownBug(mutant: .leavesUncommittedJoint, reference: "camunda #60086") { settings in
        var cluster = RaftTestCluster(three, settings: settings)
        cluster.elect(1)
        cluster.deliver()
        cluster.addEmpty(4)
        cluster.addEmpty(5)
        cluster.step(
            1,
            .changeMembership([.addVoter(cluster.peer(4), priority: 0), .addVoter(cluster.peer(5), priority: 0)]))
        // The joint configuration reaches 2, which leads next, and is not committed.
        cluster.deliver { $0.isTo(2) }
        cluster.take()
        cluster.crash(1)
        cluster.elect(2, delivers: false)
        let commit = cluster[2].raft.commit
        let pending = cluster[2].disk.entries.filter {
            if case .configuration = $0.content { $0.index > commit } else { false }
        }
        cluster.check(pending.count == 1, "the final configuration follows a joint one that is not committed")
        cluster.deliver()
        cluster.live(for: .seconds(1))
        cluster.check(cluster[2].raft.configuration.isJoint == false, "the joint configuration was not left")
        return cluster.problems
    },
    KnownBug(mutant: .removedLeaderCountsItself, reference: "etcd confchange_v1_remove_leader") { settings in
        var cluster = RaftTestCluster(three, settings: settings)
        cluster.elect(1)
        cluster.deliver()
        cluster.step(1, .changeMembership([.remove(ReplicaID(1))]))
        cluster.deliver()
        cluster.check(!cluster[1].raft.isLeader, "a removed leader goes on")
        cluster.live(for: .seconds(1))
        cluster.check(cluster.leader == 2 || cluster.leader == 3, "nobody took over")
        return cluster.problems
    },
    KnownBug(mutant: .refusesUnknownVoter, reference: "etcd #10998") { settings in
        var cluster = alone(three, settings, term: 1, [1])
        cluster.check(cluster.ask(9, term: 2, last: 1, 1), "no vote for a member that is not known here yet")
        return cluster.problems
    },
    KnownBug(mutant: .settlesBeforeOthersKnow, reference: "etcd #11284, second case") { settings in
        // Whoever left is taken away once the leader calls the change settled, and the leader dies in the same moment. Entries
        // that are under way then may have reached one of the others only.
        var problems: [String] = []
        for ahead in [UInt64(2), 3] {
            var cluster = RaftTestCluster(Configuration.voters(1...4), settings: settings)
            cluster.elect(1)
            cluster.deliver()
            cluster.step(1, .changeMembership([.remove(ReplicaID(4))]))
            cluster.propose(1, [1])
            let behind = 5 - ahead
            while cluster[1].raft.configuration.members.count == 4 || !cluster[1].raft.isMembershipSettled {
                guard let next = cluster.network.first else {
                    problems.append("the change is never settled")
                    break
                }
                cluster.network.removeFirst()
                let isNewest = next.append?.entries.last?.index == cluster[1].raft.lastIndex
                let isLost = isNewest && next.to.replica == ReplicaID(behind)
                if !isLost || cluster[1].raft.configuration.members.count == 3 { cluster.deliver(next) }
            }
            cluster.network.removeAll()
            cluster.crash(4)
            cluster.crash(1)
            cluster.live(for: .seconds(3))
            cluster.check(cluster.leader == 2 || cluster.leader == 3, "without \(behind)'s vote nobody leads")
            problems += cluster.problems
        }
        return problems
    },
    KnownBug(mutant: .fullWindowNeverProbes, reference: "etcd #14633") { settings in
        var settings = settings
        settings.inflightMessagesMax = 2
        settings.appendEntriesMax = 1
        var cluster = RaftTestCluster(three, settings: settings)
        cluster.elect(1)
        cluster.deliver()
        cluster.cut(1, 3)
        for i in 0..<6 { cluster.propose(1, [UInt8(i)]) }
        cluster.deliver()
        cluster.heal()
        cluster.run(for: .seconds(2))
        cluster.check(cluster.isConverged([1, 2, 3]), "a full window that was lost is never sent again")
        return cluster.problems
    },
    KnownBug(mutant: .snapshotLeavesFollowerPaused, reference: "etcd #10308") { settings in
        var cluster = RaftTestCluster(three, settings: settings)
        cluster.elect(1)
        cluster.deliver()
        cluster.isolate(3)
        cluster.beat()
        for i in 0..<6 { cluster.propose(1, [UInt8(i)]) }
        cluster.deliver()
        cluster.step(1, .compact(through: LogIndex(7), chain: cluster[1].disk.chain(at: LogIndex(7)) ?? 0))
        cluster.heal()
        cluster.live(for: .seconds(1))
        cluster.check(cluster[1].raft.deadline == nil, "a follower is asked for ever after its snapshot")
        cluster.propose(1, [9])
        cluster.run(for: .seconds(2))
        cluster.check(cluster.isConverged([1, 2, 3]), "a follower is not served after its snapshot")
        return cluster.problems
    },
    KnownBug(mutant: .installKeepsConflictingTail, reference: "openraft: delete all conflicting logs") { settings in
        var cluster = alone(three, settings, term: 3, [1, 1, 1, 1, 3, 3], commit: 1)
        let base = LogBase(index: LogIndex(4), term: Term(2), chain: 77, configuration: three)
        let id = SnapshotID(source: ReplicaID(2), incarnation: Incarnation(1), number: 1)
        cluster.step(1, .snapshotReceived(id, base: base, from: cluster.peer(2)))
        cluster.check(cluster[1].raft.lastIndex == LogIndex(4), "entries that do not follow the snapshot stay")
        return cluster.problems
    },
    KnownBug(mutant: .configurationCommitNotWritten, reference: "apply-time configurations; seed 222 of the simulator")
    {
        settings in
        var settings = settings
        settings.promotionStability = .seconds(1)
        var cluster = RaftTestCluster(voters: 2, settings: settings)
        cluster.elect(1)
        cluster.deliver()
        cluster.addEmpty(3)
        cluster.step(1, .changeMembership([.addLearner(cluster.peer(3), promotesItself: true, priority: 0)]))
        cluster.live(for: .seconds(5))
        cluster.crash(1)
        for id in [2, 3] as [UInt64] {
            cluster.crash(id)
            cluster[id].applied = .zero
            cluster.restart(id)
        }
        cluster.live(for: .seconds(5))
        cluster.check(cluster.leader != nil, "a restart goes by the members before the last change")
        return cluster.problems
    },
    KnownBug(mutant: .newReplicaFencedByRecovery, reference: "a forced recovery in the simulator, seed 27") {
        settings in
        var cluster = RaftTestCluster(three, settings: settings)
        cluster.elect(1)
        cluster.deliver()
        for id in [2, 3] as [UInt64] { cluster.crash(id) }
        cluster.step(1, .forceRecovery)
        cluster.live(for: .seconds(1))
        cluster.addEmpty(4)
        cluster.step(1, .changeMembership([.addVoter(cluster.peer(4), priority: 0)]))
        cluster.live(for: .seconds(1))
        cluster.check(cluster.isConverged([1, 4]), "a recovered group takes in nobody")
        return cluster.problems
    },
]
