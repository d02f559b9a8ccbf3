package import ClusterBase
package import Controllers
package import FleetModel
import NodePorts
import RaftCore
import StoreLayout

// Where a cell is led, its keeper follows its state and plans for it.

extension NodeEngine {
    /// Looks after every cell that is led here; costs nothing where nothing was applied and nothing is due.
    func tendCells(_ now: Instant) {
        guard settings.runsControllers else { return }
        leadCells(now)
        if cells.kept.isEmpty {
            cells.outcomes.removeAll()
            cells.moveAnswers.removeAll()
            cells.claimAnswers.removeAll()
            cells.hostMoveAnswers.removeAll()
            cells.hostsPlanAnswers.removeAll()
            return
        }
        for k in cells.kept.indices { followCell(k, now) }
        cells.settle(now)
        for k in cells.kept.indices {
            planCell(k, now)
            watchExposure(k, now)
            reportCell(k, now)
            settleLoans(k, now)
        }
        tendClaims(now)
        tendMoves(now)
        tendHostMoves(now)
        tendHostsPlans(now)
        let answers = cells.loanAnswers
        cells.loanAnswers.removeAll()
        for (lender, tenant, loan, isTaken) in answers { settle(loan, of: tenant, lender, isTaken: isTaken, now) }
    }

    /// Loans of quotas are brought to their end by whoever leads the lender, whatever became of who began them.
    private func settleLoans(_ k: Int, _ now: Instant) {
        guard now >= cells.kept[k].loansAt else { return }
        cells.kept[k].loansAt = now + settings.loanInterval
        let lender = cells.kept[k].group
        for (tenant, loan) in cells.kept[k].keeper.openLoans() {
            let taker = GroupID(.cell, number: loan.to)
            guard steward.view.cell(taker) == nil else {
                let take = CellCommand.Operation.takeQuota(
                    tenant: tenant, from: lender.number, number: loan.number, loan.share)
                let command = CellCommand(by: "controller", take)
                ask(.command(taker, command.encoded()), .loan(from: lender, tenant: tenant, loan), now)
                continue
            }
            // One that is not heard of yet is none that is retired. Before it was, all that it took was seen to have come.
            guard let highest = steward.view.cluster?.cellHighest, loan.to <= highest else { continue }
            settle(loan, of: tenant, lender, isTaken: false, now)
        }
    }

    private func settle(_ loan: QuotaLoan, of tenant: String, _ lender: GroupID, isTaken: Bool, _ now: Instant) {
        let operation = CellCommand.Operation.settleLoan(
            tenant: tenant, to: loan.to, number: loan.number, isTaken: isTaken)
        ask(.command(lender, CellCommand(by: "controller", operation).encoded()), .told, now)
    }

    /// May be in the midst of a replica's step: it only notes.
    func tended(_ lender: GroupID, _ tenant: String, _ loan: QuotaLoan, _ answer: ClientAnswer) {
        guard case .applied(.cell(let result)) = answer else { return }
        switch result.outcome {
        case .done: cells.loanAnswers.append((lender, tenant, loan, true))
        case .refused(.cellClosed): cells.loanAnswers.append((lender, tenant, loan, false))
        default: break
        }
    }

    /// Where there are several cells, everyone is to know which of them has room; and what a controller proposes, of one alone.
    private func reportCell(_ k: Int, _ now: Instant) {
        guard now >= cells.kept[k].reportAt else { return }
        cells.kept[k].reportAt = now + settings.cellReportInterval
        let group = cells.kept[k].group
        guard packLevel >= FeatureLevel.cells, cells.kept[k].keeper.isReady, steward.commandsUnderWay == 0 else {
            return
        }
        let risks = cells.kept[k].risks?.told ?? []
        let known = steward.view.report(of: group)
        let advised = known?.advice ?? ""
        let advice = cells.kept[k].keeper.standingAdvice ?? advised
        // Where there is one cell, nobody asks how much room it has.
        let isSame = advice == advised && risks.map(\.kind) == (known?.risks ?? []).map(\.kind)
        if steward.view.cells.count < 2 && isSame { return }
        var report = cells.kept[k].keeper.view.report(of: group)
        report.advice = advice
        report.risks = risks
        if let known, !report.isNews(to: known) { return }
        ask(.reportCell(report), now)
    }

