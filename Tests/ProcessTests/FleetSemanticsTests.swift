import Foundation
import Testing

/// What commands and requests mean when they come twice, late, or for something that has another state.
@Suite(.serialized) struct FleetSemanticsTests {
    private func curl(
        _ cluster: LocalCluster, _ method: String, _ path: String, _ fields: [String] = [], body: String? = nil
    ) throws -> (status: Int, body: String) {
        let headers = fields.map { "-H '\($0)'" }.joined(separator: " ")
        let data = body.map { "-H 'Content-Type: application/json' -d '\($0)'" } ?? ""
        let said = try cluster.shell(
            "curl -sk --cert $MUSTER_IDENTITY/cert.pem --key $MUSTER_IDENTITY/key.pem -X \(method) \(headers) \(data) "
                + "-w '\\n%{http_code}' https://$MUSTER_ADDRESS/v1/\(path)", at: 1
        ).output
        let parts = said.split(separator: "\n").map(String.init)
        return (parts.last.flatMap { Int($0) } ?? 0, parts.dropLast().joined(separator: "\n"))
    }

    private func member(_ cluster: LocalCluster, _ vm: String, _ name: String) throws -> String {
        let shown = try cluster.ask(1, "vm", "show", vm, "-o", "json").output
        let json = try JSONSerialization.jsonObject(with: Data(shown.utf8)) as? [String: Any]
        return json?[name].map { "\($0)" } ?? ""
    }

