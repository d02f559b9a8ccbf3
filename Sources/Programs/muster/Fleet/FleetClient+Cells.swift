import AdminAPI
import ClusterBase
import CommandSyntax
import FleetCommands
import Glibc
import Reactor
import Terminal

// Cells are split and merged by plans that the cluster keeps: a command begins one, or changes it, and may follow it.

extension FleetClient {
    private static let lookInterval: UInt32 = 200_000

    func planHosts(_ kind: String) throws -> ExitCode {
        let name = word("CELL")
        let steps = ["pause", "resume", "cancel"].filter { line.has($0) }
        if steps.count + (line.has("dry-run") ? 1 : 0) > 1 {
            throw FleetMistake("--pause, --resume, --cancel and --dry-run stand beside each other; give one of them.")
        }
        var body = [JSONMember("step", .string(steps.first ?? kind))]
        if steps.isEmpty {
            guard let into = line.text("into") else {
                let more = kind == "split" ? "; it is made if it is not there." : "."
                throw FleetMistake("say with --into which cell hosts go to" + more)
            }
            body.append(JSONMember("into", .string(into)))
            if kind == "split" {
                let ways = ["hosts", "rack", "zone"].filter { line.text($0) != nil || line.integer($0) != nil }
                if ways.count != 1 {
                    throw FleetMistake("say which hosts go: give one of --hosts, --rack and --zone.")
                }
                if let count = line.integer("hosts") { body.append(JSONMember("hosts", .integer(Int64(count)))) }
                for way in ["rack", "zone"] {
                    if let text = line.text(way) { body.append(JSONMember(way, .string(text))) }
                }
            } else if line.has("retire") {
                body.append(JSONMember("retire", .bool(true)))
            }
            if line.has("dry-run") { body.append(JSONMember("dryRun", .bool(true))) }
        }
        let said = try post(["v1", "cells", name, "plan"], [], .object(body))
        let ends = steps.first == "pause" || steps.first == "cancel" || line.has("dry-run")
        guard line.has("wait"), !ends else { return show(said) }
        return try follow(name)
    }

    /// Says what there is to say until the plan has ended, or nobody goes on with it.
    private func follow(_ name: String) throws -> ExitCode {
        let until = SystemClock.now + (line.duration("wait-timeout") ?? .seconds(300))
        var told = ""
        while true {
            guard let plan = try plan(of: name) else {
                print("cell \(name) is merged and retired\n")
                return .success
            }
            func count(_ member: String) -> Int64 { plan[member]?.integer ?? 0 }
            let into = Column.plain(plan["into"] ?? .null)
            let text =
                "\(count("hosts")) hosts have gone to cell \(into) with \(count("vms")) VMs, \(count("left")) are left"
                + (plan["stays"]?.elements ?? []).map { "; \(Column.plain($0))" }.joined()
            if text != told { print(text + "\n") }
            told = text
            switch plan["state"]?.text {
            case "done" where plan["retire"] == nil: return .success
            case "paused", "cancelled":
                Console.complain("muster: the plan for cell \(name) is \(plan["state"]?.text ?? "")")
                return .failure
            default: break
            }
            if SystemClock.now >= until {
                let look = "`muster cell show \(name)` says how far it is"
                throw Undone("the plan for cell \(name) has not ended; it goes on, and \(look)")
            }
            usleep(FleetClient.lookInterval)
        }
    }

    /// Nil where the cell is gone.
    private func plan(of name: String) throws -> JSONValue? {
        do {
            return try get(["v1", "cells", name])["plan"]
        } catch let refusal as Refused where refusal.problem.kind.status == 404 {
            return nil
        }
    }
}