    /// When `tendCells` has something to do.
    var cellsDeadline: Instant {
        if cells.kept.isEmpty { return Instant(nanoseconds: .max) }
        if !cells.outcomes.isEmpty || !cells.moveAnswers.isEmpty || !cells.claimAnswers.isEmpty
            || !cells.hostMoveAnswers.isEmpty || !cells.hostsPlanAnswers.isEmpty
        {
            return lastNow
        }
        var next = Instant(nanoseconds: .max)
        for kept in cells.kept {
            guard let i = position(of: kept.group) else { return lastNow }
            if replicas[i].applied.index > kept.followed { next = min(next, kept.followAt) }
            if kept.asked.count < Cells.askedMax { next = min(next, kept.keeper.deadline) }
            if kept.risks?.isTurning == true { next = min(next, kept.lookAt) }
        }
        return next
    }

    private func leadCells(_ now: Instant) {
        var isChanged = false
        var count = 0
        for i in cellPositions {
            guard replicas[i].raft.isLeader, replicas[i].raft.hasCommittedInTerm else { continue }
            if count < cells.kept.count, cells.kept[count].group == replicas[i].group,
                cells.kept[count].term == replicas[i].raft.term
            {
                count += 1
            } else {
                isChanged = true
                break
            }
        }
        if !isChanged && count == cells.kept.count { return }
        var next: [Cells.Kept] = []
        for i in cellPositions {
            guard replicas[i].raft.isLeader, replicas[i].raft.hasCommittedInTerm else { continue }
            let group = replicas[i].group
            let term = replicas[i].raft.term
            if let k = cells.position(of: group), cells.kept[k].term == term {
                next.append(cells.kept[k])
            } else {
                var keeper = CellKeeper(seed: mix64(group.rawValue), leadsSince: now)
                keeper.rebalanceInterval = settings.rebalanceInterval
                next.append(Cells.Kept(group: group, term: term, keeper: keeper))
                if let told = cells.told[group] { next[next.count - 1].keeper.take(regions: told, now: now) }
                #if MUTANTS
                next[next.count - 1].keeper.mutant = settings.fleetMutant
                next[next.count - 1].moves.mutant = settings.fleetMutant
                next[next.count - 1].hostMoves.mutant = settings.fleetMutant
                #endif
            }
        }
        cells.kept = next
    }

    /// Where the replicas of cells are, which are next to each other.
    private var cellPositions: Range<Int> {
        var low = 0
        var high = replicas.count
        let first = GroupID(.cell, number: 0)
        while low < high {
            let middle = (low + high) / 2
            if replicas[middle].group < first { low = middle + 1 } else { high = middle }
        }
        var end = low
        while end < replicas.count, replicas[end].group.kind == .cell { end += 1 }
        return low..<end
    }

    private func followCell(_ k: Int, _ now: Instant) {
        let group = cells.kept[k].group
        guard let i = position(of: group) else { return }
        // Not every entry is the state machine's: it is followed when it has no more to tell, whatever its own index is.
        let applied = replicas[i].applied.index
        if cells.kept[k].followed < applied && now >= cells.kept[k].followAt {
            var pages = 0
            var isMoving = true
            while isMoving, cells.kept[k].followed < applied, pages < Cells.pagesMax {
                pages += 1
                guard case .cell(let answer)? = readHere(group, .cell(cells.kept[k].keeper.nextQuery)) else {
                    isMoving = false
                    break
                }
                cells.kept[k].keeper.take(answer, now: now)
                switch answer.body {
                case .changes(_, let through): if through >= answer.index { cells.kept[k].followed = applied }
                case .rows: break
                case .compacted, .work, .workChanges, .events, .refused: isMoving = false
                }
            }
            cells.kept[k].followAt = isMoving ? now : now + Cells.retryInterval
        }
        let through = steward.view.through
        if let through, cells.kept[k].tenantsThrough != through {
            cells.kept[k].tenantsThrough = through
            let isLent = steward.view.firstCell.map { $0.group == group } ?? true
            let wishes = steward.view.tenants.map { TenantWish($0, isLent: isLent) }
            cells.kept[k].keeper.take(tenants: wishes, through: through, now: now)
            cells.kept[k].keeper.take(regions: regionFacts(of: group), now: now)
        }
    }

    private func planCell(_ k: Int, _ now: Instant) {
        if cells.kept[k].asked.count >= Cells.askedMax || now < cells.kept[k].keeper.deadline { return }
        cells.kept[k].keeper.movesDisks = packLevel >= FeatureLevel.diskMoves
        cells.kept[k].keeper.knowsTenants = packLevel >= FeatureLevel.knownTenants
        cells.kept[k].keeper.notesAdvice = packLevel >= FeatureLevel.linkBudgets
        cells.kept[k].keeper.tellsSilence = packLevel >= FeatureLevel.objectives
        cells.kept[k].keeper.knowsIntents = packLevel >= FeatureLevel.moveIntents
        let operations = cells.kept[k].keeper.plan(now: now) {
            NodeWatch(own: node, watchingSince: .origin, facts: hostFacts)
        }
        let group = cells.kept[k].group
        for operation in operations {
            if beginClaim(k, operation, now) { continue }
            let number = cells.noteAsked(k, operation)
            let ticket = forwards.ticket(for: .steward(.cell(group, number: number)))
            take(.command(group, CellCommand(by: "controller", operation).encoded()), ticket, now)
        }
    }

