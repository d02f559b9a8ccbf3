import Foundation
import Testing

/// What clients of the other nodes see of a leader that no longer does its work; the short form of `Tools/bench-failover`, on a
/// machine that other tests use too. The leader stays as it is until the clients are done: no write is acknowledged again before
/// another node leads.
@Suite(.serialized) struct FailoverTests {
    /// Far above what `Tools/BENCHMARKS.md` says of a machine at rest, far below the time that the leader is away.
    private static let gapMax = 2_000.0

    /// The longest time without an acknowledged write, in milliseconds, while something is done to the leader.
    private func gap(_ cluster: LocalCluster, _ strike: (Int) throws -> Void) throws -> Double {
        try cluster.grow()
        #expect(try cluster.ask(2, "space", "create", "box").status == 0)
        try cluster.wait("the space is ready") { try cluster.ask(3, "kv", "put", "box", "warm", "up").status == 0 }
        let row = try cluster.ask(1, "space", "list", "--output", "json").output
        let leader = try #require((1...3).first { row.contains("\"leader\":\"n\($0)\"") }, "\(row)")
        let said = cluster.folder.file("load")
        try Data().write(to: said)
        let load = Process()
        load.executableURL = try MusterRun.binary()
        load.arguments = [
            "bench", "admin", "--identity", cluster.folder.file("n1/operator").path, "--space", "box", "--clients", "4",
            "--seconds", "6", "--address",
            (1...3).filter { $0 != leader }.map { cluster.address($0) }.joined(separator: ","),
        ]
        load.standardOutput = try FileHandle(forWritingTo: said)
        load.standardError = load.standardOutput
        try load.run()
        usleep(1_500_000)
        try strike(leader)
        load.waitUntilExit()
        let text = try String(contentsOf: said, encoding: .utf8)
        let words = try #require(
            text.components(separatedBy: "longest gap ").last?.split(separator: " ").first, "\(text)")
        let gap = try #require(Double(words), "\(text)")
        let now = try cluster.ask(leader % 3 + 1, "space", "list", "--output", "json").output
        #expect(!now.contains("\"leader\":\"n\(leader)\""), "\(now)")
        return gap
    }

    /// Once it can work again, a node answers with what was written without it.
    private func comesBack(_ cluster: LocalCluster) throws {
        #expect(try cluster.ask(2, "kv", "put", "box", "after", "it").status == 0)
        for node in 1...3 {
            try cluster.wait("node \(node) answers") {
                try cluster.ask(node, "kv", "get", "box", "after").output == "it"
            }
        }
    }

    @Test func `a leader that is frozen is followed by another`() throws {
        let cluster = try LocalCluster()
        var frozen = 0
        let gap = try gap(cluster) { leader in
            frozen = leader
            cluster.signal(leader, SIGSTOP)
        }
        #expect(gap < FailoverTests.gapMax)
        let other = frozen == 1 ? 2 : 1
        func state() throws -> String { try cluster.ask(other, "node", "show", "n\(frozen)").output }
        try cluster.wait("its silence is shown, for all that its connections stand") {
            try state().contains("silent")
        }
        cluster.signal(frozen, SIGCONT)
        try comesBack(cluster)
        try cluster.wait("it is shown as up again") { try state().contains(" up") }
    }

    @Test func `a frozen node that shares no group with the one that is asked is silent within half a minute`() throws {
        let cluster = try LocalCluster({ _, _ in ["--node-region", "north"] })
        try cluster.grow(to: 4)
        #expect(try cluster.ask(1, "setting", "set", "root-standbys", "0").status == 0)
        let frozen = try #require(try (2...4).first { try cluster.role($0) != "voter" })
        try cluster.wait("it stands by no more") { try cluster.role(frozen) == "member" }
        try cluster.wait("it has a replica of no group") {
            try !Asked.get("/metrics", at: frozen, of: cluster).body.contains("muster_group_term{")
        }
        func state(_ asked: Int) throws -> String {
            try cluster.ask(asked, "node", "list").output.split(separator: "\n").first { $0.contains("n\(frozen) ") }
                .map(String.init) ?? ""
        }
        let asked = (1...4).filter { $0 != frozen }
        try cluster.wait("all see it") { try asked.allSatisfy { try state($0).contains(" up") } }
        cluster.signal(frozen, SIGSTOP)
        let since = Date()
        try cluster.wait("its silence is shown, for all that its connections stand") {
            try asked.allSatisfy { try state($0).contains("silent") }
        }
        #expect(Date().timeIntervalSince(since) < 30)
        let region = try cluster.ask(asked[0], "region", "list", "--output", "json").output
        #expect(region.contains("\"reached\":3"), "\(region)")
        cluster.signal(frozen, SIGCONT)
        try cluster.wait("it is shown as up again") { try asked.allSatisfy { try state($0).contains(" up") } }
        try cluster.wait("it answers") { try cluster.ask(frozen, "node", "list").status == 0 }
        // It was itself that stood still, and nobody else.
        for other in asked { #expect(try cluster.metric("muster_peer_silences_total", at: other) ?? 0 >= 1) }
        #expect(try cluster.metric("muster_peer_silences_total", at: frozen) == 0)
    }

    @Test(.enabled(if: SeparateNetworks.isPossible))
    func `a leader whose network is gone without a word is followed by another`() throws {
        let network = try SeparateNetworks(3)
        let cluster = try LocalCluster(on: network)
        var cut = 0
        let gap = try gap(cluster) { leader in
            cut = leader
            try network.cut(leader, true)
        }
        #expect(gap < FailoverTests.gapMax)
        try network.cut(cut, false)
        try comesBack(cluster)
    }

    @Test func `a leader whose disk is frozen hands over, and its clients wait no longer than that takes`() throws {
        let tools = try TemporaryFolder()
        let library = try Preload.build("chaos-fault", in: tools)
        let cluster = try LocalCluster(surroundings: { folder, node in
            ["LD_PRELOAD=\(library.path)", "CHAOS_FAULT=\(folder.file("fault-\(node)").path)"]
        })
        var fault = tools.file("none")
        let gap = try gap(cluster) { leader in
            fault = cluster.folder.file("fault-\(leader)")
            try Data("freeze".utf8).write(to: fault)
        }
        #expect(gap < FailoverTests.gapMax)
        try FileManager.default.removeItem(at: fault)
        try comesBack(cluster)
    }

    @Test(.enabled(if: FrozenDisk.isPossible))
    func `the connections of a killed agent end at once, though a thread of it waits for its disk`() throws {
        let disk = FrozenDisk()
        let cluster = try LocalCluster { folder, node in
            if node == 1 { disk.mount(at: folder.file("n1")) }
            return []
        }
        defer {
            disk.freeze(false)
            cluster.kill9(1)
            disk.unmount()
        }
        #expect(disk.isMounted)
        #expect(try cluster.ask(1, "space", "create", "box").status == 0)
        try cluster.wait("the space is ready") { try cluster.ask(1, "kv", "put", "box", "k", "1").status == 0 }
        let connection = try OpenConnection(to: cluster.address(1))
        disk.freeze(true)
        // Its root, alone in the group, writes a pulse every second.
        try cluster.wait("a thread waits for the disk") { cluster.threads(1).contains { $0.state == "D" } }
        let before = Date()
        cluster.signal(1, SIGKILL)
        #expect(connection.ends(within: 5))
        #expect(Date().timeIntervalSince(before) < 1)
        #expect(cluster.threads(1).contains { $0.state == "D" })
    }
}

