/// Seals the secret fields of VMs' specifications with AES-256-GCM, under one key for the whole cluster.
///
///     box   "MSTFLD1\n" · first 8 bytes of the key's SHA-256 · nonce (12) · ciphertext · tag (16)
///
/// The nonce is the begin of an HMAC over what the box is for and what is in it: whoever seals the same value for the same
/// field gets the same box, so that a repeated request is the same command, and no nonce comes twice for different values.
/// What a box shows beside its length is whether a field of a VM has a value that it had before.
package struct FieldSealer: Sendable {
    private static let magic = Array("MSTFLD1\n".utf8)
    private static let nameBytes = 8
    /// What a box is longer than its value.
    package static let overheadBytes = magic.count + nameBytes + Cipher.nonceBytes + Cipher.tagBytes

    /// The key as a file keeps it.
    package let key: SecretKey
    /// What the cluster knows the key by.
    package let hash: [UInt8]
    private let sealing: SecretKey
    private let numbering: SecretKey

    package init(_ key: SecretKey) {
        self.key = key
        hash = Crypto.sha256(key.bytes)
        func derived(_ purpose: String) -> SecretKey {
            SecretKey(exactly: Crypto.hkdf(secret: key.bytes, salt: [], info: Array(purpose.utf8), count: 32))
        }
        sealing = derived("muster secret fields: sealing")
        numbering = derived("muster secret fields: nonces")
    }

    /// For a node that is to hold the key, and for nobody else.
    package var keyBytes: [UInt8] { key.bytes }

    /// `about` names the field: its box opens for no other.
    package func seal(_ value: [UInt8], about: String) throws(TLSFailure) -> [UInt8] {
        let context = context(about)
        let nonce = Array(Crypto.hmacSHA256(key: numbering.bytes, context + value).prefix(Cipher.nonceBytes))
        var box = Self.magic + hash.prefix(Self.nameBytes) + nonce
        let cipher = try Cipher(sealing, isSealing: true)
        try value.withUnsafeBufferPointer { buffer throws(TLSFailure) in
            try cipher.seal(UnsafeRawBufferPointer(buffer), nonce: nonce, about: context, into: &box)
        }
        return box
    }

    /// Whether the box says that it was made with this key.
    package func made(_ box: [UInt8]) -> Bool {
        let start = Self.magic.count
        return box.count >= Self.overheadBytes && box.starts(with: Self.magic)
            && box[start..<(start + Self.nameBytes)].elementsEqual(hash.prefix(Self.nameBytes))
    }

    package func open(_ box: [UInt8], about: String) throws(TLSFailure) -> [UInt8] {
        let start = Self.magic.count + Self.nameBytes
        guard box.count >= Self.overheadBytes, box.starts(with: Self.magic) else {
            throw TLSFailure(.malformed, "The \(box.count) bytes are no secret field of this version of Muster.")
        }
        guard box[Self.magic.count..<start].elementsEqual(hash.prefix(Self.nameBytes)) else {
            throw TLSFailure(.notAuthentic, "The secret field was sealed with another key; set it again.")
        }
        let cipher = try Cipher(sealing, isSealing: false)
        var value: [UInt8] = []
        try box.withUnsafeBufferPointer { buffer throws(TLSFailure) in
            let rest = UnsafeBufferPointer(rebasing: buffer[(start + Cipher.nonceBytes)...])
            try cipher.open(
                UnsafeRawBufferPointer(rest), nonce: Array(box[start..<(start + Cipher.nonceBytes)]),
                about: context(about), into: &value)
        }
        return value
    }

    /// The length goes before it, so that no other pair of name and value gives the same bytes.
    private func context(_ about: String) -> [UInt8] {
        let name = Array(about.utf8)
        return Self.magic + (0..<4).map { UInt8(truncatingIfNeeded: name.count >> (24 - 8 * $0)) } + name
    }
}
