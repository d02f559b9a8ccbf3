internal import COpenSSL

/// Base 64 with padding, on one line (RFC 4648 §4).
enum Base64 {
    static func text(_ bytes: [UInt8]) -> String {
        let made = [UInt8](unsafeUninitializedCapacity: (bytes.count + 2) / 3 * 4 + 1) { into, count in
            count = Int(EVP_EncodeBlock(into.baseAddress, bytes, CInt(bytes.count)))
        }
        return String(decoding: made, as: UTF8.self)
    }

    /// Nil when the text is not exactly what `text` would give for some bytes.
    static func bytes(_ text: String) -> [UInt8]? {
        let source = Array(text.utf8)
        guard !source.isEmpty, source.count % 4 == 0 else { return source.isEmpty ? [] : nil }
        let padding = source.suffix(2).count { $0 == 0x3D }
        let bytes = [UInt8](unsafeUninitializedCapacity: source.count / 4 * 3) { into, count in
            let made = Int(EVP_DecodeBlock(into.baseAddress, source, CInt(source.count)))
            count = max(0, made - padding)
        }
        ERR_clear_error()
        return Base64.text(bytes) == text ? bytes : nil
    }
}
