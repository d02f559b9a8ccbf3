/// The bounds of sessions and of what is read from outside.
package enum TLSLimits {
    /// Ciphertext that may wait in a session to be decrypted. Whoever feeds a session reads it until it gives nothing.
    package static let inboundBytesMax = 4 << 20
    /// Ciphertext that may wait in a session to be sent. A write that would pass it is refused as a whole.
    package static let outboundBytesMax = 16 << 20
    /// Memory that a session without waiting ciphertext keeps for each direction.
    package static let retainedBytesMax = 512 << 10
    /// The same for a session of a frugal context.
    package static let retainedBytesFrugalMax = 32 << 10
    /// Certificates that the other side may send, leaf included.
    package static let chainDepthMax = 4
    /// Certificates in one text of PEM.
    package static let certificatesMax = 32
    /// Bytes of one text of PEM.
    package static let pemBytesMax = 256 << 10
    /// Names of one kind in a certificate.
    package static let namesMax = 64
    /// Records that one traffic key protects. AES-GCM is safe for 2^24.5; the rest is margin.
    package static let recordsPerKeyMax = 1 << 23
    /// What a record adds to its plaintext: header, content type, tag.
    static let recordOverheadBytes = 22
    static let recordBytesMax = 16_384
}
