/// What a parser found in one request, as places in its bytes. Valid until the parser's next step.
public struct RequestHead: Hashable, Sendable {
    public internal(set) var method = HTTPMethod.get
    /// HTTP/1.0, whose connections end after one answer here.
    public internal(set) var isOldVersion = false
    /// The path, still percent-encoded, without the query.
    public internal(set) var path = ByteRange.none
    /// What follows the question mark.
    public internal(set) var query = ByteRange.none
    public internal(set) var authorization = ByteRange.none
    public internal(set) var idempotencyKey = ByteRange.none
    public internal(set) var contentType = ByteRange.none
    public internal(set) var body = ByteRange.none
    /// The client ends the connection after this request, or can't keep it.
    public internal(set) var closes = false

    var length = -1
    var isChunked = false
    var hasHost = false
    var expectsContinue = false
    var headerCount = 0
}

/// Takes bytes as they come and gives requests, one at a time, in place.
///
///     line ──CR LF──▶ header ──CR LF──▶ header … ──empty──▶ body of known length ──▶ request
///                                          │                                           ▲
///                                          └──▶ chunk size ──▶ chunk data ──▶ trailer ─┘
///                     any of them ──▶ failed, for good
///
/// Strict where leniency lets two readers see two requests: lines end with CR LF only, no folded fields, no space before a
/// colon, one Content-Length of digits, never beside Transfer-Encoding, which is `chunked` or refused. How the input
/// is cut into pieces changes nothing about what is found.
public struct RequestParser: Sendable {
    public enum Step: Hashable, Sendable {
        case needsMore
        /// The client waits for `100 Continue` before it sends its body.
        case expectsContinue
        case request(RequestHead)
        case fault(RequestFault)
    }

    private enum Phase {
        case line
        case headers
        case body
        case chunkSize
        case chunkData(remaining: Int)
        case chunkEnd
        case trailer
        case done
        case failed(RequestFault)
    }

    /// Everything that was appended and is not consumed; the message under way begins at `start`.
    @usableFromInline var storage: [UInt8] = []
    @usableFromInline var start = 0
    private let limits: AdminLimits
    private var phase = Phase.line
    private var head = RequestHead()
    /// From `start`: where the current line or chunk begins, and below what no line feed is.
    private var position = 0
    private var scanned = 0
    private var trailerStart = 0
    private var saidContinue = false

    public init(limits: AdminLimits = .standard) { self.limits = limits }

    /// Bytes held for the request under way and those behind it.
    @inlinable public var heldBytes: Int { storage.count - start }

    /// A request has begun and is not complete: its sender owes us bytes.
    public var isMidRequest: Bool {
        if case .done = phase { return false }
        return heldBytes > 0
    }

    /// The head is there, and bytes of the body are missing.
    public var isInBody: Bool {
        switch phase {
        case .body, .chunkSize, .chunkData, .chunkEnd, .trailer: true
        case .line, .headers, .done, .failed: false
        }
    }

    /// Adds what has arrived. Ranges of the last request stay valid.
    @inlinable public mutating func append(contentsOf bytes: some Collection<UInt8>) {
        if start > 0 { closeUp() }
        storage.append(contentsOf: bytes)
    }

    @usableFromInline mutating func closeUp() {
        if start == storage.count {
            // One large value must not hold its megabyte for the life of an idle connection.
            storage.removeAll(keepingCapacity: storage.capacity <= 128 << 10)
            start = 0
        } else if start >= 16 << 10 {
            storage.removeSubrange(..<start)
            start = 0
        }
    }

    /// The next request, as far as the bytes reach. The last one's ranges are void after this.
    public mutating func next() -> Step {
        while true {
            switch phase {
            case .done: finish()
            case .failed(let fault): return .fault(fault)
            case .line, .headers:
                guard let step = nextLine() else { continue }
                return step
            case .body:
                if heldBytes < head.body.start + head.length {
                    if head.expectsContinue && !saidContinue && heldBytes == head.body.start {
                        saidContinue = true
                        return .expectsContinue
                    }
                    return .needsMore
                }
                position = head.body.end
                phase = .done
                return .request(head)
            case .chunkSize, .chunkData, .chunkEnd, .trailer:
                guard let step = nextChunk() else { continue }
                return step
            }
        }
    }

    private mutating func finish() {
        start += position
        position = 0
        scanned = 0
        saidContinue = false
        head = RequestHead()
        phase = .line
    }

    private mutating func fail(_ fault: RequestFault) -> Step {
        phase = .failed(fault)
        return .fault(fault)
    }

