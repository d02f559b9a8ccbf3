import Foundation
import Testing

/// Streams end when there is nothing more to say, or nobody to say it to.
@Suite struct WatchEndTests {
    private func watch(_ cluster: LocalCluster, _ more: [String]) throws -> (process: Process, seen: URL, said: URL) {
        let (seen, said) = (cluster.folder.file("seen\(more.count)"), cluster.folder.file("said\(more.count)"))
        for file in [seen, said] { try Data().write(to: file) }
        let process = Process()
        process.executableURL = try MusterRun.binary()
        process.arguments =
            ["kv", "watch", "box", "--from", "0", "--identity", cluster.folder.file("n1/operator").path]
            + ["--address", cluster.address(1)] + more
        process.standardOutput = try FileHandle(forWritingTo: seen)
        process.standardError = try FileHandle(forWritingTo: said)
        try process.run()
        return (process, seen, said)
    }

    @Test
    func `who has seen what the cell never said is told to list again, and every answer of the root has its index`()
        throws
    {
        let cluster = try LocalCluster()
        try cluster.wait("the cell answers") { try cluster.ask(1, "vm", "list").status == 0 }
        for path in ["vms", "hosts", "groups", "events", "audit"] {
            let seen = try Asked.get("/v1/\(path)?watch=1&from=99999.0", at: 1, of: cluster)
            #expect(seen.status == 200)
            let lines = seen.body.split(separator: "\n")
            #expect(
                lines.count == 1 && lines.first?.contains("\"type\":\"compacted\"") == true, "\(path): \(seen.body)")
        }
        for path in ["nodes", "nodes/n1", "cells", "cells/default", "settings", "spaces", "status", "upgrade", "certs"]
        {
            let head = try cluster.shell(
                "curl -sk --cert $MUSTER_IDENTITY/cert.pem --key $MUSTER_IDENTITY/key.pem -D - -o /dev/null "
                    + "https://$MUSTER_ADDRESS/v1/\(path)", at: 1
            ).output.lowercased()
            #expect(head.hasPrefix("http/1.1 200") && head.contains("\nmuster-index: "), "\(path): \(head)")
        }
    }

    private func text(_ file: URL) throws -> String { try String(contentsOf: file, encoding: .utf8) }

    @Test func `who lost the right to a space hears nothing more of it, and who watches a space that goes is told`()
        throws
    {
        let cluster = try LocalCluster()
        #expect(try cluster.ask(1, "space", "create", "box").status == 0)
        try cluster.wait("the space takes keys") { try cluster.ask(1, "kv", "put", "box", "a", "first").status == 0 }
        let token = try cluster.ask(1, "token", "create", "--role", "space:box:read").output
            .trimmingCharacters(in: .whitespacesAndNewlines)
        let guest = try watch(cluster, ["--token", token])
        let owner = try watch(cluster, [])
        defer { for process in [guest.process, owner.process] where process.isRunning { process.terminate() } }
        try cluster.wait("both have heard of the first key") {
            try text(guest.seen).contains("\"a\"") && text(owner.seen).contains("\"a\"")
        }
        let listed = try JSONSerialization.jsonObject(
            with: Data(try cluster.ask(1, "token", "list", "-o", "json").output.utf8))
        let items = listed as? [[String: Any]] ?? []
        let id = try #require(items.first { $0["kind"] as? String == "api" }?["id"] as? String, "\(items)")
        #expect(try cluster.ask(1, "token", "revoke", id).status == 0)
        #expect(try cluster.ask(1, "kv", "put", "box", "b", "second").status == 0)
        try cluster.wait("the guest is told and ends") { !guest.process.isRunning }
        #expect(try !text(guest.seen).contains("\"b\""))
        let refusal = try text(guest.said)
        #expect(guest.process.terminationStatus == 4, "\(refusal)")
        try cluster.wait("the owner hears on") { try text(owner.seen).contains("\"b\"") }

        #expect(try cluster.ask(1, "space", "delete", "box").status == 0)
        try cluster.wait("the owner is told that the space is gone") { !owner.process.isRunning }
        let farewell = try text(owner.said)
        #expect(owner.process.terminationStatus == 3, "\(farewell)")
    }
}
