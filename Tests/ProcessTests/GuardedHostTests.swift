import Foundation
import Testing

enum MachineOfQEMU {
    static let isHere = ["/usr/bin/qemu-system-x86_64", "/usr/bin/qemu-img"].allSatisfy {
        FileManager.default.isExecutableFile(atPath: $0)
    }
}

/// Three real agents with the QEMU driver and their guards. The guest is a machine without a disk, which sits in its firmware:
/// what counts here is whether its process lives.
@Suite(.serialized, .enabled(if: MachineOfQEMU.isHere, "there is no QEMU (Debian: qemu-system-x86, qemu-utils)"))
struct GuardedHostTests {
    @Test
    func `a guest outlives its killed and its stopped agent, not its guard and not the lease`() throws {
        let cluster = try LocalCluster { folder, _ in
            [
                "--hypervisor-driver", "qemu", "--hypervisor-images", folder.url.path, "--hypervisor-storage",
                folder.file("storage").path,
            ]
        }
        try cluster.grow()
        try cluster.wait("all hosts have reported") {
            try cluster.names(1, "host", "list", "--filter", "state=ready").count == 3
        }
        let made = try cluster.ask(1, "vm", "create", "a", "--cpu", "1", "--memory", "32MiB", "--wait")
        #expect(made.status == 0, "\(made.complaint)")
        let host = try #require(Int(try cluster.hosts(ofVMs: "a")[0].dropFirst()))
        let other = host % 3 + 1
        let guests = { cluster.others(with: cluster.folder.file("n\(host)/vms").path, program: "qemu") }
        let guards = { cluster.others(with: cluster.folder.file("n\(host)").path, program: "muster-guard") }
        let first = guests()
        #expect(first.count == 1)
        #expect(guards().count == 1)

        // Longer than the lease and what a leader waits beyond it.
        cluster.kill9(host)
        let killedAt = Date()
        while Date().timeIntervalSince(killedAt) < 5 {
            #expect(guests() == first)
            usleep(200_000)
        }
        #expect(try cluster.names(other, "vm", "list", "--filter", "phase=running") == ["a"])
        try cluster.start(host)
        try cluster.wait("the agent is back") { try cluster.ask(host, "vm", "show", "a").status == 0 }
        cluster.signal(host, SIGSTOP)
        usleep(5_000_000)
        cluster.signal(host, SIGCONT)
        usleep(1_000_000)
        #expect(guests() == first)

        // The guard's end is its guests', and the host starts the VM again under a new one.
        let guarding = try #require(guards().first)
        kill(guarding, SIGKILL)
        try cluster.wait("the guest is gone") { !guests().contains(first[0]) }
        try cluster.wait("another copy runs") { guests().count == 1 && guests() != first }
        try cluster.wait("the cell knows it") {
            try cluster.names(other, "vm", "list", "--filter", "phase=running") == ["a"]
        }
        #expect(
            try cluster.ask(other, "vm", "show", "a", "-o", "json").output.contains("\"restarts\":0"),
            "that was no crash of its own")

        // Nobody answers any more: the last grant was asked for before this moment.
        let now = try cluster.hosts(ofVMs: "a", at: other)[0]
        let last = cluster.others(with: cluster.folder.file("\(now)/vms").path, program: "qemu")
        #expect(last.count == 1)
        for node in 1...3 { cluster.signal(node, SIGSTOP) }
        let stoppedAt = Date()
        while cluster.others(with: cluster.folder.file("\(now)/vms").path, program: "qemu") == last,
            Date().timeIntervalSince(stoppedAt) < 10
        { usleep(5_000) }
        let took = Date().timeIntervalSince(stoppedAt)
        print("all agents stopped: the guest was gone after \(Int(took * 1_000)) ms of a lease of 3000")
        #expect(took < 3)
        for node in 1...3 { cluster.signal(node, SIGCONT) }
    }
}
