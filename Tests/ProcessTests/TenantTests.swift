import Foundation
import Testing

/// Tenants on three real agents: their quotas are in force when whoever set them is told so, and what their writers may not is
/// refused and written down.
@Suite(.serialized) struct TenantTests {
    @Test
    func `a tenant is in force when it is set, until it is deleted, and its writers stay within it`() throws {
        let cluster = try LocalCluster()
        try cluster.grow()
        try cluster.wait("all hosts have reported") {
            try cluster.names(1, "host", "list", "--filter", "state=ready").count == 3
        }
        func create(_ node: Int, _ name: String, _ tenant: String, _ more: String...) throws -> (Int32, String) {
            let said = try cluster.run(
                ["vm", "create", name, "--cpu", "100m", "--memory", "64MiB", "--tenant", tenant] + more, at: node)
            return (said.status, said.complaint)
        }

        // Nobody set it.
        let stranger = try create(1, "a", "nobody")
        #expect(stranger.0 == 4 && stranger.1.contains("muster tenant set nobody"), "\(stranger)")
        let group = try cluster.ask(2, "group", "create", "web", "--rule", "pack", "--tenant", "nobody")
        #expect(group.status == 4 && group.complaint.contains("muster tenant set nobody"), "\(group.complaint)")
        let free = try create(2, "a", "default")
        #expect(free.0 == 0, "\(free)")

        // Whichever node is asked, what was set holds for what is asked next.
        for turn in 1...6 {
            let (tenant, first, second) = ("shop\(turn)", turn % 3 + 1, (turn + 1) % 3 + 1)
            #expect(try cluster.ask(first, "tenant", "set", tenant, "--vms", "1").status == 0)
            let made = try create(second, "a", tenant)
            #expect(made.0 == 0, "\(made)")
            let more = try create(first, "b", tenant)
            #expect(more.0 == 4 && more.1.contains("quota"), "\(more)")
            #expect(try cluster.ask(second, "tenant", "set", tenant, "--vms", "2").status == 0)
            #expect(try create(first, "b", tenant).0 == 0)
        }

        try planned(cluster)
        try scoped(cluster)
        try lowered(cluster)
        try codes(cluster)
    }

    /// A lowered quota stops nothing unless it is enforced; then exactly what its plan showed.
    private func lowered(_ cluster: LocalCluster) throws {
        #expect(try cluster.ask(1, "tenant", "set", "till", "--vms", "5").status == 0)
        for (name, priority) in [("x", "5"), ("y", "0"), ("z", "0")] {
            let made = try cluster.ask(
                1, "vm", "create", name, "--cpu", "100m", "--memory", "64MiB", "--tenant", "till", "--priority",
                priority,
                "--wait")
            #expect(made.status == 0, "\(made.complaint)")
        }
        func set(_ node: Int, _ more: String...) throws -> MusterRun {
            try cluster.run(["quota", "set", "till", "--cpu", "200m"] + more, at: node)
        }
        let shown = try set(2, "--dry-run")
        #expect(shown.output.contains("cpuMillis") && shown.output.contains("none"), "\(shown.output)")
        #expect(shown.output.contains("with --enforce 1 VM would be stopped, the least important and newest first: z"))
        let plan = try set(3, "--enforce", "--dry-run", "-o", "json").output
        #expect(plan.contains("\"action\":\"stop\"") && plan.contains("\"vm\":\"z\""), "\(plan)")
        #expect(!plan.contains("\"vm\":\"y\"") && !plan.contains("\"vm\":\"x\""), "\(plan)")
        let digest = try #require(plan.firstMatch(of: /"digest":"([0-9a-f]+)"/)?.1)
        #expect(try cluster.ask(1, "quota", "show", "till", "-o", "json").output.contains("cpuMillis\":300"))
        #expect(try set(1, "--plan", String(digest)).status == 4, "it is another one without --enforce")
        let done = try set(1, "--enforce", "--plan", String(digest))
        #expect(done.status == 0 && done.output.contains("1 VM stops: z"), "\(done.output)\(done.complaint)")
        #expect(try cluster.ask(2, "vm", "wait", "z", "--for", "stopped", "--tenant", "till").status == 0)
        let running = try cluster.ask(2, "vm", "list", "--tenant", "till", "--filter", "phase=running", "-o", "name")
        #expect(running.output == "x\ny\n", "\(running.output)")
        #expect(try set(2, "--enforce").output.contains("nothing runs beyond it"))
        #expect(try cluster.ask(1, "vm", "delete", "x", "y", "z", "--tenant", "till", "--wait").status == 0)
    }

