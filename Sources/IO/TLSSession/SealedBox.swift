/// A short secret, such as an authority's key, wrapped by a key file with AES-256-GCM.
///
///     "MSTBOX1\n" · nonce (12) · ciphertext · tag (16)
///
/// The nonce is random: one key may wrap up to 2^32 boxes. `about` says what the box is for and must be the same when it
/// is opened, so that a box put in the place of another one does not open.
package enum SealedBox {
    private static let magic = Array("MSTBOX1\n".utf8)

    package static func seal(_ plain: [UInt8], key: SecretKey, about: String) throws(TLSFailure) -> [UInt8] {
        let nonce = Crypto.randomBytes(Cipher.nonceBytes)
        var box = magic + nonce
        let cipher = try Cipher(key, isSealing: true)
        try plain.withUnsafeBufferPointer { buffer throws(TLSFailure) in
            try cipher.seal(UnsafeRawBufferPointer(buffer), nonce: nonce, about: magic + Array(about.utf8), into: &box)
        }
        return box
    }

    package static func open(_ box: [UInt8], key: SecretKey, about: String) throws(TLSFailure) -> [UInt8] {
        let start = magic.count + Cipher.nonceBytes
        guard box.starts(with: magic), box.count >= start else {
            throw TLSFailure(.malformed, "The \(box.count) bytes are no sealed box of this version of Muster.")
        }
        let cipher = try Cipher(key, isSealing: false)
        var plain: [UInt8] = []
        try box.withUnsafeBufferPointer { buffer throws(TLSFailure) in
            try cipher.open(
                UnsafeRawBufferPointer(UnsafeBufferPointer(rebasing: buffer[start...])),
                nonce: Array(box[magic.count..<start]),
                about: magic + Array(about.utf8), into: &plain)
        }
        return plain
    }
}

extension CertificateAuthority {
    /// The key, wrapped; it opens only together with this authority's certificate.
    package func wrappedKey(_ wrapping: SecretKey) throws(TLSFailure) -> [UInt8] {
        try SealedBox.seal(Array(key.pem().utf8), key: wrapping, about: Self.about(certificate))
    }

    /// Unwraps a key. Throws `notAuthentic` when the key file is another one, or the authority is.
    package init(certificate: Certificate, wrappedKey: [UInt8], _ wrapping: SecretKey) throws(TLSFailure) {
        let pem = try SealedBox.open(wrappedKey, key: wrapping, about: Self.about(certificate))
        try self.init(certificate: certificate, key: PrivateKey(pem: String(decoding: pem, as: UTF8.self)))
    }

    private static func about(_ certificate: Certificate) -> String { "authority key \(certificate.fingerprint)" }
}
