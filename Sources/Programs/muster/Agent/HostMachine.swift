import AgentConfig
import ClusterBase
import FleetModel
import Glibc
import NodeStorage
import Reactor

/// What this host's machine has, as Linux tells it, and what its settings make of that.
struct HostMachine {
    var cpuMillis: Int64
    var memoryMiB: Int64
    var diskMiB: Int64
    var networkMbps: Int64
    var numaNodes: [NUMANode]

    /// Looks at the machine. What can't be found out counts as the least that a host has.
    init(diskAt directory: String) {
        cpuMillis = Int64(max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))) * 1_000
        memoryMiB = HostMachine.kibibytes(in: "/proc/meminfo", of: "MemTotal:").map { $0 >> 10 } ?? 1_024
        // A file system that can't be asked has no room.
        diskMiB = DiskSpace(at: directory).map { Int64(clamping: $0.totalBytes >> 20) } ?? 0
        networkMbps = HostMachine.interfaceSpeed ?? 1_000
        numaNodes = HostMachine.nodes
        // One node says nothing that the whole does not.
        if numaNodes.count < 2 || numaNodes.count > Host.numaNodesMax { numaNodes = [] }
    }

    /// As the host is told to the cell.
    func description(_ settings: AgentSettings, driver: String) -> HostDescription {
        let capacity = Resources(
            cpuMillis: settings.hostCPUMillis > 0 ? Int64(settings.hostCPUMillis) : cpuMillis,
            memoryMiB: settings.hostMemoryBytes > 0 ? Int64(settings.hostMemoryBytes >> 20) : memoryMiB,
            diskMiB: settings.hostDiskBytes > 0 ? Int64(settings.hostDiskBytes >> 20) : diskMiB,
            networkMbps: settings.hostNetworkMbps > 0 ? Int64(settings.hostNetworkMbps) : networkMbps)
        var nodes = settings.hostCPUMillis > 0 || settings.hostMemoryBytes > 0 ? [] : numaNodes
        if settings.hostNUMANodes > 0 {
            let count = Int64(settings.hostNUMANodes)
            let node = NUMANode(cpuMillis: capacity.cpuMillis / count, memoryMiB: capacity.memoryMiB / count)
            nodes = Array(repeating: node, count: settings.hostNUMANodes)
        }
        return HostDescription(
            name: settings.nodeName,
            locality: Locality(region: settings.region, zone: settings.zone, rack: settings.rack), capacity: capacity,
            numaNodes: nodes, devices: settings.hostDevices.map { NamedDevice(kind: $0) },
            labels: settings.labels.map { Named($0.key, $0.value) }, storageDomains: settings.storageDomains.sorted(),
            networks: Set(settings.networks + settings.bridges.map(\.key)).sorted(), driver: driver)
    }

    private static func lines(_ path: String) -> [Substring] {
        // A machine without the file does not have what it tells of.
        guard let bytes = try? NodeFiles.read(path) else { return [] }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n")
    }

    private static func kibibytes(in path: String, of name: String) -> Int64? {
        for line in lines(path) {
            let words = line.split(separator: " ")
            if let at = words.firstIndex(of: Substring(name)), at + 1 < words.endIndex { return Int64(words[at + 1]) }
        }
        return nil
    }

    private static var interfaceSpeed: Int64? {
        names(in: "/sys/class/net").filter { $0 != "lo" }
            .compactMap { lines("/sys/class/net/\($0)/speed").first.flatMap { Int64($0) } }.filter { $0 > 0 }.max()
    }

    private static var nodes: [NUMANode] {
        let path = "/sys/devices/system/node"
        let numbers = names(in: path).filter { $0.hasPrefix("node") }.compactMap { Int($0.dropFirst(4)) }.sorted()
        return numbers.compactMap { number in
            guard let memory = kibibytes(in: "\(path)/node\(number)/meminfo", of: "MemTotal:"),
                let list = lines("\(path)/node\(number)/cpulist").first
            else { return nil }
            return NUMANode(cpuMillis: count(cpus: list) * 1_000, memoryMiB: memory >> 10)
        }
    }

    /// Of a list such as `0-3,8,10-11`.
    static func count(cpus list: Substring) -> Int64 {
        list.split(separator: ",").reduce(0) { sum, part in
            let ends = part.split(separator: "-").compactMap { Int64($0) }
            guard let first = ends.first, let last = ends.last, last >= first else { return sum }
            return sum + last - first + 1
        }
    }

    private static func names(in path: String) -> [String] {
        guard let folder = opendir(path) else { return [] }
        defer { closedir(folder) }
        var found: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: entry.pointee.d_name) { tuple in
                tuple.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if !name.hasPrefix(".") { found.append(name) }
        }
        return found.sorted()
    }
}
