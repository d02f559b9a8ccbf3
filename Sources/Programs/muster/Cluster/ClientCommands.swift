import AdminAPI
import AdminHTTP
import AgentConfig
import ClusterBase
import CommandSyntax
import FleetCommands
import FleetModel
import Glibc
import Reactor
import TLSSession
import Terminal

/// A word of the command line that makes no sense.
struct UsageMistake: Error, CustomStringConvertible {
    let description: String
    init(_ text: String) { description = text }
}

/// Commands that ask a running node's admin port.
struct ClientCommands {
    let invocation: Invocation
    let context: TLSContext
    let addresses: [Address]
    let token: String?
    /// Where the asker's certificate and its trust lie; nil for one who asks as a node.
    let folder: String?
    private var isJSON: Bool { invocation.text("output") == "json" }

    static func run(_ invocation: Invocation) -> ExitCode {
        do {
            return try ClientCommands(invocation).run()
        } catch {
            return code(ofFailure: error)
        }
    }

    /// Complains of it, and says what it means to a script.
    static func code(ofFailure error: any Error) -> ExitCode {
        Console.complain("muster: \(error)")
        switch error {
        case is UsageMistake: return .usage
        case let mistake as FleetMistake: return mistake.code
        case let refusal as FleetClient.Refused: return ExitCode(refusal.problem.kind)
        default: return error is AdminClientFailure ? .unavailable : .failure
        }
    }

    init(_ invocation: Invocation) throws {
        self.invocation = invocation
        token = invocation.text("token")
        let data = Muster.variable("MUSTER_NODE_DATA") ?? AgentSettings().dataDirectory
        let named = invocation.text("context")
        let entry = named.map { LocalCommands.contexts[$0] } ?? LocalCommands.contexts.used
        if let named, entry == nil {
            throw FleetMistake("There is no context '\(named)'; see `muster context list`.", code: .notFound)
        }
        let folder = invocation.text("identity") ?? entry?.folder ?? data + "/operator"
        let files = NodeFiles(path: folder)
        if let own = ClientCommands.nodeData(invocation) {
            (context, addresses) = try ClientCommands.asNode(own, invocation)
            self.folder = nil
            return
        }
        self.folder = folder
        guard files.has("ca.pem") else {
            throw AgentFailure(
                "There is no \(folder)/ca.pem; name the folder that `muster init` made with --identity or MUSTER_IDENTITY."
            )
        }
        do throws(TLSFailure) {
            let trust = try Certificate.list(pem: String(decoding: Muster.read(folder + "/ca.pem"), as: UTF8.self))
            let identity =
                token != nil || !files.has("cert.pem")
                ? nil
                : try TLSIdentity(
                    chain: String(decoding: Muster.read(folder + "/cert.pem"), as: UTF8.self),
                    key: String(decoding: Muster.read(folder + "/key.pem"), as: UTF8.self))
            if let own = identity?.chain.first, !["cert renew", "cert rotate"].contains(invocation.path) {
                OperatorCertificate.warn(of: own, in: folder)
            }
            context = try TLSContext(
                side: .client, identity: identity, trust: .authorities(trust), protocols: AdminSettings.protocols)
        } catch {
            throw AgentFailure("The identity in \(folder) can't be used: \(error.message)")
        }
        var texts = invocation.texts("address")
        if texts.isEmpty, invocation.text("identity") == nil { texts = entry?.addresses ?? [] }
        if texts.isEmpty && files.has("address") {
            texts = try files.text("address").split(separator: "\n").map(String.init)
        }
        if texts.isEmpty { texts = ["127.0.0.1:7470"] }
        do throws(AddressError) {
            addresses = try texts.map { text throws(AddressError) in try Address(parsing: text, defaultPort: 7470) }
        } catch {
            if invocation.texts("address").isEmpty { throw error }
            throw UsageMistake("--address: \(error).")
        }
    }

    var settings: AdminClientSettings {
        var settings = AdminClientSettings()
        settings.connectTimeout = .seconds(3)
        settings.answerTimeout = invocation.duration("timeout") ?? .seconds(10)
        // Whoever holds a lock asks several times within its lease.
        if invocation.path == "lock run" { settings.answerTimeout = min(settings.answerTimeout, .seconds(2)) }
        return settings
    }