    @Test func `waiting ends, changes ask for the state they are for, and what is asked for twice is answered twice`()
        throws
    {
        let cluster = try LocalCluster()
        try cluster.grow()
        try cluster.wait("all hosts have reported") {
            try cluster.names(1, "host", "list", "--filter", "state=ready").count == 3
        }
        func ask(_ words: String...) throws -> MusterRun { try cluster.run(words, at: 1) }
        let small = ["--cpu", "100m", "--memory", "64MiB"]

        // Waiting.
        let idle = try cluster.run(
            ["vm", "create", "idle", "--stopped", "--wait", "--wait-timeout", "20s"] + small, at: 1)
        #expect(idle.status == 0, "\(idle.complaint)")
        #expect(try ask("tenant", "set", "shop").status == 0)
        let file = cluster.folder.file("vm.json")
        try Data(
            #"{"name":"till","tenant":"shop","spec":{"cpuMillis":100,"memoryMiB":64,"labels":{"a":"1","b":"2"}}}"#.utf8
        ).write(to: file)
        let filed = try ask("vm", "create", "--file", file.path, "--wait", "--wait-timeout", "20s")
        #expect(filed.status == 0 && filed.output.contains("till"), "\(filed.complaint)")
        #expect(try cluster.run(["vm", "create", "web", "--wait"] + small, at: 1).status == 0)
        #expect(try ask("vm", "pause", "web", "--wait").status == 0)
        let restarted = try ask("vm", "restart", "web", "--wait", "--wait-timeout", "20s")
        #expect(restarted.status == 0, "\(restarted.complaint)")
        #expect(try member(cluster, "web", "phase") == "paused")
        #expect(try ask("vm", "resume", "web", "--wait").status == 0)
        let resumed = try ask("vm", "resume", "idle")
        #expect(resumed.status == 4 && resumed.complaint.contains("muster vm start"), "\(resumed.complaint)")

        #expect(try ask("vm", "pause", "idle").status == 4)
        #expect(try ask("vm", "restart", "web", "--if-generation", "7000").status == 4)
        #expect(try ask("vm", "migrate", "web", "--if-generation", "7000").complaint.contains("changed meanwhile"))
        #expect(try ask("host", "cordon", "n1", "--if-generation", "7000").status == 4)
        #expect(try ask("host", "set", "n1", "--label", "disk=ssd", "--label", "rack-").status == 0)
        #expect(try ask("host", "set", "n1", "--label", "disk-").status == 0)
        #expect(try !ask("host", "show", "n1").output.contains("ssd"))

        // Labels, and what is optional.
        #expect(try ask("group", "create", "front", "--rule", "spread").status == 0)
        #expect(try ask("vm", "update", "web", "--label", "x=1", "--label", "y=2", "--group", "front").status == 0)
        #expect(try ask("vm", "update", "web", "--label", "z=3", "--label", "x-", "--group", "none").status == 0)
        let spec = try ask("vm", "show", "web", "-o", "json").output
        #expect(spec.contains(#""y":"2""#) && spec.contains(#""z":"3""#) && !spec.contains(#""x":"1""#), "\(spec)")
        #expect(!spec.contains("front"), "\(spec)")
        #expect(try ask("vm", "show", "web").output.contains("memoryMiB"))
        #expect(try ask("top", "--vms").output.contains("web"))
        let metrics = try (1...3).map { try Asked.get("/metrics", at: $0, of: cluster).body }.joined()
        #expect(metrics.contains("muster_vm_memory_bytes{vm=\"web\""))
        #expect(metrics.contains("muster_cell_controller_seconds_bucket"))
        #expect(try ask("plan", "losses", "--over", "zone").output.contains("zone-1"))
        #expect(try ask("group", "list", "--filter", "rule=spread", "--columns", "name").output.contains("front"))
        #expect(try ask("tenant", "list", "--filter", "name=shop", "-o", "name").output == "shop\n")
        let odd = try ask("host", "list", "--filter", "state=odd")
        #expect(odd.status == 2 && odd.complaint.contains("ready"), "\(odd.status) \(odd.complaint)")
        #expect(try ask("vm", "list", "--sort", "nothing").status == 2)
        let early = try ask("kv", "watch", "box", "--from", "abc")
        #expect(early.status == 2 && early.complaint.contains("no revision"), "\(early.complaint)")
        #expect(try ask("node", "list", "--stale", "1m", "-o", "name").output.split(separator: "\n").count == 3)

        for name in ["0", "nobody"] { #expect(try curl(cluster, "GET", "hosts/\(name)/usage").status == 404) }

        // Generations.
        let generation = Int(try member(cluster, "web", "generation")) ?? 0
        for (method, path) in [("POST", "vms/web/restart"), ("POST", "vms/web/migrate"), ("POST", "hosts/n1/cordon")] {
            let body = path.hasSuffix("migrate") ? "{}" : nil
            let late = try curl(cluster, method, path, ["If-Match: \(generation + 7000)"], body: body)
            #expect(late.status == 412, "\(path): \(late)")
        }
        let tenant = try curl(cluster, "PUT", "tenants/shop", ["If-Match: 1"], body: "{}")
        #expect(tenant.status == 400 && tenant.body.contains("If-Match"), "\(tenant)")

        // The same again under one key.
        let home = try member(cluster, "web", "host")
        let key = "Idempotency-Key: 0f8fad5b-d9cb-469f-a165-70867728950e"
        let first = try curl(cluster, "POST", "vms/web/migrate", [key], body: "{}")
        #expect(first.status == 202, "\(first)")
        try cluster.wait("it has moved") {
            try member(cluster, "web", "host") != home
                && !cluster.ask(1, "vm", "show", "web", "-o", "json").output.contains("copying")
        }
        let second = try curl(cluster, "POST", "vms/web/migrate", [key], body: "{}")
        #expect(second.status == first.status && second.body == first.body, "\(first) \(second)")
        let gone = "Idempotency-Key: 7c9e6679-7425-40de-944b-e07fc1f90ae7"
        let deleted = try curl(cluster, "DELETE", "vms/web", [gone])
        #expect(deleted.status == 202, "\(deleted)")
        try cluster.wait("it is gone") { try cluster.ask(1, "vm", "show", "web").status == 3 }
        let again = try curl(cluster, "DELETE", "vms/web", [gone])
        #expect(again.status == deleted.status && again.body == deleted.body, "\(again)")
        #expect(try curl(cluster, "DELETE", "vms/web").status == 404)
        #expect(try ask("vm", "show", "web").complaint.contains("muster vm history"))

        // What can't be done names hosts and VMs as people do.
        #expect(try ask("host", "set", "n2", "--reserve-memory", "999TiB").complaint.contains("reserve no more"))
    }

    @Test func `events are followed on at another node where one ends`() throws {
        let cluster = try LocalCluster()
        try cluster.grow()
        try cluster.wait("the cell answers") { try cluster.ask(1, "vm", "list").status == 0 }
        let (seen, said) = (cluster.folder.file("seen"), cluster.folder.file("said"))
        for file in [seen, said] { try Data().write(to: file) }
        let process = Process()
        process.executableURL = try MusterRun.binary()
        process.arguments = [
            "events", "--follow", "--limit", "1", "--filter", "kind=vm.created", "--identity",
            cluster.folder.file("n1/operator").path, "--address", cluster.address(3), "--address", cluster.address(2),
            "--address", cluster.address(1),
        ]
        process.standardOutput = try FileHandle(forWritingTo: seen)
        process.standardError = try FileHandle(forWritingTo: said)
        try process.run()
        defer { process.terminate() }
        func text(_ file: URL) throws -> String { try String(contentsOf: file, encoding: .utf8) }
        func create(_ name: String) throws {
            let made = try cluster.run(["vm", "create", name, "--cpu", "100m", "--memory", "64MiB"], at: 1)
            #expect(made.status == 0, "\(made.complaint)")
        }
        try create("first")
        try cluster.wait("the first is seen") { try text(seen).contains("first") }
        #expect(cluster.terminate(3) == 0)
        try create("second")
        try cluster.wait("the second is seen through another node") { try text(seen).contains("second") }
        try cluster.start(3)
        try cluster.wait("the third node answers") { try cluster.ask(3, "vm", "list").status == 0 }
        cluster.kill9(2)
        try cluster.wait("the others go on") { try cluster.ask(1, "vm", "list").status == 0 }
        try create("third")
        try cluster.wait("the third, too") { try text(seen).contains("third") }
        let lines = try text(seen).split(separator: "\n")
        for name in ["first", "second", "third"] {
            #expect(lines.count { $0.contains(name) } == 1, "\(lines)")
        }
        #expect(process.isRunning)
    }
}
