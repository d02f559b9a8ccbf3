import Foundation
import Testing

/// `Tools/chaos` as it is, for some seconds of each kind.
@Suite(.serialized) struct ChaosTests {
    private func chaos(_ kind: String, _ seconds: Int) throws -> (status: Int32, said: String) {
        let folder = try TemporaryFolder()
        let said = folder.file("said")
        try Data().write(to: said)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("Tools/chaos")
        process.arguments = [
            "MUSTER=\(try MusterRun.binary().path)", "PORT=\(try LocalCluster.freePorts(8))", script.path, kind,
            "\(seconds)",
        ]
        process.standardOutput = try FileHandle(forWritingTo: said)
        process.standardError = process.standardOutput
        try process.run()
        process.waitUntilExit()
        return (process.terminationStatus, try String(contentsOf: said, encoding: .utf8))
    }

    /// Only root makes file systems that get full.
    static let kinds = getuid() == 0 ? ["kill", "full", "fsync"] : ["kill", "fsync"]

    @Test(arguments: kinds)
    func `agents that are struck again and again lose no acknowledged write`(_ kind: String) throws {
        let (status, said) = try chaos(kind, 10)
        #expect(status == 0, "\(said)")
        #expect(said.contains("the history is linearizable"), "\(said)")
        let strikes = said.split(separator: " ").first.flatMap { Int($0) } ?? 0
        #expect(strikes >= 2, "\(said)")
        // Strikes must hit: agents say that a disk is full, or end for one that failed.
        if kind != "kill" {
            let ends = said.components(separatedBy: "met their faults ").last?.split(separator: " ").first.flatMap {
                Int($0)
            }
            #expect((ends ?? 0) >= 1, "\(said)")
        }
    }
}
