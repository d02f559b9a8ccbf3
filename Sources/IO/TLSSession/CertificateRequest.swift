internal import COpenSSL

/// What a node asks an authority to sign: its public key, and the names under which it can be reached. The private key
/// stays where it was made.
package struct CertificateRequest: Hashable, Sendable {
    package let der: [UInt8]
    package let commonName: String
    package let dnsNames: [String]
    package let addresses: [String]

    /// Makes a request and signs it with the key.
    package init(
        key: PrivateKey, commonName: String, dnsNames: [String] = [], addresses: [String] = []
    ) throws(TLSFailure) {
        guard let request = X509_REQ_new() else { throw ErrorQueue.failure("make a request") }
        defer { X509_REQ_free(request) }
        try DistinguishedName.set(X509_REQ_get_subject_name(request), commonName)
        guard X509_REQ_set_version(request, 0) == 1, X509_REQ_set_pubkey(request, key.pointer) == 1 else {
            throw ErrorQueue.failure("fill a request")
        }
        var names = AlternativeNames()
        names.dnsNames = dnsNames
        names.addresses = addresses
        if !dnsNames.isEmpty || !addresses.isEmpty {
            let native = try names.native()
            defer { copenssl_names_free(native) }
            guard copenssl_request_add_names(request, native) == 1 else { throw ErrorQueue.failure("fill a request") }
        }
        guard X509_REQ_sign(request, key.pointer, EVP_sha256()) > 0 else { throw ErrorQueue.failure("sign a request") }
        try self.init(request)
    }

    /// Reads a request from the wire. Refuses one that its own key did not sign, or whose key is not ECDSA P-256.
    package init(der: [UInt8]) throws(TLSFailure) {
        guard der.count <= TLSLimits.pemBytesMax, let request = Self.native(der) else {
            ERR_clear_error()
            throw TLSFailure(.malformed, "The \(der.count) bytes are no certificate request in DER form.")
        }
        defer { X509_REQ_free(request) }
        try self.init(request)
    }

    private init(_ request: OpaquePointer) throws(TLSFailure) {
        defer { ERR_clear_error() }
        guard let key = X509_REQ_get0_pubkey(request), copenssl_is_p256_key(key) == 1,
            X509_REQ_verify(request, key) == 1
        else {
            throw TLSFailure(.malformed, "The certificate request is not signed by the ECDSA P-256 key that is in it.")
        }
        let count = i2d_X509_REQ(request, nil)
        guard count > 0 else { throw ErrorQueue.failure("encode a request") }
        der = [UInt8](unsafeUninitializedCapacity: Int(count)) { into, made in
            var next = into.baseAddress
            made = Int(i2d_X509_REQ(request, &next))
        }
        commonName = Certificate.text(X509_REQ_get_subject_name(request))
        let names = try AlternativeNames(owning: copenssl_request_names(request))
        dnsNames = names.dnsNames
        addresses = names.addresses
    }

    /// OpenSSL's form; the caller frees it.
    static func native(_ der: [UInt8]) -> OpaquePointer? {
        der.withUnsafeBufferPointer { buffer in
            var next = buffer.baseAddress
            guard let made = d2i_X509_REQ(nil, &next, buffer.count) else { return nil }
            if next == buffer.baseAddress.map({ $0 + buffer.count }) { return made }
            X509_REQ_free(made)
            return nil
        }
    }
}

/// The subject of a certificate: one common name.
enum DistinguishedName {
    /// X.520 allows 64 characters.
    static let bytesMax = 64

    static func set(_ name: OpaquePointer?, _ commonName: String) throws(TLSFailure) {
        let bytes = Array(commonName.utf8)
        guard (1...bytesMax).contains(bytes.count) else {
            throw TLSFailure(.malformed, "A certificate's name has 1 to \(bytesMax) bytes, not \(bytes.count).")
        }
        guard
            X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8, bytes, CInt(bytes.count), -1, 0) == 1
        else { throw ErrorQueue.failure("set a certificate's name") }
    }
}