    /// From `start`: the next line feed at or after `position`, remembering what was looked through.
    private mutating func lineFeed() -> Int? {
        let at = HTTPSyntax.lineFeed(in: storage.span, from: start + max(scanned, position)) - start
        scanned = at
        return at < heldBytes ? at : nil
    }

    private mutating func nextLine() -> Step? {
        let isFirst = if case .line = phase { true } else { false }
        let most = isFirst ? limits.requestLineBytesMax : limits.headBytesMax
        guard let feed = lineFeed() else {
            if heldBytes >= most { return fail(isFirst ? .requestLineTooLong : .headTooLarge) }
            return .needsMore
        }
        if feed >= most { return fail(isFirst ? .requestLineTooLong : .headTooLarge) }
        let line = (from: position, to: feed - 1)
        if line.to < line.from || storage[start + line.to] != HTTPSyntax.carriageReturn { return fail(.bareLineFeed) }
        position = feed + 1
        scanned = position
        if isFirst {
            // RFC 9112 2.2: one empty line before a request is passed over.
            if line.from == 0 && line.to == 0 { return nil }
            if let fault = parseRequestLine(line.from, line.to) { return fail(fault) }
            phase = .headers
            return nil
        }
        if line.from == line.to { return endOfHead() }
        if head.headerCount == limits.headerCountMax { return fail(.tooManyHeaders) }
        head.headerCount += 1
        if let fault = parseHeader(line.from, line.to) { return fail(fault) }
        return nil
    }

    private mutating func endOfHead() -> Step? {
        if !head.hasHost && !head.isOldVersion { return fail(.hostMissing) }
        if head.isChunked {
            if head.length >= 0 { return fail(.lengthAndEncoding) }
            if head.isOldVersion { return fail(.encodingInOldVersion) }
            head.body = ByteRange(position, position)
            phase = .chunkSize
            if head.expectsContinue && heldBytes == position { return .expectsContinue }
            return nil
        }
        if head.length <= 0 {
            head.body = ByteRange(position, position)
            phase = .done
            return .request(head)
        }
        if head.length > limits.bodyBytesMax { return fail(.bodyTooLarge) }
        head.body = ByteRange(position, position + head.length)
        phase = .body
        return nil
    }

    // MARK: Lines

    private mutating func parseRequestLine(_ from: Int, _ to: Int) -> RequestFault? {
        var found = head
        let fault = Self.parseRequestLine(storage.span, start, from, to, &found)
        head = found
        return fault
    }

    private static func parseRequestLine(
        _ bytes: Span<UInt8>, _ start: Int, _ from: Int, _ to: Int, _ head: inout RequestHead
    ) -> RequestFault? {
        var at = start + from
        let end = start + to
        let name = at
        while at < end && HTTPSyntax.isToken(bytes[at]) { at += 1 }
        if at == name || at == end || bytes[at] != HTTPSyntax.space { return .requestLineMalformed }
        let method = Self.method(bytes, name, at)
        at += 1
        let target = at
        var question = -1
        while at < end && bytes[at] > HTTPSyntax.space && bytes[at] < 0x7F {
            if bytes[at] == UInt8(ascii: "#") { return .targetMalformed }
            if bytes[at] == UInt8(ascii: "?") && question < 0 { question = at }
            at += 1
        }
        if at == end { return .requestLineMalformed }
        if bytes[at] != HTTPSyntax.space { return .targetMalformed }
        if at == target { return .requestLineMalformed }
        if let fault = version(bytes, at + 1, end, &head) { return fault }
        guard let method else { return .methodUnknown }
        head.method = method
        let pathEnd = question < 0 ? at : question
        guard let path = pathStart(bytes, target, pathEnd) else { return .targetMalformed }
        head.path = ByteRange(path - start, pathEnd - start)
        if question >= 0 { head.query = ByteRange(question + 1 - start, at - start) }
        return nil
    }

    private static func method(_ bytes: Span<UInt8>, _ lower: Int, _ upper: Int) -> HTTPMethod? {
        var word: UInt64 = 0
        if upper - lower > 7 { return nil }
        for i in lower..<upper { word = word << 8 | UInt64(bytes[i]) }
        return switch word {
        case 0x474554: .get
        case 0x505554: .put
        case 0x4845_4144: .head
        case 0x504F_5354: .post
        case 0x4445_4C45_5445: .delete
        default: nil
        }
    }

    private static func version(
        _ bytes: Span<UInt8>, _ lower: Int, _ upper: Int, _ head: inout RequestHead
    ) -> RequestFault? {
        if upper - lower != 8 { return .requestLineMalformed }
        var word: UInt64 = 0
        for i in lower..<upper { word = word << 8 | UInt64(bytes[i]) }
        switch word {
        case 0x4854_5450_2F31_2E31: return nil
        case 0x4854_5450_2F31_2E30:
            head.isOldVersion = true
            head.closes = true
            return nil
        default: return word >> 24 == 0x48_5454_502F ? .versionUnsupported : .requestLineMalformed
        }
    }