    private static func newKey(born: LogIndex = .zero) -> IdempotencyKey {
        let bytes = Crypto.randomBytes(16).map(UInt64.init)
        return .once(
            high: bytes[..<8].reduce(0) { $0 << 8 | $1 }, low: bytes[8...].reduce(0) { $0 << 8 | $1 }, born: born)
    }

    func ask(_ request: AdminRequest) throws -> AdminAnswer {
        if request.isStream || !request.isChange { return try ask(request, key: nil) }
        let answer = try ask(request, key: ClientCommands.newKey())
        // A space that has forgotten clients takes one that it does not know only under a key of later than that. It has
        // refused this one, so that another key is no second effect.
        guard let problem = answer.problem, problem.kind == .retryUnknown,
            let born = problem.members.first(where: { $0.name == "bornAtLeast" })?.value.whole, born > 0
        else { return answer }
        return try ask(request, key: ClientCommands.newKey(born: LogIndex(UInt64(born))))
    }

    private func ask(_ request: AdminRequest, key: IdempotencyKey?) throws -> AdminAnswer {
        try AdminClient.ask(
            AdminCall(request, idempotencyKey: key), at: addresses, context: context, bearerToken: token,
            settings: settings, repeats: !request.isStream)
    }

    /// A change gets a key, so that it takes effect once even if its answer is lost and another node is asked again.
    func ask(_ request: RawRequest) throws -> AdminAnswer {
        var request = request
        if request.method != .get { request.idempotencyKey = ClientCommands.newKey() }
        return try AdminClient.ask(
            request, at: addresses, context: context, bearerToken: token, settings: settings, repeats: true)
    }

    /// Calls `line` for every line of a stream until it ends. The addresses are tried in turn until one answers.
    /// That of number `beginningWith` comes first. A stream that breaks off ends as one that nobody answers.
    func stream(
        _ request: RawRequest, beginningWith first: Int = 0, _ line: @escaping (String) -> Void
    ) throws -> ExitCode {
        let loop = try EventLoop()
        let resolver = Resolver(loop)
        defer {
            resolver.close()
            loop.removeMailboxes()
        }
        var failure = AdminClientFailure(description: "no address was given; name a node", mayHaveHappened: false)
        for i in addresses.indices {
            let address = addresses[(i + first) % addresses.count]
            switch resolver.places(of: address, within: settings.connectTimeout, on: loop) {
            case .failed(let sentence): failure.description = sentence
            case .found(let places):
                for place in places {
                    switch stream(request, loop, address, place, line) {
                    case .success(let end): return end
                    case .failure(let other): failure = other
                    }
                }
            }
        }
        // Who goes on with it says so when it can't.
        return first > 0 ? .unavailable : ClientCommands.code(ofFailure: failure)
    }

    /// A failure when nothing came from there.
    private func stream(
        _ request: RawRequest, _ loop: EventLoop, _ address: Address, _ place: SocketAddress,
        _ line: @escaping (String) -> Void
    ) -> Result<ExitCode, AdminClientFailure> {
        var end: Result<ExitCode, AdminClientFailure>?
        var hasBegun = false
        var heardAt = loop.now
        var rest: [UInt8] = []
        let client = AdminClient(
            loop, to: place, host: address.description, serverName: address.host, context: context, bearerToken: token
        ) { _, event in
            heardAt = loop.now
            switch event {
            case .piece(let bytes):
                rest += bytes
                while let at = rest.firstIndex(of: UInt8(ascii: "\n")) {
                    line(String(decoding: rest[..<at], as: UTF8.self))
                    rest.removeSubrange(...at)
                }
            case .streamBegan: hasBegun = true
            case .streamEnded: end = .success(.success)
            case .answer(let answer):
                if let problem = answer.problem, problem.kind.status == 503 || problem.kind.status == 504 {
                    end = .failure(AdminClientFailure(description: problem.detail, mayHaveHappened: false))
                } else if let problem = answer.problem {
                    Console.complain("muster: \(problem.detail)")
                    end = .success(ExitCode(problem.kind))
                } else {
                    end = .success(.success)
                }
            case .failed(let failure):
                end = hasBegun ? .success(.unavailable) : .failure(failure)
            }
        }
        client.send(request)
        while true {
            if let end {
                client.close()
                return end
            }
            loop.turn(waitingAtMost: .seconds(1))
            // A node that is there says so every few seconds, also when nothing changes.
            if end == nil && loop.now - heardAt > KeyWatch.silenceMax {
                let silence = AdminClientFailure(
                    description: "\(address) has said nothing for \(KeyWatch.silenceMax.count / 1_000_000_000) s",
                    mayHaveHappened: false)
                end = hasBegun ? .success(.unavailable) : .failure(silence)
            }
        }
    }

