internal import COpenSSL

/// The primitives that the rest of Muster may use, each one call.
package enum Crypto {
    /// The SHA-256 of the bytes, 32 of them.
    package static func sha256(_ bytes: [UInt8]) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: 32) { into, count in
            _ = SHA256(bytes, bytes.count, into.baseAddress)
            count = 32
        }
    }

    /// The HMAC-SHA-256 of the bytes under the key, 32 of them.
    package static func hmacSHA256(key: [UInt8], _ bytes: [UInt8]) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: 32) { into, count in
            var length: UInt32 = 32
            // A null key means "the key of before" to OpenSSL, and an empty array may have no address.
            let made = (key.isEmpty ? [0] : key).withUnsafeBytes {
                HMAC(EVP_sha256(), $0.baseAddress, CInt(key.count), bytes, bytes.count, into.baseAddress, &length)
            }
            precondition(made != nil && length == 32, "HMAC-SHA-256 gave \(length) bytes")
            count = 32
        }
    }

    /// HKDF with SHA-256 (RFC 5869). `count` is at most 8,160.
    package static func hkdf(secret: [UInt8], salt: [UInt8], info: [UInt8], count: Int) -> [UInt8] {
        precondition(count > 0 && count <= 255 * 32, "HKDF can't give \(count) bytes")
        let key = hmacSHA256(key: salt.isEmpty ? [UInt8](repeating: 0, count: 32) : salt, secret)
        var output: [UInt8] = []
        var block: [UInt8] = []
        var number: UInt8 = 0
        while output.count < count {
            number += 1
            block = hmacSHA256(key: key, block + info + [number])
            output += block
        }
        return Array(output.prefix(count))
    }

    /// Bytes that nobody can guess. Ends the process when the system has no randomness to give: every key would be weak.
    package static func randomBytes(_ count: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count) { into, made in
            let result = RAND_bytes(into.baseAddress, CInt(count))
            precondition(
                count == 0 || result == 1, "the system gave no \(count) random bytes: \(ErrorQueue.take().reason)")
            made = count
        }
    }

    /// Compares secrets in a time that depends on nothing but their length.
    package static func isEqual(_ a: [UInt8], _ b: [UInt8]) -> Bool {
        a.count == b.count && CRYPTO_memcmp(a, b, a.count) == 0
    }
}
