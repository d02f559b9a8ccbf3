import AdminAPI
import ClusterBase
import CommandSyntax
import FleetCommands
import Glibc
import Reactor

// What is done to hosts, groups, tenants and the cell.

extension FleetClient {
    func duty() throws -> ExitCode { show(try post(["v1", "hosts", word("HOST"), line.command.words[1]])) }

    func drain() throws -> ExitCode {
        let name = word("HOST")
        if line.has("dry-run") {
            return showPlan(try post(["v1", "plan"], [], .object([JSONMember("drain", .string(name))])))
        }
        let asked = try post(["v1", "hosts", name, "drain"])
        guard line.has("wait") else { return show(asked) }
        let limit = line.duration("wait-timeout") ?? .seconds(300)
        let deadline = SystemClock.now + limit
        var told = Int64(-1)
        while SystemClock.now < deadline {
            let host = try get(["v1", "hosts", name])
            let left = host["vmCount"]?.integer ?? 0
            if left != told { Console.complain("\(left) VMs left on \(name)") }
            told = left
            if host["state"]?.text == "maintenance" { return .success }
            if host["state"]?.text != "draining" {
                throw FleetMistake("\(name) drains no more: it is \(host["state"]?.text ?? "gone").")
            }
            usleep(500_000)
        }
        Console.complain(
            "muster: after \(Quantity.text(limit)) \(told) VMs are still on \(name); ask `muster host drain \(name) --dry-run` why"
        )
        return .unavailable
    }

    /// A plan: its moves as a table, and what can't be done below.
    func showPlan(_ plan: JSONValue) -> ExitCode {
        guard printer.format == .table || printer.format == .wide, case .object(let members) = plan else {
            return show(plan)
        }
        let rest = members.filter { $0.name != "steps" }
        if let steps = plan["steps"]?.elements { print(printer.list(steps, FleetColumns.steps)) }
        if !rest.isEmpty { print(printer.record(.object(rest))) }
        return .success
    }

    func setHost() throws -> ExitCode {
        let name = word("HOST")
        let known = try get(["v1", "hosts", name])
        var policy = known["policy"]?.members ?? []
        func put(_ name: String, _ value: JSONValue) {
            policy.removeAll { $0.name == name }
            policy.append(JSONMember(name, value))
        }
        if !line.texts("label").isEmpty {
            var labels = known["policy"]?["labels"]?.members ?? []
            for member in try SpecOptions.named(line.texts("label"), "--label")?.members ?? [] {
                labels.removeAll { $0.name == member.name }
                if member.value != .string("") { labels.append(member) }
            }
            put("labels", .object(labels))
        }
        if !line.texts("taint").isEmpty {
            var taints = known["policy"]?["taints"]?.elements ?? []
            for text in line.texts("taint") {
                let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
                let key = text.hasSuffix("-") && parts.count == 1 ? String(text.dropLast()) : parts[0]
                taints.removeAll { $0["key"]?.text == key }
                if text.hasSuffix("-") && parts.count == 1 { continue }
                let isSoft = text.hasSuffix(":avoid")
                let value = parts.count == 2 ? String(parts[1].dropLast(isSoft ? 6 : 0)) : ""
                taints.append(
                    .object([
                        JSONMember("key", .string(key)), JSONMember("value", .string(value)),
                        JSONMember("effect", .string(isSoft ? "avoid" : "no-placement")),
                    ]))
            }
            put("taints", .array(taints))
        }
        var reserved = known["policy"]?["reserved"]?.members ?? []
        if let text = line.text("reserve-cpu") {
            reserved.removeAll { $0.name == "cpuMillis" }
            reserved.append(JSONMember("cpuMillis", .integer(text == "0" ? 0 : try SpecOptions.cores(text))))
        }
        if let size = line.size("reserve-memory") {
            reserved.removeAll { $0.name == "memoryMiB" }
            reserved.append(JSONMember("memoryMiB", .integer(Int64(size >> 20))))
        }
        if !reserved.isEmpty { put("reserved", .object(reserved)) }
        var overcommit = known["policy"]?["overcommit"]?.members ?? []
        for (option, name) in [("overcommit-cpu", "cpuMilli"), ("overcommit-memory", "memoryMilli")] {
            guard let text = line.text(option) else { continue }
            guard let factor = SpecOptions.thousandths(text), factor >= 1 else {
                throw FleetMistake("--\(option) wants a factor such as 1.5, not '\(text)'.")
            }
            overcommit.removeAll { $0.name == name }
            overcommit.append(JSONMember(name, .integer(factor)))
        }
        if !overcommit.isEmpty { put("overcommit", .object(overcommit)) }
        let generation = line.integer("if-generation").map(UInt64.init) ?? known["generation"]?.integer.map(UInt64.init)
        return show(
            try ask(
                RawRequest(
                    .put, ["v1", "hosts", name, "policy"], body: .object(policy), ifMatch: generation)))
    }

