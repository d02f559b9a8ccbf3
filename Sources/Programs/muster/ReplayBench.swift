import ClusterBase
import CommandSyntax
import FleetModel
import Glibc
import Placement
import Terminal

/// One run of `muster bench replay` or `muster bench rebalance`: servers, and VMs from a file.
struct ReplayBench {
    /// The largest file that is read.
    static let bytesMax = 8 << 30

    let line: Invocation
    var servers: ServerList
    let trace: Trace
    let bound: Int?
    let policies: [PlacementPolicy]
    let isJSON: Bool

    init(_ line: Invocation) throws {
        self.line = line
        isJSON = line.text("output") == "json"
        let isReplay = line.path == "bench replay"
        policies = try BenchCommand.policies(line.text("policy") ?? (isReplay ? "pack" : "balance"))
        servers = ServerList()
        do {
            for text in line.texts("server") { try servers.add(text) }
        } catch {
            throw UsageError("\(error)")
        }
        if let path = line.text("server-file") {
            do {
                try servers.add(csv: try ReplayBench.read(path))
            } catch let error as TraceError {
                throw UsageError("\(path): \(error)")
            }
        }
        if servers.kinds.isEmpty { throw UsageError("say what servers there are, such as --server cpu=64,mem=256") }
        if servers.count == nil && (servers.kinds.count > 1 || !isReplay) {
            throw UsageError("each kind of server needs a count, such as cpu=64,mem=256,count=100")
        }
        var options = try ReplayBench.traceOptions(line, servers)
        if isReplay {
            options.lifetimeMin = try ReplayBench.number(line, "lifetime-min")
            options.ignoresDepartures = line.has("stay") || line.has("batch")
        } else {
            options.ignoresDepartures = true
        }
        let path = line.argument("FILE") ?? "-"
        do {
            trace = try Trace(csv: try ReplayBench.read(path), options: options, words: servers.words)
        } catch let error as TraceError {
            throw UsageError("\(path): \(error)")
        }
        bound = servers.bound(trace.peak)
    }

    private static func traceOptions(_ line: Invocation, _ servers: ServerList) throws -> TraceOptions {
        var options = TraceOptions()
        for text in line.texts("column") {
            let pair = text.split(separator: "=", maxSplits: 1)
            guard pair.count == 2, let column = TraceColumn(rawValue: String(pair[0])) else {
                throw UsageError(
                    "--column wants NAME=HEADER with a NAME of "
                        + TraceColumn.allCases.map(\.rawValue).joined(separator: ", ") + ", not '\(text)'")
            }
            options.names[column] = String(pair[1])
        }
        options.splitAboveCores = try number(line, "split-above")
        options.splitAboveGiB = try number(line, "split-above-memory")
        options.splitNodes = line.integer("split-nodes") ?? 2
        let nodes = servers.kinds.map(\.host.numaNodes.count).max() ?? 0
        if nodes > 0 { options.numa = .fewest(max: nodes) }
        if nodes == 0, options.splitAboveCores != nil || options.splitAboveGiB != nil {
            throw UsageError(
                "VMs can be split only over servers with NUMA nodes, such as --server cpu=64,mem=256,numa=2")
        }
        return options
    }

    private static func number(_ line: Invocation, _ name: String) throws -> Double? {
        guard let text = line.text(name) else { return nil }
        guard let number = Double(text), number.isFinite, number >= 0 else {
            throw UsageError("--\(name) wants a number, not '\(text)'")
        }
        return number
    }

    func run() throws {
        if line.has("batch") { return try batch() }
        let peak = trace.peak
        if !isJSON {
            var text = "\(trace.rows.count) VMs; at the peak \(peak.vms) VMs, "
            text += "\(peak.resources.cpuMillis / 1_000_000) cores, \(peak.resources.memoryMiB >> 20) GiB"
            if peak.deviceMillis > 0 { text += ", \(BenchCommand.tenths(peak.deviceMillis / 100)) GPUs" }
            print(text + (bound.map { "; volume bound \($0) servers" } ?? ""))
            if !trace.ignored.isEmpty { print("columns ignored: \(trace.ignored.joined(separator: ", "))") }
            print(
                "policy         fewest  over bound  servers   used  rejected  before first  moves  cpu   mem   gpu"
                    + "   decision mean/p50/p99 us  hash")
        }
        for policy in policies {
            var fewest: Int?
            if servers.count == nil && (line.text("servers") == nil || line.has("fewest")) {
                fewest = try self.fewest(policy)
            }
            var counts: [Int] = []
            if let count = servers.count {
                if line.text("servers") != nil {
                    throw UsageError("--servers is for one kind of server without a count")
                }
                counts = [count]
            } else if let text = line.text("servers") {
                counts = try BenchCommand.list(text, "--servers", 1...ServerList.serversMax)
            } else if let fewest {
                counts = [fewest]
            }
            for count in counts { try report(policy, fewest, count) }
            if counts.isEmpty {
                let most = "up to --servers-max, or some VM fits on no server of this kind"
                print(
                    isJSON
                        ? "{\"policy\":\"\(policy.name)\",\"bound\":\(bound.map { "\($0)" } ?? "null"),\"fewest\":null}"
                        : "\(policy.name): no number of servers takes all VMs \(most)")
            }
        }
    }

