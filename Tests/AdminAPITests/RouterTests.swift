import ClusterBase
import FleetModel
import Testing

@testable import AdminAPI

private let router = Router()

/// Routes a request of text, or tells the refusal.
private func route(
    _ line: String, _ fields: String = "", body: String = ""
) -> Result<AdminCall, Router.Refusal> {
    var parser = RequestParser()
    let length = body.isEmpty ? "" : "Content-Length: \(body.utf8.count)\r\n"
    parser.append(contentsOf: Array("\(line) HTTP/1.1\r\nHost: a\r\n\(fields)\(length)\r\n\(body)".utf8))
    guard case .request(let head) = parser.next() else {
        return .failure(Router.Refusal(problem: Problem(.internal, "not parsed"), allow: []))
    }
    do throws(Router.Refusal) { return .success(try router.call(parser, head)) } catch { return .failure(error) }
}

private func request(_ line: String, _ fields: String = "", body: String = "") -> AdminRequest? {
    if case .success(let call) = route(line, fields, body: body) { call.request } else { nil }
}

private func kind(_ line: String, _ fields: String = "", body: String = "") -> Problem.Kind? {
    if case .failure(let refusal) = route(line, fields, body: body) { refusal.problem.kind } else { nil }
}

private let json = "Content-Type: application/json\r\n"
private let revision = Revision(index: LogIndex(812), slot: 3)

/// Requests of every kind, with and without what is optional.
let samples: [AdminRequest] =
    [
        .health, .ready, .metrics, .document,
        .write(space: "s", SpaceCommand(.put(key: Array("a/b c%+é\u{1}".utf8) + [255], value: [0, 13, 10, 255]))),
        .write(space: "s-1", SpaceCommand(.put(key: Array("../x//".utf8), value: []))),
        .write(
            space: "s", SpaceCommand(.compareAndSet(key: [97], expected: .revision(revision), value: [1]))),
        .write(space: "s", SpaceCommand(.compareAndSet(key: [97], expected: .absent, value: [1]))),
        .write(space: "s", SpaceCommand(.compareAndSet(key: [97], expected: .value([251, 255, 0]), value: [1]))),
        .write(space: "s", SpaceCommand(.compareAndSet(key: [97], expected: .value([]), value: [1]))),
        .write(space: "s", SpaceCommand(.delete(key: [97], revision: nil))),
        .write(space: "s", SpaceCommand(.delete(key: [97], revision: revision))),
        .write(space: "s", SpaceCommand(.compareAndDelete(key: [97], expected: [251, 255, 0]))),
        .write(space: "s", SpaceCommand(.compareAndDelete(key: [97], expected: []))),
        .write(
            space: "s",
            SpaceCommand(
                client: ClientID(.max), sequence: 9, acknowledged: 8, born: LogIndex(77), .put(key: [97], value: [1]))),
        .write(space: "s", SpaceCommand(fence: SpaceFence("job", Revision(9)), .put(key: [97], value: [1]))),
        .write(
            space: "s",
            SpaceCommand(
                fence: SpaceFence("a.b-c", Revision(1 << 40)),
                .compareAndSet(key: [97], expected: .absent, value: [1]))),
        .write(space: "s", SpaceCommand(fence: SpaceFence("job", Revision(9)), .delete(key: [97], revision: nil))),
        .write(
            space: "s", SpaceCommand(fence: SpaceFence("job", Revision(9)), .compareAndDelete(key: [97], expected: []))),
        .write(space: "s", SpaceCommand(.acquire(lock: "job", owner: "me & you", lease: .milliseconds(1_500)))),
        .write(space: "s", SpaceCommand(.release(lock: "job", owner: "me"))),
        .write(space: "s", SpaceCommand(.release(lock: "job", owner: "me", token: Revision(256)))),
        .lock(space: "s", name: "job", .linearizable), .lock(space: "s", name: "job", .stale(within: .seconds(2))),
        .locks(space: "s", prefix: "", after: nil, limit: 1_000, .linearizable),
        .locks(space: "s", prefix: "a&b", after: "a+b", limit: 7, .stale(within: .seconds(2))),
        .read(space: "s", key: Array("k?&=#".utf8), .linearizable),
        .read(space: "s", key: [97], .stale(within: .milliseconds(500))),
        .list(space: "s", prefix: [], after: nil, limit: 1_000, .linearizable),
        .list(space: "s", prefix: [0, 38, 61], after: Array("a+b".utf8), limit: 7, .stale(within: .seconds(2))),
        .watch(space: "s", prefix: [], from: nil), .watch(space: "s", prefix: Array("p/".utf8), from: revision),
        .watch(space: "s", prefix: [], from: .end(of: LogIndex(4))),
        .spaces, .space("s"), .createSpace(SpaceCreation(name: "s")),
        .createSpace(SpaceCreation(name: "s", replicas: 3, nodes: ["a", "b"])), .deleteSpace("s"),
        .deleteSpace("s", isForced: true),
        .moveSpace("s", SpaceMove(nodes: ["n1"])), .status, .nodes(.linearizable), .nodes(.stale(within: .seconds(2))),
        .node("n-1.x"), .removeNode("n", isForced: false),
        .removeNode("n", isForced: true), .promoteNode("n"), .demoteNode("n"),
        .assignHost("n", CellAssignment(cell: "c")),
        .assignHost("n", CellAssignment(cell: "c", isDryRun: true)), .cells, .cell("c"),
        .createCell(CellCreation(name: "c")),
        .createCell(CellCreation(name: "c", region: "Süd", survives: "zone", replicas: 5)), .retireCell("c"),
        .planHosts("c", HostsPlanWish(.split, into: "d", hosts: 3)),
        .planHosts("c", HostsPlanWish(.split, into: "d", rack: "r", isDryRun: true)),
        .planHosts("c", HostsPlanWish(.merge, into: "d", retires: true)), .planHosts("c", HostsPlanWish(.pause)),
        .regions, .region("north"), .declareRegion("north", isLost: true), .declareRegion("north", isLost: false),
        .planRegion("north", RegionPlanWish(.evacuate, returns: .all)), .planRegion("north", RegionPlanWish(.cancel)),
        .setLatency("north", RegionLatencyWish(to: "Süd", micros: 20_000)),
        .join(
            JoinRequest(
                secret: "x", name: "n", region: "r", zone: "z", rack: "k", address: "a:1", adminAddress: "a:2",
                certificateRequest: [1, 2, 3], version: "1", level: 2, clock: 1, isCheck: true, probe: "ab")),
        .tokens, .createToken(TokenCreation(kind: .join, uses: 2, ttlSeconds: 60)),
        .createToken(TokenCreation(kind: .api, role: .space("s", mayWrite: true), note: "ci")), .revokeToken("t1"),
        .transferLeadership(LeaderTransfer()), .transferLeadership(LeaderTransfer(group: 4, to: "n")),
        .transferLeadership(LeaderTransfer(space: "s")), .certificates,
        .rotateCertificates(CertificateRotation(subject: .ca)),
        .rotateCertificates(CertificateRotation(subject: .ca, isAbandoned: true)),
        .rotateCertificates(CertificateRotation(subject: .ca, step: .finish)),
        .renewCertificate(CertificateRenewal(certificateRequest: [])),
        .rotateCertificates(CertificateRotation(subject: .node, node: "n")),
        .renewCertificate(CertificateRenewal(certificateRequest: [9])), .upgrade,
        .finalizeUpgrade(UpgradeFinalization()), .finalizeUpgrade(UpgradeFinalization(gate: "g")), .backupPlan,
        .beginBackup,
        .endBackup,
        .copyGroup(1 << 56), .settings, .changeSetting("replace-after", SettingChange(value: 1)), .backupSchedules,
        .setBackupSchedule("s", BackupSchedule(everySeconds: 60, keep: 3, directory: "/b", keyFile: "/k")),
        .removeBackupSchedule("s"),
        .recover(Recovery(group: 2, reason: "burnt", acceptsLoss: true)),
    ] + fleetSamples.map { .fleet($0) }

