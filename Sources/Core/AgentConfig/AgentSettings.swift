package import ClusterBase
import CommandSyntax

/// How much an agent logs; each level includes those before it.
package enum LogLevel: String, CaseIterable, Hashable, Sendable, Comparable {
    case error
    case warning
    case info
    case debug

    package static func < (a: LogLevel, b: LogLevel) -> Bool { a.rank < b.rank }

    private var rank: Int {
        switch self {
        case .error: 0
        case .warning: 1
        case .info: 2
        case .debug: 3
        }
    }
}

/// How an agent writes its log.
package enum LogFormat: String, CaseIterable, Hashable, Sendable {
    case text
    /// One JSON object per line.
    case json
}

/// Which driver runs the VMs.
package enum HypervisorKind: String, CaseIterable, Hashable, Sendable {
    /// Pretends, for clusters that are tried out.
    case simulated
    /// A QEMU process per VM.
    case qemu
}

/// One `key=value` of a node, for placement rules.
package struct NodeLabel: Hashable, Sendable, CustomStringConvertible {
    package let key: String
    package let value: String

    package static let keyBytesMax = 63
    package static let valueBytesMax = 63

    /// Reads `key=value`. Keys have lower-case letters, digits, dots, dashes, underscores and slashes; values have the same
    /// and capitals, and may be empty.
    package init?(_ text: String) {
        let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, (1...Self.keyBytesMax).contains(parts[0].utf8.count),
            parts[1].utf8.count <= Self.valueBytesMax,
            parts[0].utf8.allSatisfy({ Self.isPlain($0) && !(0x41...0x5A).contains($0) }),
            parts[1].utf8.allSatisfy({ Self.isPlain($0) })
        else { return nil }
        key = String(parts[0])
        value = String(parts[1])
    }

    package var description: String { "\(key)=\(value)" }

    private static func isPlain(_ byte: UInt8) -> Bool {
        (0x61...0x7A).contains(byte | 0x20) || (0x2D...0x39).contains(byte) || byte == 0x5F
    }
}

/// Everything that a node's agent can be told, with its defaults. What is the cluster's and not the node's, such as how
/// many nodes vote, is replicated and set by command.
package struct AgentSettings: Hashable, Sendable {
    package var nodeName = ""
    package var dataDirectory = "/var/lib/muster"
    package var region = ""
    package var zone = ""
    package var rack = ""
    package var labels: [NodeLabel] = []
    /// The feature level up to which the program acts; 0 is all that it knows.
    package var featureLevel = 0
    package var priority = 10

    package var peerListen = AgentSettings.anywhere(7471)
    /// What other nodes are told; nil is the listening address, which must be no wildcard then.
    package var peerAdvertise: Endpoint?
    package var adminListen = AgentSettings.anywhere(7470)
    package var adminAdvertise: Endpoint?
    /// Whether `/metrics` needs no certificate and no token.
    package var metricsAreOpen = false
    /// Requests per second of one client that says who it is.
    package var requestRate = 100_000
    /// Requests per second of one address whose clients show nothing.
    package var strangerRate = 1_000
    /// What requests get to finish when the agent stops.
    package var drainTime = Nanoseconds.seconds(5)

    package var logLevel = LogLevel.info
    package var logFormat = LogFormat.text

    /// Below this much free space, clients' writes are refused.
    package var lowSpaceBytes = 1 << 30
    package var cacheBytes = 64 << 20
    package var flushInterval = Nanoseconds.seconds(30)
    package var flushEntries = 10_000
    package var trailingEntries = 10_000
    /// What a backup by schedule may take.
    package var backupTimeMax = Nanoseconds.seconds(7_200)

    /// What bulk connections may send, in bytes per second.
    package var bulkBytesPerSecond = 128 << 20
    package var snapshotsOutgoingMax = 2

    package var beatInterval = Nanoseconds.milliseconds(25)
    package var restInterval = Nanoseconds.milliseconds(125)
    /// Never shorter than a beat or longer than what is forgiven, which a file of before may say otherwise than the default here.
    package var restIntervalInForce: Nanoseconds {
        restInterval == .zero ? .zero : max(beatInterval, min(restInterval, suspicionMax))
    }
    /// A virtual machine that has had its share of its host's processors stands still until the next tenth of a second, whatever the
    /// priority of what runs in it, and the last beat before may be one interval old.
    package var suspicionFloor = Nanoseconds.milliseconds(125)
    package var suspicionMax = Nanoseconds.seconds(2)
    package var closedLinkGrace = Nanoseconds.milliseconds(15)
    package var storageStallMax = Nanoseconds.seconds(1)
    package var engineStallMax = Nanoseconds.seconds(1)

    // What this host offers to VMs; zero is what its machine has.
    package var hostCPUMillis = 0
    package var hostMemoryBytes = 0
    package var hostDiskBytes = 0
    package var hostNetworkMbps = 0
    package var hostNUMANodes = 0
    package var hostDevices: [String] = []
    package var storageDomains: [String] = []
    package var watchdog = ""
    package var networks: [String] = []
    /// The bridge of this host that a network's guests are on: `lan=br0`.
    package var bridges: [NodeLabel] = []

    package var hypervisor = HypervisorKind.simulated
    /// Empty: `vms` below the data directory.
    package var vmDirectory = ""
    package var imageDirectory = "/var/lib/muster-images"
    /// What images of the catalogue may take of the data directory's disk.
    package var imageCacheBytes = 64 << 30
    /// Each storage domain is a directory of its name in it.
    package var storageDirectory = "/var/lib/muster-storage"
    /// Whom QEMU runs as: a name, a number, or two with a dash between. Empty: the agent's user.
    package var guestUser = ""

    package init() {}

    private static func anywhere(_ port: UInt16) -> Endpoint {
        guard let made = Endpoint(host: "0.0.0.0", port: port) else { preconditionFailure("0.0.0.0 is an address") }
        return made
    }

    /// What no single value shows: settings that contradict each other, each as a sentence that begins with its key.
    func contradictions() -> [(key: String, sentence: String)] {
        var found: [(key: String, sentence: String)] = []
        if suspicionFloor < beatInterval * 3 {
            found.append(
                (
                    "liveness.suspicion-floor",
                    "must be at least three times liveness.beat-interval, which is \(Quantity.text(beatInterval))"
                ))
        }
        if suspicionMax < suspicionFloor {
            found.append(
                (
                    "liveness.suspicion-max",
                    "must not be below liveness.suspicion-floor, which is \(Quantity.text(suspicionFloor))"
                ))
        }
        if peerListen == adminListen, peerListen.port != 0 {
            found.append(("admin.listen", "is the same as peer.listen; each needs a port of its own"))
        }
        for (key, advertised) in [("peer.advertise", peerAdvertise), ("admin.advertise", adminAdvertise)] {
            guard let advertised, advertised.isWildcard || advertised.port == 0 else { continue }
            found.append((key, "names no address that another host can reach; give one of this host's"))
        }
        return found
    }
}
