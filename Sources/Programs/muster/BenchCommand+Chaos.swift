import AdminAPI
import AdminHTTP
import ClusterBase
import FleetModel
import Glibc
import HistoryChecker
import Reactor
import TLSSession
import Terminal

extension BenchCommand {
    /// Clients of a running cluster that write down what they asked and what they were told, while somebody else kills
    /// its processes; afterwards every key is read, and the history is judged: no lost write, no stale read, nothing
    /// that one register that does one thing at a time could not have answered.
    static func chaos(_ options: inout Options) throws -> Int32 {
        let space = try options.value("--space") ?? "bench"
        let keys = try options.number("--keys", 1...10_000) ?? 12
        let settle = try options.number("--settle", 1...600) ?? 60
        let told = try LoadOptions(&options, protocols: AdminSettings.protocols)
        try options.end()
        let load = ChaosLoad(
            try EventLoop(), told.places, told.context, space: space, clients: told.clients, keys: UInt64(keys))
        load.run(told.time)
        guard load.readAll(within: .seconds(Int64(settle))) else {
            Console.complain("muster: the keys could not all be read within \(settle) s: \(load.failureText)")
            return 1
        }
        print(load.report)
        switch Linearizability.check(load.history) {
        case .linearizable:
            print("the history is linearizable: no acknowledged write was lost")
            return 0
        case .violation(let violation): print("BROKEN: \(violation)")
        case .undecided(let key): print("undecided: key \(key) has too much open at once; use more keys")
        }
        return 1
    }
}

/// Clients with one request in flight each, and their history.
final class ChaosLoad {
    private static let pause = Nanoseconds.milliseconds(2)
    private static let pauseAfterFailure = Nanoseconds.milliseconds(20)
    /// For so long the same keys are used, then others: a write of unknown outcome stays open for ever, and the judge can look at
    /// few such at once. Every key is read at the end.
    private static let keysUsedFor = Nanoseconds.seconds(30)

    private struct Asked {
        var kind: History.Kind
        var key: UInt64
        var at: Int64
    }

    private let loop: EventLoop
    private let space: String
    private let keys: UInt64
    private let count: Int
    private let began = SystemClock.now
    private var makeClient: (Int, Int) -> AdminClient? = { _, _ in nil }
    private var clients: [AdminClient?] = []
    private var place: [Int] = []
    private var asked: [Asked?] = []
    private var random = PRNG(seed: Crypto.randomBytes(8).reduce(0) { $0 << 8 | UInt64($1) })
    private var valueLast: UInt64 = 0
    /// What each key held when it was last heard of: what a compare-and-set expects.
    private var heard: [UInt64?] = []
    private var keysLast: UInt64 = 0
    private var isOver = false
    private var finalKeys: [UInt64] = []
    private(set) var history = History()
    private(set) var failureText = ""
    private var tallies = (acknowledged: 0, unknown: 0, failed: 0)
    private var lastGood: Instant
    private var gapLongest = Nanoseconds.zero

    init(
        _ loop: EventLoop, _ places: [SocketAddress], _ context: TLSContext, space: String, clients count: Int,
        keys: UInt64
    ) {
        self.loop = loop
        self.space = space
        self.keys = keys
        self.count = count
        lastGood = began
        asked = [Asked?](repeating: nil, count: count)
        var settings = AdminClientSettings()
        settings.connectTimeout = .seconds(1)
        settings.answerTimeout = .seconds(8)
        makeClient = { [unowned self] i, place in
            AdminClient(
                loop, to: places[place % places.count], host: "chaos", serverName: nil, context: context,
                settings: settings
            ) { [unowned self] _, event in answered(i, event) }
        }
        for i in 0..<count {
            place.append(i)
            clients.append(makeClient(i, i))
        }
    }

    private var now: Int64 { (SystemClock.now - began).count }

    func run(_ time: Nanoseconds) {
        for i in 0..<count { send(i) }
        loop.run(until: began + time)
        isOver = true
        // What is still open gets its answer, or its time is over.
        _ = loop.run(atMost: .seconds(10)) { asked.allSatisfy { $0 == nil } }
    }

    /// Reads every key once more, when all is quiet. False when that did not succeed in time.
    func readAll(within time: Nanoseconds) -> Bool {
        finalKeys = Array(0..<keysLast)
        later(0, .zero)
        return loop.run(atMost: time) { finalKeys.isEmpty && asked.allSatisfy { $0 == nil } }
    }

    private func nextKey() -> UInt64 {
        let first = UInt64(now / ChaosLoad.keysUsedFor.count) * keys
        if first + keys > keysLast {
            keysLast = first + keys
            heard += [UInt64?](repeating: nil, count: Int(keysLast) - heard.count)
        }
        return first + random.below(keys)
    }

    private func name(_ key: UInt64) -> [UInt8] { Array("chaos/\(key)".utf8) }
    private func bytes(_ value: UInt64) -> [UInt8] { Array("\(value)".utf8) }

