import ClusterBase
import FleetModel
import Testing

@testable import AdminAPI

/// What a parser found in a request, copied out.
struct Parsed: Hashable {
    var method: HTTPMethod
    var path: String
    var query: String
    var body: [UInt8]
    var closes: Bool
}

enum Outcome: Hashable {
    case request(Parsed)
    case fault(RequestFault)
}

/// Parses input cut at the given places and tells all requests, then the fault if there is one.
func parseAll(_ input: [UInt8], cuts: [Int] = [], limits: AdminLimits = .standard) -> [Outcome] {
    var parser = RequestParser(limits: limits)
    var outcomes: [Outcome] = []
    var from = 0
    for cut in cuts + [input.count] {
        parser.append(contentsOf: input[from..<cut])
        from = cut
        reading: while true {
            switch parser.next() {
            case .needsMore: break reading
            case .expectsContinue: continue
            case .fault(let fault):
                outcomes.append(.fault(fault))
                return outcomes
            case .request(let head):
                outcomes.append(
                    .request(
                        Parsed(
                            method: head.method, path: parser.text(head.path), query: parser.text(head.query),
                            body: Array(parser.bytes(head.body)), closes: head.closes)))
            }
        }
    }
    return outcomes
}

func parseAll(_ input: String) -> [Outcome] { parseAll(Array(input.utf8)) }

private let get = "GET /v1/status HTTP/1.1\r\nHost: a\r\n"

