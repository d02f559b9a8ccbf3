import CommandSyntax
import FleetModel
import Glibc
import Placement
import Terminal

/// `muster bench placement` and `muster bench replay`: the placement engine by itself.
extension BenchCommand {
    static let placementTable = CommandTable(
        program: "muster", about: "Benches of the placement engine.",
        commands: [
            Command(
                "bench placement", summary: "time decisions on made-up cells",
                details: """
                    Fills a cell of 20 racks in 5 zones, then decides, places and lets a random VM go, over and over, so that
                    the cell stays as full. Prints decisions per second of deciding, and of deciding with the two changes of
                    the index that follow it. The hash tells two builds apart that decide differently.
                    """,
                options: [
                    Option("hosts", .text("N[,N…]"), help: "sizes of cells (default 10000,100000)"),
                    Option("full", .text("P[,P…]"), help: "per cent of all CPU in use (default 50,90,99)"),
                    Option(
                        "mix", .choice(PlacementBench.Mix.allCases.map(\.name)), isRepeated: true,
                        help:
                            "what hosts and VMs look like (default mixed: shapes, rules, groups, NUMA and GPUs at once)"
                    ),
                    Option("policy", .text("NAME"), help: "a policy, see `muster bench replay` (default pack)"),
                    Option("decisions", .integer(1...100_000_000), help: "to measure for each line (default 200000)"),
                    Option("seed", .integer(0...Int.max), help: "of everything that is made up (default 1)"),
                    outputOption,
                ],
                examples: [
                    .init("muster bench placement", "10,000 and 100,000 hosts, 50, 90 and 99 % full"),
                    .init("muster bench placement --hosts 1000 --full 90 --mix numa", "one line"),
                ]),
            Command(
                "bench replay", summary: "replay a trace of arrivals and departures with the engine's own decisions",
                details: TraceHelp.text, arguments: [Argument("FILE", help: "a CSV file, or - for standard input")],
                options: replayOptions,
                examples: [
                    .init(
                        "zcat azure.csv.gz | muster bench replay - --server cpu=64,mem=176 --lifetime-min 300",
                        "the fewest servers of this kind that reject no VM"),
                    .init(
                        "muster bench replay vms.csv --server cpu=64,mem=176 --servers 755 --policy pack,best-fit",
                        "how many VMs 755 servers reject, under two policies"),
                    .init(
                        "muster bench replay vms.csv --server cpu=80,mem=180,numa=2 --split-above 16",
                        "servers with two NUMA nodes; VMs of more than 16 cores are split over both"),
                    .init(
                        "muster bench replay pods.csv --server-file nodes.csv --stay",
                        "a fleet of many kinds, with GPUs, that fills up"),
                    .init(
                        "muster bench replay vms.csv --server-file hosts.csv --batch",
                        "all VMs as one batch, placed together"),
                ]),
            Command(
                "bench rebalance", summary: "plan moves for VMs that have their places, and say what they gain",
                details: """
                    FILE is a trace as `muster bench replay` reads it, with a column host: the number of the server, from 1,
                    that the VM is on; times may be missing. Plans follow each other until one finds nothing more to gain.
                    """,
                arguments: [Argument("FILE", help: "a CSV file, or - for standard input")],
                options: fleetOptions + [
                    Option("policy", .text("NAME"), help: "what is gained: balance, spread or pack (default balance)"),
                    Option("moves-max", .integer(1...1_000_000), help: "moves of one plan (default 1000000)"),
                    Option("plans-max", .integer(1...1_000_000), help: "plans in a row (default 100)"),
                    Option("gain-min", .integer(1...1_000_000_000), help: "65,536ths of a host (default 64)"),
                    Option(
                        "moves", .text("FILE"), help: "write the moves there, as CSV: vm (its row, from 1), from, to"),
                    outputOption,
                ],
                examples: [.init("muster bench rebalance vms.csv --server-file hosts.csv", "spread the load evenly")]),
        ])

    private static let outputOption = Option(
        "output", .choice(["table", "json"]), letter: "o", help: "how to print (default table)")