    /// Where the path of a target begins: at once, or behind the authority of an absolute one.
    private static func pathStart(_ bytes: Span<UInt8>, _ lower: Int, _ upper: Int) -> Int? {
        if lower == upper { return nil }
        if bytes[lower] == UInt8(ascii: "/") { return lower }
        for scheme in [HTTPSyntax.Scheme.https, HTTPSyntax.Scheme.http] where upper - lower > scheme.count {
            if HTTPSyntax.matches(bytes, lower, lower + scheme.count, scheme) {
                var at = lower + scheme.count
                while at < upper && bytes[at] != UInt8(ascii: "/") { at += 1 }
                return at < upper && at > lower + scheme.count ? at : nil
            }
        }
        return nil
    }

    private mutating func parseHeader(_ from: Int, _ to: Int) -> RequestFault? {
        var found = head
        let fault = Self.parseHeader(storage.span, start, from, to, &found)
        head = found
        return fault
    }

    private static func parseHeader(
        _ bytes: Span<UInt8>, _ start: Int, _ from: Int, _ to: Int, _ head: inout RequestHead
    ) -> RequestFault? {
        let name = start + from
        var upper = start + to
        if HTTPSyntax.isBlank(bytes[name]) { return .headerFolded }
        var at = name
        while at < upper && HTTPSyntax.isToken(bytes[at]) { at += 1 }
        if at == name || at == upper || bytes[at] != HTTPSyntax.colon { return .headerNameMalformed }
        let nameEnd = at
        at += 1
        while at < upper && HTTPSyntax.isBlank(bytes[at]) { at += 1 }
        while upper > at && HTTPSyntax.isBlank(bytes[upper - 1]) { upper -= 1 }
        for i in at..<upper where !HTTPSyntax.isFieldByte(bytes[i]) { return .headerValueMalformed }
        typealias Name = HTTPSyntax.Name
        switch nameEnd - name {
        case 4 where HTTPSyntax.matches(bytes, name, nameEnd, Name.host):
            if head.hasHost { return .headerRepeated }
            head.hasHost = true
        case 6 where HTTPSyntax.matches(bytes, name, nameEnd, Name.expect):
            if !HTTPSyntax.matches(bytes, at, upper, Name.proceed) { return .expectationUnknown }
            head.expectsContinue = !head.isOldVersion
        case 10 where HTTPSyntax.matches(bytes, name, nameEnd, Name.connection):
            if lists(bytes, at, upper, Name.close) { head.closes = true }
        case 12 where HTTPSyntax.matches(bytes, name, nameEnd, Name.contentType):
            return keep(at - start, upper - start, &head.contentType)
        case 13 where HTTPSyntax.matches(bytes, name, nameEnd, Name.authorization):
            return keep(at - start, upper - start, &head.authorization)
        case 15 where HTTPSyntax.matches(bytes, name, nameEnd, Name.idempotencyKey):
            return keep(at - start, upper - start, &head.idempotencyKey)
        case 14 where HTTPSyntax.matches(bytes, name, nameEnd, Name.contentLength):
            if head.length >= 0 { return .lengthRepeated }
            guard HTTPSyntax.isDecimal(bytes, at, upper) else { return .lengthMalformed }
            guard let length = HTTPSyntax.decimal(bytes, at, upper) else { return .bodyTooLarge }
            head.length = length
        case 17 where HTTPSyntax.matches(bytes, name, nameEnd, Name.transferEncoding):
            if head.isChunked { return .encodingRepeated }
            if !HTTPSyntax.matches(bytes, at, upper, Name.chunked) { return .encodingUnknown }
            head.isChunked = true
        default: break
        }
        return nil
    }

    private static func keep(_ from: Int, _ to: Int, _ range: inout ByteRange) -> RequestFault? {
        if range.isThere { return .headerRepeated }
        range = ByteRange(from, to)
        return nil
    }

    /// True when the comma-separated list holds `word`.
    static func lists(_ bytes: Span<UInt8>, _ lower: Int, _ upper: Int, _ word: [UInt8]) -> Bool {
        var from = lower
        while from <= upper {
            var comma = from
            while comma < upper && bytes[comma] != UInt8(ascii: ",") { comma += 1 }
            var to = comma
            while from < to && HTTPSyntax.isBlank(bytes[from]) { from += 1 }
            while to > from && HTTPSyntax.isBlank(bytes[to - 1]) { to -= 1 }
            if HTTPSyntax.matches(bytes, from, to, word) { return true }
            from = comma + 1
        }
        return false
    }

