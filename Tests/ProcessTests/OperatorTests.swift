import Foundation
import Testing

/// The way back in for an operator.
@Suite struct OperatorTests {
    @Test func `an operator's lost certificate is made anew on a root voter's host, and its end is warned of`() throws {
        let cluster = try LocalCluster()
        let folder = cluster.folder.file("again").path
        func issue(_ data: String, to target: String) throws -> MusterRun {
            try MusterRun("cert", "issue", "--to", target, "--node-data", cluster.folder.file(data).path)
        }
        let made = try issue("n1", to: folder)
        #expect(made.status == 0, "\(made.complaint)")
        let mode = try FileManager.default.attributesOfItem(atPath: folder + "/key.pem")[.posixPermissions] as? Int
        #expect(mode == 0o600)
        // Its folder says whom to ask, and it may do what the first one may.
        let token = try MusterRun("token", "create", "--role", "viewer", "--identity", folder)
        #expect(token.status == 0 && token.output.hasPrefix("mst_"), "\(token.complaint)")

        let before = try Data(contentsOf: cluster.folder.file("again/cert.pem"))
        let again = try issue("n1", to: folder)
        #expect(again.status == 1 && again.complaint.contains("is there already"), "\(again.complaint)")
        #expect(try Data(contentsOf: cluster.folder.file("again/cert.pem")) == before)
        let nobody = try issue("nowhere", to: cluster.folder.file("other").path)
        #expect(nobody.status == 1 && nobody.complaint.contains("no node in"), "\(nobody.complaint)")
        try FileManager.default.createDirectory(at: cluster.folder.file("keyless"), withIntermediateDirectories: true)
        for name in ["node.pem", "node.key"] {
            try FileManager.default.copyItem(
                at: cluster.folder.file("n1/\(name)"), to: cluster.folder.file("keyless/\(name)"))
        }
        let keyless = try issue("keyless", to: cluster.folder.file("other").path)
        #expect(keyless.status == 1 && keyless.complaint.contains("one that votes"), "\(keyless.complaint)")
        #expect(!FileManager.default.fileExists(atPath: cluster.folder.file("other").path))

        let tools = try TemporaryFolder()
        let library = try Preload.build("clock-shift", in: tools)
        func later(_ days: Int) throws -> String {
            try MusterRun(
                ["node", "list", "--identity", folder],
                inside: ["LD_PRELOAD=\(library.path)", "CLOCK_SHIFT=\(days * 86_400)"]
            ).complaint
        }
        #expect(try !later(0).contains("certificate in"))
        #expect(try later(345).contains("`muster cert renew`"))
        #expect(try later(366).contains("`muster cert issue --to FOLDER`"))
    }
}
