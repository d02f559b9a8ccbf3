import Foundation
import Testing

/// Who belongs to a cluster, and who does no more.
@Suite(.serialized) struct MembershipTests {
    @Test
    func `a node that is off while a new authority comes is not locked out: nothing is signed before it trusts it`()
        throws
    {
        let cluster = try LocalCluster()
        try cluster.grow()
        try cluster.wait("the newest level is open") {
            try cluster.ask(1, "upgrade", "status", "-o", "json").output.contains("\"isOpen\":false") == false
        }
        cluster.kill9(3)
        #expect(try cluster.ask(1, "cert", "rotate", "--authority", "--step", "trust").status == 0)
        let early = try cluster.ask(1, "cert", "rotate", "--authority", "--step", "sign")
        #expect(early.status == 4 && early.complaint.contains("n3 would be locked out"), "\(early)")
        try cluster.start(3)
        try cluster.wait("n3 trusts the new authority, which signs then") {
            try cluster.ask(1, "cert", "rotate", "--authority", "--step", "sign").status == 0
        }
        try cluster.wait("the old authority is dropped") {
            try cluster.ask(1, "cert", "rotate", "--authority", "--step", "finish").status == 0
        }
        try cluster.wait("n3 answers") { try cluster.ask(3, "node", "list").status == 0 }
    }

    @Test
    func `copies of a node's directory and removed nodes end, and so does a node that is asked to without the others`()
        throws
    {
        let cluster = try LocalCluster { _, _ in ["--admin-drain-time", "60s"] }
        try cluster.grow()
        #expect(try cluster.ask(1, "space", "create", "box").status == 0)
        try cluster.wait("the space is ready") { try cluster.ask(3, "kv", "put", "box", "a", "1").status == 0 }
        #expect(cluster.terminate(3) == 0)
        let (own, kept) = (cluster.folder.file("n3"), cluster.folder.file("n3-kept"))
        try FileManager.default.copyItem(at: own, to: kept)
        try cluster.start(3)
        try cluster.wait("n3 is back") { try cluster.ask(3, "kv", "put", "box", "a", "2").status == 0 }
        cluster.kill9(3)

        // The copy is started as often as the node was, and lacks what the node did since.
        let newest = cluster.folder.file("n3-newest")
        try FileManager.default.moveItem(at: own, to: newest)
        try FileManager.default.moveItem(at: kept, to: own)
        try cluster.start(3)
        #expect(try cluster.ended(3) == 4)
        try cluster.waitForLog(3, "is an older copy")
        try FileManager.default.removeItem(at: own)
        try FileManager.default.moveItem(at: newest, to: own)
        try cluster.start(3)
        try cluster.wait("the node itself is let in") { try cluster.ask(3, "kv", "get", "box", "a").output == "2" }

        #expect(cluster.terminate(3) == 0)
        #expect(try cluster.ask(1, "node", "remove", "n3").status == 0)
        try cluster.start(3)
        #expect(try cluster.ended(3) == 4)
        try cluster.wait("it is said that it was removed") {
            cluster.log(3).contains("n3 was removed") || cluster.log(3).contains("node 3 was removed")
        }

        // Two are left; one alone can neither lead nor hand anything over.
        cluster.kill9(2)
        let asked = ContinuousClock.now
        #expect(cluster.terminate(1) == 0)
        #expect(ContinuousClock.now - asked < .seconds(30))
    }

    @Test func `of two that are set up in one directory at once one is, and a join that is refused leaves nothing`()
        throws
    {
        let cluster = try LocalCluster()
        let folder = cluster.folder.file("twice")
        let named = ["--peer-advertise", "x.example:7471", "--admin-advertise", "x.example:7470"]
        let runs = try (0..<4).map { i in
            let process = Process()
            process.executableURL = try MusterRun.binary()
            process.arguments = [
                "init", "--no-start", "--node-data", folder.path, "--node-name", "x\(i)", "--peer-advertise",
                "x\(i).example:7471",
                "--admin-advertise", "x\(i).example:7470",
            ]
            process.standardError = FileHandle.nullDevice
            try process.run()
            return process
        }
        for run in runs { run.waitUntilExit() }
        #expect(runs.count { $0.terminationStatus == 0 } == 1, "\(runs.map(\.terminationStatus))")
        // Another program's directory stays as it is, however often it is asked for.
        let foreign = cluster.folder.file("foreign")
        for name in ["raft", "state"] {
            try FileManager.default.createDirectory(
                at: foreign.appendingPathComponent(name), withIntermediateDirectories: true)
            try Data("theirs".utf8).write(to: foreign.appendingPathComponent("\(name)/data"))
        }
        for _ in 1...2 {
            let refused = try MusterRun(["init", "--no-start", "--node-data", foreign.path] + named)
            #expect(refused.status == 4)
        }
        for name in ["raft", "state"] {
            #expect(FileManager.default.fileExists(atPath: foreign.appendingPathComponent("\(name)/data").path))
        }
        // One node's keys beside the other's stores.
        let founded = cluster.folder.file("founded")
        #expect(try MusterRun(["init", "--no-start", "--node-data", founded.path] + named).status == 0)
        for name in ["node.pem", "node.key"] {
            try FileManager.default.removeItem(at: founded.appendingPathComponent(name))
            try FileManager.default.copyItem(
                at: cluster.folder.file("n1/\(name)"), to: founded.appendingPathComponent(name))
        }
        let mixed = try MusterRun(["agent", "--node-data", founded.path] + named)
        #expect(mixed.status == 4 && mixed.complaint.contains("mixes files of two nodes"), "\(mixed)")
        let checked = try MusterRun(["agent", "--check-config", "--node-name", "a_b"])
        #expect(checked.status == 2 && checked.complaint.contains("--node-name wants 1 to 63"), "\(checked)")
        let listens = try MusterRun(["agent", "--check-config", "--peer-listen", "some.host:7471"])
        #expect(
            listens.status == 2 && listens.complaint.contains("in digits")
                && listens.complaint.contains("--peer-listen: "), "\(listens)")
        let dropped = try cluster.ask(1, "token", "create", "--role", "viewer", "--uses", "2")
        #expect(dropped.status == 2 && dropped.complaint.contains("--uses"), "\(dropped)")
        #expect(try cluster.ask(1, "space", "create", "box").status == 0)
        // The largest value that there may be.
        let value = cluster.folder.file("value")
        try Data(repeating: 0x61, count: 1 << 20).write(to: value)
        try cluster.wait("the largest value is taken") {
            let process = Process()
            process.executableURL = try MusterRun.binary()
            process.arguments = [
                "kv", "put", "box", "large", "--identity", cluster.folder.file("n1/operator").path, "--address",
                cluster.address(1),
            ]
            process.standardInput = try FileHandle(forReadingFrom: value)
            process.standardError = FileHandle.nullDevice
            process.standardOutput = FileHandle.nullDevice
            try process.run()
            process.waitUntilExit()
            return process.terminationStatus == 0
        }
    }
}
