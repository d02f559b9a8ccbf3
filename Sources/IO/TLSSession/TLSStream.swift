internal import COpenSSL

/// One TLS 1.3 session without a socket: ciphertext goes in and comes out as bytes, and so does plaintext.
///
///     socket ──▶ receive ──▶ ┌─────────┐ ──▶ read ──▶ frames, requests
///                            │ session │
///     socket ◀── takeOutput ◀┤         │◀── write ◀── frames, answers
///                            └─────────┘
///     handshaking ──▶ established ──▶ ended (the other side closed) / closed (this side did) / failed
///
/// After every call, and also after one that threw, the owner sends what `takeOutput` gives: an alert may be in it that
/// tells the other side why, or the answer to a change of keys. A client's first output is there from the beginning. A client of
/// TLS 1.3 is established before the server has seen its certificate, so a refusal arrives with a later `receive`.
///
/// One thread at a time uses a session. Once the buffers have grown to the traffic, `receive`, `read`, `write` and
/// `takeOutput` allocate nothing beyond the few bytes that OpenSSL takes for a record on each side.
package final class TLSStream {
    private let context: TLSContext
    private let session: OpaquePointer
    // OpenSSL holds their addresses until the session is freed.
    private let inbound: UnsafeMutablePointer<copenssl_pipe>
    private let outbound: UnsafeMutablePointer<copenssl_pipe>
    private var failure: TLSFailure?
    private var recordsUnderKey = 0

    /// True once both sides have proved who they are, as far as this side asked.
    package private(set) var isEstablished = false
    /// The certificate that the other side showed and that was checked; nil before the handshake ended, or when the other
    /// side needed none and showed none.
    package private(set) var peerCertificate: Certificate?
    /// True once the other side said that nothing more will come. A socket that ends without this was cut.
    package private(set) var isEnded = false
    /// True once this side closed.
    package private(set) var isClosed = false

    nonisolated(unsafe) private static let pipes = copenssl_pipe_method()  // Made once, never changed.

    /// - Parameters:
    ///   - context: what all sessions of the port share.
    ///   - serverName: for clients: the DNS name or IP address that the server's certificate must carry. Nil checks the
    ///     chain only, as between nodes, where the identity in the certificate counts and not where it runs.
    package init(_ context: TLSContext, serverName: String? = nil) throws(TLSFailure) {
        guard let session = SSL_new(context.pointer) else { throw ErrorQueue.failure("make a session") }
        self.context = context
        self.session = session
        inbound = .allocate(capacity: 1)
        outbound = .allocate(capacity: 1)
        let retained = context.isFrugal ? TLSLimits.retainedBytesFrugalMax : TLSLimits.retainedBytesMax
        inbound.initialize(to: copenssl_pipe(data: nil, start: 0, end: 0, capacity: 0, retained: retained))
        outbound.initialize(to: copenssl_pipe(data: nil, start: 0, end: 0, capacity: 0, retained: retained))
        guard let read = copenssl_pipe_bio(Self.pipes, inbound), let write = copenssl_pipe_bio(Self.pipes, outbound)
        else {
            throw ErrorQueue.failure("make a pipe")
        }
        SSL_set_bio(session, read, write)
        if context.side == .server {
            SSL_set_accept_state(session)
            return
        }
        SSL_set_connect_state(session)
        if let serverName { try expect(serverName) }
        try shakeHands()
    }

    deinit {
        SSL_free(session)
        copenssl_pipe_free(inbound)
        copenssl_pipe_free(outbound)
        inbound.deallocate()
        outbound.deallocate()
    }

    /// Takes ciphertext from the socket, and goes on with the handshake. Refuses as `full` what passes
    /// `TLSLimits.inboundBytesMax`; read the session until it gives nothing before more is received.
    package func receive(_ cipher: UnsafeRawBufferPointer) throws(TLSFailure) {
        if let failure { throw failure }
        guard copenssl_pipe_count(inbound) + cipher.count <= TLSLimits.inboundBytesMax else {
            throw TLSFailure(
                .full, "\(copenssl_pipe_count(inbound)) received bytes wait to be read; read them before more arrive.")
        }
        guard copenssl_pipe_append(inbound, cipher.baseAddress, cipher.count) == 1 else {
            throw failed(TLSFailure(.library, "There is no memory for \(cipher.count) received bytes."))
        }
        if !isEstablished { try shakeHands() }
    }

    /// Fills `into` with plaintext and returns how much there was. Zero means that nothing is there now; `isEnded` tells
    /// whether anything can still come.
    package func read(into: UnsafeMutableRawBufferPointer) throws(TLSFailure) -> Int {
        if let failure { throw failure }
        guard isEstablished, let start = into.baseAddress else { return 0 }
        var total = 0
        ERR_clear_error()
        while total < into.count {
            var count = 0
            let result = SSL_read_ex(session, start + total, into.count - total, &count)
            if result == 1 {
                total += count
                // Most messages come whole and alone: another look costs as much as this one, and finds nothing.
                if copenssl_pipe_count(inbound) == 0 && SSL_has_pending(session) == 0 { break }
                continue
            }
            let code = SSL_get_error(session, result)
            if code == SSL_ERROR_WANT_READ { break }
            if code == SSL_ERROR_ZERO_RETURN {
                isEnded = true
                break
            }
            let error = failed(reason())
            // What was decrypted before the failure is good and is given out first; the next call throws.
            if total > 0 { break }
            throw error
        }
        return total
    }

    /// Encrypts all of `plain`, or throws and takes nothing of it. `full` means that the socket is slower than the writer:
    /// send the output and write again.
    package func write(_ plain: UnsafeRawBufferPointer) throws(TLSFailure) {
        if let failure { throw failure }
        guard !isClosed else { throw TLSFailure(.closed, "The session was closed; open a new one to write.") }
        guard isEstablished else {
            throw TLSFailure(.notEstablished, "The handshake has not ended; write when the session is established.")
        }
        guard let start = plain.baseAddress, plain.count > 0 else { return }
        let records = (plain.count + TLSLimits.recordBytesMax - 1) / TLSLimits.recordBytesMax
        let waiting = copenssl_pipe_count(outbound)
        guard waiting + plain.count + records * TLSLimits.recordOverheadBytes <= TLSLimits.outboundBytesMax else {
            throw TLSFailure(.full, "\(waiting) encrypted bytes wait to be sent; send them before \(plain.count) more.")
        }
        ERR_clear_error()
        recordsUnderKey += records
        if recordsUnderKey > context.recordsPerKeyMax {
            recordsUnderKey = records
            guard SSL_key_update(session, SSL_KEY_UPDATE_NOT_REQUESTED) == 1 else { throw failed(reason()) }
        }
        var total = 0
        while total < plain.count {
            var count = 0
            let result = SSL_write_ex(session, start + total, plain.count - total, &count)
            guard result == 1 else { throw failed(reason(SSL_get_error(session, result))) }
            total += count
        }
    }

    /// Ciphertext that waits to be sent.
    package var outputBytes: Int { copenssl_pipe_count(outbound) }

    package var hasOutput: Bool { copenssl_pipe_count(outbound) > 0 }

    /// Received ciphertext that was not yet decrypted, and plaintext that was not yet read.
    package var hasInput: Bool { copenssl_pipe_count(inbound) > 0 || SSL_has_pending(session) == 1 }

    /// Appends all ciphertext that waits to be sent.
    package func takeOutput(into: inout [UInt8]) {
        withOutput { waiting in
            into.append(contentsOf: waiting)
            return waiting.count
        }
    }

    /// Shows the ciphertext that waits to be sent, in place; the body returns how much of it was sent. The buffer is good
    /// until the body returns. Not called when nothing waits.
    package func withOutput(_ body: (UnsafeRawBufferPointer) -> Int) {
        let count = copenssl_pipe_count(outbound)
        guard count > 0, let data = outbound.pointee.data else { return }
        let sent = body(UnsafeRawBufferPointer(start: data + outbound.pointee.start, count: count))
        precondition(sent >= 0 && sent <= count, "\(sent) of \(count) bytes can't have been sent")
        copenssl_pipe_consume(outbound, sent)
    }

    /// Tells the other side that nothing more will come. What was written before is sent before it.
    package func close() {
        guard !isClosed else { return }
        isClosed = true
        guard isEstablished, failure == nil else { return }
        ERR_clear_error()
        SSL_shutdown(session)
        ERR_clear_error()
    }

    /// What the other side sent, its own certificate first. With a pinned authority, that one is among them.
    package var peerChain: [Certificate] {
        guard isEstablished, let leaf = peerCertificate else { return [] }
        let chain = SSL_get_peer_cert_chain(session)
        var found = [leaf]
        for i in 0..<copenssl_chain_count(chain) {
            guard let item = copenssl_chain_item(chain, i), X509_up_ref(item) == 1,
                // A certificate with names that we do not take is as good as none.
                let read = try? Certificate(NativeCertificate(owning: item)), read != leaf
            else { continue }
            found.append(read)
        }
        return found
    }

    /// The protocol that ALPN chose, if there was one.
    package var negotiatedProtocol: String? {
        var start: UnsafePointer<UInt8>?
        var count: UInt32 = 0
        SSL_get0_alpn_selected(session, &start, &count)
        guard let start, count > 0 else { return nil }
        return String(decoding: UnsafeBufferPointer(start: start, count: Int(count)), as: UTF8.self)
    }

    private func expect(_ name: String) throws(TLSFailure) {
        let isTaken: Bool
        if IPAddressText.bytes(name) != nil {
            isTaken = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), name) == 1
        } else {
            SSL_set_hostflags(
                session, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT))
            copenssl_set_server_name(session, name)
            isTaken = SSL_set1_host(session, name) == 1
        }
        guard isTaken else {
            throw failed(TLSFailure(.malformed, "'\(name)' is neither a DNS name nor an IP address."))
        }
    }

    private func shakeHands() throws(TLSFailure) {
        ERR_clear_error()
        let result = SSL_do_handshake(session)
        if result == 1 {
            if let shown = SSL_get1_peer_certificate(session) {
                do throws(TLSFailure) {
                    peerCertificate = try Certificate(NativeCertificate(owning: shown))
                } catch {
                    throw failed(TLSFailure(.certificateRefused, error.message))
                }
            }
            isEstablished = true
            return
        }
        let code = SSL_get_error(session, result)
        if code == SSL_ERROR_WANT_READ { return }
        throw failed(reason(code))
    }

    /// Remembers the first failure, which every later call repeats.
    private func failed(_ error: TLSFailure) -> TLSFailure {
        if failure == nil { failure = error }
        return error
    }

    private func reason(_ code: CInt = SSL_ERROR_SSL) -> TLSFailure {
        let verified = SSL_get_verify_result(session)
        let (text, isAlert) = ErrorQueue.take()
        if code == SSL_ERROR_SYSCALL { return TLSFailure(.library, "There is no memory for encrypted bytes.") }
        if code == SSL_ERROR_ZERO_RETURN {
            return TLSFailure(.closed, "The other side closed the session before the handshake ended.")
        }
        if isAlert { return TLSFailure(.refusedByPeer, "The other side refused the session: \(Self.plain(text)).") }
        if text == "peer did not return a certificate" {
            return TLSFailure(.certificateRefused, "The other side showed no certificate, and this port asks for one.")
        }
        if verified != X509_V_OK {
            if verified == X509_V_ERR_HOSTNAME_MISMATCH || verified == X509_V_ERR_IP_ADDRESS_MISMATCH {
                return TLSFailure(
                    .certificateRefused,
                    "The other side's certificate is not for the name or address that was asked; use one that the node "
                        + "advertises, or set what it advertises.")
            }
            let why = X509_verify_cert_error_string(verified).map { String(cString: $0) } ?? "error \(verified)"
            if verified == X509_V_ERR_CERT_NOT_YET_VALID || verified == X509_V_ERR_CERT_HAS_EXPIRED {
                return TLSFailure(
                    .certificateUntimely,
                    "The other side's certificate is refused: \(why) by this host's clock; compare the clocks of both hosts."
                )
            }
            return TLSFailure(.certificateRefused, "The other side's certificate is refused: \(why).")
        }
        return TLSFailure(.protocolViolated, "The other side does not speak TLS 1.3 as this port does: \(text).")
    }

    /// An alert without the prefixes that only OpenSSL's authors need.
    private static func plain(_ alert: String) -> String {
        for prefix in ["tlsv13 alert ", "tlsv1 alert ", "sslv3 alert ", "ssl/tls alert "] where alert.hasPrefix(prefix)
        {
            return String(alert.dropFirst(prefix.count))
        }
        return alert
    }
}
