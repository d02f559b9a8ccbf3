import AdminAPI
import AdminHTTP
import ClusterBase
import CommandSyntax
import FleetModel
import Glibc
import Reactor
import TLSSession

extension BenchCommand {
    static let adminHelp = """
        usage: muster bench admin --identity DIR --address HOST:PORT[,HOST:PORT…] --space NAME [options]

          --clients N     connections, one request in flight on each (default 64)
          --seconds S     how long (default 5)
          --bytes B       bytes of a value (default 128)
          --reads         linearizable reads instead of writes
        """

    /// Clients of a running cluster's admin port, each with one request in flight: rate, latency, and the longest time
    /// without any answer, which is what a failover costs.
    static func admin(_ options: inout Options) throws {
        guard let identity = try options.value("--identity") else { throw UsageError(adminHelp) }
        let addresses = (try options.value("--address") ?? "127.0.0.1:7470").split(separator: ",").map(String.init)
        let space = try options.value("--space") ?? "bench"
        let clients = try options.number("--clients", 1...10_000) ?? 64
        let seconds = try options.number("--seconds", 1...86_400) ?? 5
        let bytes = try options.number("--bytes", 0...(1 << 20)) ?? 128
        let reads = options.flag("--reads")
        try options.end()
        let files = NodeFiles(path: identity)
        let context = try TLSContext(
            side: .client, identity: TLSIdentity(chain: files.text("cert.pem"), key: files.text("key.pem")),
            trust: .authorities(Certificate.list(pem: files.text("ca.pem"))), protocols: AdminSettings.protocols)
        let places = try addresses.map { text -> SocketAddress in
            guard let place = try Address(parsing: text).resolved else { throw UsageError("name addresses in digits") }
            return place
        }
        let load = AdminLoad(
            try EventLoop(), places, context, space: space, clients: clients, bytes: bytes, reads: reads)
        load.run(.seconds(Int64(seconds)))
        print(load.report)
    }
}

/// A number of clients on one loop.
final class AdminLoad {
    private let loop: EventLoop
    private let space: String
    private let value: [UInt8]
    private let reads: Bool
    private var clients: [AdminClient] = []
    private var sentAt: [Instant] = []
    private var latencies: [Int64] = []
    private var failures = 0
    private var lastSuccess: Instant
    private var gapLongest = Nanoseconds.zero
    private var began: Instant
    private var ended: Instant
    private var cpu = Nanoseconds.zero
    private var number = 0
    private var isOver = false
    private var failureText = ""

    init(
        _ loop: EventLoop, _ places: [SocketAddress], _ context: TLSContext, space: String, clients count: Int,
        bytes: Int,
        reads: Bool
    ) {
        self.loop = loop
        self.space = space
        self.reads = reads
        value = [UInt8](repeating: UInt8(ascii: "x"), count: bytes)
        (lastSuccess, began, ended) = (loop.now, loop.now, loop.now)
        var settings = AdminClientSettings()
        settings.connectTimeout = .seconds(1)
        settings.answerTimeout = .seconds(5)
        for i in 0..<count {
            sentAt.append(loop.now)
            clients.append(
                AdminClient(
                    loop, to: places[i % places.count], host: "bench", serverName: nil, context: context,
                    settings: settings
                ) { [unowned self] _, event in answered(i, event) })
        }
    }

    func run(_ time: Nanoseconds) {
        let cpuBefore = SystemClock.processCPU
        began = SystemClock.now
        lastSuccess = began
        for i in clients.indices { send(i) }
        loop.run(until: began + time)
        isOver = true
        ended = SystemClock.now
        cpu = SystemClock.processCPU - cpuBefore
        for client in clients { client.close() }
    }

    private func send(_ i: Int) {
        if isOver { return }
        number += 1
        sentAt[i] = SystemClock.now
        let key = Array("bench/\(i)/\(number % 1_000)".utf8)
        clients[i].send(
            AdminCall(
                reads
                    ? .read(space: space, key: key, .linearizable)
                    : .write(space: space, SpaceCommand(.put(key: key, value: value)))))
    }

    private func answered(_ i: Int, _ event: AdminClient.Event) {
        let now = SystemClock.now
        switch event {
        case .answer(let answer) where answer.status < 300 || (reads && answer.status == 404):
            latencies.append((now - sentAt[i]).count)
            if now - lastSuccess > gapLongest { gapLongest = now - lastSuccess }
            lastSuccess = now
        case .answer(let answer):
            failures += 1
            failureText = answer.problem?.detail ?? "status \(answer.status)"
        case .failed(let failure):
            failures += 1
            failureText = failure.description
        case .streamBegan, .piece, .streamEnded: break
        }
        // Not from within the client's own call.
        _ = loop.setTimer(at: event.isGood ? now : now + .milliseconds(5), Again { [unowned self] in send(i) }, tag: 0)
    }

    private final class Again: TimerHandler {
        let body: () -> Void
        init(_ body: @escaping () -> Void) { self.body = body }
        func timerFired(_ tag: Int) { body() }
    }

    var report: String {
        latencies.sort()
        func at(_ share: Double) -> String {
            guard !latencies.isEmpty else { return "-" }
            return
                "\(Double(latencies[min(latencies.count - 1, Int(Double(latencies.count) * share))] / 1_000) / 1_000) ms"
        }
        let time = Double((ended - began).count) / 1e9
        return
            "\(reads ? "reads" : "writes"): \(clients.count) clients, \(Int(Double(latencies.count) / time))/s, p50 \(at(0.5)), "
            + "p99 \(at(0.99)), longest gap \(Double(gapLongest.count / 1_000) / 1_000) ms, \(failures) failed"
            + (failures > 0 ? " (\(failureText))" : "")
            + ", generator used \(Int(Double(cpu.count) / 1e7 / time)) % of a core"
    }
}

extension AdminClient.Event {
    fileprivate var isGood: Bool { if case .answer = self { true } else { false } }
}
