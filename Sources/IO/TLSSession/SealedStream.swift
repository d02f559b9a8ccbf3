internal import COpenSSL

/// What a stream is sealed with: a key file, or words that a person wrote into one.
package enum StreamSecret: Sendable {
    case key(SecretKey)
    /// Used as it is, line ends included. Stretched by scrypt: 32 MiB and about 0.1 s for every guess.
    case passphrase(String)

    var kind: UInt8 {
        switch self {
        case .key: 0
        case .passphrase: 1
        }
    }
}

/// The format that a sealer and an opener share, for backups:
///
///     header   "MSTSEAL1" · kind of secret (1) · log2 of the chunk's bytes (1) · salt (32)
///     chunk    ciphertext (the chunk's bytes; the last one 0 to as many) · tag (16)
///
/// Each stream has a key of its own, made from the secret and the header, so that a changed header opens nothing. A
/// chunk's nonce is its number and whether it is the last one, so that chunks can't be dropped, doubled, moved or cut off.
enum SealedStream {
    static let magic = Array("MSTSEAL1".utf8)
    static let headerBytes = 42
    static let chunkBits: UInt8 = 16
    static let chunkBitsAllowed: ClosedRange<UInt8> = 10...20
    static let passphraseBytesMin = 12

    static func header(_ secret: StreamSecret) -> [UInt8] {
        magic + [secret.kind, chunkBits] + Crypto.randomBytes(32)
    }

    static func key(_ secret: StreamSecret, _ header: [UInt8]) throws(TLSFailure) -> SecretKey {
        let root: [UInt8]
        switch secret {
        case .key(let key): root = key.bytes
        case .passphrase(let words):
            let text = Array(words.utf8)
            guard text.count >= passphraseBytesMin else {
                throw TLSFailure(
                    .malformed, "The passphrase has \(text.count) bytes; use \(passphraseBytesMin) at least.")
            }
            var made = [UInt8](repeating: 0, count: 32)
            let salt = Array(header.suffix(32))
            let result = text.withUnsafeBytes { bytes in
                EVP_PBE_scrypt(
                    bytes.baseAddress?.assumingMemoryBound(to: CChar.self), text.count, salt, salt.count, 1 << 15, 8, 1,
                    64 << 20, &made, made.count)
            }
            guard result == 1 else { throw ErrorQueue.failure("stretch a passphrase") }
            root = made
        }
        return SecretKey(
            exactly: Crypto.hkdf(secret: root, salt: header, info: Array("muster sealed stream".utf8), count: 32))
    }

    static func nonce(_ number: UInt64, isLast: Bool) -> [UInt8] {
        (0..<8).map { UInt8(truncatingIfNeeded: number >> (56 - 8 * $0)) } + [0, 0, 0, isLast ? 1 : 0]
    }
}

/// Encrypts a stream of any length with bounded memory. Append, then finish once; what is left unfinished does not open.
package struct StreamSealer: ~Copyable {
    private let cipher: Cipher
    private let chunkBytes: Int
    private var header: [UInt8]
    private var held: [UInt8] = []
    private var number: UInt64 = 0

    package init(_ secret: StreamSecret) throws(TLSFailure) {
        header = SealedStream.header(secret)
        chunkBytes = 1 << Int(SealedStream.chunkBits)
        cipher = try Cipher(SealedStream.key(secret, header), isSealing: true)
        held.reserveCapacity(2 * chunkBytes)
    }

    /// Takes plaintext and appends to `into` what can be written.
    package mutating func append(_ plain: UnsafeRawBufferPointer, into: inout [UInt8]) throws(TLSFailure) {
        into += header
        header = []
        var rest = plain[...]
        while !rest.isEmpty {
            // A full chunk is held until more comes: the last one is sealed otherwise.
            if held.count == chunkBytes { try flush(isLast: false, &into) }
            let count = min(chunkBytes - held.count, rest.count)
            held.append(contentsOf: rest.prefix(count))
            rest = rest.dropFirst(count)
        }
    }

    /// Seals what is left. The stream takes no more after it.
    package consuming func finish(into: inout [UInt8]) throws(TLSFailure) {
        into += header
        try flush(isLast: true, &into)
    }

    private mutating func flush(isLast: Bool, _ into: inout [UInt8]) throws(TLSFailure) {
        let nonce = SealedStream.nonce(number, isLast: isLast)
        try held.withUnsafeBufferPointer { buffer throws(TLSFailure) in
            try cipher.seal(UnsafeRawBufferPointer(buffer), nonce: nonce, about: [], into: &into)
        }
        held.removeAll(keepingCapacity: true)
        number += 1
    }
}

/// Decrypts what a sealer wrote. What it gives out is authentic, but only `finish` says that it was all.
package struct StreamOpener: ~Copyable {
    private let secret: StreamSecret
    private var cipher: Cipher?
    private var chunkBytes = 0
    private var held: [UInt8] = []
    private var number: UInt64 = 0

    package init(_ secret: StreamSecret) { self.secret = secret }

    /// Takes sealed bytes and appends to `into` the plaintext that is known to be good.
    package mutating func append(_ sealed: UnsafeRawBufferPointer, into: inout [UInt8]) throws(TLSFailure) {
        var rest = sealed[...]
        if cipher == nil {
            let count = min(SealedStream.headerBytes - held.count, rest.count)
            held.append(contentsOf: rest.prefix(count))
            rest = rest.dropFirst(count)
            guard held.count == SealedStream.headerBytes else { return }
            try begin()
        }
        while !rest.isEmpty {
            if held.count == chunkBytes + Cipher.tagBytes { try flush(isLast: false, &into) }
            let count = min(chunkBytes + Cipher.tagBytes - held.count, rest.count)
            held.append(contentsOf: rest.prefix(count))
            rest = rest.dropFirst(count)
        }
    }

    /// Opens the last chunk. Throws `notAuthentic` when the stream was cut.
    package consuming func finish(into: inout [UInt8]) throws(TLSFailure) {
        guard cipher != nil else {
            throw TLSFailure(.malformed, "The sealed data ends within its header; the file was cut.")
        }
        try flush(isLast: true, &into)
    }

    private mutating func begin() throws(TLSFailure) {
        let kind = held[SealedStream.magic.count]
        let bits = held[SealedStream.magic.count + 1]
        guard held.starts(with: SealedStream.magic), kind <= 1, SealedStream.chunkBitsAllowed.contains(bits) else {
            throw TLSFailure(.malformed, "The file is not sealed data of this version of Muster.")
        }
        guard kind == secret.kind else {
            let wanted = kind == 0 ? "a key file" : "a passphrase"
            throw TLSFailure(.malformed, "The data was sealed with \(wanted); give that instead.")
        }
        chunkBytes = 1 << Int(bits)
        cipher = try Cipher(SealedStream.key(secret, held), isSealing: false)
        held.removeAll(keepingCapacity: true)
        held.reserveCapacity(chunkBytes + Cipher.tagBytes)
    }

    private mutating func flush(isLast: Bool, _ into: inout [UInt8]) throws(TLSFailure) {
        let nonce = SealedStream.nonce(number, isLast: isLast)
        try held.withUnsafeBufferPointer { buffer throws(TLSFailure) in
            try cipher?.open(UnsafeRawBufferPointer(buffer), nonce: nonce, about: [], into: &into)
        }
        held.removeAll(keepingCapacity: true)
        number += 1
    }
}
