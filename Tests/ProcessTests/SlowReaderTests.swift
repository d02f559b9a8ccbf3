import Foundation
import Testing

/// Streams whose readers stand still.
@Suite(.serialized) struct SlowReaderTests {
    @Test func `a watch that is not read is told where it stands and cut, and goes on from there without a gap`() throws
    {
        let cluster = try LocalCluster()
        #expect(try cluster.ask(1, "space", "create", "box").status == 0)
        try cluster.wait("the space is ready") { try cluster.ask(1, "kv", "put", "box", "k0", "first").status == 0 }
        // More than the sockets and the node's buffer hold, while the reader is stopped for longer than it may be.
        let script = """
            C="curl -sk --cert $MUSTER_IDENTITY/cert.pem --key $MUSTER_IDENTITY/key.pem"
            $C -N "https://$MUSTER_ADDRESS/v1/kv/box?watch=1&from=0" >"$OUT" & P=$!
            sleep 1; kill -STOP $P
            for i in $(seq 1 20); do
                head -c 900000 /dev/zero | $C -o /dev/null -X PUT --data-binary @- "https://$MUSTER_ADDRESS/v1/kv/box/k$i"
            done
            sleep 34; kill -CONT $P; wait $P
            """
        let out = cluster.folder.file("stream")
        _ = try cluster.shell("OUT=\(out.path)\n" + script, at: 1)
        let lines = try String(contentsOf: out, encoding: .utf8).split(separator: "\n")
        let last = try #require(lines.last)
        #expect(last.contains("\"type\":\"overdue\""), "\(last.prefix(200))")
        let puts = lines.count { $0.contains("\"type\":\"put\"") }
        #expect(puts > 1 && puts < 21)
        // From there on the rest comes.
        let place = try #require(last.firstRange(of: try Regex("[0-9]+[.][0-9]+")).map { String(last[$0]) })
        let rest = try cluster.shell(
            "timeout 5 curl -skN --cert $MUSTER_IDENTITY/cert.pem --key $MUSTER_IDENTITY/key.pem "
                + "\"https://$MUSTER_ADDRESS/v1/kv/box?watch=1&from=\(place)\"", at: 1
        ).output
        let more = rest.split(separator: "\n").count { $0.contains("\"type\":\"put\"") }
        #expect(puts + more == 21, "\(puts) and \(more)")
    }
}