@Suite struct RouterTests {
    @Test func `every request goes around and comes back as it was`() {
        let writer = RequestWriter(host: "h:1", bearerToken: "t")
        for sample in samples {
            var bytes: [UInt8] = []
            writer.write(AdminCall(sample), into: &bytes)
            var parser = RequestParser()
            parser.append(contentsOf: bytes)
            guard case .request(let head) = parser.next() else {
                Issue.record("\(sample) is no request: \(String(decoding: bytes, as: UTF8.self))")
                continue
            }
            do throws(Router.Refusal) {
                #expect(try router.call(parser, head).request == sample)
            } catch {
                Issue.record("\(sample) is refused: \(error)")
            }
            #expect(parser.text(head.authorization) == "Bearer t")
            let row = Route.all.first { $0.operation == sample.operation }
            #expect(row?.method == head.method)
        }
    }

    @Test func `a name that is none is refused as that, and is never a part of the request around it`() {
        let requests: [AdminRequest] = [
            .node("two words"), .removeNode("n1?force=1#", isForced: false), .space("a/../b"), .revokeToken("\r\nx: y"),
            .read(space: "two words", key: [1], .linearizable), .watch(space: "a?b", prefix: [], from: nil),
            .list(space: "a%", prefix: [], after: nil, limit: 3, .linearizable),
        ]
        for request in requests {
            var bytes: [UInt8] = []
            RequestWriter(host: "h:1").write(AdminCall(request), into: &bytes)
            var parser = RequestParser()
            parser.append(contentsOf: bytes)
            guard case .request(let head) = parser.next() else {
                Issue.record("\(request) is no request: \(String(decoding: bytes, as: UTF8.self))")
                continue
            }
            do throws(Router.Refusal) {
                Issue.record("it is taken for \(try router.call(parser, head).request)")
            } catch {
                #expect(
                    error.problem.kind == .malformed && error.problem.detail.contains("use 1 to 63 letters"), "\(error)"
                )
            }
        }
    }

    @Test func `a request about hosts and VMs names its cell, beside whatever else it says`() {
        let ofAllCells: [AdminAPI.Operation] = [
            .setTenant, .deleteTenant, .renewLease, .listImages, .getImage, .addImagePart, .addImage, .removeImage,
            .listRemains, .forgetRemains,
        ]
        for sample in fleetSamples where !ofAllCells.contains(sample.operation) {
            var bytes: [UInt8] = []
            RequestWriter(host: "h:1").write(AdminCall(.fleet(sample), cell: "north-1"), into: &bytes)
            var parser = RequestParser()
            parser.append(contentsOf: bytes)
            guard case .request(let head) = parser.next() else {
                Issue.record("\(sample) is no request")
                continue
            }
            do throws(Router.Refusal) {
                let call = try router.call(parser, head)
                #expect(call.request == .fleet(sample) && call.cell == "north-1")
            } catch {
                Issue.record("\(sample) is refused: \(error)")
            }
        }
    }

    @Test func `the samples reach every route and every route is one operation`() {
        #expect(Set(samples.map(\.operation)) == Set(Operation.allCases))
        #expect(Route.all.map(\.operation).count == Set(Route.all.map(\.operation)).count)
        #expect(Set(Route.all.map(\.operation)) == Set(Operation.allCases))
        #expect(Set(Route.all.map { "\($0.method) \($0.path)" }).count == Route.all.count)
    }

    @Test func `what a route says about openness is what its requests need`() {
        for sample in samples {
            let security = Route.all.first { $0.operation == sample.operation }?.security
            switch sample.action {
            case .ask, .join: #expect(security == .open)
            case .measure: #expect(security == .setting)
            default: #expect(security == .principal)
            }
        }
    }

    @Test func `every method that a path does not have gets 405 with those it has`() {
        for path in Set(Route.all.map(\.path)) {
            let concrete = path.split(separator: "/").map { $0.hasPrefix("{") ? "x" : $0 }.joined(separator: "/")
            let known = Set(Route.all.filter { $0.path == path }.map(\.method))
            for method in HTTPMethod.allCases where !known.contains(method) && method != .head {
                guard case .failure(let refusal) = route("\(method.name) /\(concrete)") else {
                    Issue.record("\(method.name) \(path) is routed")
                    continue
                }
                #expect(refusal.problem.kind == .methodNotAllowed, "\(method.name) \(path)")
                #expect(Set(refusal.allow).subtracting([.head]) == known)
                #expect(refusal.response.status == 405 && !refusal.response.allow.isEmpty)
            }
        }
    }

    @Test func `a method that no route has is named as it was sent`() {
        for method in ["PATCH", "OPTIONS", "TRACE", "QUERY"] {
            for path in ["/v1/nodes", "/v1/vms/x", "/v1/kv/s/k", "/v1/kv/s"] {
                guard case .failure(let refusal) = route("\(method) \(path)") else {
                    Issue.record("\(method) \(path) is routed")
                    continue
                }
                #expect(refusal.problem.detail.contains("has no \(method); use GET"), "\(refusal.problem.detail)")
            }
        }
    }

    @Test func `unknown paths are 404 and name the document`() {
        for path in [
            "/", "/v1", "/v1/", "/v2/status", "/v1/status/", "/v1/nodes/a/b", "/v1/kv", "/v1/kvx/a", "//v1/status",
        ] {
            #expect(kind("GET \(path)") == .routeUnknown, "\(path)")
        }
    }

    @Test func `a key is any bytes, and slashes belong to it`() {
        #expect(request("GET /v1/kv/s/a/b%2Fc%00+") == .read(space: "s", key: Array("a/b/c\0+".utf8), .linearizable))
        #expect(request("GET /v1/kv/s//") == .read(space: "s", key: Array("/".utf8), .linearizable))
        #expect(kind("GET /v1/kv/s/") == .malformed)
        #expect(kind("GET /v1/kv/s/%zz") == .malformed)
        #expect(kind("GET /v1/kv/s/" + String(repeating: "a", count: 1_025)) == .malformed)
        #expect(kind("PUT /v1/kv/s/" + String(repeating: "a", count: 1_025)) == .malformed)
        #expect(kind("GET /v1/kv/-s/a") == .malformed)
        #expect(kind("GET /v1/kv//a") == .malformed)
        #expect(kind("GET /v1/kv/" + String(repeating: "a", count: 65) + "/a") == .malformed)
    }

    @Test func `HEAD asks what GET asks, but for streams`() throws {
        let call = try route("HEAD /v1/kv/s/a").get()
        #expect(call.isHead && call.request == .read(space: "s", key: [97], .linearizable))
        #expect(kind("HEAD /v1/kv/s?watch=1") == .methodNotAllowed)
        #expect(kind("HEAD /v1/backup/1") == .methodNotAllowed)
    }

    @Test(arguments: [
        "GET /v1/kv/s/a?stale=5", "GET /v1/kv/s/a?stale=-1ms", "GET /v1/kv/s/a?stale=2h", "GET /v1/kv/s/a?stale=s",
        "GET /v1/kv/s/a?x=1", "GET /v1/kv/s/a?stale=1s&stale=1s", "GET /v1/kv/s?limit=0", "GET /v1/kv/s?limit=1001",
        "GET /v1/kv/s?limit=", "GET /v1/kv/s?watch=2",
        "GET /v1/kv/s?watch=1&from=a", "GET /v1/kv/s?watch=1&from=1.256", "GET /v1/kv/s?prefix=%z",
        "PUT /v1/kv/s/a?prev-revision=", "PUT /v1/kv/s/a?prev-revision=12", "PUT /v1/kv/s/a?prev-revision=1.2.3",
        "PUT /v1/kv/s/a?prev-value=a",
        "DELETE /v1/kv/s/a?prev-revision=0",
        "DELETE /v1/kv/s/a?prev-value=a", "GET /v1/status?x=1", "DELETE /v1/nodes/n?force=yes", "GET /v1/nodes/%2F",
        "DELETE /v1/vms/a?dry-run=2", "POST /v1/vms/a/stop?dry-run=1", "POST /v1/vms?dry-run=1",
        "PUT /v1/kv/s/a?a=1&a=1&a=1&a=1&a=1&a=1&a=1&a=1&a=1&a=1&a=1&a=1&a=1&a=1&a=1&a=1&a=1",
    ])
    func `a wrong parameter is refused`(_ line: String) {
        #expect(kind(line) == .malformed)
    }

    @Test(arguments: [
        "GET /v1/kv/s/a?stale=3601s", "GET /v1/kv/s?from=1", "GET /v1/kv/s?watch=1&limit=1",
        "PUT /v1/kv/s/a?prev-revision=0&prev-value=", "GET /v1/vms?stale=1s&index=4", "GET /v1/vms?filter=",
        "GET /v1/vms?filter=colour%3Dred", "GET /v1/vms?watch=1&sort=name", "GET /v1/hosts?from=1",
        "DELETE /v1/vms/a?dry-run=1&plan=8f",
    ])
    func `what fits the document and makes no sense is told apart from what does not fit`(_ line: String) {
        #expect(kind(line) == .invalid)
        #expect(Problem.Kind.invalid.status == 422)
    }

    @Test func `a number that is too large for an id is no VM's, and no fault`() {
        #expect(
            request("GET /v1/vms/99999999999999999999")
                == .fleet(.vm(.named("99999999999999999999", tenant: "default"), .linearizable)))
        #expect(request("GET /v1/vms/99") == .fleet(.vm(.id(VMID(99)), .linearizable)))
    }

    @Test func `what the writer writes fits the patterns of the document`() throws {
        for sample in samples {
            var bytes: [UInt8] = []
            RequestWriter(host: "h").write(
                AdminCall(sample, idempotencyKey: .once(high: 1, low: 2, born: LogIndex(3))), into: &bytes)
            var parser = RequestParser()
            parser.append(contentsOf: bytes)
            guard case .request(let head) = parser.next(),
                let route = Route.all.first(where: { $0.operation == sample.operation })
            else { continue }
            let key = parser.text(head.idempotencyKey)
            #expect(head.idempotencyKey.isThere == false || fits(key, Pattern.idempotencyKey), "\(key)")
            for pair in parser.bytes(head.query).split(separator: UInt8(ascii: "&")) {
                let parts = pair.split(separator: UInt8(ascii: "="), omittingEmptySubsequences: false)
                let name = String(decoding: parts[0], as: UTF8.self)
                guard case .text(let pattern)? = route.query.first(where: { $0.name == name })?.kind,
                    let value = PercentCoding.decode(parts[1], plusIsSpace: true)
                else { continue }
                let text = String(decoding: value, as: UTF8.self)
                #expect(fits(text, pattern), "\(route.path) \(name)=\(text) does not fit \(pattern)")
            }
        }
        #expect(!fits("5.256", Pattern.place) && !fits("2h", Pattern.duration) && !fits("0:1", Pattern.idempotencyKey))
    }

    private func fits(_ text: String, _ pattern: String) -> Bool {
        guard let expression = try? Regex(pattern) else { return false }
        return text.firstMatch(of: expression) != nil
    }

    @Test(
        arguments: [
            ("POST /v1/spaces", json, "", .malformed), ("POST /v1/spaces", "", "{}", .mediaTypeUnknown),
            ("POST /v1/spaces", "Content-Type: text/plain\r\n", "{\"name\":\"s\"}", .mediaTypeUnknown),
            ("POST /v1/spaces", json, "{\"name\":1}", .malformed), ("POST /v1/spaces", json, "[]", .malformed),
            ("POST /v1/spaces", json, "{\"name\":\"s\",\"x\":1}", .malformed),
            ("POST /v1/spaces", json, "{\"name\":\"s\",\"replicas\":2}", .malformed),
            ("POST /v1/spaces", json, "{\"name\":\"a/b\"}", .malformed),
            ("POST /v1/spaces/s/move", json, "{\"nodes\":[]}", .invalid),
            ("POST /v1/spaces/s/move", json, "{\"nodes\":[1]}", .malformed),
            ("POST /v1/tokens", json, "{\"kind\":\"api\"}", .invalid),
            ("POST /v1/tokens", json, "{\"kind\":\"join\",\"role\":\"admin\"}", .invalid),
            ("POST /v1/tokens", json, "{\"kind\":\"api\",\"role\":\"king\"}", .malformed),
            ("POST /v1/tokens", json, "{\"kind\":\"join\",\"uses\":0}", .malformed),
            ("POST /v1/leader/transfer", json, "{\"group\":1,\"space\":\"s\"}", .invalid),
            ("POST /v1/recover", json, "{\"group\":1,\"reason\":\"x\",\"acceptsLoss\":false}", .invalid),
            ("POST /v1/certs/renew", json, "{\"certificateRequest\":\"!\"}", .invalid),
            ("PUT /v1/backup-schedules/s", json, "{\"everySeconds\":1,\"keep\":0,\"directory\":\"\"}", .malformed),
            ("GET /v1/status", "", "x", .malformed), ("DELETE /v1/kv/s/a", "", "x", .malformed),
            ("GET /v1/kv/s", "", "x", .malformed),
        ] as [(String, String, String, Problem.Kind)])
    func `a wrong body is refused`(_ line: String, _ fields: String, _ body: String, _ expected: Problem.Kind) {
        #expect(kind(line, fields, body: body) == expected)
    }

    @Test func `a command whose answer has come, as its own key says, is in conflict with itself`() {
        #expect(kind("PUT /v1/kv/s/a", "Idempotency-Key: 1:1;ack=1\r\n") == .retryUnknown)
        #expect(kind("PUT /v1/kv/s/a", "Idempotency-Key: 1:2;ack=7\r\n") == .retryUnknown)
    }

    @Test func `media types are compared as they should be`() {
        #expect(
            request("POST /v1/spaces", "Content-Type: Application/JSON; charset=utf-8\r\n", body: "{\"name\":\"s\"}")
                == .createSpace(SpaceCreation(name: "s")))
    }

    @Test(
        arguments: [
            ("1:1", IdempotencyKey.session(ClientID(1), sequence: 1, acknowledged: 0, born: .zero)),
            (
                "18446744073709551615:7;ack=6;born=9",
                .session(ClientID(.max), sequence: 7, acknowledged: 6, born: LogIndex(9))
            ),
            ("1:2;born=3;ack=1", .session(ClientID(1), sequence: 2, acknowledged: 1, born: LogIndex(3))),
            (
                "00112233-4455-6677-8899-aAbBcCdDeEfF",
                .once(high: 0x0011_2233_4455_6677, low: 0x8899_AABB_CCDD_EEFF, born: .zero)
            ),
            (
                "00112233-4455-6677-8899-aabbccddeeff;born=5",
                .once(high: 0x0011_2233_4455_6677, low: 0x8899_AABB_CCDD_EEFF, born: LogIndex(5))
            ),
            (
                "00112233445566778899aabbccddeeff;born=5",
                .once(high: 0x0011_2233_4455_6677, low: 0x8899_AABB_CCDD_EEFF, born: LogIndex(5))
            ),
            ("00112233445566778899aabbccddeeff0", nil), ("0:1", nil), ("1:0", nil), ("1", nil), ("1:1:1", nil),
            ("", nil), ("a:1", nil),
            ("1:2;x=1", nil),
            ("1:2;ack=1;ack=1", nil), ("18446744073709551616:1", nil), ("00112233-4455-6677-8899-aabbccddeefg", nil),
            ("00112233-4455-6677-8899-aabbccddeeff;ack=1", nil), ("1:1 ;ack=0", nil),
        ] as [(String, IdempotencyKey?)])
    func `an idempotency key is one of two forms`(_ text: String, _ key: IdempotencyKey?) {
        #expect(IdempotencyKey(Array(text.utf8)) == key)
        guard let key else {
            return #expect(kind("PUT /v1/kv/s/a", "Idempotency-Key: \(text)\r\n") == .malformed || text.isEmpty)
        }
        var out: [UInt8] = []
        key.write(into: &out)
        #expect(IdempotencyKey(out) == key)
        guard case .write(_, let command)? = request("PUT /v1/kv/s/a", "Idempotency-Key: \(text)\r\n") else {
            Issue.record("\(text) makes no write")
            return
        }
        #expect(command.client == key.client && command.client.rawValue != 0 && command.sequence == key.sequence)
        #expect(command.acknowledged == key.acknowledged && command.born == key.born)
    }

    @Test func `problems carry the path`() {
        guard case .failure(let refusal) = route("GET /v1/nope?x=y") else { return #expect(Bool(false)) }
        #expect(refusal.problem.instance == "/v1/nope")
    }

    @Test func `the document lists exactly the routes, their parameters and bodies`() throws {
        let document = try JSONParser.parse(
            OpenAPIDocument.bytes(version: "1.2.3")[...], depthMax: 32, valuesMax: 1 << 20)
        #expect(document["openapi"] == .string("3.1.0") && document["info"]?["version"] == .string("1.2.3"))
        var found: [String] = []
        for path in document["paths"]?.members ?? [] {
            for method in path.value.members ?? [] {
                found.append("\(method.name.uppercased()) \(path.name) \(method.value["operationId"]?.text ?? "")")
                let route = Route.all.first { $0.operation.rawValue == method.value["operationId"]?.text }
                let parameters = method.value["parameters"]?.elements ?? []
                #expect(
                    parameters.filter { $0["in"] == .string("query") }.compactMap { $0["name"]?.text }
                        == route?.query.map(\.name))
                #expect(
                    parameters.filter { $0["in"] == .string("path") }.compactMap { $0["name"]?.text }
                        == route?.parameters)
                #expect((method.value["requestBody"] != nil) == (route?.body != Route.Body.none))
                #expect(method.value["security"]?.elements?.isEmpty == (route?.security == .open))
            }
        }
        // A plan comes under 200, beside whatever else the change is answered with.
        for route in Route.all where route.query.contains(where: { $0.name == "dry-run" }) {
            let answers = document["paths"]?[route.path]?[route.method.name.lowercased()]?["responses"]
            let said = answers?["200"].map { String(decoding: $0.bytes, as: UTF8.self) } ?? ""
            #expect(said.contains("#/components/schemas/Plan\""), "\(route.path)")
            #expect(answers?["\(route.status)"] != nil)
        }
        #expect(found.sorted() == Route.all.map { "\($0.method.name) \($0.path) \($0.operation.rawValue)" }.sorted())
        // Every reference leads somewhere.
        let schemas = Set((document["components"]?["schemas"]?.members ?? []).map(\.name))
        func references(_ value: JSONValue) -> [String] {
            switch value {
            case .array(let elements): elements.flatMap(references)
            case .object(let members):
                members.flatMap { $0.name == "$ref" ? [$0.value.text ?? ""] : references($0.value) }
            default: []
            }
        }
        for reference in references(document) {
            #expect(schemas.contains(String(reference.split(separator: "/").last ?? "")), "\(reference)")
        }
    }
}