@Suite struct RequestParserTests {
    @Test func `a request is found in its bytes`() {
        let found = parseAll(
            "PUT /v1/kv/a/b%2Fc?prev-revision=1.2 HTTP/1.1\r\nhOST: x\r\nContent-Length:  3 \r\n\r\nabc")
        #expect(
            found == [
                .request(
                    Parsed(
                        method: .put, path: "/v1/kv/a/b%2Fc", query: "prev-revision=1.2", body: Array("abc".utf8),
                        closes: false))
            ])
    }

    @Test(
        arguments: [
            ("", nil), ("Connection: close\r\n", true), ("Connection: x , CLOSE\r\n", true),
            ("Connection: keep-alive\r\n", false), ("Connection: closed\r\n", false),
        ] as [(String, Bool?)])
    func `connection close is heard`(_ field: String, _ closes: Bool?) {
        guard case .request(let found)? = parseAll(get + field + "\r\n").first else { return #expect(Bool(false)) }
        #expect(found.closes == closes ?? false)
    }

    @Test func `an absolute target is its path`() {
        for target in ["https://h:1/x?y", "HTTP://h/x?y", "/x?y"] {
            guard case .request(let found)? = parseAll("GET \(target) HTTP/1.1\r\nHost: a\r\n\r\n").first else {
                Issue.record("\(target) is refused")
                continue
            }
            #expect(found.path == "/x" && found.query == "y")
        }
    }

    @Test func `chunks are put together in place`() {
        let input =
            "POST /v1/spaces HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
            + "3\r\nabc\r\n0A;name=\"v\"\r\n0123456789\r\n0\r\nX-Trailer: t\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
        let found = parseAll(input)
        #expect(found.count == 2)
        guard case .request(let first)? = found.first else { return #expect(Bool(false)) }
        #expect(first.body == Array("abc0123456789".utf8))
    }

    @Test func `an old client's connection ends and it needs no host`() {
        guard case .request(let found)? = parseAll("GET / HTTP/1.0\r\n\r\n").first else { return #expect(Bool(false)) }
        #expect(found.closes)
    }

    @Test func `one empty line before a request is passed over`() {
        #expect(parseAll("\r\n" + get + "\r\n").count == 1)
        #expect(parseAll("\r\n\r\n" + get + "\r\n") == [.fault(.requestLineMalformed)])
    }

    @Test(
        arguments: [
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", .bareLineFeed), (get + "A: b\nC: d\r\n\r\n", .bareLineFeed),
            (get + "\n", .bareLineFeed), ("\n", .bareLineFeed),
            ("GET /  HTTP/1.1\r\n", .requestLineMalformed), ("GET  / HTTP/1.1\r\n", .requestLineMalformed),
            ("GET /\r\n", .requestLineMalformed), ("/ HTTP/1.1\r\n", .requestLineMalformed),
            (" GET / HTTP/1.1\r\n", .requestLineMalformed), ("GET / HTTP/1.1 \r\n", .requestLineMalformed),
            ("GET / http/1.1\r\n", .requestLineMalformed), ("GET / HTTX/1.1\r\n", .requestLineMalformed),
            ("G@T / HTTP/1.1\r\n", .requestLineMalformed), ("\u{16}\u{3}\u{1}\r\n", .requestLineMalformed),
            ("GET / HTTP/2.0\r\n", .versionUnsupported), ("GET / HTTP/1.2\r\n", .versionUnsupported),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", .versionUnsupported),
            ("BREW / HTTP/1.1\r\n", .methodUnknown), ("get / HTTP/1.1\r\n", .methodUnknown),
            ("OPTIONS * HTTP/1.1\r\n", .targetMalformed), ("CONNECT a:1 HTTP/1.1\r\n", .targetMalformed),
            ("GET * HTTP/1.1\r\n", .targetMalformed), ("GET a HTTP/1.1\r\n", .targetMalformed),
            ("GET /#f HTTP/1.1\r\n", .targetMalformed), ("GET /\u{7F} HTTP/1.1\r\n", .targetMalformed),
            ("GET /é HTTP/1.1\r\n", .targetMalformed), ("GET https:///x HTTP/1.1\r\n", .targetMalformed),
            ("GET https://h HTTP/1.1\r\n", .targetMalformed), ("GET ?x HTTP/1.1\r\n", .targetMalformed),
            (get + " folded: x\r\n\r\n", .headerFolded), (get + "A: b\r\n\tc\r\n\r\n", .headerFolded),
            (get + "A : b\r\n\r\n", .headerNameMalformed), (get + ": b\r\n\r\n", .headerNameMalformed),
            (get + "A\r\n\r\n", .headerNameMalformed), (get + "A(: b\r\n\r\n", .headerNameMalformed),
            (get + "A: b\0c\r\n\r\n", .headerValueMalformed), (get + "A: b\rc\r\n\r\n", .headerValueMalformed),
            (get + "Host: b\r\n\r\n", .headerRepeated),
            (get + "Authorization: a\r\nauthorization: b\r\n\r\n", .headerRepeated),
            (get + "Idempotency-Key: 1:1\r\nIdempotency-Key: 1:2\r\n\r\n", .headerRepeated),
            ("GET / HTTP/1.1\r\n\r\n", .hostMissing),
            (get + "Content-Length: +1\r\n\r\na", .lengthMalformed),
            (get + "Content-Length: 1, 1\r\n\r\na", .lengthMalformed),
            (get + "Content-Length: 0x1\r\n\r\na", .lengthMalformed),
            (get + "Content-Length:\r\n\r\n", .lengthMalformed),
            (get + "Content-Length: -1\r\n\r\n", .lengthMalformed),
            (get + "Content-Length: 1 1\r\n\r\n", .lengthMalformed),
            (get + "Content-Length: 1\r\nContent-Length: 1\r\n\r\na", .lengthRepeated),
            (get + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", .lengthAndEncoding),
            (get + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", .lengthAndEncoding),
            (get + "Transfer-Encoding: gzip, chunked\r\n\r\n", .encodingUnknown),
            (get + "Transfer-Encoding: identity\r\n\r\n", .encodingUnknown),
            (get + "Transfer-Encoding: xchunked\r\n\r\n", .encodingUnknown),
            (get + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", .encodingRepeated),
            ("PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", .encodingInOldVersion),
            (get + "Expect: more\r\n\r\n", .expectationUnknown),
            (get + "Content-Length: 1048577\r\n\r\n", .bodyTooLarge),
            (get + "Content-Length: 99999999999999999999999\r\n\r\n", .bodyTooLarge),
            (get + "Transfer-Encoding: chunked\r\n\r\n100001\r\n", .bodyTooLarge),
            (get + "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFF\r\n", .chunkMalformed),
            (get + "Transfer-Encoding: chunked\r\n\r\n\r\n", .chunkMalformed),
            (get + "Transfer-Encoding: chunked\r\n\r\n-1\r\n", .chunkMalformed),
            (get + "Transfer-Encoding: chunked\r\n\r\n1 \r\na\r\n", .chunkMalformed),
            (get + "Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n", .chunkMalformed),
            (get + "Transfer-Encoding: chunked\r\n\r\n1\na\r\n", .chunkMalformed),
            (get + "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", .chunkMalformed),
            (get + "Transfer-Encoding: chunked\r\n\r\n1\r\na\n0\r\n\r\n", .chunkMalformed),
            (get + "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\n", .chunkMalformed),
            (get + "Transfer-Encoding: chunked\r\n\r\n0\r\n a: 3\r\n\r\n", .headerFolded),
        ] as [(String, RequestFault)])
    func `each malformed request has its name`(_ input: String, _ fault: RequestFault) {
        #expect(parseAll(input) == [.fault(fault)])
        let bytes = Array(input.utf8)
        #expect(parseAll(bytes, cuts: Array(1..<bytes.count)) == [.fault(fault)])
    }

    @Test func `the bounds are exact and do not depend on the pieces`() {
        var limits = AdminLimits()
        limits.requestLineBytesMax = 64
        limits.headBytesMax = 128
        limits.headerCountMax = 3
        limits.bodyBytesMax = 10
        limits.chunkLineBytesMax = 8
        func line(_ length: Int) -> String {
            "GET /" + String(repeating: "a", count: length - 15) + " HTTP/1.1\r\nHost: a\r\n\r\n"
        }
        func padded(_ head: Int) -> String {
            let begin = "GET / HTTP/1.1\r\nHost: a\r\nX: "
            return begin + String(repeating: "x", count: head - begin.utf8.count - 4) + "\r\n\r\n"
        }
        func chunked(_ size: String, _ body: String) -> String {
            "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\(size)\r\n\(body)\r\n0\r\n\r\n"
        }
        let cases: [(String, RequestFault?)] = [
            (line(63), nil), (line(64), .requestLineTooLong), (padded(128), nil), (padded(129), .headTooLarge),
            (get + "A: 1\r\nB: 2\r\n\r\n", nil), (get + "A: 1\r\nB: 2\r\nC: 3\r\n\r\n", .tooManyHeaders),
            (get + "Content-Length: 10\r\n\r\n0123456789", nil), (get + "Content-Length: 11\r\n\r\n", .bodyTooLarge),
            (chunked("0000A", "0123456789"), nil), (chunked("0000B", "0123456789A"), .bodyTooLarge),
            (chunked("A;abcd", "0123456789"), nil), (chunked("A;abcdef", "0123456789"), .chunkLineTooLong),
        ]
        for (input, fault) in cases {
            let bytes = Array(input.utf8)
            for cuts in [[], Array(1..<bytes.count)] {
                let found = parseAll(bytes, cuts: cuts, limits: limits)
                if let fault {
                    #expect(found == [.fault(fault)], "\(input)")
                } else if case .request? = found.first {
                    #expect(found.count == 1)
                } else {
                    Issue.record("\(input) gave \(found)")
                }
            }
        }
    }

    @Test func `a flood without a line end is refused at the bound`() {
        var parser = RequestParser()
        let piece = [UInt8](repeating: UInt8(ascii: "a"), count: 1_000)
        var taken = 0
        while case .needsMore = parser.next() {
            parser.append(contentsOf: piece)
            taken += piece.count
            #expect(taken <= AdminLimits.standard.requestLineBytesMax + 1_000)
            if taken > 1 << 20 { break }
        }
        #expect(parser.next() == .fault(.requestLineTooLong))
    }

    @Test func `endless small chunks hold no more than the body and the slack`() {
        var parser = RequestParser()
        parser.append(contentsOf: Array((get + "Transfer-Encoding: chunked\r\n\r\n").utf8))
        let piece = Array(String(repeating: "1;abcdefghijklmnop\r\na\r\n", count: 1_000).utf8)
        var fault: RequestFault?
        for _ in 0..<1_100 {
            parser.append(contentsOf: piece)
            if case .fault(let found) = parser.next() {
                fault = found
                break
            }
            #expect(parser.heldBytes < 1 << 20 + 200 << 10)
        }
        #expect(fault == .bodyTooLarge)
    }

    @Test func `whoever waits for a go-ahead gets it once and only when nothing came`() {
        let head = Array((get + "Content-Length: 2\r\nExpect: 100-Continue\r\n\r\n").utf8)
        var waiting = RequestParser()
        waiting.append(contentsOf: head)
        #expect(waiting.next() == .expectsContinue)
        #expect(waiting.next() == .needsMore)
        waiting.append(contentsOf: Array("ab".utf8))
        guard case .request = waiting.next() else { return #expect(Bool(false)) }
        var hasty = RequestParser()
        hasty.append(contentsOf: head + [97])
        #expect(hasty.next() == .needsMore)
    }

    @Test func `any way to cut the input gives the same requests`() {
        var random = PRNG(seed: 7)
        let parts = [
            get + "\r\n", "PUT /v1/kv/s/k HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            "PUT /v1/kv/s/k?a=b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nA: b\r\n\r\n",
            "\r\n", "DELETE /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.1\r\nBad Header: x\r\n\r\n", "X",
        ]
        for _ in 0..<2_000 {
            var input: [UInt8] = []
            for _ in 0..<1 + Int(random.next() % 5) {
                input += Array(parts[Int(random.next() % UInt64(parts.count))].utf8)
            }
            // Some bytes are flipped, so that faults are cut too.
            if random.next() % 3 == 0 {
                input[Int(random.next() % UInt64(input.count))] = UInt8(truncatingIfNeeded: random.next())
            }
            let whole = parseAll(input)
            var cuts: [Int] = []
            for i in 1..<max(2, input.count) where random.next() % 7 == 0 && i < input.count { cuts.append(i) }
            #expect(parseAll(input, cuts: cuts) == whole)
        }
    }

    @Test func `random bytes never trap`() {
        var random = PRNG(seed: 11)
        let alphabet = Array("GET /HTTP1.\r\n: ;0aF%\t\0".utf8)
        for _ in 0..<3_000 {
            var input = random.next() % 2 == 0 ? Array(get.utf8) : []
            for _ in 0..<random.next() % 200 { input.append(alphabet[Int(random.next() % UInt64(alphabet.count))]) }
            _ = parseAll(input)
            var responses = ResponseParser()
            responses.append(contentsOf: Array("HTTP/1.1 200 OK\r\n".utf8) + input)
            for _ in 0..<300 { if case .needsMore = responses.next() { break } }
        }
    }

    @Test func `token characters are those of the standard`() {
        for byte in UInt8.min...UInt8.max {
            #expect(HTTPSyntax.isToken(byte) == HTTPSyntax.isTokenByTheBook(byte), "\(byte)")
        }
    }

    @Test func `every fault tells what to do and has a status of its kind`() {
        for fault in RequestFault.allCases {
            #expect(fault.detail(.standard).count > 20)
            #expect(fault.kind.status >= 400)
        }
    }
}
