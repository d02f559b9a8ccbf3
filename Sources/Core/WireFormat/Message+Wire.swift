package import BinaryCoding
internal import ClusterBase
package import RaftCore
package import Schema

extension VoteRequest: WireMapped {
    package init(wire: RaftVoteRequest) throws(DecodeError) {
        self.init(
            lastIndex: try identity(wire.lastIndex, "VoteRequest.last_index"),
            lastTerm: try identity(wire.lastTerm, "VoteRequest.last_term"), isTransfer: wire.isTransfer)
    }

    package var wire: RaftVoteRequest {
        RaftVoteRequest(lastIndex: lastIndex.rawValue, lastTerm: lastTerm.rawValue, isTransfer: isTransfer)
    }
}

extension VoteAnswer: WireMapped {
    package init(wire: RaftVoteAnswer) throws(DecodeError) {
        var leader: Peer?
        if let peer = wire.leader { leader = try Peer(wire: peer) }
        self.init(
            isGranted: wire.isGranted, campaignTerm: try identity(wire.campaignTerm, "VoteAnswer.campaign_term"),
            leader: leader, commit: try identity(wire.commit, "VoteAnswer.commit"),
            commitTerm: try identity(wire.commitTerm, "VoteAnswer.commit_term"))
    }

    package var wire: RaftVoteAnswer {
        RaftVoteAnswer(
            isGranted: isGranted, campaignTerm: campaignTerm.rawValue, leader: leader?.wire, commit: commit.rawValue,
            commitTerm: commitTerm.rawValue)
    }
}

extension AppendAnswer: WireMapped {
    package init(wire: RaftAppendAnswer) throws(DecodeError) {
        let verdict: Verdict
        switch wire.verdict {
        case .accepted(let match):
            verdict = .accepted(match: try identity(match, "AppendAnswer.accepted"))
        case .rejected(let rejection):
            verdict = .rejected(
                previousIndex: try identity(rejection.previousIndex, "AppendAnswer.rejected.previous_index"),
                hintIndex: try identity(rejection.hintIndex, "AppendAnswer.rejected.hint_index"),
                hintTerm: try identity(rejection.hintTerm, "AppendAnswer.rejected.hint_term"))
        case nil:
            throw DecodeError(.missing, field: "AppendAnswer.verdict")
        }
        self.init(verdict: verdict, commit: try identity(wire.commit, "AppendAnswer.commit"))
    }

    package var wire: RaftAppendAnswer {
        let verdict: RaftAppendAnswer.Verdict =
            switch self.verdict {
            case .accepted(let match): .accepted(match.rawValue)
            case .rejected(let previousIndex, let hintIndex, let hintTerm):
                .rejected(
                    RaftAppendAnswer.Rejection(
                        previousIndex: previousIndex.rawValue, hintIndex: hintIndex.rawValue,
                        hintTerm: hintTerm.rawValue))
            }
        return RaftAppendAnswer(verdict: verdict, commit: commit.rawValue)
    }
}

extension ReadContext: WireMapped {
    package init(wire: RaftReadContext) throws(DecodeError) {
        self.init(
            incarnation: try identity(wire.incarnation, "ReadContext.incarnation"),
            number: try WireFormat.number(wire.number, "ReadContext.number"))
    }

    package var wire: RaftReadContext { RaftReadContext(incarnation: incarnation.rawValue, number: number) }
}

