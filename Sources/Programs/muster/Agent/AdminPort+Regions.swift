import AdminAPI
import AdminHTTP
import ClusterBase
import FleetModel
import PeerTransport
import RaftCore

// Regions, and whether they are lost.

extension AdminPort {
    var regions: [RegionInfo] { agent.view.regionNames.map(regionInfo) }

    func regionInfo(_ name: String) -> RegionInfo {
        let view = agent.view
        let nodes = view.nodes.filter { $0.state != .removed && $0.about.locality.region == name }
        let reached = nodes.count { agent.isHeard($0.id) }
        let standing = view.region(name)
        var goOn: [String] = []
        var wait: [String] = []
        for cell in cells {
            let voters = (view.placement(cell.group)?.replicas ?? []).filter { $0.part == .voter && !$0.isLeaving }
            let there = voters.count { voter in nodes.contains { $0.id == voter.node } }
            let hasHosts = nodes.contains { view.assignment(of: $0.id)?.cell == cell.group }
            if there == 0 && !hasHosts { continue }
            if (voters.count - there) * 2 > voters.count { goOn.append(cell.name) } else { wait.append(cell.name) }
        }
        return RegionInfo(
            name: name, state: standing?.isLost ?? false ? "lost" : "there", epoch: standing?.epoch ?? 0,
            since: Int64((standing?.since.rawValue ?? 0) / 1_000),
            by: standing.map { $0.isAutomatic ? "" : $0.by } ?? "", nodes: Int64(nodes.count), reached: Int64(reached),
            goOn: goOn, wait: wait, plan: (standing?.plan).map { RegionPlanInfo($0) }, latencies: latencies(name))
    }

    private func latencies(_ name: String) -> [RegionLatencyInfo] {
        let known = agent.view.latencies
        return agent.view.regionNames.compactMap { other in
            guard other != name, let micros = known.micros(name, other) else { return nil }
            let links = [known.link(name, other), known.link(other, name)].compactMap { $0 }
            var info = RegionLatencyInfo(region: other, micros: micros, setMicros: links.map(\.setMicros).max() ?? 0)
            if let measured = links.filter({ $0.micros > 0 }).max(by: { $0.at < $1.at }) {
                info.measuredMicros = measured.micros
                info.by = agent.name(of: measured.node)
                info.at = Int64(measured.at.rawValue / 1_000)
            }
            return info
        }
    }

    func setLatency(_ name: String, _ wish: RegionLatencyWish, _ asker: Asker) {
        if let problem = agent.problem(wanting: FeatureLevel.nearness) {
            return answer(asker.ticket, AdminResponse(problem))
        }
        if name == wish.to {
            let problem = Problem(.invalid, "the way is from one region to another; name another one", field: "to")
            return answer(asker.ticket, AdminResponse(problem))
        }
        let operation = RootCommand.Operation.setLatency(name, wish.to, micros: wish.micros)
        let text =
            wish.micros == 0
            ? "the round trip between \(name) and \(wish.to) is the one that is measured"
            : "the round trip between \(name) and \(wish.to) counts as "
                + "\(Nanoseconds.microseconds(Int64(clamping: wish.micros))), whatever is measured"
        agent.change(operation, request: asker.request, by: asker.name) { [self] result in
            switch result {
            case .failure(let problem): answer(asker.ticket, AdminResponse(problem))
            case .success(let result):
                known(result, asker.ticket) { AdminResponse(Acceptance(text), status: asker.status) }
            }
        }
    }

    func region(_ name: String, _ ticket: Ticket) {
        refresh(ticket) { [self] in
            agent.view.regionNames.contains(name)
                ? AdminResponse(regionInfo(name)) : AdminResponse(Problem(RootRefusal.unknownRegion(name)))
        }
    }

