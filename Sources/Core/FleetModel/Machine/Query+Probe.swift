package import ClusterBase

extension Query {
    /// The cheapest question that a group of this kind answers: whoever has its answer knows an index up to which
    /// everything counts that was acknowledged before it was asked.
    package static func probe(_ kind: GroupKind) -> Query {
        switch kind {
        case .space: .space(.list(prefix: [], after: nil, limit: 1))
        case .root: .root(.cluster)
        case .cell: .cell(.one(.settings, key: []))
        }
    }
}

extension MachineAnswer {
    /// The last entry in the state that was read.
    package var index: LogIndex {
        switch self {
        case .space(let answer): answer.revision.index
        case .root(let answer): answer.index
        case .cell(let answer): answer.index
        }
    }
}
