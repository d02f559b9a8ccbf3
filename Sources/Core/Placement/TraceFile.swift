import ClusterBase
public import FleetModel

/// What is wrong with a trace or a list of servers, and where.
public struct TraceError: Error, Hashable, Sendable, CustomStringConvertible {
    /// From 1, the header being line 1; 0 when no line is to blame.
    public var line: Int
    /// One sentence that says what is wrong.
    public var text: String
    public init(line: Int, _ text: String) {
        self.line = line
        self.text = text
    }
    public var description: String { line > 0 ? "line \(line): \(text)" : text }
}

/// A column that a trace can have. Header names are compared without case, and with `-`, `.` and spaces as `_`.
public enum TraceColumn: String, CaseIterable, Hashable, Sendable {
    /// Who a row is about and when: `id` pairs the rows of a trace of events, `event` tells arrivals from departures.
    case id, arrival, departure, lifetime, stays, event
    /// Amounts: cores or thousandths, GiB or MiB, Mbit/s.
    case cpu, cpuMilli = "cpu_milli", memory, memoryMiB = "memory_mib", disk, diskMiB = "disk_mib", network
    /// GPUs and their parts, NUMA nodes, how many such VMs a row stands for, and the server that it was seen on.
    case gpus, gpuMilli = "gpu_milli", gpuModel = "gpu_model", numa, count, host

    /// The header names that mean this column, beside its own.
    public var aliases: [String] {
        switch self {
        case .id: ["vm", "vmid", "vm_id", "name", "sn", "pod"]
        case .arrival: ["at", "time", "timestamp", "start", "start_time", "starttime", "created", "creation_time"]
        case .departure: ["end", "end_time", "endtime", "deleted", "deletion_time"]
        case .lifetime: ["duration", "dur", "dur_hi"]
        case .stays: ["censored"]
        case .event: ["type", "action", "op"]
        case .cpu: ["cpus", "core", "cores", "vcpu", "vcpus"]
        case .cpuMilli: ["cpu_millis", "cpu_m"]
        case .memory: ["mem", "memory_gib", "mem_gib", "memory_gb", "mem_gb", "ram"]
        case .memoryMiB: ["mem_mib", "memory_mb", "mem_mb"]
        case .disk: ["disk_gib", "disk_gb", "ssd", "storage"]
        case .diskMiB: ["disk_mb"]
        case .network: ["network_mbps", "net", "nic"]
        case .gpus: ["gpu", "num_gpu", "gpu_count", "num_gpus"]
        case .gpuMilli: ["gpu_millis"]
        case .gpuModel: ["gpu_spec", "gpu_type", "gpu_models", "model"]
        case .numa: ["numa_nodes"]
        case .count: ["number", "quantity"]
        case .host: ["server", "node"]
        }
    }
}

/// How a trace is read.
public struct TraceOptions: Sendable {
    /// Header names for columns that are called otherwise.
    // hash order: looked up only
    public var names: [TraceColumn: String] = [:]
    /// Lifetimes below this count as this, in the trace's unit of time.
    public var lifetimeMin: Double?
    /// VMs never leave.
    public var ignoresDepartures = false
    /// VMs with more cores, or more GiB, than this are split evenly over `splitNodes` NUMA nodes; all others are put
    /// on one.
    public var splitAboveCores: Double?
    /// The same for GiB of memory.
    public var splitAboveGiB: Double?
    /// Over how many NUMA nodes such VMs are split.
    public var splitNodes = 2
    /// What a VM wishes for that neither the options above nor a column say anything about.
    public var numa = NUMAWish.none
    public init() {}
}

/// A trace as it was read: VMs in the order of the file.
///
/// Amounts are counted in millionths of a core, KiB of memory and of disk, and thousandths of a Mbit/s, so that traces
/// in fractions of a server keep their sense; servers to replay it on must be in these units, as `ServerList` makes
/// them.
public struct Trace: Sendable {
    /// The most VMs of one trace.
    public static let rowsMax = 1 << 26

    /// In the order of the file; a row with a count is that many.
    public private(set) var rows: [TraceRow] = []
    /// Columns of the file that mean nothing here.
    public private(set) var ignored: [String] = []
    /// The words given to the initialiser, and the GPU models of the file.
    public private(set) var words: WordTable
    /// By row, the number of the server that a VM is on, from 1, where the file has a column host; else empty.
    public private(set) var hosts: [Int] = []

    /// Reads CSV with a header line, separated by commas, semicolons or tabs. Models of GPUs are added to `words`.
    public init(csv: [UInt8], options: TraceOptions = TraceOptions(), words: WordTable = WordTable()) throws(TraceError)
    {
        self.words = words
        var table = try CSVTable(csv, names: options.names)
        ignored = table.ignored
        if table.has(.event) { try readEvents(&table, options) } else { try readIntervals(&table, options) }
        if rows.isEmpty { throw TraceError(line: 0, "the trace has a header and no VM") }
    }

    /// One row per VM: when it comes, and when it goes or how long it stays.
    private mutating func readIntervals(_ table: inout CSVTable, _ options: TraceOptions) throws(TraceError) {
        if !table.has(.departure) && !table.has(.lifetime) && !options.ignoresDepartures {
            throw TraceError(
                line: 1,
                "there is no column departure and none lifetime (an event column, with VMs' ids, would do too)")
        }
        let hasArrivals = table.has(.arrival)
        while try table.next() {
            let spec = try spec(&table, options)
            var arrival = Int64(table.line)
            if hasArrivals {
                guard let time = try table.time(.arrival) else {
                    throw TraceError(line: table.line, "arrival is empty")
                }
                arrival = time
            }
            var departure: Int64?
            let stays = try table.truth(.stays)
            if !options.ignoresDepartures && !stays {
                departure = try table.time(.departure)
                if departure == nil, let lifetime = try table.number(.lifetime) {
                    let long = max(lifetime, options.lifetimeMin ?? 0)
                    departure = arrival + Int64((min(long, 1e12) * CSVTable.timeUnit).rounded())
                } else if let end = departure, end < arrival {
                    throw TraceError(line: table.line, "the VM goes before it comes")
                }
            }
            try add(TraceRow(spec: spec, arrival: arrival, departure: departure), &table)
        }
    }

