public import ClusterBase

/// A host: what runs VMs. The same number as the node whose agent serves it.
@frozen public struct HostID: Identity {
    public let rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
}

/// A virtual machine.
@frozen public struct VMID: Identity {
    public let rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
}

/// Who owns VMs and has quotas.
@frozen public struct TenantID: Identity {
    public let rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
}

/// A placement group: a rule about where its members are relative to each other.
@frozen public struct PlacementGroupID: Identity {
    public let rawValue: UInt64
    @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
}

/// An interned name: a zone, a label's key or value, a device kind, a network. Numbers are given by a `WordTable`.
@frozen public struct Word: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let number: UInt32
    @inlinable public init(_ number: UInt32) { self.number = number }
    @inlinable public static func < (a: Word, b: Word) -> Bool { a.number < b.number }
    public var description: String { "w\(number)" }
    /// The word of things that were not named.
    public static let none = Word(0)
}

/// Names and their numbers, so that rules compare integers. Numbers are given in order of first use and never reused.
public struct WordTable: Hashable, Sendable {
    /// The most names that one table holds.
    public static let countMax = 1 << 24

    private var names: [String] = [""]
    // hash order: looked up only
    private var numbers: [String: UInt32] = ["": 0]

    public init() {}
    /// How many names it holds, the empty one counted.
    public var count: Int { names.count }

    /// The word of `name`, which is added when it is new; nil when the table is full.
    public mutating func word(_ name: String) -> Word? {
        if let number = numbers[name] { return Word(number) }
        if names.count >= WordTable.countMax { return nil }
        let number = UInt32(names.count)
        names.append(name)
        numbers[name] = number
        return Word(number)
    }

    /// The word of `name` if it is known.
    public func find(_ name: String) -> Word? { numbers[name].map { Word($0) } }

    /// The name of a word of this table, or its number when it is of another.
    public func name(_ word: Word) -> String {
        Int(word.number) < names.count ? names[Int(word.number)] : word.description
    }
}