    /// What commands end with, for what the cluster or this program found senseless, absent or refused.
    private func codes(_ cluster: LocalCluster) throws {
        for (code, words) in [
            (2, ["group", "create", "g", "--rule", "pack", "--max", "2"]),
            (2, ["cell", "set", "leaseMillis", "1"]), (2, ["vm", "list", "--filter", "nothing=1"]),
            (3, ["vm", "show", "nobody"]), (3, ["quota", "set", "nobody", "--vms", "1"]),
            (3, ["context", "use", "nowhere"]), (3, ["context", "remove", "nowhere"]),
            (3, ["vm", "list", "--context", "nowhere"]), (3, ["host", "maintain", "n9", "--step", "true"]),
            (4, ["vm", "create", "a", "--cpu", "1", "--memory", "64MiB"]),
            (3, ["vm", "stop", "nobody", "nowhere"]),
        ] as [(Int32, [String])] {
            let run = try cluster.run(words, at: 1)
            #expect(run.status == code, "\(words): \(run.status) \(run.complaint)")
        }
    }

    /// A dry run says what the creation would say.
    private func planned(_ cluster: LocalCluster) throws {
        let plan = try cluster.ask(
            2, "vm", "create", "a", "--cpu", "100m", "--memory", "64MiB", "--dry-run")
        #expect((plan.output + plan.complaint).contains("has a VM named a"), "\(plan.output) \(plan.complaint)")
        for (more, word) in [
            (["--group", "missing"], "group"),
            (["--disk", "size=1GiB,kind=ephemeral,image=none"], "there is no image none"),
            (["--tenant", "nobody"], "muster tenant set nobody"),
        ] {
            let words = ["vm", "create", "b", "--cpu", "100m", "--memory", "64MiB"] + more
            let dry = try cluster.run(words + ["--dry-run"], at: 1)
            #expect((dry.output + dry.complaint).contains(word), "\(dry.output) \(dry.complaint)")
            let made = try cluster.run(words, at: 1)
            #expect(made.status != 0 && made.complaint.contains(word), "\(made.complaint)")
        }
    }