    func declareRegion(_ name: String, isLost: Bool, _ asker: Asker) {
        if let problem = agent.problem(wanting: FeatureLevel.regions) {
            return answer(asker.ticket, AdminResponse(problem))
        }
        agent.refreshView { [self] problem in
            if let problem { return answer(asker.ticket, AdminResponse(problem)) }
            let before = agent.view.region(name)
            let isTakenOver = isLost && before?.isLost == true && before?.isAutomatic == true
            let operation = RootCommand.Operation.declareRegion(
                name: name, isLost: isLost, epoch: before?.epoch ?? 0, isAutomatic: false)
            agent.change(operation, request: asker.request, by: asker.name) { [self] result in
                switch result {
                case .failure(let problem): answer(asker.ticket, AdminResponse(problem))
                case .success(let result):
                    known(result, asker.ticket) { [self] in
                        var text = isLost ? lossText(regionInfo(name)) : AdminPort.backText(name)
                        if isTakenOver {
                            text +=
                                ". The cluster had found it lost by itself, and does not take that back by itself any more"
                        }
                        return AdminResponse(Acceptance(text), status: asker.status)
                    }
                }
            }
        }
    }

    func planRegion(_ name: String, _ wish: RegionPlanWish, _ asker: Asker) {
        if let problem = agent.problem(wanting: FeatureLevel.regions) {
            return answer(asker.ticket, AdminResponse(problem))
        }
        agent.refreshView { [self] problem in
            if let problem { return answer(asker.ticket, AdminResponse(problem)) }
            let operation = RootCommand.Operation.planRegion(
                name: name, wish.step, returns: wish.returns, epoch: agent.view.region(name)?.epoch ?? 0)
            agent.change(operation, request: asker.request, by: asker.name) { [self] result in
                switch result {
                case .failure(let problem): answer(asker.ticket, AdminResponse(problem))
                case .success(let result):
                    known(result, asker.ticket) { [self] in
                        AdminResponse(
                            Acceptance(AdminPort.planText(name, agent.view.region(name)?.plan)), status: asker.status)
                    }
                }
            }
        }
    }

    private static func planText(_ region: String, _ plan: RegionPlan?) -> String {
        guard let plan else { return "nothing is planned for region \(region)" }
        let isLeaving = plan.direction == .evacuate
        let what = isLeaving ? "the evacuation of region \(region)" : "the way back to region \(region)"
        let look = "`muster region show \(region)` says how far it is"
        switch plan.state {
        case .running where isLeaving:
            return
                "region \(region) is evacuated: nothing goes there, and VMs that may move leave it, each cell's as many at a time as "
                + "may migrate there (migrationsMax), those of a cell with all its hosts there stopped for the way; home-only VMs "
                + "stay. \(look)"
        case .running:
            let who =
                switch plan.returns {
                case .none: "nobody goes home"
                case .policy: "VMs that came from there and are to return go home"
                case .all: "all VMs that came from there go home"
                }
            return "region \(region) takes VMs again: \(who), as there is room, each stopped for the way. \(look)"
        case .paused:
            return "\(what) is paused: what is on its way goes on, and nothing else begins"
        case .cancelled:
            return
                "\(what) is called off: VMs that have not left yet stay, those on their way arrive, and those that have moved stay "
                + "where they are" + (isLeaving ? "; `muster region return \(region)` has them go back" : "")
        }
    }

    /// What follows from the declaration, and what it rests on.
    private func lossText(_ region: RegionInfo) -> String {
        func names(_ cells: [String]) -> String { cells.isEmpty ? "none" : cells.joined(separator: ", ") }
        let reached =
            region.reached > 0
            ? " \(region.reached) of its \(region.nodes) nodes are reached from here at this moment: hosts that their cell hears "
                + "keep their VMs."
            : " None of its \(region.nodes) nodes is reached from here."
        return
            "region \(region.name) counts as lost, with epoch \(region.epoch). Nothing starts twice by this: a VM starts "
            + "elsewhere only when its host's lease has run out, by the clock of its cell's leader, and its host stops it by then. "
            + "What is released is the brake, for hosts of \(region.name) alone, and VMs that may move go to other regions.\(reached) "
            + "Cells that go on: \(names(region.goOn)); cells whose VMs wait for the region: \(names(region.wait)). When it is "
            + "there again, say so with `muster region back \(region.name)`"
    }

    private static func backText(_ name: String) -> String {
        "region \(name) is back: the brake holds for its hosts again, VMs go there again, and those that are to return go home as "
            + "their cells have room"
    }
}
