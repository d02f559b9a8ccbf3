import ClusterBase

/// What a repeated command is known by: all of it but its request id and, from level 3 on, the place that it came from. A retry may
/// take another way than the first try.
enum RequestDigest {
    static func of(_ encoded: [UInt8]) -> UInt64 {
        var crc = CRC32C()
        crc.add(encoded)
        return UInt64(crc.value) << 32 | UInt64(encoded.count)
    }

    /// `alice from 10.0.0.1` without the address.
    static func withoutPlace(_ by: String) -> String {
        let text = Array(by.utf8)
        let mark = Array(" from ".utf8)
        var at = text.count - mark.count
        while at >= 0 {
            if text[at..<at + mark.count].elementsEqual(mark) { return String(decoding: text[..<at], as: UTF8.self) }
            at -= 1
        }
        return by
    }
}
