import ClusterBase

@testable import RaftCore

// How a scenario shows things. An entry is `term/index content`; a configuration lists its members by replica id, where
// L is a learner (L! one that promotes itself), + entering, - leaving, ~ demoting.

extension ScenarioHarness {
    mutating func show(_ id: UInt64, _ effects: Effects) {
        for event in effects.events { line("\(id) \(text(event))") }
        for outcome in effects.proposals { line("\(id) proposal \(text(outcome))") }
        for write in effects.writes { line("\(id) \(text(write))") }
        for read in effects.reads {
            switch read.verdict {
            case .ready(let index): line("\(id) read \(read.ticket) ready at \(index)")
            case .refused(let hint): line("\(id) read \(read.ticket) refused\(hinted(hint))")
            }
        }
        for fetch in effects.fetches {
            line("\(id) fetches \(fetch.from)...\(fetch.through) for \(fetch.peer.replica)")
        }
        for peer in effects.snapshots { line("\(id) wants a snapshot sent to \(peer.replica)") }
    }

    private func hinted(_ hint: Peer?) -> String { hint.map { ", try \($0.replica)" } ?? "" }

    func text(_ entry: Entry) -> String {
        switch entry.content {
        case .noop: "\(entry.term)/\(entry.index) noop"
        case .command(let bytes):
            "\(entry.term)/\(entry.index) "
                + (bytes.count > 24 ? "(\(bytes.count) bytes)" : String(decoding: bytes, as: UTF8.self))
        case .configuration(let configuration): "\(entry.term)/\(entry.index) \(text(configuration))"
        }
    }

    func text(_ configuration: Configuration) -> String {
        var parts: [String] = []
        for member in configuration.members {
            var part = "\(member.peer.replica)"
            switch member.role {
            case .learner: part += member.promotesItself ? "L!" : "L"
            case .voter: break
            case .entering: part += "+"
            case .leaving: part += "-"
            case .demoting: part += "~"
            }
            if member.priority != 0 { part += "(priority \(member.priority))" }
            parts.append(part)
        }
        var text = "{" + parts.joined(separator: " ") + "}"
        if configuration.epoch > .zero { text += " epoch \(configuration.epoch)" }
        if let mark = configuration.recovery { text += " lost after \(mark.possibleLossAfter) of term \(mark.term)" }
        return text
    }

    private func text(_ write: LogWrite) -> String {
        var text = "writes #\(write.sequence): term \(write.hardState.term)"
        if let vote = write.hardState.votedFor { text += " vote \(vote)" }
        text += " commit \(write.hardState.commit)"
        if let base = write.base {
            text += write.snapshot == nil ? ", log begins after " : ", state and log from snapshot of "
            text += "\(base.term)/\(base.index)"
        }
        if !write.entries.isEmpty { text += ", " + write.entries.map { self.text($0) }.joined(separator: ", ") }
        return text + ", last \(write.last)"
    }

    private func text(_ outcome: ProposalOutcome) -> String {
        switch outcome {
        case .appended(let index, let term): "appended as \(term)/\(index)"
        case .forwarded(let peer): "forwarded to \(peer.replica)"
        case .refused(.notLeader(let hint)): "refused: not leader\(hinted(hint))"
        case .refused(let refusal): "refused: \(refusal)"
        }
    }

    private func text(_ event: Event) -> String {
        switch event {
        case .becameFollower(let term, let leader):
            "is follower in term \(term)" + (leader.map { " of \($0.replica)" } ?? "")
        case .becamePreCandidate(let term): "is pre-candidate in term \(term)"
        case .becameCandidate(let term): "is candidate in term \(term)"
        case .becameLeader(let term): "is LEADER in term \(term)"
        case .steppedDown(let term, let reason): "steps down in term \(term): \(reason)"
        case .configurationApplied(let index, let configuration):
            "configuration of \(index) in force: \(text(configuration))"
        case .membershipRefused(.notLeader(let hint)): "membership refused: not leader\(hinted(hint))"
        case .membershipRefused(.unknownReplica(let replica)): "membership refused: unknown replica \(replica)"
        case .membershipRefused(.replicaIDReused(let replica)): "membership refused: replica id \(replica) was used"
        case .membershipRefused(.nodeHasReplica(let node)): "membership refused: node \(node) has a replica"
        case .membershipRefused(let refusal): "membership refused: \(refusal)"
        case .membershipProposed(let index): "membership proposed at \(index)"
        case .transferStarted(let peer): "transfer to \(peer.replica) started"
        case .transferEnded(let succeeded): "transfer " + (succeeded ? "succeeded" : "failed")
        case .transferRefused: "transfer refused"
        case .snapshotInstalled(let index): "snapshot of \(index) installed"
        case .snapshotIgnored(let id): "snapshot \(id.number) ignored"
        case .ignoredStaleTerm(let from, let term): "ignores term \(term) of \(from.replica)"
        case .ignoredStaleEpoch(let from, let epoch): "ignores epoch \(epoch) of \(from.replica)"
        case .fencedOff(let by, let epoch): "is FENCED by epoch \(epoch) of \(by.replica)"
        case .malformed(let from, let problem): "drops a malformed message of \(from.replica): \(problem)"
        case .diverged(let index): "STOPS: diverged at \(index)"
        case .recoveryForced(let mark): "recovery forced, lost after \(mark.possibleLossAfter) of term \(mark.term)"
        }
    }