    /// What is free of each model of GPU says quickly something else, and the mix weighs what is scarce.
    private var arrivalsPerMix: Int {
        let hasDevices = servers.kinds.contains { !$0.host.devices.isEmpty }
        return line.integer("mix-per-arrivals") ?? (hasDevices ? 25 : 1000)
    }

    private func fewest(_ policy: PlacementPolicy) throws -> Int? {
        let low = bound ?? 1
        let high = line.integer("servers-max") ?? max(low + 16, 4 * low)
        return try Replay.fewestHosts(
            trace.rows, like: servers.kinds[0].host, in: low...max(low, high), policy: policy,
            arrivalsPerMix: arrivalsPerMix,
            arrivalsPerMove: line.integer("rebalance-per-arrivals"), seed: UInt64(line.integer("seed") ?? 0))
    }

    private func report(_ policy: PlacementPolicy, _ fewest: Int?, _ count: Int) throws {
        var replay = Replay(hosts: servers.hosts(open: count), policy: policy)
        replay.arrivalsPerMix = arrivalsPerMix
        replay.arrivalsPerMove = line.integer("rebalance-per-arrivals")
        replay.seed = UInt64(line.integer("seed") ?? 0)
        let began = Console.seconds()
        let r = try replay.run(trace.rows, nanoseconds: BenchCommand.nanoseconds)
        let seconds = Console.seconds() - began
        if isJSON {
            print(
                "{\"policy\":\"\(policy.name)\",\"bound\":\(bound.map { "\($0)" } ?? "null"),"
                    + "\"fewest\":\(fewest.map { "\($0)" } ?? "null"),\"servers\":\(count),\"used_most\":\(r.hostsUsedMost),"
                    + "\"arrivals\":\(r.arrivals),\"rejected\":\(r.rejections),"
                    + "\"accepted_before_first_rejection\":\(r.acceptedBeforeFirstRejection),\"moves\":\(r.moves),"
                    + "\"vms_most\":\(r.vmsMost),\"cpu_milli_most\":\(r.fullMostMilli[0]),"
                    + "\"memory_milli_most\":\(r.fullMostMilli[1]),\"gpu_milli_most\":\(r.devicesFullMostMilli),"
                    + "\"density_ppm\":\(r.densityPPM),"
                    + "\"fragmentation_ppm\":\(r.fragmentationPPM),\"ns_mean\":\(r.times.mean),\"ns_p50\":\(r.times.median),\"ns_p99\":\(r.times.p99),"
                    + "\"ns_max\":\(r.times.most),\"milliseconds\":\(Int(seconds * 1000)),\"hash\":\"\(r.hash)\"}")
            return
        }
        func share(_ milli: Int64) -> String { milli == 0 ? "-" : BenchCommand.tenths(milli) }
        var over = "-"
        if let bound, let fewest { over = "\(hundredths(Int64(fewest - bound) * 10_000 / Int64(bound))) %" }
        print(
            BenchCommand.padRight(policy.name, 14), BenchCommand.pad(fewest.map { "\($0)" } ?? "-", 6),
            BenchCommand.pad(over, 11), BenchCommand.pad(count, 8), BenchCommand.pad(r.hostsUsedMost, 6),
            BenchCommand.pad(r.rejections, 9), BenchCommand.pad(r.acceptedBeforeFirstRejection, 13),
            BenchCommand.pad(r.moves, 6), BenchCommand.pad(share(r.fullMostMilli[0]), 5),
            BenchCommand.pad(share(r.fullMostMilli[1]), 5), BenchCommand.pad(share(r.devicesFullMostMilli), 5),
            BenchCommand.pad(
                "\(BenchCommand.micros(r.times.mean))/\(BenchCommand.micros(r.times.median))"
                    + "/\(BenchCommand.micros(r.times.p99))", 26), " \(r.hash)")
    }

