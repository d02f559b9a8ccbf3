internal import COpenSSL

/// An X.509 certificate: its DER form and the facts in it. Reading one says nothing about whom to trust.
package struct Certificate: Hashable, Sendable {
    package let der: [UInt8]
    package let fingerprint: Fingerprint
    /// The subject's common name; empty when there is none.
    package let commonName: String
    /// The issuer's common name; empty when there is none.
    package let issuerName: String
    package let uris: [String]
    package let dnsNames: [String]
    /// Addresses as text: dotted for IPv4, colons for IPv6.
    package let addresses: [String]
    /// Seconds since 1970 from which on the certificate is good.
    package let notBefore: Int64
    /// Seconds since 1970 after which it is not.
    package let notAfter: Int64
    /// The serial number in lower-case hexadecimal digits.
    package let serial: String
    package let isAuthority: Bool

    package static func == (a: Certificate, b: Certificate) -> Bool { a.der == b.der }
    package func hash(into hasher: inout Hasher) { hasher.combine(fingerprint) }

    /// Who the certificate speaks for, when it has exactly one URI and that is one of ours.
    package var identity: CertificateIdentity? { uris.count == 1 ? CertificateIdentity(uri: uris[0]) : nil }

    package init(der: [UInt8]) throws(TLSFailure) {
        let native = try NativeCertificate(der: der)
        try self.init(native)
    }

    /// The first certificate in the text.
    package init(pem: String) throws(TLSFailure) { self = try Certificate.list(pem: pem)[0] }

    /// All certificates in a text of PEM, in their order; at least one.
    package static func list(pem: String) throws(TLSFailure) -> [Certificate] {
        guard pem.utf8.count <= TLSLimits.pemBytesMax else {
            throw TLSFailure(
                .malformed, "The certificates have \(pem.utf8.count) bytes; \(TLSLimits.pemBytesMax) are the most.")
        }
        let bio = try TextBIO(pem)
        var found: [Certificate] = []
        while let native = PEM_read_bio_X509(bio.pointer, nil, nil, nil) {
            found.append(try Certificate(NativeCertificate(owning: native)))
            if found.count > TLSLimits.certificatesMax {
                throw TLSFailure(.malformed, "The text has more than \(TLSLimits.certificatesMax) certificates.")
            }
        }
        // The end of the text is an error of OpenSSL's too; any other one means that a certificate is damaged.
        let end = ERR_peek_last_error()
        ERR_clear_error()
        let isEnd = Int(end & 0x7F_FFFF) == Int(PEM_R_NO_START_LINE)
        guard !found.isEmpty, isEnd else {
            throw TLSFailure(
                .malformed, "The text is no certificate in PEM form; it must begin with -----BEGIN CERTIFICATE-----.")
        }
        return found
    }

    package var pem: String {
        var text = "-----BEGIN CERTIFICATE-----\n"
        var line = 0
        for character in Base64.text(der) {
            if line == 64 {
                text.append("\n")
                line = 0
            }
            text.append(character)
            line += 1
        }
        return text + "\n-----END CERTIFICATE-----\n"
    }

    /// True when this certificate's signature was made by the authority's key. Says nothing about time or use.
    package func isSigned(by authority: Certificate) -> Bool {
        defer { ERR_clear_error() }
        // A certificate that was read once reads again; if it does not, nothing was signed by it.
        guard let mine = try? NativeCertificate(der: der), let theirs = try? NativeCertificate(der: authority.der),
            let key = X509_get0_pubkey(theirs.pointer)
        else { return false }
        return X509_verify(mine.pointer, key) == 1
    }

    init(_ native: borrowing NativeCertificate) throws(TLSFailure) {
        let x509 = native.pointer
        der = try native.der()
        fingerprint = Fingerprint(of: der)
        commonName = Self.text(X509_get_subject_name(x509))
        issuerName = Self.text(X509_get_issuer_name(x509))
        let names = try AlternativeNames(owning: copenssl_certificate_names(x509))
        uris = names.uris
        dnsNames = names.dnsNames
        addresses = names.addresses
        notBefore = copenssl_seconds(X509_get0_notBefore(x509))
        notAfter = copenssl_seconds(X509_get0_notAfter(x509))
        isAuthority = X509_check_ca(x509) > 0
        guard let number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x509), nil) else {
            throw ErrorQueue.failure("read a serial number")
        }
        defer { BN_free(number) }
        var bytes = [UInt8](repeating: 0, count: (Int(BN_num_bits(number)) + 7) / 8)
        BN_bn2bin(number, &bytes)
        serial = Hexadecimal.text(bytes)
    }

    static func text(_ name: OpaquePointer?) -> String {
        var buffer = [CChar](repeating: 0, count: 257)
        let count = X509_NAME_get_text_by_NID(name, NID_commonName, &buffer, CInt(buffer.count))
        return count > 0 ? String(decoding: buffer.prefix(Int(count)).map { UInt8(bitPattern: $0) }, as: UTF8.self) : ""
    }
}

/// One reference to OpenSSL's form of a certificate.
struct NativeCertificate: ~Copyable {
    let pointer: OpaquePointer

