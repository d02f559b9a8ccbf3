import AdminAPI
import AdminHTTP
import ClusterBase
import Controllers
import FleetModel
import NodeRuntime
import RaftCore
import Reactor

// The loss of a region, or a plan for it, rehearsed: the leader of each cell that has to do with it plays it through, and the node that was asked
// puts the parts together. Nothing is proposed to any group.

extension AdminPort {
    func rehearse(
        _ region: String, _ kind: CellRehearsal.Kind, _ returns: RegionPlan.Returns?, _ groups: [GroupID],
        _ asker: FleetAsker
    ) {
        if let problem = agent.problem(wanting: FeatureLevel.regions) { return fail(asker, problem) }
        agent.refreshView { [self] problem in
            if let problem { return fail(asker, problem) }
            if !agent.view.regionNames.contains(region) {
                return fail(asker, Problem(RootRefusal.unknownRegion(region)))
            }
            let nodes = agent.view.nodes.filter { $0.state != .removed }
            if nodes.allSatisfy({ $0.about.locality.region == region }) {
                return fail(asker, Problem(RootRefusal.onlyRegion(region)))
            }
            let info = regionInfo(region)
            // VMs that left it may be in any cell.
            let concerned = groups.filter {
                kind != .loss || info.goOn.contains(cellName($0)) || info.wait.contains(cellName($0))
            }
            gather(Gathering(info, kind, returns, concerned, asker), asker)
        }
    }

    /// A few at a time: one node may lead many of them, and copies of their controllers are in memory meanwhile.
    private static let cellsAtOnceMax = 4

    private func gather(_ gathering: Gathering, _ asker: FleetAsker) {
        if gathering.left == 0 { return answer(asker, AdminResponse(gathering.whole(cellName))) }
        for _ in 0..<min(gathering.left, AdminPort.cellsAtOnceMax) { askNext(gathering) }
    }

    private func askNext(_ gathering: Gathering) {
        guard let (at, cell) = gathering.next() else { return }
        let question = FleetRequest.rehearse(
            region: gathering.info.name, of: gathering.kind, returns: gathering.returns)
        hand(question, cell, gathering.asker) { [self] response in
            gathering.parts[at] = AdminPort.part(response)
            gathering.left -= 1
            if gathering.left > 0 { return askNext(gathering) }
            answer(gathering.asker, AdminResponse(gathering.whole(cellName)))
        }
    }

    private static func part(_ response: AdminResponse) -> Result<RegionRehearsal, Problem> {
        guard case .bytes(let bytes) = response.body else {
            return .failure(Problem(.internal, "the cell's answer is of another kind; report this"))
        }
        do throws(Problem) {
            if response.status < 400 { return .success(try RegionRehearsal(body: bytes[...])) }
            guard let json = try? JSONParser.parse(bytes[...]) else {  // Whatever it is, it is no rehearsal.
                return .failure(Problem(.internal, "the cell's answer can't be read; report this"))
            }
            return .failure(Problem(json, status: response.status))
        } catch {
            return .failure(error)
        }
    }

    /// This node's part as the cell's leader, played through on a thread of its own. False where the cell is not led here.
    func rehearse(
        _ region: String, _ kind: CellRehearsal.Kind, _ returns: RegionPlan.Returns?, of cell: GroupID,
        _ done: @escaping (AdminResponse) -> Void
    ) -> Bool {
        guard let (keeper, facts) = agent.engine.rehearsalParts(of: cell) else { return false }
        if !keeper.isReady {
            done(AdminResponse(Problem(.unavailable, "the cell's leader is new and still reads the state; ask again")))
            return true
        }
        let name = cellName(cell)
        let goesOn = !regionInfo(region).wait.contains(name)
        let isThere = agent.view.node(agent.node)?.about.locality.region == region
        let now = agent.loop.now
        let wallTime = agent.wallTime
        // Declared by hand it may be lost sooner.
        let detection = Nanoseconds.milliseconds(Int64(clamping: agent.view.settings[.regionLostAfter]))
        let played = Guarded<CellRehearsal?>(nil)
        agent.blocking.start("rehearsal") {
            let found =
                switch kind {
                case .loss: keeper.rehearse(lossOf: region, facts, goesOn: goesOn, now: now)
                case .evacuation: keeper.rehearse(.evacuate, of: region, returns: returns, facts, now: now)
                case .return: keeper.rehearse(.goBack, of: region, returns: returns, facts, now: now)
                }
            played.withLock { $0 = found }
            return nil
        } done: { problem in
            guard let found = played.withLock({ $0 }) else {
                return done(AdminResponse(Problem(.unavailable, problem ?? "it was not played through; ask again")))
            }
            done(
                AdminResponse(
                    RegionRehearsal(
                        found, cell: name, leaderIsThere: isThere, pace: CellKeeper.regionInterval,
                        detection: detection, now: wallTime)))
        }
        return true
    }
}

