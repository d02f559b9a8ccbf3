import Foundation
import Testing

/// What a guest that boots needs of this machine.
enum GuestMachine {
    static let kernel: String? = {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "/boot")) ?? []
        return names.filter { $0.hasPrefix("vmlinuz-") }.sorted().last.map { "/boot/" + $0 }
    }()
    static let isHere =
        MachineOfQEMU.isHere && kernel != nil && FileManager.default.isExecutableFile(atPath: "/usr/bin/busybox")
        && FileManager.default.isExecutableFile(atPath: "/usr/bin/python3")
}

/// Three real agents that share nothing but a bridge, each in a network namespace with directories of its own, and a real
/// guest that counts aloud.
@Suite(
    .serialized,
    .enabled(if: GuestMachine.isHere, "no QEMU, kernel, busybox or Python 3 on this machine"),
    .enabled(if: SeparateNetworks.isPossible, "network namespaces can't be made here: not root"))
struct MoveTests {
    private static func console(_ cluster: LocalCluster, _ node: Int) -> String? {
        let vms = cluster.folder.file("n\(node)/vms").path
        let names = (try? FileManager.default.contentsOfDirectory(atPath: vms)) ?? []
        return names.first { UInt64($0) != nil }.map { "\(vms)/\($0)/serial.log" }
    }

    private static func ticks(_ data: Data) -> [Int] {
        String(decoding: data, as: UTF8.self).split(whereSeparator: \.isNewline).compactMap {
            $0.hasPrefix("tick ") ? Int($0.dropFirst(5)) : nil
        }
    }

    /// What the guest said on a host, as its numbers.
    private static func ticks(_ cluster: LocalCluster, _ node: Int) -> [Int] {
        ticks(console(cluster, node).flatMap { FileManager.default.contents(atPath: $0) } ?? Data())
    }

