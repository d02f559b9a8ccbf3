/// Why bytes are no response; the connection they came on is of no more use.
package enum ResponseFault: Error, Hashable, Sendable {
    case statusLineMalformed
    case headTooLarge
    case headerMalformed
    case lengthMalformed
    case encodingUnknown
    case chunkMalformed
    /// It ended in the middle of a response.
    case cutShort

    package var detail: String {
        switch self {
        case .statusLineMalformed: "the answer does not begin as HTTP/1.1; check that this is an admin port"
        case .headTooLarge: "the answer's header is too large; check that this is an admin port"
        case .headerMalformed: "the answer's header is malformed; check that this is an admin port"
        case .lengthMalformed: "the answer's length is malformed; check that this is an admin port"
        case .encodingUnknown: "the answer's transfer encoding is unknown; check that this is an admin port"
        case .chunkMalformed: "the answer's body is damaged; ask again"
        case .cutShort: "the connection ended in the middle of the answer; ask again"
        }
    }
}

/// The beginning of a response, with places in the parser's bytes. Valid until the parser's next step.
package struct ResponseHead: Hashable, Sendable {
    package internal(set) var status = 0
    /// The header fields, with their line ends.
    package internal(set) var fields = ByteRange.none
    /// How long the body is, where that was said.
    package internal(set) var length: Int?
    package internal(set) var isChunked = false
    /// The connection ends with this response.
    package internal(set) var closes = false
}

