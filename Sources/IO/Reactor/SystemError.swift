internal import CLinux
internal import Glibc

/// A system call that failed: what was done to what, and the system's number for why.
package struct SystemError: Error, Hashable, Sendable, CustomStringConvertible {
    package var operation: String
    /// What it was done to: an address, a path. Empty when there is nothing to name.
    package var subject: String
    /// The errno.
    package var code: Int32

    package init(_ operation: String, _ subject: String = "", code: Int32) {
        self.operation = operation
        self.subject = subject
        self.code = code
    }

    /// The peer's machine is there and says that nobody listens.
    package var isRefused: Bool { code == ECONNREFUSED }
    package var isTimeout: Bool { code == ETIMEDOUT }
    /// The process or the machine is out of descriptors, buffers or memory; others of its kind fail too.
    package var isExhaustion: Bool { code == EMFILE || code == ENFILE || code == ENOBUFS || code == ENOMEM }

    package static func timedOut(_ operation: String, _ subject: String) -> SystemError {
        SystemError(operation, subject, code: ETIMEDOUT)
    }

    package var description: String {
        let place = subject.isEmpty ? operation : "\(operation) \(subject)"
        let text = "\(place): \(SystemError.text(of: code)) (errno \(code))"
        return SystemError.advice[code].map { "\(text); \($0)" } ?? text
    }

    static func text(of code: Int32) -> String {
        var bytes = [CChar](repeating: 0, count: 128)
        guard strerror_r(code, &bytes, bytes.count) == 0 else { return "unknown error" }
        return bytes.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
    }

    private static let advice: [Int32: String] = [
        EADDRINUSE: "stop the program that listens there, or choose another port",
        EADDRNOTAVAIL: "use an address that this machine has",
        EACCES: "choose a port above 1023, or run with the right to use it",
        ECONNREFUSED: "start the program that should listen there, or correct the address",
        EMFILE: "raise the limit of open files of this process",
        ENFILE: "raise the machine's limit of open files",
        EHOSTUNREACH: "check the address and the route to it",
        ENETUNREACH: "check the address and the route to it",
        ETIMEDOUT: "check that the machine is up and that no firewall is in between",
    ]

    /// Gives a result that is not negative, or throws its error.
    static func check(
        _ result: Int32, _ operation: String, _ subject: @autoclosure () -> String = ""
    ) throws(SystemError) -> Int32 {
        if result < 0 { throw SystemError(operation, subject(), code: -result) }
        return result
    }
}
