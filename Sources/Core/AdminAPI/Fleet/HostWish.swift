internal import ClusterBase
package import FleetModel

/// What an operator asks for a host beside its duty.
package enum HostWish: Hashable, Sendable {
    case pauseDrain, resumeDrain
    /// What it runs waits for it, for so long at most.
    case goAway(HostAbsence)
    case comeBack
    /// The machine is off, and what it ran is to start elsewhere.
    case declareDead
    /// A drain or its end, and what becomes of what it moves away.
    case drain(HostReturn)
    case resume(HostReturn)
    case pauseReturn, resumeReturn
}

/// For how long a host is to be away.
package struct HostAbsence: Hashable, Sendable, Shaped {
    package var seconds: Int64
    package init(seconds: Int64) { self.seconds = seconds }

    package static let shape = Shape(
        "HostAbsence",
        [
            Field(
                "seconds",
                .range(
                    Int64(CellLimits.absence.lowerBound / 1_000), Int64(CellLimits.absence.upperBound / 1_000)),
                "after which its VMs start elsewhere if it is not back")
        ])
    package var members: [JSONMember] { [JSONMember("seconds", seconds)] }
    package init(_ object: ShapedObject) throws(Problem) { self.init(seconds: object.integer("seconds")) }
}
