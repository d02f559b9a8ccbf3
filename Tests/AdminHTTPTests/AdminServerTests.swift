import AdminAPI
import AdminHTTP
import ClusterBase
import FleetModel
import Reactor
import SecureChannel
import TLSSession
import Testing

private func put(_ key: String, _ value: String = "v", _ fields: String = "") -> String {
    "PUT /v1/kv/s/\(key) HTTP/1.1\r\nHost: a\r\n\(fields)Content-Length: \(value.utf8.count)\r\n\r\n\(value)"
}

private func get(_ path: String, _ fields: String = "") -> String { "GET \(path) HTTP/1.1\r\nHost: a\r\n\(fields)\r\n" }

@Suite(.serialized) struct AdminServerTests {
    @Test func `one connection carries request after request`() throws {
        let world = try World()
        defer { world.end() }
        let client = try RawClient(world)
        for i in 1...20 {
            client.say(put("k\(i)"))
            #expect(client.wait(for: i))
        }
        #expect(client.responses.allSatisfy { $0.status == 200 && $0.head.contains("muster-index: 7") })
        #expect(client.responses[0].head.contains("date: ") && client.responses[0].head.contains(" GMT"))
        #expect(world.server.counters.accepted == 1 && world.server.counters.requests == 20)
        #expect(world.calls.allSatisfy { $0.principal == .operator("ann") })
        #expect(client.closed == nil)
    }

    @Test func `answers come in the order of the requests whatever order they are given in`() throws {
        let world = try World()
        defer { world.end() }
        world.onCall = { _, _, _ in }
        let client = try RawClient(world)
        let keys = ["a", "b", "c", "d", "e", "f"]
        client.say(keys.map { get("/v1/kv/s/\($0)") }.joined())
        #expect(world.run { world.calls.count == 6 })
        for place in [3, 1, 5, 0, 4, 2] {
            world.server.answer(world.calls[place].ticket, World.answer(to: world.calls[place].call))
            world.turns(2)
        }
        #expect(client.wait(for: 6))
        #expect(client.responses.map { String($0.body.prefix(1)) } == keys)
    }

