import AdminAPI
import AdminHTTP
import ClusterBase
import FleetModel
import NodeRuntime
import RaftCore
import Reactor
import Schema

// Who leads a group: a node without a replica of it asks one that has one.

extension Agent {
    /// Groups in one question; of more nothing is said.
    private static let groupsAskedMax = 4_096
    /// Nodes that are asked for one list.
    private static let nodesAskedMax = 16
    /// Whoever waits for a list would rather have it without a leader's name.
    private static let leadersPatience = Nanoseconds.milliseconds(500)

    private final class Found {
        var leaders: [GroupID: NodeID] = [:]
        var answersLeft = 0
        var isTold = false
    }

    /// The leaders of these groups that this node knows, or that others tell it soon.
    func leaders(of groups: [GroupID], _ done: @escaping ([GroupID: NodeID]) -> Void) {
        let found = Found()
        var questions: [(node: NodeID, groups: [GroupID])] = []
        for group in groups {
            if let here = engine.inspect(group, { raft, _ in raft.leader?.node }) {
                found.leaders[group] = here
                continue
            }
            let holders = (view.placement(group)?.replicas ?? [])
                .filter { $0.phase == .made && !$0.isLeaving && isHeard($0.node) }.map(\.node)
            let isAsked = questions.firstIndex {
                holders.contains($0.node) && $0.groups.count < Agent.groupsAskedMax
            }
            if let isAsked {
                questions[isAsked].groups.append(group)
            } else if let holder = holders.first, questions.count < Agent.nodesAskedMax {
                questions.append((holder, [group]))
            }
        }
        if questions.isEmpty { return done(found.leaders) }
        found.answersLeft = questions.count
        func tell() {
            if found.isTold { return }
            found.isTold = true
            done(found.leaders)
        }
        for (other, asked) in questions {
            ask(other, .leaders(NodeRequest.Leaders(groups: asked.map(\.rawValue)))) { answer in
                // A node of an older program does not know the question, and gives back none.
                for (group, leader) in zip(asked, answer?.leaders ?? []) where leader != 0 {
                    found.leaders[group] = NodeID(leader)
                }
                found.answersLeft -= 1
                if found.answersLeft == 0 { tell() }
            }
        }
        if !found.isTold { _ = loop.setTimer(after: Agent.leadersPatience, Later { tell() }, tag: 0) }
    }

    /// As the replica here knows it.
    func leaderHere(_ group: GroupID) -> NodeID? { engine.inspect(group) { raft, _ in raft.leader?.node } ?? nil }

    func leadersAnswer(_ wanted: NodeRequest.Leaders) -> NodeAnswer {
        let leaders = wanted.groups.prefix(Agent.groupsAskedMax).map {
            leaderHere(GroupID(rawValue: $0))?.rawValue ?? 0
        }
        return NodeAnswer(version: 1, leaders: leaders)
    }
}

extension AdminPort {
    func listSpaces(_ ticket: Ticket) {
        refresh(ticket, leadersOf: { [self] in agent.view.spaces.map(\.group) }) { [self] leaders in
            AdminResponse(Listing(agent.view.spaces.map { info($0, leaders) }))
        }
    }

    func showSpace(_ name: String, _ ticket: Ticket) {
        refresh(ticket, leadersOf: { [self] in agent.view.space(name).map { [$0.group] } ?? [] }) { [self] leaders in
            agent.view.space(name).map { AdminResponse(info($0, leaders)) } ?? AdminResponse(Problem.noSpace(name))
        }
    }

    func listCells(_ ticket: Ticket) {
        refresh(ticket, leadersOf: { [self] in cells.map(\.group) }) { [self] leaders in
            AdminResponse(Listing(cells.map { info($0, leaders) }))
        }
    }

    func showCell(_ name: String, _ ticket: Ticket) {
        refresh(ticket, leadersOf: { [self] in agent.view.cell(name).map { [$0.group] } ?? [] }) { [self] leaders in
            agent.view.cell(name).map { AdminResponse(info($0, leaders)) } ?? AdminResponse(AdminPort.noCell(name))
        }
    }

    /// Answers with what the root says, and who leads these groups.
    private func refresh(
        _ ticket: Ticket, leadersOf groups: @escaping () -> [GroupID],
        _ make: @escaping ([GroupID: NodeID]) -> AdminResponse
    ) {
        agent.refreshView { [self] problem in
            if let problem { return answer(ticket, AdminResponse(problem)) }
            agent.leaders(of: groups()) { [self] leaders in answer(ticket, ofRoot(make(leaders))) }
        }
    }
}
