import AdminAPI
import ClusterBase
import CommandSyntax
import FleetCommands
import Glibc
import Reactor
import Terminal

// What is done to hosts, groups, tenants and the cell.

extension FleetClient {
    func duty() throws -> ExitCode {
        show(try ask(RawRequest(.post, ["v1", "hosts", word("HOST"), line.command.words[1]], ifMatch: ifGeneration)))
    }

    /// Asks what would happen; nothing does.
    func plan(_ what: String, _ about: JSONValue, _ more: [JSONMember] = []) throws -> JSONValue {
        try post(["v1", "plan"], [], .object([JSONMember(what, about)] + more))
    }

    /// The digest of the plan that was shown.
    var planQuery: [(name: String, value: String)] { line.text("plan").map { [("plan", $0)] } ?? [] }

    func removeHost() throws -> ExitCode {
        let name = word("HOST")
        if line.has("dry-run") { return showPlan(try plan("remove", .string(name))) }
        return show(
            try ask(
                RawRequest(
                    .delete, ["v1", "hosts", name], query: (line.has("force") ? [("force", "1")] : []) + planQuery,
                    ifMatch: ifGeneration)))
    }

    func letAway() throws -> ExitCode {
        let seconds = (line.duration("for") ?? .seconds(600)).milliseconds / 1_000
        return show(
            try ask(
                RawRequest(
                    .post, ["v1", "hosts", word("HOST"), "away"],
                    body: .object([JSONMember("seconds", .integer(seconds))]), ifMatch: ifGeneration)))
    }

    /// Says what it would rest on, and does it when that is confirmed.
    func declareDead() throws -> ExitCode {
        let name = word("HOST")
        if line.has("dry-run") || !line.has("yes") {
            let shown = showPlan(try plan("declareDead", .string(name)))
            if line.has("dry-run") || shown != .success { return shown }
            throw FleetMistake(
                "Nothing was done. If \(name) is off, say so: `muster host declare-dead \(name) --yes`.")
        }
        return show(
            try ask(
                RawRequest(.post, ["v1", "hosts", name, "declare-dead"], query: planQuery, ifMatch: ifGeneration)))
    }

    func drain() throws -> ExitCode {
        let name = word("HOST")
        if let asked = try pauseOrGoOn(name, "drain", goOn: "resume") {
            return line.has("wait") ? try watchDrain(of: name) : show(asked)
        }
        if line.has("dry-run") { return showPlan(try plan("drain", .string(name))) }
        let asked = try ask(
            RawRequest(
                .post, ["v1", "hosts", name, "drain"], query: planQuery + returnQuery, ifMatch: ifGeneration))
        return line.has("wait") ? try watchDrain(of: name) : show(asked)
    }

    /// What was answered to --pause, or to the option that lets it go on; nil where neither is given.
    func pauseOrGoOn(_ host: String, _ what: String, goOn: String) throws -> JSONValue? {
        guard let given = ["pause", goOn].first(where: line.has) else { return nil }
        let isPause = given == "pause"
        let others = ["dry-run", "plan", "return"] + (isPause ? [goOn, "wait"] : [])
        if let other = others.first(where: line.has) {
            throw FleetMistake("--\(given) stands beside --\(other), and both can't be; give one of them.")
        }
        let verb = (isPause ? "pause-" : "resume-") + what
        return try ask(RawRequest(.post, ["v1", "hosts", host, verb], ifMatch: ifGeneration))
    }

