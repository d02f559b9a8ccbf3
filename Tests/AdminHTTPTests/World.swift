import AdminAPI
import AdminHTTP
import ClusterBase
import FleetModel
import Reactor
import SecureChannel
import TLSSession

/// A server with a handler that remembers what it was asked, on a loop of the test.
final class World: AdminHandler, AdminAuthority {
    let loop: EventLoop
    private(set) var server: AdminServer!
    var calls: [(call: AdminCall, principal: Principal, ticket: Ticket)] = []
    var cancelledTickets: [Ticket] = []
    var roomTickets: [Ticket] = []
    var overdueTickets: [Ticket] = []
    /// Called for each request; answers writes at once by default.
    var onCall: (World, AdminCall, Ticket) -> Void = { world, call, ticket in
        world.server.answer(ticket, World.answer(to: call))
    }

    let cluster = "test"
    var metricsAreOpen = false
    var knowsRoles = true
    var known: [Principal: [Role]] = [
        .operator("ann"): [.admin], .operator("vic"): [.viewer], .token("t1"): [.space("s", mayWrite: true)],
    ]

    init(_ settings: AdminSettings = AdminSettings()) throws {
        loop = try EventLoop()
        server = try AdminServer(
            loop, on: .loopback(), context: Keys.server(), authority: self, handler: self, settings: settings)
    }

    static func answer(to call: AdminCall) -> AdminResponse {
        switch call.request {
        case .write(_, let command):
            let revision = Revision(index: LogIndex(7), slot: 1)
            if case .put(let key, _) = command.operation {
                return AdminResponse(
                    SpaceResult(revision: revision, outcome: .written(version: UInt64(key.first ?? 0))))
            }
            return AdminResponse(SpaceResult(revision: revision, outcome: .deleted))
        case .read(_, let key, _):
            return AdminResponse(
                SpaceAnswer(
                    revision: .end(of: LogIndex(9)),
                    body: .record(
                        SpaceRecord(
                            key: key, value: [UInt8](repeating: key[0], count: 1_000),
                            created: .end(of: LogIndex(1)), modified: .end(of: LogIndex(1)), version: 1))))
        case .ready: return AdminResponse(.text, .bytes(Array("ready\n".utf8)))
        case .metrics: return AdminResponse(.metrics, .bytes(Array("a 1\n".utf8)))
        default: return AdminResponse(Acceptance("taken up"), status: 202)
        }
    }

    func handle(_ call: AdminCall, from principal: Principal, _ ticket: Ticket) {
        calls.append((call, principal, ticket))
        onCall(self, call, ticket)
    }
    func streamHasRoom(_ ticket: Ticket) { roomTickets.append(ticket) }
    func streamIsOverdue(_ ticket: Ticket) {
        overdueTickets.append(ticket)
        _ = server.send(ticket, Array("overdue\n".utf8))
        server.endStream(ticket)
    }
    func cancelled(_ ticket: Ticket) { cancelledTickets.append(ticket) }
    func roles(of principal: Principal) -> [Role] { known[principal] ?? [] }
    func principal(ofToken token: ArraySlice<UInt8>) -> Principal? {
        tokens[String(decoding: token, as: UTF8.self)]
    }
    /// Whoever is known by a token.
    var tokens: [String: Principal] = ["secret": .token("t1")]
    /// Looks at the root that were asked for.
    private(set) var looks = 0
    var onLearn: (World, @escaping (Bool) -> Void) -> Void = { $1(true) }
    func learn(_ done: @escaping (Bool) -> Void) {
        looks += 1
        onLearn(self, done)
    }

    private(set) var forbidden: [String] = []
    func forbade(_ action: Action, _ principal: Principal, from address: String) {
        forbidden.append("\(principal) may not \(action.name)")
    }

    func run(_ seconds: Int64 = 60, until isDone: () -> Bool) -> Bool {
        loop.run(atMost: .seconds(seconds), until: isDone)
    }

    func turns(_ milliseconds: Int64) { _ = loop.run(atMost: .milliseconds(milliseconds)) { false } }

    /// The server holds its handler, which is this.
    func end() {
        server.close()
        server = nil
        loop.removeMailboxes()
    }
}

/// A client that says what it is told to, byte for byte.
final class RawClient: SecureConnectionDelegate {
    private let world: World
    private var dialer: Dialer?
    var connection: SecureConnection?
    var input: [UInt8] = []
    var closed: CloseReason?
    var isEstablished = false
    private var failure: (any Error)?

    init(
        _ world: World, _ identity: CertificateIdentity? = .operator(cluster: "test", name: "ann"),
        seconds: Int64? = nil
    ) throws {
        self.world = world
        let context = try Keys.client(identity, seconds: seconds)
        var settings = SecureConnectionSettings()
        settings.socket.receiveBufferBytes = 64 << 10
        dialer = Dialer(world.loop, to: world.server.address, timeout: .seconds(5)) {
            [weak self] (socket: consuming Socket?, _: SystemError?) in
            guard let self, let socket = socket.take() else { return }
            do {
                connection = try SecureConnection(
                    world.loop, socket, world.server.address, context: context, serverName: "127.0.0.1",
                    settings: settings, delegate: self)
            } catch { failure = error }
        }
        _ = world.run(until: { isEstablished || closed != nil })
        if let failure { throw failure }
    }

    func established(_ connection: SecureConnection) { isEstablished = true }
    func received(_ connection: SecureConnection, _ bytes: [UInt8], from: Int, to: Int) -> Int {
        input += bytes[from..<to]
        return to - from
    }
    func closed(_ connection: SecureConnection, _ reason: CloseReason) { closed = reason }

    func say(_ text: String) { _ = connection?.write(Array(text.utf8)) }

    /// The responses that have come so far, whole ones only.
    var responses: [(status: Int, head: String, body: String)] {
        var parser = ResponseParser()
        parser.append(contentsOf: input)
        var found: [(status: Int, head: String, body: String)] = []
        var current = (status: 0, head: "", body: "")
        while true {
            switch parser.next() {
            case .head(let head):
                current = (head.status, String(decoding: parser.bytes(head.fields), as: UTF8.self), "")
            case .body(let range): current.body += String(decoding: parser.bytes(range), as: UTF8.self)
            case .end: found.append(current)
            case .needsMore, .fault: return found
            }
        }
    }

    func wait(for count: Int) -> Bool {
        world.run(until: { responses.count >= count || closed != nil }) && responses.count >= count
    }
}