    func word(_ name: String) -> String { invocation.argument(name) ?? "" }

    private func run() throws -> ExitCode {
        switch invocation.path {
        case "status": return try show(.status)
        case "node list":
            return try show(.nodes(invocation.duration("stale").map { .stale(within: $0) } ?? .linearizable))
        case "node show": return try show(.node(word("NODE")))
        case "node remove": return try show(.removeNode(word("NODE"), isForced: invocation.has("force")))
        case "node promote": return try show(.promoteNode(word("NODE")))
        case "node demote": return try show(.demoteNode(word("NODE")))
        case "token create": return try createToken()
        case "token list": return try show(.tokens)
        case "token revoke": return try show(.revokeToken(word("ID")))
        case "leader transfer":
            return try show(
                .transferLeadership(LeaderTransfer(space: invocation.text("space"), to: invocation.text("to"))))
        case "cert list": return try show(.certificates)
        case "cert rotate":
            return try rotateCertificates()
        case "cert renew": return try renewIdentity(isQuiet: false)
        case "setting list": return try show(.settings)
        case "setting set": return try changeSetting()
        case "backup save": return try saveBackup()
        case "backup schedule": return try scheduleBackups()
        case "upgrade status": return try show(.upgrade)
        case "upgrade finalize": return try show(.finalizeUpgrade(UpgradeFinalization()))
        case "recover":
            return invocation.has("accept-loss") ? try recover() : try explainRecovery()
        case "space create":
            return try show(
                .createSpace(
                    SpaceCreation(name: try name("SPACE"), replicas: invocation.text("replicas").flatMap { Int64($0) }))
            )
        case "lock take", "lock release", "lock show", "lock list", "lock run": return try runLocks()
        case "space list": return try show(.spaces)
        case "space move": return try show(.moveSpace(word("SPACE"), SpaceMove(nodes: targets())))
        case "space delete": return try show(.deleteSpace(word("SPACE"), isForced: invocation.has("force")))
        default: return try runKeys()
        }
    }

    /// An argument that is to be a name, which the cluster would look for in the document that it is sent.
    func name(_ argument: String) throws -> String {
        let word = word(argument)
        if !ObjectName.isValid(Array(word.utf8)) {
            throw UsageMistake("\(argument) is '\(word)'; use \(ObjectName.rule).")
        }
        return word
    }

    /// The nodes of `--to`, each by an option of its own or several with commas.
    private func targets() throws -> [String] {
        let names = invocation.texts("to").flatMap {
            $0.split(separator: ",", omittingEmptySubsequences: false).map { String($0).trimmed }
        }
        for name in names where !ObjectName.isValid(Array(name.utf8)) {
            throw UsageMistake("--to names nodes, and '\(name)' is no name of one; see `muster node list`.")
        }
        return names
    }

    private func createToken() throws -> ExitCode {
        let role = invocation.text("role").flatMap { AdminAPI.Role($0) }
        if role == nil, let text = invocation.text("role") {
            Console.complain(
                "muster: '\(text)' is no role; it is admin, operator, viewer, or space:NAME:read, space:NAME:write, "
                    + "tenant:NAME:read or tenant:NAME:write.")
            return .usage
        }
        if role != nil, let option = ["uses", "note"].first(where: invocation.has) {
            Console.complain("muster: --\(option) is for tokens to join with; leave it out, or leave --role out.")
            return .usage
        }
        let wanted = TokenCreation(
            kind: role == nil ? .join : .api, role: role, uses: invocation.integer("uses").map(Int64.init),
            ttlSeconds: invocation.duration("expires").map { $0.count / 1_000_000_000 }, note: invocation.text("note"))
        let answer = try ask(.createToken(wanted))
        guard answer.isSuccess, !isJSON else { return try show(answer) }
        let made = try CreatedToken(body: answer.body[...])
        Console.write(made.token + "\n", to: 1)
        Console.complain(
            role == nil
                ? "Run `muster join TOKEN` on the new host. The token is not shown again."
                : "Send it as `Authorization: Bearer TOKEN`, or pass it with --token. It is not shown again.")
        return .success
    }

