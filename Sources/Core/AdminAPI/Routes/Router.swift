internal import ClusterBase
internal import FleetModel

/// Makes typed requests of parsed ones. The routes of keys are found by hand, since everything else is rare; a test holds
/// them to the table.
package struct Router: Sendable {
    private enum Segment: Hashable, Sendable {
        case literal([UInt8])
        case parameter
        case rest
    }

    /// What the segments of a path matched.
    private struct Match {
        var route: Route
        var parameters: [ArraySlice<UInt8>]
    }

    private let limits: AdminLimits
    private let table: [Route]
    /// Rows of the table by their whole path, where that has no parameter.
    private let literal: [[UInt8]: [Int]]  // hash order: looked up only
    /// The other rows by the second word of their path, in the order of the table.
    private let named: [[UInt8]: [(row: Int, segments: [Segment])]]  // hash order: looked up only

    package init(limits: AdminLimits = .standard) {
        self.limits = limits
        table = Route.all
        var literal: [[UInt8]: [Int]] = [:]  // hash order: looked up only
        var named: [[UInt8]: [(row: Int, segments: [Segment])]] = [:]  // hash order: looked up only
        for (row, route) in table.enumerated() {
            let segments = route.path.split(separator: "/").map { part -> Segment in
                part == "{key}" ? .rest : part.hasPrefix("{") ? .parameter : .literal(Array(part.utf8))
            }
            if segments.allSatisfy({ if case .literal = $0 { true } else { false } }) {
                literal[Array(route.path.utf8), default: []].append(row)
            } else if segments.count > 1, case .literal(let word) = segments[1] {
                named[word, default: []].append((row, segments))
            } else {
                preconditionFailure("\(route.path): the second word of a path is no parameter")
            }
        }
        (self.literal, self.named) = (literal, named)
    }

    /// The call that the parser's last request makes, or the problem to answer with. A problem of 405 comes with `allow`.
    package func call(_ parser: RequestParser, _ head: RequestHead) throws(Refusal) -> AdminCall {
        do throws(Problem) {
            var key: IdempotencyKey?
            if head.idempotencyKey.isThere {
                key = IdempotencyKey(
                    parser.storage.span, parser.start + head.idempotencyKey.start,
                    parser.start + head.idempotencyKey.end)
                if key == nil { throw Router.badIdempotencyKey }
                if let key, key.acknowledged >= key.sequence {
                    throw Problem(
                        .retryUnknown,
                        "the Idempotency-Key says that the answer to this very command has come; send none twice")
                }
            }
            let request: AdminRequest
            var cell: String?
            var plan: String?
            if Router.isKeyPath(parser, head) {
                if head.method == .put && !head.query.isThere { return try put(parser, head, key) }
                request = try keyRequest(parser, head, parser.bytes(head.path), key)
            } else {
                (request, cell, plan) = try tableRequest(parser, head, parser.bytes(head.path))
            }
            if head.method == .head && request.isStream {
                throw Problem(.methodNotAllowed, "a stream has no header alone; use GET")
            }
            return AdminCall(
                request, cell: cell, plan: plan, idempotencyKey: key, isHead: head.method == .head)
        } catch {
            var problem = error
            problem.instance = parser.text(head.path)
            throw Refusal(
                problem: problem, allow: problem.kind == .methodNotAllowed ? allowed(parser.bytes(head.path)) : [])
        }
    }

    /// Why there is no call.
    package struct Refusal: Error, Hashable, Sendable {
        package var problem: Problem
        package var allow: [HTTPMethod]

        package var response: AdminResponse {
            var response = AdminResponse(problem)
            response.allow = allow
            return response
        }
    }

    // MARK: Keys

    private static let keyPrefix = Array("/v1/kv/".utf8)

    private static func isKeyPath(_ parser: RequestParser, _ head: RequestHead) -> Bool {
        let bytes = parser.storage.span
        let from = parser.start + head.path.start
        if head.path.count <= keyPrefix.count { return false }
        for i in 0..<keyPrefix.count where bytes[from + i] != keyPrefix[i] { return false }
        return true
    }

    /// The most frequent request, without a slice or a second look.
    private func put(
        _ parser: RequestParser, _ head: RequestHead, _ idempotency: IdempotencyKey?
    ) throws(Problem) -> AdminCall {
        if head.ifMatch.isThere { throw Router.noGenerationOfKeys }
        let bytes = parser.storage.span
        let end = parser.start + head.path.end
        let begin = parser.start + head.path.start + Router.keyPrefix.count
        var slash = begin
        while slash < end && bytes[slash] != UInt8(ascii: "/") { slash += 1 }
        var isPlain = slash < end && ObjectName.isValid(bytes, begin, slash)
        var at = slash
        while at < end {
            if bytes[at] == UInt8(ascii: "%") { isPlain = false }
            at += 1
        }
        if !isPlain {
            return AdminCall(
                try keyRequest(parser, head, parser.bytes(head.path), idempotency), idempotencyKey: idempotency)
        }
        let key = Array(parser.storage[(slash + 1)..<end])
        if key.isEmpty || key.count > SpaceLimits.keyBytesMax { throw Router.badKey(key) }
        let operation = SpaceCommand.Operation.put(key: key, value: Array(parser.bytes(head.body)))
        return AdminCall(
            .write(
                space: String(decoding: parser.storage[begin..<slash], as: UTF8.self),
                Router.command(operation, idempotency)), idempotencyKey: idempotency)
    }

    private static let noGenerationOfKeys = Problem(
        .malformed, "If-Match is not judged for keys; send prev-revision or prev-value, or leave it out",
        field: "If-Match")

    private static func command(_ operation: SpaceCommand.Operation, _ key: IdempotencyKey?) -> SpaceCommand {
        guard let key else { return SpaceCommand(operation) }
        return SpaceCommand(
            client: key.client, sequence: key.sequence, acknowledged: key.acknowledged, born: key.born, operation)
    }

    private func keyRequest(
        _ parser: RequestParser, _ head: RequestHead, _ path: ArraySlice<UInt8>, _ idempotency: IdempotencyKey?
    ) throws(Problem) -> AdminRequest {
        let begin = path.startIndex + Router.keyPrefix.count
        var slash = begin
        while slash < path.endIndex && path[slash] != UInt8(ascii: "/") { slash += 1 }
        let space = try name(path[begin..<slash], "space")
        if slash == path.endIndex {
            if head.method != .get && head.method != .head {
                throw problem(noMethod: Router.methodName(parser, head), path)
            }
            try refuseBody(head)
            return try listOrWatch(parser, head, space)
        }
        guard let key = PercentCoding.decode(path[(slash + 1)...]) else { throw Router.badEncoding }
        if head.ifMatch.isThere && head.method != .get && head.method != .head { throw Router.noGenerationOfKeys }
        switch head.method {
        case .put:
            let value = Array(parser.bytes(head.body))
            var operation = SpaceCommand.Operation.put(key: key, value: value)
            var fence: SpaceFence?
            if head.query.isThere {
                let query = try Query(parser, head.query, .putKey, limits)
                fence = try Router.fence(query)
                if let expected = try expectation(query) {
                    operation = .compareAndSet(key: key, expected: expected, value: value)
                }
            }
            return try write(space, operation, idempotency, fence)
        case .delete:
            try refuseBody(head)
            let query = try Query(parser, head.query, .deleteKey, limits)
            let fence = try Router.fence(query)
            switch try expectation(query) {
            case nil: return try write(space, .delete(key: key, revision: nil), idempotency, fence)
            case .revision(let last): return try write(space, .delete(key: key, revision: last), idempotency, fence)
            case .value(let value):
                return try write(space, .compareAndDelete(key: key, expected: value), idempotency, fence)
            case .absent:
                throw Problem(.malformed, "a key that must not be there can't be deleted; leave prev-revision out")
            }
        case .get, .head:
            try refuseBody(head)
            if key.isEmpty || key.count > SpaceLimits.keyBytesMax { throw Router.badKey(key) }
            return .read(space: space, key: key, try readMode(try Query(parser, head.query, .getKey, limits)))
        case .post, .other: throw problem(noMethod: Router.methodName(parser, head), path)
        }
    }

    private func write(
        _ space: String, _ operation: SpaceCommand.Operation, _ key: IdempotencyKey?, _ fence: SpaceFence? = nil
    ) throws(Problem) -> AdminRequest {
        var command = Router.command(operation, key)
        command.fence = fence
        if let refusal = Space.refusal(of: command) { throw Problem(refusal) }
        return .write(space: space, command)
    }

    private static func fence(_ query: Query) throws(Problem) -> SpaceFence? {
        guard let bytes = query["fence"] else { return nil }
        guard let fence = SpaceFence(text: String(decoding: bytes, as: UTF8.self)) else {
            throw Problem(
                .malformed, "fence is not a lock's name, a colon and its token; send fence=NAME:TOKEN", field: "fence")
        }
        return fence
    }

    private func lock(_ match: Match) throws(Problem) -> (space: String, name: String) {
        (try name(match.parameters[0], "space"), try name(match.parameters[1], "lock"))
    }

    private func expectation(_ query: Query) throws(Problem) -> SpaceCommand.Expectation? {
        let value = query["prev-value"]
        guard let text = query["prev-revision"] else {
            guard let value else { return nil }
            guard let bytes = Base64.decode(value) else {
                throw Problem(.malformed, "prev-value is not base64url; encode the value the key must hold")
            }
            return .value(bytes)
        }
        if value != nil { throw Problem(.invalid, "both prev-revision and prev-value are given; send one") }
        if text.elementsEqual("0".utf8) { return .absent }
        guard let revision = Revision(text: text[...]) else {
            throw Problem(
                .malformed,
                "prev-revision is no revision; send index.slot as Muster-Revision says it, or 0 for a key that is not there"
            )
        }
        return .revision(revision)
    }

    func readMode(_ query: Query) throws(Problem) -> ReadMode {
        guard let text = query["stale"] else { return .linearizable }
        guard let within = Nanoseconds(text: text[...]) else {
            throw Problem(
                .malformed, "stale is no bound; send milliseconds or seconds up to an hour, as in stale=500ms",
                field: "stale")
        }
        if within > limits.staleMax {
            throw Problem(.invalid, "stale is more than an hour; send less", field: "stale")
        }
        return .stale(within: within)
    }

    private static func limit(_ query: Query) throws(Problem) -> Int {
        guard let text = query["limit"] else { return SpaceLimits.answerCountMax }
        guard let number = HTTPSyntax.decimal(text.span, 0, text.count), number >= 1,
            number <= SpaceLimits.answerCountMax
        else { throw Problem(.malformed, "limit is out of range; send 1 to \(SpaceLimits.answerCountMax)") }
        return number
    }

    private func locks(_ space: String, _ query: Query) throws(Problem) -> AdminRequest {
        let (prefix, after) = (query["prefix"] ?? [], query["after"])
        for word in [prefix, after ?? []] where word.count > SpaceLimits.lockNameBytesMax {
            throw Problem(
                .malformed, "no lock's name has \(word.count) bytes; send at most \(SpaceLimits.lockNameBytesMax)")
        }
        return .locks(
            space: space, prefix: String(decoding: prefix, as: UTF8.self),
            after: after.map { String(decoding: $0, as: UTF8.self) }, limit: try Router.limit(query),
            try readMode(query))
    }

    private func listOrWatch(
        _ parser: RequestParser, _ head: RequestHead, _ space: String
    ) throws(Problem) -> AdminRequest {
        let query = try Query(parser, head.query, .listKeys, limits)
        let prefix = query["prefix"] ?? []
        if prefix.count > SpaceLimits.keyBytesMax { throw Router.badKey(prefix) }
        if try query.flag("watch") {
            if query["after"] != nil || query["limit"] != nil || query["stale"] != nil {
                throw Problem(.invalid, "a watch has no pages; send prefix and from only")
            }
            var from: Revision?
            if let text = query["from"] {
                from = Revision(text: text[...], indexMeansEnd: true)
                if from == nil {
                    throw Problem(.malformed, "from is no revision; send index.slot, or an index to begin after it")
                }
            }
            return .watch(space: space, prefix: prefix, from: from)
        }
        if query["from"] != nil { throw Problem(.invalid, "from belongs to a watch; add watch=1 or leave it out") }
        let after = query["after"]
        if let after, after.count > SpaceLimits.keyBytesMax { throw Router.badKey(after) }
        let limit = try Router.limit(query)
        return .list(space: space, prefix: prefix, after: after, limit: limit, try readMode(query))
    }

    private func refuseBody(_ head: RequestHead) throws(Problem) {
        if !head.body.isEmpty { throw Problem(.malformed, "this request has no body; send none") }
    }

    // MARK: The table

    private func match(_ path: ArraySlice<UInt8>, _ method: HTTPMethod) -> Match? {
        let wanted = method == .head ? .get : method
        // A path that is literally in the table is nobody's name, whatever the method.
        if let rows = literal[Array(path)] {
            return rows.first { table[$0].method == wanted }.map { Match(route: table[$0], parameters: []) }
        }
        let parts = path.dropFirst().split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        guard parts.count > 1, let rows = named[Array(parts[1])] else { return nil }
        for (row, segments) in rows where table[row].method == wanted {
            if let parameters = Router.match(parts, segments) {
                return Match(route: table[row], parameters: parameters)
            }
        }
        return nil
    }

    private static func match(
        _ parts: [ArraySlice<UInt8>], _ segments: [Segment]
    ) -> [ArraySlice<UInt8>]? {
        var parameters: [ArraySlice<UInt8>] = []
        for (place, segment) in segments.enumerated() {
            if place >= parts.count { return nil }
            switch segment {
            case .literal(let word): if !parts[place].elementsEqual(word) { return nil }
            case .parameter: parameters.append(parts[place])
            case .rest: return parameters
            }
        }
        return parts.count == segments.count ? parameters : nil
    }

    private func allowed(_ path: ArraySlice<UInt8>) -> [HTTPMethod] {
        HTTPMethod.allCases.filter { match(path, $0) != nil }
    }

    private func problem(noRouteFor path: ArraySlice<UInt8>, _ method: String) -> Problem {
        allowed(path).isEmpty
            ? Problem(.routeUnknown, "there is no such route; GET /v1/openapi.json lists them all")
            : problem(noMethod: method, path)
    }

    private func problem(noMethod method: String, _ path: ArraySlice<UInt8>) -> Problem {
        let names = allowed(path).map(\.name).joined(separator: ", ")
        return Problem(.methodNotAllowed, "the route has no \(method); use \(names)")
    }

    /// As the request says it, one that no route has, too: its line begins with it.
    private static func methodName(_ parser: RequestParser, _ head: RequestHead) -> String {
        guard head.method == .other else { return head.method.name }
        let line = parser.storage[parser.start..<(parser.start + head.path.start)]
        let word = line.drop { $0 == HTTPSyntax.carriageReturn || $0 == HTTPSyntax.lineFeed }
        return String(decoding: word.prefix { $0 != UInt8(ascii: " ") }, as: UTF8.self)
    }

    private func tableRequest(
        _ parser: RequestParser, _ head: RequestHead, _ path: ArraySlice<UInt8>
    ) throws(Problem) -> (request: AdminRequest, cell: String?, plan: String?) {
        guard let match = match(path, head.method) else {
            throw problem(noRouteFor: path, Router.methodName(parser, head))
        }
        let query = try Query(parser, head.query, match.route, limits)
        var cell: String?
        if let bytes = query["cell"] { cell = try name(bytes[...], "cell") }
        // The query was held to the pattern of its parameters.
        let plan = query["plan"].map { String(decoding: $0, as: UTF8.self) }
        return (try request(parser, head, match, query), cell, plan)
    }

    private func request(
        _ parser: RequestParser, _ head: RequestHead, _ match: Match, _ query: Query
    ) throws(Problem) -> AdminRequest {
        let body = try body(parser, head, match.route)
        if head.ifMatch.isThere && !match.route.hasGeneration { try refuseGeneration(head) }
        switch match.route.operation {
        case .putKey, .getKey, .deleteKey, .listKeys:
            preconditionFailure("\(match.route.path) is routed before the table")
        case .health: return .health
        case .ready: return .ready
        case .metrics: return .metrics
        case .document: return .document
        case .takeLock:
            let (space, name) = try lock(match)
            let wish = try LockWish(body)
            return try write(
                space, .acquire(lock: name, owner: wish.owner, lease: .milliseconds(wish.leaseMillis)), nil)
        case .releaseLock:
            let (space, name) = try lock(match)
            let release = try LockRelease(body)
            return try write(
                space, .release(lock: name, owner: release.owner, token: release.token.map { Revision($0) }), nil)
        case .getLock:
            let (space, name) = try lock(match)
            return .lock(space: space, name: name, try readMode(query))
        case .listLocks: return try locks(try name(match, "space"), query)
        case .listSpaces: return .spaces
        case .createSpace: return .createSpace(try SpaceCreation(body))
        case .getSpace: return .space(try name(match, "space"))
        case .deleteSpace: return .deleteSpace(try name(match, "space"), isForced: try query.flag("force"))
        case .moveSpace: return .moveSpace(try name(match, "space"), try SpaceMove(body))
        case .getStatus: return .status
        case .listNodes: return .nodes(try readMode(query))
        case .getNode: return .node(try name(match, "node"))
        case .removeNode: return .removeNode(try name(match, "node"), isForced: try query.flag("force"))
        case .promoteNode: return .promoteNode(try name(match, "node"))
        case .demoteNode: return .demoteNode(try name(match, "node"))
        case .assignHost: return .assignHost(try name(match, "node"), try CellAssignment(body))
        case .join: return .join(try JoinRequest(body))
        case .listCells: return .cells
        case .createCell: return .createCell(try CellCreation(body))
        case .getCell: return .cell(try name(match, "cell"))
        case .retireCell: return .retireCell(try name(match, "cell"))
        case .planHosts: return .planHosts(try name(match, "cell"), try HostsPlanWish(body))
        case .listRegions: return .regions
        case .getRegion: return .region(try name(match, "region"))
        case .loseRegion: return .declareRegion(try name(match, "region"), isLost: true)
        case .regainRegion: return .declareRegion(try name(match, "region"), isLost: false)
        case .planRegion: return .planRegion(try name(match, "region"), try RegionPlanWish(body))
        case .setRegionLatency: return .setLatency(try name(match, "region"), try RegionLatencyWish(body))
        case .listTokens: return .tokens
        case .createToken: return .createToken(try TokenCreation(body))
        case .revokeToken: return .revokeToken(try name(match, "token"))
        case .transferLeadership: return .transferLeadership(try LeaderTransfer(body))
        case .listSettings: return .settings
        case .changeSetting: return .changeSetting(try name(match, "setting"), try SettingChange(body))
        case .listCertificates: return .certificates
        case .rotateCertificates: return .rotateCertificates(try CertificateRotation(body))
        case .renewCertificate: return .renewCertificate(try CertificateRenewal(body))
        case .getUpgrade: return .upgrade
        case .finalizeUpgrade: return .finalizeUpgrade(try UpgradeFinalization(body))
        case .planBackup: return .backupPlan
        case .beginBackup: return .beginBackup
        case .endBackup: return .endBackup
        case .copyGroup: return .copyGroup(try number(match, "group"))
        case .listBackupSchedules: return .backupSchedules
        case .setBackupSchedule: return .setBackupSchedule(try name(match, "schedule"), try BackupSchedule(body))
        case .removeBackupSchedule: return .removeBackupSchedule(try name(match, "schedule"))
        case .recover: return .recover(try Recovery(body))
        default:
            let parts = FleetParts(
                name: match.parameters.first ?? [], query: query,
                generation: match.route.hasGeneration ? try generation(parser, head) : nil,
                asEvents: asksForEvents(parser, head), lastEvent: try lastEvent(parser, head))
            return .fleet(try fleetRequest(match.route.operation, parts, body))
        }
    }

    /// Who asks for a generation where none is judged would believe that it was.
    private func refuseGeneration(_ head: RequestHead) throws(Problem) {
        if head.method == .get || head.method == .head { return }
        throw Problem(
            .malformed, "If-Match is not judged here: what is changed has no generation; leave it out",
            field: "If-Match")
    }

    /// What `If-Match` says; nil for any, and where it is not there.
    private func generation(_ parser: RequestParser, _ head: RequestHead) throws(Problem) -> UInt64? {
        guard head.ifMatch.isThere else { return nil }
        var text = parser.bytes(head.ifMatch)
        if text.elementsEqual("*".utf8) { return nil }
        if text.count >= 2, text.first == UInt8(ascii: "\""), text.last == UInt8(ascii: "\"") {
            text = text.dropFirst().dropLast()
        }
        let digits = Array(text)
        guard let number = HTTPSyntax.decimal(digits.span, 0, digits.count) else {
            throw Problem(
                .malformed, "If-Match is no generation; send the number as the thing's generation shows it",
                field: "If-Match")
        }
        return UInt64(number)
    }

    private func asksForEvents(_ parser: RequestParser, _ head: RequestHead) -> Bool {
        let wanted = Array(MediaType.events.name.utf8)
        return head.accept.isThere && parser.bytes(head.accept).starts(with: wanted)
    }

    /// Where a browser resumes; empty is nowhere.
    private func lastEvent(_ parser: RequestParser, _ head: RequestHead) throws(Problem) -> Revision? {
        guard head.lastEvent.isThere, !head.lastEvent.isEmpty else { return nil }
        guard let revision = Revision(text: parser.bytes(head.lastEvent), indexMeansEnd: true) else {
            throw Problem(
                .malformed, "Last-Event-ID is no revision; send back the id of the last event", field: "Last-Event-ID")
        }
        return revision
    }

    private func body(
        _ parser: RequestParser, _ head: RequestHead, _ route: Route
    ) throws(Problem) -> ShapedObject {
        guard case .json(let shape) = route.body else {
            try refuseBody(head)
            return try ShapedObject(.object([]), Shape("", []), isStrict: true)
        }
        // A browser sends a form's body across sites without asking; it can't with this media type.
        let media = parser.bytes(head.contentType).prefix { $0 != UInt8(ascii: ";") && $0 != HTTPSyntax.space }
        if !media.map(HTTPSyntax.lowercased).elementsEqual("application/json".utf8) {
            throw Problem(.mediaTypeUnknown, "the body must be JSON; send it with Content-Type: application/json")
        }
        let json: JSONValue
        do throws(JSONFault) {
            json =
                try route.operation == .createVMs || route.operation == .addImagePart
                ? JSONParser.parse(
                    parser.bytes(head.body), depthMax: limits.jsonDepthMax, valuesMax: limits.batchValuesMax)
                : JSONParser.parse(parser.bytes(head.body), limits: limits)
        } catch {
            if case .tooLarge = error.reason { throw Problem(.bodyTooLarge, error.description) }
            throw Problem(.malformed, error.description)
        }
        return try ShapedObject(json, shape, isStrict: true)
    }

    private func number(_ match: Match, _ what: String) throws(Problem) -> UInt64 {
        guard let number = UInt64(String(decoding: match.parameters[0], as: UTF8.self)) else {
            throw Problem(.malformed, "the \(what) is no number; use one that GET /v1/status shows")
        }
        return number
    }

    private func name(_ match: Match, _ what: String) throws(Problem) -> String {
        try name(match.parameters[0], what)
    }

    func name(_ encoded: ArraySlice<UInt8>, _ what: String) throws(Problem) -> String {
        if ObjectName.isValid(encoded) { return String(decoding: encoded, as: UTF8.self) }
        guard let bytes = PercentCoding.decode(encoded), ObjectName.isValid(bytes) else { throw Router.badName(what) }
        return String(decoding: bytes, as: UTF8.self)
    }

    // MARK: Refusals

    static func badName(_ what: String) -> Problem {
        Problem(
            .malformed,
            "the \(what)'s name is not one; use 1 to \(AdminLimits.nameBytesMax) letters, digits, dots, dashes and "
                + "underscores, beginning with a letter or digit")
    }

    private static func badKey(_ key: [UInt8]) -> Problem {
        Problem(key.isEmpty ? SpaceRefusal.keyEmpty : .keyTooLong(UInt64(key.count)))
    }

    private static let badEncoding = Problem(
        .malformed, "a percent sign is not followed by two hex digits; write it as %25")

    private static let badIdempotencyKey = Problem(
        .malformed,
        "the Idempotency-Key is neither client:sequence[;ack=N][;born=INDEX] with numbers from 1 nor a UUID; send one")

    // MARK: Queries

    /// The parameters of a query, decoded; only those that the route knows, each once.
    struct Query {
        private var pairs: [(name: String, value: [UInt8])] = []

        private init() {}

        init(
            _ parser: RequestParser, _ range: ByteRange, _ operation: Operation, _ limits: AdminLimits
        ) throws(Problem) {
            if range.isEmpty {
                self.init()
                return
            }
            guard let route = Route.all.first(where: { $0.operation == operation }) else {
                preconditionFailure("\(operation) is in no row of the table")
            }
            try self.init(parser, range, route, limits)
        }

        init(_ parser: RequestParser, _ range: ByteRange, _ route: Route, _ limits: AdminLimits) throws(Problem) {
            if range.isEmpty { return }
            for pair in parser.bytes(range).split(separator: UInt8(ascii: "&")) {
                if pairs.count == limits.queryParametersMax {
                    throw Problem(
                        .malformed, "the query has too many parameters; send at most \(limits.queryParametersMax)")
                }
                let equals = pair.firstIndex(of: UInt8(ascii: "=")) ?? pair.endIndex
                guard let name = PercentCoding.decode(pair[..<equals], plusIsSpace: true),
                    let value = PercentCoding.decode(
                        equals == pair.endIndex ? [] : pair[(equals + 1)...], plusIsSpace: true)
                else { throw Router.badEncoding }
                let text = String(decoding: name, as: UTF8.self)
                if !route.query.contains(where: { $0.name == text }) {
                    let known = route.query.map(\.name).joined(separator: ", ")
                    throw Problem(
                        .malformed,
                        "the parameter \(text) is unknown here; "
                            + (known.isEmpty ? "this route has none" : "use \(known)"))
                }
                if self[text] != nil { throw Problem(.malformed, "the parameter \(text) occurs twice; send it once") }
                pairs.append((text, value))
            }
        }

        subscript(name: String) -> [UInt8]? { pairs.first { $0.name == name }?.value }

        /// `1` or `0`.
        func flag(_ name: String) throws(Problem) -> Bool {
            guard let value = self[name] else { return false }
            if value.elementsEqual("1".utf8) { return true }
            if value.elementsEqual("0".utf8) { return false }
            throw Problem(.malformed, "the parameter \(name) is neither 1 nor 0; send one of them")
        }
    }
}
