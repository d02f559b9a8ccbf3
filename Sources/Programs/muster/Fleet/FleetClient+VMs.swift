import AdminAPI
import ClusterBase
import CommandSyntax
import FleetCommands
import Glibc
import Reactor

// What is done to VMs.

extension FleetClient {
    private var file: JSONValue? {
        get throws {
            guard let path = line.text("file") else { return nil }
            let bytes = try path == "-" ? Muster.readStandardInput() : NodeFiles.read(path)
            do throws(JSONFault) {
                return try JSONParser.parse(bytes[...], depthMax: 32, valuesMax: 1 << 22)
            } catch {
                throw FleetMistake("\(path): \(error.description).")
            }
        }
    }

    /// A VM as it is created: its name, its tenant and its specification, which options change.
    private func creations() throws -> [JSONValue] {
        let given = try SpecOptions.members(line)
        let file = try file
        let patterns = line.argument("NAME").map { [$0] } ?? []
        if file == nil && patterns.isEmpty {
            throw FleetMistake("NAME is missing; name the VM, or give it with --file.")
        }
        let described = file?.elements ?? (file?["items"]?.elements) ?? [file ?? .object([])]
        if !patterns.isEmpty && described.count > 1 {
            throw FleetMistake("--file holds \(described.count) VMs with names of their own; leave NAME out.")
        }
        return try described.flatMap { base -> [JSONValue] in
            let spec = FleetClient.merged(base["spec"] ?? .object([]), given)
            let names = try patterns.isEmpty ? [base["name"]?.text ?? ""] : SpecOptions.names(patterns[0])
            return names.map { name in
                var members = [JSONMember("name", .string(name)), JSONMember("spec", spec)]
                if let tenant = line.text("tenant") ?? base["tenant"]?.text {
                    members.append(JSONMember("tenant", .string(tenant)))
                }
                if line.has("stopped") {
                    members.append(JSONMember("power", .string("stopped")))
                } else if let power = base["power"] {
                    members.append(JSONMember("power", power))
                }
                return .object(members)
            }
        }
    }

    private static func merged(_ base: JSONValue, _ members: [JSONMember]) -> JSONValue {
        var all = base.members ?? []
        for member in members {
            all.removeAll { $0.name == member.name }
            all.append(member)
        }
        return .object(all)
    }

    func createVMs() throws -> ExitCode {
        let items = try creations()
        for item in items where (item["spec"]?["cpuMillis"]) == nil || (item["spec"]?["memoryMiB"]) == nil {
            throw FleetMistake("'\(item["name"]?.text ?? "")' needs --cpu and --memory.")
        }
        if line.has("dry-run") {
            return show(
                try post(["v1", "plan"], [], .object([JSONMember("create", .array(items))])))
        }
        if items.count == 1 {
            let made = try post(["v1", "vms"], [], items[0])
            let name = made["name"]?.text ?? word("NAME")
            guard line.has("wait") else { return show(made) }
            let code = try wait([name], for: line.has("stopped") ? "placed" : "running")
            return code == .success ? show(try get(["v1", "vms", name], tenantQuery)) : code
        }
        var refused = 0
        var names: [String] = []
        for start in stride(from: 0, to: items.count, by: 10_000) {
            let part = Array(items[start..<min(start + 10_000, items.count)])
            let answer = try post(
                ["v1", "vms", "batch"], [],
                .object([JSONMember("items", .array(part)), JSONMember("atomic", .bool(line.has("all-or-nothing")))]))
            for (i, result) in (answer["items"]?.elements ?? []).enumerated() {
                let name = part[i]["name"]?.text ?? ""
                if let detail = result["detail"]?.text {
                    refused += 1
                    Console.complain("muster: \(name): \(detail)")
                } else {
                    names.append(name)
                }
            }
        }
        print("\(names.count) created" + (refused > 0 ? ", \(refused) refused" : "") + "\n")
        if line.has("wait"), !names.isEmpty {
            let code = try wait(names, for: line.has("stopped") ? "placed" : "running")
            if code != .success { return code }
        }
        return refused == 0 ? .success : .refused
    }

    func updateVM() throws -> ExitCode {
        let name = word("VM")
        let known = try get(["v1", "vms", name], tenantQuery)
        let base = try file
        let spec = FleetClient.merged(
            base?["spec"] ?? base ?? known["spec"] ?? .object([]), try SpecOptions.members(line))
        let generation = line.integer("if-generation").map(UInt64.init) ?? known["generation"]?.integer.map(UInt64.init)
        return show(
            try ask(
                RawRequest(
                    .put, ["v1", "vms", name], query: tenantQuery, body: .object([JSONMember("spec", spec)]),
                    ifMatch: generation)))
    }