    /// A group by its number, or as the status of the node that is asked calls it.
    func number(ofGroup word: String) throws -> Int64? {
        if let number = Int64(word) { return number }
        let answer = try ask(.status)
        guard answer.isSuccess else { return nil }
        return try ClusterStatus(body: answer.body[...]).groups.first { $0.name == word }.map {
            Int64(clamping: $0.group)
        }
    }

    private func changeSetting() throws -> ExitCode {
        let text = word("VALUE")
        guard let setting = RootSetting.named(word("SETTING")) else {
            let hint = NearestWord.hint(word("SETTING"), in: RootSetting.allCases.map(\.name))
            Console.complain("muster: There is no setting '\(word("SETTING"))'\(hint); see `muster setting list`.")
            return .notFound
        }
        let value: Int64?
        switch setting.unit {
        case "ms": value = Quantity.duration(text).map { $0.count / 1_000_000 }
        case "bytes": value = text == "0" ? 0 : Quantity.size(text).map(Int64.init)
        default: value = Quantity.integer(text).map(Int64.init)
        }
        guard let value, value >= 0 else {
            let wanted =
                setting.unit == "ms"
                ? "a time such as 90s" : setting.unit == "bytes" ? "a size such as 64MiB" : "a number"
            Console.complain("muster: \(setting.name) wants \(wanted), not '\(text)'; it may be \(setting.range).")
            return .usage
        }
        return try show(.changeSetting(setting.name, SettingChange(value: value)))
    }

    // MARK: Keys

    private func runKeys() throws -> ExitCode {
        let space = word("SPACE")
        switch invocation.path {
        case "kv put":
            let value = try invocation.argument("VALUE").map { Array($0.utf8) } ?? Muster.readStandardInput()
            let key = Array(word("KEY").utf8)
            let operation: SpaceCommand.Operation =
                if let expected = try expectation() {
                    .compareAndSet(key: key, expected: expected, value: value)
                } else { .put(key: key, value: value) }
            return try show(.write(space: space, SpaceCommand(fence: fence(), operation)))
        case "kv get":
            let key = Array(word("KEY").utf8)
            let answer = try ask(.read(space: space, key: key, readMode))
            guard answer.isSuccess else { return try show(answer) }
            if let format = invocation.text("output"), format == "json" || format == "yaml" {
                return ClientCommands.present(ClientCommands.described(key, answer), invocation)
            }
            Console.write(bytes: answer.body, to: 1)
            if isatty(1) == 1 { Console.write("\n", to: 1) }
            return .success
        case "kv delete":
            let key = Array(word("KEY").utf8)
            let operation: SpaceCommand.Operation
            switch try expectation() {
            case nil: operation = .delete(key: key, revision: nil)
            case .revision(let revision): operation = .delete(key: key, revision: revision)
            case .value(let value): operation = .compareAndDelete(key: key, expected: value)
            case .absent: throw UsageMistake("A key that must not be there can't be deleted; leave --revision out.")
            }
            return try show(.write(space: space, SpaceCommand(fence: fence(), operation)))
        case "kv list":
            return try list(space, Array(word("PREFIX").utf8), limit: invocation.integer("limit") ?? .max)
        case "kv watch": return try watch(space)
        default: preconditionFailure("'\(invocation.path)' is in the table and nobody runs it")
        }
    }

    private func fence() throws -> SpaceFence? {
        guard let text = invocation.text("fence") else { return nil }
        guard let fence = SpaceFence(text: text) else {
            throw UsageMistake(
                "--fence is '\(text)'; give a lock's name, a colon and its token, as `muster lock take` prints it.")
        }
        return fence
    }

