/// A rule about where the members of a group are relative to each other. Members name the group in their spec.
public struct PlacementGroup: Hashable, Sendable {
    /// The kind of domain that a group's rule counts members in.
    public enum Scope: UInt8, Hashable, Sendable, CaseIterable, CustomStringConvertible {
        /// Racks of two zones are two racks.
        case host, rack, zone
        public var description: String {
            switch self {
            case .host: "host"
            case .rack: "rack"
            case .zone: "zone"
            }
        }
    }
    /// How members lie in the domains of the scope.
    public enum Rule: Hashable, Sendable {
        /// The fullest domain has at most `skewMax` members more than the emptiest one that takes VMs.
        case spread(skewMax: Int)
        /// At most this many members in one domain.
        case antiAffinity(perDomainMax: Int)
        /// A member joins a domain that has members; the soft form likes the one with the most.
        case pack
        /// A member joins a domain that has members; the first is free, and all such domains are equally good.
        case affinity
    }

    /// What members name in their spec.
    public var id: PlacementGroupID
    /// Where members may be relative to each other.
    public var rule: Rule
    /// What counts as one domain.
    public var scope: Scope
    /// A hard rule refuses; a soft one adds to the score.
    public var isHard: Bool
    /// From 1 to 100: how much a soft rule counts.
    public var weight: Int

    public init(id: PlacementGroupID, rule: Rule, scope: Scope = .host, isHard: Bool = true, weight: Int = 50) {
        self.id = id
        self.rule = rule
        self.scope = scope
        self.isHard = isHard
        self.weight = weight
    }
}

/// A part of a device that a VM has.
@frozen public struct DeviceUse: Hashable, Sendable {
    /// The position in the host's list of devices.
    public var device: UInt8
    /// Of the device's thousand parts.
    public var millis: Int32
    @inlinable public init(device: UInt8, millis: Int32) {
        self.device = device
        self.millis = millis
    }
}

/// Where a VM is: its host, and there its NUMA nodes and devices, both ascending.
public struct Assignment: Hashable, Sendable {
    /// Whose agent runs the VM.
    public var host: HostID
    /// Positions in the host's list of NUMA nodes, ascending; empty where the VM lies anywhere on the host.
    public var numaNodes: [UInt8]
    /// The devices that it uses or shares, ascending.
    public var devices: [DeviceUse]
    public init(host: HostID, numaNodes: [UInt8] = [], devices: [DeviceUse] = []) {
        self.host = host
        self.numaNodes = numaNodes
        self.devices = devices
    }
}
