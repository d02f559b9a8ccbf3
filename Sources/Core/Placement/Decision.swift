public import FleetModel

/// A hard rule that kept hosts out. A host is counted under the first rule that excludes it, in this order.
public enum Rule: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The host takes no new VMs.
    case hostState
    /// The caller's filter leaves the host out.
    case excludedByCaller
    /// The VM may not be in the host's zone.
    case zone
    /// A required selector does not match the host's labels.
    case selector
    /// The host has a hard taint that the VM does not tolerate.
    case taint
    /// A shared disk lies where the host can't open it.
    case storageDomain
    /// A network of the VM is not at the host.
    case network
    /// VMs can have no TPM there, and this one wants one.
    case tpm
    /// This hard group allows no member there.
    case group(PlacementGroupID)
    /// The host has too little of this free.
    case resource(ResourceKind)
    /// No NUMA nodes of the host have what the VM wants from them.
    case numa
    /// The devices that the VM wishes for are not free there.
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
        case .tpm: (6, 1)
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
        case .tpm: "tpm"
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
        case .tpm: "TPM"
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
    /// How many hosts one rule kept out.
    public struct Count: Hashable, Sendable {
        /// The first rule that excludes each of them.
        public var rule: Rule
        /// How many they are.
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
    /// No host would do.
    case refuse(Refusal)

    /// Where the VM goes; nil for a refusal.
    public var assignment: Assignment? {
        if case .place(let assignment, _) = self { return assignment }
        return nil
    }
    /// Why no host would do; nil when there is a place.
    public var refusal: Refusal? {
        if case .refuse(let refusal) = self { return refusal }
        return nil
    }
}

/// Why a change of the index was refused. The index is unchanged.
public enum IndexError: Error, Hashable, Sendable, CustomStringConvertible {
    /// No host of this id is in the index.
    case unknownHost(HostID)
    /// A host of this id is in the index.
    case hostExists(HostID)
    /// The host can't go while it has VMs.
    case hostHasVMs(HostID, count: Int)
    /// No VM of this id is placed.
    case unknownVM(VMID)
    /// A VM of this id is placed.
    case vmExists(VMID)
    /// No group of this id is in the index.
    case unknownGroup(PlacementGroupID)
    /// The group can't go while it has members.
    case groupHasMembers(PlacementGroupID, count: Int)
    /// The assignment names NUMA nodes or devices that the host does not have, or not as asked.
    case badAssignment(String)
    /// The host breaks a bound or makes no sense; the sentence says how.
    case badHost(String)
    /// The VM breaks a bound or makes no sense; the sentence says how.
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