    /// All pages, as one answer. A page is of one moment and the next of a later one; the revision is the first one's, so that a
    /// watch from there misses nothing.
    private func list(_ space: String, _ prefix: [UInt8], limit: Int) throws -> ExitCode {
        var records: [SpaceRecord] = []
        var after = invocation.text("after").map { Array($0.utf8) }
        var first: Revision?
        while true {
            let wanted = min(limit - records.count, 1_000)
            let answer = try ask(
                .list(space: space, prefix: prefix, after: after, limit: wanted, readMode))
            guard answer.isSuccess else { return try show(answer) }
            let page = try SpaceJSON.readPage(answer.body[...])
            records += page.records
            first = first ?? page.revision
            after = page.next
            if after == nil || records.count >= limit { break }
        }
        let body = SpaceJSON.page(records, next: after, first ?? .zero)
        if let after, !isJSON {
            let text = String(decoding: after, as: UTF8.self)
            let isPlain = after.allSatisfy { $0 > 0x20 && $0 < 0x7F }
            let how = isPlain ? "go on with --after '\(text)'." : "a larger --limit shows them."
            Console.complain("There are more keys; \(how)")
        }
        return ClientCommands.present(body, invocation)
    }

    private var readMode: ReadMode {
        invocation.duration("stale").map { ReadMode.stale(within: $0) } ?? .linearizable
    }

    /// A key that was read, as a list shows it.
    private static func described(_ key: [UInt8], _ answer: AdminAnswer) -> [UInt8] {
        var writer = JSONWriter()
        writer.beginObject()
        writer.name("key")
        writer.percent(key)
        writer.name("value")
        writer.base64(answer.body)
        writer.name("modified")
        writer.string(answer.value(of: "muster-revision") ?? "")
        writer.name("version")
        writer.integer(answer.value(of: "muster-version").flatMap { UInt64($0) } ?? 0)
        writer.endObject()
        return writer.finish()
    }

    /// What the key must hold, by `--revision` or `--if-value`.
    private func expectation() throws -> SpaceCommand.Expectation? {
        let value = invocation.text("if-value").map { SpaceCommand.Expectation.value(Array($0.utf8)) }
        guard let text = invocation.text("revision") else { return value }
        if value != nil { throw UsageMistake("--revision and --if-value say the same in two ways; give one of them.") }
        return try expectation(text)
    }

    private func expectation(_ text: String) throws -> SpaceCommand.Expectation {
        if text == "0" { return .absent }
        let parts = text.split(separator: ".")
        guard parts.count == 2, let index = UInt64(parts[0]), let slot = Int(parts[1]), index < 1 << 56,
            (0..<256).contains(slot)
        else { throw UsageMistake("'\(text)' is no revision; use one as the answers print it, such as 42.0.") }
        return .revision(Revision(index: LogIndex(index), slot: slot))
    }

    private func watch(_ space: String) throws -> ExitCode {
        var from: Revision?
        if let text = invocation.text("from") {
            if let index = UInt64(text), index > 0, index < 1 << 56 {
                // All of that index was seen.
                from = Revision(index: LogIndex(index), slot: 255)
            } else if case .revision(let found) = try expectation(text) {
                from = found
            } else {
                from = .zero
            }
        }
        let prefix = Array(word("PREFIX").utf8)
        return try KeyWatch(addresses, context, token: token, space: space, prefix: prefix, from: from) { [self] in
            // Showing is all that is left to do.
            (try? show($0)) ?? .failure
        }.run()
    }

    // MARK: Showing

    func show(_ request: AdminRequest) throws -> ExitCode { try show(ask(request)) }

    func show(_ answer: AdminAnswer) throws -> ExitCode {
        if let problem = answer.problem {
            Console.complain("muster: \(problem.detail)")
            return ExitCode(problem.kind)
        }
        return ClientCommands.present(answer.body, invocation)
    }