@Suite struct AnswerTests {
    private func holds<T: Shaped>(_ value: T) throws {
        #expect(value.members.map(\.name) == T.shape.fields.map(\.name), "\(T.self)")
        #expect(try T(body: value.json.bytes[...]) == value)
        for field in T.shape.fields where field.isRequired {
            let members = value.members.filter { $0.name != field.name }
            #expect(throws: Problem.self) { try T(body: JSONValue.object(members).bytes[...]) }
        }
    }

    @Test func `the newest log is that with the last entry, whatever term or commit a node knows`() {
        func group(term: UInt64, committed: UInt64, last: UInt64, lastTerm: UInt64) -> GroupInfo {
            GroupInfo(
                group: 1, kind: "root", name: "", leader: "", term: term, committed: committed, applied: committed,
                last: last,
                lastTerm: lastTerm, voters: [], learners: [])
        }
        // Entry 100 was acknowledged; its holder never heard of the commit, and the other has campaigned since.
        let holder = group(term: 4, committed: 99, last: 100, lastTerm: 4)
        let campaigner = group(term: 9, committed: 99, last: 99, lastTerm: 4)
        #expect(holder.isNewer(than: campaigner) && !campaigner.isNewer(than: holder))
        let later = group(term: 5, committed: 98, last: 99, lastTerm: 5)
        #expect(later.isNewer(than: holder) && !holder.isNewer(than: later))
    }