    private func batch() throws {
        guard servers.count != nil else {
            throw UsageError("each kind of server needs a count, such as cpu=64,mem=256,count=9")
        }
        for policy in policies {
            var index = PlacementIndex(seed: UInt64(line.integer("seed") ?? 0))
            for host in servers.hosts(open: 0) { try index.addHost(host) }
            let specs = trace.rows.map(\.spec)
            index.setMix(index.mix(of: specs))
            let began = BenchCommand.nanoseconds()
            let batch = index.decideBatch(specs, policy: policy)
            let time = BenchCommand.nanoseconds() - began
            if isJSON {
                print(
                    "{\"policy\":\"\(policy.name)\",\"vms\":\(specs.count),\"placed\":\(batch.placed),"
                        + "\"ns\":\(time)}")
            } else {
                print(
                    "\(policy.name): \(batch.placed) of \(specs.count) VMs placed on \(index.hostCount) servers in "
                        + "\(BenchCommand.micros(time)) us")
            }
        }
    }

    func rebalance() throws {
        let policy = policies[0]
        var index = PlacementIndex()
        for host in servers.hosts(open: 0) { try index.addHost(host) }
        if trace.hosts.isEmpty { throw UsageError("the file needs a column host: the number of the server, from 1") }
        for (row, host) in zip(trace.rows, trace.hosts) {
            let host = HostID(rawValue: UInt64(host))
            guard index.host(host) != nil else { throw UsageError("there is no server \(host)") }
            guard
                let place = index.decide(row.spec, policy: policy, among: HostFilter(only: [host])).assignment
            else { throw UsageError("the VM of row \(row.spec.id.rawValue + 1) doesn't fit on its server \(host)") }
            try index.place(row.spec, place)
        }
        index.setMix(index.mixOfPlacedVMs())
        var budget = RebalanceBudget(
            movesMax: line.integer("moves-max") ?? 1_000_000, movesPerHostMax: Int.max,
            gainMin: Int64(line.integer("gain-min") ?? 64))
        budget.vmsExaminedMax = .max
        let before = index.cellScore(policy)
        var moves: [Move] = []
        var plans = 0
        let began = BenchCommand.nanoseconds()
        while plans < line.integer("plans-max") ?? 100 {
            let plan = index.planRebalance(policy: policy, budget: budget)
            plans += 1
            for move in plan.moves { try index.apply(move) }
            moves += plan.moves
            if plan.isComplete || plan.moves.isEmpty { break }
        }
        let time = BenchCommand.nanoseconds() - began
        if let path = line.text("moves") {
            var text = "vm,from,to\n"
            for move in moves { text += "\(move.vm.rawValue + 1),\(move.from.host),\(move.to.host)\n" }
            let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
            guard file >= 0 else { throw UsageError("\(path) can't be written (\(ReplayBench.reason()))") }
            Console.write(text, to: file)
            close(file)
        }
        let after = index.cellScore(policy)
        if isJSON {
            print(
                "{\"policy\":\"\(policy.name)\",\"hosts\":\(index.hostCount),\"vms\":\(index.vmCount),\"plans\":\(plans),"
                    + "\"moves\":\(moves.count),\"score_before\":\(before),\"score_after\":\(after),\"ns\":\(time)}")
        } else {
            print(
                "\(policy.name): \(moves.count) moves in \(plans) plans for \(index.vmCount) VMs on \(index.hostCount) "
                    + "servers, score \(before) to \(after), \(BenchCommand.micros(time)) us")
        }
    }

    private func hundredths(_ value: Int64) -> String { "\(value / 100).\(value % 100 < 10 ? "0" : "")\(value % 100)" }

    /// A whole file; `-` is standard input.
    static func read(_ path: String) throws -> [UInt8] {
        let file = path == "-" ? 0 : open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else {
            throw UsageError("\(path) can't be opened (\(reason())); name a CSV file, or - for standard input")
        }
        defer { if file > 0 { close(file) } }
        var bytes: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 1 << 20)
        while true {
            let count = unsafe Glibc.read(file, &part, part.count)
            if count < 0 { throw UsageError("\(path) can't be read (\(reason()))") }
            if count == 0 { return bytes }
            bytes += part[..<count]
            if bytes.count > bytesMax { throw UsageError("\(path) is longer than \(bytesMax >> 30) GiB") }
        }
    }

    private static func reason() -> String { unsafe String(cString: strerror(errno)) }
}
