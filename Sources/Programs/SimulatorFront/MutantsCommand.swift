import FleetModel
import RaftCore
import Terminal

/// `muster mutants`: which bugs can be switched on.
package enum MutantsCommand {
    package static func run(_ arguments: [String]) throws -> Int32 {
        var options = Options(arguments)
        guard options.word() == "list" else {
            throw UsageError("`muster mutants list [--fleet]` is the one thing to do with mutants here")
        }
        let isFleet = options.flag("--fleet")
        try options.end()
        let names = isFleet ? FleetMutant.allCases.map(\.rawValue) : Mutant.allCases.map(\.rawValue)
        for name in names { print(name) }
        return 0
    }

    static func require(_ name: String, isFleet: Bool) throws {
        let isKnown = isFleet ? FleetMutant(rawValue: name) != nil : Mutant(rawValue: name) != nil
        guard isKnown else {
            throw UsageError(
                "there is no mutant '\(name)'; `muster mutants list\(isFleet ? " --fleet" : "")` names them")
        }
        #if !MUTANTS
        throw UsageError("this build has no mutants in it; build with -Xswiftc -DMUTANTS, or use Tools/check mutants")
        #endif
    }
}
