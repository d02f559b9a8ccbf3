import Foundation
import Testing

/// Files that a node's next start reads.
@Suite struct KeptFileTests {
    @Test func `a level that can't be written down when it opens is written as soon as that works`() throws {
        var level = "1"
        let cluster = try LocalCluster { _, _ in ["--node-feature-level", level] }
        let file = cluster.folder.file("n1/level")
        func written() -> String { (try? String(contentsOf: file, encoding: .utf8)) ?? "" }
        try cluster.wait("the first level is written") { written() == "1\n" }
        #expect(cluster.terminate(1) == 0)
        level = "2"
        try cluster.start(1)
        // A folder where the new file is made.
        let inTheWay = cluster.folder.file("n1/level.next")
        try FileManager.default.createDirectory(at: inTheWay, withIntermediateDirectories: false)
        try cluster.wait("the level opens") { try cluster.ask(1, "upgrade", "finalize").status == 0 }
        try cluster.wait("it is said") {
            cluster.log(1).contains("a file that the next start needs can't be written yet")
        }
        #expect(written() == "1\n")
        try FileManager.default.removeItem(at: inTheWay)
        try cluster.wait("it is written") { written() == "2\n" }
        try cluster.waitForLog(1, "a file is written at last")
        #expect(cluster.terminate(1) == 0)
        level = "1"
        let back = try MusterRun(["agent"] + cluster.options(1))
        #expect(back.status == 4 && back.complaint.contains("has opened feature level 2"), "\(back)")
    }
}
