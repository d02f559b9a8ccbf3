import Foundation
import Testing

/// A port at which the system takes connections and nobody ever says a word.
private final class SilentPort {
    let number: Int
    private let descriptor: Int32

    init() throws {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { rebound in
                bind(descriptor, rebound, length) == 0 && listen(descriptor, 8) == 0
                    ? getsockname(descriptor, rebound, &length) : -1
            }
        }
        guard result == 0 else { throw LocalCluster.Failure(description: "no port is free") }
        self.descriptor = descriptor
        number = Int(UInt16(bigEndian: address.sin_port))
    }

    deinit { close(descriptor) }
}

/// What is checked before a host becomes a member.
@Suite struct JoinTests {
    private func token(_ cluster: LocalCluster) throws -> String {
        try cluster.ask(1, "token", "create").output.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    @Test func `a member looks who answers at the joining host's addresses, and says which one it is not`() throws {
        let cluster = try LocalCluster()
        let silent = try SilentPort()
        let token = try token(cluster)
        func join(_ more: String...) throws -> MusterRun { try MusterRun(["join", token] + cluster.options(2) + more) }
        // Something listens, and it is not this host.
        let mute = try join("--peer-advertise", "127.0.0.1:\(silent.number)")
        #expect(mute.status == 4, "\(mute)")
        #expect(
            mute.complaint.contains("node n1 can't connect to the joining host at 127.0.0.1:\(silent.number)"),
            "\(mute)")
        #expect(mute.complaint.contains("--peer-advertise"), "\(mute)")
        let other = try join("--admin-advertise", cluster.address(1))
        #expect(other.status == 4, "\(other)")
        #expect(
            other.complaint.contains(
                "node n1 can't connect to the joining host at \(cluster.address(1)): somebody else"),
            "\(other)")
        #expect(other.complaint.contains("--admin-advertise"), "\(other)")
        #expect(!FileManager.default.fileExists(atPath: cluster.folder.file("n2").path))
        let joined = try join()
        #expect(joined.status == 0, "\(joined)")
    }

    @Test func `a joining host looks who answers at the members' addresses for peers`() throws {
        let silent = try SilentPort()
        var advertised: [String] = ["--peer-advertise", "127.0.0.1:\(silent.number)"]
        let cluster = try LocalCluster { _, node in node == 1 ? advertised : [] }
        let token = try token(cluster)
        let mute = try MusterRun(["join", token] + cluster.options(2))
        #expect(mute.status == 1, "\(mute)")
        #expect(
            mute.complaint.contains("This host can't connect to node 1 at 127.0.0.1:\(silent.number)"), "\(mute)")
        #expect(!FileManager.default.fileExists(atPath: cluster.folder.file("n2").path))

        // The admin port shows a node's certificate too; a member of another cluster shows none of this one's.
        let stranger = try LocalCluster()
        let address = try #require(
            stranger.options(1).firstIndex(of: "--peer-listen").map { stranger.options(1)[$0 + 1] })
        advertised = ["--peer-advertise", address]
        #expect(cluster.terminate(1) == 0)
        try cluster.start(1)
        try cluster.wait("the new address is known") {
            try cluster.ask(1, "node", "show", "n1").output.contains(address)
        }
        let foreign = try MusterRun(["join", token] + cluster.options(2))
        #expect(foreign.status == 1, "\(foreign)")
        #expect(
            foreign.complaint.contains("This host can't connect to node 1 at \(address): somebody else"), "\(foreign)")
        advertised = []
        #expect(cluster.terminate(1) == 0)
        try cluster.start(1)
        try cluster.wait("the right address is known") {
            let shown = try cluster.ask(1, "node", "show", "n1")
            return shown.status == 0 && !shown.output.contains(address)
        }
        let joined = try MusterRun(["join", token] + cluster.options(2))
        #expect(joined.status == 0, "\(joined)")
        // Looking leaves nothing in a member's log, and nothing in its accounts.
        let metrics = try Asked.get("/metrics", at: 1, of: cluster).body
        for line in ["muster_peer_refused_total 0", "muster_ready 1", "muster_space_low 0"] {
            #expect(metrics.split(separator: "\n").contains { $0 == line }, "\(line) is not in\n\(metrics)")
        }
        #expect(metrics.contains("\nmuster_certificate_end_seconds 1"))
        #expect(!cluster.log(1).contains("refused a connection"), "\(cluster.log(1))")
    }

    @Test func `every member that a token names is asked, and one that says no is enough`() throws {
        var ahead = 0
        var library = ""
        let cluster = try LocalCluster(surroundings: { _, node in
            node == 2 && ahead > 0 ? ["LD_PRELOAD=\(library)", "CLOCK_SHIFT=\(ahead)"] : []
        })
        library = try Preload.build("clock-shift", in: cluster.folder).path
        try cluster.grow()
        let token = try token(cluster)
        // The first that the token names has nothing against it.
        #expect(cluster.terminate(2) == 0)
        ahead = 200
        try cluster.start(2)
        try cluster.wait("n2 serves") { try cluster.ask(2, "node", "list").status == 0 }
        let refused = try MusterRun(["join", token] + cluster.options(4))
        #expect(refused.status == 4 && refused.complaint.contains("200 s behind"), "\(refused)")
        #expect(!FileManager.default.fileExists(atPath: cluster.folder.file("n4").path))
        // One that is down keeps nobody out.
        cluster.kill9(2)
        try cluster.wait("its loss is noticed") {
            try cluster.ask(1, "node", "show", "n2").output.contains("not reachable")
        }
        let joined = try MusterRun(["join", token] + cluster.options(4))
        #expect(joined.status == 0, "\(joined)")
    }
}