    @Test func `every body is written as its shape says and read back`() throws {
        let group = GroupInfo(
            group: 1, kind: "root", name: "", leader: "n", term: 2, committed: 3, applied: 4, last: 5, lastTerm: 2,
            voters: ["n"], learners: [])
        let space = SpaceInfo(name: "s", group: 4, nodes: ["a"], leader: "a", state: "ready")
        let certificate = CertificateInfo(subject: "ca", serial: "0a", begins: 1, expires: 2, state: "in use")
        try holds(Listing([space]))
        try holds(space)
        try holds(group)
        try holds(
            ClusterStatus(
                cluster: "c", node: "n", version: "1", isReady: true, groups: [group], alarms: ["x"], addresses: ["a:1"]
            ))
        try holds(
            NodeInfo(
                name: "n", node: 1, region: "r", zone: "z", rack: "k", address: "a:1", adminAddress: "a:2",
                role: "voter", state: "up", version: "1", certificateExpires: 5, cell: "c", movesTo: "d"))
        let planned = """
            {"kind":"merge","state":"paused","into":"d","number":300,"hosts":3,"vms":4,"left":5,"stays":["n: it is down"],\
            "expectedMillis":6,"retire":true,"automatic":true,"since":7,"changedAt":8,"by":"admin"}
            """
        let hostsPlan = try HostsPlanInfo(body: Array(planned.utf8)[...])
        try holds(
            CellInfo(
                name: "c", group: 2, region: "r", survives: "zone", epoch: 3, hosts: 4, nodes: ["n"], leader: "n",
                state: "ready", risks: ["x"], plan: hostsPlan))
        try holds(hostsPlan)
        try holds(
            HostsPlanWish(.merge, into: "d", hosts: 3, rack: "r", zone: "z", retires: true, isDryRun: true))
        try holds(CellCreation(name: "c", region: "r", survives: "region", replicas: 3))
        try holds(CellAssignment(cell: "c", isDryRun: true))
        try holds(TokenInfo(id: "t", kind: "api", role: "viewer", usesLeft: -1, expires: 0, note: ""))
        try holds(CreatedToken(id: "t", token: "secret", expires: 9))
        try holds(JoinAnswer(cluster: "c", node: 3, certificate: [1, 2], authorities: ["pem"], peers: ["a:1"]))
        try holds(certificate)
        try holds(RenewedCertificate(certificate: [7], authorities: ["pem"]))
        try holds(GateInfo(name: "g", summary: "s", isOpen: false, missing: ["n"]))
        try holds(Acceptance("soon"))
        try holds(BackupSchedule(everySeconds: 60, keep: 1, directory: "/b", keyFile: "/k"))
        try holds(SpaceCreation(name: "s", replicas: 3, nodes: ["a"]))
        try holds(SpaceMove(nodes: ["a"]))
        try holds(TokenCreation(kind: .api, role: .admin, uses: 1, ttlSeconds: 1, note: "n"))
        try holds(CertificateRotation(subject: .node, node: "n", step: .sign))
        try holds(CertificateRenewal(certificateRequest: [1]))
        try holds(UpgradeFinalization(gate: "g"))
        try holds(Recovery(group: 1, reason: "r", acceptsLoss: true))
        try holds(
            JoinRequest(
                secret: "s", name: "n", region: "r", zone: "z", rack: "k", address: "a", adminAddress: "b",
                certificateRequest: [1], version: "1", level: 2, clock: 1, isCheck: true, probe: "ab"))
    }

