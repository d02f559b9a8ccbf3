import Foundation

/// What a client that speaks HTTP by itself gets, with the header fields that it chooses.
struct Asked: Decodable {
    var status: Int
    var body: String

    var members: [String: Any] {
        // What is no JSON has no members.
        (try? JSONSerialization.jsonObject(with: Data(body.utf8))) as? [String: Any] ?? [:]
    }

    private static let several = """
        import http.client, json, ssl, sys, threading, uuid
        address, folder, path, count, body = sys.argv[1:]
        context = ssl.create_default_context(cafile=folder + "/ca.pem")
        context.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
        barrier = threading.Barrier(int(count))
        statuses = []
        def ask():
            connection = http.client.HTTPSConnection(address, context=context, timeout=10)
            connection.connect()
            barrier.wait()
            key = {"Idempotency-Key": str(uuid.uuid4()), "Content-Type": "application/json"}
            connection.request("POST", path, body, key)
            statuses.append(connection.getresponse().status)
        threads = [threading.Thread(target=ask) for _ in range(int(count))]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(json.dumps(statuses))
        """

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
        let words = [cluster.address(node), cluster.folder.file("n1/operator").path, method, path, key, body]
        return try JSONDecoder().decode(Asked.self, from: run(program, words, cluster))
    }

    /// The statuses that several clients get who send the same at one moment, each over a connection of its own.
    static func together(
        _ count: Int, _ path: String, _ body: String, at node: Int, of cluster: LocalCluster
    ) throws -> [Int] {
        let words = [cluster.address(node), cluster.folder.file("n1/operator").path, path, "\(count)", body]
        return try JSONDecoder().decode([Int].self, from: run(several, words, cluster))
    }

    private static func run(_ program: String, _ words: [String], _ cluster: LocalCluster) throws -> Data {
        let said = cluster.folder.file("asked")
        try Data().write(to: said)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["python3", "-c", program] + words
        process.standardOutput = try FileHandle(forWritingTo: said)
        try process.run()
        process.waitUntilExit()
        return try Data(contentsOf: said)
    }
}
