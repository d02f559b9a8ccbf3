public import FleetModel

/// A hard rule that kept hosts out. A host is counted under the first rule that excludes it, in this order.
public enum Rule: Hashable, Comparable, Sendable, CustomStringConvertible {
    case hostState
    case excludedByCaller
    case zone
    case selector
    case taint
    case storageDomain
    case network
    case group(PlacementGroupID)
    case resource(ResourceKind)
    case numa
    case devices
    /// In a refusal: resources, NUMA nodes or devices; `explain` tells which.
    case room

    private var order: (Int, UInt64) {
        switch self {
        case .hostState: (0, 0)
        case .excludedByCaller: (1, 0)
        case .zone: (2, 0)
        case .selector: (3, 0)
        case .taint: (4, 0)
        case .storageDomain: (5, 0)
        case .network: (6, 0)
        case .group(let id): (7, id.rawValue)
        case .resource(let kind): (8, UInt64(kind.rawValue))
        case .numa: (9, 0)
        case .devices: (10, 0)
        case .room: (11, 0)
        }
    }
    public static func < (a: Rule, b: Rule) -> Bool { a.order < b.order }

    /// A stable word for programs.
    public var code: String {
        switch self {
        case .hostState: "host_state"
        case .excludedByCaller: "excluded_by_caller"
        case .zone: "zone"
        case .selector: "required_labels"
        case .taint: "taint"
        case .storageDomain: "storage_domain"
        case .network: "network"
        case .group: "group"
        case .resource(let kind): "free_\(kind)"
        case .numa: "numa"
        case .devices: "devices"
        case .room: "free_room"
        }
    }

    public var description: String { text { "\($0)" } }

    /// The rule in words, groups by the names that the caller gives them.
    public func text(group name: (PlacementGroupID) -> String) -> String {
        switch self {
        case .hostState: "host takes no VMs"
        case .excludedByCaller: "excluded by the caller"
        case .zone: "zone"
        case .selector: "required labels"
        case .taint: "taint"
        case .storageDomain: "storage domain"
        case .network: "network"
        case .group(let id): "group \(name(id))"
        case .resource(let kind): "free \(kind)"
        case .numa: "NUMA nodes"
        case .devices: "devices"
        case .room: "free room"
        }
    }
}

/// Why no host took a VM.
public struct Refusal: Error, Hashable, Sendable, CustomStringConvertible {
    public struct Count: Hashable, Sendable {
        public var rule: Rule
        public var hosts: Int
        public init(rule: Rule, hosts: Int) {
            self.rule = rule
            self.hosts = hosts
        }
    }
    /// Set when the request itself is wrong; then no host was looked at.
    public var invalid: String?
    /// Ascending by rule. Together they are all hosts.
    public var counts: [Count]
    public init(invalid: String? = nil, counts: [Count] = []) {
        self.invalid = invalid
        self.counts = counts
    }

    public var description: String {
        if let invalid { return invalid }
        if counts.isEmpty { return "there are no hosts" }
        return "no host fits: " + counts.map { "\($0.hosts) by \($0.rule)" }.joined(separator: ", ")
    }
}

/// The answer to one request.
public enum Decision: Hashable, Sendable {
    /// `score` is lower for better hosts and comparable only between decisions of one policy.
    case place(Assignment, score: Int64)
    case refuse(Refusal)

    public var assignment: Assignment? {
        if case .place(let assignment, _) = self { return assignment }
        return nil
    }
    public var refusal: Refusal? {
        if case .refuse(let refusal) = self { return refusal }
        return nil
    }
}

/// Why a change of the index was refused. The index is unchanged.
public enum IndexError: Error, Hashable, Sendable, CustomStringConvertible {
    case unknownHost(HostID)
    case hostExists(HostID)
    case hostHasVMs(HostID, count: Int)
    case unknownVM(VMID)
    case vmExists(VMID)
    case unknownGroup(PlacementGroupID)
    case groupHasMembers(PlacementGroupID, count: Int)
    /// The assignment names NUMA nodes or devices that the host does not have, or not as asked.
    case badAssignment(String)
    case badHost(String)
    case badVM(String)

    public var description: String {
        switch self {
        case .unknownHost(let id): "host \(id) is not known"
        case .hostExists(let id): "host \(id) exists"
        case .hostHasVMs(let id, let count): "host \(id) still has \(count) VMs"
        case .unknownVM(let id): "VM \(id) is not placed"
        case .vmExists(let id): "VM \(id) is placed already"
        case .unknownGroup(let id): "placement group \(id) is not known"
        case .groupHasMembers(let id, let count): "placement group \(id) still has \(count) members"
        case .badAssignment(let text), .badHost(let text), .badVM(let text): text
        }
    }
}
