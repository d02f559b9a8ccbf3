import ClusterBase
import Reactor

/// What a client of a load is to ask for.
enum LoadRequest {
    case read(key: [UInt8])
    case write(key: [UInt8], value: [UInt8])
}

/// How it went.
enum LoadOutcome {
    case good
    /// There was an answer, and it said no.
    case refused(String)
    /// There was no connection.
    case failed(String)
    /// It was sent, and there was no answer.
    case cutOff(String)
}

/// One connection of a load, with one request in flight. It answers `connect` and each `send` once.
protocol LoadClient: AnyObject {
    func connect()
    /// Connects again when the connection is gone.
    func send(_ request: LoadRequest)
    func close()
}

/// A number of clients on one loop, the same for every system that is measured.
///
///     connect, a few at a time ─▶ all connected ─▶ every client: send ─▶ outcome ─▶ send … ─▶ the time is over
///
/// Connecting is not measured: a handshake costs more than a hundred requests.
final class Load {
    /// Ends it before its time.
    var isOver: () -> Bool = { false }
    private let loop: EventLoop
    private let told: BenchCommand.LoadOptions
    /// Nothing that a store or a connection could make smaller, and no two alike.
    private var value: [UInt8]
    private var random = PRNG(seed: 1)
    private var clients: [any LoadClient] = []
    private var sentAt: [Instant] = []
    private var latencies: [Int64] = []
    private(set) var failures = 0
    private var cutOff = 0
    private var failureText = ""
    private var lastSuccess: Instant
    private var gapLongest = Nanoseconds.zero
    private var began: Instant
    private var ended: Instant
    private var cpu = Nanoseconds.zero
    private var number = 0
    private enum Phase { case connecting, measuring, over }
    private var phase = Phase.connecting
    private var isConnected: [Bool] = []
    private var connected = 0
    private var connecting = 0

    /// Handshakes under way at once.
    private static let connectingMax = 16
    private static let connectTimeMax = Nanoseconds.seconds(60)

    init(
        _ loop: EventLoop, _ told: BenchCommand.LoadOptions,
        _ make: (EventLoop, SocketAddress, @escaping (any LoadClient, LoadOutcome) -> Void) -> any LoadClient
    ) {
        self.loop = loop
        self.told = told
        value = [UInt8](repeating: 0, count: told.bytes)
        (lastSuccess, began, ended) = (loop.now, loop.now, loop.now)
        for i in 0..<told.clients {
            sentAt.append(loop.now)
            isConnected.append(false)
            clients.append(
                make(loop, told.places[i % told.places.count]) { [unowned self] _, outcome in answered(i, outcome) })
        }
    }

    func run() {
        connectMore()
        _ = loop.run(atMost: Load.connectTimeMax) { connected == clients.count }
        phase = .measuring
        let cpuBefore = SystemClock.processCPU
        began = SystemClock.now
        lastSuccess = began
        failures = 0
        for i in clients.indices {
            if isConnected[i] { send(i) } else { clients[i].close() }
        }
        _ = loop.run(atMost: told.time, until: isOver)
        phase = .over
        ended = SystemClock.now
        gapLongest = max(gapLongest, ended - lastSuccess)
        cpu = SystemClock.processCPU - cpuBefore
        for client in clients { client.close() }
    }

    private func connectMore() {
        while connected + connecting < clients.count && connecting < Load.connectingMax {
            connecting += 1
            clients[connected + connecting - 1].connect()
        }
    }

    private func send(_ i: Int) {
        number += 1
        sentAt[i] = SystemClock.now
        // Clients go on by turns, so that each writes all of its keys before one again.
        let turn = number / clients.count
        let key = Array("\(told.prefix)/\(i)/\(told.isFresh ? turn : turn % 1_000)".utf8)
        if !told.reads { fillValue() }
        clients[i].send(told.reads ? .read(key: key) : .write(key: key, value: value))
    }

    private func fillValue() {
        var at = 0
        while at < value.count {
            var word = random.next()
            for place in at..<min(at + 8, value.count) {
                value[place] = UInt8(truncatingIfNeeded: word)
                word >>= 8
            }
            at += 8
        }
    }

    private func answered(_ i: Int, _ outcome: LoadOutcome) {
        if phase == .over { return }
        if phase == .connecting { return wasConnected(i, outcome) }
        switch outcome {
        case .good:
            let now = SystemClock.now
            latencies.append((now - sentAt[i]).count)
            gapLongest = max(gapLongest, now - lastSuccess)
            lastSuccess = now
            return send(i)
        case .refused(let text), .failed(let text), .cutOff(let text):
            failures += 1
            failureText = text
            if case .cutOff = outcome { cutOff += 1 }
        }
        again { [unowned self] in if phase == .measuring { send(i) } }
    }

    private func wasConnected(_ i: Int, _ outcome: LoadOutcome) {
        guard case .good = outcome else {
            if case .failed(let text) = outcome { failureText = text }
            return again { [unowned self] in if phase == .connecting { clients[i].connect() } }
        }
        isConnected[i] = true
        connecting -= 1
        connected += 1
        connectMore()
    }

    /// A little later, so that a cluster without a leader is not asked in a circle.
    private func again(_ body: @escaping () -> Void) {
        _ = loop.setTimer(after: .milliseconds(5), Later(body), tag: 0)
    }

    private final class Later: TimerHandler {
        let body: () -> Void
        init(_ body: @escaping () -> Void) { self.body = body }
        func timerFired(_ tag: Int) { body() }
    }

    /// What was measured: requests that were done, in so many seconds.
    var successes: Int { latencies.count }
    var secondsUntilLast: Double { max(0.001, Double((lastSuccess - began).count) / 1e9) }

    /// `p50 1.2 ms, p99 3.4 ms`.
    var percentiles: String {
        latencies.sort()
        func at(_ share: Double) -> String {
            guard !latencies.isEmpty else { return "-" }
            let nanoseconds = latencies[min(latencies.count - 1, Int(Double(latencies.count) * share))]
            return "\(Double(nanoseconds / 1_000) / 1_000) ms"
        }
        return "p50 \(at(0.5)), p99 \(at(0.99))"
    }

    /// One line, for people and for `Tools/bench-etcd`.
    var report: String {
        let time = Double((ended - began).count) / 1e9
        let text =
            "\(told.reads ? "reads" : "writes"): \(connected) clients, \(Int(Double(latencies.count) / time))/s, "
            + "\(percentiles), longest gap \(Double(gapLongest.count / 1_000) / 1_000) ms, \(failures) failed"
        return text + (failures > 0 || connected < clients.count ? " (\(failureText)), \(cutOff) cut off" : "")
            + ", generator used \(Int(Double(cpu.count) / 1e7 / time)) % of a core"
    }
}
