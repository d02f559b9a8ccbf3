import Foundation
import Testing

/// VMs on three real agents with the simulated driver: placed, moved, and running elsewhere when their host is lost.
@Suite(.serialized) struct FleetTests {
    @Test
    func `VMs are placed by their rules, wait with a reason, move off a drained host and survive the loss of one`()
        throws
    {
        let cluster = try LocalCluster()
        try cluster.grow()
        try cluster.wait("all hosts have reported") {
            try cluster.names(1, "host", "list", "--filter", "state=ready").count == 3
        }

        // Rules hold: three of a group over zones lie in three zones, and a fourth waits and says why.
        #expect(try cluster.ask(2, "group", "create", "web", "--rule", "anti-affinity", "--over", "zone").status == 0)
        let made = try cluster.ask(
            3, "vm", "create", "web-{1..3}", "--cpu", "1", "--memory", "512MiB", "--group", "web", "--wait")
        #expect(made.status == 0, "\(made.complaint)")
        #expect(Set(try cluster.hosts(ofVMs: "web-")).count == 3)
        #expect(
            try cluster.ask(1, "vm", "create", "web-4", "--cpu", "1", "--memory", "512MiB", "--group", "web").status
                == 0)
        try cluster.wait("the fourth says what it waits for") {
            try cluster.ask(2, "vm", "explain", "web-4").output.contains("group")
        }
        #expect(try cluster.ask(2, "vm", "list", "--filter", "phase=waiting", "-o", "name").output == "web-4\n")

        // A change that was planned for another generation is refused, and so is more than a quota allows.
        let conflict = try cluster.ask(1, "vm", "update", "web-1", "--memory", "1GiB", "--if-generation", "77")
        #expect(conflict.status == 4, "\(conflict.complaint)")
        #expect(try cluster.ask(1, "tenant", "set", "small", "--vms", "1").status == 0)
        try cluster.wait("the quota is in force") {
            let tenant = try cluster.ask(1, "tenant", "show", "small", "-o", "json").output
            return tenant.contains("\"vmCount\":1") && tenant.contains("\"isPending\":false")
        }
        let first = try cluster.ask(1, "vm", "create", "a", "--cpu", "1", "--memory", "64MiB", "--tenant", "small")
        #expect(first.status == 0, "\(first.complaint)")
        let second = try cluster.ask(1, "vm", "create", "b", "--cpu", "1", "--memory", "64MiB", "--tenant", "small")
        #expect(second.status != 0)
        #expect(second.complaint.contains("quota"))

        // A drained host ends up empty while its VMs run on.
        #expect(
            try cluster.ask(1, "vm", "create", "job-{1..6}", "--cpu", "1", "--memory", "256MiB", "--wait").status == 0)
        let drained = try cluster.hosts(ofVMs: "job-")[0]
        #expect(try cluster.ask(2, "group", "delete", "web").status != 0)
        #expect(try cluster.ask(2, "vm", "delete", "web-1", "web-2", "web-3", "web-4", "--wait").status == 0)
        #expect(try cluster.ask(2, "host", "drain", drained, "--wait", "--wait-timeout", "60s").status == 0)
        #expect(try !cluster.hosts(ofVMs: "job-").contains(drained))
        #expect(try cluster.ask(2, "host", "resume", drained).status == 0)

        // A lost host's VMs run elsewhere after the lease.
        let lost = try cluster.hosts(ofVMs: "job-")[0]
        let number = try #require(Int(lost.dropFirst()))
        let other = number % 3 + 1
        cluster.kill9(number)
        try cluster.wait("the lost host's VMs run elsewhere") {
            let hosts = try cluster.hosts(ofVMs: "job-", at: other)
            let running = try cluster.names(other, "vm", "list", "--filter", "phase=running")
            return !hosts.contains(lost) && running.filter { $0.hasPrefix("job-") }.count == 6
        }
        try cluster.start(number)
        try cluster.wait("the host is back") {
            try cluster.names(other, "host", "list", "--filter", "state=ready").count == 3
        }
        #expect(try cluster.ask(other, "vm", "delete", "job-1", "--wait").status == 0)
        #expect(try cluster.ask(other, "vm", "show", "job-1").status == 3)
        #expect(try cluster.ask(other, "events", "-o", "json").output.contains("host.down"))
    }
}

extension LocalCluster {
    func names(_ node: Int, _ words: String...) throws -> [String] {
        let answer = try run(words + ["-o", "name"], at: node)
        return answer.output.split(separator: "\n").map(String.init)
    }

    /// Where the VMs with this beginning of their names are, in the order of the names.
    func hosts(ofVMs prefix: String, at node: Int = 1) throws -> [String] {
        let text = try run(["vm", "list", "--columns", "name,host", "--sort", "name"], at: node).output
        return text.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ").map(String.init)
            return words.count == 2 && words[0].hasPrefix(prefix) ? words[1] : nil
        }
    }
}