    /// Looks until the host is empty. What can't leave it is named as soon as nothing else moves any more.
    func watchDrain(of name: String) throws -> ExitCode {
        let limit = line.duration("wait-timeout") ?? .seconds(300)
        let deadline = SystemClock.now + limit
        var most = Int64(0)
        var looks = 0
        var stuck: (left: Int64, looks: Int) = (-1, 0)
        var progress: Progress?
        while true {
            let host = try get(["v1", "hosts", name])
            let left = host["vmCount"]?.integer ?? 0
            if left > most || progress == nil {
                most = max(most, left)
                progress = Progress(Int(most), "moved off \(name)", isTerminal: Console.isTerminal)
            }
            let moving = try get(["v1", "migrations"], [("filter", "from=\(name)")])["items"]?.elements ?? []
            let note = moving.first.map { move in
                "\(move["vm"]?.text ?? "") goes to \(move["to"]?.text ?? ""), "
                    + "\((move["progressMillis"]?.integer ?? 0) / 10) %"
            }
            if let text = progress?.text(done: Int(most - left), note: note ?? "") { Console.write(text, to: 2) }
            switch host["state"]?.text {
            case "maintenance": return .success
            case "draining" where host["drainPaused"]?.bool == true:
                throw Undone("the drain of \(name) is paused; `muster host drain \(name) --resume` lets it go on")
            case "draining": break
            case let other: throw Undone("\(name) drains no more: it is \(other ?? "gone")")
            }
            looks += 1
            // The controller looks for new places once a second.
            if moving.isEmpty && left > 0 && looks % 4 == 0 {
                let plan = try plan("drain", .string(name))
                let staying = plan["left"]?.elements ?? []
                let isStuck = !staying.isEmpty && (plan["steps"]?.elements ?? []).isEmpty
                stuck = isStuck && stuck.left == left ? (left, stuck.looks + 1) : (left, isStuck ? 1 : 0)
                if stuck.looks == 2 { return giveUp(name, staying, progress) }
            }
            if SystemClock.now >= deadline {
                let plan = try plan("drain", .string(name))
                Console.complain((progress?.leave ?? "") + "muster: \(Quantity.text(limit)) are over.")
                _ = giveUp(name, (plan["left"]?.elements ?? []) + (plan["steps"]?.elements ?? []), nil)
                // As for all that is waited for: what did not come in time may come.
                return .unavailable
            }
            usleep(500_000)
        }
    }

    private func giveUp(_ name: String, _ staying: [JSONValue], _ progress: Progress?) -> ExitCode {
        Console.write(progress?.leave ?? "", to: 2)
        for vm in staying {
            let to = vm["to"]?.text ?? ""
            Console.complain(
                "muster: \(vm["vm"]?.text ?? "") is still on \(name): "
                    + (vm["text"]?.text ?? (to.isEmpty ? "it has not left yet" : "it is to go to \(to)")))
        }
        Console.complain(
            "muster: \(name) stays draining: what can leave it goes by itself as soon as there is room; "
                + "`muster host resume \(name)` takes it back into service.")
        return .failure
    }

    /// A plan: its moves as a table, and below what can't be done.
    func showPlan(_ plan: JSONValue) -> ExitCode {
        guard printer.format == .table || printer.format == .wide, case .object(let members) = plan else {
            return show(plan)
        }
        guard let steps = plan["steps"]?.elements, let left = plan["left"]?.elements else {
            print(printer.record(.object(members)))
            return .success
        }
        let changes = plan["changes"]?.elements ?? []
        var notes = (plan["notes"]?.elements ?? []).map { Column.plain($0) + "\n" }
        if let forecast = plan["forecast"] { notes += FleetClient.lines(ofForecast: forecast) }
        if !steps.isEmpty {
            print(printer.list(steps, FleetColumns.steps))
        } else if changes.isEmpty && notes.isEmpty {
            print("Nothing would move.\n")
        }
        if !changes.isEmpty { print((steps.isEmpty ? "" : "\n") + printer.list(changes, FleetColumns.changes)) }
        if !notes.isEmpty { print((steps.isEmpty && changes.isEmpty ? "" : "\n") + notes.joined()) }
        if !left.isEmpty { print("\nWithout a way:\n" + printer.list(left, FleetColumns.left)) }
        let index = plan["index"]?.integer ?? 0
        var end =
            "\nPlan \(plan["digest"]?.text ?? "") on the state "
            + (index > 0 ? "at index \(index)" : "of several cells")
        if let before = plan["scoreBefore"]?.integer, let after = plan["scoreAfter"]?.integer, before != after {
            end += ", score \(before) to \(after)"
        }
        print(end + (plan["isComplete"]?.bool == false ? "; a bound ended the search.\n" : ".\n"))
        return .success
    }

