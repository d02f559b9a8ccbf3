import AgentConfig
import ClusterBase
import Testing

@Suite struct JoinTokenTests {
    static func token(_ addresses: [String] = ["10.0.0.1:7470", "[fd00::1]:7470", "n3.example:7470"]) -> JoinToken {
        JoinToken(
            addresses: addresses.map { Endpoint($0)! }, secret: Array(0..<32), fingerprint: Array(100..<132))
    }

    @Test func `a token is the same after it was copied`() throws {
        for token in [
            Self.token(), Self.token(["a:1"]),
            JoinToken(
                addresses: Array(
                    repeating: Endpoint(host: Self.longName, port: 65_535)!, count: JoinToken.addressesMax),
                secret: Array(repeating: 255, count: 64), fingerprint: Array(repeating: 0, count: 32)),
        ] {
            #expect(try JoinToken(token.text) == token)
            #expect(try JoinToken(" \n\(token.text)\r\n") == token)
            #expect(token.text.hasPrefix("mst1_"))
            #expect(token.text.utf8.count <= JoinToken.textBytesMax)
            #expect(
                token.text.utf8.dropFirst(5).allSatisfy {
                    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8.contains($0)
                })
        }
    }

    static let longName = Array(repeating: String(repeating: "x", count: 62), count: 4).joined(separator: ".")

    // Tokens are copied between versions: the form must not drift.
    @Test func `the form of a token is fixed`() {
        let token = JoinToken(
            addresses: [Endpoint("a:1")!], secret: Array(0..<16), fingerprint: Array(repeating: 7, count: 32))
        #expect(
            token.text
                == "mst1_AQADYToxEAABAgMEBQYHCAkKCwwNDg8HBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHB3eAyZE")
    }

    @Test func `its description has no secret in it`() {
        #expect("\(Self.token())" == "join token for 10.0.0.1:7470, [fd00::1]:7470, n3.example:7470")
    }

    @Test func `a token that was cut anywhere is refused`() {
        let text = Self.token().text
        for count in 5..<text.count {
            #expect(throws: JoinTokenFailure.damaged) { try JoinToken(String(text.prefix(count))) }
        }
        #expect(throws: JoinTokenFailure.damaged) { try JoinToken(text + "A") }
        #expect(throws: JoinTokenFailure.damaged) { try JoinToken(text + text.dropFirst(5)) }
    }

    @Test func `a token with one other character is refused`() {
        let text = Array(Self.token().text)
        for i in 5..<text.count {
            for other in ["A", "b", "_"] as [Character] where text[i] != other {
                var bad = text
                bad[i] = other
                #expect(throws: JoinTokenFailure.damaged) { try JoinToken(String(bad)) }
            }
        }
    }

    @Test func `what is wrong with a token is said in a sentence`() {
        let text = Self.token().text
        #expect(throws: JoinTokenFailure.noToken) { try JoinToken("") }
        #expect(throws: JoinTokenFailure.noToken) { try JoinToken("hello") }
        #expect(throws: JoinTokenFailure.noToken) { try JoinToken("MST1_" + text.dropFirst(5)) }
        #expect(throws: JoinTokenFailure.otherVersion) { try JoinToken("mst2_AAAA") }
        #expect(throws: JoinTokenFailure.tooLong) { try JoinToken("mst1_" + String(repeating: "A", count: 5_000)) }
        #expect(throws: JoinTokenFailure.badCharacter(position: 8)) { try JoinToken("mst1_AA=A") }
        #expect(throws: JoinTokenFailure.badCharacter(position: 12)) {
            try JoinToken(text.prefix(11) + " " + text.dropFirst(11))
        }
        for failure in [
            JoinTokenFailure.noToken, .otherVersion, .tooLong, .badCharacter(position: 3), .damaged,
        ] {
            #expect(failure.description.hasSuffix("."))
        }
    }

    @Test func `a body with the right checksum and wrong contents is refused`() throws {
        func sealed(_ body: [UInt8]) -> String {
            let checksum = CRC32C.of(body)
            let bytes = body + [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: checksum >> UInt32($0)) }
            let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
            var bits = bytes.flatMap { byte in (0..<8).map { byte >> (7 - $0) & 1 } }
            while bits.count % 6 != 0 { bits.append(0) }
            return "mst1_"
                + String(
                    stride(from: 0, to: bits.count, by: 6).map { i in
                        alphabet[bits[i..<i + 6].reduce(0) { $0 << 1 | Int($1) }]
                    })
        }
        let tail = [16] + [UInt8](repeating: 1, count: 48)
        let good: [UInt8] = [1, 0, 3] + Array("a:1".utf8) + tail
        _ = try JoinToken(sealed(good))
        let bad: [[UInt8]] = [
            [], [0] + tail, [9] + good.dropFirst(), good + [0], Array(good.dropLast()),
            [1, 0, 3] + Array("a:x".utf8) + tail, [1, 0, 0] + tail, [1, 255, 255] + tail,
            [1, 0, 4] + Array("a:01".utf8) + tail,
            [1, 0, 3] + Array("a:1".utf8) + [15] + [UInt8](repeating: 1, count: 47),
            [1, 0, 4] + [0xFF] + Array("a:1".utf8) + tail,
        ]
        for body in bad { #expect(throws: JoinTokenFailure.damaged) { try JoinToken(sealed(body)) } }
    }

    @Test(arguments: ["1.2.3.4:5", "[::1]:0", "n1.example:65535", "a-b:7", "[fd00::1.2.3.4]:9"])
    func `an endpoint is the same after it was read`(text: String) {
        #expect(Endpoint(text)?.description == text)
    }

    @Test(arguments: [
        "", "a", ":1", "a:", "a:65536", "a:-1", "a:+1", "::1:5", "[::1]", "[a]:1", "a b:1", "-a:1", "a..b:1", "a:1:2",
        "a:1 ",
        "[]:1", "é:1", "a:0x1", "a:000001",
    ])
    func `what is no endpoint is refused`(text: String) { #expect(Endpoint(text) == nil) }
}
