import RaftCore
import RaftScripts
import Terminal

/// `mutants known`: plays the script of every known bug with the bug built in, where it has to find it, and without,
/// where it must find nothing.
enum KnownBugsCommand {
    static func run() throws -> Int32 {
        #if MUTANTS
        var weak = 0
        for bug in knownBugs {
            let without = bug.run(Settings())
            var settings = Settings()
            settings.mutant = bug.mutant
            let with = bug.run(settings)
            if let problem = without.first {
                print("there    \(bug.mutant.rawValue): \(problem), although the bug is not switched on")
            } else if let problem = with.first {
                print("found    \(bug.mutant.rawValue): \(problem)")
            } else {
                print("missed   \(bug.mutant.rawValue): its script sees nothing (\(bug.reference))")
            }
            if with.isEmpty || !without.isEmpty { weak += 1 }
        }
        let covered = Set(knownBugs.map(\.mutant))
        for mutant in Mutant.allCases where !covered.contains(mutant) && !mutantsOfTheShell.contains(mutant) {
            print("missed   \(mutant.rawValue): it has no script")
            weak += 1
        }
        print("\(knownBugs.count) known bugs, each played with the bug and without: \(weak) played wrongly")
        return weak == 0 ? 0 : 1
        #else
        throw UsageError("this build has no known bugs in it; 'Tools/check known' builds one that has")
        #endif
    }
}
