import Foundation
import Testing

/// What groups cost that nobody asks anything of.
@Suite(.serialized) struct IdleTests {
    @Test func `two hundred idle groups cost no synced write but the storage's pulse, and next to no CPU time`() throws
    {
        let tools = try TemporaryFolder()
        let library = try Preload.build("count-syncs", in: tools)
        func counter(_ node: Int) -> URL { tools.file("syncs\(node)") }
        for node in 1...3 { try Data(count: 8).write(to: counter(node)) }
        let cluster = try LocalCluster(surroundings: { _, node in
            ["LD_PRELOAD=\(library.path)", "COUNT_SYNCS=\(counter(node).path)"]
        })
        try cluster.grow()
        try cluster.make(spaces: 200)
        func led() throws -> Int {
            try (1...3).map { node in
                try Asked.get("/metrics", at: node, of: cluster).body.split(separator: "\n").count {
                    $0.hasPrefix("muster_group_leader{") && $0.contains("name=\"idle-") && $0.hasSuffix(" 1")
                }
            }.reduce(0, +)
        }
        try cluster.wait("each group has a leader") { try led() == 200 }
        func syncs() throws -> [Int] {
            try (1...3).map { try Data(contentsOf: counter($0)).withUnsafeBytes { $0.loadUnaligned(as: Int.self) } }
        }
        func commits() throws -> [Int] {
            try (1...3).map { Int(try cluster.metric("muster_log_commits_total", at: $0) ?? 0) }
        }
        // What was applied is made durable, and the last replicas settle.
        var quiet = 0
        var last = try syncs()
        try cluster.wait("it is quiet") {
            usleep(900_000)
            let now = try syncs()
            quiet = zip(now, last).allSatisfy { $0 - $1 <= 2 } ? quiet + 1 : 0
            last = now
            return quiet == 3
        }
        // To count takes time, too, much of it on a busy machine.
        let begin = Date()
        let (syncsBefore, commitsBefore, cpuBefore) = (try syncs(), try commits(), try (1...3).map(cluster.cpu))
        sleep(5)
        let (syncsAfter, commitsAfter, cpuAfter) = (try syncs(), try commits(), try (1...3).map(cluster.cpu))
        let seconds = Date().timeIntervalSince(begin)
        for node in 0..<3 {
            let (synced, committed) = (syncsAfter[node] - syncsBefore[node], commitsAfter[node] - commitsBefore[node])
            // One a second where something is led; the first and the last one may be cut.
            #expect(Double(committed) <= seconds + 2, "node \(node + 1), \(seconds) s")
            // The counts are not taken at one moment.
            #expect(abs(synced - committed) <= Int(seconds - 5) + 2, "node \(node + 1): \(synced) and \(committed)")
        }
        let spent = zip(cpuAfter, cpuBefore).map { $0 - $1 }.reduce(0, +)
        // A debug build on a busy machine: a hundredth of a core is what it is meant to be.
        #expect(spent < seconds / 2, "\(spent) s of CPU time in \(seconds) seconds")
        #expect(syncsAfter.allSatisfy { $0 > 0 })
        let put = try cluster.ask(2, "kv", "put", "idle-77", "k", "1")
        #expect(put.status == 0, "\(put.complaint)")
    }
}

extension LocalCluster {
    /// Makes spaces `idle-1` and so on, over one connection.
    func make(spaces count: Int) throws {
        let said = try shell(
            """
            for i in $(seq 1 \(count)); do
                printf 'next\\nurl = "https://%s/v1/spaces"\\nrequest = POST\\ndata = "{\\\\"name\\\\":\\\\"idle-%d\\\\"}"\\n' \
                    "$MUSTER_ADDRESS" $i
                printf 'header = "Content-Type: application/json"\\nheader = "Idempotency-Key: %s"\\n' \
                    "$(cat /proc/sys/kernel/random/uuid)"
                printf 'cert = "%s/cert.pem"\\nkey = "%s/key.pem"\\ninsecure\\nsilent\\noutput = /dev/null\\n' \
                    "$MUSTER_IDENTITY" "$MUSTER_IDENTITY"
                printf 'write-out = "%%{http_code}\\\\n"\\n'
            done | curl -K -
            """, at: 1)
        let good = said.output.split(separator: "\n").count { $0.hasPrefix("20") }
        if good != count { throw Failure(description: "\(good) of \(count) spaces: \(said.output.suffix(500))") }
    }

    /// The CPU time that a node's process has taken, in seconds.
    func cpu(_ node: Int) throws -> Double {
        guard let id = process(node) else { return 0 }
        let text = try String(contentsOfFile: "/proc/\(id)/stat", encoding: .utf8)
        let fields = (text.components(separatedBy: ") ").last ?? "").split(separator: " ")
        return (Double(fields[11]) ?? 0) / 100 + (Double(fields[12]) ?? 0) / 100
    }
}
