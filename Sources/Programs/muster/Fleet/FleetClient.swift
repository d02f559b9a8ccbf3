import AdminAPI
import AdminHTTP
import ClusterBase
import CommandSyntax
import FleetCommands
import FleetModel
import Glibc
import Reactor
import TLSSession
import Terminal

/// Commands about VMs, hosts and what belongs to them: asks the admin port and prints its answers.
struct FleetClient {
    let line: Invocation
    let connection: ClientCommands
    let printer: Printer

    /// Whether the command is one of these.
    static func knows(_ path: String) -> Bool { FleetTable.commands.contains { $0.path == path } }

    static func run(_ line: Invocation) -> ExitCode {
        do {
            if let code = try LocalCommands.run(line) { return code }
            let client = try FleetClient(line)
            return try client.run()
        } catch {
            return ClientCommands.code(ofFailure: error)
        }
    }

    /// The cluster said no.
    struct Refused: Error, CustomStringConvertible {
        let problem: Problem
        var description: String { problem.detail }
    }

    /// What was waited for can't come any more: a sentence that says why.
    struct Undone: Error, CustomStringConvertible {
        let description: String
        init(_ description: String) { self.description = description }
    }

    init(_ line: Invocation) throws {
        self.line = line
        connection = try ClientCommands(line)
        let columns =
            line.options.contains { $0.name == "columns" }
            ? (line.text("columns") ?? "").split(separator: ",").map { String($0).trimmed } : []
        printer = Printer(
            line.text("output").flatMap(OutputFormat.init) ?? .table, wanted: columns,
            isColoured: isatty(1) == 1 && (Muster.variable("NO_COLOR") ?? "").isEmpty
                && Muster.variable("TERM") != "dumb",
            now: SystemClock.wallNanoseconds / 1_000_000_000)
    }

    func word(_ name: String) -> String { line.argument(name) ?? "" }

    // MARK: Asking

    func ask(_ request: RawRequest) throws -> JSONValue {
        let answer = try connection.ask(ofCell(request))
        if let problem = answer.problem { throw Refused(problem: problem) }
        if answer.body.isEmpty { return .null }
        return try JSONParser.parse(answer.body[...], depthMax: 32, valuesMax: 1 << 22)
    }

    /// A command with `--cell` asks that cell and no other.
    func ofCell(_ request: RawRequest) -> RawRequest {
        var request = request
        if line.path != "vm migrate", line.options.contains(where: { $0.name == "cell" }), let cell = line.text("cell")
        {
            request.query.append(("cell", cell))
        }
        return request
    }

    func get(_ path: [String], _ query: [(name: String, value: String)] = []) throws -> JSONValue {
        try ask(RawRequest(.get, path, query: query))
    }

    func post(_ path: [String], _ query: [(name: String, value: String)] = [], _ body: JSONValue? = nil) throws
        -> JSONValue
    {
        try ask(RawRequest(.post, path, query: query, body: body))
    }

    /// Pages of a list until its end or `limit`.
    func pages(
        _ path: [String], _ query: [(name: String, value: String)], limit: Int, after: String? = nil
    ) throws -> [JSONValue] {
        var rows: [JSONValue] = []
        var after = after
        while rows.count < limit {
            var query = query
            query.append(("limit", "\(min(1_000, limit - rows.count))"))
            if let after { query.append(("after", after)) }
            let page = try get(path, query)
            rows += page["items"]?.elements ?? []
            guard let next = page["next"]?.text, !next.isEmpty else { break }
            after = next
        }
        return rows
    }

    // MARK: Printing

    func print(_ text: String) { Console.write(text, to: 1) }

    func show(_ value: JSONValue) -> ExitCode {
        if let members = value.members, members.count == 1, let message = members.first?.value.text,
            printer.format == .table || printer.format == .wide
        {
            print(message + "\n")
        } else {
            print(printer.record(value))
        }
        return .success
    }

    func show(_ rows: [JSONValue], _ columns: [Column]) -> ExitCode {
        print(printer.list(rows, columns))
        return .success
    }

