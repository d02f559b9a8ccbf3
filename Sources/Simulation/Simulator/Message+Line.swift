import ClusterBase
import RaftCore

extension Message {
    /// In a few words, for traces.
    var line: String {
        let what =
            switch body {
            case .preVote(let vote), .vote(let vote): "asks \(vote.lastIndex)/\(vote.lastTerm)"
            case .preVoteAnswer(let answer), .voteAnswer(let answer): answer.isGranted ? "granted" : "refused"
            case .append(let append):
                "append \(append.previousIndex)/\(append.previousTerm)+\(append.entries.count) commit \(append.commit)"
            case .appendAnswer(let answer): "\(answer.verdict)"
            case .confirmLeadership(let round): "confirm \(round)"
            case .leadershipConfirmed(let round): "confirmed \(round)"
            case .readRequest(let context): "reads \(context.number)"
            case .readAnswer(let context, let index): "read \(context.number) at \(index?.rawValue ?? 0)"
            case .campaignNow: "campaign"
            case .forward(let commands): "forwards \(commands.count)"
            case .stale: "stale"
            }
        return "to \(to) t\(term): \(what)"
    }
}