    // MARK: Chunks

    /// Chunks are decoded in place: the body grows over the sizes that stood between them.
    private mutating func nextChunk() -> Step? {
        switch phase {
        case .chunkSize:
            guard let feed = lineFeed() else {
                return heldBytes - position >= limits.chunkLineBytesMax ? fail(.chunkLineTooLong) : .needsMore
            }
            if feed - position >= limits.chunkLineBytesMax { return fail(.chunkLineTooLong) }
            guard let size = Self.chunkSize(storage.span, start + position, start + feed) else {
                return fail(.chunkMalformed)
            }
            position = feed + 1
            scanned = position
            if size == 0 {
                trailerStart = position
                phase = .trailer
            } else if size > limits.bodyBytesMax - head.body.count {
                return fail(.bodyTooLarge)
            } else {
                phase = .chunkData(remaining: size)
            }
            return nil
        case .chunkData(let remaining):
            let here = min(remaining, heldBytes - position)
            let to = start + head.body.end
            let from = start + position
            for i in 0..<here { storage[to + i] = storage[from + i] }
            head.body = ByteRange(head.body.start, head.body.end + here)
            position += here
            closeGap()
            phase = here == remaining ? .chunkEnd : .chunkData(remaining: remaining - here)
            return here == remaining ? nil : .needsMore
        case .chunkEnd:
            if heldBytes - position < 2 {
                let isWrong = heldBytes > position && storage[start + position] != HTTPSyntax.carriageReturn
                return isWrong ? fail(.chunkMalformed) : .needsMore
            }
            let isRight =
                storage[start + position] == HTTPSyntax.carriageReturn
                && storage[start + position + 1] == HTTPSyntax.lineFeed
            if !isRight { return fail(.chunkMalformed) }
            position += 2
            scanned = position
            phase = .chunkSize
            return nil
        default: return nextTrailer()
        }
    }

    /// Trailers are checked and not used.
    private mutating func nextTrailer() -> Step? {
        guard let feed = lineFeed() else {
            return heldBytes - trailerStart >= limits.headBytesMax ? fail(.trailerTooLarge) : .needsMore
        }
        if feed - trailerStart >= limits.headBytesMax { return fail(.trailerTooLarge) }
        let line = (from: position, to: feed - 1)
        if line.to < line.from || storage[start + line.to] != HTTPSyntax.carriageReturn { return fail(.bareLineFeed) }
        position = feed + 1
        scanned = position
        if line.from == line.to {
            phase = .done
            return .request(head)
        }
        if head.headerCount == limits.headerCountMax { return fail(.tooManyHeaders) }
        head.headerCount += 1
        // What frames a message has no place behind it; anything else is checked as a field and dropped.
        var ignored = RequestHead()
        if let fault = Self.parseHeader(storage.span, start, line.from, line.to, &ignored) { return fail(fault) }
        if ignored.length >= 0 || ignored.isChunked { return fail(.chunkMalformed) }
        return nil
    }

    private mutating func closeGap() {
        let gap = position - head.body.end
        if gap <= limits.chunkSlackBytesMax { return }
        storage.removeSubrange(start + head.body.end..<start + position)
        position -= gap
        scanned = position
    }

    /// The size in `size[;extension] CR`, the line feed left out; nil for anything else.
    static func chunkSize(_ bytes: Span<UInt8>, _ lower: Int, _ feed: Int) -> Int? {
        guard feed > lower, bytes[feed - 1] == HTTPSyntax.carriageReturn else { return nil }
        let upper = feed - 1
        var at = lower
        var size = 0
        while at < upper, let digit = HTTPSyntax.hexDigit(bytes[at]) {
            if at - lower == 8 { return nil }
            size = size << 4 | Int(digit)
            at += 1
        }
        if at == lower { return nil }
        if at < upper {
            if bytes[at] != UInt8(ascii: ";") { return nil }
            for i in at..<upper where !HTTPSyntax.isFieldByte(bytes[i]) { return nil }
        }
        return size
    }

    // MARK: What was found

    /// The bytes of a range of the last request.
    public func bytes(_ range: ByteRange) -> ArraySlice<UInt8> {
        storage[start + range.start..<start + range.end]
    }

    /// The bytes of a range of the last request as text, for messages.
    public func text(_ range: ByteRange) -> String { String(decoding: bytes(range), as: UTF8.self) }
}

extension HTTPSyntax {
    enum Scheme {
        static let https = Array("https://".utf8)
        static let http = Array("http://".utf8)
    }
}
