import Foundation
import Testing

/// Storage domains of real hosts, whose file systems are mounted or not.
@Suite(.serialized, .enabled(if: MachineOfQEMU.isHere, "there is no QEMU (Debian: qemu-system-x86, qemu-utils)"))
struct StorageDomainTests {
    @Test
    func `a directory where a storage domain is not mounted is offered to no VM, and gets no disk`() throws {
        let cluster = try LocalCluster { folder, node in
            // Asked for again and again.
            try? FileManager.default.createDirectory(
                at: folder.file("s\(node)/fast"), withIntermediateDirectories: true)
            return [
                "--hypervisor-driver", "qemu", "--hypervisor-images", folder.url.path, "--hypervisor-storage",
                folder.file("s\(node)").path, "--host-storage-domains", "fast",
            ]
        }
        func files(_ place: String) throws -> [String] {
            try FileManager.default.contentsOfDirectory(atPath: cluster.folder.file(place).path).sorted()
        }
        func shown(_ host: String) throws -> String { try cluster.ask(1, "host", "show", host, "-o", "json").output }
        // New to the whole cluster: its first host begins it.
        try cluster.wait("the domain is begun") {
            try shown("n1").contains("\"storageDomains\":[\"fast\"]") && files("s1/fast") == [".muster-domain"]
        }
        // The next hosts have an empty directory, as where nothing is mounted.
        try cluster.grow()
        try cluster.wait("the other host says what is wrong") {
            try shown("n2").contains("muster host mark n2 fast")
        }
        #expect(try shown("n2").contains("\"storageDomains\":[]") && files("s2/fast").isEmpty)
        try cluster.waitForLog(2, "has no mark of the storage domain 'fast'")
        let made = try cluster.ask(
            1, "vm", "create", "a", "--cpu", "1", "--memory", "32MiB", "--disk", "name=root,size=4MiB,kind=shared:fast",
            "--wait")
        #expect(made.status == 0, "\(made.complaint)")
        #expect(try cluster.hosts(ofVMs: "a") == ["n1"])
        let explained = try cluster.ask(2, "vm", "explain", "a", "--host", "n2", "-o", "json").output
        #expect(explained.contains("muster host mark n2 fast"), "\(explained)")
        try isUnmounted(cluster, files, shown)
        try isMarked(cluster, files, shown)
    }

    /// While the VM is stopped its domain goes away, and comes back.
    private func isUnmounted(
        _ cluster: LocalCluster, _ files: (String) throws -> [String], _ shown: (String) throws -> String
    ) throws {
        let (fast, away) = (cluster.folder.file("s1/fast"), cluster.folder.file("s1/away"))
        let disks = try files("s1/fast")
        #expect(disks.count == 2, "\(disks)")
        let stopped = try cluster.ask(1, "vm", "stop", "a", "--wait")
        #expect(stopped.status == 0, "\(stopped.complaint)")
        try FileManager.default.moveItem(at: fast, to: away)
        try FileManager.default.createDirectory(at: fast, withIntermediateDirectories: true)
        // At once, before its host has noticed.
        #expect(try cluster.ask(1, "vm", "start", "a").status == 0)
        try cluster.wait("it can't start, and says why") {
            try cluster.ask(1, "vm", "show", "a", "-o", "json").output.contains("in the storage domain 'fast'")
        }
        try cluster.wait("its host notices") { try shown("n1").contains("muster host mark n1 fast") }
        #expect(try files("s1/fast").isEmpty, "no blank disk takes the place of the one that is elsewhere")
        try FileManager.default.removeItem(at: fast)
        try FileManager.default.moveItem(at: away, to: fast)
        try cluster.wait("it is mounted again") { try shown("n1").contains("\"storageDomains\":[\"fast\"]") }
        let again = try cluster.ask(1, "vm", "restart", "a", "--wait")
        #expect(again.status == 0, "\(again.complaint)")
        #expect(try files("s1/fast") == disks)
    }

    /// An operator says which storage is the domain.
    private func isMarked(
        _ cluster: LocalCluster, _ files: (String) throws -> [String], _ shown: (String) throws -> String
    ) throws {
        let wrong = try cluster.ask(1, "host", "mark", "n2", "fast")
        #expect(wrong.status == 4 && wrong.complaint.contains("host n1 reaches"), "\(wrong.complaint)")
        let other = try cluster.ask(1, "host", "mark", "n2", "slow")
        #expect(other.status == 4 && other.complaint.contains("host.storage-domains"), "\(other.complaint)")
        #expect(try files("s2/fast").isEmpty)
        let forced = try cluster.ask(1, "host", "mark", "n2", "fast", "--force")
        #expect(forced.status == 0, "\(forced.complaint)")
        try cluster.wait("the other host has the domain, and the first none") {
            try shown("n2").contains("\"storageDomains\":[\"fast\"]") && shown("n1").contains("\"storageDomains\":[]")
        }
        #expect(try files("s2/fast") == [".muster-domain"])
        let back = try cluster.ask(2, "host", "mark", "n1", "fast", "--force")
        #expect(back.status == 0, "\(back.complaint)")
        try cluster.wait("all is as it was") {
            try shown("n1").contains("\"storageDomains\":[\"fast\"]") && shown("n2").contains("\"storageDomains\":[]")
        }
        #expect(try cluster.ask(1, "audit", "--root", "-o", "json").output.contains("domain.marked"))
    }
}
