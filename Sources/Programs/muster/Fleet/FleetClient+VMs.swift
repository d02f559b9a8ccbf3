import AdminAPI
import ClusterBase
import CommandSyntax
import FleetCommands
import Glibc
import Reactor
import Terminal

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

    /// `plan create` has no such option.
    private var isStopped: Bool { line.options.contains { $0.name == "stopped" } && line.has("stopped") }

    /// A VM as it is created: its name, its tenant and its specification, which options change.
    private func creations() throws -> [JSONValue] {
        let given = try specMembers()
        let file = try file
        let patterns = line.arguments
        if file == nil && patterns.isEmpty {
            throw FleetMistake("NAME is missing; name the VM, or give it with --file.")
        }
        let described = file?.elements ?? (file?["items"]?.elements) ?? [file ?? .object([])]
        if !patterns.isEmpty && described.count > 1 {
            throw FleetMistake("--file holds \(described.count) VMs with names of their own; leave NAME out.")
        }
        return try described.flatMap { base -> [JSONValue] in
            let spec = SpecOptions.merged(base["spec"] ?? .object([]), given)
            let names = try patterns.isEmpty ? [base["name"]?.text ?? ""] : SpecOptions.names(patterns)
            return names.map { name in
                var members = [JSONMember("name", .string(name)), JSONMember("spec", spec)]
                if let tenant = line.text("tenant") ?? base["tenant"]?.text {
                    members.append(JSONMember("tenant", .string(tenant)))
                }
                if isStopped {
                    members.append(JSONMember("power", .string("stopped")))
                } else if let power = base["power"] {
                    members.append(JSONMember("power", power))
                }
                return .object(members)
            }
        }
    }

    /// What options say of a specification; secret values may be in files, so that no list of processes shows them.
    private func specMembers() throws -> [JSONMember] {
        let texts = try line.texts("secret").map { text -> String in
            guard let at = text.firstRange(of: "=@") else { return text }
            let value = String(decoding: try Muster.read(String(text[at.upperBound...])), as: UTF8.self)
            return "\(text[..<at.lowerBound])=\(value)"
        }
        let secrets = try SpecOptions.changes(texts, "--secret")
        return try SpecOptions.members(line) + (secrets.map { [JSONMember("secrets", $0)] } ?? [])
    }

    /// The VMs that are described, each with what it can't be without.
    private func wholeCreations() throws -> [JSONValue] {
        let items = try creations()
        for item in items where (item["spec"]?["cpuMillis"]) == nil || (item["spec"]?["memoryMiB"]) == nil {
            throw FleetMistake("'\(item["name"]?.text ?? "")' needs --cpu and --memory.")
        }
        return items
    }

    func planCreation() throws -> ExitCode {
        let items = try wholeCreations()
        if items.count > PlanWish.itemsMax {
            throw FleetMistake("A plan is about at most \(PlanWish.itemsMax) VMs; ask about fewer.")
        }
        // One alone is created as any other, and an older program knows no plans of all or none.
        let isAtomic = line.has("all-or-nothing") && items.count > 1
        return showPlan(try plan("create", .array(items), isAtomic ? [JSONMember("atomic", .bool(true))] : []))
    }

    func createVMs() throws -> ExitCode {
        if line.has("dry-run") { return try planCreation() }
        let items = try wholeCreations()
        if items.count == 1 {
            let made = try post(["v1", "vms"], planQuery, items[0])
            guard line.has("wait") else { return show(made) }
            // Its tenant may be the file's, and its name another tenant's, too.
            let id = "\(made["id"]?.integer ?? 0)"
            let code = try wait([id], for: FleetClient.goal(of: items[0]), titles: [id: made["name"]?.text ?? id])
            return code == .success ? show(try vm(id)) : code
        }
        if !planQuery.isEmpty && items.count > PlanWish.itemsMax {
            throw FleetMistake(
                "A plan is about at most \(PlanWish.itemsMax) VMs; create fewer at once, or leave --plan out.")
        }
        var (refused, unknown) = (0, 0)
        var worst = ExitCode.success
        // hash order: read by sorted keys, or looked up
        var made: [String: [String]] = [:]
        // hash order: looked up only
        var titles: [String: String] = [:]
        for start in stride(from: 0, to: items.count, by: 10_000) {
            let part = Array(items[start..<min(start + 10_000, items.count)])
            let answer = try post(
                ["v1", "vms", "batch"], planQuery,
                .object(
                    [JSONMember("items", .array(part)), JSONMember("atomic", .bool(line.has("all-or-nothing")))]
                        + (line.text("over-regions").map { [JSONMember("overRegions", .string($0))] } ?? [])))
            for (i, result) in (answer["items"]?.elements ?? []).enumerated() {
                let name = part[i]["name"]?.text ?? ""
                if let detail = result["detail"]?.text {
                    let problem = Problem(result, status: Int(result["status"]?.integer ?? 500))
                    if problem.kind == .outcomeUnknown { unknown += 1 } else { refused += 1 }
                    worst = worst.worse(ExitCode(problem.kind))
                    Console.complain("muster: \(name): \(detail)")
                } else {
                    let id = "\(result["id"]?.integer ?? 0)"
                    titles[id] = name
                    made[FleetClient.goal(of: part[i]), default: []].append(id)
                }
            }
        }
        let rest = unknown > 0 ? ", \(unknown) may be there or not: see muster vm list" : ""
        print("\(titles.count) created" + (refused > 0 ? ", \(refused) refused" : "") + rest + "\n")
        if line.has("wait") {
            for goal in made.keys.sorted() {
                let code = try wait(made[goal] ?? [], for: goal, titles: titles)
                if code != .success { return code }
            }
        }
        return worst
    }

    /// What a VM is when it is as it was asked for.
    private static func goal(of creation: JSONValue) -> String {
        switch creation["power"]?.text {
        case "stopped": "stopped"
        case "paused": "paused"
        default: "running"
        }
    }

    func updateVM() throws -> ExitCode {
        let name = word("VM")
        let base = try file
        let given = try specMembers()
        guard base != nil || !given.isEmpty else {
            throw FleetMistake("Nothing is said that would change; see `muster vm update --help`.")
        }
        let known = try vm(name)
        let spec = SpecOptions.merged(base?["spec"] ?? base ?? known["spec"] ?? .object([]), given)
        let generation = ifGeneration ?? known["generation"]?.integer.map(UInt64.init)
        let answer = try ask(
            RawRequest(
                .put, ["v1", "vms", name], query: tenantQuery + changeQuery,
                body: .object([JSONMember("spec", spec)]), ifMatch: generation))
        let code = showChange(answer)
        let runs = ["starting", "running", "paused", "unknown"].contains(known["phase"]?.text ?? "")
        if !line.has("dry-run"), runs, PlanChange.needsRestart(from: known["spec"] ?? .object([]), to: spec) {
            Console.complain("muster: it runs on as it is until its next start: `muster vm restart \(name)`")
        }
        return code
    }

    /// What --if-generation says.
    var ifGeneration: UInt64? { line.integer("if-generation").map(UInt64.init) }

    /// Asks for a plan in the place of the change, or holds the change to the plan that was shown.
    var changeQuery: [(name: String, value: String)] { line.has("dry-run") ? [("dry-run", "1")] : planQuery }

    /// What was done, or with `--dry-run` the plan.
    func showChange(_ answer: JSONValue) -> ExitCode { line.has("dry-run") ? showPlan(answer) : show(answer) }

    /// One command for each of the VMs named; one that is refused does not keep the others.
    private func each(_ body: (String) throws -> Void) throws -> ExitCode {
        var worst = ExitCode.success
        for name in line.arguments {
            do {
                try body(name)
            } catch let refusal as Refused {
                Console.complain("muster: \(name): \(refusal.problem.detail)")
                worst = worst.worse(ExitCode(refusal.problem.kind))
            }
        }
        return worst
    }

    func power() throws -> ExitCode {
        let verb = line.command.words[1]
        // hash order: looked up only
        var epochs: [String: Int64] = [:]
        if verb == "restart" && line.has("wait") {
            _ = try each { name in epochs[name] = try vm(name)["epoch"]?.integer ?? 0 }
        }
        let code = try each { name in
            _ = try ask(RawRequest(.post, ["v1", "vms", name, verb], query: tenantQuery, ifMatch: ifGeneration))
        }
        if verb == "restart", line.has("wait"), code == .success {
            return try follow(line.arguments, "restarted") { name, vm in
                try refuseEnded(vm)
                // One that is paused starts paused.
                return vm["phase"]?.text == (vm["power"]?.text == "paused" ? "paused" : "running")
                    && vm["epoch"]?.integer ?? 0 > epochs[name] ?? 0
            }
        }
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
        if line.text("plan") != nil && line.arguments.count > 1 {
            throw FleetMistake("A plan is one VM's; delete that one alone, or leave --plan out.")
        }
        var plans: [JSONValue] = []
        let code = try each { name in
            plans.append(
                try ask(
                    RawRequest(
                        .delete, ["v1", "vms", name], query: tenantQuery + changeQuery,
                        ifMatch: ifGeneration)))
        }
        if line.has("dry-run") {
            for plan in plans { _ = showPlan(plan) }
            return code
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
        if line.has("cancel") {
            if line.has("dry-run") {
                throw FleetMistake("--dry-run is for a move that is to begin; leave --cancel out.")
            }
            return show(
                try ask(
                    RawRequest(
                        .post, ["v1", "vms", name, "cancel-migration"], query: tenantQuery, ifMatch: ifGeneration)))
        }
        if let cell = line.text("cell") { return try move(name, to: cell) }
        if line.has("cold") { throw FleetMistake("--cold is for a move to another cell; name it with --cell.") }
        let began = try vm(name)["host"]?.text
        var members: [JSONMember] = []
        if let host = line.text("to") { members.append(JSONMember("host", .string(host))) }
        if let intent = line.text("intent") { members.append(JSONMember("intent", .string(intent))) }
        let body = JSONValue.object(members)
        let asked = try migrate(name, body)
        guard line.has("wait"), !line.has("dry-run") else { return showChange(asked) }
        let target = line.text("to")
        return try follow([name], "moved") { _, vm in
            if vm["migration"] != nil && vm["migration"] != .null { return false }
            let host = vm["host"]?.text
            if host != nil, host == target || (target == nil && host != began) { return true }
            throw Undone("\(name) did not move; see `muster vm history \(name)`")
        }
    }

    private func migrate(_ name: String, _ body: JSONValue) throws -> JSONValue {
        try ask(
            RawRequest(
                .post, ["v1", "vms", name, "migrate"], query: tenantQuery + changeQuery, body: body,
                ifMatch: ifGeneration))
    }

    /// To another cell.
    private func move(_ name: String, to cell: String) throws -> ExitCode {
        if line.has("to") { throw FleetMistake("--cell chooses the host itself; leave --to out.") }
        if line.has("intent") {
            throw FleetMistake("To another cell it goes as it or its cell is set; leave --intent out.")
        }
        let members = [JSONMember("cell", .string(cell))] + (line.has("cold") ? [JSONMember("cold", .bool(true))] : [])
        let body = JSONValue.object(members)
        let asked = try migrate(name, body)
        guard line.has("wait"), !line.has("dry-run") else { return showChange(asked) }
        return try follow([name], "moved") { _, vm in
            if vm["toCell"] != nil || vm["fromCell"] != nil { return false }
            do {
                let there = try get(["v1", "vms", name], tenantQuery + [("cell", cell)])
                return there["fromCell"] == nil
            } catch let refusal as Refused where refusal.problem.kind.status == 404 {
                throw Undone("\(name) stays where it is; see `muster vm history \(name)`")
            }
        }
    }

    // MARK: What a VM says and uses

    /// The cell's word of a VM, and for people its host's of what it uses, where that answers.
    func showVM() throws -> ExitCode {
        var about = try vm(word("VM"))
        let isForPeople = printer.format == .table || printer.format == .wide
        if isForPeople, about["host"]?.text?.isEmpty == false, ["running", "paused"].contains(about["phase"]?.text) {
            // One that stopped meanwhile, or whose host does not answer, is shown without.
            if let usage = try? get(["v1", "vms", "\(about["id"]?.integer ?? 0)", "usage"]) {
                let known = ["id", "name", "tenant", "host"]
                let members = (usage.members ?? []).filter { !known.contains($0.name) }
                about = .object((about.members ?? []) + [JSONMember("usage", .object(members))])
            }
        }
        return show(about)
    }

    func logs() throws -> ExitCode {
        let answer = try ask(
            RawRequest(
                .get, ["v1", "vms", word("VM"), "logs"],
                query: tenantQuery + [("bytes", "\(line.integer("bytes") ?? 65_536)")]))
        guard let text = answer["base64"]?.text, let bytes = Base64.decode(text.utf8) else { return .failure }
        Console.write(bytes: bytes, to: 1)
        return .success
    }

    // MARK: Waiting

    private func refuseEnded(_ vm: JSONValue) throws {
        let known = vm["phase"]?.text
        if known == "looping" || (known == "crashed" && vm["spec"]?["restart"]?.text == "never") {
            throw Undone("\(vm["name"]?.text ?? "a VM") is \(known ?? ""): \(vm["message"]?.text ?? "see its history")")
        }
    }

    /// `titles`: what those are called that are waited for by their numbers.
    // hash order: looked up only
    func wait(_ names: [String], for phase: String, titles: [String: String] = [:]) throws -> ExitCode {
        try follow(names, phase, titles) { _, vm in
            if phase == "gone" { return false }
            if phase == "placed" { return vm["host"]?.text != "" }
            try refuseEnded(vm)
            return vm["phase"]?.text == phase
        }
    }

    /// What a VM that is waited for does now.
    private static func note(_ vm: JSONValue) -> String {
        var text = "\(vm["name"]?.text ?? "") is \(vm["phase"]?.text ?? "")"
        if let move = vm["migration"], move != .null {
            text += ", moving to \(move["to"]?.text ?? ""), \((move["progressMillis"]?.integer ?? 0) / 10) %"
            if let left = move["secondsLeft"]?.integer, left > 0 { text += ", about \(left) s left" }
        }
        let message = vm["message"]?.text ?? ""
        return message.isEmpty ? text : text + ": " + message
    }

    /// Those that are not as wanted, and what the first of them does.
    private func open(
        _ names: [String], _ what: String, _ isDone: (String, JSONValue) throws -> Bool
    ) throws -> (names: [String], note: String) {
        var open: [String] = []
        var note = ""
        func look(_ name: String, _ vm: JSONValue) throws {
            if try isDone(name, vm) { return }
            if open.isEmpty { note = FleetClient.note(vm) }
            open.append(name)
        }
        guard names.count > 50 else {
            for name in names {
                do {
                    try look(name, try vm(name))
                } catch let refusal as Refused where refusal.problem.kind.status == 404 {
                    if what != "gone" { throw refusal }
                }
            }
            return (open, note)
        }
        // hash order: looked up only
        var byName: [String: JSONValue] = [:]
        for vm in try pages(["v1", "vms"], tenantQuery, limit: .max) {
            byName[vm["name"]?.text ?? ""] = vm
            byName["\(vm["id"]?.integer ?? 0)"] = vm
        }
        for name in names {
            if let vm = byName[name] {
                try look(name, vm)
            } else if what != "gone" {
                throw Refused(problem: Problem(.notFound, "there is no VM \(name); see `muster vm list`"))
            }
        }
        return (open, note)
    }

    /// Looks again and again, with a bar on a terminal and plain lines elsewhere, until all VMs are as wanted.
    private func follow(
        _ names: [String], _ what: String,
        // hash order: looked up only
        _ titles: [String: String] = [:], _ isDone: (String, JSONValue) throws -> Bool
    ) throws -> ExitCode {
        let limit = line.duration("wait-timeout") ?? .seconds(300)
        let deadline = SystemClock.now + limit
        var left = names
        var progress = Progress(names.count, what, isTerminal: Console.isTerminal)
        var pause: UInt32 = 50_000
        while true {
            let found: (names: [String], note: String)
            do {
                found = try open(left, what, isDone)
            } catch {
                Console.write(progress.leave, to: 2)
                throw error
            }
            left = found.names
            if let text = progress.text(done: names.count - left.count, note: found.note) { Console.write(text, to: 2) }
            if left.isEmpty { return .success }
            if SystemClock.now >= deadline {
                Console.complain(
                    progress.leave
                        + "muster: after \(Quantity.text(limit)) not \(what): \(left.prefix(10).map { titles[$0] ?? $0 }.joined(separator: ", "))"
                        + (left.count > 10 ? " and \(left.count - 10) more" : "")
                        + "; ask `muster vm explain \(titles[left[0]] ?? left[0])`")
                return .unavailable
            }
            usleep(pause)
            pause = min(pause * 2, 1_000_000)
        }
    }
}
