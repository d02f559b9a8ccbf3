import AllocationCounter
import ClusterBase
import FleetModel
import Testing

@testable import AdminAPI

/// A response, read to its end.
struct ReadResponse: Hashable {
    var status = 0
    var body: [UInt8] = []
    var closes = false
}

func readAll(_ input: [UInt8], cuts: [Int] = [], ends: Bool = false) -> ([ReadResponse], ResponseFault?) {
    var parser = ResponseParser()
    var found: [ReadResponse] = []
    var current = ReadResponse()
    var from = 0
    for cut in cuts + [input.count] {
        parser.append(contentsOf: input[from..<cut])
        from = cut
        reading: while true {
            switch parser.next() {
            case .needsMore: break reading
            case .head(let head):
                current.status = head.status
                current.closes = head.closes
            case .body(let range): current.body += parser.bytes(range)
            case .end:
                found.append(current)
                current = ReadResponse()
            case .fault(let fault): return (found, fault)
            }
        }
    }
    if ends {
        switch parser.finish() {
        case .end: found.append(current)
        case .fault(let fault): return (found, fault)
        default: break
        }
    }
    return (found, nil)
}

func written(_ response: AdminResponse, _ frame: ResponseWriter.Frame = .init(), date: String = "") -> String {
    var out: [UInt8] = []
    ResponseWriter.write(response, frame, date: Array(date.utf8), into: &out)
    return String(decoding: out, as: UTF8.self)
}

@Suite struct ResponseTests {
    @Test func `a refusal of the cell names the field that it is about, in a batch with its item`() throws {
        #expect(Problem(CellRefusal.vmNameTaken("a")).inside("items[3]").field == "items[3].name")
        #expect(Problem(CellRefusal.unknownGroup("web")).inside("items[0]").field == "items[0].groups")
        #expect(Problem(CellRefusal.generationChanged(7)).field == "If-Match")
        #expect(Problem(CellRefusal.requestReused).field == "Idempotency-Key")
        #expect(Problem(CellRefusal.brakeHolds).inside("items[3]").field == nil)
        let body = Array("{\"kind\":\"api\",\"role\":\"chef\"}".utf8)
        var roles: Problem?
        do {
            _ = try TokenCreation(
                ShapedObject(try JSONParser.parse(body[...]), TokenCreation.shape, isStrict: true))
        } catch let problem as Problem { roles = problem }
        #expect(roles?.field == "role" && roles?.detail.contains("tenant:NAME:write") == true)
    }

    let revision = Revision(index: LogIndex(812), slot: 3)