    /// Who reaches one tenant alone.
    private func scoped(_ cluster: LocalCluster) throws {
        #expect(try cluster.ask(1, "tenant", "set", "shop", "--vms", "5").status == 0)
        let made = try cluster.shell(
            "curl -sk --cert $MUSTER_IDENTITY/cert.pem --key $MUSTER_IDENTITY/key.pem -H content-type:application/json "
                + "-d '{\"kind\":\"api\",\"role\":\"tenant:shop:write\"}' https://$MUSTER_ADDRESS/v1/tokens", at: 1
        ).output
        let token = String(try #require(made.firstRange(of: try Regex("mst_[0-9a-f]+")).map { made[$0] }, "\(made)"))
        func ask(_ method: String, _ path: String, _ body: String = "") throws -> String {
            let data = body.isEmpty ? "" : "-H content-type:application/json -d '\(body)' "
            return try cluster.shell(
                "curl -sk -w ' %{http_code}' -X \(method) -H 'authorization: Bearer \(token)' \(data)"
                    + "\"https://$MUSTER_ADDRESS/v1/\(path)\"", at: 2
            ).output
        }
        func vm(_ name: String, priority: Int, tenant: String = "shop") -> String {
            "{\"name\":\"\(name)\",\"tenant\":\"\(tenant)\",\"spec\":{\"cpuMillis\":100,\"memoryMiB\":64,\"priority\":\(priority)}}"
        }
        // It may ask what it may do: what its creation would come to, or why that is refused.
        func plan(_ vm: String) throws -> String { try ask("POST", "plan", "{\"create\":[\(vm)]}") }
        let allowed = try plan(vm("a", priority: 0))
        #expect(allowed.hasSuffix(" 200") && allowed.contains("\"action\":\"place\""), "\(allowed)")
        let bounded = try plan(vm("a", priority: 1))
        #expect(bounded.hasSuffix(" 200") && bounded.contains("--priority-max"), "\(bounded)")
        #expect(bounded.contains("\"steps\":[]"), "\(bounded)")
        #expect(try plan(vm("a", priority: 0, tenant: "default")).hasSuffix(" 403"))
        #expect(try ask("POST", "plan", "{\"drain\":\"n1\"}").hasSuffix(" 403"))
        // Another node than the one that made the token.
        #expect(try ask("GET", "vms").hasSuffix(" 200"))
        let high = try ask("POST", "vms", vm("a", priority: 1))
        #expect(high.hasSuffix(" 403") && high.contains("--priority-max"), "\(high)")
        #expect(try ask("POST", "vms", vm("a", priority: 0)).hasSuffix(" 201"))
        #expect(try cluster.ask(3, "tenant", "set", "shop", "--priority-max", "10").status == 0)
        #expect(try ask("POST", "vms", vm("b", priority: 10)).hasSuffix(" 201"))
        #expect(try ask("POST", "vms", vm("c", priority: 11)).hasSuffix(" 403"))
        #expect(
            try cluster.ask(
                1, "vm", "create", "d", "--cpu", "100m", "--memory", "64MiB", "--tenant", "shop", "--priority", "99"
            ).status == 0)

        // What hosts have is not its to see.
        try cluster.wait("the VM has a place") { try ask("GET", "vms/a/explain?tenant=shop").contains("placed") }
        let told = try ask("GET", "vms/a/explain?tenant=shop")
        #expect(told.contains("\"best\":[]") && !told.contains("\"free\""), "\(told)")
        #expect(try ask("GET", "vms/a/explain?tenant=shop&hosts=n1").hasSuffix(" 403"))

        // What it may not is in the audit, and the tenant's end is the end of what it may.
        #expect(try ask("POST", "vms", vm("x", priority: 0, tenant: "default")).hasSuffix(" 403"))
        #expect(try ask("POST", "hosts/n1/cordon").hasSuffix(" 403"))
        try cluster.wait("the refusals are in the audit") {
            let audit = try cluster.ask(1, "audit", "--root", "-o", "json").output
            return audit.contains("forbidden") && audit.contains("manage hosts") && audit.contains("token ")
        }
        #expect(try cluster.ask(1, "vm", "delete", "a", "b", "d", "--tenant", "shop", "--wait").status == 0)
        #expect(try cluster.ask(3, "tenant", "delete", "shop").status == 0)
        // Its token has ended with it, and does not reach one that is made again under its name.
        try cluster.wait("the token has ended") { try ask("GET", "vms").hasSuffix(" 401") }
        #expect(try cluster.ask(1, "tenant", "set", "shop", "--vms", "5").status == 0)
        let late = try ask("POST", "vms", vm("a", priority: 0))
        #expect(late.hasSuffix(" 401"), "\(late)")
        #expect(try !cluster.ask(1, "token", "list", "-o", "json").output.contains("tenant:shop"))
        let nobody = try cluster.ask(1, "token", "create", "--role", "tenant:nobody:read")
        #expect(nobody.status == 3 && nobody.complaint.contains("nobody"), "\(nobody.complaint)")
    }
}
