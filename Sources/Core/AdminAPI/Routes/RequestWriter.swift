internal import ClusterBase
internal import FleetModel

/// Writes requests as HTTP/1.1 behind whatever a buffer holds: the other half of `Router`.
package struct RequestWriter: Sendable {
    private let fixedFields: [UInt8]

    /// `host` is the server's name and port; a bearer token goes along with every request.
    package init(host: String, bearerToken: String? = nil) {
        var fields = Array(" HTTP/1.1\r\nhost: \(host)".utf8)
        if let bearerToken { fields.append(text: "\r\nauthorization: Bearer \(bearerToken)") }
        fixedFields = fields
    }

    package func write(_ call: AdminCall, into out: inout [UInt8]) {
        let route = call.request.operation
        let method = call.isHead ? .head : Self.method(of: route)
        out.append(text: method.name)
        out.append(HTTPSyntax.space)
        Self.writeTarget(call.request, into: &out)
        if case .fleet(let request) = call.request {
            var separator = UInt8(ascii: request.query.isEmpty ? "?" : "&")
            if let cell = call.cell { Self.write("cell", Array(cell.utf8), &separator, &out) }
            if let plan = call.plan { Self.write("plan", Array(plan.utf8), &separator, &out) }
        }
        out.append(contentsOf: fixedFields)
        var key = call.idempotencyKey
        if case .write(_, let command) = call.request, key == nil, command.client.rawValue != 0 {
            key = .session(
                command.client, sequence: command.sequence, acknowledged: command.acknowledged, born: command.born)
        }
        if let key {
            out.append(text: "\r\nidempotency-key: ")
            key.write(into: &out)
        }
        if case .fleet(let request) = call.request {
            if let generation = request.generation { out.append(text: "\r\nif-match: \"\(generation)\"") }
            if request.asksForEvents {
                out.append(text: "\r\naccept: \(MediaType.events.name)")
            }
        }
        writeBody(call.request, method, &out)
    }

    package func write(_ request: RawRequest, into out: inout [UInt8]) {
        out.append(text: request.method.name)
        out.append(HTTPSyntax.space)
        for part in request.path {
            out.append(UInt8(ascii: "/"))
            PercentCoding.encode(Array(part.utf8), keepsSlashes: false, into: &out)
        }
        var separator = UInt8(ascii: "?")
        for (name, value) in request.query {
            out.append(separator)
            out.append(text: name)
            out.append(UInt8(ascii: "="))
            PercentCoding.encode(Array(value.utf8), keepsSlashes: false, into: &out)
            separator = UInt8(ascii: "&")
        }
        out.append(contentsOf: fixedFields)
        if let key = request.idempotencyKey {
            out.append(text: "\r\nidempotency-key: ")
            key.write(into: &out)
        }
        if let generation = request.ifMatch {
            out.append(text: "\r\nif-match: \"")
            out.append(decimal: generation)
            out.append(UInt8(ascii: "\""))
        }
        let body = request.body?.bytes ?? []
        if request.body != nil { out.append(text: "\r\ncontent-type: application/json") }
        if request.method == .put || request.method == .post {
            out.append(text: "\r\ncontent-length: ")
            out.append(decimal: UInt64(body.count))
        }
        out.append(text: "\r\n\r\n")
        out.append(contentsOf: body)
    }

    private func writeBody(_ request: AdminRequest, _ method: HTTPMethod, _ out: inout [UInt8]) {
        var body: [UInt8] = []
        if let members = Self.members(of: request) {
            out.append(text: "\r\ncontent-type: application/json")
            body = JSONValue.object(members).bytes
        } else if case .write(_, let command) = request {
            switch command.operation {
            case .put(_, let value), .compareAndSet(_, _, let value): body = value
            default: break
            }
        }
        if method == .put || method == .post {
            out.append(text: "\r\ncontent-length: ")
            out.append(decimal: UInt64(body.count))
        }
        out.append(text: "\r\n\r\n")
        out.append(contentsOf: body)
    }

    private static func method(of operation: Operation) -> HTTPMethod {
        switch operation {
        case .putKey: .put
        case .getKey, .listKeys: .get
        case .deleteKey: .delete
        default: Route.all.first { $0.operation == operation }?.method ?? .get
        }
    }

    private static func members(of request: AdminRequest) -> [JSONMember]? {
        switch request {
        case .write(_, let command):
            switch command.operation {
            case .acquire(_, let owner, let lease):
                LockWish(owner: owner, leaseMillis: lease.milliseconds).members
            case .release(_, let owner, let token): LockRelease(owner: owner, token: token?.rawValue).members
            default: nil
            }
        case .createSpace(let body): body.members
        case .moveSpace(_, let body): body.members
        case .join(let body): body.members
        case .assignHost(_, let body): body.members
        case .createCell(let body): body.members
        case .planRegion(_, let body): body.members
        case .setLatency(_, let body): body.members
        case .planHosts(_, let body): body.members
        case .createToken(let body): body.members
        case .transferLeadership(let body): body.members
        case .rotateCertificates(let body): body.members
        case .renewCertificate(let body): body.members
        case .finalizeUpgrade(let body): body.members
        case .setBackupSchedule(_, let body): body.members
        case .changeSetting(_, let body): body.members
        case .recover(let body): body.members
        case .fleet(let request): request.members
        default: nil
        }
    }

    /// The path and the query.
    static func writeTarget(_ request: AdminRequest, into out: inout [UInt8]) {
        switch request {
        case .write(let space, let command):
            var isFirst = true
            switch command.operation {
            case .put(let key, _): writeKey(space, key, &out)
            case .compareAndSet(let key, let expected, _):
                isFirst = false
                writeKey(space, key, &out)
                switch expected {
                case .absent: out.append(text: "?prev-revision=0")
                case .revision(let revision):
                    out.append(text: "?prev-revision=")
                    ResponseWriter.append(revision, &out)
                case .value(let value):
                    out.append(text: "?prev-value=")
                    Base64.encodeForURL(value, into: &out)
                }
            case .delete(let key, let revision):
                writeKey(space, key, &out)
                if let revision {
                    isFirst = false
                    out.append(text: "?prev-revision=")
                    ResponseWriter.append(revision, &out)
                }
            case .compareAndDelete(let key, let expected):
                isFirst = false
                writeKey(space, key, &out)
                out.append(text: "?prev-value=")
                Base64.encodeForURL(expected, into: &out)
            case .acquire, .release: return writeTablePath(request, &out)
            case .end, .expire: preconditionFailure("the end of a space or of a lease is no client's request")
            }
            if let fence = command.fence {
                var separator = UInt8(ascii: isFirst ? "?" : "&")
                write("fence", Array(fence.text.utf8), &separator, &out)
            }
        case .read(let space, let key, let mode):
            writeKey(space, key, &out)
            var separator = UInt8(ascii: "?")
            write(mode, &separator, &out)
        case .list(let space, let prefix, let after, let limit, let mode):
            writeSpace(space, &out)
            var separator = UInt8(ascii: "?")
            if !prefix.isEmpty { write("prefix", prefix, &separator, &out) }
            if let after { write("after", after, &separator, &out) }
            if limit != SpaceLimits.answerCountMax { write("limit", Array("\(limit)".utf8), &separator, &out) }
            write(mode, &separator, &out)
        case .watch(let space, let prefix, let from):
            writeSpace(space, &out)
            out.append(text: "?watch=1")
            var separator = UInt8(ascii: "&")
            if !prefix.isEmpty { write("prefix", prefix, &separator, &out) }
            if let from { write("from", Array(from.description.utf8), &separator, &out) }
        default: writeTablePath(request, &out)
        }
    }

    private static func writeKey(_ space: String, _ key: [UInt8], _ out: inout [UInt8]) {
        writeSpace(space, &out)
        out.append(UInt8(ascii: "/"))
        PercentCoding.encode(key, keepsSlashes: true, into: &out)
    }

    private static func writeSpace(_ space: String, _ out: inout [UInt8]) {
        out.append(text: "/v1/kv/")
        PercentCoding.encode(space.utf8, keepsSlashes: false, into: &out)
    }

    private static func write(_ mode: ReadMode, _ separator: inout UInt8, _ out: inout [UInt8]) {
        if case .stale(let within) = mode {
            write("stale", Array("\(within.milliseconds)ms".utf8), &separator, &out)
        }
    }

    private static func write(_ name: String, _ value: [UInt8], _ separator: inout UInt8, _ out: inout [UInt8]) {
        out.append(separator)
        out.append(text: name)
        out.append(UInt8(ascii: "="))
        PercentCoding.encode(value, keepsSlashes: true, into: &out)
        separator = UInt8(ascii: "&")
    }

    private static func writeTablePath(_ request: AdminRequest, _ out: inout [UInt8]) {
        var name = ""
        var second = ""
        switch request {
        case .write(let space, let command):
            name = space
            switch command.operation {
            case .acquire(let lock, _, _), .release(let lock, _, _): second = lock
            default: break
            }
        case .lock(let space, let lock, _): (name, second) = (space, lock)
        case .locks(let space, _, _, _, _): name = space
        case .space(let space), .deleteSpace(let space, _), .moveSpace(let space, _): name = space
        case .node(let node), .removeNode(let node, _), .promoteNode(let node), .demoteNode(let node),
            .assignHost(let node, _):
            name = node
        case .cell(let cell), .retireCell(let cell), .planHosts(let cell, _): name = cell
        case .region(let region), .declareRegion(let region, _), .planRegion(let region, _),
            .setLatency(let region, _):
            name = region
        case .revokeToken(let token): name = token
        case .changeSetting(let setting, _): name = setting
        case .copyGroup(let group): name = "\(group)"
        case .setBackupSchedule(let schedule, _), .removeBackupSchedule(let schedule): name = schedule
        case .fleet(let request): name = request.pathName
        default: break
        }
        let path = Route.all.first { $0.operation == request.operation }?.path ?? "/"
        for part in path.split(separator: "/") {
            out.append(UInt8(ascii: "/"))
            if part.hasPrefix("{") {
                PercentCoding.encode(name.utf8, keepsSlashes: false, into: &out)
                name = second
            } else {
                out.append(text: String(part))
            }
        }
        switch request {
        case .removeNode(_, isForced: true), .deleteSpace(_, isForced: true): out.append(text: "?force=1")
        default: break
        }
        if case .locks(_, let prefix, let after, let limit, let mode) = request {
            var separator = UInt8(ascii: "?")
            if !prefix.isEmpty { write("prefix", Array(prefix.utf8), &separator, &out) }
            if let after { write("after", Array(after.utf8), &separator, &out) }
            if limit != SpaceLimits.answerCountMax { write("limit", Array("\(limit)".utf8), &separator, &out) }
            write(mode, &separator, &out)
        }
        switch request {
        case .nodes(let mode), .lock(_, _, let mode):
            var separator = UInt8(ascii: "?")
            write(mode, &separator, &out)
        default: break
        }
        if case .fleet(let request) = request {
            var separator = UInt8(ascii: "?")
            for (name, value) in request.query { write(name, Array(value.utf8), &separator, &out) }
        }
    }
}
