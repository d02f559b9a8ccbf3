import Foundation
import Testing

/// Three real agents whose guests run as users of their own. The guests are machines that sit in their firmware.
@Suite(
    .serialized, .enabled(if: MachineOfQEMU.isHere, "there is no QEMU (Debian: qemu-system-x86, qemu-utils)"),
    .enabled(if: geteuid() == 0, "guests can't run as another user: the tests are not run as root"))
struct GuestUserTests {
    private static let users = 2_000_000...2_065_535

    private func status(_ process: Int32, _ heading: String) -> String {
        let text = String(
            decoding: FileManager.default.contents(atPath: "/proc/\(process)/status") ?? Data(), as: UTF8.self)
        let line = text.split(separator: "\n").first { $0.hasPrefix(heading + ":") }
        return line?.split(whereSeparator: \.isWhitespace).dropFirst().joined(separator: " ") ?? ""
    }

    /// The user of a process without rights; nil for one with some.
    private func user(_ process: Int32) -> Int? {
        guard status(process, "CapEff") == "0000000000000000", status(process, "CapPrm") == "0000000000000000" else {
            return nil
        }
        let all = Set(status(process, "Uid").split(separator: " "))
        return all.count == 1 ? all.first.flatMap { Int($0) } : nil
    }

    @Test
    func `a VM's processes are a user's without rights wherever it is, and stay when its agent is killed`() throws {
        let cluster = try LocalCluster { folder, _ in
            try? FileManager.default.createDirectory(
                at: folder.file("storage/fast"), withIntermediateDirectories: true)
            return [
                "--hypervisor-driver", "qemu", "--hypervisor-images", folder.url.path, "--hypervisor-storage",
                folder.file("storage").path, "--host-storage-domains", "fast", "--hypervisor-user",
                "\(GuestUserTests.users.lowerBound)-\(GuestUserTests.users.upperBound)",
            ]
        }
        // What is above the agents' own directories is the operator's to open.
        for path in [cluster.folder.url.path, cluster.folder.file("storage/fast").path] { chmod(path, 0o711) }
        try cluster.grow()
        try cluster.wait("all hosts have reported, and whom their guests run as") {
            try cluster.names(1, "host", "list", "--filter", "state=ready").count == 3
                && cluster.ask(1, "host", "show", "n3", "-o", "json").output.contains(
                    "guests run as users of their own, 2000000 to 2065535")
        }
        let file = cluster.folder.file("base.img")
        try Data((0..<(2 << 20)).map { UInt8(truncatingIfNeeded: $0 / 509) }).write(to: file)
        let added = try cluster.ask(1, "image", "add", "base", file.path)
        #expect(added.status == 0, "\(added.complaint)")
        let made = try cluster.ask(
            1, "vm", "create", "a", "--cpu", "1", "--memory", "32MiB", "--disk",
            "name=root,size=8MiB,kind=ephemeral,image=base", "--disk", "name=data,size=8MiB,kind=shared:fast", "--wait")
        let shown = try cluster.ask(1, "vm", "show", "a", "-o", "json").output
        #expect(made.status == 0, "\(made.complaint)\(shown)")
        func host() throws -> Int { try #require(Int(try cluster.hosts(ofVMs: "a")[0].dropFirst())) }
        func guests(_ node: Int) -> [Int32] {
            cluster.others(with: cluster.folder.file("n\(node)/vms").path, program: "qemu")
        }
        let first = try host()
        let processes = guests(first)
        #expect(processes.count == 1)
        let its = try #require(processes.first.flatMap { user($0) })
        #expect(GuestUserTests.users.contains(its))

        // The next agent takes it over, and it goes on as who it is.
        cluster.kill9(first)
        usleep(1_000_000)
        try cluster.start(first)
        try cluster.wait("the agent is back") { try cluster.ask(first, "vm", "show", "a").status == 0 }
        #expect(guests(first) == processes)

        // At its next host it is the same user, and what it had goes with it.
        let target = first % 3 + 1
        let moved = try cluster.ask(target, "vm", "migrate", "a", "--to", "n\(target)", "--wait")
        #expect(moved.status == 0, "\(moved.complaint)\n\(cluster.log(first).suffix(3_000))")
        let arrived = guests(target)
        #expect(arrived.count == 1 && arrived.first.flatMap { user($0) } == its)
        try cluster.wait("nothing of it is left where it was") { guests(first).isEmpty }

        // It ends with its guard, and is started again as it was.
        let guardian = try #require(
            cluster.others(with: cluster.folder.file("n\(target)").path, program: "muster-guard").first)
        kill(guardian, SIGKILL)
        try cluster.wait("the guest is gone") { !guests(target).contains(arrived[0]) }
        try cluster.wait("another copy runs") {
            let now = try host()
            return guests(now).count == 1 && guests(now) != arrived && guests(now).first.flatMap { user($0) } == its
        }
    }
}
