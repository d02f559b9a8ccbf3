import ClusterBase

/// A replica's log as the core sees it.
///
///     base │ ...on disk only... │ cache: firstCached … last
///          └ term starts and configurations are kept for all of it ┘
///
/// Every entry that is not committed, durable and applied is in the cache, so that a conflict never needs the disk.
struct RaftLog: Sendable {
    private(set) var base: LogBase
    private(set) var last: LogIndex
    private(set) var lastTerm: Term
    private(set) var lastChain: UInt64
    private(set) var cacheBytes = 0
    /// Configuration entries above the base, ascending.
    private(set) var configurations: [Entry]
    private var terms: [RestoredLog.TermStart]
    private var cache: RingBuffer<Entry>

    init(_ restored: RestoredLog) {
        base = restored.base
        terms = restored.terms
        configurations = restored.configurations
        last = restored.last
        lastTerm = restored.terms.last?.term ?? restored.base.term
        lastChain = restored.lastChain
        cache = RingBuffer(capacity: max(16, restored.tail.count))
        for entry in restored.tail {
            cache.append(entry)
            cacheBytes += entry.byteCount
        }
        precondition(
            cache.isEmpty ? last == base.index : cache[cache.count - 1].index == last,
            "a restored log's tail does not end at \(last)")
        precondition(
            cache.isEmpty || cache[0].index <= max(restored.hardState.commit, base.index.next),
            "a restored log's tail leaves out the entry at its commit, or some above it")
    }

    var firstCached: LogIndex { cache.isEmpty ? last.next : cache[0].index }

    /// The term of the entry at `index`; nil below the base and above the last entry.
    func term(at index: LogIndex) -> Term? {
        if index == last { return lastTerm }
        if index < base.index || index > last { return nil }
        var i = terms.count - 1
        while i >= 0 {
            if terms[i].index <= index { return terms[i].term }
            i -= 1
        }
        return base.term
    }

    /// The chain at `index`; nil where the cache does not reach.
    func chain(at index: LogIndex) -> UInt64? {
        if index == last { return lastChain }
        if index == base.index { return base.chain }
        return entry(at: index)?.chain
    }

    /// The entry at `index`, if it is in the cache.
    func entry(at index: LogIndex) -> Entry? {
        let first = firstCached
        if index < first || index > last { return nil }
        return cache[index - first]
    }

    /// The highest index up to `bound` whose term is at most `term`: where two logs may still be equal.
    func lastIndex(upTo bound: LogIndex, termAtMost term: Term) -> LogIndex {
        var index = min(bound, last)
        var i = terms.count - 1
        while i >= 0 {
            if terms[i].index <= index {
                if terms[i].term <= term { return index }
                index = terms[i].index.previous
            }
            i -= 1
        }
        return index
    }

    /// Cached entries from `from`, as many as fit, at least one.
    func entries(from: LogIndex, bytesMax: Int, countMax: Int) -> [Entry] {
        let first = firstCached
        precondition(from >= first && from <= last, "entries from \(from) are not in the cache \(first)...\(last)")
        let offset = from - first
        var count = 0
        var bytes = 0
        let available = cache.count - offset
        while count < available && count < countMax {
            bytes += cache[offset + count].byteCount
            if count > 0 && bytes > bytesMax { break }
            count += 1
        }
        var slice: [Entry] = []
        slice.reserveCapacity(count)
        for i in 0..<count { slice.append(cache[offset + i]) }
        return slice
    }

    mutating func append(_ entry: Entry) {
        precondition(entry.index == last.next, "entry \(entry.index) does not follow \(last)")
        precondition(entry.term >= lastTerm, "entry \(entry.index) has term \(entry.term) below \(lastTerm)")
        if entry.term != lastTerm { terms.append(.init(index: entry.index, term: entry.term)) }
        if case .configuration = entry.content { configurations.append(entry) }
        cacheBytes += entry.byteCount
        cache.append(entry)
        last = entry.index
        lastTerm = entry.term
        lastChain = entry.chain
    }

    /// Drops all entries above `index`. The entry at `index` is the base or in the cache.
    mutating func truncate(after index: LogIndex) {
        while last > index {
            guard let dropped = cache.popLast() else {
                preconditionFailure("the log would be cut at \(index), below its cache")
            }
            cacheBytes -= dropped.byteCount
            last = dropped.index.previous
        }
        while let start = terms.last, start.index > index { terms.removeLast() }
        while let entry = configurations.last, entry.index > index { configurations.removeLast() }
        lastTerm = terms.last?.term ?? base.term
        if last == base.index {
            lastChain = base.chain
        } else if let entry = cache.last {
            lastChain = entry.chain
        } else {
            preconditionFailure("the chain at \(last) is not known")
        }
    }

    /// The group has left the epochs before this one behind, whatever configurations the log still holds.
    mutating func adopt(_ epoch: Epoch) { base.configuration.epoch = max(base.configuration.epoch, epoch) }

    /// Starts the log behind `newBase`, one of its own entries.
    mutating func compact(to newBase: LogBase) {
        precondition(newBase.index > base.index && newBase.index <= last, "a log is cut at one of its own entries")
        while let first = cache.first, first.index <= newBase.index {
            cacheBytes -= first.byteCount
            _ = cache.popFirst()
        }
        var kept: [RestoredLog.TermStart] = []
        for start in terms where start.index > newBase.index { kept.append(start) }
        terms = kept
        configurations.removeAll { $0.index <= newBase.index }
        base = newBase
        if last == base.index { lastChain = base.chain }
    }

    /// Forgets everything and starts behind a snapshot.
    mutating func reset(to newBase: LogBase) {
        base = newBase
        terms = []
        configurations = []
        cache.removeAll()
        cacheBytes = 0
        last = newBase.index
        lastTerm = newBase.term
        lastChain = newBase.chain
    }

    /// Drops cached entries below `bound` while the cache is larger than `bytesMax`. The entry before `bound` stays.
    mutating func evict(below bound: LogIndex, bytesMax: Int) {
        while cacheBytes > bytesMax, let first = cache.first, first.index < bound {
            cacheBytes -= first.byteCount
            _ = cache.popFirst()
        }
    }
}
