import AdminAPI
import CommandSyntax
import FleetCommands

// A region is declared lost, or that is rehearsed.

extension FleetClient {
    func declareLost() throws -> ExitCode {
        let name = word("REGION")
        if line.has("dry-run") { return showRehearsal(try get(["v1", "regions", name, "rehearsal"])) }
        return show(try post(["v1", "regions", name, "declare-lost"], [], nil))
    }

    private func showRehearsal(_ found: JSONValue) -> ExitCode {
        let unanswered = found["unanswered"]?.elements ?? []
        let code = unanswered.isEmpty ? ExitCode.success : .unavailable
        guard printer.format == .table || printer.format == .wide, let cells = found["cells"]?.elements else {
            let shown = show(found)
            return shown == .success ? code : shown
        }
        let region = Column.plain(found["region"] ?? .null)
        if cells.isEmpty && unanswered.isEmpty {
            print("No cell has hosts or voters in region \(region): nothing would move.\n")
        }
        if !cells.isEmpty { print(printer.list(cells, FleetColumns.rehearsedCells)) }
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
        print("Nothing was changed.\n")
        return code
    }
}
