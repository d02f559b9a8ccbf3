/// Why bytes are no request. The connection ends with the answer, since nobody knows where the next request would begin.
package enum RequestFault: Error, Hashable, Sendable, CaseIterable {
    case bareLineFeed
    case requestLineMalformed
    case requestLineTooLong
    case methodUnknown
    case targetMalformed
    case versionUnsupported
    case headTooLarge
    case tooManyHeaders
    case headerFolded
    case headerNameMalformed
    case headerValueMalformed
    case headerRepeated
    case hostMissing
    case lengthMalformed
    case lengthRepeated
    case lengthAndEncoding
    case encodingUnknown
    case encodingRepeated
    case encodingInOldVersion
    case expectationUnknown
    case bodyTooLarge
    /// Of the routes that take larger ones.
    case batchTooLarge
    case chunkMalformed
    case chunkLineTooLong
    case trailerTooLarge

    package var kind: Problem.Kind {
        switch self {
        case .requestLineTooLong: .targetTooLong
        case .methodUnknown, .encodingUnknown: .notImplemented
        case .versionUnsupported: .versionUnsupported
        case .headTooLarge, .tooManyHeaders, .trailerTooLarge: .headTooLarge
        case .bodyTooLarge, .batchTooLarge: .bodyTooLarge
        case .expectationUnknown: .expectationFailed
        default: .malformed
        }
    }

    /// What to do about it, in one sentence.
    package func detail(_ limits: AdminLimits) -> String {
        switch self {
        case .bareLineFeed: "a line ends with a line feed alone; end every line with CR LF"
        case .requestLineMalformed: "the first line is no request line; send `METHOD /path HTTP/1.1`"
        case .requestLineTooLong:
            "the request line is too long; keep it below \(limits.requestLineBytesMax) bytes, and compare by "
                + "prev-revision where the value is large"
        case .methodUnknown: "no route knows the method; use GET, HEAD, PUT, POST or DELETE"
        case .targetMalformed:
            "the request target is no path; begin it with / and percent-encode what is not printable ASCII"
        case .versionUnsupported: "only HTTP/1.1 and HTTP/1.0 are spoken here; send HTTP/1.1"
        case .headTooLarge: "the header is too large; send at most \(limits.headBytesMax) bytes of it"
        case .tooManyHeaders: "there are too many header fields; send at most \(limits.headerCountMax)"
        case .headerFolded: "a header field goes on in a second line; write each in one line"
        case .headerNameMalformed:
            "a header field has no proper name; write `Name: value` with no space before the colon"
        case .headerValueMalformed: "a header field's value holds a control character; leave it out"
        case .headerRepeated: "a header field that may occur once occurs twice; send it once"
        case .hostMissing: "the Host field is missing; HTTP/1.1 demands one"
        case .lengthMalformed: "Content-Length is no number; send its decimal digits only"
        case .lengthRepeated: "Content-Length occurs twice; send it once"
        case .lengthAndEncoding: "both Content-Length and Transfer-Encoding are given; send one of them"
        case .encodingUnknown: "the transfer encoding is unknown; use chunked and nothing else"
        case .encodingRepeated: "Transfer-Encoding occurs twice; send it once"
        case .encodingInOldVersion: "HTTP/1.0 has no transfer encodings; send Content-Length or use HTTP/1.1"
        case .expectationUnknown: "the expectation is unknown; 100-continue is the only one met here"
        case .bodyTooLarge: "the body is too large; send at most \(limits.bodyBytesMax) bytes"
        case .batchTooLarge: "the body is too large; send at most \(limits.batchBodyBytesMax) bytes at once"
        case .chunkMalformed: "a chunk is malformed; send its size in hex, CR LF, the bytes and CR LF"
        case .chunkLineTooLong: "a chunk's size line is too long; send at most \(limits.chunkLineBytesMax) bytes"
        case .trailerTooLarge: "the trailer is too large; send at most \(limits.headBytesMax) bytes of it"
        }
    }
}
