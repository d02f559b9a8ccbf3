package import ClusterBase
package import Controllers
import FleetModel
import NodePorts
import RaftCore

// Names of VMs that a cell led here sends to another region because theirs is lost, or home. Where that region has several
// cells the name is held there first.

extension NodeEngine {
    /// What the keeper of a cell has to know of regions and other cells; nothing as long as no region was ever lost.
    func regionFacts(of group: GroupID) -> RegionFacts {
        guard let regions = steward.view.cluster?.regions, !regions.isEmpty, packLevel >= FeatureLevel.regions else {
            return RegionFacts()
        }
        return factsAtHand(of: group)
    }

    private func factsAtHand(of group: GroupID) -> RegionFacts {
        let view = steward.view
        var cells: [RegionFacts.Cell] = []
        for cell in view.cells.sorted(by: { $0.group < $1.group }) where cell.group != group {
            let report = view.cellReports.first { $0.group == cell.group }
            cells.append(
                RegionFacts.Cell(number: cell.group.number, name: cell.name, region: cell.region, report: report))
        }
        return RegionFacts(
            own: group.number, region: view.cell(group)?.region ?? "", regions: view.cluster?.regions ?? [],
            cells: cells, latencies: view.latencies)
    }

    /// What the loss of a region is rehearsed with, on whatever thread: a copy of the cell's keeper, and what this node knows of
    /// regions and other cells. Nil where the cell is not led here.
    package func rehearsalParts(of group: GroupID) -> (keeper: CellKeeper, facts: RegionFacts)? {
        withCellKeeper(group) { $0 }.map { ($0, factsAtHand(of: group)) }
    }

    /// What a shell tells that follows no root: a world without one.
    package func tell(regions facts: RegionFacts, of group: GroupID, now: Instant) {
        cells.told[group] = facts
        if let k = cells.position(of: group) { cells.kept[k].keeper.take(regions: facts, now: now) }
    }

    /// Has the name held first where that is needed. False where it is not.
    func beginClaim(_ k: Int, _ operation: CellCommand.Operation, _ now: Instant) -> Bool {
        guard case .moveVM(let id, let to, _, _, let home, let cause, _) = operation, cause != .asked else {
            return false
        }
        let group = cells.kept[k].group
        let view = steward.view
        guard let target = view.cell(GroupID(.cell, number: to)), let vm = cells.kept[k].keeper.view.vms[id] else {
            return false
        }
        let siblings = view.cells.filter { $0.region == target.region }.map(\.group.number).sorted()
        if siblings.count < 2 { return false }
        // Nobody has used it before: a name that was claimed in vain may have been taken over since.
        let request =
            bytes(id.rawValue) + bytes(mix64(UInt64(bitPattern: now.nanoseconds) ^ mix64(node.rawValue ^ id.rawValue)))
        let number = cells.nextNumber()
        cells.kept[k].claims.append(
            Cells.Claim(
                number: number,
                claim: NameClaim(
                    tenant: vm.tenant, name: vm.name, vm: id, to: to, of: siblings, request: request),
                operation: .moveVM(id, to: to, request: request, home: home, cause: cause)))
        askNext(k, group, cells.kept[k].claims.count - 1, now)
        return true
    }

    func tendClaims(_ now: Instant) {
        let answers = cells.claimAnswers
        cells.claimAnswers.removeAll()
        for (group, number, answer) in answers {
            guard let k = cells.position(of: group),
                let at = cells.kept[k].claims.firstIndex(where: { $0.number == number })
            else { continue }
            guard let verdict = cells.kept[k].claims[at].claim.heard(answer) else {
                askNext(k, group, at, now)
                continue
            }
            let operation = cells.kept[k].claims.remove(at: at).operation
            switch verdict {
            case .held:
                let number = cells.noteAsked(k, operation)
                let ticket = forwards.ticket(for: .steward(.cell(group, number: number)))
                take(.command(group, CellCommand(by: "controller", operation).encoded()), ticket, now)
            case .refused(let refusal):
                let result = CellResult(revision: .zero, outcome: .refused(refusal))
                cells.kept[k].keeper.take(.applied(result), of: operation, now: now)
            case .unknown: cells.kept[k].keeper.take(.notTaken, of: operation, now: now)
            }
        }
    }

    private func askNext(_ k: Int, _ group: GroupID, _ at: Int, _ now: Instant) {
        let claim = cells.kept[k].claims[at]
        switch claim.claim.next {
        case .command(let number, let operation, let request):
            let command = CellCommand(request: request, by: "controller", operation)
            ask(
                .command(GroupID(.cell, number: number), command.encoded()),
                .claim(group, number: claim.number, isQuery: false), now)
        case .query(let number, let query):
            ask(
                .query(GroupID(.cell, number: number), .cell(query)),
                .claim(group, number: claim.number, isQuery: true), now)
        }
    }

    /// May be in the midst of a replica's step: it only notes.
    func claimed(_ group: GroupID, _ number: UInt64, _ isQuery: Bool, _ answer: ClientAnswer) {
        let heard: NameClaim.Answer
        switch answer {
        case .applied(.cell(let result)): heard = .outcome(result.outcome)
        case .read(.cell(let found)):
            if case .rows(let rows, _) = found.body {
                heard = .rows(rows.compactMap(\.content))
            } else {
                heard = .rows(nil)
            }
        default: heard = isQuery ? .rows(nil) : .outcome(nil)
        }
        cells.claimAnswers.append((group, number, heard))
    }

    private func bytes(_ number: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendBigEndian(number)
        return bytes
    }
}
