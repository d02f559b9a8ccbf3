import AdminAPI
import AdminHTTP
import ClusterBase
import Controllers
import FleetModel
import NodeRuntime
import Reactor

// What operators ask for hosts beside their duty.

extension AdminPort {
    func careForHost(_ name: String, _ wish: HostWish, _ cell: GroupID, _ asker: FleetAsker) {
        let care: HostCare
        let done: String
        switch wish {
        case .pauseDrain:
            (care, done) = (.pauseDrain, "no more moves off it begin; `muster host drain --resume` lets it go on")
        case .resumeDrain: (care, done) = (.resumeDrain, "its VMs go elsewhere again; see `muster host show`")
        case .goAway(let absence):
            care = .goAway(milliseconds: UInt64(clamping: absence.seconds) * 1_000)
            done = "it may be away for \(absence.seconds) s, and what it runs waits for it"
        case .comeBack: (care, done) = (.comeBack, "it is not to be away any more")
        case .drain(let returns):
            (care, done) = (.drain(returns), "its VMs go elsewhere; see `muster host show`")
        case .resume(let returns):
            care = .resume(returns)
            done =
                switch returns {
                case .none: "VMs may come again; those that left it stay where they are"
                case .lazy: "VMs may come again; those that left it take it first when they go anywhere"
                case .all: "VMs may come again; those that left it are moved back, see `muster host show`"
                }
        case .pauseReturn:
            care = .pauseReturn
            done = "no more moves back to it begin; `muster host resume --go-on` lets them go on"
        case .resumeReturn: (care, done) = (.resumeReturn, "its VMs come back again; see `muster host show`")
        case .declareDead: preconditionFailure("the cell's leader judges whether a host may be declared dead")
        }
        changeHost(name, cell, asker, "host \(name): \(done)", status: 202) { .careForHost($0, care) }
    }

    /// As the cell's leader, which alone knows how long a host was not heard. The host is granted nothing from the declaration on, and
    /// given up when what it may have been granted before has run out.
    func declareDead(
        _ host: HostID, _ cell: GroupID, _ asker: FleetAsker, _ done: @escaping (AdminResponse) -> Void
    ) {
        let view = agent.engine.withCellKeeper(cell) { $0.view.hosts[host] } ?? nil
        let name = hostName(host)
        guard let known = view, known.health != .removed else { return done(AdminResponse(AdminPort.noHost(name))) }
        if let silence = agent.engine.silence(of: host, in: cell, now: agent.loop.now), silence.leaseLeft > .zero,
            known.declaredDeadAt == .zero
        {
            return done(AdminResponse(Problem(.notPossible, AdminPort.tooEarly(name, silence))))
        }
        command(.careForHost(host, .declareDead(known.incarnation)), cell, asker) { [self] result in
            switch result {
            case .failure(let problem): done(AdminResponse(problem))
            case .success(let result):
                if case .refused(let refusal) = result.outcome {
                    return done(AdminResponse(problem(refusal, cell)))
                }
                var response = AdminResponse(
                    Acceptance(
                        "host \(name) is declared dead: what it ran starts elsewhere, on your word that none of it does there any more"
                    ), status: 202)
                response.index = result.revision.index
                done(response)
            }
        }
    }

    private static func tooEarly(_ name: String, _ silence: (unheard: Nanoseconds, leaseLeft: Nanoseconds)) -> String {
        "host \(name) was heard \(seconds(silence.unheard)) ago, and its lease may be in force for \(seconds(silence.leaseLeft)) "
            + "more: ask again after that, if it is not heard until then; `muster host drain` empties one that runs"
    }

    private static func seconds(_ time: Nanoseconds) -> String {
        let tenths = (time.milliseconds + 99) / 100
        return "\(tenths / 10).\(tenths % 10) s"
    }

    /// What the declaration of a host's death would rest on.
    func deathNotes(_ host: HostID, _ plan: CellPlan, _ cell: GroupID) -> [String] {
        let name = hostName(host)
        guard let known = agent.engine.withCellKeeper(cell, { $0.view.hosts[host] }) ?? nil else { return [] }
        var notes = [
            "it rests on your word that \(name) is powered off, or that none of its VMs runs there any more, and that this stays so "
                + "until its agent registers anew"
        ]
        if let silence = agent.engine.silence(of: host, in: cell, now: agent.loop.now) {
            notes.append(
                silence.leaseLeft > .zero
                    ? "not yet: \(AdminPort.tooEarly(name, silence))"
                    : "\(name) was heard last \(AdminPort.seconds(silence.unheard)) ago, and its lease has run out: what stops when cut off "
                        + "has ended, if its guard did what it must")
        } else if known.health == .away {
            notes.append(
                "\(name) is away as planned and its lease has run out; that it may be away longer is over then")
        } else {
            notes.append("\(name) is down, and its lease has run out")
        }
        let kept =
            agent.engine.withCellKeeper(cell) { keeper in
                plan.steps.filter { $0.from == host && keeper.view.vms[$0.vm]?.spec.isolation == .keep }.map(\.name)
            } ?? []
        if !kept.isEmpty {
            let named = kept.prefix(8).joined(separator: ", ") + (kept.count > 8 ? ", and \(kept.count - 8) more" : "")
            notes.append(
                "\(named): kept running where a host is cut off. If one still runs there, there are two of it, which write to the same "
                    + "shared disks")
        }
        notes.append("the brake does not hold it; an agent that comes back is told what it may run, and ends the rest")
        return notes
    }
}
