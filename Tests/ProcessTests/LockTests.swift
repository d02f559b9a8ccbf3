import Foundation
import Testing

/// Locks with leases and tokens, by real agents and the command line.
@Suite(.serialized) struct LockTests {
    @Test func `one of many holds a lock, whoever leads, and who lost it writes nothing under its token`() throws {
        let cluster = try LocalCluster()
        try cluster.grow()
        #expect(try cluster.ask(1, "space", "create", "box").status == 0)
        func token(_ run: MusterRun) throws -> String {
            try #require(run.output.split(whereSeparator: \.isWhitespace).last.map(String.init), "\(run.complaint)")
        }
        let first = try token(cluster.ask(2, "lock", "take", "box", "job", "--owner", "me", "--lease", "2s"))
        let refused = try cluster.ask(3, "lock", "take", "box", "job", "--owner", "you")
        #expect(refused.status == 4 && refused.complaint.contains("another owner holds the lock"))
        #expect(try cluster.ask(1, "lock", "show", "box", "job").output.contains("me"))
        #expect(try cluster.ask(1, "kv", "put", "box", "k", "1", "--fence", "job:\(first)").status == 0)
        // Nobody renews it: it is free after its lease, and whoever had it is kept out.
        let second = try token(cluster.ask(3, "lock", "take", "box", "job", "--owner", "you", "--wait", "20s"))
        #expect(try #require(UInt64(second)) > #require(UInt64(first)))
        let late = try cluster.ask(1, "kv", "put", "box", "k", "2", "--fence", "job:\(first)")
        #expect(late.status == 4 && late.complaint.contains("lost it"))
        #expect(try cluster.ask(1, "kv", "delete", "box", "k", "--fence", "job:\(first)").status == 4)
        #expect(try cluster.ask(2, "kv", "get", "box", "k").output == "1")
        #expect(try cluster.ask(1, "lock", "release", "box", "job", "--owner", "you").status == 0)
        #expect(try cluster.ask(1, "lock", "show", "box", "job").status == 3)
        #expect(try cluster.ask(1, "lock", "release", "box", "job", "--owner", "you").status == 3)
        #expect(try cluster.ask(1, "kv", "put", "box", "k", "2", "--fence", "job").status == 2)

        // A command keeps its lock while leaders die.
        let list = try cluster.ask(1, "space", "list", "-o", "json").output
        let leader = try #require((1...3).first { list.contains("\"leader\":\"n\($0)\"") })
        let others = (1...3).filter { $0 != leader }
        let script =
            "sleep 6; muster() { \"$MUSTER\" \"$@\"; }; "
            + "muster kv put box held yes --fence \"$MUSTER_LOCK_FENCE\" && exit 7"
        let running = Process()
        running.executableURL = try MusterRun.binary()
        running.environment = ProcessInfo.processInfo.environment.merging([
            "MUSTER": try MusterRun.binary().path, "MUSTER_IDENTITY": cluster.folder.file("n1/operator").path,
            "MUSTER_ADDRESS": others.map { cluster.address($0) }.joined(separator: ","),
        ]) { $1 }
        running.arguments = ["lock", "run", "box", "job", "--lease", "3s", "--", "sh", "-c", script]
        let nowhere = Process()
        (nowhere.executableURL, nowhere.environment) = (running.executableURL, running.environment)
        nowhere.arguments = ["lock", "run", "box", "job", "--", "/nowhere"]
        try nowhere.run()
        nowhere.waitUntilExit()
        #expect(nowhere.terminationStatus == 2)
        #expect(try cluster.ask(1, "lock", "show", "box", "job").status == 3)
        try running.run()
        try cluster.wait("the command holds the lock") {
            try cluster.ask(others[0], "lock", "show", "box", "job").status == 0
        }
        cluster.kill9(leader)
        running.waitUntilExit()
        #expect(running.terminationStatus == 7)
        #expect(try cluster.ask(others[0], "kv", "get", "box", "held").output == "yes")
        #expect(try cluster.ask(others[1], "lock", "show", "box", "job").status == 3)

        // Without a majority nobody can say that it is held: the command ends before another could have the lock.
        let lost = Process()
        lost.executableURL = try MusterRun.binary()
        lost.environment = running.environment
        let ended = cluster.folder.file("ended")
        lost.arguments = [
            "lock", "run", "box", "job", "--lease", "3s", "--", "sh", "-c",
            "trap 'touch \(ended.path); exit 9' TERM; sleep 60 & wait",
        ]
        try lost.run()
        try cluster.wait("it holds the lock") { try cluster.ask(others[0], "lock", "show", "box", "job").status == 0 }
        cluster.kill9(others[1])
        let killed = Date()
        lost.waitUntilExit()
        #expect(lost.terminationStatus == 4)
        let at = try FileManager.default.attributesOfItem(atPath: ended.path)[.modificationDate] as? Date
        #expect(try #require(at).timeIntervalSince(killed) < 3.5)
    }
}
