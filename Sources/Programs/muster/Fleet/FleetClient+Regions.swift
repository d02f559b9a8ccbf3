import AdminAPI
import ClusterBase
import CommandSyntax
import FleetCommands

// A region is declared lost or evacuated, or that is rehearsed.

extension FleetClient {
    func declareLost() throws -> ExitCode {
        let name = word("REGION")
        if line.has("dry-run") { return showRehearsal(try get(["v1", "regions", name, "rehearsal"])) }
        return show(try post(["v1", "regions", name, "declare-lost"], [], nil))
    }

    /// Begins a plan, or changes it.
    func planRegion(_ direction: String) throws -> ExitCode {
        let name = word("REGION")
        let returns = line.text("return")
        let steps = ["pause", "resume", "cancel"].filter { line.has($0) }
        if steps.count + (line.has("dry-run") ? 1 : 0) > 1 {
            throw FleetMistake("--pause, --resume, --cancel and --dry-run stand beside each other; give one of them.")
        }
        if line.has("dry-run") {
            var query = [(name: "of", value: direction == "evacuate" ? "evacuation" : "return")]
            if let returns { query.append((name: "returns", value: returns)) }
            return showRehearsal(try get(["v1", "regions", name, "rehearsal"], query))
        }
        var body = [JSONMember("step", .string(steps.first ?? direction))]
        if let returns { body.append(JSONMember("returns", .string(returns))) }
        return show(try post(["v1", "regions", name, "plan"], [], .object(body)))
    }

    /// With a plan that is not called off: how far it is.
    func showRegion() throws -> ExitCode {
        let name = word("REGION")
        let found = try get(["v1", "regions", name])
        guard let plan = found["plan"], let direction = plan["direction"]?.text, let state = plan["state"]?.text,
            state != "cancelled"
        else { return show(found) }
        let kind = direction == "evacuate" ? "evacuation" : "return"
        let progress = try get(["v1", "regions", name, "rehearsal"], [(name: "of", value: kind)])
        if printer.format != .table && printer.format != .wide {
            guard case .object(let members) = found else { return show(found) }
            return show(.object(members + [JSONMember("progress", progress)]))
        }
        let shown = show(found)
        if shown != .success { return shown }
        func sum(_ member: String) -> Int64 {
            progress["cells"]?.elements?.reduce(0) { $0 + ($1[member]?.integer ?? 0) } ?? 0
        }
        let moving = sum("moving")
        let rest = sum("away") - moving + sum("migrate")
        let moved = direction == "evacuate" ? "\(sum("moved")) VMs have moved, " : ""
        print(
            "\nThe \(kind) is \(state): \(moved)\(moving) are on their way, \(rest) go later, \(sum("wait")) stay or wait."
                + finish(progress, state) + "\n\n")
        return showRehearsal(progress, isPlan: true)
    }

    func regionLatency() throws -> ExitCode {
        var regions = [JSONValue]()
        if let name = line.argument("REGION") {
            regions = [try get(["v1", "regions", name])]
        } else {
            regions = try get(["v1", "regions"])["items"]?.elements ?? []
        }
        var rows: [JSONValue] = []
        for region in regions {
            for link in region["latencies"]?.elements ?? [] {
                rows.append(.object([JSONMember("from", region["name"] ?? .null)] + (link.members ?? [])))
            }
        }
        return show(rows, FleetColumns.latencies)
    }

    func setRegionLatency() throws -> ExitCode {
        let text = word("TIME")
        var micros: Int64 = 0
        if text != "measured" {
            guard let time = Quantity.duration(text), time > .zero else {
                throw FleetMistake("'\(text)' is no time; write one such as 20ms or 500us, or measured.")
            }
            micros = max(1, time.count / 1_000)
        }
        let body = [JSONMember("to", .string(word("OTHER"))), JSONMember("micros", .integer(micros))]
        return show(try ask(RawRequest(.put, ["v1", "regions", word("REGION"), "latency"], body: .object(body))))
    }

    /// When the last cell is done, if moves go on as they went.
    private func finish(_ progress: JSONValue, _ state: String) -> String {
        let cells = progress["cells"]?.elements ?? []
        let left = cells.filter { cell in
            ["away", "migrate", "beyond"].contains { cell[$0]?.integer ?? 0 > 0 }
        }
        if left.isEmpty || state != "running" { return "" }
        let times = left.compactMap { $0["expectedMillis"]?.integer }
        guard times.count == left.count, let last = times.max() else {
            return " How long it takes is known when a VM of each cell has moved."
        }
        return " It is done in about \((last + 999) / 1_000) s, if moves take as long as they did lately."
    }

    private func showRehearsal(_ found: JSONValue, isPlan: Bool = false) -> ExitCode {
        let unanswered = found["unanswered"]?.elements ?? []
        let code = unanswered.isEmpty ? ExitCode.success : .unavailable
        guard printer.format == .table || printer.format == .wide, let cells = found["cells"]?.elements else {
            let shown = show(found)
            return shown == .success ? code : shown
        }
        let region = Column.plain(found["region"] ?? .null)
        let isLoss = found["kind"]?.text == "loss"
        if cells.isEmpty && unanswered.isEmpty {
            print("No cell has hosts or voters in region \(region): nothing would move.\n")
        }
        if !cells.isEmpty {
            print(printer.list(cells, isLoss ? FleetColumns.rehearsedCells : FleetColumns.plannedCells))
        }
        func part(_ title: String, _ name: String, _ columns: [Column]) {
            let rows = found[name]?.elements ?? []
            if !rows.isEmpty { print("\n\(title):\n" + printer.list(rows, columns)) }
        }
        part("Where they would go, and what those cells said last", "targets", FleetColumns.rehearsalTargets)
        part("What would wait, and why", "waits", FleetColumns.rehearsalWaits)
        part("VM by VM", "steps", FleetColumns.rehearsalSteps)
        if let more = found["stepsLeftOut"]?.integer, more > 0 {
            print("\(more) more VMs are counted above and not listed.\n")
        }
        for text in unanswered { print("\nNothing is counted of cell \(Column.plain(text))\n") }
        print("\n")
        for note in found["notes"]?.elements ?? [] { print(Column.plain(note) + "\n") }
        if !isPlan { print("Nothing was changed.\n") }
        return code
    }
}