    init(owning pointer: OpaquePointer) { self.pointer = pointer }

    init(der: [UInt8]) throws(TLSFailure) {
        let read = der.withUnsafeBufferPointer { buffer -> OpaquePointer? in
            var next = buffer.baseAddress
            guard let made = d2i_X509(nil, &next, buffer.count) else { return nil }
            if next == buffer.baseAddress.map({ $0 + buffer.count }) { return made }
            X509_free(made)
            return nil
        }
        guard let read else {
            ERR_clear_error()
            throw TLSFailure(.malformed, "The \(der.count) bytes are no certificate in DER form.")
        }
        pointer = read
    }

    func der() throws(TLSFailure) -> [UInt8] {
        let count = i2d_X509(pointer, nil)
        guard count > 0 else { throw ErrorQueue.failure("encode a certificate") }
        return [UInt8](unsafeUninitializedCapacity: Int(count)) { into, made in
            var next = into.baseAddress
            made = Int(i2d_X509(pointer, &next))
        }
    }

    deinit { X509_free(pointer) }
}

/// The subject's alternative names of a certificate or a request.
struct AlternativeNames {
    var uris: [String] = []
    var dnsNames: [String] = []
    var addresses: [String] = []

    init() {}

    /// Reads and frees `names`; nil has none.
    init(owning names: OpaquePointer?) throws(TLSFailure) {
        guard let names else {
            ERR_clear_error()
            return
        }
        defer { copenssl_names_free(names) }
        for i in 0..<copenssl_names_count(names) {
            let name = copenssl_names_item(names, i)
            var count: CInt = 0
            guard let start = copenssl_name_bytes(name, &count), count >= 0 else { continue }
            let bytes = Array(UnsafeBufferPointer(start: start, count: Int(count)))
            switch copenssl_name_kind(name) {
            case GEN_URI: uris.append(try Self.text(bytes))
            case GEN_DNS: dnsNames.append(try Self.text(bytes))
            default:
                guard let address = IPAddressText.text(bytes) else {
                    throw TLSFailure(.malformed, "The certificate has an address of \(bytes.count) bytes.")
                }
                addresses.append(address)
            }
        }
        guard max(uris.count, dnsNames.count, addresses.count) <= TLSLimits.namesMax else {
            throw TLSFailure(.malformed, "The certificate has more than \(TLSLimits.namesMax) names of one kind.")
        }
    }

    /// A name with a zero byte or anything else that does not print could look like another one to somebody.
    private static func text(_ bytes: [UInt8]) throws(TLSFailure) -> String {
        guard bytes.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
            throw TLSFailure(.malformed, "The certificate has a name with characters that are not allowed in one.")
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// OpenSSL's form; the caller frees it.
    func native() throws(TLSFailure) -> OpaquePointer {
        guard let names = copenssl_names_new() else { throw ErrorQueue.failure("make a list of names") }
        do throws(TLSFailure) {
            for uri in uris { try Self.add(names, GEN_URI, Array(uri.utf8)) }
            for name in dnsNames { try Self.add(names, GEN_DNS, Array(name.utf8)) }
            for address in addresses {
                guard let bytes = IPAddressText.bytes(address) else {
                    throw TLSFailure(.malformed, "'\(address)' is no IP address.")
                }
                try Self.add(names, GEN_IPADD, bytes)
            }
        } catch {
            copenssl_names_free(names)
            throw error
        }
        return names
    }

    private static func add(_ names: OpaquePointer, _ kind: CInt, _ bytes: [UInt8]) throws(TLSFailure) {
        guard copenssl_names_add(names, kind, bytes, CInt(bytes.count)) == 1 else {
            throw ErrorQueue.failure("add a name")
        }
    }
}

/// A BIO that reads a text, or collects one.
struct TextBIO: ~Copyable {
    let pointer: OpaquePointer
    // A BIO over a text does not copy it.
    private let text: UnsafeMutableBufferPointer<UInt8>

    init(_ string: String) throws(TLSFailure) {
        let bytes = Array(string.utf8)
        text = .allocate(capacity: max(1, bytes.count))
        _ = text.update(fromContentsOf: bytes)
        guard let made = BIO_new_mem_buf(text.baseAddress, CInt(bytes.count)) else {
            text.deallocate()
            throw ErrorQueue.failure("read a text")
        }
        pointer = made
    }

    init() throws(TLSFailure) {
        text = .allocate(capacity: 1)
        guard let made = BIO_new(BIO_s_mem()) else {
            text.deallocate()
            throw ErrorQueue.failure("collect a text")
        }
        pointer = made
    }

    /// What was collected.
    var collected: String {
        var start: UnsafeMutablePointer<CChar>?
        let count = copenssl_bio_text(pointer, &start)
        guard let start, count > 0 else { return "" }
        return String(
            decoding: UnsafeRawBufferPointer(start: start, count: count), as: UTF8.self)
    }

    deinit {
        BIO_free(pointer)
        // Keys pass through here.
        OPENSSL_cleanse(text.baseAddress, text.count)
        text.deallocate()
    }
}
