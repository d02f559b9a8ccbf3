import Foundation
import Testing

/// `Tools/bench-failures` as it is, once for some of its kinds.
@Suite(
    .serialized,
    .enabled(if: GuestMachine.isHere, "no QEMU, kernel, busybox or Python 3 on this machine"),
    .enabled(if: SeparateNetworks.isPossible, "network namespaces can't be made here: not root"))
struct FailureTests {
    @Test func `a guest whose host dies or is cut off goes on elsewhere, and two of its copies never write at once`()
        throws
    {
        let folder = try TemporaryFolder()
        let said = folder.file("said")
        try Data().write(to: said)
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [
            "MUSTER=\(try MusterRun.binary().path)", "PORT=\(try LocalCluster.freePorts(8))",
            "WITNESS=\(folder.file("witness").path)", root.appendingPathComponent("Tools/bench-failures").path, "1",
            "host", "cut",
        ]
        process.standardOutput = try FileHandle(forWritingTo: said)
        process.standardError = process.standardOutput
        try process.run()
        process.waitUntilExit()
        let text = try String(contentsOf: said, encoding: .utf8)
        print(text)
        #expect(process.terminationStatus == 0, "\(text)")
        for kind in ["host", "cut"] {
            #expect(text.contains("\(kind): 1 times, 1 went on elsewhere"), "\(text)")
        }
        // Three copies, each of which wrote, one after the other.
        let witness = try String(contentsOf: folder.file("witness"), encoding: .utf8)
        let copies = witness.split(separator: "\n").compactMap { line -> Int? in
            let words = line.split(separator: " ")
            return words.firstIndex(of: "copy").flatMap { Int(words[$0 + 1]) }
        }
        #expect(copies.count > 60 && Set(copies) == [1, 2, 3])
        #expect(zip(copies, copies.dropFirst()).allSatisfy { $0 <= $1 })
    }
}
