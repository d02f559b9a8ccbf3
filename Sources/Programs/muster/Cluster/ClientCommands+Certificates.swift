import AdminAPI
import AdminHTTP
import CommandSyntax
import TLSSession
import Terminal

// An operator's own certificate, and whom it trusts.

extension ClientCommands {
    /// Whoever takes a step learns at once whom to trust after it.
    func rotateCertificates() throws -> ExitCode {
        if invocation.has("sealing-key") {
            for option in ["abandon", "step", "authority"] where invocation.has(option) {
                throw UsageMistake("--\(option) is about an authority, and --sealing-key is not; give one of them.")
            }
            return try show(.rotateCertificates(CertificateRotation(subject: .sealingKey)))
        }
        guard invocation.has("authority") else {
            for option in ["abandon", "step"] where invocation.has(option) {
                throw UsageMistake("--\(option) is about an authority; say --authority too.")
            }
            return try show(.rotateCertificates(CertificateRotation(subject: .node)))
        }
        // Before a step that ends an authority, this operator's own certificate must not be the one that ends with it.
        if folder != nil {
            let code = try renewIdentity(isQuiet: true)
            if code != .success { return code }
        }
        let step = invocation.text("step").flatMap { CertificateRotation.Step(rawValue: $0) }
        let code = try ClientCommands(invocation).show(
            .rotateCertificates(
                CertificateRotation(subject: .ca, isAbandoned: invocation.has("abandon"), step: step)))
        guard code == .success, folder != nil else { return code }
        return try ClientCommands(invocation).renewIdentity(isQuiet: true)
    }

    /// Renews the certificate in the identity's folder with its key, and writes down the authorities that are trusted now.
    func renewIdentity(isQuiet: Bool) throws -> ExitCode {
        guard let folder else {
            throw AgentFailure("A node renews its certificate by itself; name an operator's folder with --identity.")
        }
        let files = NodeFiles(path: folder)
        var request: [UInt8] = []
        if token == nil, files.has("key.pem"), files.has("cert.pem") {
            let own = try Certificate(pem: files.text("cert.pem"))
            request = try CertificateRequest(
                key: PrivateKey(pem: files.text("key.pem")), commonName: own.commonName
            ).der
        }
        let answer = try ask(.renewCertificate(CertificateRenewal(certificateRequest: request)))
        guard answer.isSuccess else { return try show(answer) }
        let renewed = try RenewedCertificate(body: answer.body[...])
        // The trust comes first: with the old certificate and the new trust, this can be repeated.
        try files.write("ca.pem", renewed.authorities.joined())
        if !renewed.certificate.isEmpty {
            try files.write("cert.pem", Certificate(der: renewed.certificate).pem)
        }
        if !isQuiet {
            Console.complain(
                renewed.certificate.isEmpty
                    ? "\(folder)/ca.pem names the cluster's authorities now."
                    : "The certificate in \(folder) is renewed, and ca.pem there names the cluster's authorities.")
        }
        return .success
    }
}
