// Every identity is a type of its own, so that two of them can't be swapped.

/// What all integer identities have in common.
public protocol Identity: RawRepresentable, Comparable, Hashable, Sendable, CustomStringConvertible
where RawValue == UInt64 {
    /// Every number is an identity.
    init(rawValue: UInt64)
}

extension Identity {
    /// The same, without a label.
    @inlinable public init(_ value: UInt64) { self.init(rawValue: value) }
    @inlinable public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    @inlinable public static func == (a: Self, b: Self) -> Bool { a.rawValue == b.rawValue }
    public var description: String { String(rawValue) }
}

/// One host with its agent.
@frozen public struct NodeID: Identity {
    public let rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
}

/// One Raft group.
@frozen public struct GroupID: Identity {
    public let rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
}

/// What state machine a group replicates; the top byte of its id.
public enum GroupKind: UInt8, Sendable, CaseIterable {
    /// Keys and values of clients.
    case space = 0
    /// What is global: nodes, groups, tenants and settings. There is one such group.
    case root = 1
    /// The hosts and VMs of one cell.
    case cell = 2
}

extension GroupID {
    /// A group of a kind by its number among its kind, which is below 2^56.
    public init(_ kind: GroupKind, number: UInt64) {
        precondition(number >> 56 == 0, "group \(number) of kind \(kind) has no id")
        self.init(UInt64(kind.rawValue) << 56 | number)
    }

    /// The one group that holds what is global.
    public static let root = GroupID(.root, number: 0)

    /// Nil for a kind that only newer programs know.
    @inlinable public var kind: GroupKind? { GroupKind(rawValue: UInt8(truncatingIfNeeded: rawValue >> 56)) }
    public var number: UInt64 { rawValue & (1 << 56 - 1) }
}

/// One group's copy on one node. Never used again after it was removed or lost its data.
@frozen public struct ReplicaID: Identity {
    public let rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
}

/// The number of one start of a node's process; larger after every start.
@frozen public struct Incarnation: Identity {
    public let rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
}

/// Raft's logical clock (Raft §5.1). Zero is before the first election.
@frozen public struct Term: Identity {
    public let rawValue: UInt64
    /// Before the first election.
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static let zero = Term(rawValue: 0)
    /// The term of the election after this one.
    @inlinable public var next: Term { Term(rawValue: rawValue + 1) }
}

/// A position in a group's log. The first entry has index 1; zero is before it.
@frozen public struct LogIndex: Identity {
    public let rawValue: UInt64
    /// Before the first entry.
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static let zero = LogIndex(rawValue: 0)
    /// The index of the entry after this one.
    @inlinable public var next: LogIndex { LogIndex(rawValue: rawValue + 1) }
    /// The index before this one; zero stays zero.
    @inlinable public var previous: LogIndex { LogIndex(rawValue: rawValue == 0 ? 0 : rawValue - 1) }
    @inlinable public func advanced(by n: Int) -> LogIndex { LogIndex(rawValue: UInt64(Int(rawValue) + n)) }
    /// How many indices this one is above `other`; negative when below.
    @inlinable public static func - (a: LogIndex, b: LogIndex) -> Int { Int(a.rawValue) - Int(b.rawValue) }
}

/// A group's fence: one higher after every forced recovery. Messages of a lower epoch are refused.
@frozen public struct Epoch: Identity {
    public let rawValue: UInt64
    /// Before any forced recovery.
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static let zero = Epoch(rawValue: 0)
    /// The epoch that one more forced recovery begins.
    @inlinable public var next: Epoch { Epoch(rawValue: rawValue + 1) }
}

/// A client whose retries must take effect once.
@frozen public struct ClientID: Identity {
    public let rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
}
