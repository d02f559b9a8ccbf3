import ClusterBase
import FleetModel
import Foundation
import RaftCore
import Simulator
import Testing

/// A run as `muster simulate` draws it.
private func simulation(
    _ seed: UInt64, nodes: ClosedRange<Int> = 3...7, seconds: Int64, hasPlots: Bool = true
) -> Simulation {
    var random = PRNG(seed: seed).child(0x5EED)
    let profile = Profile.draw(&random, nodes: nodes, hasPlots: hasPlots)
    return Simulation(seed: seed, profile: profile, chaos: .seconds(seconds))
}

@Suite struct SimulationTests {
    @Test func `the same seed gives the same trace, event by event`() {
        var traces: [[String]] = [[], []]
        var results: [SimulationResult] = []
        for i in traces.indices {
            let run = simulation(4_711, nodes: 3...5, seconds: 3)
            run.traceLine = { traces[i].append($0) }
            results.append(run.run())
        }
        #expect(results[0].violation == nil)
        #expect(results[0].events > 1_000)
        #expect(results[0].traceHash == results[1].traceHash)
        #expect(traces[0] == traces[1])
    }

    @Test func `another seed gives another trace`() {
        let hashes = (100..<103).map { simulation($0, nodes: 3...3, seconds: 1).run().traceHash }
        #expect(hashes[0] != hashes[1])
        #expect(hashes[1] != hashes[2])
    }

    @Test func `watching a run does not change it`() {
        let watched = simulation(5, nodes: 3...5, seconds: 2)
        watched.traceLine = { _ in }
        #expect(watched.run().traceHash == simulation(5, nodes: 3...5, seconds: 2).run().traceHash)
    }

    @Test(arguments: 1...6 as ClosedRange<UInt64>)
    func `six seeds of five simulated seconds keep every promise`(seed: UInt64) {
        let result = simulation(seed, nodes: 3...5, seconds: RunLength.seconds).run()
        #expect(result.violation == nil, "seed \(seed): \(result.violation.map { "\($0)" } ?? "")")
        #expect(result.entriesCommitted > 0)
        #expect(result.operations > result.operationsUnknown)
    }

    @Test func `each bug that a seed once found is held by a test that is there`() throws {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        var texts = ""
        for room in ["NodeRuntimeTests", "RaftCoreTests", "StoreLayoutTests", "NodeStorageTests"] {
            let files = try FileManager.default.contentsOfDirectory(
                at: folder.appendingPathComponent(room), includingPropertiesForKeys: nil)
            for file in files where file.pathExtension == "swift" {
                texts += try String(contentsOf: file, encoding: .utf8)
            }
        }
        for heldBy in RegressionSeed.all.compactMap(\.heldBy) {
            #expect(texts.contains("func `\(heldBy)`"), "\(heldBy)")
        }
    }

    @Test(arguments: RegressionSeed.all)
    func `what a seed once found is not there any more`(regression: RegressionSeed) {
        let result = simulation(
            regression.seed, nodes: regression.nodes, seconds: regression.seconds, hasPlots: regression.hasPlots
        ).run()
        #expect(result.violation == nil, "\(regression): \(result.violation.map { "\($0)" } ?? "")")
    }

    @Test(arguments: Plot.allCases) func `a plot strikes, and breaks no promise`(plot: Plot) {
        var profile = Profile()
        profile.clients = 4
        profile.faults = [.membership, .crash]
        profile.faultIntervalMax = .milliseconds(1_500)
        profile.plots = [plot]
        // Small logs, so that members catch up by snapshots.
        profile.settings.flushEntries = 20
        profile.settings.trailingEntries = 0
        profile.settings.cutEntriesMin = 1
        profile.settings.raft.promotionStability = .milliseconds(200)
        let result = Simulation(seed: 41, profile: profile, chaos: .seconds(8)).run()
        #expect(result.violation == nil, "\(plot): \(result.violation.map { "\($0)" } ?? "")")
        #expect(result.plots[Int(plot.rawValue)] > 0)
    }

    @Test(arguments: 61...64 as ClosedRange<UInt64>)
    func `owners fight over locks while nodes crash, hang and part, and no promise is broken`(
        seed: UInt64
    ) {
        var profile = Profile()
        profile.clients = 2
        profile.lockOwners = 4
        profile.groups = 2
        profile.keys = 4
        profile.clockDriftPPMMax = 100_000
        // Leases rest on clocks that run.
        profile.faults = Fault.allCases.filter { $0 != .clockJump }
        profile.faultIntervalMax = .milliseconds(2_500)
        let result = Simulation(seed: seed, profile: profile, chaos: .seconds(20)).run()
        #expect(result.violation == nil, "\(result.violation.map { "\($0)" } ?? "")")
        #expect(result.locksTaken > 5)
    }

    // MARK: Without faults

    /// Invariant 38: nobody campaigns against a leader that is alive and reachable.
    @Test(arguments: [(3, 1), (5, 1), (3, 2)] as [(Int, Int)], [11, 12] as [UInt64])
    func `without faults every group elects once and stays with it`(size: (nodes: Int, groups: Int), seed: UInt64) {
        var profile = Profile()
        profile.nodes = size.nodes
        profile.groups = size.groups
        profile.clients = 3
        let run = Simulation(seed: seed, profile: profile, chaos: .seconds(4))
        let result = run.run()
        #expect(result.violation == nil)
        #expect(result.elections == size.groups)
        #expect(result.faults.allSatisfy { $0 == 0 })
        #expect(result.operationsUnknown == 0)
        #expect(result.operations > 50)
    }

    @Test func `frames that go through their bytes on the way change nothing`() {
        var hashes: [UInt64] = []
        for encodes in [false, true] {
            var profile = Profile()
            profile.nodes = 3
            profile.clients = 3
            profile.encodesFrames = encodes
            let result = Simulation(seed: 21, profile: profile, chaos: .seconds(2)).run()
            #expect(result.violation == nil)
            hashes.append(result.traceHash)
        }
        #expect(hashes[0] == hashes[1])
    }

    @Test func `a cluster of one serves its clients`() {
        let result = simulation(31, nodes: 1...1, seconds: 3).run()
        #expect(result.violation == nil)
        #expect(result.entriesCommitted > 0)
    }
}

/// How long the runs of the suite are: short where code is slow, and never so short that a fault could not strike.
enum RunLength {
    #if DEBUG
    static let seconds: Int64 = 5
    #else
    static let seconds: Int64 = 30
    #endif
}
