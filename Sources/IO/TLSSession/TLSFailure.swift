internal import COpenSSL

/// Why a session or a piece of key material could not be used: a code to act on, and a sentence to show.
package struct TLSFailure: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Code: Hashable, Sendable {
        /// The other side's certificate is missing, not trusted or not for this name.
        case certificateRefused
        /// By this host's clock the other side's certificate has not begun or is over.
        case certificateUntimely
        /// The other side refused us, and said so with an alert.
        case refusedByPeer
        /// What arrived is no TLS 1.3, or was changed on its way.
        case protocolViolated
        /// The session was closed by this side, or failed before.
        case closed
        /// Plaintext was written before the handshake ended.
        case notEstablished
        /// A bound of `TLSLimits` was reached; nothing was taken.
        case full
        /// A key, certificate or request does not read, or they do not belong together.
        case malformed
        /// A sealed text does not open: another key, or changed bytes.
        case notAuthentic
        /// OpenSSL itself failed, as it does without memory.
        case library
    }

    package let code: Code
    /// One sentence that says what is wrong and what to do.
    package let message: String

    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    package var description: String { message }
}

/// OpenSSL's list of errors, which belongs to the thread.
enum ErrorQueue {
    /// The reason of the oldest error, and an empty queue after it.
    static func take() -> (reason: String, isAlert: Bool) {
        let code = ERR_get_error()
        ERR_clear_error()
        guard code != 0, let text = ERR_reason_error_string(code) else { return ("no reason given", false) }
        // Alerts of the other side have their number plus 1000 as reason.
        let number = Int(code & 0x7F_FFFF)
        return (String(cString: text), number >= 1000 && number < 1256)
    }

    static func failure(_ what: String) -> TLSFailure {
        TLSFailure(.library, "OpenSSL could not \(what): \(take().reason).")
    }
}
