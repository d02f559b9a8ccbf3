internal import COpenSSL

extension CertificateRequest {
    /// SHA-256 of the public key in it, which stays the same over all certificates of one key.
    package func keyHash() throws(TLSFailure) -> [UInt8] {
        guard let native = Self.native(der) else { throw ErrorQueue.failure("read a request") }
        defer { X509_REQ_free(native) }
        guard let key = X509_REQ_get0_pubkey(native) else { throw ErrorQueue.failure("read a request's key") }
        return try Self.hash(ofKey: key)
    }

    static func hash(ofKey key: OpaquePointer) throws(TLSFailure) -> [UInt8] {
        let count = i2d_PUBKEY(key, nil)
        guard count > 0 else { throw ErrorQueue.failure("write a public key") }
        var bytes = [UInt8](repeating: 0, count: Int(count))
        let written = bytes.withUnsafeMutableBufferPointer { buffer -> CInt in
            var end = buffer.baseAddress
            return i2d_PUBKEY(key, &end)
        }
        guard written == count else { throw ErrorQueue.failure("write a public key") }
        return Crypto.sha256(bytes)
    }
}

extension Certificate {
    /// The same hash as that of the request that it was made of.
    package func keyHash() throws(TLSFailure) -> [UInt8] {
        let native = try NativeCertificate(der: der)
        guard let key = X509_get0_pubkey(native.pointer) else { throw ErrorQueue.failure("read a certificate's key") }
        return try CertificateRequest.hash(ofKey: key)
    }
}
