internal import COpenSSL

/// An ECDSA P-256 key. It never prints itself; its PEM form is the caller's to keep secret.
package final class PrivateKey: @unchecked Sendable {  // Never changes; OpenSSL counts atomically.
    let pointer: OpaquePointer

    init(owning pointer: OpaquePointer) { self.pointer = pointer }

    deinit { EVP_PKEY_free(pointer) }

    /// Makes a new key on this machine.
    package static func make() throws(TLSFailure) -> PrivateKey {
        guard let made = copenssl_make_p256_key() else { throw ErrorQueue.failure("make a key") }
        return PrivateKey(owning: made)
    }

    /// Reads an unencrypted key in PEM form.
    package convenience init(pem: String) throws(TLSFailure) {
        guard pem.utf8.count <= TLSLimits.pemBytesMax else {
            throw TLSFailure(.malformed, "The key has \(pem.utf8.count) bytes; \(TLSLimits.pemBytesMax) are the most.")
        }
        let bio = try TextBIO(pem)
        // A callback that gives no passphrase; without one OpenSSL would ask the terminal.
        let read = PEM_read_bio_PrivateKey(bio.pointer, nil, { _, _, _, _ in -1 }, nil)
        guard let read else {
            ERR_clear_error()
            throw TLSFailure(
                .malformed,
                "The text is no unencrypted private key in PEM form; it must begin with -----BEGIN PRIVATE KEY-----.")
        }
        guard copenssl_is_p256_key(read) == 1 else {
            EVP_PKEY_free(read)
            ERR_clear_error()
            throw TLSFailure(.malformed, "The key is no ECDSA key on the curve P-256; make one with Muster.")
        }
        self.init(owning: read)
    }

    /// The key in PKCS#8, unencrypted.
    package func pem() throws(TLSFailure) -> String {
        let bio = try TextBIO()
        guard PEM_write_bio_PKCS8PrivateKey(bio.pointer, pointer, nil, nil, 0, nil, nil) == 1 else {
            throw ErrorQueue.failure("write a key")
        }
        return bio.collected
    }

    /// True when the certificate is for this key.
    package func belongs(to certificate: Certificate) -> Bool {
        defer { ERR_clear_error() }
        // A certificate that was read once reads again; if it does not, it belongs to no key.
        guard let native = try? NativeCertificate(der: certificate.der) else { return false }
        return X509_check_private_key(native.pointer, pointer) == 1
    }
}
