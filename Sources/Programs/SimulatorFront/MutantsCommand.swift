import FleetModel
import RaftCore
import Terminal

/// `muster mutants`: which bugs can be switched on.
package enum MutantsCommand {
    /// Which runs are to find a mutant.
    enum Family: String {
        case consensus = ""
        case fleet = " --fleet"
        case mixed = " --mixed"

        var names: [String] {
            switch self {
            case .consensus: Mutant.allCases.map(\.rawValue)
            case .fleet: FleetMutant.allCases.map(\.rawValue)
            case .mixed: UpgradeMutant.allCases.map(\.rawValue)
            }
        }
    }

    package static func run(_ arguments: [String]) throws -> Int32 {
        var options = Options(arguments)
        guard options.word() == "list" else {
            throw UsageError("`muster mutants list [--fleet | --mixed]` is the one thing to do with mutants here")
        }
        let family: Family = options.flag("--fleet") ? .fleet : options.flag("--mixed") ? .mixed : .consensus
        try options.end()
        for name in family.names { print(name) }
        return 0
    }

    static func require(_ name: String, _ family: Family) throws {
        guard family.names.contains(name) else {
            throw UsageError("there is no mutant '\(name)'; `muster mutants list\(family.rawValue)` names them")
        }
        #if !MUTANTS
        throw UsageError("this build has no mutants in it; build with -Xswiftc -DMUTANTS, or use Tools/check mutants")
        #endif
    }
}