/// Takes the bytes of responses as they come and gives heads, pieces of bodies and ends.
package struct ResponseParser: Sendable {
    package enum Step: Hashable, Sendable {
        case needsMore
        case head(ResponseHead)
        /// The next bytes of the body, at most what has arrived.
        case body(ByteRange)
        case end
        case fault(ResponseFault)
    }

    private enum Phase {
        case line, headers
        case body(remaining: Int)
        case untilEnd
        case chunkSize, chunkEnd, trailer
        case chunkData(remaining: Int)
        case done
        case failed(ResponseFault)
    }

    @usableFromInline var storage: [UInt8] = []
    /// Where the bytes that are not consumed begin. A head and a piece of a body are consumed by the step after them.
    @usableFromInline var start = 0
    private var position = 0
    private var scanned = 0
    private var phase = Phase.line
    private var head = ResponseHead()
    private let headBytesMax: Int
    /// The next response answers a HEAD request: whatever its header says, no body follows.
    private var hasNoBody = false

    package init(limits: AdminLimits = .standard) { headBytesMax = limits.headBytesMax }

    @inlinable package mutating func append(contentsOf bytes: some Collection<UInt8>) {
        if start > 0 { closeUp() }
        storage.append(contentsOf: bytes)
    }

    /// The same for what a connection reads. Not generic: that would be compiled for no collection in particular.
    package mutating func append(contentsOf bytes: ArraySlice<UInt8>) {
        if start > 0 { closeUp() }
        storage.append(contentsOf: bytes)
    }

    @usableFromInline mutating func closeUp() {
        if start == storage.count {
            storage.removeAll(keepingCapacity: storage.capacity <= 256 << 10)
            start = 0
        } else if start >= 16 << 10 {
            storage.removeSubrange(..<start)
            start = 0
        }
    }

    /// Says before a response that it will have no body.
    package mutating func expectNoBody() { hasNoBody = true }

    /// A response is under way.
    package var isMidResponse: Bool { if case .line = phase { storage.count > start } else { true } }

    /// The other side ended the connection. For a body without a length that is its end.
    package mutating func finish() -> Step {
        switch phase {
        case .untilEnd:
            phase = .done
            return .end
        case .failed(let fault): return .fault(fault)
        default: return .fault(.cutShort)
        }
    }

    package mutating func next() -> Step {
        while true {
            start += position
            scanned = max(0, scanned - position)
            position = 0
            switch phase {
            case .done:
                phase = .line
                scanned = 0
            case .failed(let fault): return .fault(fault)
            case .line, .headers:
                guard let step = nextHead() else { continue }
                return step
            case .body(0):
                phase = .done
                return .end
            case .body(let remaining):
                let here = min(remaining, storage.count - start)
                if here == 0 { return .needsMore }
                phase = .body(remaining: remaining - here)
                position = here
                return .body(ByteRange(0, here))
            case .untilEnd:
                let here = storage.count - start
                if here == 0 { return .needsMore }
                position = here
                return .body(ByteRange(0, here))
            case .chunkSize, .chunkEnd, .trailer, .chunkData:
                guard let step = nextChunk() else { continue }
                return step
            }
        }
    }

    private mutating func fail(_ fault: ResponseFault) -> Step {
        phase = .failed(fault)
        return .fault(fault)
    }

    private mutating func lineFeed(from: Int) -> Int? {
        let at =
            HTTPSyntax.lineFeed(
                in: storage.span, from: start + max(scanned, from), to: storage.count) - start
        scanned = at
        return at < storage.count - start ? at : nil
    }

    /// The whole head at once, when its empty line is there.
    private mutating func nextHead() -> Step? {
        if case .line = phase {
            head = ResponseHead()
            phase = .headers
        }
        var line = 0
        while true {
            guard let feed = lineFeed(from: line) else {
                // Begin again at the first line when more is there; only the search for its end goes on where it was.
                if storage.count - start >= headBytesMax { return fail(.headTooLarge) }
                return .needsMore
            }
            if feed >= headBytesMax { return fail(.headTooLarge) }
            if endsHead(feed) { return readHead(through: feed) }
            line = feed + 1
            scanned = line
        }
    }

    private func endsHead(_ feed: Int) -> Bool {
        let at = start + feed
        return feed >= 3 && storage[at - 1] == HTTPSyntax.carriageReturn && storage[at - 2] == HTTPSyntax.lineFeed
    }

    private mutating func readHead(through feed: Int) -> Step? {
        var found = head
        let fault = Self.readHead(storage.span, start, through: feed, &found)
        head = found
        position = feed + 1
        scanned = position
        if let fault { return fail(fault) }
        if head.status >= 100 && head.status < 200 {
            phase = .line
            return nil
        }
        if hasNoBody || head.status == 204 || head.status == 304 {
            hasNoBody = false
            phase = .body(remaining: 0)
        } else if head.isChunked {
            phase = .chunkSize
        } else if let length = head.length {
            phase = .body(remaining: length)
        } else {
            head.closes = true
            phase = .untilEnd
        }
        return .head(head)
    }

    private static func readHead(
        _ bytes: Span<UInt8>, _ start: Int, through feed: Int, _ head: inout ResponseHead
    ) -> ResponseFault? {
        let end = start + feed - 1
        // HTTP/1.x SP digit digit digit
        if end - start < 12 || !HTTPSyntax.matches(bytes, start, start + 7, Name.version) {
            return .statusLineMalformed
        }
        guard bytes[start + 8] == HTTPSyntax.space, let status = HTTPSyntax.decimal(bytes, start + 9, start + 12),
            status >= 100
        else { return .statusLineMalformed }
        head.status = status
        head.closes = bytes[start + 7] != UInt8(ascii: "1")
        var at = start
        while bytes[at] != HTTPSyntax.lineFeed { at += 1 }
        at += 1
        head.fields = ByteRange(at - start, end - start)
        while at < end {
            var lineEnd = at
            while bytes[lineEnd] != HTTPSyntax.lineFeed { lineEnd += 1 }
            if let fault = readField(bytes, at, lineEnd - 1, &head) { return fault }
            at = lineEnd + 1
        }
        return nil
    }

    private static func readField(
        _ bytes: Span<UInt8>, _ lower: Int, _ upper: Int, _ head: inout ResponseHead
    ) -> ResponseFault? {
        if upper < lower || bytes[upper] != HTTPSyntax.carriageReturn { return .headerMalformed }
        var colon = lower
        while colon < upper && HTTPSyntax.isToken(bytes[colon]) { colon += 1 }
        if colon == lower || colon == upper || bytes[colon] != HTTPSyntax.colon { return .headerMalformed }
        var from = colon + 1
        var to = upper
        while from < to && HTTPSyntax.isBlank(bytes[from]) { from += 1 }
        while to > from && HTTPSyntax.isBlank(bytes[to - 1]) { to -= 1 }
        switch colon - lower {
        case 10 where HTTPSyntax.matches(bytes, lower, colon, HTTPSyntax.Name.connection):
            if RequestParser.lists(bytes, from, to, HTTPSyntax.Name.close) { head.closes = true }
        case 14 where HTTPSyntax.matches(bytes, lower, colon, HTTPSyntax.Name.contentLength):
            guard head.length == nil, let length = HTTPSyntax.decimal(bytes, from, to) else { return .lengthMalformed }
            head.length = length
        case 17 where HTTPSyntax.matches(bytes, lower, colon, HTTPSyntax.Name.transferEncoding):
            if !HTTPSyntax.matches(bytes, from, to, HTTPSyntax.Name.chunked) { return .encodingUnknown }
            head.isChunked = true
        default: break
        }
        return head.isChunked && head.length != nil ? .lengthMalformed : nil
    }

    private mutating func nextChunk() -> Step? {
        switch phase {
        case .chunkSize:
            guard let feed = lineFeed(from: 0) else {
                return storage.count - start > 256 ? fail(.chunkMalformed) : .needsMore
            }
            guard let size = RequestParser.chunkSize(storage.span, start, start + feed) else {
                return fail(.chunkMalformed)
            }
            position = feed + 1
            scanned = position
            phase = size == 0 ? .trailer : .chunkData(remaining: size)
            return nil
        case .chunkData(let remaining):
            let here = min(remaining, storage.count - start)
            if here == 0 { return .needsMore }
            position = here
            scanned = 0
            phase = here == remaining ? .chunkEnd : .chunkData(remaining: remaining - here)
            return .body(ByteRange(0, here))
        case .chunkEnd:
            if storage.count - start < 2 { return .needsMore }
            if storage[start] != HTTPSyntax.carriageReturn || storage[start + 1] != HTTPSyntax.lineFeed {
                return fail(.chunkMalformed)
            }
            position = 2
            scanned = 2
            phase = .chunkSize
            return nil
        default:
            guard let feed = lineFeed(from: 0) else {
                return storage.count - start > headBytesMax ? fail(.headTooLarge) : .needsMore
            }
            let isEmpty = feed == 1 && storage[start] == HTTPSyntax.carriageReturn
            position = feed + 1
            scanned = position
            if !isEmpty { return nil }
            phase = .done
            return .end
        }
    }

    /// The bytes of a range of the last step.
    package func bytes(_ range: ByteRange) -> ArraySlice<UInt8> { storage[start + range.start..<start + range.end] }

    /// The value of a header field; `name` is in lower case.
    package func value(of name: String, in head: ResponseHead) -> String? {
        let wanted = Array(name.utf8)
        let bytes = storage.span
        var at = start + head.fields.start
        let end = start + head.fields.end
        while at < end {
            var lineEnd = at
            while lineEnd < end && bytes[lineEnd] != HTTPSyntax.carriageReturn { lineEnd += 1 }
            var colon = at
            while colon < lineEnd && bytes[colon] != HTTPSyntax.colon { colon += 1 }
            if HTTPSyntax.matches(bytes, at, colon, wanted) {
                var from = colon + 1
                var to = lineEnd
                while from < to && HTTPSyntax.isBlank(bytes[from]) { from += 1 }
                while to > from && HTTPSyntax.isBlank(bytes[to - 1]) { to -= 1 }
                return String(decoding: storage[from..<to], as: UTF8.self)
            }
            at = lineEnd + 2
        }
        return nil
    }

    private enum Name {
        static let version = Array("http/1.".utf8)
    }
}