/// The parts of a rehearsal that have come so far.
private final class Gathering {
    let info: RegionInfo
    let kind: CellRehearsal.Kind
    let returns: RegionPlan.Returns?
    let asker: FleetAsker
    private let cells: [GroupID]
    /// In the order of the cells.
    var parts: [Result<RegionRehearsal, Problem>?]
    /// How many have not come.
    var left: Int
    private var asked = 0

    init(
        _ info: RegionInfo, _ kind: CellRehearsal.Kind, _ returns: RegionPlan.Returns?, _ cells: [GroupID],
        _ asker: FleetAsker
    ) {
        self.info = info
        self.kind = kind
        self.returns = returns
        self.asker = asker
        self.cells = cells
        parts = cells.map { _ in nil }
        left = cells.count
    }

    /// The next cell to ask, and its place.
    func next() -> (at: Int, cell: GroupID)? {
        if asked == cells.count { return nil }
        asked += 1
        return (asked - 1, cells[asked - 1])
    }

    func whole(_ name: (GroupID) -> String) -> RegionRehearsal {
        var whole = RegionRehearsal(region: info.name, nodes: info.nodes, reached: info.reached)
        whole.kind = kind
        for (cell, part) in zip(cells, parts) {
            switch part {
            case .success(let part)?: whole.add(part)
            case .failure(let problem)?: whole.unanswered.append("\(name(cell)): \(problem.detail)")
            case nil: whole.unanswered.append("\(name(cell)): it was not asked")
            }
        }
        if kind != .loss {
            whole.notes = planNotes
            return whole
        }
        whole.notes = [
            "It assumes that all hosts of the region fall silent at one moment. A host that is heard keeps its VMs, whatever is "
                + "declared; \(info.reached) of the region's \(info.nodes) nodes are reached from here now.",
            "Each cell's part is played through on the state of its leader, at the index that is told. Hosts are given up one after "
                + "the other, so which host of its cell takes a VM may be another.",
            "Of other cells only the room that they told last is known, as old as ageMillis says. One whose storage domains, networks, "
                + "images, placement groups or names do not suit a VM says no when it is asked, and the next one is tried.",
            "atLeastMillis holds what is certain: the silence until hosts are given up, and a plan each second; no elections, nor "
                + "how long VMs are on their way, at most \(CellKeeper.awayMax) of a cell and \(CellKeeper.awayPerCellMax) to "
                + "one cell at a time, nor how long guests take to start. expectedMillis holds the ways as "
                + "they took lately, and region-lost-after until the region is found lost by itself.",
        ]
        return whole
    }

    private var planNotes: [String] {
        [
            "VMs that run go while they run, within a cell with hosts in several regions and from cell to cell: there the other cell keeps "
                + "a place first. One that can't be sent so is asked to end, and starts there when nothing of it is left on its host.",
            "A wave is as many as may migrate in a cell at a time (migrationsMax). atLeastMillis holds a plan each second and no more: "
                + "not how long guests take to end and to start, which is what a wave lasts. expectedMillis does, by what moves took "
                + "lately; it is left out until one has ended.",
            "Of other cells only the room that they told last is known, as old as ageMillis says. One that says no when it is asked is "
                + "not asked again at once, and the next one is tried.",
            "Replicas of groups stay on the region's nodes, and go on voting there.",
        ]
    }
}
