import AdminAPI
import ClusterBase
import CommandSyntax
import FleetCommands
import Glibc
import Reactor
import Terminal

// A host is taken back, and VMs that left it by a drain with it.

extension FleetClient {
    /// What is said of VMs that leave a host by a drain.
    var returnQuery: [(name: String, value: String)] { line.text("return").map { [("return", $0)] } ?? [] }

    func resumeHost() throws -> ExitCode {
        let name = word("HOST")
        if let asked = try pauseOrGoOn(name, "return", goOn: "go-on") {
            return line.has("wait") ? try watchReturn(to: name) : show(asked)
        }
        let returns = line.text("return")
        if let needs = ["dry-run", "plan"].first(where: line.has), returns != "all" {
            throw FleetMistake("--\(needs) is for --return all, which moves something; the others move nothing.")
        }
        if line.has("dry-run") { return showPlan(try plan("return", .string(name))) }
        let asked = try ask(
            RawRequest(
                .post, ["v1", "hosts", name, "resume"], query: planQuery + returnQuery, ifMatch: ifGeneration))
        return line.has("wait") ? try watchReturn(to: name) : show(asked)
    }

    /// Looks until all is back that can be, and names the rest.
    func watchReturn(to name: String) throws -> ExitCode {
        let limit = line.duration("wait-timeout") ?? .seconds(300)
        let deadline = SystemClock.now + limit
        var most = Int64(0)
        var progress: Progress?
        while true {
            let host = try get(["v1", "hosts", name])
            let left = host["awayVMs"]?.integer ?? 0
            if left > most {
                most = left
                progress = Progress(Int(most), "back on \(name)", isTerminal: Console.isTerminal)
            }
            let moving = try get(["v1", "migrations"], [("filter", "to=\(name)")])["items"]?.elements ?? []
            let note = moving.first.map { move in
                "\(move["vm"]?.text ?? "") comes from \(move["from"]?.text ?? ""), "
                    + "\((move["progressMillis"]?.integer ?? 0) / 10) %"
            }
            if let text = progress?.text(done: Int(most - left), note: note ?? "") { Console.write(text, to: 2) }
            let isOver = host["return"]?.text != "all" || host["state"]?.text != "ready"
            if isOver && moving.isEmpty { return left == 0 ? .success : try nameAway(name, left, host, progress) }
            if !isOver && host["returnPaused"]?.bool == true {
                throw Undone(
                    "the way back to \(name) is paused; `muster host resume \(name) --go-on` lets it go on")
            }
            if SystemClock.now >= deadline {
                Console.complain((progress?.leave ?? "") + "muster: \(Quantity.text(limit)) are over.")
                _ = try nameAway(name, left, host, nil)
                return .unavailable
            }
            usleep(500_000)
        }
    }

    private func nameAway(_ name: String, _ left: Int64, _ host: JSONValue, _ progress: Progress?) throws -> ExitCode {
        Console.write(progress?.leave ?? "", to: 2)
        // Without a return nothing is to come.
        if host["return"]?.text == "none" { return .success }
        let plan = try plan("return", .string(name))
        for vm in plan["left"]?.elements ?? [] {
            Console.complain("muster: \(vm["vm"]?.text ?? "") is not back: \(vm["text"]?.text ?? "")")
        }
        for note in plan["notes"]?.elements ?? [] { Console.complain("muster: \(note.text ?? "")") }
        Console.complain(
            "muster: \(left) VMs that left \(name) are elsewhere, and take it first when they go anywhere.")
        return .failure
    }
}