    @Test func `a newer server's members are passed over`() throws {
        let json = JSONValue.object([JSONMember("message", "m"), JSONMember("new", "x")])
        #expect(try Acceptance(body: json.bytes[...]) == Acceptance("m"))
    }

    @Test func `pages and watch lines are read back as they were`() throws {
        let records = [
            SpaceRecord(
                key: [0, 47, 255], value: [1, 2], created: revision, modified: .end(of: LogIndex(900)), version: 2),
            SpaceRecord(key: [97], value: [], created: revision, modified: revision, version: 1),
        ]
        let page = SpaceJSON.page(records, next: [97, 0], .end(of: LogIndex(901)))
        let read = try SpaceJSON.readPage(page[...])
        #expect(read.records == records && read.next == [97, 0] && read.revision == .end(of: LogIndex(901)))
        var out = Array("x".utf8)
        SpaceJSON.writeLine(.written(records[0]), into: &out)
        SpaceJSON.writeLine(.deleted(key: [255], revision), into: &out)
        SpaceJSON.writeProgress(revision, into: &out)
        SpaceJSON.writeCompacted(revision, into: &out)
        let lines = try out.dropFirst().split(separator: 10).map { try SpaceJSON.parseLine($0) }
        #expect(
            lines == [
                .change(.written(records[0])), .change(.deleted(key: [255], revision)), .progress(revision),
                .compacted(revision),
            ])
    }

    @Test func `what became of a write is told by status`() {
        func status(_ outcome: SpaceResult.Outcome) -> Int {
            AdminResponse(SpaceResult(revision: revision, outcome: outcome)).status
        }
        #expect(status(.written(version: 1)) == 200 && status(.deleted) == 200 && status(.notFound) == 404)
        #expect(status(.conflict(modified: revision)) == 409 && status(.conflict(modified: nil)) == 409)
        #expect(status(.refused(.keyEmpty)) == 400 && status(.refused(.valueTooLong(9))) == 413)
        #expect(status(.refused(.sessionUnknown(bornAtLeast: LogIndex(3)))) == 409)
        let conflict = AdminResponse(SpaceResult(revision: revision, outcome: .conflict(modified: revision)))
        #expect(conflict.index == LogIndex(812))
    }
}

