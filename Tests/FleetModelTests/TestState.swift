import ClusterBase
import FleetModel

/// A space's state in a sorted array, and the means to damage it.
struct TestState: StateAccess {
    var rows: [(key: [UInt8], value: [UInt8])] = []

    private func position(_ key: [UInt8]) -> (at: Int, isThere: Bool) {
        var low = 0
        var high = rows.count
        while low < high {
            let middle = (low + high) / 2
            if rows[middle].key.precedes(key) { low = middle + 1 } else { high = middle }
        }
        return (low, low < rows.count && rows[low].key == key)
    }

    func value(for key: [UInt8]) throws(StoreError) -> [UInt8]? {
        let found = position(key)
        return found.isThere ? rows[found.at].value : nil
    }

    func scan(_ range: KeyRange, _ body: (_ key: [UInt8], _ value: [UInt8]) -> Bool) throws(StoreError) {
        for row in rows[position(range.from).at...] {
            if !range.contains(row.key) || !body(row.key, row.value) { return }
        }
    }

    mutating func put(_ key: [UInt8], _ value: [UInt8]) {
        let found = position(key)
        if found.isThere { rows[found.at].value = value } else { rows.insert((key, value), at: found.at) }
    }

    mutating func delete(_ key: [UInt8]) {
        let found = position(key)
        if found.isThere { rows.remove(at: found.at) }
    }

    mutating func delete(_ range: KeyRange) { rows.removeAll { range.contains($0.key) } }
}

/// A space that entries are applied to one after the other.
struct TestSpace {
    var state = TestState()
    private(set) var index = LogIndex.zero

    @discardableResult mutating func apply(_ commands: [SpaceCommand]) throws -> [SpaceResult] {
        try apply(pack: Space.pack(commands))
    }

    @discardableResult mutating func apply(pack: [UInt8]) throws -> [SpaceResult] {
        index = index.next
        return try Space.apply(pack: pack, index: index, access: &state)
    }

    @discardableResult mutating func run(_ operation: SpaceCommand.Operation) throws -> SpaceResult {
        try apply([SpaceCommand(operation)])[0]
    }

    @discardableResult mutating func put(_ key: String, _ value: String) throws -> SpaceResult {
        try run(.put(key: Array(key.utf8), value: Array(value.utf8)))
    }

    func record(_ key: String) throws -> SpaceRecord? {
        guard case .record(let record) = try Space.read(.get(key: Array(key.utf8)), state).body else { return nil }
        return record
    }
}
