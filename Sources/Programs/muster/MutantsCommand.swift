import RaftCore

/// `muster mutants`: which bugs can be switched on.
enum MutantsCommand {
    static func run(_ arguments: [String]) throws -> Int32 {
        var options = Options(arguments)
        guard options.word() == "list" else {
            throw UsageError("`muster mutants list` is the one thing to do with mutants here")
        }
        try options.end()
        for mutant in Mutant.allCases { print(mutant.rawValue) }
        return 0
    }

    static func require(_ name: String) throws {
        guard Mutant(rawValue: name) != nil else {
            throw UsageError("there is no mutant '\(name)'; `muster mutants list` names them")
        }
        #if !MUTANTS
        throw UsageError("this build has no mutants in it; build with -Xswiftc -DMUTANTS, or use Tools/check mutants")
        #endif
    }
}