    func vm(_ name: String) throws -> JSONValue { try get(["v1", "vms", name], tenantQuery) }

    var tenantQuery: [(name: String, value: String)] {
        line.text("tenant").map { [("tenant", $0)] } ?? []
    }

    /// Lists, and again every two seconds with `--watch`.
    func list(_ path: [String], _ columns: [Column], _ query: [(name: String, value: String)] = []) throws -> ExitCode {
        if let refusal = printer.refusal(columns) { throw FleetMistake(refusal) }
        var query = query
        if let filter = try filter() { query.append(("filter", filter)) }
        if let text = line.text("sort") { query.append(("sort", text)) }
        let limit = line.integer("limit") ?? .max
        guard line.has("watch") else { return show(try pages(path, query, limit: limit), columns) }
        var watched = WatchedList(printer, columns, isTerminal: isatty(1) == 1)
        while true {
            let rows = try pages(path, query, limit: limit)
            if let text = watched.text(rows, now: SystemClock.wallNanoseconds / 1_000_000_000) { print(text) }
            sleep(2)
        }
    }

    /// What `--filter` and `--selector` say together.
    func filter() throws -> String? {
        var parts = line.text("filter").map { ["(\($0))"] } ?? []
        for text in line.command.options.contains(where: { $0.name == "selector" }) ? line.texts("selector") : [] {
            guard let part = LabelSelector.filter(text) else {
                throw FleetMistake(
                    "--selector wants labels such as app=web,env!=dev, 'env in (a,b)', gpu or '!gpu', not '\(text)'.")
            }
            parts.append(part)
        }
        if parts.count == 1, let only = line.text("filter") { return only }
        return parts.isEmpty ? nil : parts.joined(separator: " and ")
    }

    // MARK: Commands