/// A small file system of its own, which can stand still.
final class FrozenDisk {
    private let image: TemporaryFolder?
    private var place: String?
    private var isFrozen = false

    static let isPossible: Bool = {
        let disk = FrozenDisk()
        guard getuid() == 0, let image = disk.image else { return false }
        let place = image.file("try")
        disk.mount(at: place)
        defer { disk.unmount() }
        return disk.isMounted && disk.freeze(true) && disk.freeze(false)
    }()

    // Without a folder nothing can be mounted.
    init() { image = try? TemporaryFolder() }

    var isMounted: Bool { place != nil }

    /// Once; what is mounted already stays.
    func mount(at place: URL) {
        guard self.place == nil, let file = image?.file("disk").path else { return }
        let words = [
            ["truncate", "--size", "512M", file], ["mkfs.ext4", "-q", "-F", file], ["mkdir", "-p", place.path],
            ["mount", "-o", "loop", file, place.path],
        ]
        if words.allSatisfy(FrozenDisk.run) { self.place = place.path }
    }

    @discardableResult
    func freeze(_ wanted: Bool) -> Bool {
        guard let place, wanted != isFrozen else { return !wanted }
        isFrozen = wanted
        return FrozenDisk.run(["fsfreeze", wanted ? "--freeze" : "--unfreeze", place])
    }

    /// When nobody uses it any more.
    func unmount() {
        guard let place else { return }
        freeze(false)
        for _ in 0..<50 where !FrozenDisk.run(["umount", place]) { usleep(100_000) }
        self.place = nil
    }

    private static func run(_ words: [String]) -> Bool {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = words
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        // What can't be started did not succeed.
        guard (try? process.run()) != nil else { return false }
        process.waitUntilExit()
        return process.terminationStatus == 0
    }
}

/// A connection that says nothing, to see when the other side ends it.
final class OpenConnection {
    private let descriptor: Int32

    init(to address: String) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        let parts = address.split(separator: ":")
        var place = sockaddr_in()
        place.sin_family = sa_family_t(AF_INET)
        place.sin_port = (UInt16(parts.last ?? "") ?? 0).bigEndian
        inet_pton(AF_INET, String(parts.first ?? ""), &place.sin_addr)
        let result = withUnsafePointer(to: &place) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0 else { throw LocalCluster.Failure(description: "no connection to \(address)") }
    }

    deinit { close(descriptor) }

    func ends(within seconds: Int32) -> Bool {
        var wanted = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return poll(&wanted, 1, seconds * 1_000) == 1
    }
}
