import RaftCore
import RaftScripts
import Testing

/// That each run finds its bug when it is built in is shown by `Tools/check known`.
@Suite struct KnownBugsTests {
    @Test(arguments: knownBugs)
    func `a bug that others shipped is not here`(bug: KnownBug) {
        let problems = bug.run(Settings())
        #expect(problems.isEmpty, "\(problems.joined(separator: "\n"))")
    }

    @Test func `every mutant of the core has a run`() {
        let covered = Set(knownBugs.map(\.mutant))
        #expect(Mutant.allCases.filter { covered.contains($0) == mutantsOfTheShell.contains($0) } == [])
    }
}