    /// Prints JSON as `--output` says.
    static func present(_ body: [UInt8], _ invocation: Invocation) -> ExitCode {
        if let format = invocation.text("output").flatMap(OutputFormat.init), format == .yaml || format == .name,
            // What is no JSON is printed as it is.
            let json = try? JSONParser.parse(body[...], depthMax: 32, valuesMax: 1 << 20)
        {
            let rows = json["items"]?.elements ?? json["keys"]?.elements
            Console.write(rows.map { Printer(format).list($0, []) } ?? Printer(format).record(json), to: 1)
        } else if invocation.text("output") == "json" {
            // A list is an array, as that of VMs is; what says more than its rows is printed as it is, and so is what is no JSON.
            if let json = try? JSONParser.parse(body[...], depthMax: 32, valuesMax: 1 << 20),
                let rows = json["items"]?.elements, json.members?.count == 1
            {
                Console.write(Printer(.json).list(rows, []), to: 1)
            } else {
                Console.write(bytes: body + [10], to: 1)
            }
            // What is no JSON is printed as it is.
        } else if let json = try? JSONParser.parse(body[...], depthMax: 32, valuesMax: 1 << 20) {
            Console.write(ClientCommands.table(json), to: 1)
        } else {
            Console.write(bytes: body, to: 1)
        }
        return .success
    }

    /// Any answer as people read it: a list as a table, one thing as a record, a message as itself.
    static func table(_ json: JSONValue) -> String {
        let rows = json["items"]?.elements ?? json["keys"]?.elements
        if let rows { return rows.isEmpty ? "None.\n" : list(rows.map(readable)).table() }
        if case .object(let members) = json {
            if members.count == 1, let message = json["message"]?.text { return message + "\n" }
            let plain = members.filter { $0.value.elements?.first?.members == nil }
            var text = list([.object(plain)]).record()
            for member in members {
                guard let rows = member.value.elements, rows.first?.members != nil else { continue }
                text += "\n" + list(rows).table()
            }
            return text
        }
        return "\(json)\n"
    }

    private static func list(_ rows: [JSONValue]) -> CommandSyntax.Listing {
        let names = rows.first?.members?.map(\.name) ?? []
        var listing = CommandSyntax.Listing(
            names.map { name in
                .init(name, isRightAligned: rows.allSatisfy { $0[name]?.integer != nil } && !isTime(name))
            })
        for row in rows { listing.add(names.map { cell($0, row[$0]) }) }
        return listing
    }

    /// Values of keys are base64 in JSON; in a table people want to read them, as far as they are text.
    private static func readable(_ row: JSONValue) -> JSONValue {
        guard row["key"] != nil, let members = row.members else { return row }
        return .object(
            members.map { member in
                guard member.name == "value", let text = member.value.text,
                    let bytes = AdminAPI.Base64.decode(text.utf8),
                    // What is no text stays as it is.
                    let plain = String(validating: bytes, as: UTF8.self)
                else { return member }
                return JSONMember("value", .string(plain))
            })
    }

    private static func isTime(_ name: String) -> Bool {
        ["expires", "certificateExpires", "begins", "finished", "succeeded", "taken"].contains(name)
    }

    private static func cell(_ name: String, _ value: JSONValue?) -> CommandSyntax.Cell {
        switch value {
        case .string(let text): return .text(text)
        case .bool(let bool): return .boolean(bool)
        case .integer(let number) where isTime(name):
            return number <= 0
                ? .none : .text(String(AgentLog.text(wallNanoseconds: number * 1_000_000_000).dropLast(5)) + "Z")
        // An API token's.
        case .integer(-1) where name == "usesLeft": return .none
        case .integer(let number): return .integer(Int(number))
        case .number(let number): return .text("\(number)")
        case .array(let elements): return .texts(elements.map { $0.text ?? "…" })
        case .object, .null, nil: return .none
        }
    }
}

extension AdminRequest {
    /// Whether asking twice could do it twice, and a key keeps it from that at whichever node it is asked.
    var isChange: Bool {
        switch self {
        case .write, .createSpace, .deleteSpace, .moveSpace, .removeNode, .promoteNode, .demoteNode, .createToken,
            .revokeToken, .createCell, .retireCell, .assignHost, .declareRegion,
            .planRegion, .planHosts:
            true
        default: false
        }
    }
}

extension Console {
    static func write(bytes: [UInt8], to descriptor: Int32) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count <= 0 { return }
            rest = rest.dropFirst(count)
        }
    }
}
