import ClusterBase
public import FleetModel

/// Servers to replay a trace on, in a trace's units.
public struct ServerList: Sendable {
    /// The most servers of one list.
    public static let serversMax = 1_000_000

    /// Kinds of servers, in order, with their numbers; nil: as many as are needed, which only a single kind can be.
    public private(set) var kinds: [(host: Host, count: Int?)] = []
    /// The trace's words, and those that the servers added.
    public private(set) var words: WordTable

    public init(words: WordTable = WordTable()) { self.words = words }

    /// How many servers the kinds name together; nil when one kind leaves it open.
    public var count: Int? {
        var sum = 0
        for kind in kinds {
            guard let count = kind.count else { return nil }
            sum += count
        }
        return sum
    }

    /// Adds a kind such as `cpu=96,mem=384,numa=2,gpus=8,gpu_model=V100,count=100`: cores, GiB, NUMA nodes that share
    /// both evenly, GPUs dealt out evenly to the nodes. The names are those of a trace's columns.
    public mutating func add(_ text: String) throws(TraceError) {
        var header: [String] = []
        var values: [String] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            if pair.count != 2 || pair[0].isEmpty || pair[1].isEmpty {
                throw TraceError(line: 0, "a server is cpu=CORES,mem=GIB and so on; '\(part)' has no name or no value")
            }
            header.append(String(pair[0]))
            values.append(String(pair[1]))
        }
        let csv = header.joined(separator: ",") + "\n" + values.joined(separator: ",") + "\n"
        do throws(TraceError) {
            var table = try CSVTable(Array(csv.utf8), names: [:])
            if let unknown = table.ignored.first {
                throw TraceError(
                    line: 0, "a server has cpu, mem, disk, network, numa, gpus, gpu_model and count, not '\(unknown)'")
            }
            while try table.next() { try add(&table) }
        } catch {
            throw TraceError(line: 0, "server '\(text)': \(error.text)")
        }
    }

    /// Adds a kind per line of a CSV file with these columns.
    public mutating func add(csv: [UInt8]) throws(TraceError) {
        var table = try CSVTable(csv, names: [:])
        let before = kinds.count
        while try table.next() { try add(&table, countDefault: 1) }
        if kinds.count == before { throw TraceError(line: 0, "the list has a header and no server") }
    }

    private mutating func add(_ table: inout CSVTable, countDefault: Int? = nil) throws(TraceError) {
        let resources = try table.resources()
        var host = Host(id: HostID(rawValue: 0), capacity: resources)
        var nodes = 0
        if let given = try whole(&table, .numa, 0...Host.numaNodesMax) { nodes = given }
        if nodes > 0 {
            let share = NUMANode(
                cpuMillis: resources.cpuMillis / Int64(nodes), memoryMiB: resources.memoryMiB / Int64(nodes))
            host.numaNodes = Array(repeating: share, count: nodes)
        }
        var gpus = 0
        if let given = try whole(&table, .gpus, 0...Host.devicesMax) { gpus = given }
        let model = table.text(.gpuModel)
        guard let word = words.word(model) else { throw TraceError(line: table.line, "there are too many GPU models") }
        for i in 0..<gpus {
            host.devices.append(Device(kind: word, numaNode: nodes > 0 ? UInt8(i * nodes / gpus) : nil))
        }
        if !resources.isValid || resources == .zero {
            throw TraceError(line: table.line, "a server needs cpu and mem above 0")
        }
        var count = countDefault
        if let given = try whole(&table, .count, 1...ServerList.serversMax) { count = given }
        if let count, (self.count ?? 0) + count > ServerList.serversMax {
            throw TraceError(line: table.line, "more than \(ServerList.serversMax) servers")
        }
        kinds.append((host, count))
    }

    private func whole(
        _ table: inout CSVTable, _ column: TraceColumn, _ range: ClosedRange<Int>
    ) throws(TraceError) -> Int? {
        guard let number = try table.number(column) else { return nil }
        guard number == number.rounded(), Double(range.lowerBound) <= number, number <= Double(range.upperBound) else {
            throw TraceError(
                line: table.line,
                "\(column.rawValue) is a whole number from \(range.lowerBound) to \(range.upperBound)")
        }
        return Int(number)
    }

    /// The servers, numbered from 1 in order of their kinds; a kind of an open number has `open` of them.
    public func hosts(open: Int) -> [Host] {
        var hosts: [Host] = []
        for kind in kinds {
            for _ in 0..<(kind.count ?? open) {
                var host = kind.host
                host.id = HostID(rawValue: UInt64(hosts.count + 1))
                hosts.append(host)
            }
        }
        return hosts
    }

    /// How many servers of the one kind the peak of a trace can't do without, whatever the order of its VMs.
    public func bound(_ peak: Trace.Peak) -> Int? {
        guard kinds.count == 1 else { return nil }
        let host = kinds[0].host
        var most: Int64 = 1
        for i in 0..<4 where peak.resources.vector[i] > 0 {
            if host.offered.vector[i] <= 0 { return nil }
            most = max(most, (peak.resources.vector[i] + host.offered.vector[i] - 1) / host.offered.vector[i])
        }
        if peak.deviceMillis > 0 {
            let millis = Int64(host.devices.count) * Int64(Device.wholeMillis)
            if millis == 0 { return nil }
            most = max(most, (peak.deviceMillis + millis - 1) / millis)
        }
        return Int(most)
    }
}
