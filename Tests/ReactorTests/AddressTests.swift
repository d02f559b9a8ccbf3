import ClusterBase
import Reactor
import Testing

@Suite struct AddressTests {
    @Test(arguments: [
        ("10.0.0.7:7400", "10.0.0.7", 7400, "10.0.0.7:7400"), ("[fd00::7]:1", "fd00::7", 1, "[fd00::7]:1"),
        ("node-1.example:65535", "node-1.example", 65535, "node-1.example:65535"), ("host", "host", 99, "host:99"),
        ("[::1]", "::1", 99, "[::1]:99"),
    ])
    func `an address is read and printed`(text: String, host: String, port: UInt16, printed: String) throws {
        let address = try Address(parsing: text, defaultPort: 99)
        #expect(address == Address(host: host, port: port))
        #expect(address.description == printed)
    }

    @Test(arguments: [
        ("", AddressError.Reason.noHost), (":80", .noHost), ("host", .noPort), ("host:", .badPort),
        ("host:70000", .badPort), ("host:-1", .badPort), ("host:+1", .badPort), ("host:8x", .badPort),
        ("[::1", .bracketOpen), ("[10.0.0.1]:80", .notV6), ("[::1]80", .badPort), ("fd00::7:80", .v6WithoutBrackets),
        ("ho st:80", .badCharacter), ("h\u{FC}:80", .badCharacter),
        (String(repeating: "a", count: 254) + ":1", .hostTooLong),
    ])
    func `a wrong address is refused with a sentence that says what to do`(
        text: String, reason: AddressError.Reason
    ) {
        let error = #expect(throws: AddressError.self) { try Address(parsing: text) }
        #expect(error?.reason == reason)
        #expect(error?.description.contains(";") == true)
    }

    @Test func `digits need no resolver, and names do`() throws {
        #expect(Address(host: "127.0.0.1", port: 5).resolved?.description == "127.0.0.1:5")
        #expect(Address(host: "fd00::12", port: 5).resolved?.description == "[fd00::12]:5")
        #expect(Address(host: "localhost", port: 5).resolved == nil)
    }

    @Test func `names are resolved off the loop's thread, and a wrong one fails with a sentence`() throws {
        let loop = try EventLoop()
        let resolver = Resolver(loop)
        defer { resolver.close() }
        var found: [SocketAddress] = []
        var failure = ""
        resolver.resolve(Address(host: "localhost", port: 7)) { outcome in
            if case .found(let addresses) = outcome { found = addresses }
        }
        resolver.resolve(Address(host: "no.such.name.invalid", port: 7)) { outcome in
            if case .failed(let reason) = outcome { failure = reason }
        }
        #expect(found.isEmpty)
        let isDone = loop.run(atMost: .seconds(30)) { !found.isEmpty && !failure.isEmpty }
        #expect(isDone)
        #expect(found.contains { ["127.0.0.1:7", "[::1]:7"].contains($0.description) })
        #expect(failure.contains("no.such.name.invalid"))
    }
}