    private func send(_ i: Int) {
        guard asked[i] == nil, let client = clients[i], !client.isBusy else { return }
        if let key = finalKeys.last, i == 0 {
            return send(client, i, .get, key, .read(space: space, key: name(key), .linearizable))
        }
        if isOver { return }
        let key = nextKey()
        let dice = random.below(100)
        valueLast += 1
        let value = valueLast
        switch dice {
        case ..<40: send(client, i, .get, key, .read(space: space, key: name(key), .linearizable))
        case ..<75:
            send(
                client, i, .put(value), key,
                .write(space: space, SpaceCommand(.put(key: name(key), value: bytes(value)))))
        case ..<95:
            let expected = heard[Int(key)]
            let operation = SpaceCommand.Operation.compareAndSet(
                key: name(key), expected: expected.map { .value(bytes($0)) } ?? .absent, value: bytes(value))
            send(
                client, i, .compareAndSet(expected: expected, new: value), key,
                .write(space: space, SpaceCommand(operation)))
        default:
            send(client, i, .delete, key, .write(space: space, SpaceCommand(.delete(key: name(key), revision: nil))))
        }
    }

    private func send(_ client: AdminClient, _ i: Int, _ kind: History.Kind, _ key: UInt64, _ request: AdminRequest) {
        asked[i] = Asked(kind: kind, key: key, at: now)
        client.send(AdminCall(request))
    }

    private func answered(_ i: Int, _ event: AdminClient.Event) {
        guard let open = asked[i] else { return }
        let outcome: History.Outcome
        switch event {
        case .streamBegan, .piece, .streamEnded: return
        case .answer(let answer): outcome = judge(open, answer)
        case .failed(let failure):
            failureText = failure.description
            outcome = failure.mayHaveHappened ? .unknown : .failed
        }
        asked[i] = nil
        let end = now
        let isRead = open.kind == .get
        switch outcome {
        case .unknown where isRead, .failed: tallies.failed += 1
        case .unknown: tallies.unknown += 1
        default:
            tallies.acknowledged += 1
            gapLongest = max(gapLongest, SystemClock.now - lastGood)
            lastGood = SystemClock.now
        }
        // A read that was not answered says nothing.
        let isNews = !(isRead && (outcome == .unknown || outcome == .failed)) && outcome != .failed
        if isNews {
            history.append(
                History.Operation(
                    client: ClientID(UInt64(i + 1)), key: open.key, kind: open.kind, invoked: open.at,
                    returned: outcome == .unknown ? nil : end, outcome: outcome))
        }
        let isGood = outcome != .unknown && outcome != .failed
        if isGood, isRead, finalKeys.last == open.key, isOver, i == 0 { finalKeys.removeLast() }
        later(i, isGood ? ChaosLoad.pause : ChaosLoad.pauseAfterFailure, another: !isGood)
    }

    private func judge(_ open: Asked, _ answer: AdminAnswer) -> History.Outcome {
        switch (open.kind, answer.status) {
        case (.get, 200):
            let value = UInt64(String(decoding: answer.body, as: UTF8.self))
            heard[Int(open.key)] = value
            return .observed(value)
        case (.get, 404) where answer.problem?.kind == .keyNotFound:
            heard[Int(open.key)] = nil
            return .observed(nil)
        case (.put(let value), 200):
            heard[Int(open.key)] = value
            return .acknowledged
        case (.delete, 200): return .acknowledged
        // There was nothing to delete, which is what deleting leaves behind.
        case (.delete, 404) where answer.problem?.kind == .keyNotFound: return .acknowledged
        case (.compareAndSet(_, let new), 200):
            heard[Int(open.key)] = new
            return .swapped
        case (.compareAndSet, 409) where answer.problem?.kind == .conflict: return .refused
        default:
            failureText = answer.problem?.detail ?? "status \(answer.status)"
            return answer.problem?.isWithoutEffect == true ? .failed : .unknown
        }
    }

    private func later(_ i: Int, _ time: Nanoseconds, another: Bool = false) {
        // Not from within the client's own call.
        _ = loop.setTimer(
            at: SystemClock.now + time,
            Again { [unowned self] in
                if another {
                    clients[i]?.close()
                    place[i] += 1
                    clients[i] = makeClient(i, place[i])
                }
                send(i)
            }, tag: 0)
    }

    private final class Again: TimerHandler {
        let body: () -> Void
        init(_ body: @escaping () -> Void) { self.body = body }
        func timerFired(_ tag: Int) { body() }
    }

    var report: String {
        "\(count) clients on \(keys) keys, others every 30 s: \(tallies.acknowledged) answered, \(tallies.unknown) of unknown outcome, "
            + "\(tallies.failed) without effect, longest time without an answer \(gapLongest.milliseconds) ms"
    }
}

extension Problem {
    /// The node said that nothing happened, and that nothing will.
    fileprivate var isWithoutEffect: Bool {
        switch kind {
        case .unavailable, .overloaded, .storageLow, .spaceNotFound, .notFound, .misdirected, .tooManyRequests,
            .notPossible, .unauthenticated, .forbidden:
            true
        default: false
        }
    }
}
