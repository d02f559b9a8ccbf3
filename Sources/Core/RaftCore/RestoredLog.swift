public import ClusterBase

/// What a replica finds on its disk when it starts: enough to go on without reading the log again.
public struct RestoredLog: Sendable {
    /// As the last durable write left it.
    public var hardState: HardState
    /// What the log starts behind.
    public var base: LogBase
    /// Where each term begins, ascending, above the base.
    public var terms: [TermStart]
    /// Every configuration entry above the base, ascending.
    public var configurations: [Entry]
    /// The newest entries, contiguous up to `last`; all of them, or as many as the cache may hold.
    public var tail: [Entry]
    /// The last index of the log; the base's when nothing is above it.
    public var last: LogIndex
    /// The chain of the last entry.
    public var lastChain: UInt64

    /// Where a term begins.
    public struct TermStart: Hashable, Sendable {
        /// The first entry of the term.
        public var index: LogIndex
        /// The term of the entries from there on.
        public var term: Term
        public init(index: LogIndex, term: Term) {
            self.index = index
            self.term = term
        }
    }

    public init(
        hardState: HardState, base: LogBase, terms: [TermStart], configurations: [Entry], tail: [Entry], last: LogIndex,
        lastChain: UInt64
    ) {
        self.hardState = hardState
        self.base = base
        self.terms = terms
        self.configurations = configurations
        self.tail = tail
        self.last = last
        self.lastChain = lastChain
    }

    /// A log with nothing above its base.
    public init(empty base: LogBase, hardState: HardState = HardState()) {
        self.init(
            hardState: hardState, base: base, terms: [], configurations: [], tail: [], last: base.index,
            lastChain: base.chain)
    }

    /// The first log of a group's first members.
    public init(firstMembers configuration: Configuration) {
        self.init(empty: LogBase(index: .zero, term: .zero, chain: 0, configuration: configuration))
    }

    /// A log of these contiguous entries, which begin right above the base.
    public init(hardState: HardState, base: LogBase, entries: [Entry]) {
        self.init(empty: base, hardState: hardState)
        for entry in entries { append(entry) }
    }

    /// Adds the next entry, as a scan over the stored log meets it.
    public mutating func append(_ entry: Entry) {
        precondition(entry.index == last.next, "entry \(entry.index) does not follow \(last)")
        if (terms.last?.term ?? base.term) != entry.term {
            terms.append(TermStart(index: entry.index, term: entry.term))
        }
        if case .configuration = entry.content { configurations.append(entry) }
        tail.append(entry)
        last = entry.index
        lastChain = entry.chain
    }
}
