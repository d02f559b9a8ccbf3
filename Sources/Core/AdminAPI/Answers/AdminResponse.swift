package import ClusterBase
package import FleetModel

/// What a body is.
package enum MediaType: UInt8, Hashable, Sendable {
    case none, bytes, json, jsonLines, events, problem, metrics, text

    package var name: String {
        switch self {
        case .none: ""
        case .bytes: "application/octet-stream"
        case .json: "application/json"
        case .jsonLines: "application/jsonl"
        case .events: "text/event-stream"
        case .problem: "application/problem+json"
        case .metrics: "text/plain; version=0.0.4; charset=utf-8"
        case .text: "text/plain; charset=utf-8"
        }
    }
}

/// One answer: a status, a few header fields and a body, or the beginning of a stream.
package struct AdminResponse: Hashable, Sendable {
    package enum Body: Hashable, Sendable {
        case bytes([UInt8])
        /// The body of a write's answer, made while it is written.
        case written(Revision, version: UInt64)
        /// Pieces follow until the stream is ended.
        case stream
    }

    package var status: Int
    package var media: MediaType
    package var body: Body
    /// `Muster-Index`: the log index of the state that answered, in the group that was asked.
    package var index: LogIndex?
    /// `Muster-Revision`: of the change or of the key's last one.
    package var revision: Revision?
    /// `Muster-Version`: how often the key was written since it was created; 0 leaves it out.
    package var version: UInt64
    /// `Muster-Age`: how old a stale answer may be.
    package var age: Nanoseconds?
    /// `Muster-Leader`: the node that answered for a cell, where another one was asked.
    package var leader = ""
    /// `Retry-After` in seconds; 0 leaves it out.
    package var retryAfterSeconds: Int
    /// `Allow`, for 405.
    package var allow: [HTTPMethod]
    /// The connection ends with this answer.
    package var closes: Bool

    package init(
        status: Int = 200, _ media: MediaType, _ body: Body, index: LogIndex? = nil, revision: Revision? = nil,
        version: UInt64 = 0, age: Nanoseconds? = nil
    ) {
        self.status = status
        self.media = media
        self.body = body
        self.index = index
        self.revision = revision
        self.version = version
        self.age = age
        retryAfterSeconds = 0
        allow = []
        closes = false
    }

    package init(_ problem: Problem) {
        self.init(status: problem.kind.status, .problem, .bytes(problem.json.bytes))
        if problem.kind.isWorthRetrying { retryAfterSeconds = 1 }
    }

    package init(json: JSONValue, status: Int = 200, index: LogIndex? = nil) {
        self.init(status: status, .json, .bytes(json.bytes), index: index)
    }

    /// The beginning of a stream.
    package static func stream(_ media: MediaType, index: LogIndex? = nil) -> AdminResponse {
        AdminResponse(media, .stream, index: index)
    }

    package var isStream: Bool { if case .stream = body { true } else { false } }
}
