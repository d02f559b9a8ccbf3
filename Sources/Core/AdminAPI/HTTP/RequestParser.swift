/// What a parser found in one request, as places in its bytes. Valid until the parser's next step.
package struct RequestHead: Hashable, Sendable {
    package internal(set) var method = HTTPMethod.get
    /// HTTP/1.0, whose connections end after one answer here.
    package internal(set) var isOldVersion = false
    /// The path, still percent-encoded, without the query.
    package internal(set) var path = ByteRange.none
    /// What follows the question mark.
    package internal(set) var query = ByteRange.none
    package internal(set) var authorization = ByteRange.none
    package internal(set) var idempotencyKey = ByteRange.none
    package internal(set) var contentType = ByteRange.none
    package internal(set) var ifMatch = ByteRange.none
    package internal(set) var accept = ByteRange.none
    package internal(set) var lastEvent = ByteRange.none
    package internal(set) var body = ByteRange.none
    /// The client ends the connection after this request, or can't keep it.
    package internal(set) var closes = false

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
package struct RequestParser: Sendable {
    package enum Step: Hashable, Sendable {
        case needsMore
        /// The client waits for `100 Continue` before it sends its body.
        case expectsContinue
        case request(RequestHead)
        case fault(RequestFault)
    }

    private enum Phase {
        case head
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
    private var phase = Phase.head
    private var head = RequestHead()
    /// From `start`: where the current line or chunk begins.
    private var position = 0
    private var trailerStart = 0
    private var saidContinue = false

    package init(limits: AdminLimits = .standard) { self.limits = limits }

    /// Bytes held for the request under way and those behind it.
    @inlinable package var heldBytes: Int { storage.count - start }

    /// A request has begun and is not complete: its sender owes us bytes.
    package var isMidRequest: Bool {
        if case .done = phase { return false }
        return heldBytes > 0
    }

    /// The head is there, and bytes of the body are missing.
    package var isInBody: Bool {
        switch phase {
        case .body, .chunkSize, .chunkData, .chunkEnd, .trailer: true
        case .head, .done, .failed: false
        }
    }

    /// Adds what has arrived. Ranges of the last request stay valid.
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
            // One large value must not hold its megabyte for the life of an idle connection.
            storage.removeAll(keepingCapacity: storage.capacity <= 128 << 10)
            start = 0
        } else if start >= 16 << 10 {
            storage.removeSubrange(..<start)
            start = 0
        }
    }

    /// The next request, as far as the bytes reach. The last one's ranges are void after this.
    package mutating func next() -> Step {
        while true {
            switch phase {
            case .done: finish()
            case .failed(let fault): return .fault(fault)
            case .head:
                guard let step = nextHead() else { continue }
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
        saidContinue = false
        head = RequestHead()
        phase = .head
    }

    private mutating func fail(_ fault: RequestFault) -> Step {
        phase = .failed(fault)
        return .fault(fault)
    }

    /// Reads the lines of the head that are there. A line that is not is looked at from its beginning when more comes: at
    /// most `headBytesMax` bytes again, for which the order of what is found does not depend on the pieces.
    private mutating func nextHead() -> Step? {
        var found = head
        var at = position
        let end = Self.readHead(storage.span, start, limits, &found, &at)
        head = found
        position = at
        return switch end {
        case .needsMore: .needsMore
        case .ended: endOfHead()
        case .fault(let fault): fail(fault)
        }
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
        if head.length > limits.bodyBytesMax && head.length > bodyBytesMax { return fail(bodyFault) }
        head.body = ByteRange(position, position + head.length)
        phase = .body
        return nil
    }

    /// How large this request's body may be.
    private var bodyBytesMax: Int {
        isLarge ? limits.batchBodyBytesMax : limits.bodyBytesMax
    }
    private var bodyFault: RequestFault { isLarge ? .batchTooLarge : .bodyTooLarge }
    private var isLarge: Bool {
        let path = bytes(head.path)
        return path.elementsEqual(AdminLimits.batchPath) || path.elementsEqual(AdminLimits.partPath)
    }

    // MARK: Lines

    private enum HeadEnd {
        case needsMore
        /// The empty line was read.
        case ended
        case fault(RequestFault)
    }

    /// `at` goes up, from `start`, with every line that was read.
    private static func readHead(
        _ bytes: Span<UInt8>, _ start: Int, _ limits: AdminLimits, _ head: inout RequestHead, _ at: inout Int
    ) -> HeadEnd {
        if !head.path.isThere {
            let end = min(bytes.count, start + limits.requestLineBytesMax)
            let isFull = end == start + limits.requestLineBytesMax
            if at == 0 && end - start >= 1 && bytes[start] == HTTPSyntax.carriageReturn {
                // RFC 9112 2.2: one empty line before a request is passed over.
                if end - start == 1 { return isFull ? .fault(.requestLineTooLong) : .needsMore }
                if bytes[start + 1] != HTTPSyntax.lineFeed { return .fault(.requestLineMalformed) }
                at = 2
            }
            switch readRequestLine(bytes, start, start + at, end, &head) {
            case .fault(let fault): return .fault(fault)
            case .next(let next): at = next - start
            case .needsMore: return isFull ? .fault(.requestLineTooLong) : .needsMore
            }
        }
        let end = min(bytes.count, start + limits.headBytesMax)
        while true {
            let begin = start + at
            if begin < end && bytes[begin] != HTTPSyntax.carriageReturn && head.headerCount == limits.headerCountMax {
                return .fault(.tooManyHeaders)
            }
            switch readField(bytes, begin, end) {
            case .field(let field):
                head.headerCount += 1
                if let fault = use(field, bytes, start, &head) { return .fault(fault) }
                at = field.next - start
            case .empty:
                at += 2
                return .ended
            case .fault(let fault): return .fault(fault)
            case .needsMore: return end == start + limits.headBytesMax ? .fault(.headTooLarge) : .needsMore
            }
        }
    }

    private enum LineEnd {
        case needsMore
        case next(Int)
        case fault(RequestFault)
    }

    private static func readRequestLine(
        _ bytes: Span<UInt8>, _ start: Int, _ begin: Int, _ end: Int, _ head: inout RequestHead
    ) -> LineEnd {
        var at = begin
        while at < end && HTTPSyntax.isToken(bytes[at]) { at += 1 }
        if at == end { return .needsMore }
        if at == begin || bytes[at] != HTTPSyntax.space { return .fault(lineFault(bytes[at])) }
        let method = Self.method(bytes, begin, at)
        at += 1
        let target = at
        var question = -1
        while at < end && bytes[at] > HTTPSyntax.space && bytes[at] < 0x7F {
            if bytes[at] == UInt8(ascii: "#") { return .fault(.targetMalformed) }
            if bytes[at] == UInt8(ascii: "?") && question < 0 { question = at }
            at += 1
        }
        if at == end { return .needsMore }
        if bytes[at] != HTTPSyntax.space {
            let isEnd = bytes[at] == HTTPSyntax.carriageReturn || bytes[at] == HTTPSyntax.lineFeed
            return .fault(isEnd ? lineFault(bytes[at]) : .targetMalformed)
        }
        if at == target { return .fault(.requestLineMalformed) }
        let targetEnd = at
        at += 1
        let version = at
        while at < end && at - version <= 8 && bytes[at] > HTTPSyntax.space { at += 1 }
        if at == end { return .needsMore }
        if at - version > 8 || bytes[at] != HTTPSyntax.carriageReturn { return .fault(lineFault(bytes[at])) }
        if at + 1 == end { return .needsMore }
        if bytes[at + 1] != HTTPSyntax.lineFeed { return .fault(.requestLineMalformed) }
        if let fault = Self.version(bytes, version, at, &head) { return .fault(fault) }
        guard let method else { return .fault(.methodUnknown) }
        head.method = method
        let pathEnd = question < 0 ? targetEnd : question
        guard let path = pathStart(bytes, target, pathEnd) else { return .fault(.targetMalformed) }
        head.path = ByteRange(path - start, pathEnd - start)
        if question >= 0 { head.query = ByteRange(question + 1 - start, targetEnd - start) }
        return .next(at + 2)
    }

    private static func lineFault(_ byte: UInt8) -> RequestFault {
        byte == HTTPSyntax.lineFeed ? .bareLineFeed : .requestLineMalformed
    }

    private static func method(_ bytes: Span<UInt8>, _ lower: Int, _ upper: Int) -> HTTPMethod? {
        var word: UInt64 = 0
        if upper - lower > 7 { return nil }
        for i in lower..<upper { word = word << 8 | UInt64(bytes[i]) }
        return switch word {
        case 0x474554: .get
        case 0x505554: .put
        case 0x4845_4144: .head
        // OPTIONS, TRACE, PATCH, CONNECT and QUERY.
        case 0x4F_5054_494F_4E53, 0x54_5241_4345, 0x50_4154_4348, 0x43_4F4E_4E45_4354, 0x51_5545_5259: .other
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

    /// Where a field's name and its value, without blanks around it, are, and where the next line begins.
    struct FieldPlace {
        var name: Int
        var nameEnd: Int
        var value: Int
        var valueEnd: Int
        var next: Int
    }

    enum FieldEnd {
        case needsMore
        case field(FieldPlace)
        /// The line is empty.
        case empty
        case fault(RequestFault)
    }

    /// Reads one line of the fields that begins at `begin`.
    @inline(__always) static func readField(_ bytes: Span<UInt8>, _ begin: Int, _ end: Int) -> FieldEnd {
        if begin >= end { return .needsMore }
        var at = begin
        while at < end && HTTPSyntax.isToken(bytes[at]) { at += 1 }
        if at == end { return .needsMore }
        if at == begin || bytes[at] != HTTPSyntax.colon {
            switch bytes[at] {
            case HTTPSyntax.lineFeed: return .fault(.bareLineFeed)
            case HTTPSyntax.space where at == begin, HTTPSyntax.tab where at == begin: return .fault(.headerFolded)
            case HTTPSyntax.carriageReturn where at == begin:
                if at + 1 == end { return .needsMore }
                return bytes[at + 1] == HTTPSyntax.lineFeed ? .empty : .fault(.headerNameMalformed)
            default: return .fault(.headerNameMalformed)
            }
        }
        let nameEnd = at
        at += 1
        while at < end && HTTPSyntax.isBlank(bytes[at]) { at += 1 }
        let value = at
        while at < end && HTTPSyntax.isFieldByte(bytes[at]) { at += 1 }
        if at == end { return .needsMore }
        if bytes[at] != HTTPSyntax.carriageReturn {
            return .fault(bytes[at] == HTTPSyntax.lineFeed ? .bareLineFeed : .headerValueMalformed)
        }
        if at + 1 == end { return .needsMore }
        if bytes[at + 1] != HTTPSyntax.lineFeed { return .fault(.headerValueMalformed) }
        var valueEnd = at
        while valueEnd > value && HTTPSyntax.isBlank(bytes[valueEnd - 1]) { valueEnd -= 1 }
        return .field(FieldPlace(name: begin, nameEnd: nameEnd, value: value, valueEnd: valueEnd, next: at + 2))
    }

    /// Notes what a field says, if anybody acts on it.
    private static func use(
        _ field: FieldPlace, _ bytes: Span<UInt8>, _ start: Int, _ head: inout RequestHead
    ) -> RequestFault? {
        typealias Name = HTTPSyntax.Name
        func isNamed(_ name: [UInt8]) -> Bool { HTTPSyntax.matches(bytes, field.name, field.nameEnd, name) }
        let value = field.value
        let end = field.valueEnd
        switch field.nameEnd - field.name {
        case 4 where isNamed(Name.host):
            if head.hasHost { return .headerRepeated }
            head.hasHost = true
        case 6 where isNamed(Name.accept):
            if !head.accept.isThere { head.accept = ByteRange(value - start, end - start) }
        case 6 where isNamed(Name.expect):
            if !HTTPSyntax.matches(bytes, value, end, Name.proceed) { return .expectationUnknown }
            head.expectsContinue = !head.isOldVersion
        case 8 where isNamed(Name.ifMatch): return keep(value - start, end - start, &head.ifMatch)
        case 10 where isNamed(Name.connection):
            if lists(bytes, value, end, Name.close) { head.closes = true }
        case 12 where isNamed(Name.contentType): return keep(value - start, end - start, &head.contentType)
        case 13 where isNamed(Name.authorization): return keep(value - start, end - start, &head.authorization)
        case 13 where isNamed(Name.lastEvent): return keep(value - start, end - start, &head.lastEvent)
        case 15 where isNamed(Name.idempotencyKey): return keep(value - start, end - start, &head.idempotencyKey)
        case 14 where isNamed(Name.contentLength):
            if head.length >= 0 { return .lengthRepeated }
            guard HTTPSyntax.isDecimal(bytes, value, end) else { return .lengthMalformed }
            guard let length = HTTPSyntax.decimal(bytes, value, end) else { return .bodyTooLarge }
            head.length = length
        case 17 where isNamed(Name.transferEncoding):
            if head.isChunked { return .encodingRepeated }
            if !HTTPSyntax.matches(bytes, value, end, Name.chunked) { return .encodingUnknown }
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
            let end = min(heldBytes, position + limits.chunkLineBytesMax)
            let feed = HTTPSyntax.lineFeed(in: storage.span, from: start + position, to: start + end) - start
            if feed == end {
                return end == position + limits.chunkLineBytesMax ? fail(.chunkLineTooLong) : .needsMore
            }
            guard let size = Self.chunkSize(storage.span, start + position, start + feed) else {
                return fail(.chunkMalformed)
            }
            position = feed + 1
            if size == 0 {
                trailerStart = position
                phase = .trailer
            } else if size > limits.bodyBytesMax - head.body.count && size > bodyBytesMax - head.body.count {
                return fail(bodyFault)
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
            phase = .chunkSize
            return nil
        default: return nextTrailer()
        }
    }

    /// Trailers are checked and not used.
    private mutating func nextTrailer() -> Step? {
        let end = min(heldBytes, trailerStart + limits.headBytesMax)
        switch Self.readField(storage.span, start + position, start + end) {
        case .needsMore:
            return end == trailerStart + limits.headBytesMax ? fail(.trailerTooLarge) : .needsMore
        case .fault(let fault): return fail(fault)
        case .empty:
            position += 2
            phase = .done
            return .request(head)
        case .field(let field):
            if head.headerCount == limits.headerCountMax { return fail(.tooManyHeaders) }
            head.headerCount += 1
            // What frames a message has no place behind it; anything else is checked as a field and dropped.
            var ignored = RequestHead()
            if let fault = Self.use(field, storage.span, start, &ignored) { return fail(fault) }
            if ignored.length >= 0 || ignored.isChunked { return fail(.chunkMalformed) }
            position = field.next - start
            return nil
        }
    }

    private mutating func closeGap() {
        let gap = position - head.body.end
        if gap <= limits.chunkSlackBytesMax { return }
        storage.removeSubrange(start + head.body.end..<start + position)
        position -= gap
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
    package func bytes(_ range: ByteRange) -> ArraySlice<UInt8> {
        storage[start + range.start..<start + range.end]
    }

    /// The bytes of a range of the last request as text, for messages.
    package func text(_ range: ByteRange) -> String { String(decoding: bytes(range), as: UTF8.self) }
}

extension HTTPSyntax {
    enum Scheme {
        static let https = Array("https://".utf8)
        static let http = Array("http://".utf8)
    }
}
