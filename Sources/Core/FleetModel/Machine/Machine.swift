package import ClusterBase

/// A question for the state machine of a group.
package enum Query: Hashable, Sendable {
    case space(SpaceQuery)
    case root(RootQuery)
    case cell(CellQuery)

    package var kind: GroupKind {
        switch self {
        case .space: .space
        case .root: .root
        case .cell: .cell
        }
    }
}

/// What a group's state machine made of one command.
package enum MachineResult: Hashable, Sendable {
    case space(SpaceResult)
    case root(RootResult)
    case cell(CellResult)
}

/// What a group's state machine answered to a query.
package enum MachineAnswer: Hashable, Sendable {
    case space(SpaceAnswer)
    case root(RootAnswer)
    case cell(CellAnswer)
}

/// The results of one entry, by slot.
package enum MachineResults: Sendable {
    case space([SpaceResult])
    case root([RootResult])
    case cell([CellResult])

    package static var none: MachineResults { .space([]) }

    package var count: Int {
        switch self {
        case .space(let results): results.count
        case .root(let results): results.count
        case .cell(let results): results.count
        }
    }

    package subscript(slot: Int) -> MachineResult {
        switch self {
        case .space(let results): .space(results[slot])
        case .root(let results): .root(results[slot])
        case .cell(let results): .cell(results[slot])
        }
    }
}

/// The state machines, chosen by the kind of a group.
package enum Machine {
    /// Joins encoded commands to one entry's payload, at the feature level that is open. `time` is the leader's clock, for
    /// the machines that have one.
    package static func pack(_ kind: GroupKind, _ commands: [[UInt8]], level: UInt32, time: LogTime?) -> [UInt8] {
        switch kind {
        case .space: Space.pack(commands, level: level)
        case .root: Root.pack(commands, level: level, time: time)
        case .cell: Cell.pack(commands, level: level, time: time)
        }
    }

    /// Applies one entry's pack and returns one result per command. Throws when the state can't be read, and when the
    /// entry is above the feature level that the program `knows`; then nothing of the pack may become durable.
    package static func apply(
        _ kind: GroupKind, _ group: GroupID, pack: [UInt8], index: LogIndex, knows: UInt32 = FeatureLevel.newest,
        access: inout some StateAccess
    ) throws(StoreError) -> MachineResults {
        switch kind {
        case .space: .space(try Space.apply(pack: pack, index: index, knows: knows, access: &access))
        case .root: .root(try Root.apply(pack: pack, index: index, knows: knows, access: &access))
        case .cell: .cell(try Cell.apply(pack: pack, index: index, group: group, knows: knows, access: &access))
        }
    }

    /// Answers from the state as it stands. Throws only when the state can't be read.
    package static func read(_ query: Query, _ access: some OrderedReader) throws(StoreError) -> MachineAnswer {
        switch query {
        case .space(let query): .space(try Space.read(query, access))
        case .root(let query): .root(try Root.read(query, access))
        case .cell(let query): .cell(try Cell.read(query, access))
        }
    }
}

extension Query {
    package func encoded() -> [UInt8] {
        switch self {
        case .space(let query): query.encoded()
        case .root(let query): query.encoded()
        case .cell(let query): query.encoded()
        }
    }

    /// Nil when the bytes are no query of this kind that this version knows.
    package static func decode(_ kind: GroupKind, _ bytes: [UInt8]) -> Query? {
        switch kind {
        case .space: SpaceQuery.decode(bytes).map { .space($0) }
        case .root: RootQuery.decode(bytes).map { .root($0) }
        case .cell: CellQuery.decode(bytes).map { .cell($0) }
        }
    }
}

extension MachineResult {
    package func encoded() -> [UInt8] {
        switch self {
        case .space(let result): result.encoded()
        case .root(let result): result.encoded()
        case .cell(let result): result.encoded()
        }
    }

    package static func decode(_ kind: GroupKind, _ bytes: [UInt8]) -> MachineResult? {
        switch kind {
        case .space: SpaceResult.decode(bytes).map { .space($0) }
        case .root: RootResult.decode(bytes).map { .root($0) }
        case .cell: CellResult.decode(bytes).map { .cell($0) }
        }
    }
}

extension MachineAnswer {
    package func encoded() -> [UInt8] {
        switch self {
        case .space(let answer): answer.encoded()
        case .root(let answer): answer.encoded()
        case .cell(let answer): answer.encoded()
        }
    }

    package static func decode(_ kind: GroupKind, _ bytes: [UInt8]) -> MachineAnswer? {
        switch kind {
        case .space: SpaceAnswer.decode(bytes).map { .space($0) }
        case .root: RootAnswer.decode(bytes).map { .root($0) }
        case .cell: CellAnswer.decode(bytes).map { .cell($0) }
        }
    }
}
