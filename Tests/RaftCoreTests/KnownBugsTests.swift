import ClusterBase
import Testing

@testable import RaftCore

@Suite struct KnownBugsTests {
    @Test(arguments: knownBugs)
    func `a bug that others shipped is not here`(bug: KnownBug) {
        let problems = bug.run(Settings())
        #expect(problems.isEmpty, "\(problems.joined(separator: "\n"))")
    }

    #if MUTANTS
    /// Proves that each run above would have found its bug.
    @Test(arguments: knownBugs)
    func `with the bug built in its run fails`(bug: KnownBug) {
        var settings = Settings()
        settings.mutant = bug.mutant
        #expect(!bug.run(settings).isEmpty)
    }

    @Test func `every mutant of the core has a run`() {
        // These live in the shell: its storage, its beats, its start.
        let elsewhere: Set<Mutant> = [
            .installRacesWithApply, .corruptionTakenForTornTail, .failedSyncRetried, .wipedReplicaRejoins,
            .appliedIndexNotAtomic, .beatsHideStall,
        ]
        let covered = Set(knownBugs.map(\.mutant))
        #expect(Mutant.allCases.filter { !covered.contains($0) && !elsewhere.contains($0) }.isEmpty)
    }
    #endif
}