extension Message.Body {
    init(wire: RaftMessage.Body) throws(DecodeError) {
        switch wire {
        case .append(let append): self = .append(try Append(wire: append))
        case .appendAnswer(let answer): self = .appendAnswer(try AppendAnswer(wire: answer))
        case .preVote(let request): self = .preVote(try VoteRequest(wire: request))
        case .preVoteAnswer(let answer): self = .preVoteAnswer(try VoteAnswer(wire: answer))
        case .vote(let request): self = .vote(try VoteRequest(wire: request))
        case .voteAnswer(let answer): self = .voteAnswer(try VoteAnswer(wire: answer))
        case .confirmLeadership(let round):
            self = .confirmLeadership(round: try number(round, "Message.confirm_leadership"))
        case .leadershipConfirmed(let round):
            self = .leadershipConfirmed(round: try number(round, "Message.leadership_confirmed"))
        case .readRequest(let context): self = .readRequest(try ReadContext(wire: context))
        case .readAnswer(let answer):
            var index: LogIndex?
            if let value = answer.index { index = try identity(value, "ReadAnswer.index") }
            self = .readAnswer(try mapped(answer.context, "ReadAnswer.context"), index: index)
        case .campaignNow: self = .campaignNow
        case .forward(let forward):
            try checkCount(forward.commands.count, max: WireLimits.commandsMax, "Forward.commands")
            self = .forward(forward.commands)
        case .stale: self = .stale
        }
    }

    var wire: RaftMessage.Body {
        switch self {
        case .append(let append): .append(append.wire)
        case .appendAnswer(let answer): .appendAnswer(answer.wire)
        case .preVote(let request): .preVote(request.wire)
        case .preVoteAnswer(let answer): .preVoteAnswer(answer.wire)
        case .vote(let request): .vote(request.wire)
        case .voteAnswer(let answer): .voteAnswer(answer.wire)
        case .confirmLeadership(let round): .confirmLeadership(round)
        case .leadershipConfirmed(let round): .leadershipConfirmed(round)
        case .readRequest(let context): .readRequest(context.wire)
        case .readAnswer(let context, let index):
            .readAnswer(RaftReadAnswer(context: context.wire, index: index?.rawValue))
        case .campaignNow: .campaignNow(RaftNothing())
        case .forward(let commands): .forward(RaftForward(commands: commands))
        case .stale: .stale(RaftNothing())
        }
    }

    func encode(into writer: inout ByteWriter) {
        switch self {
        case .append(let append): writer.nested(5, append, expecting: append.encodedBytesExpected)
        case .appendAnswer(let answer): writer.nested(6, answer)
        case .preVote(let request): writer.nested(7, request)
        case .preVoteAnswer(let answer): writer.nested(8, answer)
        case .vote(let request): writer.nested(9, request)
        case .voteAnswer(let answer): writer.nested(10, answer)
        // Members of a oneof are written even when zero.
        case .confirmLeadership(let round):
            writer.tag(11 << 3)
            writer.varint(round)
        case .leadershipConfirmed(let round):
            writer.tag(12 << 3)
            writer.varint(round)
        case .readRequest(let context): writer.nested(13, context)
        case .readAnswer(let context, let index):
            writer.message(14 << 3 | 2, RaftReadAnswer(context: context.wire, index: index?.rawValue))
        case .campaignNow: writer.message(15 << 3 | 2, RaftNothing())
        case .forward(let commands): writer.message(16 << 3 | 2, RaftForward(commands: commands))
        case .stale: writer.message(17 << 3 | 2, RaftNothing())
        }
    }
}

extension Message: WireMapped {
    package init(wire: RaftMessage) throws(DecodeError) {
        self.init(
            from: try mapped(wire.from, "Message.from"), to: try mapped(wire.to, "Message.to"),
            epoch: try identity(wire.epoch, "Message.epoch"), term: try identity(wire.term, "Message.term"),
            body: try Body(wire: required(wire.body, "Message.body")))
    }

    package var wire: RaftMessage {
        RaftMessage(from: from.wire, to: to.wire, epoch: epoch.rawValue, term: term.rawValue, body: body.wire)
    }

    package func encode(into writer: inout ByteWriter) {
        writer.nested(1, from)
        writer.nested(2, to)
        writer.number(3, epoch.rawValue)
        writer.number(4, term.rawValue)
        body.encode(into: &writer)
    }

    /// See `Entry.encodedBytesExpected`.
    var encodedBytesExpected: Int {
        guard case .append(let append) = body else { return 48 }
        return append.encodedBytesExpected + 24
    }
}