    /// Three hosts, and a guest that counts. Gives its first host.
    private static func make(_ network: SeparateNetworks, _ words: [String] = []) throws -> (LocalCluster, Int) {
        let cluster = try LocalCluster(on: network) { folder, node in
            [
                "--hypervisor-driver", "qemu", "--hypervisor-images", folder.file("images").path,
                "--hypervisor-storage", folder.file("storage-\(node)").path, "--log-level", "debug",
            ]
        }
        let images = cluster.folder.file("images")
        try FileManager.default.createDirectory(at: images, withIntermediateDirectories: true)
        try FileManager.default.copyItem(
            atPath: try #require(GuestMachine.kernel), toPath: images.appendingPathComponent("kernel").path)
        let tool = Process()
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        tool.executableURL = URL(fileURLWithPath: "/usr/bin/python3")
        tool.arguments = [
            root.appendingPathComponent("Tools/make-initrd").path, images.appendingPathComponent("initrd").path,
        ]
        try tool.run()
        tool.waitUntilExit()
        try cluster.grow()
        try cluster.wait("all hosts have reported") {
            try cluster.names(1, "host", "list", "--filter", "state=ready").count == 3
        }
        let made = try cluster.run(
            [
                "vm", "create", "a", "--cpu", "1", "--memory", "128MiB", "--annotation", "qemu.kernel=kernel",
                "--annotation", "qemu.initrd=initrd", "--annotation",
                "qemu.append=console=ttyS0 quiet panic=-1 dirty", "--wait",
            ] + words, at: 1)
        #expect(made.status == 0, "\(made.complaint)")
        let host = try #require(Int(try cluster.hosts(ofVMs: "a")[0].dropFirst()))
        try cluster.wait("the guest counts") { MoveTests.ticks(cluster, host).contains { $0 >= 50 } }
        return (cluster, host)
    }

    @Test
    func `a guest's disk moves with it, and back, and after a move that is called off nothing of it is left`() throws {
        let network = try SeparateNetworks(3)
        let (cluster, first) = try MoveTests.make(network, ["--disk", "name=data,size=64MiB,kind=local"])
        var host = first
        func disk(_ node: Int) -> String {
            let vms = cluster.folder.file("n\(node)/vms").path
            let names = (try? FileManager.default.contentsOfDirectory(atPath: vms)) ?? []
            return "\(vms)/\(names.first { UInt64($0) != nil } ?? "none")/local-data.raw"
        }
        // What is on it: the guest has no driver for it, and does not write.
        let bytes = Data((0..<(24 << 20)).map { UInt8(truncatingIfNeeded: ($0 &* 2_654_435_761) >> 16) })
        let file = try #require(FileHandle(forWritingAtPath: disk(host)))
        try file.seek(toOffset: 16 << 20)
        try file.write(contentsOf: bytes)
        try file.close()
        let all = try #require(FileManager.default.contents(atPath: disk(host)))
        for _ in 0..<2 {
            let target = host % 3 + 1
            let before = try #require(MoveTests.ticks(cluster, host).last)
            let moved = try cluster.ask(target, "vm", "migrate", "a", "--to", "n\(target)", "--wait")
            #expect(moved.status == 0, "\(moved.complaint)\n\(cluster.log(host).suffix(3_000))")
            try cluster.wait("it counts on where it is now") { (MoveTests.ticks(cluster, target).last ?? 0) > before }
            #expect(FileManager.default.contents(atPath: disk(target)) == all)
            let left = disk(host)
            try cluster.wait("its source has nothing of it any more") { !FileManager.default.fileExists(atPath: left) }
            host = target
        }
        #expect(try cluster.ask(1, "setting", "set", "bulk-rate", "2MiB").status == 0)
        let target = host % 3 + 1
        #expect(try cluster.ask(1, "vm", "migrate", "a", "--to", "n\(target)").status == 0)
        try cluster.wait("some of its disk is there") {
            let list = try cluster.ask(1, "migration", "list", "-o", "json").output
            return list.contains("\"diskMiB\":64") && FileManager.default.fileExists(atPath: disk(target))
        }
        #expect(try cluster.ask(1, "vm", "migrate", "a", "--cancel").status == 0)
        try cluster.wait("nothing of it is left at the target") {
            !FileManager.default.fileExists(atPath: disk(target))
        }
        let last = MoveTests.ticks(cluster, host).last ?? 0
        try cluster.wait("it counts on where it was") { (MoveTests.ticks(cluster, host).last ?? 0) > last + 20 }
        #expect(FileManager.default.contents(atPath: disk(host)) == all)
    }

    @Test func `a guest goes to another cell while it runs, and back, and one that is called off stays where it is`()
        throws
    {
        let network = try SeparateNetworks(3)
        let (cluster, first) = try MoveTests.make(network)
        let second = first % 3 + 1
        #expect(try cluster.ask(1, "cell", "create", "more").status == 0)
        try cluster.wait("the second cell has its voters") {
            try cluster.ask(3, "cell", "show", "more", "-o", "json").output.contains("\"state\":\"ready\"")
        }
        #expect(try cluster.ask(1, "cell", "assign", "n\(second)", "more").status == 0)
        try cluster.wait("it has a host") {
            try cluster.names(1, "host", "list", "--cell", "more", "--filter", "state=ready") == ["n\(second)"]
        }
        // Its guard takes no grant of a younger cell before the lease of the one before has ended, three seconds after.
        sleep(5)
        for (host, target, cell) in [(first, second, "more"), (second, first, "default")] {
            if cell == "default" {
                // The other host of that cell would do as well.
                #expect(try cluster.ask(1, "host", "cordon", "n\(6 - first - second)").status == 0)
            }
            let before = try #require(MoveTests.ticks(cluster, host).last)
            let moved = try cluster.ask(target, "vm", "migrate", "a", "--cell", cell, "--wait")
            #expect(moved.status == 0, "\(moved.complaint)\n\(cluster.log(host).suffix(3_000))")
            try cluster.wait("it counts on where it is now") { (MoveTests.ticks(cluster, target).last ?? 0) > before }
            try cluster.wait("its cell knows that it runs") {
                try cluster.ask(target, "vm", "show", "a", "-o", "json").output.contains("\"phase\":\"running\"")
            }
            let history = try cluster.ask(1, "vm", "history", "a").output
            #expect(history.contains("vm.arrived") && !history.contains("vm.released"), "\(history)")
            let ticks = MoveTests.ticks(cluster, target)
            #expect(ticks.allSatisfy { $0 > 2 }, "it began anew: \(ticks.prefix(9))")
        }
        let last = try #require(MoveTests.ticks(cluster, first).last)
        #expect(try cluster.ask(1, "setting", "set", "bulk-rate", "2MiB").status == 0)
        #expect(try cluster.ask(1, "vm", "migrate", "a", "--cell", "more").status == 0)
        try cluster.wait("some of it is there") {
            try cluster.ask(1, "vm", "show", "a", "-o", "json").output.contains("\"migration\"")
        }
        #expect(try cluster.ask(1, "vm", "migrate", "a", "--cancel").status == 0)
        try cluster.wait("it is in its cell alone") {
            let shown = try cluster.ask(1, "vm", "show", "a", "-o", "json").output
            return !shown.contains("\"toCell\"") && shown.contains("\"phase\":\"running\"")
        }
        try cluster.wait("it counts on where it was") { (MoveTests.ticks(cluster, first).last ?? 0) > last + 20 }
        try cluster.wait("nothing of it is left there") {
            try cluster.names(1, "vm", "list", "--cell", "more").isEmpty
        }
    }

    @Test
    func `a guest that writes a lot is foretold to stay gently, stays with the reason, and goes when it is to go now`()
        throws
    {
        let network = try SeparateNetworks(3)
        let (cluster, host) = try MoveTests.make(network)
        let (target, third) = (host % 3 + 1, (host + 1) % 3 + 1)
        #expect(try cluster.ask(1, "setting", "set", "bulk-rate", "6MiB").status == 0)
        // Each node hears of the rate in its own time, and the guest writes all of its memory anew in a second.
        var said = ""
        try cluster.wait("a dry run says that it stays") {
            said = try cluster.ask(third, "vm", "migrate", "a", "--intent", "gentle", "--dry-run").output
            return said.contains("forecast, gentle: it comes to no end")
        }
        print(said)
        #expect(said.contains("with the intent balanced it comes to an end"), "\(said)")
        let forecast = try cluster.shell(
            "curl -sk --cert $MUSTER_IDENTITY/cert.pem --key $MUSTER_IDENTITY/key.pem "
                + "https://$MUSTER_ADDRESS/v1/vms/a/forecast", at: third
        ).output
        #expect(forecast.contains("\"host\":\"n\(host)\"") && forecast.contains("dirtyMiBps"), "\(forecast)")

        #expect(
            try cluster.ask(third, "vm", "migrate", "a", "--to", "n\(target)", "--intent", "gentle").status == 0)
        #expect(try cluster.ask(third, "migration", "list", "-o", "json").output.contains("\"intent\":\"gentle\""))
        try cluster.wait("the gentle move is given up") {
            try cluster.ask(third, "migration", "list", "-o", "name").output.isEmpty
        }
        let events = try cluster.ask(third, "vm", "history", "a").output
        #expect(events.contains("vm.migration-failed"), "\(events)")
        #expect(events.contains("a gentle move stops it for 2 s at most"), "\(events)")
        let last = MoveTests.ticks(cluster, host).last ?? 0
        try cluster.wait("it counts on where it was") { (MoveTests.ticks(cluster, host).last ?? 0) > last + 20 }

        let moved = try cluster.ask(
            third, "vm", "migrate", "a", "--to", "n\(target)", "--intent", "now", "--wait")
        #expect(moved.status == 0, "\(moved.complaint)\n\(cluster.log(host).suffix(3_000))")
        try cluster.wait("it counts at the target") { !MoveTests.ticks(cluster, target).isEmpty }
    }

