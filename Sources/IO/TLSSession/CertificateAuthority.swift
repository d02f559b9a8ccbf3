internal import COpenSSL

/// A cluster's authority: a self-signed certificate and the key that signs the others.
///
///     init    make ──▶ authority ──▶ certificate (to everybody), key (wrapped, on root voters only)
///     join    node: PrivateKey.make ──▶ CertificateRequest ──▶ authority: issue ──▶ Certificate ──▶ node
///     rotate  two authorities are trusted ──▶ all certificates come from the new one ──▶ the old one is dropped
package struct CertificateAuthority: Sendable {
    package let certificate: Certificate
    package let key: PrivateKey

    /// Seconds by which a certificate is good before it was made, for clocks that are behind.
    package static let backdateSeconds: Int64 = 300
    package static let lifetimeSeconds: Int64 = 10 * 365 * 86_400
    /// The lifetime of a node's certificate unless the caller sets another one.
    package static let nodeLifetimeSeconds: Int64 = 86_400
    package static let operatorLifetimeSeconds: Int64 = 365 * 86_400

    /// Puts a certificate and its key together again.
    package init(certificate: Certificate, key: PrivateKey) throws(TLSFailure) {
        guard certificate.isAuthority, key.belongs(to: certificate) else {
            throw TLSFailure(
                .malformed, "The key does not belong to the authority's certificate; use the pair made together.")
        }
        self.certificate = certificate
        self.key = key
    }

    /// Makes a new authority for a cluster. Its name has a random part, so that two authorities of one cluster differ.
    /// `now` is in seconds since 1970.
    package static func make(
        cluster: String, now: Int64, lifetimeSeconds: Int64 = lifetimeSeconds
    ) throws(TLSFailure) -> CertificateAuthority {
        guard CertificateIdentity.isName(cluster) else {
            throw TLSFailure(
                .malformed, "'\(cluster)' is no cluster id; use lower-case letters, digits, dots and dashes.")
        }
        let key = try PrivateKey.make()
        let random = Hexadecimal.text(Crypto.randomBytes(4))
        let template = Template(
            commonName: "Muster CA \(cluster.prefix(40)) \(random)", names: AlternativeNames(),
            notBefore: now - backdateSeconds, notAfter: now + lifetimeSeconds,
            extensions: [
                (NID_basic_constraints, "critical,CA:TRUE,pathlen:0"), (NID_key_usage, "critical,keyCertSign,cRLSign"),
                (NID_subject_key_identifier, "hash"),
            ])
        let certificate = try template.sign(key.pointer, by: nil, key)
        return try CertificateAuthority(certificate: certificate, key: key)
    }

    /// Signs what a node or an operator asked for. The identity and the names are the caller's decision: nothing of the
    /// request but its public key goes into the certificate. A node's certificate serves both sides of a connection, an
    /// operator's only the client's. No certificate outlives the authority's own.
    package func issue(
        _ request: CertificateRequest, identity: CertificateIdentity, dnsNames: [String] = [],
        addresses: [String] = [], now: Int64, lifetimeSeconds: Int64? = nil
    ) throws(TLSFailure) -> Certificate {
        guard identity.isValid else {
            throw TLSFailure(
                .malformed,
                "'\(identity.uri)' is no identity; use lower-case letters, digits, dots, dashes, underscores.")
        }
        guard let bad = dnsNames.first(where: { !Self.isDNSName($0) }) else {
            return try sign(request, identity, dnsNames, addresses, now, lifetimeSeconds)
        }
        throw TLSFailure(.malformed, "'\(bad)' is no DNS name; use letters, digits, dots and dashes.")
    }

    private func sign(
        _ request: CertificateRequest, _ identity: CertificateIdentity, _ dnsNames: [String], _ addresses: [String],
        _ now: Int64, _ lifetimeSeconds: Int64?
    ) throws(TLSFailure) -> Certificate {
        guard let native = CertificateRequest.native(request.der) else { throw ErrorQueue.failure("read a request") }
        defer { X509_REQ_free(native) }
        var names = AlternativeNames()
        names.uris = [identity.uri]
        names.dnsNames = dnsNames
        names.addresses = addresses
        let usage: String
        let lifetime: Int64
        switch identity {
        case .node: (usage, lifetime) = ("serverAuth,clientAuth", lifetimeSeconds ?? Self.nodeLifetimeSeconds)
        case .operator: (usage, lifetime) = ("clientAuth", lifetimeSeconds ?? Self.operatorLifetimeSeconds)
        }
        let template = Template(
            commonName: String(identity.description.prefix(DistinguishedName.bytesMax)), names: names,
            notBefore: max(now - Self.backdateSeconds, certificate.notBefore),
            notAfter: min(now + lifetime, certificate.notAfter),
            extensions: [
                (NID_basic_constraints, "critical,CA:FALSE"), (NID_key_usage, "critical,digitalSignature"),
                (NID_ext_key_usage, usage), (NID_authority_key_identifier, "keyid"),
            ])
        return try template.sign(X509_REQ_get0_pubkey(native), by: certificate, key)
    }

    private static func isDNSName(_ name: String) -> Bool {
        let bytes = Array(name.utf8)
        return (1...253).contains(bytes.count)
            && bytes.allSatisfy { byte in
                (0x61...0x7A).contains(byte | 0x20) || (0x30...0x39).contains(byte) || byte == 0x2D || byte == 0x2E
            }
    }

    /// A certificate before it is signed.
    private struct Template {
        let commonName: String
        let names: AlternativeNames
        let notBefore: Int64
        let notAfter: Int64
        let extensions: [(nid: CInt, value: String)]

        /// Without an issuer the certificate signs itself.
        func sign(
            _ publicKey: OpaquePointer?, by issuer: Certificate?, _ key: PrivateKey
        ) throws(TLSFailure) -> Certificate {
            guard notBefore < notAfter else {
                throw TLSFailure(
                    .malformed, "The certificate would end before it begins; check the clock and the authority's end.")
            }
            guard let made = X509_new() else { throw ErrorQueue.failure("make a certificate") }
            let native = NativeCertificate(owning: made)
            try DistinguishedName.set(X509_get_subject_name(made), commonName)
            var serial = Crypto.randomBytes(16)
            // Positive, and never shorter than the others.
            serial[0] = serial[0] & 0x3F | 0x40
            let number = BN_bin2bn(serial, CInt(serial.count), nil)
            defer { BN_free(number) }
            guard X509_set_version(made, 2) == 1, X509_set_pubkey(made, publicKey) == 1,
                BN_to_ASN1_INTEGER(number, X509_get_serialNumber(made)) != nil,
                ASN1_TIME_set(X509_getm_notBefore(made), Int(notBefore)) != nil,
                ASN1_TIME_set(X509_getm_notAfter(made), Int(notAfter)) != nil
            else { throw ErrorQueue.failure("fill a certificate") }
            if let issuer {
                let above = try NativeCertificate(der: issuer.der)
                guard X509_set_issuer_name(made, X509_get_subject_name(above.pointer)) == 1 else {
                    throw ErrorQueue.failure("name the issuer")
                }
                try extend(made, above.pointer)
            } else {
                guard X509_set_issuer_name(made, X509_get_subject_name(made)) == 1 else {
                    throw ErrorQueue.failure("name the issuer")
                }
                try extend(made, made)
            }
            guard X509_sign(made, key.pointer, EVP_sha256()) > 0 else { throw ErrorQueue.failure("sign a certificate") }
            return try Certificate(native)
        }

        private func extend(_ made: OpaquePointer, _ issuer: OpaquePointer) throws(TLSFailure) {
            for (nid, value) in extensions {
                guard copenssl_certificate_add(made, issuer, nid, value) == 1 else {
                    throw ErrorQueue.failure("add an extension")
                }
            }
            if names.uris.isEmpty { return }
            let native = try names.native()
            defer { copenssl_names_free(native) }
            guard copenssl_certificate_add_names(made, native, 0) == 1 else {
                throw ErrorQueue.failure("add the names")
            }
        }
    }
}