    /// Nodes, and hosts whose guards spoke for them.
    private var hostFacts: [NodeWatch.Fact] {
        var facts = contacts.all.map { NodeWatch.Fact(node: $0.node, since: $0.since, heardAt: $0.heardAt) }
        for spoke in hostSigns.all {
            if let at = facts.firstIndex(where: { $0.node == spoke.node }) {
                facts[at].heardAt = max(facts[at].heardAt, spoke.at)
            } else {
                facts.append(NodeWatch.Fact(node: spoke.node, since: spoke.at, heardAt: spoke.at))
            }
        }
        return facts
    }

    /// A host's guard asks for its lease, whatever became of its agent: it counts as heard. False where nothing may be granted:
    /// that it is down was asked for, and may come to be.
    package func hostSpoke(_ host: HostID, in group: GroupID, now: Instant) -> Bool {
        mayGrant(group, host) && hostSigns.note(NodeID(rawValue: host.rawValue), now)
    }

    /// May be in the midst of a replica's step: it only notes.
    func tended(_ group: GroupID, number: UInt64, _ answer: ClientAnswer) {
        let outcome: CellOutcome =
            switch answer {
            case .applied(.cell(let result)): .applied(result)
            case .refused: .notTaken
            case .applied, .read, .accepted, .unknown: .unknown
            }
        cells.outcomes.append((group, number, outcome))
    }

    // MARK: Leases

    func isLease(_ query: Query) -> Bool { host(of: query) != nil }

    /// Whether somebody waits for it. Hosts renew their leases and nodes follow the root all the time, which keeps none from rest.
    func isWork(_ request: ClientRequest) -> Bool {
        switch request {
        case .query(_, .cell(.hostWork)), .query(_, .root(.changes)): false
        default: true
        }
    }

    /// The host whose lease an answer renews.
    func host(of query: Query) -> HostID? {
        if case .cell(.hostWork(let host, _, _)) = query { host } else { nil }
    }

    /// Whether an answer may renew a host's lease: only the leader's, which counts it as a sign of life, and not while it
    /// has asked the cell to give that host up. Read before that takes effect, the answer would say that all is well, and
    /// the host would run what starts elsewhere a moment later.
    func mayGrant(_ group: GroupID, _ host: HostID) -> Bool {
        guard let i = position(of: group), replicas[i].isLeader else { return false }
        #if MUTANTS
        if settings.fleetMutant == .leaseWhileGivenUp { return true }
        #endif
        guard settings.runsControllers else { return true }
        guard let k = cells.position(of: group) else { return false }
        guard cells.kept[k].keeper.mayGrant(to: host) else { return false }
        return !cells.kept[k].asked.contains { asked in
            if case .declareDown(let lost, _, _) = asked.operation { lost == host } else { false }
        }
    }

    // MARK: Looking in

    /// The cells that are led here and have a keeper.
    package var ledCells: [GroupID] { cells.kept.map(\.group) }

    /// Lets the caller look at a cell's keeper, or ask it something, without copying it. Nil where it is not led.
    package func withCellKeeper<Result>(_ group: GroupID, _ body: (inout CellKeeper) -> Result) -> Result? {
        guard let k = cells.position(of: group) else { return nil }
        return body(&cells.kept[k].keeper)
    }

    /// For how long a host of a cell that is led here was not heard, and how much longer its lease may be in force; nil for one that
    /// has none any more.
    package func silence(
        of host: HostID, in group: GroupID, now: Instant
    ) -> (unheard: Nanoseconds, leaseLeft: Nanoseconds)? {
        let watch = NodeWatch(own: node, watchingSince: .origin, facts: hostFacts)
        return withCellKeeper(group) { $0.silence(of: host, watch, now: now) } ?? nil
    }

    /// Answers a question about a cell from its keeper's index; nil where the cell is not led. The index, and what the keeper
    /// does next, are as without the question.
    package func ask(_ group: GroupID, _ question: CellQuestion) -> CellReply? {
        withCellKeeper(group) { $0.answer(question) }
    }
}
