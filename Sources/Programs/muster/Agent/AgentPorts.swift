import ClusterBase
import NodePorts
import NodeStorage
import PeerTransport
import RaftCore

/// The real world, as a node's engine sees it. Belongs to the loop's thread.
final class AgentPorts: WorldPorts {
    var state: StateStore
    private let directory: NodeDirectory
    private let writer: LogWriter
    private let flusher: StateFlusher
    var network: PeerNetwork?
    /// Answers and reports of a turn; the agent takes them when the engine has returned.
    private(set) var answers: [(ticket: UInt64, answer: ClientAnswer)] = []
    private(set) var reports: [NodeReport] = []

    init(directory: NodeDirectory, writer: LogWriter, flusher: StateFlusher) {
        self.directory = directory
        self.writer = writer
        self.flusher = flusher
        state = directory.state
    }

    func send(_ frame: PeerFrame, to node: NodeID) { network?.send(frame, to: node) }
    func submit(_ writes: [GroupWrite], ticket: UInt64) { writer.submit(writes, ticket: ticket) }
    func entries(
        of group: GroupID, replica: ReplicaID, from: LogIndex, through: LogIndex, bytesMax: Int
    ) throws(StoreError) -> [Entry] {
        try directory.entries(of: group, from: from, through: through, bytesMax: bytesMax)
    }
    func flushState(ticket: UInt64) { flusher.flush(ticket: ticket) }
    func answer(_ ticket: UInt64, _ answer: ClientAnswer) { answers.append((ticket, answer)) }
    func report(_ report: NodeReport) { reports.append(report) }

    func takeAnswers() -> [(ticket: UInt64, answer: ClientAnswer)] {
        if answers.isEmpty { return [] }
        defer { answers.removeAll(keepingCapacity: true) }
        return answers
    }

    func takeReports() -> [NodeReport] {
        if reports.isEmpty { return [] }
        defer { reports.removeAll(keepingCapacity: true) }
        return reports
    }
}
