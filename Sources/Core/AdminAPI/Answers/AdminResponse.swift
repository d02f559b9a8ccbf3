public import ClusterBase
public import FleetModel

/// What a body is.
public enum MediaType: UInt8, Hashable, Sendable {
    case none, bytes, json, jsonLines, problem, metrics, text

    public var name: String {
        switch self {
        case .none: ""
        case .bytes: "application/octet-stream"
        case .json: "application/json"
        case .jsonLines: "application/jsonl"
        case .problem: "application/problem+json"
        case .metrics: "text/plain; version=0.0.4; charset=utf-8"
        case .text: "text/plain; charset=utf-8"
        }
    }
}

/// One answer: a status, a few header fields and a body, or the beginning of a stream.
public struct AdminResponse: Hashable, Sendable {
    public enum Body: Hashable, Sendable {
        case bytes([UInt8])
        /// The body of a write's answer, made while it is written.
        case written(Revision, version: UInt64)
        /// Pieces follow until the stream is ended.
        case stream
    }

    public var status: Int
    public var media: MediaType
    public var body: Body
    /// `Muster-Index`: the log index of the state that answered, in the group that was asked.
    public var index: LogIndex?
    /// `Muster-Revision`: of the change or of the key's last one.
    public var revision: Revision?
    /// `Muster-Version`: how often the key was written since it was created; 0 leaves it out.
    public var version: UInt64
    /// `Muster-Age`: how old a stale answer may be.
    public var age: Nanoseconds?
    /// `Retry-After` in seconds; 0 leaves it out.
    public var retryAfterSeconds: Int
    /// `Allow`, for 405.
    public var allow: [HTTPMethod]
    /// The connection ends with this answer.
    public var closes: Bool

    public init(
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

    public init(_ problem: Problem) {
        self.init(status: problem.kind.status, .problem, .bytes(problem.json.bytes))
        if problem.kind.isWorthRetrying { retryAfterSeconds = 1 }
    }

    public init(json: JSONValue, status: Int = 200, index: LogIndex? = nil) {
        self.init(status: status, .json, .bytes(json.bytes), index: index)
    }

    /// The beginning of a stream.
    public static func stream(_ media: MediaType, index: LogIndex? = nil) -> AdminResponse {
        AdminResponse(media, .stream, index: index)
    }

    public var isStream: Bool { if case .stream = body { true } else { false } }
}
