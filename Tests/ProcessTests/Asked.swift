import Foundation

/// What a client that speaks HTTP by itself gets, with the header fields that it chooses.
struct Asked: Decodable {
    var status: Int
    var body: String

    var members: [String: Any] {
        // What is no JSON has no members.
        (try? JSONSerialization.jsonObject(with: Data(body.utf8))) as? [String: Any] ?? [:]
    }

    private static let program = """
        import http.client, json, ssl, sys
        address, folder, method, path, key, body = sys.argv[1:]
        context = ssl.create_default_context(cafile=folder + "/ca.pem")
        context.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
        connection = http.client.HTTPSConnection(address, context=context, timeout=10)
        connection.request(method, path, body or None, {"Idempotency-Key": key, "Content-Type": "application/json"})
        answer = connection.getresponse()
        print(json.dumps({"status": answer.status, "body": answer.read().decode()}))
        """

    static func post(
        _ path: String, _ body: String, key: String, at node: Int, of cluster: LocalCluster
    ) throws -> Asked {
        try ask("POST", path, body, key: key, at: node, of: cluster)
    }

    static func get(_ path: String, at node: Int, of cluster: LocalCluster) throws -> Asked {
        try ask("GET", path, "", key: UUID().uuidString.lowercased(), at: node, of: cluster)
    }

    private static func ask(
        _ method: String, _ path: String, _ body: String, key: String, at node: Int, of cluster: LocalCluster
    ) throws -> Asked {
        let said = cluster.folder.file("asked")
        try Data().write(to: said)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [
            "python3", "-c", program, cluster.address(node), cluster.folder.file("n1/operator").path, method, path, key,
            body,
        ]
        process.standardOutput = try FileHandle(forWritingTo: said)
        try process.run()
        process.waitUntilExit()
        return try JSONDecoder().decode(Asked.self, from: Data(contentsOf: said))
    }
}