    private static let fleetOptions: [Option] = [
        Option(
            "server", .text("cpu=N,mem=N,…"), isRepeated: true,
            help:
                "a kind of server: cpu cores, mem GiB; may have disk GiB, network Mbit/s, numa nodes, gpus, gpu_model, count"
        ),
        Option("server-file", .text("FILE"), help: "a CSV of servers with the same columns, one kind a line"),
        Option("column", .text("NAME=HEADER"), isRepeated: true, help: "the trace calls column NAME otherwise"),
        Option(
            "split-above", .text("CORES"), help: "VMs of more cores are split over --split-nodes, others get one node"),
        Option("split-above-memory", .text("GIB"), help: "the same by memory; both together: where either is exceeded"),
        Option("split-nodes", .integer(1...Host.numaNodesMax), help: "NUMA nodes of a VM that is split (default 2)"),
    ]

    private static let replayOptions: [Option] =
        fleetOptions + [
            Option(
                "servers", .text("N[,N…]"),
                help: "numbers of servers to replay on, for one kind without a count (default: the fewest found)"),
            Option(
                "servers-max", .integer(1...ServerList.serversMax),
                help: "where to stop looking (default 4 x the bound)"),
            Option(
                "policy", .text("NAME[,NAME…]"), help: "\(policyNames.joined(separator: ", ")), or all (default pack)"),
            Option("fewest", help: "look for the fewest servers (default where one kind has no count; --no-fewest)"),
            Option(
                "rebalance-per-arrivals", .integer(1...1_000_000),
                help: "let VMs be moved, at every time at most once per so many arrivals so far"),
            Option("lifetime-min", .text("TIME"), help: "shorter lifetimes count as this, in the trace's unit"),
            Option("stay", help: "ignore departures: VMs stay"),
            Option("batch", help: "ignore times: all VMs are placed together, the order being the engine's choice"),
            Option(
                "mix-per-arrivals", .integer(1...1_000_000_000),
                help: "how often pack learns what runs (default 1000, on servers with GPUs 25)"),
            Option("seed", .integer(0...Int.max), help: "of the order of equal hosts (default 0)"),
            outputOption,
        ]

    static let policyNames = PlacementPolicy.allCases.map(\.name)

    /// Runs `placement`, `replay` or `rebalance`; 0 when it could.
    static func placement(_ words: [String]) throws -> Int32 {
        switch placementTable.parse(["bench"] + words) {
        case .help(let text): Console.write(text, to: 1)
        case .refused(let sentence): throw UsageError(sentence)
        case .run(let line):
            switch line.path {
            case "bench replay": try ReplayBench(line).run()
            case "bench rebalance": try ReplayBench(line).rebalance()
            default: try decisions(line)
            }
        }
        return 0
    }

    private static func decisions(_ line: Invocation) throws {
        let isJSON = line.text("output") == "json"
        let mixes = line.texts("mix").compactMap { name in PlacementBench.Mix.allCases.first { $0.name == name } }
        if !isJSON {
            print(
                "   hosts      VMs  full mix            decisions/s  p50 us  p99 us  max us  changes us  refused  hash")
        }
        let hosts = try list(line.text("hosts") ?? "10000,100000", "--hosts", 1...1_000_000)
        let full = try list(line.text("full") ?? "50,90,99", "--full", 1...100)
        for mix in mixes.isEmpty ? [.mixed] : mixes {
            for hosts in hosts {
                for full in full {
                    var bench = PlacementBench(hosts: hosts, mix: mix, fillMilli: Int64(full) * 10)
                    bench.policy = try policies(line.text("policy") ?? "pack")[0]
                    bench.decisions = line.integer("decisions") ?? 200_000
                    bench.seed = UInt64(line.integer("seed") ?? 1)
                    let r = try bench.run(nanoseconds: nanoseconds)
                    if isJSON {
                        print(
                            "{\"hosts\":\(r.hosts),\"vms\":\(r.vms),\"full_milli\":\(r.fullMilli),\"mix\":\"\(mix.name)\","
                                + "\"policy\":\"\(r.policy.name)\",\"decisions\":\(r.decisions),\"refused\":\(r.refused),"
                                + "\"per_second\":\(r.decisionsPerSecond),\"ns_p50\":\(r.nanosecondsMedian),"
                                + "\"ns_p99\":\(r.nanosecondsP99),\"ns_max\":\(r.nanosecondsMost),\"ns_changes\":\(r.nanosecondsChanges),\"hash\":\"\(r.hash)\"}"
                        )
                    } else {
                        print(
                            pad(r.hosts, 8), pad(r.vms, 8), pad("\(r.fullMilli / 10) %", 5), padRight(mix.name, 14),
                            pad(r.decisionsPerSecond, 12), pad(micros(r.nanosecondsMedian), 7),
                            pad(micros(r.nanosecondsP99), 7), pad(micros(r.nanosecondsMost), 7),
                            pad(micros(r.nanosecondsChanges), 11), pad(r.refused, 8),
                            " \(r.hash)")
                    }
                }
            }
        }
    }