    /// One row per arrival and one per departure, in the order in which they happen.
    private mutating func readEvents(_ table: inout CSVTable, _ options: TraceOptions) throws(TraceError) {
        if !table.has(.id) { throw TraceError(line: 1, "a trace of events needs a column id") }
        // hash order: looked up only
        var present: [String: Int] = [:]
        var last = Int64.min
        while try table.next() {
            let id = table.text(.id)
            if id.isEmpty { throw TraceError(line: table.line, "the id is empty") }
            if let time = try table.time(.arrival) {
                if time < last { throw TraceError(line: table.line, "events must be in order of time") }
                last = time
            }
            // The line is the time: events happen in the order of the file, also where their times are equal.
            switch table.text(.event).lowercased() {
            case "arrive", "arrival", "create", "start", "add", "in", "+", "0":
                if present[id] != nil { throw TraceError(line: table.line, "VM '\(id)' comes twice") }
                present[id] = rows.count
                let spec = try spec(&table, options)
                try add(TraceRow(spec: spec, arrival: Int64(table.line), departure: nil), &table)
            case "depart", "departure", "delete", "end", "stop", "remove", "out", "-", "1":
                guard let row = present.removeValue(forKey: id) else {
                    throw TraceError(line: table.line, "VM '\(id)' goes and is not there")
                }
                if !options.ignoresDepartures { rows[row].departure = Int64(table.line) }
            default:
                throw TraceError(
                    line: table.line,
                    "the event '\(table.text(.event))' is neither arrive (create, +, 0) nor depart (delete, -, 1)")
            }
        }
    }

    private mutating func add(_ row: TraceRow, _ table: inout CSVTable) throws(TraceError) {
        var count = 1.0
        if let given = try table.number(.count) { count = given }
        if count < 1 || count > 1_000_000 || count != count.rounded() {
            throw TraceError(line: table.line, "count is a whole number from 1 to 1000000")
        }
        if count > 1 && table.has(.event) { throw TraceError(line: table.line, "an event is of one VM, not of more") }
        if rows.count + Int(count) > Trace.rowsMax {
            throw TraceError(line: table.line, "more than \(Trace.rowsMax) VMs")
        }
        for _ in 0..<Int(count) {
            var row = row
            row.spec.id = VMID(rawValue: UInt64(rows.count))
            rows.append(row)
            if table.has(.host) {
                guard let host = try table.number(.host), host >= 1, host == host.rounded(), host < 1e9 else {
                    throw TraceError(line: table.line, "host is the number of a server, from 1")
                }
                hosts.append(Int(host))
            }
        }
    }

    private mutating func spec(_ table: inout CSVTable, _ options: TraceOptions) throws(TraceError) -> VMSpec {
        var spec = VMSpec(id: VMID(rawValue: 0), resources: try table.resources())
        spec.devices = try table.devices(&words)
        if spec.resources == .zero && spec.devices.isEmpty {
            throw TraceError(line: table.line, "the VM asks for nothing; name its cpu, memory or gpus")
        }
        spec.numa = options.numa
        if options.splitAboveCores != nil || options.splitAboveGiB != nil {
            let isLarge =
                Double(spec.resources.cpuMillis) > (options.splitAboveCores ?? .infinity) * CSVTable.cpuUnit
                || Double(spec.resources.memoryMiB) > (options.splitAboveGiB ?? .infinity) * CSVTable.memoryUnit
            spec.numa = .nodes(isLarge ? options.splitNodes : 1)
        }
        if let nodes = try table.number(.numa) {
            if nodes < 0 || nodes > Double(Host.numaNodesMax) || nodes != nodes.rounded() {
                throw TraceError(
                    line: table.line, "numa is a number of nodes from 0 (anywhere) to \(Host.numaNodesMax)")
            }
            spec.numa = nodes == 0 ? .none : .nodes(Int(nodes))
        }
        if let problem = PlacementIndex.problem(spec) { throw TraceError(line: table.line, problem) }
        return spec
    }
}

extension Trace {
    /// The most of each resource that was asked for at one time, and the GPUs, in thousandths: what no fleet can do
    /// with less than. Resources are maximal at different times.
    public struct Peak: Hashable, Sendable {
        /// VMs at one time.
        public var vms = 0
        /// Of each resource by itself.
        public var resources = Resources.zero
        /// Of GPUs, in thousandths of one.
        public var deviceMillis: Int64 = 0
    }

    /// Found by going through all arrivals and departures once.
    public var peak: Peak {
        var peak = Peak()
        var now = Peak()
        for event in Replay.order(rows) {
            let spec = rows[event < 0 ? ~event : event].spec
            let sign: Int64 = event < 0 ? -1 : 1
            now.vms += Int(sign)
            now.resources.vector &+= spec.demand.vector &* SIMD4(repeating: sign)
            for wish in spec.devices { now.deviceMillis += sign * Int64(wish.count) * Int64(wish.millis) }
            peak.vms = max(peak.vms, now.vms)
            peak.deviceMillis = max(peak.deviceMillis, now.deviceMillis)
            for i in 0..<4 { peak.resources.vector[i] = max(peak.resources.vector[i], now.resources.vector[i]) }
        }
        return peak
    }
}
