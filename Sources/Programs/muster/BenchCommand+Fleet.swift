import AdminAPI
import AdminHTTP
import ClusterBase
import FleetModel
import Reactor
import TLSSession
import Terminal

// The fleet as its users meet it: a running cluster is asked over its admin port, TLS and synced writes included.

extension BenchCommand {
    /// `bench fleet create | list`.
    static func fleet(_ options: inout Options) throws {
        switch options.word() {
        case "create": try fleetCreate(&options)
        case "list": try fleetList(&options)
        default: throw UsageError("say `bench fleet create` or `bench fleet list`; see `muster bench --help`")
        }
    }

    /// Clients that create VMs one by one or in batches, and streams that see them come.
    private static func fleetCreate(_ options: inout Options) throws {
        let batch = try options.number("--batch", 1...VMBatch.itemsMax) ?? 1
        let budget = Budget(try options.number("--count", 1...100_000_000) ?? .max)
        let streams = options.flag("--watch")
        let isStopped = options.flag("--stopped")
        let waits = !options.flag("--no-wait")
        let told = try LoadOptions(&options, protocols: AdminSettings.protocols)
        try options.end()
        let loop = try EventLoop()
        let watch = WatchProbe()
        if streams { try watch.open(loop, told) }
        let run = String(Crypto.randomBytes(4).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }, radix: 36)
        var made = 0
        let began = SystemClock.now
        let load = Load(loop, told) { loop, place, done in
            made += 1
            return CreatingClient(
                loop, place, told.context, name: "bench-\(run)-\(made)", batch: batch, isStopped: isStopped, budget,
                watch, done
            )
        }
        load.isOver = { budget.left < batch && budget.underWay == 0 }
        load.run()
        let created = load.successes * batch
        // Until the last answer: what --count bounds is done before the time is over.
        let seconds = load.secondsUntilLast
        print(
            "fleet create: \(created) VMs in \(batch == 1 ? "requests of one" : "batches of \(batch)"), "
                + "\(Int(Double(created) / seconds))/s by \(told.clients) clients; a request takes \(load.percentiles), "
                + "\(load.failures) failed")
        if streams {
            loop.run(until: SystemClock.now + .seconds(2))
            print(watch.report)
        }
        watch.close()
        if waits { try waitForPlaces(loop, told, since: began, created) }
    }

    /// Until nothing waits for a place any more.
    private static func waitForPlaces(
        _ loop: EventLoop, _ told: LoadOptions, since began: Instant, _ created: Int
    ) throws {
        let deadline = SystemClock.now + .seconds(60)
        var after: String?
        while SystemClock.now < deadline {
            var list = FleetList(.vms, fields: ["name"], limit: 1, after: after)
            list.filter = try FilterExpression("phase=waiting", fields: FleetKind.vms.fields)
            let page = try ask(loop, told, AdminCall(.fleet(.list(list))))
            if (page["items"]?.elements ?? []).isEmpty {
                after = page["next"]?.text
                if after == nil {
                    let seconds = Double((SystemClock.now - began).count) / 1e9
                    return print(
                        "fleet create: none waits for a place; \(Int(Double(created) / seconds))/s from the first "
                            + "connection to there")
                }
            } else {
                after = nil
                loop.run(until: SystemClock.now + .milliseconds(20))
            }
        }
        print("fleet create: VMs still wait for a place after 60 s; is there room?")
    }

    /// All VMs, page by page.
    private static func fleetList(_ options: inout Options) throws {
        let limit = try options.number("--limit", 1...FleetList.limitMax) ?? FleetList.limitMax
        let told = try LoadOptions(&options, protocols: AdminSettings.protocols)
        try options.end()
        let loop = try EventLoop()
        let lister = Lister(loop, told, limit)
        lister.run()
        print(lister.report)
    }

    /// One question, with a connection of its own.
    private static func ask(_ loop: EventLoop, _ told: LoadOptions, _ call: AdminCall) throws -> JSONValue {
        var found: Result<AdminAnswer, AdminClientFailure>?
        let client = AdminClient(
            loop, to: told.places[0], host: "bench", serverName: nil, context: told.context
        ) { _, event in
            switch event {
            case .answer(let answer): found = .success(answer)
            case .failed(let failure): found = .failure(failure)
            case .streamBegan, .piece, .streamEnded: break
            }
        }
        client.send(call)
        while found == nil { loop.turn(waitingAtMost: .seconds(1)) }
        client.close()
        guard let answer = try found?.get() else { return .null }
        if let problem = answer.problem { throw UsageError(problem.detail) }
        return try JSONParser.parse(answer.body[...], depthMax: 32, valuesMax: 1 << 22)
    }
}

