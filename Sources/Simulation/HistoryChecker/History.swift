public import ClusterBase

/// What clients asked of registers and what they were told, with the times at which they saw it.
public struct History: Hashable, Sendable {
    /// In the order in which they were appended, which means nothing.
    public private(set) var operations: [Operation] = []

    public init() {}

    /// A history of these operations; each must keep what `append` asks for.
    public init(_ operations: [Operation]) {
        for operation in operations { append(operation) }
    }

    /// Adds an operation; the order of appending means nothing. The outcome must fit the kind, and an operation whose
    /// outcome is known must have returned, no earlier than it was invoked.
    public mutating func append(_ operation: Operation) {
        operation.requireSense()
        operations.append(operation)
    }

    /// Makes room for `count` operations at once.
    public mutating func reserveCapacity(_ count: Int) { operations.reserveCapacity(count) }

    /// The shortest part of the history that has no explanation: what was invoked on the violation's key up to the
    /// return that cannot be explained, in order of invocation.
    public func prefix(of violation: Violation) -> [Operation] {
        guard let end = violation.operation.returned else { return [] }
        let prefix = operations.filter { $0.key == violation.key && $0.invoked <= end }
        return prefix.sorted { $0.invoked < $1.invoked }
    }
}

extension History {
    /// One call of one client on one register.
    public struct Operation: Hashable, Sendable {
        /// Who asked. A client may have several calls under way.
        public var client: ClientID
        /// The register that it is about.
        public var key: UInt64
        /// What was asked.
        public var kind: Kind
        /// When the client sent it, in nanoseconds of one clock for the whole history.
        public var invoked: Int64
        /// When the client had the answer; nil when it never came.
        public var returned: Int64?
        /// What was answered.
        public var outcome: Outcome

        public init(
            client: ClientID, key: UInt64, kind: Kind, invoked: Int64, returned: Int64?, outcome: Outcome
        ) {
            self.client = client
            self.key = key
            self.kind = kind
            self.invoked = invoked
            self.returned = returned
            self.outcome = outcome
        }
    }

    /// What a client asks. A value is an id that means the same everywhere in the history; nil is an absent register.
    public enum Kind: Hashable, Sendable {
        /// Reads the register.
        case get
        /// Sets the register to a value.
        case put(UInt64)
        /// Makes the register absent.
        case delete
        /// Sets the register if it holds `expected`, in one step.
        case compareAndSet(expected: UInt64?, new: UInt64?)
    }

    /// What a client was told.
    public enum Outcome: Hashable, Sendable {
        /// A get saw this.
        case observed(UInt64?)
        /// A put or delete was done.
        case acknowledged
        /// A compare-and-set found what it expected and wrote.
        case swapped
        /// A compare-and-set found something else and wrote nothing.
        case refused
        /// It certainly never took effect and never will.
        case failed
        /// Timed out or crashed: it may take effect once, at any time after the invocation, or never.
        case unknown
    }
}

extension History.Operation {
    func requireSense() {
        switch (kind, outcome) {
        case (.get, .observed), (.put, .acknowledged), (.delete, .acknowledged), (.compareAndSet, .swapped),
            (.compareAndSet, .refused):
            guard let returned else { preconditionFailure("a known outcome without a return: \(self)") }
            precondition(returned >= invoked, "returned before it was invoked: \(self)")
        case (_, .failed), (_, .unknown): break
        default: preconditionFailure("an outcome that its kind can't have: \(self)")
        }
    }
}

extension History.Operation: CustomStringConvertible {
    public var description: String {
        let span = "[\(invoked), \(outcome == .unknown ? "?" : returned.map(String.init) ?? "?")]"
        return "client \(client) \(span) \(kind) on \(key): \(outcome)"
    }
}

extension History.Kind: CustomStringConvertible {
    public var description: String {
        switch self {
        case .get: "get"
        case .put(let value): "put \(value)"
        case .delete: "delete"
        case .compareAndSet(let expected, let new): "set \(text(expected)) -> \(text(new))"
        }
    }
}

extension History.Outcome: CustomStringConvertible {
    public var description: String {
        switch self {
        case .observed(let value): "saw \(text(value))"
        case .acknowledged: "done"
        case .swapped: "swapped"
        case .refused: "refused"
        case .failed: "failed"
        case .unknown: "unknown"
        }
    }
}

func text(_ value: UInt64?) -> String { value.map(String.init) ?? "absent" }

/// Ids for byte strings, counted from 1 in order of first sight, so that keys and values of any form fit a history.
public struct ByteNames: Sendable {
    // hash order: looked up by key only
    private var ids: [[UInt8]: UInt64] = [:]
    private var names: [[UInt8]] = []

    public init() {}

    /// The id of `bytes`; the same bytes always give the same id, different bytes never.
    public mutating func id(of bytes: [UInt8]) -> UInt64 {
        if let id = ids[bytes] { return id }
        names.append(bytes)
        let id = UInt64(names.count)
        ids[bytes] = id
        return id
    }

    /// The bytes behind an id that this table gave out; nil for any other number.
    public func bytes(of id: UInt64) -> [UInt8]? {
        id >= 1 && id <= UInt64(names.count) ? names[Int(id) - 1] : nil
    }
}
