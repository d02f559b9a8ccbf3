internal import COpenSSL

/// A certificate with the chain above it, and its key.
package struct TLSIdentity: Sendable {
    /// The own certificate first, then those that signed it, the authority last: whoever joins by a token finds it there.
    package let chain: [Certificate]
    package let key: PrivateKey

    package init(chain: [Certificate], key: PrivateKey) throws(TLSFailure) {
        guard let leaf = chain.first, key.belongs(to: leaf) else {
            throw TLSFailure(
                .malformed, "The private key does not belong to the certificate; use the pair made together.")
        }
        self.chain = chain
        self.key = key
    }

    /// Reads both from PEM.
    package init(chain: String, key: String) throws(TLSFailure) {
        try self.init(chain: Certificate.list(pem: chain), key: PrivateKey(pem: key))
    }
}

/// Which authorities may have signed the other side's certificate.
package enum TLSTrust: Sendable {
    /// Any of these; several while an authority is being replaced.
    case authorities([Certificate])
    /// The one with this fingerprint, which the other side must send: all that a joining node knows.
    case pinnedAuthority(Fingerprint)
}

/// What a server does about a client's certificate.
package enum ClientCertificate: Sendable {
    case required
    /// Checked when there is one; `peerCertificate` is nil when there is none.
    case optional
    case notAsked
}

/// What all sessions of one port have in common. Never changes: renewed certificates go into a new context, and sessions
/// that began under the old one keep it. Any thread may use it.
///
/// There are no session tickets: a resumed session skips the certificate, with which a removed node would stay known.
package final class TLSContext: @unchecked Sendable {  // Never changes; OpenSSL counts atomically.
    package enum Side: Sendable {
        case client
        case server
    }

    package let side: Side
    let pointer: OpaquePointer
    let isFrugal: Bool
    let recordsPerKeyMax: Int
    // OpenSSL holds the address of both, so they live as long as the context.
    private let pinned: UnsafeMutablePointer<UInt8>
    private let protocols: UnsafeMutablePointer<copenssl_protocols>
    private let protocolBytes: UnsafeMutableBufferPointer<UInt8>

    /// - Parameters:
    ///   - side: which end of its connections the context is for.
    ///   - identity: what this side shows; a server must have one.
    ///   - trust: who may have signed the other side's certificate.
    ///   - clientCertificate: for servers only; a client always checks the server's.
    ///   - names: protocols for ALPN. A server refuses a client that offers only others.
    ///   - recordsPerKeyMax: a session changes its key after so many records.
    ///   - allowsTLS12: for clients that measure another system, whose server knows nothing newer. Nothing else sets it.
    ///   - isFrugal: sessions give their record buffers back whenever they are empty: for thousands of idle ones.
    package init(
        side: Side, identity: TLSIdentity?, trust: TLSTrust, clientCertificate: ClientCertificate = .required,
        protocols names: [String] = [], allowsTLS12: Bool = false, isFrugal: Bool = false,
        recordsPerKeyMax: Int = TLSLimits.recordsPerKeyMax
    ) throws(TLSFailure) {
        precondition(side == .client || identity != nil, "a server without a certificate has nothing to show")
        precondition(names.allSatisfy { (1...255).contains($0.utf8.count) }, "a protocol's name is too long: \(names)")
        guard let made = SSL_CTX_new(side == .client ? TLS_client_method() : TLS_server_method()) else {
            throw ErrorQueue.failure("make a context")
        }
        self.side = side
        self.isFrugal = isFrugal
        self.recordsPerKeyMax = recordsPerKeyMax
        pointer = made
        pinned = .allocate(capacity: 32)
        pinned.initialize(repeating: 0, count: 32)
        let wire = names.flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) }
        protocolBytes = .allocate(capacity: max(1, wire.count))
        _ = protocolBytes.update(fromContentsOf: wire)
        protocols = .allocate(capacity: 1)
        protocols.initialize(to: copenssl_protocols(bytes: protocolBytes.baseAddress, count: UInt32(wire.count)))
        // From here on `deinit` frees everything when one of these throws.
        try prepare()
        if allowsTLS12, copenssl_allow_tls12(pointer) != 1 { throw ErrorQueue.failure("allow TLS 1.2") }
        if let identity { try show(identity) }
        try believe(trust)
        if side == .server {
            switch clientCertificate {
            case .required: SSL_CTX_set_verify(pointer, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
            case .optional: SSL_CTX_set_verify(pointer, SSL_VERIFY_PEER, nil)
            case .notAsked: SSL_CTX_set_verify(pointer, SSL_VERIFY_NONE, nil)
            }
        } else {
            SSL_CTX_set_verify(pointer, SSL_VERIFY_PEER, nil)
        }
        guard !wire.isEmpty else { return }
        if side == .server {
            copenssl_set_selected_protocols(pointer, protocols)
        } else if SSL_CTX_set_alpn_protos(pointer, protocolBytes.baseAddress, UInt32(wire.count)) != 0 {
            throw ErrorQueue.failure("offer the protocols")
        }
    }

    deinit {
        SSL_CTX_free(pointer)
        pinned.deallocate()
        protocols.deallocate()
        protocolBytes.deallocate()
    }

    private func prepare() throws(TLSFailure) {
        // AES-128 first: it is the fastest where the processor knows AES, and as strong as the P-256 keys around it.
        let suites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
        guard copenssl_require_tls13(pointer) == 1, SSL_CTX_set_ciphersuites(pointer, suites) == 1,
            copenssl_set_groups(pointer, "X25519:P-256") == 1, SSL_CTX_set_num_tickets(pointer, 0) == 1
        else { throw ErrorQueue.failure("set TLS 1.3 up") }
        copenssl_set_modes(pointer, isFrugal ? 1 : 0)
        SSL_CTX_set_verify_depth(pointer, CInt(TLSLimits.chainDepthMax))
    }

    private func show(_ identity: TLSIdentity) throws(TLSFailure) {
        for (i, certificate) in identity.chain.enumerated() {
            let native = try NativeCertificate(der: certificate.der)
            let isTaken =
                i == 0
                ? SSL_CTX_use_certificate(pointer, native.pointer) == 1
                : copenssl_add_chain_certificate(pointer, native.pointer) == 1
            guard isTaken else { throw ErrorQueue.failure("use a certificate") }
        }
        guard SSL_CTX_use_PrivateKey(pointer, identity.key.pointer) == 1, SSL_CTX_check_private_key(pointer) == 1 else {
            throw ErrorQueue.failure("use a private key")
        }
    }

    private func believe(_ trust: TLSTrust) throws(TLSFailure) {
        switch trust {
        case .authorities(let authorities):
            let store = SSL_CTX_get_cert_store(pointer)
            for authority in authorities {
                let native = try NativeCertificate(der: authority.der)
                guard X509_STORE_add_cert(store, native.pointer) == 1 else {
                    throw ErrorQueue.failure("trust an authority")
                }
                // Servers tell clients which authorities they take; a client with several certificates chooses by it.
                if side == .server, SSL_CTX_add_client_CA(pointer, native.pointer) != 1 {
                    throw ErrorQueue.failure("name an authority")
                }
            }
        case .pinnedAuthority(let fingerprint):
            for (i, byte) in fingerprint.bytes.enumerated() { pinned[i] = byte }
            copenssl_set_pinned(pointer, pinned)
        }
    }
}