/// How many VMs are still to be created.
private final class Budget {
    var left: Int
    var underWay = 0
    init(_ count: Int) { left = count }
}

/// One HTTPS connection that creates VMs.
private final class CreatingClient: LoadClient {
    private let name: String
    private let batch: Int
    private let power: CellVM.Power
    private let budget: Budget
    private let watch: WatchProbe
    private let done: (any LoadClient, LoadOutcome) -> Void
    private let client: AdminClient
    private var number = 0
    private var last = ""
    private var isCreating = false

    init(
        _ loop: EventLoop, _ place: SocketAddress, _ context: TLSContext, name: String, batch: Int, isStopped: Bool,
        _ budget: Budget, _ watch: WatchProbe, _ done: @escaping (any LoadClient, LoadOutcome) -> Void
    ) {
        self.name = name
        self.batch = batch
        power = isStopped ? .stopped : .running
        self.budget = budget
        self.watch = watch
        self.done = done
        var settings = AdminClientSettings()
        settings.connectTimeout = .seconds(1)
        settings.answerTimeout = .seconds(30)
        var told: ((AdminClient.Event) -> Void)?
        client = AdminClient(
            loop, to: place, host: "bench", serverName: nil, context: context, settings: settings
        ) { _, event in told?(event) }
        told = { [unowned self] in answered($0) }
    }

    func connect() { client.send(AdminCall(.health)) }

    func send(_ request: LoadRequest) {
        isCreating = true
        if budget.left < batch { return }
        budget.left -= batch
        budget.underWay += 1
        let creations = (0..<batch).map { _ -> VMCreation in
            number += 1
            last = "\(name)-\(number)"
            return VMCreation(
                name: last, tenant: defaultTenant,
                spec: VMDescription(resources: Resources(cpuMillis: 1, memoryMiB: 1)), power: power)
        }
        // A key, as every careful client sends one.
        let random = Crypto.randomBytes(16).map(UInt64.init)
        let key = IdempotencyKey.once(
            high: random[..<8].reduce(0) { $0 << 8 | $1 }, low: random[8...].reduce(0) { $0 << 8 | $1 }, born: .zero)
        client.send(
            AdminCall(
                .fleet(batch == 1 ? .createVM(creations[0]) : .createVMs(VMBatch(creations))), idempotencyKey: key))
    }

    func close() { client.close() }

    private func answered(_ event: AdminClient.Event) {
        if isCreating { budget.underWay -= 1 }
        switch event {
        case .answer(let answer) where answer.status < 300:
            if isCreating { watch.acknowledged(last) }
            done(self, .good)
        case .answer(let answer): done(self, .refused(answer.problem?.detail ?? "status \(answer.status)"))
        case .failed(let failure): done(self, .failed(failure.description))
        case .streamBegan, .piece, .streamEnded: break
        }
    }
}

/// Streams of VMs, one from each node: how long after a creation's acknowledgement its line comes.
private final class WatchProbe {
    private var clients: [AdminClient] = []
    private var begun = 0
    private var rest: [[UInt8]] = []
    // hash order: looked up only
    private var acknowledgedAt: [String: Instant] = [:]
    /// Of each stream: when a VM's first line came.
    // hash order: its values are sorted
    private var seenAt: [[String: Instant]] = []
    private var lines = 0

    func open(_ loop: EventLoop, _ told: BenchCommand.LoadOptions) throws {
        for (i, place) in told.places.enumerated() {
            rest.append([])
            seenAt.append([:])
            let client = AdminClient(
                loop, to: place, host: "bench", serverName: nil, context: told.context
            ) { [unowned self] _, event in
                if case .streamBegan = event { begun += 1 }
                if case .piece(let bytes) = event { take(bytes, i) }
            }
            clients.append(client)
            client.send(AdminCall(.fleet(.list(FleetList(.vms, fields: ["name"], watch: .init())))))
        }
        guard loop.run(atMost: .seconds(10), until: { begun == clients.count }) else {
            throw UsageError("the streams did not begin; is the cluster up?")
        }
    }

