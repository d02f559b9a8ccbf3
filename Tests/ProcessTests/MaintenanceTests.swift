import Foundation
import Testing

/// Hosts that are looked after one after the other.
@Suite(.serialized) struct MaintenanceTests {
    private func states(_ cluster: LocalCluster) throws -> [String] {
        try ["ready", "cordoned", "draining", "maintenance"].map { state in
            try cluster.names(1, "host", "list", "--filter", "state=\(state)").sorted().joined(separator: ",")
        }
    }

    @Test func `hosts are emptied, given to a step and taken back in turn, and the first that is not well ends it`()
        throws
    {
        let cluster = try LocalCluster()
        try cluster.grow()
        try cluster.wait("the hosts have reported") {
            try cluster.names(1, "host", "list", "--filter", "state=ready").count == 3
        }
        let made = try cluster.ask(1, "vm", "create", "web-{1..6}", "--cpu", "100m", "--memory", "64MiB", "--wait")
        #expect(made.status == 0, "\(made.complaint)")
        let seen = cluster.folder.file("seen").path
        // What the step sees of the host: it is empty.
        let step = "echo $MUSTER_HOST >>\(seen)"
        let all = try cluster.ask(1, "host", "maintain", "n2", "n3", "n1", "--step", step, "--wait-timeout", "60s")
        #expect(all.status == 0, "\(all.complaint)")
        #expect(try String(contentsOfFile: seen, encoding: .utf8) == "n2\nn3\nn1\n")
        #expect(all.complaint.contains("3 of 3 hosts done"))
        #expect(try states(cluster) == ["n1,n2,n3", "", "", ""])
        #expect(try cluster.names(1, "vm", "list", "--filter", "phase=running").count == 6)

        let failed = try cluster.ask(
            1, "host", "maintain", "n1", "n2", "n3", "--step", "test $MUSTER_HOST != n2", "--wait-timeout", "60s")
        #expect(failed.status == 1)
        #expect(failed.complaint.contains("n2 stays out of service: the step ended with 1"), "\(failed.complaint)")
        #expect(failed.complaint.contains("not begun, and in service as before: n3"), "\(failed.complaint)")
        #expect(try states(cluster) == ["n1,n3", "", "", "n2"])
        #expect(try cluster.names(1, "vm", "list", "--filter", "host=n2").isEmpty)
        let early = try cluster.ask(1, "host", "maintain", "n2", "--step", "true")
        #expect(early.status == 1 && early.complaint.contains("n2 is maintenance"), "\(early.complaint)")
        #expect(try cluster.ask(1, "host", "resume", "n2").status == 0)

        let away = try cluster.ask(
            1, "host", "maintain", "n3", "--step", "true", "--restarts", "--back-timeout", "4s", "--wait-timeout", "60s"
        )
        #expect(away.status == 1)
        #expect(away.complaint.contains("its agent has not begun anew after 4s"), "\(away.complaint)")
        #expect(try cluster.ask(1, "host", "resume", "n3").status == 0)

        // What has nowhere to go keeps its host in service, and nothing moves.
        #expect(try cluster.ask(1, "group", "create", "apart", "--rule", "anti-affinity").status == 0)
        let apart = try cluster.ask(
            1, "vm", "create", "db-{1..3}", "--cpu", "100m", "--memory", "64MiB", "--group", "apart", "--wait")
        #expect(apart.status == 0, "\(apart.complaint)")
        let full = try cluster.ask(1, "host", "maintain", "--filter", "name=n1", "--step", "true")
        #expect(full.status == 1)
        #expect(full.complaint.contains("n1 can't be emptied"), "\(full.complaint)")
        #expect(try states(cluster) == ["n1,n2,n3", "", "", ""])
        for words in [["n1", "n1", "--step", "true"], ["--step", "true"], ["n1"]] {
            #expect(try cluster.run(["host", "maintain"] + words, at: 1).status == 2, "\(words)")
        }
        #expect(try cluster.ask(1, "host", "maintain", "n9", "--step", "true").status == 3)
    }
}