    /// One command for each of the VMs named; one that is refused does not keep the others.
    private func each(_ body: (String) throws -> Void) throws -> ExitCode {
        var worst = ExitCode.success
        for name in line.arguments {
            do {
                try body(name)
            } catch let refusal as Refused {
                Console.complain("muster: \(name): \(refusal.problem.detail)")
                worst = ClientCommands.code(of: refusal.problem)
            }
        }
        return worst
    }

    func power() throws -> ExitCode {
        let verb = line.command.words[1]
        let code = try each { name in _ = try post(["v1", "vms", name, verb], tenantQuery) }
        if line.has("wait"), code == .success {
            return try wait(line.arguments, for: verb == "stop" ? "stopped" : verb == "pause" ? "paused" : "running")
        }
        if code == .success {
            print(
                "\(line.arguments.count == 1 ? line.arguments[0] : "\(line.arguments.count) VMs"): \(verb) asked for\n")
        }
        return code
    }

    func deleteVMs() throws -> ExitCode {
        let code = try each { name in
            _ = try ask(
                RawRequest(
                    .delete, ["v1", "vms", name], query: tenantQuery,
                    ifMatch: line.integer("if-generation").map(UInt64.init)))
        }
        if line.has("wait"), code == .success { return try wait(line.arguments, for: "gone") }
        if code == .success {
            print(
                "\(line.arguments.count == 1 ? line.arguments[0] : "\(line.arguments.count) VMs"): deletion asked for\n"
            )
        }
        return code
    }

    func migrate() throws -> ExitCode {
        let name = word("VM")
        if line.has("cancel") { return show(try post(["v1", "vms", name, "cancel-migration"], tenantQuery)) }
        let began = (try get(["v1", "vms", name], tenantQuery))["host"]?.text
        let body = line.text("to").map { JSONValue.object([JSONMember("host", .string($0))]) } ?? .object([])
        let asked = try post(["v1", "vms", name, "migrate"], tenantQuery, body)
        guard line.has("wait") else { return show(asked) }
        let target = line.text("to")
        return try follow([name], "moved") { vm in
            if vm["migration"] != nil && vm["migration"] != .null { return false }
            let host = vm["host"]?.text
            if host != nil, host == target || (target == nil && host != began) { return true }
            throw FleetMistake("\(name) did not move; see `muster vm history \(name)`.")
        }
    }

    // MARK: Waiting

    func wait(_ names: [String], for phase: String) throws -> ExitCode {
        try follow(names, phase) { vm in
            if phase == "gone" { return false }
            if phase == "placed" { return vm["host"]?.text != "" }
            let known = vm["phase"]?.text
            if known == "looping" || (known == "crashed" && vm["spec"]?["restart"]?.text == "never") {
                throw FleetMistake(
                    "\(vm["name"]?.text ?? "a VM") is \(known ?? ""): \(vm["message"]?.text ?? "see its history").")
            }
            return known == phase
        }
    }

    /// Looks again and again, with a bar on a terminal and plain lines elsewhere, until all VMs are as wanted.
    private func follow(_ names: [String], _ what: String, _ isDone: (JSONValue) throws -> Bool) throws -> ExitCode {
        let limit = line.duration("wait-timeout") ?? .seconds(300)
        let deadline = SystemClock.now + limit
        var left = names
        var told = 0
        var pause: UInt32 = 50_000
        while true {
            var open: [String] = []
            if left.count > 50 {
                var byName: [String: JSONValue] = [:]
                for vm in try pages(["v1", "vms"], tenantQuery, limit: .max) { byName[vm["name"]?.text ?? ""] = vm }
                for name in left {
                    if let vm = byName[name] {
                        if try isDone(vm) == false { open.append(name) }
                    } else if what != "gone" {
                        throw FleetMistake("\(name) is gone.")
                    }
                }
            } else {
                for name in left {
                    do {
                        if try isDone(try get(["v1", "vms", name], tenantQuery)) == false { open.append(name) }
                    } catch let refusal as Refused where refusal.problem.kind.status == 404 && what == "gone" {}
                }
            }
            left = open
            let done = names.count - left.count
            if names.count > 1 && (done != told || left.isEmpty) {
                progress(done, names.count, what, isLast: left.isEmpty)
            }
            told = done
            if left.isEmpty { return .success }
            if SystemClock.now >= deadline {
                Console.complain(
                    "muster: after \(Quantity.text(limit)) not \(what): \(left.prefix(10).joined(separator: ", "))"
                        + (left.count > 10 ? " and \(left.count - 10) more" : "")
                        + "; ask `muster vm explain \(left[0])`")
                return .unavailable
            }
            usleep(pause)
            pause = min(pause * 2, 1_000_000)
        }
    }

    private func progress(_ done: Int, _ count: Int, _ what: String, isLast: Bool) {
        guard isatty(2) == 1 else { return Console.complain("\(done) of \(count) \(what)") }
        let filled = done * 30 / count
        let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: 30 - filled)
        Console.write("\r[\(bar)] \(done) of \(count) \(what)" + (isLast ? "\n" : ""), to: 2)
    }
}