    func createGroup() throws -> ExitCode {
        var members = [
            JSONMember("name", .string(word("GROUP"))),
            JSONMember(
                "rule", .string(line.text("rule") == "anti-affinity" ? "antiAffinity" : line.text("rule") ?? "")),
            JSONMember("scope", .string(line.text("over") ?? "host")), JSONMember("hard", .bool(!line.has("soft"))),
        ]
        if let tenant = line.text("tenant") { members.append(JSONMember("tenant", .string(tenant))) }
        if let most = line.integer("max") { members.append(JSONMember("limit", .integer(Int64(most)))) }
        if let weight = line.integer("weight") { members.append(JSONMember("weight", .integer(Int64(weight)))) }
        return show(try post(["v1", "groups"], [], .object(members)))
    }

    func setTenant() throws -> ExitCode {
        let name = word("TENANT")
        var known: JSONValue?
        do {
            known = try get(["v1", "tenants", name])
        } catch let refusal as Refused where refusal.problem.kind.status == 404 {}
        var quota = known?["quota"]?.members ?? []
        func put(_ member: String, _ value: JSONValue?) {
            quota.removeAll { $0.name == member }
            if let value { quota.append(JSONMember(member, value)) }
        }
        if let text = line.text("vms") {
            guard text == "none" || UInt32(text) != nil else {
                throw FleetMistake("--vms wants a number or none, not '\(text)'.")
            }
            put("vmCount", Int64(text).map { .integer($0) })
        }
        if let text = line.text("cpu") {
            put("cpuMillis", text == "none" ? nil : .integer(try SpecOptions.cores(text)))
        }
        for (option, member) in [("memory", "memoryMiB"), ("disk", "diskMiB")] {
            guard let text = line.text(option) else { continue }
            guard text == "none" || Quantity.size(text) != nil else {
                throw FleetMistake("--\(option) wants a size such as 64GiB, or none, not '\(text)'.")
            }
            put(member, Quantity.size(text).map { .integer(Int64($0 >> 20)) })
        }
        var members = [JSONMember("quota", .object(quota))]
        if let tier = line.text("tier") ?? known?["tier"]?.text, !tier.isEmpty {
            members.append(JSONMember("tier", .string(tier)))
        }
        return show(try ask(RawRequest(.put, ["v1", "tenants", name], body: .object(members))))
    }

    func rebalance(isDryRun: Bool) throws -> ExitCode {
        showPlan(
            isDryRun
                ? try post(["v1", "plan"], [], .object([JSONMember("rebalance", .object([]))]))
                : try post(["v1", "rebalance"], [], .object([])))
    }

    func events() throws -> ExitCode {
        var query: [(name: String, value: String)] = [("limit", "\(line.integer("limit") ?? 100)")]
        if let after = line.text("after") { query.append(("after", after)) }
        if line.has("follow") {
            return try connection.stream(
                RawRequest(.get, ["v1", "events"], query: query + [("watch", "1")], isStream: true)
            ) { text in
                if printer.format == .json { return print(text + "\n") }
                // A line that is no event says how far the stream is.
                guard let event = try? JSONParser.parse(Array(text.utf8)[...], depthMax: 8, valuesMax: 1_024),
                    event["kind"] != nil
                else { return }
                print(
                    FleetColumns.events.filter { !$0.isWide }.map { $0.text(in: event, now: printer.now) }.joined(
                        separator: "  ") + "\n")
            }
        }
        return show(try get(["v1", "events"], query)["items"]?.elements ?? [], FleetColumns.events)
    }

    func top() throws -> ExitCode {
        while true {
            let hosts = try pages(["v1", "hosts"], [], limit: .max)
            var text = ""
            for host in hosts {
                let name = host["name"]?.text ?? ""
                func bar(_ resource: String) -> String {
                    let used = host["used"]?[resource]?.integer ?? 0
                    let offered = host["offered"]?[resource]?.integer ?? 0
                    let share = offered > 0 ? Int(used * 100 / offered) : 0
                    let filled = max(0, min(20, share / 5))
                    let digits = String(share)
                    return "[" + String(repeating: "|", count: filled) + String(repeating: " ", count: 20 - filled)
                        + "]"
                        + String(repeating: " ", count: max(0, 4 - digits.count)) + digits + "%"
                }
                text += name + String(repeating: " ", count: max(1, 16 - name.count))
                text += "cpu " + bar("cpuMillis") + "  memory " + bar("memoryMiB")
                text += "  \(host["vmCount"]?.integer ?? 0) VMs  \(host["state"]?.text ?? "")\n"
            }
            if line.has("watch"), isatty(1) == 1 { print("\u{1B}[H\u{1B}[2J") }
            print(text)
            guard line.has("watch") else { return .success }
            sleep(2)
        }
    }
}