    @Test
    func `a guest moves between machines that share nothing, and one whose way is cut or is called off stays`() throws {
        let network = try SeparateNetworks(3)
        let (cluster, first) = try MoveTests.make(network)
        var host = first
        let guests = { (node: Int) in
            cluster.others(with: cluster.folder.file("n\(node)/vms").path, program: "qemu")
        }

        // There and back.
        for _ in 0..<2 {
            let target = host % 3 + 1
            // It is there until the copy that wrote it is thrown away, and after that for whoever has it open.
            let left = try #require(MoveTests.console(cluster, host).flatMap { FileHandle(forReadingAtPath: $0) })
            let began = Date()
            let moved = try cluster.ask(target, "vm", "migrate", "a", "--to", "n\(target)", "--wait")
            #expect(moved.status == 0, "\(moved.complaint)\n\(cluster.log(host).suffix(3_000))")
            print("moved from n\(host) to n\(target) in \(Int(Date().timeIntervalSince(began) * 1_000)) ms")
            try cluster.waitForLog(host, "a VM's memory was sent")
            let before = try #require(MoveTests.ticks(try left.readToEnd() ?? Data()).last)
            try cluster.wait("it counts on where it is now") {
                (MoveTests.ticks(cluster, target).last ?? 0) > before
            }
            let first = try #require(MoveTests.ticks(cluster, target).first { $0 > before })
            #expect(first - before <= 3, "it went on at \(first) after \(before)")
            try cluster.wait("the other copy is gone") { guests(host).isEmpty && guests(target).count == 1 }
            host = target
        }

        // So slow that it never gets there by itself.
        #expect(try cluster.ask(1, "setting", "set", "bulk-rate", "2MiB").status == 0)
        let target = host % 3 + 1
        let third = target % 3 + 1
        func begin() throws {
            let begun = try cluster.ask(third, "vm", "migrate", "a", "--to", "n\(target)")
            #expect(begun.status == 0, "\(begun.complaint)")
            try cluster.wait("some of it is copied") {
                let list = try cluster.ask(third, "migration", "list", "-o", "json").output
                return list.contains("progressMillis") && !list.contains("\"progressMillis\":0")
            }
        }
        func countsOn() throws {
            let last = MoveTests.ticks(cluster, host).last ?? 0
            try cluster.wait("it counts on where it was") { (MoveTests.ticks(cluster, host).last ?? 0) > last + 20 }
        }
        try begin()
        #expect(try cluster.ask(third, "vm", "migrate", "a", "--cancel").status == 0)
        try cluster.wait("nothing of it is left at the target") { guests(target).isEmpty }
        try countsOn()

        // An agent is killed at either end; the guest does not notice, and who comes back finds it.
        for killed in [host, target] {
            try begin()
            cluster.kill9(killed)
            try countsOn()
            try cluster.start(killed)
            try cluster.wait("the move is over") {
                try cluster.ask(third, "migration", "list", "-o", "name").output.isEmpty
            }
            try cluster.wait("nothing of it is left at the target") { guests(target).isEmpty }
            #expect(guests(host).count == 1)
            try countsOn()
            try cluster.wait("all hosts are ready") {
                try cluster.names(third, "host", "list", "--filter", "state=ready").count == 3
            }
        }

        try begin()
        let atCut = MoveTests.ticks(cluster, host).last ?? 0
        try network.cut(target, true)
        try cluster.wait("the move is given up") {
            try !cluster.ask(third, "migration", "list", "-o", "json").output.contains("\"copying\"")
        }
        try countsOn()
        #expect((MoveTests.ticks(cluster, host).last ?? 0) > atCut)
        try cluster.wait("the guest at the target ended with its lease") { guests(target).isEmpty }
        try network.cut(target, false)
        #expect(try cluster.ask(third, "setting", "set", "bulk-rate", "1GiB").status == 0)
        try cluster.wait("the target is back") {
            try cluster.names(third, "host", "list", "--filter", "state=ready").count == 3
        }
        try cluster.wait("the broken move is over") {
            try cluster.ask(third, "migration", "list", "-o", "name").output.isEmpty
        }
        let moved = try cluster.ask(third, "vm", "migrate", "a", "--to", "n\(target)", "--wait")
        #expect(moved.status == 0, "\(moved.complaint)")
        try cluster.wait("it counts at the target") { !guests(target).isEmpty && guests(host).isEmpty }
        // It never went back, wherever it was.
        for node in 1...3 {
            let all = MoveTests.ticks(cluster, node)
            #expect(zip(all, all.dropFirst()).allSatisfy { $0 < $1 })
        }
    }
}
