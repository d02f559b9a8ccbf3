import AdminAPI
import ClusterBase
import CommandSyntax
import FleetCommands
import Glibc
import Reactor
import Terminal

// Cells are split and merged: one host after the other goes to the other cell with its VMs. Each of these steps is whole in
// itself, so a command that ends half way has done what it said, and the same command goes on.

extension FleetClient {
    /// So long a host gets to be in its new cell, and a new cell to be ready.
    private static let hostMax = Nanoseconds.seconds(60)
    private static let cellMax = Nanoseconds.seconds(120)

    func splitCell() throws -> ExitCode {
        let (name, into) = (word("CELL"), line.text("into") ?? "")
        if into.isEmpty {
            throw FleetMistake(
                "say with --into what the cell is called that hosts go to; it is made if it is not there.")
        }
        let ways = ["hosts", "rack", "zone"].filter { line.text($0) != nil || line.integer($0) != nil }
        if ways.count != 1 { throw FleetMistake("say which hosts go: give one of --hosts, --rack and --zone.") }
        let source = try get(["v1", "cells", name])
        let isThere = try cellNames().contains(into)
        let hosts = try hosts(of: name)
        var chosen: [String]
        if let count = line.integer("hosts") {
            // Those that went before count.
            let there = isThere ? try self.hosts(of: into).count : 0
            chosen = hosts.prefix(max(0, count - there)).compactMap { $0["name"]?.text }
        } else {
            let way = ways[0]
            chosen = hosts.filter { $0[way]?.text == line.text(way) }.compactMap { $0["name"]?.text }
        }
        if chosen.isEmpty {
            print("no host of cell \(name) is left to go to cell \(into)\n")
            return .success
        }
        if line.has("dry-run") {
            guard isThere else {
                print("cell \(into) would be made, and get \(chosen.joined(separator: ", "))\n")
                return .success
            }
            return try send(chosen, to: into, isDryRun: true)
        }
        if !isThere {
            var members = [JSONMember("name", .string(into))]
            for key in ["region", "survives"] {
                if let text = source[key]?.text, !text.isEmpty { members.append(JSONMember(key, .string(text))) }
            }
            _ = try post(["v1", "cells"], [], .object(members))
        }
        try wait("cell \(into) is not ready", FleetClient.cellMax) {
            try get(["v1", "cells", into])["state"]?.text == "ready"
        }
        return try send(chosen, to: into, isDryRun: false)
    }

    func mergeCell() throws -> ExitCode {
        let (name, into) = (word("CELL"), line.text("into") ?? "")
        if into.isEmpty || into == name {
            throw FleetMistake("say with --into which other cell takes the hosts and VMs.")
        }
        guard try cellNames().contains(into) else {
            throw FleetMistake("there is no cell \(into); see `muster cell list`.")
        }
        let all = try hosts(of: name).compactMap { $0["name"]?.text }
        let worst = try send(all, to: into, isDryRun: line.has("dry-run"))
        if worst != .success || line.has("dry-run") { return worst }
        // What is left is on no host: it waits, or is stopped.
        let left = try pages(["v1", "vms"], [("cell", name)], limit: .max)
        for vm in left {
            guard let id = vm["id"]?.integer else { continue }
            let body = JSONValue.object([JSONMember("cell", .string(into))])
            do {
                _ = try post(["v1", "vms", "\(id)", "migrate"], [], body)
            } catch let refusal as Refused {
                Console.complain("muster: VM \(vm["name"]?.text ?? "\(id)"): \(refusal.problem.detail)")
                return ClientCommands.code(of: refusal.problem)
            }
        }
        try wait("VMs of cell \(name) are not in cell \(into)", FleetClient.cellMax) {
            try pages(["v1", "vms"], [("cell", name)], limit: 1).isEmpty
        }
        return show(try ask(RawRequest(.delete, ["v1", "cells", name])))
    }

    /// One after the other. One that stays keeps no other.
    private func send(_ hosts: [String], to cell: String, isDryRun: Bool) throws -> ExitCode {
        var worst = ExitCode.success
        for host in hosts {
            var members = [JSONMember("cell", .string(cell))]
            if isDryRun { members.append(JSONMember("dryRun", .bool(true))) }
            do {
                let said = try post(["v1", "nodes", host, "assign"], [], .object(members))
                if isDryRun {
                    print((said["message"]?.text ?? "") + "\n")
                    continue
                }
                try wait("host \(host) is not in cell \(cell)", FleetClient.hostMax) {
                    try get(["v1", "nodes", host])["cell"]?.text == cell
                }
                print("host \(host) belongs to cell \(cell) now\n")
            } catch let refusal as Refused {
                Console.complain("muster: \(host): \(refusal.problem.detail)")
                worst = ClientCommands.code(of: refusal.problem)
            }
        }
        return worst
    }

    private func cellNames() throws -> [String] {
        try get(["v1", "cells"])["items"]?.elements?.compactMap { $0["name"]?.text } ?? []
    }

    /// By name.
    private func hosts(of cell: String) throws -> [JSONValue] {
        try pages(["v1", "hosts"], [("cell", cell)], limit: .max).filter { $0["state"]?.text != "removed" }
            .sorted { $0["name"]?.text ?? "" < $1["name"]?.text ?? "" }
    }

    private func wait(_ problem: String, _ most: Nanoseconds, _ isDone: () throws -> Bool) throws {
        let until = SystemClock.now + most
        while true {
            if try isDone() { return }
            if SystemClock.now >= until {
                throw Undone("\(problem) after \(most.count / 1_000_000_000) s; the same command goes on")
            }
            usleep(200_000)
        }
    }
}