    @Test func `more than the bound of requests in a row wait in the socket and all are answered`() throws {
        var settings = AdminSettings()
        settings.limits.pipelinedMax = 4
        let world = try World(settings)
        defer { world.end() }
        world.onCall = { _, _, _ in }
        let client = try RawClient(world)
        client.say((0..<50).map { put("k\($0)") }.joined())
        #expect(world.run { world.calls.count == 4 })
        world.turns(20)
        #expect(world.calls.count == 4)
        var answered = 0
        #expect(
            world.run {
                while answered < world.calls.count {
                    world.server.answer(world.calls[answered].ticket, World.answer(to: world.calls[answered].call))
                    answered += 1
                }
                return client.responses.count == 50
            })
        #expect(client.responses.allSatisfy { $0.status == 200 })
    }

    @Test func `without a certificate there is 401 with a problem, but health is open`() throws {
        let world = try World()
        defer { world.end() }
        let client = try RawClient(world, nil)
        client.say(put("a") + get("/healthz") + get("/readyz") + get("/v1/openapi.json") + get("/metrics"))
        #expect(client.wait(for: 5))
        let responses = client.responses
        #expect(responses.map(\.status) == [401, 200, 200, 200, 401])
        #expect(responses[0].head.contains("content-type: application/problem+json"))
        #expect(responses[0].head.contains("www-authenticate: Bearer"))
        #expect(
            responses[0].body.contains("\"instance\":\"/v1/kv/s/a\"")
                && responses[0].body.contains("client certificate"))
        #expect(responses[1].body == "alive\n" && responses[2].body == "ready\n")
        #expect(responses[3].body.contains("\"openapi\":\"3.1.0\""))
        world.metricsAreOpen = true
        client.say(get("/metrics"))
        #expect(client.wait(for: 6) && client.responses[5].status == 200)
        #expect(world.calls.allSatisfy { $0.principal == .anonymous })
    }

    @Test func `a token is somebody with its own rights, and a wrong one is nobody`() throws {
        let world = try World()
        defer { world.end() }
        let client = try RawClient(world, nil)
        let good = "Authorization: bearer secret\r\n"
        client.say(put("a", "v", good) + get("/v1/status", good) + put("a", "v", "Authorization: Bearer wrong\r\n"))
        client.say(put("a", "v", "Authorization: Basic secret\r\n") + get("/v1/kv/t", good))
        #expect(client.wait(for: 5))
        #expect(client.responses.map(\.status) == [200, 403, 401, 401, 403])
        #expect(client.responses[1].body.contains("token t1 may not look at the cluster"))
        world.known[.token("t1")] = []
        client.say(put("a", "v", good))
        #expect(client.wait(for: 6) && client.responses[5].status == 403)
        // A change that is refused is told to who keeps the audit; what nobody known asks for is not.
        #expect(world.forbidden == ["token t1 may not write to the space s"])
        // A node that has just started has not heard yet who may do what: another may know.
        world.knowsRoles = false
        client.say(put("a", "v", good))
        #expect(client.wait(for: 7) && client.responses[6].status == 503)
    }

    @Test func `what was granted a moment ago is looked up before anybody is refused`() throws {
        let world = try World()
        defer { world.end() }
        let client = try RawClient(world, nil)
        var waiting: [(Bool) -> Void] = []
        world.onLearn = { waiting.append($1) }
        let new = "Authorization: Bearer new\r\n"
        client.say(put("a", "v", new) + get("/v1/kv/s/a", "Authorization: Bearer secret\r\n"))
        #expect(world.run { waiting.count == 1 && world.calls.count == 1 }, "the second need not wait for the first")
        #expect(client.responses.isEmpty, "but its answer does")
        world.tokens["new"] = .token("t2")
        world.known[.token("t2")] = [.operator]
        waiting[0](true)
        #expect(client.wait(for: 2) && client.responses.map(\.status) == [200, 200])
        #expect(world.calls.map(\.principal) == [.token("t1"), .token("t2")])
        // A role that is new, too.
        world.known[.token("t2")] = []
        client.say(put("a", "v", new))
        #expect(world.run { waiting.count == 2 })
        world.known[.token("t2")] = [.operator]
        waiting[1](false)
        #expect(client.wait(for: 3) && client.responses[2].status == 200)
        // Where the root can't be asked, nobody knows whether the token is a wrong one.
        client.say(put("a", "v", "Authorization: Bearer wrong\r\n") + put("b", "v", "Authorization: Bearer wrong\r\n"))
        #expect(world.run { waiting.count == 4 })
        waiting[2](false)
        waiting[3](true)
        #expect(client.wait(for: 5) && client.responses[3...].map(\.status) == [503, 401])
        // Whoever has gone meanwhile is forgotten.
        client.say(put("a", "v", "Authorization: Bearer wrong\r\n"))
        #expect(world.run { waiting.count == 5 })
        client.connection?.close()
        #expect(world.run { world.server.connectionCount == 0 })
        waiting[4](true)
        #expect(world.looks == 5 && world.calls.count == 3)
    }

    @Test func `who is removed is refused with the next request on the same connection`() throws {
        let world = try World()
        defer { world.end() }
        let client = try RawClient(world, .operator(cluster: "test", name: "vic"))
        client.say(get("/v1/status") + get("/v1/kv/s/a") + put("a"))
        #expect(client.wait(for: 3) && client.responses.map(\.status) == [202, 403, 403])
        world.known[.operator("vic")] = nil
        client.say(get("/v1/status"))
        #expect(client.wait(for: 4) && client.responses[3].status == 403)
        let node = try RawClient(world, .node(cluster: "test", node: NodeID(9)))
        node.say(get("/v1/status"))
        #expect(node.wait(for: 1) && node.responses[0].status == 403)
    }

    @Test func `who connected with a certificate is nobody when it has ended`() throws {
        let world = try World()
        defer { world.end() }
        let client = try RawClient(world, .operator(cluster: "test", name: "ann"), seconds: 2)
        client.say(get("/v1/status"))
        #expect(client.wait(for: 1) && client.responses[0].status == 202)
        let asked = world.run(10) {
            client.say(get("/v1/status"))
            world.turns(100)
            return client.responses.contains { $0.status != 202 }
        }
        #expect(asked && client.responses.last?.status == 401)
        #expect(client.responses.last?.body.contains("expired") == true)
    }

    @Test func `another cluster's certificate ends the handshake`() throws {
        let world = try World()
        defer { world.end() }
        let context = try Keys.client(.operator(cluster: "test", name: "ann"), of: Keys.other.get())
        var failure: AdminClientFailure?
        let client = AdminClient(
            world.loop, to: world.server.address, host: "a", serverName: "127.0.0.1", context: context
        ) { _, event in if case .failed(let found) = event { failure = found } }
        client.send(AdminCall(.status))
        #expect(world.run { failure != nil })
        #expect(world.calls.isEmpty && world.server.counters.insecure == 1)
    }

    @Test func `bytes that are no request get their answer after the ones before, and the connection ends`() throws {
        let world = try World()
        defer { world.end() }
        world.onCall = { _, _, _ in }
        let client = try RawClient(world)
        client.say(put("a") + "GET / HTTP/1.1\nHost: a\r\n\r\n" + put("b"))
        #expect(world.run { world.calls.count == 1 && world.server.counters.malformed == 1 })
        world.turns(10)
        #expect(client.responses.isEmpty)
        world.server.answer(world.calls[0].ticket, World.answer(to: world.calls[0].call))
        #expect(world.run { client.closed != nil })
        #expect(client.responses.map(\.status) == [200, 400])
        #expect(client.responses[1].head.contains("connection: close"))
        #expect(client.responses[1].body.contains("CR LF"))
        #expect(world.calls.count == 1)
    }

    @Test(arguments: [
        ("GET /\(String(repeating: "a", count: 9_000)) HTTP/1.1\r\n", 414),
        (get("/", (0..<70).map { "X\($0): y\r\n" }.joined()), 431),
        (get("/", "X: \(String(repeating: "y", count: 20_000))\r\n"), 431),
        ("PUT /v1/kv/s/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n", 413),
        (get("/", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"), 400), ("BREW / HTTP/1.1\r\n\r\n", 501),
    ])
    func `what is too large or malformed is refused and nothing after it is read`(_ text: String, _ status: Int) throws
    {
        let world = try World()
        defer { world.end() }
        let client = try RawClient(world)
        client.say(text)
        #expect(world.run { client.closed != nil })
        #expect(client.responses.map(\.status) == [status])
        #expect(world.run { world.server.connectionCount == 0 })
    }

    @Test func `a client that dribbles its header or its body is told 408`() throws {
        var settings = AdminSettings()
        settings.limits.headTimeout = .milliseconds(150)
        settings.limits.bodyTimeout = .milliseconds(150)
        let world = try World(settings)
        defer { world.end() }
        for begin in ["GET /v1/sta", "PUT /v1/kv/s/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"] {
            let client = try RawClient(world)
            client.say(begin)
            let started = world.loop.now
            // A byte now and then does not help.
            while client.closed == nil, world.loop.now - started < .seconds(5) {
                client.say("x")
                world.turns(20)
            }
            #expect(client.responses.map(\.status) == [408])
            #expect(world.loop.now - started > .milliseconds(140) && world.loop.now - started < .seconds(2))
        }
        #expect(world.server.counters.tooSlow == 2)
    }

    @Test func `an idle connection is closed, one that waits for its answer is not`() throws {
        var settings = AdminSettings()
        settings.limits.idleTimeout = .milliseconds(100)
        let world = try World(settings)
        defer { world.end() }
        world.onCall = { _, _, _ in }
        let idle = try RawClient(world)
        let waiting = try RawClient(world)
        waiting.say(put("a"))
        #expect(world.run(3) { idle.closed != nil })
        #expect(idle.responses.isEmpty && waiting.closed == nil)
    }

    @Test func `what nobody answers is answered: a change is unknown, a question is unavailable`() throws {
        var settings = AdminSettings()
        settings.answerTimeout = .milliseconds(100)
        let world = try World(settings)
        defer { world.end() }
        world.onCall = { _, _, _ in }
        let client = try RawClient(world)
        client.say(put("a") + get("/v1/kv/s/a"))
        #expect(client.wait(for: 2))
        #expect(client.responses.map(\.status) == [504, 503])
        #expect(world.cancelledTickets == world.calls.map(\.ticket))
        // A late answer hurts nobody.
        world.server.answer(world.calls[0].ticket, World.answer(to: world.calls[0].call))
        world.turns(5)
        #expect(client.responses.count == 2)
    }

    @Test func `a client has one bound wherever it connects, and others and strangers have their own`() throws {
        var settings = AdminSettings()
        settings.requestRateMax = 5
        settings.strangerRateMax = 2
        let world = try World(settings)
        defer { world.end() }
        let (first, second) = (try RawClient(world), try RawClient(world))
        let vic = try RawClient(world, .operator(cluster: "test", name: "vic"))
        let stranger = try RawClient(world, nil)
        first.say((0..<4).map { put("k\($0)") }.joined())
        #expect(first.wait(for: 4))
        second.say((0..<4).map { put("l\($0)") }.joined())
        #expect(second.wait(for: 4))
        let told = (first.responses + second.responses).filter { $0.status == 429 }
        #expect((2...3).contains(told.count), "a little time may have passed")
        #expect(told.allSatisfy { $0.head.contains("retry-after: 1") && $0.body.contains("operator ann") })
        #expect(told.allSatisfy { $0.body.contains("admin.request-rate") })
        vic.say(get("/v1/kv/s/a"))
        #expect(vic.wait(for: 1) && vic.responses[0].status != 429)
        // What shows nothing that counts is a stranger, whose token is somebody else.
        let bad = "GET /healthz HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer nonsense\r\n\r\n"
        stranger.say(get("/healthz") + bad + get("/healthz") + get("/healthz"))
        #expect(stranger.wait(for: 4))
        #expect(stranger.responses.last?.status == 429)
        #expect(stranger.responses.last?.body.contains("admin.stranger-rate") == true)
        stranger.say("GET /healthz HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer secret\r\n\r\n")
        #expect(stranger.wait(for: 5) && stranger.responses.last?.status == 200)
        #expect(world.server.counters.tooOften >= 3)
        world.turns(600)
        first.say(put("z"))
        #expect(first.wait(for: 5) && first.responses.last?.status == 200, "with time there is more")
    }

    @Test func `one connection too many is told 503`() throws {
        var settings = AdminSettings()
        settings.limits.connectionsMax = 2
        settings.turnAwayMax = 1
        let world = try World(settings)
        defer { world.end() }
        let first = try RawClient(world)
        let second = try RawClient(world)
        let third = try RawClient(world)
        third.say(put("a"))
        #expect(world.run { third.closed != nil })
        #expect(third.responses.map(\.status) == [503] && third.responses[0].head.contains("retry-after: 1"))
        #expect(world.server.counters.turnedAway == 1)
        first.say(put("a"))
        #expect(first.wait(for: 1) && second.closed == nil)
        first.connection?.close()
        #expect(world.run { world.server.connectionCount == 1 })
        let fourth = try RawClient(world)
        fourth.say(put("a"))
        #expect(fourth.wait(for: 1) && fourth.responses[0].status == 200)
    }

    @Test func `incomplete bodies on all connections together have a bound`() throws {
        var settings = AdminSettings()
        settings.heldBytesMax = 500_000
        let world = try World(settings)
        defer { world.end() }
        let half =
            "PUT /v1/kv/s/a HTTP/1.1\r\nHost: a\r\nContent-Length: 400000\r\n\r\n"
            + String(repeating: "x", count: 300_000)
        let first = try RawClient(world)
        first.say(half)
        world.turns(50)
        let second = try RawClient(world)
        second.say(half)
        #expect(world.run { second.closed != nil || first.closed != nil })
        #expect(second.responses.map(\.status) == [503])
        first.say(String(repeating: "x", count: 100_000))
        #expect(first.wait(for: 1) && first.responses[0].status == 200)
    }

    @Test func `a stream waits for its reader and loses nothing`() throws {
        var settings = AdminSettings()
        settings.limits.sendBufferBytesMax = 256 << 10
        let world = try World(settings)
        defer { world.end() }
        let total = 400
        var sent = 0
        func pump(_ ticket: Ticket) {
            while sent < total {
                var line: [UInt8] = []
                let record = SpaceRecord(
                    key: Array("k\(sent)".utf8), value: [UInt8](repeating: 7, count: 9_000), created: .zero,
                    modified: Revision(index: LogIndex(UInt64(sent)), slot: 0), version: 1)
                SpaceJSON.writeLine(.written(record), into: &line)
                sent += 1
                if world.server.send(ticket, line) != .open { return }
            }
            world.server.endStream(ticket)
        }
        world.onCall = { world, call, ticket in
            world.server.answer(ticket, .stream(.jsonLines, index: LogIndex(3)))
            pump(ticket)
        }
        let context = try Keys.client(.operator(cluster: "test", name: "ann"))
        var lines = 0
        var rest: [UInt8] = []
        var began: AdminAnswer?
        var isEnded = false
        let client = AdminClient(
            world.loop, to: world.server.address, host: "a", serverName: "127.0.0.1", context: context
        ) { _, event in
            switch event {
            case .streamBegan(let answer): began = answer
            case .piece(let bytes):
                rest += bytes
                var begin = 0
                while let end = rest[begin...].firstIndex(of: 10) {
                    guard case .change(let change)? = try? SpaceJSON.parseLine(rest[begin..<end]) else { break }
                    #expect(change.key == Array("k\(lines)".utf8))
                    lines += 1
                    begin = end + 1
                }
                rest.removeFirst(begin)
            case .streamEnded: isEnded = true
            default: Issue.record("\(event)")
            }
        }
        client.send(AdminCall(.watch(space: "s", prefix: [], from: nil)))
        #expect(world.run { began != nil })
        client.pause()
        world.turns(100)
        // The sockets hold some megabytes; the server no more than its bound and one line.
        let held = sent
        world.turns(50)
        #expect(sent == held && sent < total)
        client.resume()
        #expect(
            world.run {
                while let ticket = world.roomTickets.popLast() { pump(ticket) }
                return isEnded
            })
        #expect(lines == total && began?.index == LogIndex(3))
        client.close()
    }

    @Test
    func `a stream whose reader takes too little is told so and cut, and holds a bounded part of memory till then`()
        throws
    {
        var settings = AdminSettings()
        settings.limits.sendBufferBytesMax = 256 << 10
        settings.limits.streamTimeout = .milliseconds(300)
        let world = try World(settings)
        defer { world.end() }
        let piece = [UInt8](repeating: 7, count: 9_000)
        var sent = 0
        func pump(_ ticket: Ticket) {
            repeat { sent += 1 } while world.server.send(ticket, piece) == .open
        }
        world.onCall = { world, call, ticket in
            world.server.answer(ticket, .stream(.jsonLines, index: LogIndex(3)))
            pump(ticket)
        }
        let context = try Keys.client(.operator(cluster: "test", name: "ann"))
        var bytes = 0
        var tail: [UInt8] = []
        var isEnded = false
        let client = AdminClient(
            world.loop, to: world.server.address, host: "a", serverName: "127.0.0.1", context: context
        ) { _, event in
            switch event {
            case .piece(let more):
                bytes += more.count
                tail = (tail + more).suffix(8)
            case .streamEnded, .failed: isEnded = true
            default: break
            }
        }
        client.send(AdminCall(.watch(space: "s", prefix: [], from: nil)))
        #expect(world.run { sent > 0 })
        client.pause()
        #expect(
            world.run {
                while let ticket = world.roomTickets.popLast() { pump(ticket) }
                return !world.overdueTickets.isEmpty
            })
        #expect(world.overdueTickets.count == 1 && world.server.counters.tooSlow == 1)
        let pumped = sent
        world.turns(100)
        #expect(sent == pumped, "nothing more is asked of its owner")
        client.resume()
        #expect(world.run { isEnded })
        // It reads what was sent before, and that this is the end.
        #expect(bytes == pumped * piece.count + 8 && tail.elementsEqual("overdue\n".utf8), "\(bytes)")
        #expect(world.run { world.server.connectionCount == 0 })
        client.close()
    }

    @Test func `a stream that breaks off is told from one that ends, and its client's end is told to the handler`()
        throws
    {
        let world = try World()
        defer { world.end() }
        world.onCall = { world, _, ticket in
            world.server.answer(ticket, .stream(.bytes))
            _ = world.server.send(ticket, [1, 2, 3])
        }
        let context = try Keys.client(.operator(cluster: "test", name: "ann"))
        var events: [String] = []
        let client = AdminClient(
            world.loop, to: world.server.address, host: "a", serverName: "127.0.0.1", context: context
        ) { _, event in
            switch event {
            case .piece: events.append("piece")
            case .streamEnded: events.append("end")
            case .failed: events.append("failed")
            default: break
            }
        }
        client.send(AdminCall(.copyGroup(1)))
        #expect(world.run { events == ["piece"] })
        world.server.endStream(world.calls[0].ticket, isWhole: false)
        #expect(world.run { events == ["piece", "failed"] })
        client.send(AdminCall(.copyGroup(1)))
        #expect(world.run { events.count == 3 })
        client.close()
        #expect(world.run { world.cancelledTickets == [world.calls[1].ticket] })
        #expect(world.server.send(world.calls[1].ticket, [1]) == .gone)
    }

    @Test func `a client that asks, says that this was all, and listens gets its answers`() throws {
        let world = try World()
        defer { world.end() }
        var waiting: [Ticket] = []
        world.onCall = { _, _, ticket in waiting.append(ticket) }
        let client = try HalfClosedClient(world.server.address, put("a") + put("b"))
        #expect(world.run { waiting.count == 2 })
        world.turns(50)
        #expect(client.answer == nil)
        for (i, ticket) in waiting.enumerated() { world.server.answer(ticket, World.answer(to: world.calls[i].call)) }
        #expect(world.run { client.answer != nil })
        let text = client.answer ?? ""
        #expect(text.components(separatedBy: "HTTP/1.1 200").count == 3, "\(text)")
        #expect(text.contains("connection: close"))
        #expect(world.run { world.server.connectionCount == 0 })
        #expect(world.cancelledTickets.isEmpty)
    }

    @Test func `a drain answers what is under way, ends streams, and takes nobody more`() throws {
        let world = try World()
        defer { world.end() }
        world.onCall = { world, call, ticket in
            if call.request.isStream {
                world.server.answer(ticket, .stream(.jsonLines))
                _ = world.server.send(ticket, Array("{}\n".utf8))
            }
        }
        let idle = try RawClient(world)
        let busy = try RawClient(world)
        let watching = try RawClient(world)
        busy.say(put("a") + put("b"))
        watching.say(get("/v1/kv/s?watch=1"))
        #expect(world.run { world.calls.count == 3 })
        var isDrained = false
        world.server.drain { isDrained = true }
        #expect(world.run { idle.closed != nil && watching.closed != nil })
        #expect(watching.responses.map(\.status) == [200] && watching.responses[0].body == "{}\n")
        #expect(!isDrained && busy.closed == nil)
        for call in world.calls where !call.call.request.isStream {
            world.server.answer(call.ticket, World.answer(to: call.call))
        }
        #expect(world.run { isDrained && busy.closed != nil })
        #expect(busy.responses.map(\.status) == [200, 200])
        #expect(busy.responses[1].head.contains("connection: close") && !busy.responses[0].head.contains("close"))
        let late = try RawClient(world)
        #expect(!late.isEstablished || late.closed != nil)
    }

    @Test func `a request that is on its way when a drain begins is answered, and is the connection's last`() throws {
        let world = try World()
        defer { world.end() }
        world.onCall = { world, call, ticket in world.server.answer(ticket, World.answer(to: call)) }
        let (late, halfway, silent) = (try RawClient(world), try RawClient(world), try RawClient(world))
        let request = put("a")
        halfway.say(String(request.dropLast()))
        #expect(world.run { world.server.connectionCount == 3 })
        world.turns(20)
        var isDrained = false
        world.server.drain { isDrained = true }
        world.turns(20)
        #expect(late.closed == nil && silent.closed == nil)
        late.say(put("b"))
        #expect(world.run { late.closed != nil })
        #expect(late.responses.map(\.status) == [200] && late.responses[0].head.contains("connection: close"))
        // The other ones end when nothing came of them, and a request that began may end.
        #expect(world.run { silent.closed != nil })
        #expect(!isDrained && halfway.closed == nil)
        halfway.say(String(request.suffix(1)))
        #expect(world.run { halfway.closed != nil && isDrained })
        #expect(halfway.responses.map(\.status) == [200] && halfway.responses[0].head.contains("connection: close"))
    }

    @Test func `a client that waits for a go-ahead gets it, and an old one its end`() throws {
        let world = try World()
        defer { world.end() }
        let client = try RawClient(world)
        client.say("PUT /v1/kv/s/a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        #expect(world.run { String(decoding: client.input, as: UTF8.self) == "HTTP/1.1 100 Continue\r\n\r\n" })
        client.say("ab")
        #expect(client.wait(for: 1) && client.responses[0].status == 200)
        let old = try RawClient(world)
        old.say("GET /healthz HTTP/1.0\r\n\r\n")
        #expect(world.run { old.closed != nil })
        #expect(old.responses.map(\.status) == [200] && old.responses[0].head.contains("connection: close"))
    }

    @Test func `a client asks again on the same connection, and makes a new one when it is gone`() throws {
        let world = try World()
        defer { world.end() }
        let context = try Keys.client(.operator(cluster: "test", name: "ann"))
        var answers: [AdminAnswer] = []
        let client = AdminClient(
            world.loop, to: world.server.address, host: "a", serverName: "127.0.0.1", context: context
        ) { client, event in
            if case .answer(let answer) = event {
                answers.append(answer)
                if answers.count < 3 { client.send(AdminCall(.read(space: "s", key: [97], .linearizable))) }
            }
        }
        client.send(AdminCall(.read(space: "s", key: [97], .linearizable)))
        #expect(world.run { answers.count == 3 })
        #expect(world.server.counters.accepted == 1)
        #expect(answers.allSatisfy { $0.body.count == 1_000 && $0.index == LogIndex(9) && $0.problem == nil })
        client.close()
        world.turns(5)
        client.send(AdminCall(.node("none"), isHead: true))
        #expect(world.run { answers.count == 4 })
        #expect(world.server.counters.accepted == 2 && answers[3].body.isEmpty)
        client.send(AdminCall(.removeNode("n", isForced: false)))
        #expect(world.run { answers.count == 5 })
        client.close()
    }

    @Test func `a large value goes in and out`() throws {
        let world = try World()
        defer { world.end() }
        let value = [UInt8](repeating: 0xA7, count: SpaceLimits.valueBytesMax)
        world.onCall = { world, call, ticket in
            if case .write(_, let command) = call.request, case .put(_, let value) = command.operation {
                world.server.answer(ticket, AdminResponse(.bytes, .bytes(value)))
            }
        }
        let context = try Keys.client(.operator(cluster: "test", name: "ann"))
        var answer: AdminAnswer?
        let client = AdminClient(
            world.loop, to: world.server.address, host: "a", serverName: "127.0.0.1", context: context
        ) { _, event in if case .answer(let found) = event { answer = found } }
        client.send(AdminCall(.write(space: "s", SpaceCommand(.put(key: [97], value: value)))))
        #expect(world.run { answer != nil })
        #expect(answer?.body == value)
        client.close()
    }
}
