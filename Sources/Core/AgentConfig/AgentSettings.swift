public import ClusterBase
import CommandSyntax

/// How much an agent logs; each level includes those before it.
public enum LogLevel: String, CaseIterable, Hashable, Sendable, Comparable {
    case error
    case warning
    case info
    case debug

    public static func < (a: LogLevel, b: LogLevel) -> Bool { a.rank < b.rank }

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
public enum LogFormat: String, CaseIterable, Hashable, Sendable {
    case text
    /// One JSON object per line.
    case json
}

/// Which driver runs the VMs.
public enum HypervisorKind: String, CaseIterable, Hashable, Sendable {
    /// Pretends, for clusters that are tried out.
    case simulated
}

/// One `key=value` of a node, for placement rules.
public struct NodeLabel: Hashable, Sendable, CustomStringConvertible {
    public let key: String
    public let value: String

    public static let keyBytesMax = 63
    public static let valueBytesMax = 63

    /// Reads `key=value`. Keys have lower-case letters, digits, dots, dashes, underscores and slashes; values have the same
    /// and capitals, and may be empty.
    public init?(_ text: String) {
        let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, (1...Self.keyBytesMax).contains(parts[0].utf8.count),
            parts[1].utf8.count <= Self.valueBytesMax,
            parts[0].utf8.allSatisfy({ Self.isPlain($0) && !(0x41...0x5A).contains($0) }),
            parts[1].utf8.allSatisfy({ Self.isPlain($0) })
        else { return nil }
        key = String(parts[0])
        value = String(parts[1])
    }

    public var description: String { "\(key)=\(value)" }

    private static func isPlain(_ byte: UInt8) -> Bool {
        (0x61...0x7A).contains(byte | 0x20) || (0x2D...0x39).contains(byte) || byte == 0x5F
    }
}

/// Everything that a node's agent can be told, with its defaults. What is the cluster's and not the node's, such as how
/// many nodes vote, is replicated and set by command.
public struct AgentSettings: Hashable, Sendable {
    public var nodeName = ""
    public var dataDirectory = "/var/lib/muster"
    public var region = ""
    public var zone = ""
    public var rack = ""
    public var labels: [NodeLabel] = []

    public var peerListen = AgentSettings.anywhere(7471)
    /// What other nodes are told; nil is the listening address, or the host's name when that is a wildcard.
    public var peerAdvertise: Endpoint?
    public var adminListen = AgentSettings.anywhere(7470)
    public var adminAdvertise: Endpoint?
    /// Whether `/metrics` needs no certificate and no token.
    public var metricsAreOpen = false
    /// What requests get to finish when the agent stops.
    public var drainTime = Nanoseconds.seconds(5)

    public var logLevel = LogLevel.info
    public var logFormat = LogFormat.text

    /// Below this much free space, clients' writes are refused.
    public var lowSpaceBytes = 1 << 30
    public var cacheBytes = 64 << 20
    public var flushInterval = Nanoseconds.seconds(30)
    public var flushEntries = 10_000
    public var trailingEntries = 10_000

    /// What bulk connections may send, in bytes per second.
    public var bulkBytesPerSecond = 128 << 20
    public var snapshotsOutgoingMax = 2
    public var promotionStability = Nanoseconds.seconds(10)

    public var beatInterval = Nanoseconds.milliseconds(15)
    public var suspicionFloor = Nanoseconds.milliseconds(50)
    public var suspicionMax = Nanoseconds.seconds(2)
    public var closedLinkGrace = Nanoseconds.milliseconds(15)
    public var storageStallMax = Nanoseconds.seconds(1)
    public var engineStallMax = Nanoseconds.seconds(1)

    public var hypervisor = HypervisorKind.simulated

    public init() {}

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
