import AdminAPI
import AdminHTTP
import ClusterBase
import CommandSyntax
import FleetModel
import Reactor
import TLSSession
import Terminal

extension BenchCommand {
    /// What both loads are told.
    struct LoadOptions {
        let context: TLSContext
        let places: [SocketAddress]
        let clients: Int
        let time: Nanoseconds
        let bytes: Int
        let reads: Bool
        /// What the keys begin with, and whether each is written once only.
        let prefix: String
        let isFresh: Bool

        init(_ options: inout Options, protocols: [String], allowsTLS12: Bool = false) throws {
            guard let identity = try options.value("--identity") else {
                throw UsageError(
                    "name the folder with cert.pem, key.pem and ca.pem by --identity; see `muster bench --help`")
            }
            let addresses = (try options.value("--address") ?? "127.0.0.1:7470").split(separator: ",").map(String.init)
            clients = try options.number("--clients", 1...10_000) ?? 64
            time = .seconds(Int64(try options.number("--seconds", 1...86_400) ?? 5))
            bytes = try options.number("--bytes", 0...(1 << 20)) ?? 128
            reads = options.flag("--reads")
            prefix = try options.value("--prefix") ?? "bench"
            isFresh = options.flag("--fresh")
            let files = NodeFiles(path: identity)
            context = try TLSContext(
                side: .client, identity: TLSIdentity(chain: files.text("cert.pem"), key: files.text("key.pem")),
                trust: .authorities(Certificate.list(pem: files.text("ca.pem"))), protocols: protocols,
                allowsTLS12: allowsTLS12)
            places = try addresses.map { text -> SocketAddress in
                guard let place = try Address(parsing: text).resolved else {
                    throw UsageError("name addresses in digits")
                }
                return place
            }
        }
    }

    /// Clients of a running cluster's admin port, each with one request in flight: rate, latency, and the longest time
    /// without any answer, which is what a failover costs.
    static func admin(_ options: inout Options) throws {
        let spaces = (try options.value("--space") ?? "bench").split(separator: ",").map(String.init)
        guard !spaces.isEmpty else { throw UsageError("--space wants a name, or several with commas between them") }
        let roams = options.flag("--roam")
        let told = try LoadOptions(&options, protocols: AdminSettings.protocols)
        try options.end()
        var made = 0
        let load = Load(try EventLoop(), told) { loop, place, done in
            made += 1
            // One space more per round of addresses, so that every node is asked for every space.
            let space = spaces[(made - 1) / told.places.count % spaces.count]
            let others = roams ? told.places.filter { $0 != place } : []
            return AdminLoadClient(loop, [place] + others, told.context, space: space, done)
        }
        load.run()
        print(load.report)
    }
}

/// One HTTPS connection with the admin port; with another node when one can't be had, where several are given.
private final class AdminLoadClient: LoadClient {
    private let loop: EventLoop
    private let places: [SocketAddress]
    private let context: TLSContext
    private let space: String
    private let done: (any LoadClient, LoadOutcome) -> Void
    private var client: AdminClient?
    private var place = 0
    private var isRead = false

    init(
        _ loop: EventLoop, _ places: [SocketAddress], _ context: TLSContext, space: String,
        _ done: @escaping (any LoadClient, LoadOutcome) -> Void
    ) {
        self.loop = loop
        self.places = places
        self.context = context
        self.space = space
        self.done = done
    }

    private func ask(_ call: AdminCall) {
        if let client { return client.send(call) }
        var settings = AdminClientSettings()
        settings.connectTimeout = .seconds(1)
        settings.answerTimeout = .seconds(5)
        let made = AdminClient(
            loop, to: places[place % places.count], host: "bench", serverName: nil, context: context, settings: settings
        ) { [unowned self] _, event in answered(event) }
        client = made
        made.send(call)
    }

    func connect() { ask(AdminCall(.health)) }

    func send(_ request: LoadRequest) {
        switch request {
        case .read(let key):
            isRead = true
            ask(AdminCall(.read(space: space, key: key, .linearizable)))
        case .write(let key, let value):
            isRead = false
            ask(AdminCall(.write(space: space, SpaceCommand(.put(key: key, value: value)))))
        }
    }

    func close() {
        client?.close()
        client = nil
    }

    private func answered(_ event: AdminClient.Event) {
        switch event {
        case .answer(let answer) where answer.status < 300 || (isRead && answer.status == 404): done(self, .good)
        case .answer(let answer): done(self, .refused(answer.problem?.detail ?? "status \(answer.status)"))
        case .failed(let failure):
            close()
            place += 1
            done(self, failure.mayHaveHappened ? .cutOff(failure.description) : .failed(failure.description))
        case .streamBegan, .piece, .streamEnded: break
        }
    }
}