    func text(_ message: Message) -> String {
        var text = "\(message.from.replica)->\(message.to.replica) t\(message.term) "
        if message.epoch > .zero { text += "e\(message.epoch) " }
        return text + self.text(message.body)
    }

    private func text(_ body: Message.Body) -> String {
        switch body {
        case .preVote(let request): "preVote \(text(request))"
        case .vote(let request): "vote \(text(request))"
        case .preVoteAnswer(let answer): "preVote" + text(answer)
        case .voteAnswer(let answer): "vote" + text(answer)
        case .append(let append):
            "append after \(append.previousTerm)/\(append.previousIndex) commit \(append.commit) ["
                + append.entries.map { self.text($0) }.joined(separator: ", ") + "]"
        case .appendAnswer(let answer):
            switch answer.verdict {
            case .accepted(let match): "accepted up to \(match), commit \(answer.commit)"
            case .rejected(let previous, let index, let term):
                "rejected \(previous), may match at \(term)/\(index), commit \(answer.commit)"
            }
        case .confirmLeadership(let round): "confirm round \(round)"
        case .leadershipConfirmed(let round): "confirmed round \(round)"
        case .readRequest(let context): "readRequest \(context.incarnation).\(context.number)"
        case .readAnswer(let context, let index):
            "readAnswer \(context.incarnation).\(context.number) " + (index.map { "at \($0)" } ?? "refused")
        case .campaignNow: "campaignNow"
        case .forward(let payloads):
            "forward " + payloads.map { String(decoding: $0, as: UTF8.self) }.joined(separator: ", ")
        case .stale: "stale"
        }
    }

    private func text(_ request: VoteRequest) -> String {
        "last \(request.lastTerm)/\(request.lastIndex)" + (request.isTransfer ? " for transfer" : "")
    }

    private func text(_ answer: VoteAnswer) -> String {
        (answer.isGranted ? "Granted" : "Refused") + " in \(answer.campaignTerm)"
            + (answer.leader.map { ", leader is \($0.replica)" } ?? "")
    }

    func status(_ id: UInt64) -> [String] {
        guard let replica = replicas[id], let raft = replica.raft else { return ["\(id) is down"] }
        var text = "\(id) \(raft.phase) t\(raft.term)"
        if let vote = raft.votedFor { text += " vote \(vote)" }
        if let leader = raft.leader { text += " of \(leader.replica)" }
        text += " commit \(raft.commit) applied \(raft.applied) durable \(raft.durable)"
        text += " last \(raft.lastTerm)/\(raft.lastIndex) \(self.text(raft.configuration))"
        if raft.isFenced { text += " fenced" }
        if raft.isStopped { text += " stopped" }
        if let deadline = raft.deadline { text += " deadline in \((deadline - now).milliseconds)ms" }
        var lines = [text]
        for progress in raft.progress where progress.member.peer.replica.rawValue != id {
            var text = "  \(progress.member.peer.replica): \(progress.state) match \(progress.match)"
            text += " next \(progress.next) commit \(progress.commitKnown)"
            if !progress.inflight.isEmpty { text += " inflight \(progress.inflight.count)" }
            if progress.isProbeOutstanding { text += " probing" }
            if progress.isFetching { text += " fetching" }
            if let at = progress.retryAt { text += " retry in \((at - now).milliseconds)ms" }
            lines.append(text)
        }
        return lines
    }
}