    func run() throws -> ExitCode {
        switch line.path {
        case "vm list": return try list(["v1", "vms"], FleetColumns.vms, tenantQuery)
        case "host list": return try list(["v1", "hosts"], FleetColumns.hosts)
        case "group list": return try list(["v1", "groups"], FleetColumns.groups, tenantQuery)
        case "tenant list", "quota list": return try list(["v1", "tenants"], FleetColumns.tenants)
        case "migration list": return try list(["v1", "migrations"], FleetColumns.migrations)
        case "vm show": return try showVM()
        case "host show": return show(try get(["v1", "hosts", word("HOST")]))
        case "group show": return show(try get(["v1", "groups", word("GROUP")], tenantQuery))
        case "tenant show", "quota show": return show(try get(["v1", "tenants", word("TENANT")]))
        case "vm create": return try createVMs()
        case "vm update": return try updateVM()
        case "vm start", "vm stop", "vm restart", "vm pause", "vm resume": return try power()
        case "vm delete": return try deleteVMs()
        case "vm migrate": return try migrate()
        case "vm explain":
            let hosts = line.texts("host")
            let found = try get(
                ["v1", "vms", word("VM"), "explain"],
                tenantQuery + (hosts.isEmpty ? [] : [("hosts", hosts.joined(separator: ","))]))
            guard printer.format == .table || printer.format == .wide,
                // What a newer node says is shown as it is.
                let known = try? ExplainInfo(body: found.bytes[...])
            else { return show(found) }
            print(ExplainText.text(known, printer))
            return .success
        case "vm history":
            return show(
                try get(["v1", "vms", word("VM"), "history"], tenantQuery)["items"]?.elements ?? [], FleetColumns.events
            )
        case "vm wait":
            return try wait(line.arguments, for: line.text("for") ?? "running")
        case "vm logs": return try logs()
        case "vm console": return try console()
        case "host cordon", "host maintenance", "host back": return try duty()
        case "host drain": return try drain()
        case "host resume": return try resumeHost()
        case "host away": return try letAway()
        case "host declare-dead": return try declareDead()
        case "host maintain": return try maintainHosts()
        case "host set": return try setHost()
        case "host mark":
            var about = [JSONMember("domain", .string(word("DOMAIN")))]
            if line.has("force") { about.append(JSONMember("force", .bool(true))) }
            return show(try post(["v1", "hosts", word("HOST"), "storage"], [], .object(about)))
        case "host remove": return try removeHost()
        case "group create": return try createGroup()
        case "group delete":
            return show(try ask(RawRequest(.delete, ["v1", "groups", word("GROUP")], query: tenantQuery)))
        case "image list":
            return show(try get(["v1", "images"], tenantQuery)["items"]?.elements ?? [], FleetColumns.images)
        case "image show": return show(try get(["v1", "images", word("IMAGE")], tenantQuery))
        case "image add": return try addImage()
        case "image remove":
            let shared = line.has("shared") ? [(name: "shared", value: "1")] : []
            return show(
                try ask(RawRequest(.delete, ["v1", "images", word("IMAGE")], query: tenantQuery + shared)))
        case "remains list":
            return show(try get(["v1", "remains"], tenantQuery)["items"]?.elements ?? [], FleetColumns.remains)
        case "remains forget":
            return show(try ask(RawRequest(.delete, ["v1", "remains", word("NUMBER")], query: tenantQuery)))
        case "tenant set", "quota set": return try setTenant()
        case "tenant delete": return show(try ask(RawRequest(.delete, ["v1", "tenants", word("TENANT")])))
        case "plan create": return try planCreation()
        case "plan drain": return showPlan(try plan("drain", .string(word("HOST"))))
        case "plan return": return showPlan(try plan("return", .string(word("HOST"))))
        case "plan loss": return showPlan(try plan("loss", .array(line.arguments.map { .string($0) })))
        case "plan losses": return try showLosses()
        case "plan rebalance", "rebalance show": return showPlan(try plan("rebalance", .object([])))
        case "rebalance run": return try rebalance(isDryRun: line.has("dry-run"))
        case "cell list": return show(try get(["v1", "cells"])["items"]?.elements ?? [], FleetColumns.cells)
        case "cell create": return try createCell()
        case "cell show": return try showCell()
        case "cell assign":
            return show(
                try post(
                    ["v1", "nodes", word("NODE"), "assign"], [],
                    .object(
                        [JSONMember("cell", .string(word("CELL")))]
                            + (line.has("dry-run") ? [JSONMember("dryRun", .bool(true))] : []))))
        case "cell split": return try planHosts("split")
        case "cell merge": return try planHosts("merge")
        case "cell retire": return show(try ask(RawRequest(.delete, ["v1", "cells", word("CELL")])))
        case "region list":
            return show(try get(["v1", "regions"])["items"]?.elements ?? [], FleetColumns.regions)
        case "region show": return try showRegion()
        case "region evacuate": return try planRegion("evacuate")
        case "region return": return try planRegion("return")
        case "region declare-lost": return try declareLost()
        case "region back": return show(try post(["v1", "regions", word("REGION"), "back"], [], nil))
        case "region latency": return try regionLatency()
        case "region set-latency": return try setRegionLatency()
        case "cell set": return try setCell()
        case "events": return try happened("events", FleetColumns.events)
        case "audit": return try happened("audit", FleetColumns.audit)
        case "top": return try top()
        default: preconditionFailure("'\(line.path)' is in the table and nobody runs it")
        }
    }

    private func setCell() throws -> ExitCode {
        let (setting, value, known) = (word("SETTING"), word("VALUE"), CellSetting.allCases.map(\.member))
        guard known.contains(setting) else {
            throw FleetMistake(
                "A cell has no setting '\(setting)'\(NearestWord.hint(setting, in: known)); see `muster cell show`.")
        }
        let member = JSONMember(setting, Int64(value).map { .integer($0) } ?? .string(value))
        return showChange(
            try ask(RawRequest(.put, ["v1", "cell", "settings"], query: changeQuery, body: .object([member]))))
    }
}

extension String {
    /// Without spaces at its ends.
    var trimmed: String {
        var text = self[...]
        while text.first == " " { text.removeFirst() }
        while text.last == " " { text.removeLast() }
        return String(text)
    }
}
