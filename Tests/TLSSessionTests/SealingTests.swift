import TLSSession
import Testing

@Suite struct SealingTests {
    @Test func `a wrapped authority key opens with its key file and its certificate only`() throws {
        let house = try House()
        let file = SecretKey.make()
        let wrapped = try house.authority.wrappedKey(file)
        let again = try CertificateAuthority(
            certificate: house.authority.certificate, wrappedKey: wrapped, SecretKey(text: file.text))
        #expect(again.key.belongs(to: house.authority.certificate))

        let wrong = #expect(throws: TLSFailure.self) {
            try CertificateAuthority(certificate: house.authority.certificate, wrappedKey: wrapped, .make())
        }
        #expect(wrong?.code == .notAuthentic)
        let other = try House().authority.certificate
        let moved = #expect(throws: TLSFailure.self) {
            try CertificateAuthority(certificate: other, wrappedKey: wrapped, file)
        }
        #expect(moved?.code == .notAuthentic)
        for i in wrapped.indices {
            var bad = wrapped
            bad[i] ^= 0x10
            #expect(throws: TLSFailure.self) { try SealedBox.open(bad, key: file, about: "authority key") }
            #expect(throws: TLSFailure.self) {
                try CertificateAuthority(certificate: house.authority.certificate, wrappedKey: bad, file)
            }
        }
    }

    @Test
    func `a secret field opens for itself alone, the same value gives the same box, and a changed box opens nothing`()
        throws
    {
        let sealer = FieldSealer(.make())
        let plain = Array("#cloud-config\npassword: hunter2\n".utf8)
        let box = try sealer.seal(plain, about: "t/v/k")
        #expect(try sealer.open(box, about: "t/v/k") == plain)
        #expect(try sealer.seal(plain, about: "t/v/k") == box)
        #expect(try FieldSealer(SecretKey(text: sealer.key.text)).open(box, about: "t/v/k") == plain)
        #expect(box.count == plain.count + FieldSealer.overheadBytes)
        #expect(!(0...(box.count - 7)).contains { Array(box[$0..<($0 + 7)]) == Array("hunter2".utf8) })
        // Two values, or two fields, have nothing in common after the key's name.
        for other in [try sealer.seal(plain + [0], about: "t/v/k"), try sealer.seal(plain, about: "t/v/l")] {
            #expect(Array(other[16..<28]) != Array(box[16..<28]) && Array(other[28..<40]) != Array(box[28..<40]))
        }
        #expect(try sealer.open(try sealer.seal([], about: "e"), about: "e") == [])
        for about in ["t/v/l", "t/v/", "", "u/v/k"] {
            #expect(throws: TLSFailure.self) { try sealer.open(box, about: about) }
        }
        let foreign = #expect(throws: TLSFailure.self) { try FieldSealer(.make()).open(box, about: "t/v/k") }
        #expect(foreign?.code == .notAuthentic && foreign?.message.contains("another key") == true)
        for i in box.indices {
            var bad = box
            bad[i] ^= 0x10
            #expect(throws: TLSFailure.self) { try sealer.open(bad, about: "t/v/k") }
            #expect(throws: TLSFailure.self) { try sealer.open(Array(box.prefix(i)), about: "t/v/k") }
        }
    }

    @Test func `a box of any size opens, and one cut short does not`() throws {
        let key = SecretKey.make()
        for size in [0, 1, 1_000] {
            let plain = [UInt8](repeating: 3, count: size)
            let box = try SealedBox.seal(plain, key: key, about: "a")
            #expect(try SealedBox.open(box, key: key, about: "a") == plain)
            #expect(throws: TLSFailure.self) { try SealedBox.open(box, key: key, about: "b") }
            for count in [0, 5, 8, 19, 20, 35, box.count - 1] {
                #expect(throws: TLSFailure.self) { try SealedBox.open(Array(box.prefix(count)), key: key, about: "a") }
            }
        }
    }

    @Test func `a key file with anything else in it is refused`() {
        for text in ["", "abc", SecretKey.make().text + "A", String(SecretKey.make().text.dropFirst(4))] {
            #expect(throws: TLSFailure.self) { try SecretKey(text: text) }
        }
        #expect(SecretKey(bytes: [1, 2, 3]) == nil)
    }

    static func seal(_ plain: [UInt8], _ secret: StreamSecret, parts: Int) throws -> [UInt8] {
        var sealed: [UInt8] = []
        var sealer = try StreamSealer(secret)
        for start in stride(from: 0, to: plain.count, by: parts) {
            let part = Array(plain[start..<min(start + parts, plain.count)])
            try part.withUnsafeBufferPointer { try sealer.append(UnsafeRawBufferPointer($0), into: &sealed) }
        }
        try sealer.finish(into: &sealed)
        return sealed
    }

    static func open(_ sealed: [UInt8], _ secret: StreamSecret, parts: Int) throws -> [UInt8] {
        var plain: [UInt8] = []
        var opener = StreamOpener(secret)
        for start in stride(from: 0, to: sealed.count, by: parts) {
            let part = Array(sealed[start..<min(start + parts, sealed.count)])
            try part.withUnsafeBufferPointer { try opener.append(UnsafeRawBufferPointer($0), into: &plain) }
        }
        try opener.finish(into: &plain)
        return plain
    }

    static let chunk = 65_536

    @Test(arguments: [0, 1, chunk - 1, chunk, chunk + 1, 2 * chunk, 3 * chunk + 5], [1_000, 1 << 20])
    func `a sealed stream opens to the same bytes however it is cut`(size: Int, parts: Int) throws {
        let secret = StreamSecret.key(.make())
        let plain = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let sealed = try Self.seal(plain, secret, parts: parts)
        #expect(sealed.count == 42 + size + max(1, (size + Self.chunk - 1) / Self.chunk) * 16)
        #expect(try Self.open(sealed, secret, parts: parts) == plain)
        #expect(try Self.open(sealed, secret, parts: 777) == plain)
    }

    @Test func `a stream that was changed, cut, lengthened or rearranged does not open`() throws {
        let secret = StreamSecret.key(.make())
        let plain = [UInt8](repeating: 5, count: 3 * Self.chunk)
        let sealed = try Self.seal(plain, secret, parts: 1 << 20)
        func isRefused(_ bytes: [UInt8]) -> Bool { (try? Self.open(bytes, secret, parts: 1 << 20)) == nil }
        // Every byte of the header and some of each chunk.
        for i in Array(0..<60) + Array(stride(from: 60, to: sealed.count, by: 9_973)) + [sealed.count - 1] {
            var bad = sealed
            bad[i] ^= 1
            #expect(isRefused(bad), "byte \(i)")
        }
        let step = Self.chunk + 16
        for count in [0, 41, 42, 43, 42 + step, 42 + 2 * step, sealed.count - 1] {
            #expect(isRefused(Array(sealed.prefix(count))), "cut to \(count)")
        }
        #expect(isRefused(sealed + [0]))
        #expect(isRefused(sealed + sealed.suffix(step)))
        let swapped = sealed[..<42] + sealed[(42 + step)..<(42 + 2 * step)] + sealed[42..<(42 + step)]
        #expect(isRefused(Array(swapped + sealed[(42 + 2 * step)...])))
        #expect((try? Self.open(sealed, .key(.make()), parts: 1 << 20)) == nil)
    }

    @Test func `a passphrase opens what it sealed, and a short one seals nothing`() throws {
        let words = StreamSecret.passphrase("correct horse battery")
        let sealed = try Self.seal([1, 2, 3], words, parts: 10)
        #expect(try Self.open(sealed, words, parts: 10) == [1, 2, 3])
        let wrong = #expect(throws: TLSFailure.self) {
            try Self.open(sealed, .passphrase("correct horse batterz"), parts: 10)
        }
        #expect(wrong?.code == .notAuthentic)
        let kind = #expect(throws: TLSFailure.self) { try Self.open(sealed, .key(.make()), parts: 10) }
        #expect(kind?.message.contains("passphrase") == true)
        #expect(throws: TLSFailure.self) { () throws -> Void in _ = try StreamSealer(.passphrase("short")) }
    }

    // RFC 4231 test case 2, RFC 5869 test cases 1 and 3, FIPS 180-2 example 1.
    @Test func `hashes are those of the standards`() {
        func hex(_ bytes: [UInt8]) -> String { bytes.map { String(UInt16($0) + 0x100, radix: 16).suffix(2) }.joined() }
        #expect(
            hex(Crypto.sha256(Array("abc".utf8))) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        #expect(
            hex(Crypto.sha256([])) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        #expect(
            hex(Crypto.hmacSHA256(key: Array("Jefe".utf8), Array("what do ya want for nothing?".utf8)))
                == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
        let secret = [UInt8](repeating: 0x0B, count: 22)
        #expect(
            hex(Crypto.hkdf(secret: secret, salt: Array(0...12), info: Array(0xF0...0xF9), count: 42))
                == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
        #expect(
            hex(Crypto.hkdf(secret: secret, salt: [], info: [], count: 42))
                == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8")
    }

    @Test func `secrets are compared by all their bytes`() {
        let a = Crypto.randomBytes(32)
        #expect(Crypto.isEqual(a, a) && Crypto.isEqual([], []))
        #expect(!Crypto.isEqual(a, Array(a.dropLast())) && !Crypto.isEqual(a, Array(a.reversed())))
        #expect(Crypto.randomBytes(32) != a && Crypto.randomBytes(0).isEmpty)
    }
}