    func close() { for client in clients { client.close() } }

    func acknowledged(_ name: String) { if !clients.isEmpty { acknowledgedAt[name] = SystemClock.now } }

    private func take(_ bytes: [UInt8], _ stream: Int) {
        let now = SystemClock.now
        rest[stream] += bytes
        guard let end = rest[stream].lastIndex(of: UInt8(ascii: "\n")) else { return }
        let whole = rest[stream][...end]
        rest[stream] = Array(rest[stream][(end + 1)...])
        for line in whole.split(separator: UInt8(ascii: "\n")) {
            // The streams are of this version.
            guard let read = try? WatchLine.parse(line), read.kind == .put, let name = read.item?["name"]?.text else {
                continue
            }
            lines += 1
            if seenAt[stream][name] == nil { seenAt[stream][name] = now }
        }
    }

    var report: String {
        var latencies: [Int64] = []
        for seen in seenAt {
            for (name, at) in seen { if let known = acknowledgedAt[name] { latencies.append((at - known).count) } }
        }
        latencies.sort()
        func at(_ share: Double) -> String {
            guard !latencies.isEmpty else { return "-" }
            let value = latencies[min(latencies.count - 1, Int(Double(latencies.count) * share))]
            return "\(Double(value / 1_000) / 1_000) ms"
        }
        return
            "fleet watch: \(clients.count) streams, \(lines) lines; a VM's first line came after its acknowledgement by "
            + "p50 \(at(0.5)), p99 \(at(0.99)), at most \(at(1)); below 0 it came before it"
    }
}

/// Reads all pages of the list of VMs over one connection.
private final class Lister {
    private let loop: EventLoop
    private let limit: Int
    private var client: AdminClient?
    private var sentAt: Instant
    private var times: [Int64] = []
    private var count = 0
    private var failure: String?
    private var isDone = false

    init(_ loop: EventLoop, _ told: BenchCommand.LoadOptions, _ limit: Int) {
        self.loop = loop
        self.limit = limit
        sentAt = loop.now
        client = AdminClient(
            loop, to: told.places[0], host: "bench", serverName: nil, context: told.context
        ) { [unowned self] _, event in answered(event) }
    }

    func run() {
        send(after: nil)
        while !isDone { loop.turn(waitingAtMost: .seconds(1)) }
        client?.close()
    }

    private func send(after: String?) {
        sentAt = SystemClock.now
        client?.send(AdminCall(.fleet(.list(FleetList(.vms, limit: limit, after: after)))))
    }

    private func answered(_ event: AdminClient.Event) {
        switch event {
        case .answer(let answer):
            times.append((SystemClock.now - sentAt).count)
            guard answer.isSuccess,
                // A body that is no page ends the list, whatever it is.
                let page = try? JSONParser.parse(answer.body[...], depthMax: 32, valuesMax: 1 << 22)
            else {
                failure = answer.problem?.detail ?? "a page can't be read"
                isDone = true
                return
            }
            count += page["items"]?.elements?.count ?? 0
            if let next = page["next"]?.text { send(after: next) } else { isDone = true }
        case .failed(let failure):
            self.failure = failure.description
            isDone = true
        case .streamBegan, .piece, .streamEnded: break
        }
    }

    var report: String {
        if let failure { return "fleet list: \(failure)" }
        func median(_ part: ArraySlice<Int64>) -> String {
            let sorted = part.sorted()
            return sorted.isEmpty ? "-" : "\(Double(sorted[sorted.count / 2] / 1_000) / 1_000) ms"
        }
        let tenth = max(1, times.count / 10)
        let sum = times.reduce(0, +)
        let tenths = stride(from: 0, to: times.count, by: tenth).prefix(10).map { at in
            median(times[at..<min(at + tenth, times.count)])
        }
        return "fleet list: \(count) VMs on \(times.count) pages in \(sum / 1_000_000) ms; a page takes at the median "
            + "\(median(times.prefix(tenth))) in the first tenth, \(median(times[...])) in all, "
            + "\(median(times.suffix(tenth))) in the last tenth, at most "
            + "\(Double((times.max() ?? 0) / 1_000) / 1_000) ms; by tenths: \(tenths.joined(separator: ", "))"
    }
}
