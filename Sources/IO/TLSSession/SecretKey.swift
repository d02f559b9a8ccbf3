internal import COpenSSL

/// 32 secret bytes, wiped when nobody holds them any more. The text form is for a key file: one line of base 64.
package final class SecretKey: @unchecked Sendable {  // Never changes after init.
    package static let byteCount = 32
    private let memory: UnsafeMutableRawBufferPointer

    /// Makes a new key on this machine.
    package static func make() -> SecretKey { SecretKey(exactly: Crypto.randomBytes(byteCount)) }

    /// Nil unless there are 32 bytes.
    package convenience init?(bytes: [UInt8]) {
        guard bytes.count == Self.byteCount else { return nil }
        self.init(exactly: bytes)
    }

    /// Reads what `text` gives; white space around it is allowed.
    package convenience init(text: String) throws(TLSFailure) {
        let word = text.filter { !$0.isWhitespace }
        guard let bytes = Base64.bytes(word), bytes.count == Self.byteCount else {
            throw TLSFailure(.malformed, "The key file must have one line with 44 characters of base 64.")
        }
        self.init(exactly: bytes)
    }

    init(exactly bytes: [UInt8]) {
        precondition(bytes.count == Self.byteCount, "a secret key has 32 bytes, not \(bytes.count)")
        memory = .allocate(byteCount: Self.byteCount, alignment: 16)
        memory.copyBytes(from: bytes)
    }

    deinit {
        OPENSSL_cleanse(memory.baseAddress, memory.count)
        memory.deallocate()
    }

    /// The key in its text form, with a line end.
    package var text: String { Base64.text(bytes) + "\n" }

    var bytes: [UInt8] { Array(memory) }

    func withBytes<Result>(_ body: (UnsafePointer<UInt8>) -> Result) -> Result {
        memory.withMemoryRebound(to: UInt8.self) { buffer in
            guard let start = buffer.baseAddress else { preconditionFailure("a secret key has memory") }
            return body(start)
        }
    }
}

/// AES-256-GCM, one message at a time.
struct Cipher: ~Copyable {
    static let nonceBytes = 12
    static let tagBytes = 16
    private let context: OpaquePointer
    private let isSealing: Bool

    init(_ key: SecretKey, isSealing: Bool) throws(TLSFailure) {
        guard let context = EVP_CIPHER_CTX_new() else { throw ErrorQueue.failure("make a cipher") }
        let isReady = key.withBytes { EVP_CipherInit_ex(context, EVP_aes_256_gcm(), nil, $0, nil, isSealing ? 1 : 0) }
        guard isReady == 1 else {
            EVP_CIPHER_CTX_free(context)
            throw ErrorQueue.failure("set a cipher up")
        }
        self.context = context
        self.isSealing = isSealing
    }

    deinit { EVP_CIPHER_CTX_free(context) }

    /// Appends the ciphertext and its tag. A nonce is used once per key.
    func seal(
        _ plain: UnsafeRawBufferPointer, nonce: [UInt8], about: [UInt8], into: inout [UInt8]
    ) throws(TLSFailure) {
        precondition(isSealing && nonce.count == Self.nonceBytes, "a nonce has 12 bytes, not \(nonce.count)")
        var tag = [UInt8](repeating: 0, count: Self.tagBytes)
        let start = into.count
        into.append(contentsOf: plain)
        guard run(&into, from: start, count: plain.count, nonce, about), finish(),
            copenssl_get_tag(context, &tag) == 1
        else { throw ErrorQueue.failure("encrypt") }
        into.append(contentsOf: tag)
    }

    /// Appends the plaintext, or throws `notAuthentic` and appends nothing.
    func open(
        _ sealed: UnsafeRawBufferPointer, nonce: [UInt8], about: [UInt8], into: inout [UInt8]
    ) throws(TLSFailure) {
        precondition(!isSealing && nonce.count == Self.nonceBytes, "a nonce has 12 bytes, not \(nonce.count)")
        let refusal = TLSFailure(
            .notAuthentic, "The sealed data does not open: it was changed, or the key is another one.")
        guard sealed.count >= Self.tagBytes else { throw refusal }
        let count = sealed.count - Self.tagBytes
        var tag = Array(sealed[count...])
        let start = into.count
        into.append(contentsOf: sealed[..<count])
        guard run(&into, from: start, count: count, nonce, about), copenssl_set_tag(context, &tag) == 1, finish() else {
            ERR_clear_error()
            into.removeSubrange(start...)
            throw refusal
        }
    }

    /// Runs the cipher in place over the end of `text`.
    private func run(_ text: inout [UInt8], from start: Int, count: Int, _ nonce: [UInt8], _ about: [UInt8]) -> Bool {
        var made: CInt = 0
        guard count <= Int(CInt.max), EVP_CipherInit_ex(context, nil, nil, nil, nonce, isSealing ? 1 : 0) == 1,
            EVP_CipherUpdate(context, nil, &made, about, CInt(about.count)) == 1
        else { return false }
        if count == 0 { return true }
        return text.withUnsafeMutableBufferPointer { buffer in
            guard let base = buffer.baseAddress else { return false }
            return EVP_CipherUpdate(context, base + start, &made, base + start, CInt(count)) == 1 && Int(made) == count
        }
    }

    private func finish() -> Bool {
        var made: CInt = 0
        var rest = [UInt8](repeating: 0, count: 16)
        return EVP_CipherFinal_ex(context, &rest, &made) == 1
    }
}
