/// An answer that says what is wrong and what to do (RFC 9457).
package struct Problem: Error, Hashable, Sendable {
    package enum Kind: String, Hashable, Sendable, CaseIterable {
        /// It does not fit what the OpenAPI document says.
        case malformed
        /// It fits, and makes no sense: parts of it contradict each other, or a bound is met that no schema can say.
        case invalid
        case unauthenticated
        case forbidden
        case routeUnknown = "route-unknown"
        case keyNotFound = "key-not-found"
        case spaceNotFound = "space-not-found"
        case notFound = "not-found"
        case methodNotAllowed = "method-not-allowed"
        case timeout
        case conflict
        /// It was done before, or it can't be told whether it was.
        case retryUnknown = "retry-unknown"
        case alreadyExists = "already-exists"
        case notPossible = "not-possible"
        case quotaExceeded = "quota-exceeded"
        /// `If-Match` named another generation.
        case generationChanged = "generation-changed"
        /// History that a watch wants to begin with is gone.
        case compacted
        case bodyTooLarge = "body-too-large"
        case targetTooLong = "target-too-long"
        case mediaTypeUnknown = "media-type-unknown"
        case expectationFailed = "expectation-failed"
        case misdirected
        case tooManyRequests = "too-many-requests"
        case headTooLarge = "head-too-large"
        case `internal`
        case notImplemented = "not-implemented"
        /// No leader, no quorum, or shutting down: nothing happened.
        case unavailable
        case overloaded
        /// It may have taken effect or not.
        case outcomeUnknown = "outcome-unknown"
        case versionUnsupported = "version-unsupported"
        case storageLow = "storage-low"

        /// What may be otherwise in a moment, by itself.
        package var mayPass: Bool {
            switch self {
            case .outcomeUnknown, .unavailable, .overloaded, .tooManyRequests: true
            default: false
            }
        }

        package var status: Int {
            switch self {
            case .malformed: 400
            case .unauthenticated: 401
            case .forbidden: 403
            case .routeUnknown, .keyNotFound, .spaceNotFound, .notFound: 404
            case .methodNotAllowed: 405
            case .timeout: 408
            case .conflict, .retryUnknown, .alreadyExists, .notPossible, .quotaExceeded: 409
            case .compacted: 410
            case .generationChanged: 412
            case .bodyTooLarge: 413
            case .targetTooLong: 414
            case .mediaTypeUnknown: 415
            case .expectationFailed: 417
            case .misdirected: 421
            case .invalid: 422
            case .tooManyRequests: 429
            case .headTooLarge: 431
            case .internal: 500
            case .notImplemented: 501
            case .unavailable, .overloaded: 503
            case .outcomeUnknown: 504
            case .versionUnsupported: 505
            case .storageLow: 507
            }
        }

        package var title: String {
            switch self {
            case .malformed: "The request is malformed"
            case .invalid: "The request makes no sense"
            case .unauthenticated: "Nobody knows who asks"
            case .forbidden: "This is not allowed"
            case .routeUnknown: "There is no such route"
            case .keyNotFound: "There is no such key"
            case .spaceNotFound: "There is no such space"
            case .notFound: "There is no such thing"
            case .methodNotAllowed: "The route has no such method"
            case .timeout: "The request took too long to arrive"
            case .conflict: "The key holds something else"
            case .retryUnknown: "The retry can't be judged"
            case .alreadyExists: "It exists already"
            case .notPossible: "This is not possible now"
            case .quotaExceeded: "The quota is used up"
            case .generationChanged: "It was changed meanwhile"
            case .compacted: "The history is gone"
            case .bodyTooLarge: "The body is too large"
            case .targetTooLong: "The request target is too long"
            case .mediaTypeUnknown: "The media type is unknown"
            case .expectationFailed: "The expectation can't be met"
            case .misdirected: "This is the wrong port"
            case .tooManyRequests: "There are too many requests"
            case .headTooLarge: "The header is too large"
            case .internal: "Something is wrong here"
            case .notImplemented: "This is unknown here"
            case .unavailable: "The cluster can't answer now"
            case .overloaded: "A bound is reached"
            case .outcomeUnknown: "The outcome is unknown"
            case .versionUnsupported: "The HTTP version is unknown"
            case .storageLow: "The disk is nearly full"
            }
        }

        /// The URI that names the kind.
        package var type: String { "urn:muster:problem:\(rawValue)" }

        /// The same request may succeed later, unchanged, without a risk of taking effect twice.
        package var isWorthRetrying: Bool {
            switch self {
            case .tooManyRequests, .unavailable, .overloaded, .storageLow: true
            default: false
            }
        }
    }

    package var kind: Kind
    /// One sentence that says what to do.
    package var detail: String
    /// The path of the request it is about.
    package var instance: String
    /// More members, such as the revision that a conflict met.
    package var members: [JSONMember]

    package init(_ kind: Kind, _ detail: String, instance: String = "", members: [JSONMember] = []) {
        self.kind = kind
        self.detail = detail
        self.instance = instance
        self.members = members
    }

    /// About one member of the body or one parameter; an empty field is left out.
    package init(_ kind: Kind, _ detail: String, field: String) {
        self.init(kind, detail, members: field.isEmpty ? [] : [JSONMember("field", .string(field))])
    }

    /// The member or parameter that it is about.
    package var field: String? { members.first { $0.name == "field" }?.value.text }

    /// The same of a dry run, which borrows nothing of a quota from other cells.
    package func ofDryRun(overCells count: Int) -> Problem {
        guard kind == .quotaExceeded, count > 1 else { return self }
        var problem = self
        problem.detail +=
            "; only this cell's part was looked at: the change itself asks other cells for what they do not use"
        return problem
    }

    /// The same about a member of this one, such as an item of a batch.
    package func inside(_ place: String) -> Problem {
        var problem = self
        problem.members = members.map { member in
            guard member.name == "field", let field = member.value.text else { return member }
            return JSONMember("field", .string("\(place).\(field)"))
        }
        return problem
    }

    package init(_ fault: RequestFault, limits: AdminLimits) {
        self.init(fault.kind, fault.detail(limits))
    }

    /// The members of the document, without those that are empty.
    package var json: JSONValue {
        var all = [
            JSONMember("type", .string(kind.type)), JSONMember("title", .string(kind.title)),
            JSONMember("status", .integer(Int64(kind.status))), JSONMember("detail", .string(detail)),
        ]
        if !instance.isEmpty { all.append(JSONMember("instance", .string(instance))) }
        return .object(all + members)
    }

    /// What `json` wrote, or a problem that says that this is none.
    package init(_ json: JSONValue, status: Int) {
        let type = json["type"]?.text ?? ""
        let kind = Kind.allCases.first { $0.type == type }
        self.init(
            kind ?? .internal, json["detail"]?.text ?? "the answer has status \(status) and no problem document",
            instance: json["instance"]?.text ?? "")
        let known = ["type", "title", "status", "detail", "instance"]
        members = (json.members ?? []).filter { !known.contains($0.name) }
    }
}