    /// One sentence, and one for each reason.
    private static func lines(ofForecast forecast: JSONValue) -> [String] {
        // One that can't be read is of a newer node, and shown with -o json.
        guard let known = try? MoveForecastInfo(body: forecast.bytes[...]) else { return [] }
        return [known.text + "\n"] + known.reasons.map { "  \($0)\n" }
    }

    func setHost() throws -> ExitCode {
        let name = word("HOST")
        let settable = ["label", "taint", "reserve-cpu", "reserve-memory", "overcommit-cpu", "overcommit-memory"]
        guard settable.contains(where: line.has) || line.has("enforce") else {
            throw FleetMistake("Nothing is said that would change; see `muster host set --help`.")
        }
        if line.has("wait") && !line.has("enforce") {
            throw FleetMistake(
                "--wait is for --enforce; without it nothing moves, and it is done when the command ends.")
        }
        let known = try get(["v1", "hosts", name])
        var policy = known["policy"]?.members ?? []
        func put(_ name: String, _ value: JSONValue) {
            policy.removeAll { $0.name == name }
            policy.append(JSONMember(name, value))
        }
        if !line.texts("label").isEmpty {
            var labels = known["policy"]?["labels"]?.members ?? []
            let changes = try SpecOptions.changes(line.texts("label"), "--label")
            if changes?.members == nil { labels = [] }
            for member in changes?.members ?? [] {
                labels.removeAll { $0.name == member.name }
                if member.value != .string("") && member.value != .null { labels.append(member) }
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
        if line.has("dry-run") {
            return showPlan(try plan("capacity", capacityWish(name, policy)))
        }
        let generation = ifGeneration ?? known["generation"]?.integer.map(UInt64.init)
        let asked = try ask(
            RawRequest(
                .put, ["v1", "hosts", name, "policy"],
                query: planQuery + (line.has("enforce") ? [("enforce", "1")] : []), body: .object(policy),
                ifMatch: generation))
        return line.has("wait") ? try watchEnforcement(on: name, policy) : show(asked)
    }

    private func capacityWish(_ host: String, _ policy: [JSONMember]) -> JSONValue {
        .object(
            [JSONMember("host", .string(host)), JSONMember("policy", .object(policy))]
                + (line.has("enforce") ? [JSONMember("enforce", .bool(true))] : []))
    }

    /// Looks until what may not stay on a host has moved away, and names what stays.
    private func watchEnforcement(on name: String, _ policy: [JSONMember]) throws -> ExitCode {
        let limit = line.duration("wait-timeout") ?? .seconds(300)
        let deadline = SystemClock.now + limit
        var progress: Progress?
        var most = 0
        while true {
            let isOver = try get(["v1", "hosts", name])["enforced"]?.bool != true
            let plan = try plan("capacity", capacityWish(name, policy))
            let moves = (plan["steps"]?.elements ?? []).filter { $0["from"]?.text == name }
            let staying = plan["left"]?.elements ?? []
            let moving = try get(["v1", "migrations"], [("filter", "from=\(name) and cause=capacity")])
            let note = moving["items"]?.elements?.first.map { move in
                "\(move["vm"]?.text ?? "") goes to \(move["to"]?.text ?? ""), "
                    + "\((move["progressMillis"]?.integer ?? 0) / 10) %"
            }
            if progress == nil || moves.count > most {
                most = max(most, moves.count)
                progress = Progress(most, "moved off \(name)", isTerminal: Console.isTerminal)
            }
            if most > 0, let text = progress?.text(done: most - (isOver ? 0 : moves.count), note: note ?? "") {
                Console.write(text, to: 2)
            }
            let isLate = SystemClock.now >= deadline
            if isOver || isLate {
                Console.write(progress?.leave ?? "", to: 2)
                if isLate && !isOver { Console.complain("muster: \(Quantity.text(limit)) are over.") }
                for vm in staying {
                    Console.complain("muster: \(vm["vm"]?.text ?? "") is still on \(name): \(vm["text"]?.text ?? "")")
                }
                return isOver ? (staying.isEmpty ? .success : .failure) : .unavailable
            }
            usleep(500_000)
        }
    }

    func createCell() throws -> ExitCode {
        var members = [JSONMember("name", .string(word("CELL")))]
        for name in ["region", "survives"] {
            if let text = line.text(name) { members.append(JSONMember(name, .string(text))) }
        }
        if let replicas = line.integer("replicas") { members.append(JSONMember("replicas", .integer(Int64(replicas)))) }
        return show(try post(["v1", "cells"], [], .object(members)))
    }

    /// What the root says of a cell, and the cell's own settings.
    func showCell() throws -> ExitCode {
        let name = line.argument("CELL")
        let about = try name.map { try get(["v1", "cells", $0]).members ?? [] } ?? []
        if printer.format == .name {
            if name != nil { return show(.object(about)) }
            return show(try get(["v1", "cells"])["items"]?.elements?.first ?? .object([]))
        }
        let ofCell = name.map { [(name: "cell", value: $0)] } ?? []
        let settings = try get(["v1", "cell", "settings"], ofCell)
        var members = about + (settings.members ?? [])
        // Without a leader there is no word of its balance, and the rest is shown.
        if settings["rebalance"]?.text != "off", let plan = try? get(["v1", "rebalance"], ofCell),
            let notes = plan["notes"]
        {
            members.append(JSONMember("balance", notes))
        }
        // The first is meant where none is named, and that is the only one.
        let cell = try name ?? get(["v1", "cells"])["items"]?.elements?.first?["name"]?.text
        // Without a leader nobody knows it, and the rest is shown.
        guard let cell, let recovery = try? get(["v1", "cells", cell, "recovery"]) else {
            return show(.object(members))
        }
        guard printer.format == .table || printer.format == .wide else {
            return show(.object(members + [JSONMember("recovery", recovery)]))
        }
        let shown = show(.object(members))
        func rows(_ member: String) -> [JSONValue] { recovery[member]?.elements ?? [] }
        if !rows("losses").isEmpty {
            print("\nWere it lost now:\n" + printer.list(rows("losses"), FleetColumns.cellLosses))
        }
        if !rows("recoveries").isEmpty {
            print("\nHow long VMs were down whose hosts were lost:\n")
            print(printer.list(rows("recoveries"), FleetColumns.tierRecoveries))
        }
        if !rows("reserve").isEmpty {
            print("\nKept free for losses:\n" + printer.list(rows("reserve"), FleetColumns.cellReserve))
        }
        for risk in rows("risks") {
            print("\nNot kept: \(Column.plain(risk["kind"] ?? .null)): \(Column.plain(risk["text"] ?? .null))\n")
        }
        return shown
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
        if let text = line.text("rto") { put("rto", text == "auto" ? nil : .string(text)) }
        if let most = line.integer("priority-max") { put("priorityMax", .integer(Int64(most))) }
        var members = [JSONMember("quota", .object(quota))]
        let wanted = line.path == "tenant set" ? line.text("tier") : nil
        if line.path == "quota set" && known == nil {
            throw FleetMistake(
                "There is no tenant '\(name)'; make it with `muster tenant set \(name)`.", code: .notFound)
        }
        if let tier = wanted ?? known?["tier"]?.text, !tier.isEmpty {
            members.append(JSONMember("tier", .string(tier)))
        }
        if line.has("dry-run") {
            let quota = members.first { $0.name == "quota" }?.value ?? .object([])
            // One that stays is not sent: an older program knows none.
            let wish =
                [JSONMember("tenant", .string(name)), JSONMember("quota", quota)]
                + (wanted.map { [JSONMember("tier", .string($0))] } ?? [])
                + (line.has("enforce") ? [JSONMember("enforce", .bool(true))] : [])
            return showPlan(try plan("quota", .object(wish)))
        }
        if line.has("enforce") { members.append(JSONMember("enforce", .bool(true))) }
        return show(try ask(RawRequest(.put, ["v1", "tenants", name], query: planQuery, body: .object(members))))
    }

    /// Shows the plan, then has exactly that one carried out; another one that came of it meanwhile is shown again.
    func rebalance(isDryRun: Bool) throws -> ExitCode {
        for attempt in 1...3 {
            let plan = try plan("rebalance", .object([]))
            if isDryRun || (plan["steps"]?.elements ?? []).isEmpty { return showPlan(plan) }
            _ = showPlan(plan)
            do {
                let begun = try post(
                    ["v1", "rebalance"], [], .object([JSONMember("digest", plan["digest"] ?? .string(""))]))
                Console.complain("\(begun["steps"]?.elements?.count ?? 0) moves begin; see `muster migration list`.")
                return .success
            } catch let refusal as Refused where refusal.problem.kind == .conflict && attempt < 3 {
                Console.complain("The state changed meanwhile; the plan is made again.")
            }
        }
        return .refused
    }

    // MARK: What happened

    /// The newest events in the order in which they happened, and, with --follow, those that come.
    func happened(_ route: String, _ columns: [Column]) throws -> ExitCode {
        var query = tenantQuery
        for name in ["filter", "vm", "host"] { if let text = line.text(name) { query.append((name, text)) } }
        let follows = line.has("follow")
        let isRoot = route == "audit" && line.has("root")
        if isRoot {
            if follows { throw FleetMistake("What was asked of the root can't be followed; leave --follow out.") }
            query.append(("root", "1"))
        }
        let limit = line.integer("limit") ?? (follows ? 10 : 100)
        let rows: [JSONValue]
        if let after = line.text("after") {
            rows = follows ? [] : try pages(["v1", route], query, limit: limit, after: after)
            if follows { return try follow(route, columns, query, from: after) }
        } else {
            var newest = try pages(["v1", route], query + [("sort", "-revision")], limit: limit)
            let isOne = isRoot || follows || ["cell", "vm", "host"].contains { line.text($0) != nil }
            if route == "audit", !isOne { newest = try newestOfBoth(newest, query, limit: limit) }
            rows = newest.reversed()
        }
        guard follows else { return show(rows, columns) }
        for row in rows { print(row, columns) }
        return try follow(route, columns, query, from: rows.last?["revision"]?.text ?? "0")
    }

    /// What was asked of the cell and of the root, the newest first. An older node knows nothing of the latter.
    private func newestOfBoth(
        _ cell: [JSONValue], _ query: [(name: String, value: String)], limit: Int
    ) throws -> [JSONValue] {
        do {
            let root = try pages(
                ["v1", "audit"], query + [("sort", "-revision"), ("root", "1")], limit: limit)
            func time(_ event: JSONValue) -> Double {
                switch event["time"] {
                case .number(let seconds)?: seconds
                case .integer(let seconds)?: Double(seconds)
                default: 0
                }
            }
            let both = (cell + root).sorted { time($0) > time($1) }
            return Array(both.prefix(limit))
        } catch let refusal as Refused where refusal.problem.kind == .malformed {
            return cell
        }
    }

    private func print(_ event: JSONValue, _ columns: [Column]) {
        switch printer.format {
        case .json: print(String(decoding: event.bytes, as: UTF8.self) + "\n")
        case .yaml: print(printer.list([event], columns))
        case .table, .wide, .name:
            let shown = columns.filter { printer.format == .wide || !$0.isWide }
            print(shown.map { $0.text(in: event, now: printer.now) }.joined(separator: "  ") + "\n")
        }
    }

    /// Prints what comes after `from`, and goes on at the next node where one ends: without a gap, and without repeating.
    private func follow(
        _ route: String, _ columns: [Column], _ query: [(name: String, value: String)], from: String
    ) throws -> ExitCode {
        var through = from
        // Events of one entry may have one revision: only behind a mark have all of them come.
        var printed: [JSONValue] = []
        var lost: String?
        var heardAt = SystemClock.now
        var attempt = 0
        while true {
            let request = RawRequest(
                .get, ["v1", route], query: query + [("watch", "1"), ("from", through)], isStream: true)
            let code = try connection.stream(ofCell(request), beginningWith: attempt) { text in
                // What is no line of a watch is none of an event.
                guard let line = try? WatchLine.parse(Array(text.utf8)[...]) else { return }
                heardAt = SystemClock.now
                switch line.kind {
                case .compacted: lost = line.revision
                case .progress, .overdue:
                    through = line.revision
                    printed = []
                case .event:
                    guard let event = line.item, !printed.contains(event) else { return }
                    printed.append(event)
                    print(event, columns)
                case .put, .delete, .out: break
                }
            }
            if let lost {
                throw Undone(
                    "what happened up to \(lost) is kept no longer, and was not shown; follow from --after \(lost)")
            }
            guard code == .success || code == .unavailable else { return code }
            if SystemClock.now - heardAt > KeyWatch.silenceMax {
                Console.complain("muster: no node goes on; follow from --after \(through)")
                return .unavailable
            }
            attempt += 1
            usleep(200_000)
        }
    }

    /// Of each host, rack or zone.
    func showLosses() throws -> ExitCode {
        let found = try get(["v1", "losses"], line.text("over").map { [("over", $0)] } ?? [])
        let rows = found["items"]?.elements ?? []
        _ = show(rows, FleetColumns.losses)
        guard printer.format == .table || printer.format == .wide else { return .success }
        for row in rows {
            let down = row["down"]?.elements ?? []
            if down.isEmpty { continue }
            let more = (row["downCount"]?.integer ?? 0) - Int64(down.count)
            print(
                "\nDown without \(row["name"]?.text ?? ""):\n" + printer.list(down, FleetColumns.left)
                    + (more > 0 ? "and \(more) more\n" : "")
                    + (row["isComplete"]?.bool == false
                        ? "Whom its VMs would have stopped was not looked for to the end.\n" : ""))
        }
        return .success
    }

    /// What VMs use, host by host; a host that does not answer is said so.
    private func topVMs() throws -> ExitCode {
        while true {
            var rows: [JSONValue] = []
            for host in try pages(["v1", "hosts"], [], limit: .max) where host["vmCount"]?.integer ?? 0 > 0 {
                let name = host["name"]?.text ?? ""
                do {
                    rows += try get(["v1", "hosts", name, "usage"])["items"]?.elements ?? []
                } catch let refusal as Refused {
                    Console.complain("muster: \(name): \(refusal.problem.detail)")
                }
            }
            rows.sort { ($0["memoryMiB"]?.integer ?? 0) > ($1["memoryMiB"]?.integer ?? 0) }
            if line.has("watch"), isatty(1) == 1 { print("\u{1B}[H\u{1B}[2J") }
            print(printer.list(rows, FleetColumns.usage))
            guard line.has("watch") else { return .success }
            sleep(2)
        }
    }

    func top() throws -> ExitCode {
        if line.has("vms") { return try topVMs() }
        while true {
            let hosts = try pages(["v1", "hosts"], [], limit: .max)
            if printer.format != .table && printer.format != .wide {
                print(printer.list(hosts, FleetColumns.hosts))
                guard line.has("watch") else { return .success }
                sleep(2)
                continue
            }
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
                let count = host["vmCount"]?.integer ?? 0
                text += "  \(count) \(count == 1 ? "VM" : "VMs")  \(host["state"]?.text ?? "")\n"
            }
            if line.has("watch"), isatty(1) == 1 { print("\u{1B}[H\u{1B}[2J") }
            print(text)
            guard line.has("watch") else { return .success }
            sleep(2)
        }
    }
}
