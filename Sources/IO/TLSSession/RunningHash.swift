internal import COpenSSL

/// A SHA-256 of bytes that come one after the other.
package struct RunningHash: ~Copyable {
    private let context: OpaquePointer

    /// Ends the process when there is no memory for it, as all else would.
    package init() {
        guard let context = EVP_MD_CTX_new(), EVP_DigestInit_ex(context, EVP_sha256(), nil) == 1 else {
            preconditionFailure("no hash can be begun: \(ErrorQueue.take().reason)")
        }
        self.context = context
    }

    deinit { EVP_MD_CTX_free(context) }

    package mutating func add(_ bytes: UnsafeRawBufferPointer) {
        let isAdded = EVP_DigestUpdate(context, bytes.baseAddress, bytes.count) == 1
        precondition(isAdded, "\(bytes.count) bytes were not hashed: \(ErrorQueue.take().reason)")
    }

    /// 32 bytes.
    package consuming func finish() -> [UInt8] {
        let context = context
        return [UInt8](unsafeUninitializedCapacity: 32) { into, count in
            var length: UInt32 = 0
            let isDone = EVP_DigestFinal_ex(context, into.baseAddress, &length) == 1
            precondition(isDone && length == 32, "SHA-256 gave \(length) bytes")
            count = 32
        }
    }
}
