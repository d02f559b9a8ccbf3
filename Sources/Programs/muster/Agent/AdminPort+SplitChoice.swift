import AdminAPI
import AdminHTTP
import ClusterBase
import Controllers
import FleetModel
import NodePorts
import NodeRuntime

// Which hosts a split takes that is to take so many: chosen by what the cell says of its hosts, groups and VMs.

extension AdminPort {
    /// Hosts that go, and in words that follow a sentence: which ones, why others do not, and who of them is held back.
    struct ChosenHosts {
        var nodes: [NodeID]
        var named: String
        var leftOut: String
        var held: String
    }

    /// Questions to the cell for one choice. What it could not say then counts as if it kept no host.
    private static let choiceQuestionsMax = 128
    private static let choiceNamesMax = 64

    /// What is asked one after the other.
    private final class ChoiceJob {
        let cell: RootCell
        var ties = CellTies()
        var left: [CellQuery] = [.all(.hosts), .all(.groups)]
        var asked = 0
        let done: (Result<CellTies, Problem>) -> Void
        init(_ cell: RootCell, _ done: @escaping (Result<CellTies, Problem>) -> Void) {
            self.cell = cell
            self.done = done
        }
    }

    func hosts(of cell: RootCell) -> [RootNode] {
        agent.view.nodes.filter { $0.state != .removed && agent.view.assignment(of: $0.id)?.cell == cell.group }
    }

    func choose(
        _ count: Int, of cell: RootCell, into name: String, _ done: @escaping (Result<ChosenHosts, Problem>) -> Void
    ) {
        let job = ChoiceJob(cell) { [self] outcome in
            done(
                outcome.map { ties in
                    var facts = SplitChoice.Facts(cell: cell, nodes: hosts(of: cell))
                    facts.there = agent.view.cell(name).map { hosts(of: $0) } ?? []
                    facts.ties = ties
                    let choice = SplitChoice.byHand(count, facts)
                    return words(choice, of: count, facts)
                })
        }
        goOn(job)
    }

    private func goOn(_ job: ChoiceJob) {
        guard let query = job.left.first else { return job.done(.success(job.ties)) }
        if job.asked >= AdminPort.choiceQuestionsMax {
            job.ties.isCut = true
            return job.done(.success(job.ties))
        }
        job.asked += 1
        read(query, .linearizable, job.cell.group) { [self] result in
            switch result {
            case .failure(let problem): return job.done(.failure(problem))
            case .success(let found):
                let (rows, resumeAfter) = AdminPort.rows(found.answer)
                for row in rows {
                    switch row {
                    case .host(_, let host?): job.ties.note(host)
                    case .group(_, let group?): job.ties.note(group)
                    case .vm(_, let vm?): job.ties.note(vm)
                    default: break
                    }
                }
                if let resumeAfter {
                    job.left[0] = query.going(onAfter: resumeAfter)
                } else {
                    job.left.removeFirst()
                    if query.isOfGroups { askForVMs(job) }
                }
            }
            goOn(job)
        }
    }

    /// By their groups, or all of them where those are many.
    private func askForVMs(_ job: ChoiceJob) {
        let names = job.ties.namesWanted
        if names.isEmpty { return }
        let isShort = names.count <= AdminPort.choiceNamesMax && agent.engine.levelOpen >= FeatureLevel.marks
        job.left += isShort ? names.map { .vmsMarked(.group($0), after: nil, limit: 0) } : [.all(.vms)]
    }

    private func words(_ choice: SplitChoice, of count: Int, _ facts: SplitChoice.Facts) -> ChosenHosts {
        func name(_ id: NodeID) -> String { agent.name(of: id) }
        var text = ""
        if choice.nodes.count < min(count, facts.nodes.count) {
            text += ". With more than these \(choice.nodes.count) more would be held back, or racks divided"
        }
        if !choice.passedOver.isEmpty {
            text += ". Left out: " + choice.passedOver.map { "\(name($0.node)): \($0.why)" }.joined(separator: "; ")
        }
        if !choice.isEnough {
            text +=
                ". One of the two cells would have fewer hosts, or hosts in fewer zones, than cell \(facts.cell.name) is to have"
        }
        if facts.ties.isCut { text += ". The cell has more VMs in groups than are looked at for this choice" }
        // hash order: sorted at once
        let held = choice.held.sorted { name($0.key) < name($1.key) }.map { node, tie in
            "\(name(node)): " + SplitChoice.text(tie) { name(NodeID(rawValue: $0.rawValue)) }
        }
        return ChosenHosts(
            nodes: choice.nodes, named: ". Chosen: \(AdminPort.listed(choice.nodes.map(name)))", leftOut: text,
            held: held.isEmpty ? "" : ". Held back as it is now: " + AdminPort.listed(held, "; "))
    }

    private static func listed(_ words: [String], _ separator: String = ", ") -> String {
        words.prefix(20).joined(separator: separator) + (words.count > 20 ? "\(separator)…" : "")
    }
}

extension CellQuery {
    fileprivate var isOfGroups: Bool { if case .list(.groups, _, _) = self { true } else { false } }

    fileprivate func going(onAfter key: [UInt8]) -> CellQuery {
        switch self {
        case .list(let table, _, let limit): .list(table, after: key, limit: limit)
        case .vmsMarked(let mark, _, let limit):
            .vmsMarked(mark, after: VMID(rawValue: key.reduce(0) { $0 << 8 | UInt64($1) }), limit: limit)
        default: self
        }
    }
}