    static func list(_ text: String, _ option: String, _ range: ClosedRange<Int>) throws -> [Int] {
        try text.split(separator: ",", omittingEmptySubsequences: false).map { part in
            guard let number = Int(part), range.contains(number) else {
                throw UsageError(
                    "\(option) wants numbers from \(range.lowerBound) to \(range.upperBound) with commas between, "
                        + "not '\(text)'")
            }
            return number
        }
    }

    static func policies(_ text: String) throws -> [PlacementPolicy] {
        if text == "all" { return PlacementPolicy.allCases }
        return try text.split(separator: ",", omittingEmptySubsequences: false).map { name in
            guard let policy = PlacementPolicy.allCases.first(where: { $0.name == name }) else {
                throw UsageError("there is no policy '\(name)'; there are \(policyNames.joined(separator: ", "))")
            }
            return policy
        }
    }

    static func nanoseconds() -> Int64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }

    static func pad(_ value: some CustomStringConvertible, _ width: Int) -> String {
        let text = value.description
        return String(repeating: " ", count: max(0, width - text.count)) + text
    }

    static func padRight(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }

    /// Nanoseconds as microseconds with one digit.
    static func micros(_ nanoseconds: Int64) -> String { tenths((nanoseconds + 50) / 100) }
    static func tenths(_ tenths: Int64) -> String { "\(tenths / 10).\(tenths % 10)" }
}

extension PlacementPolicy {
    /// The name on a command line: words with hyphens.
    var name: String { hyphenated(rawValue) }
}

extension PlacementBench.Mix {
    var name: String { hyphenated(rawValue) }
}

private func hyphenated(_ camel: String) -> String {
    camel.reduce(into: "") { $0 += $1.isUppercase ? "-" + $1.lowercased() : String($1) }
}

/// What the help says about files.
enum TraceHelp {
    static let text = """
        The trace is CSV with a header line; columns may stand in any order, and those that mean nothing here are named
        and ignored. Departures go before arrivals of the same time. Compressed files come through a pipe (zcat).

          arrival      when the VM comes, in any unit of time (also: at, time, start, creation_time)
          departure    when it goes; empty: it stays (also: end, deletion_time)
          lifetime     how long it stays, in place of departure (also: duration, dur_hi)
          stays        1: it stays to the end, whatever its lifetime (also: censored)
          cpu, memory  cores, GiB (also: cores, vcpus, mem; or cpu_milli, memory_mib)
          disk         GiB; network: Mbit/s
          gpus         whole GPUs, or a part of one such as 0.25 (also: gpu, num_gpu)
          gpu_milli    thousandths of each of these GPUs that it takes (default 1000)
          gpu_model    models that will do, such as V100|A100; empty: any (also: gpu_spec)
          numa         NUMA nodes that it is split over evenly; 0: anywhere (default, where servers have nodes: as few as can)
          count        that many such VMs (default 1)
          host         the number of the server it is on (for `muster bench rebalance`)

        A trace of events instead has a column event (or type) of arrive|create|0 and depart|delete|1, and a column id;
        rows are then in order of time, and a departure needs only its id.
        """
}