@Suite struct AccessTests {
    @Test func `a node writes down some refusals at once, and then one in a while with how many there were`() {
        var budget = RefusalBudget()
        var now = Instant(nanoseconds: 5)
        for _ in 0..<RefusalBudget.burst { #expect(budget.note(now: now) == 0) }
        for _ in 0..<7 { #expect(budget.note(now: now) == nil) }
        now += RefusalBudget.interval - Nanoseconds(1)
        #expect(budget.note(now: now) == nil)
        now += Nanoseconds(1)
        #expect(budget.note(now: now) == 8)
        #expect(budget.note(now: now) == nil)
        now += RefusalBudget.interval * 1_000
        #expect(budget.note(now: now) == 1)
        var noted = 1
        for _ in 0..<100 where budget.note(now: now) != nil { noted += 1 }
        #expect(noted == RefusalBudget.burst)
    }

    static let actions: [Action] = [
        .ask, .measure, .join, .observe, .readSpace("s"), .readSpace("t"), .writeSpace("s"), .writeSpace("t"),
        .manageSpaces,
        .manageNodes, .manageTokens, .manageCertificates, .renewOwnCertificate, .transferLeadership, .upgrade,
        .copyState, .backup,
        .recover, .readTenant("s"), .readTenant("t"), .readTenant(nil), .writeTenant("s"), .writeTenant("t"),
        .writeTenant(nil), .manageHosts, .manageTenants, .manageCells, .changeSettings,
        .planTenant("s"), .planTenant("t"), .planTenant(nil),
    ]

    /// One letter for each of `actions`: + allowed, . forbidden.
    @Test(
        arguments: [
            (.admin, "+++++++++++++++++++++++++++++++"), (.operator, "++++++++++..+++++.+++++++.+++++"),
            (.viewer, "++++........+.....+++.......+++"), (.node, "++++........+..+............+++"),
            (.space("s", mayWrite: false), "+.+.+.......+.................."),
            (.space("s", mayWrite: true), "+.+.+.+.....+.................."),
            (.tenant("s", mayWrite: false), "+.+.........+.....+.+.........."),
            (.tenant("s", mayWrite: true), "+.+.........+.....+.++.+....+.+"),
        ] as [(Role, String)])
    func `each role may do exactly this`(_ role: Role, _ expected: String) {
        let found = AccessTests.actions.map {
            Access.judge($0, .operator("x"), roles: [role]) == .allowed ? "+" : "."
        }.joined()
        #expect(found == expected)
    }

    @Test func `nobody may ask for health and join, and for metrics where the setting says so`() {
        for action in AccessTests.actions {
            let verdict = Access.judge(action, .anonymous, roles: [.admin])
            #expect(verdict == (action == .ask || action == .join ? .allowed : .unauthenticated))
            #expect((Access.problem(verdict, action, .anonymous)?.kind == .unauthenticated) == (verdict != .allowed))
        }
        #expect(Access.judge(.measure, .anonymous, roles: [], metricsAreOpen: true) == .allowed)
        #expect(Access.judge(.observe, .token("t"), roles: []) == .forbidden)
        #expect(Access.judge(.writeSpace("b"), .token("t"), roles: [.viewer, .space("b", mayWrite: true)]) == .allowed)
    }

    @Test func `roles are written and read`() {
        for role in [
            Role.admin, .operator, .viewer, .space("a.b", mayWrite: true), .space("a", mayWrite: false),
            .tenant("a.b", mayWrite: true), .tenant("a", mayWrite: false),
        ] {
            #expect(Role(role.text) == role)
        }
        for text in ["", "node", "space:a", "space::read", "space:a:all", "Admin", "tenant:a"] {
            #expect(Role(text) == nil)
        }
    }
}