    @Test func `an answer to a write is these bytes`() {
        let response = AdminResponse(SpaceResult(revision: revision, outcome: .written(version: 12)))
        #expect(
            written(response, date: "D")
                == "HTTP/1.1 200 OK\r\ndate: D\r\ncontent-type: application/json\r\nmuster-index: 812\r\n"
                + "muster-revision: 812.3\r\ncontent-length: 33\r\n\r\n{\"revision\":\"812.3\",\"version\":12}")
    }

    @Test func `a value is sent as it is`() {
        let record = SpaceRecord(key: [1], value: [0, 255, 10], created: revision, modified: revision, version: 1)
        let response = AdminResponse(SpaceAnswer(revision: .end(of: LogIndex(900)), body: .record(record)))
        var out: [UInt8] = []
        ResponseWriter.write(response, .init(closes: true), date: [], into: &out)
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\nmuster-index: 900\r\nmuster-revision: 812.3\r\n"
            + "muster-version: 1\r\nconnection: close\r\ncontent-length: 3\r\n\r\n"
        #expect(out == Array(head.utf8) + [0, 255, 10])
        out = []
        ResponseWriter.write(response, .init(isHead: true), date: [], into: &out)
        #expect(!out.contains(255) && String(decoding: out, as: UTF8.self).contains("content-length: 3"))
    }

    @Test func `a problem says type, title, status, detail and instance`() throws {
        let response = AdminResponse(Problem(.overloaded, "wait a \"little\"", instance: "/v1/x"))
        let text = written(response)
        #expect(text.hasPrefix("HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n"))
        #expect(text.contains("\r\nretry-after: 1\r\n"))
        guard case .bytes(let body) = response.body else { return #expect(Bool(false)) }
        let json = try JSONParser.parse(body[...])
        #expect(json["type"] == .string("urn:muster:problem:overloaded") && json["status"] == .integer(503))
        #expect(json["detail"] == .string("wait a \"little\"") && json["instance"] == .string("/v1/x"))
        #expect(Problem(json, status: 503) == Problem(.overloaded, "wait a \"little\"", instance: "/v1/x"))
    }

    @Test func `every kind of problem has its own name and a status of an error`() {
        #expect(Set(Problem.Kind.allCases.map(\.type)).count == Problem.Kind.allCases.count)
        for kind in Problem.Kind.allCases {
            #expect(kind.status >= 400 && kind.status < 600)
            #expect(HTTPSyntax.reason(kind.status) != "Status", "\(kind.status)")
        }
    }

    @Test func `a stream is chunks that a parser puts together, and its breaking off is noticed`() {
        var out: [UInt8] = []
        ResponseWriter.write(.stream(.jsonLines), .init(), date: [], into: &out)
        ResponseWriter.writePiece(Array("{\"a\":1}\n".utf8), .init(), into: &out)
        ResponseWriter.writePiece([], .init(), into: &out)
        ResponseWriter.writePiece([UInt8](repeating: 65, count: 5_000), .init(), into: &out)
        let broken = out
        ResponseWriter.writeEnd(.init(), into: &out)
        for cuts in [[], Array(1..<out.count)] {
            let (found, fault) = readAll(out, cuts: cuts)
            #expect(fault == nil && found.count == 1 && found[0].body.count == 5_008)
        }
        #expect(readAll(broken, ends: true).1 == .cutShort)
    }

    @Test func `an old client gets a stream that ends with the connection`() {
        var out: [UInt8] = []
        ResponseWriter.write(.stream(.bytes), .init(isOldVersion: true), date: [], into: &out)
        ResponseWriter.writePiece(Array("abc".utf8), .init(isOldVersion: true), into: &out)
        ResponseWriter.writeEnd(.init(isOldVersion: true), into: &out)
        let (found, fault) = readAll(out, ends: true)
        #expect(fault == nil && found == [ReadResponse(status: 200, body: Array("abc".utf8), closes: true)])
    }

    @Test func `responses in a row come out however they are cut`() {
        let input = Array(
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"
                + "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
                + "HTTP/1.1 503\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").utf8)
        let whole = readAll(input)
        #expect(whole.0.map(\.status) == [200, 204, 200, 503] && whole.1 == nil && whole.0[3].closes)
        let single = readAll(input, cuts: Array(1..<input.count))
        #expect(single.0 == whole.0 && single.1 == nil)
    }

    @Test(
        arguments: [
            ("SSH-2.0-x\r\n\r\n", .statusLineMalformed), ("HTTP/1.1 2x0 OK\r\n\r\n", .statusLineMalformed),
            ("HTTP/1.1 200 OK\r\nA b\r\n\r\n", .headerMalformed),
            ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", .lengthMalformed),
            ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", .lengthMalformed),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n", .encodingUnknown),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", .chunkMalformed),
        ] as [(String, ResponseFault)])
    func `a malformed response is refused`(_ input: String, _ fault: ResponseFault) {
        #expect(readAll(Array(input.utf8)).1 == fault)
    }

    @Test func `a field of a response is found by its name`() {
        var parser = ResponseParser()
        parser.append(
            contentsOf: Array("HTTP/1.1 200 OK\r\nA: b\r\nMuster-Index:  812 \r\ncontent-length: 0\r\n\r\n".utf8))
        guard case .head(let head) = parser.next() else { return #expect(Bool(false)) }
        #expect(parser.value(of: "muster-index", in: head) == "812" && parser.value(of: "muster", in: head) == nil)
    }

    @Test(
        arguments: [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"), (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"), (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] as [(Int64, String)])
    func `dates are as the standard wants them`(_ seconds: Int64, _ text: String) {
        #expect(String(decoding: HTTPDate.bytes(unixSeconds: seconds), as: UTF8.self) == text)
    }

    @Test func `a small put costs a handful of allocations from bytes to bytes`() throws {
        guard allocation_counter_is_active() != 0 else { return }
        let router = Router()
        var parser = RequestParser()
        let request = Array(
            ("PUT /v1/kv/bench/key-0123456789 HTTP/1.1\r\nHost: localhost:1234\r\nContent-Length: 128\r\n\r\n"
                + String(repeating: "v", count: 128)).utf8)
        var out: [UInt8] = []
        out.reserveCapacity(4_096)
        func once() throws {
            parser.append(contentsOf: request)
            guard case .request(let head) = parser.next() else { return #expect(Bool(false)) }
            _ = try router.call(parser, head)
            out.removeAll(keepingCapacity: true)
            ResponseWriter.write(
                AdminResponse(SpaceResult(revision: revision, outcome: .written(version: 1))), .init(), date: [],
                into: &out)
        }
        for _ in 0..<10 { try once() }
        allocation_counter_begin()
        for _ in 0..<100 { try once() }
        let allocations = allocation_counter_end()
        // The key and the value; the debug build has more.
        #expect(allocations <= 100 * 12, "\(allocations) in 100 requests")
    }
}

@Suite struct AdminBenchTests {
    @Test func `the benchmark runs and gives the same number for the same count`() {
        var one = AdminBench()
        var other = AdminBench()
        #expect(one.run(500) == other.run(500))
        #expect(one.run(10) != other.run(500))
    }
}
