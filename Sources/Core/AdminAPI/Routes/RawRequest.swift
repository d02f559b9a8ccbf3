/// A request as it goes over the wire, for clients that need no more than that.
package struct RawRequest: Sendable {
    package var method: HTTPMethod
    /// The path's parts, as they are before they are coded.
    package var path: [String]
    package var query: [(name: String, value: String)]
    package var body: JSONValue?
    package var idempotencyKey: IdempotencyKey?
    /// Only if this is still the generation of what is changed.
    package var ifMatch: UInt64?
    /// The answer is a stream.
    package var isStream: Bool

    package init(
        _ method: HTTPMethod, _ path: [String], query: [(name: String, value: String)] = [], body: JSONValue? = nil,
        ifMatch: UInt64? = nil, isStream: Bool = false
    ) {
        self.method = method
        self.path = path
        self.query = query
        self.body = body
        self.ifMatch = ifMatch
        self.isStream = isStream
    }
}
