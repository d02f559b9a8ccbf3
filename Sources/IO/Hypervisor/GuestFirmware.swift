internal import Glibc

/// UEFI for one guest: the host's code, which nobody writes, and what the guest has told it to remember, in a file of its own.
struct GuestFirmware: Hashable {
    static let codeName = "OVMF_CODE_4M.fd"
    static let templateName = "OVMF_VARS_4M.fd"
    private static let bytesMax = 4 << 20

    let code: String
    private let template: String
    /// Goes where the VM's local disks go.
    let variables: String

    init(_ settings: QEMUSettings, directory: String) throws(QEMURefusal) {
        code = settings.firmware + "/" + GuestFirmware.codeName
        template = settings.firmware + "/" + GuestFirmware.templateName
        variables = directory + "/local-firmware.fd"
        for path in [code, template] where access(path, R_OK) != 0 {
            throw QEMURefusal(
                "annotations.qemu.firmware",
                "is 'uefi', and there is no \(path) on this host; install UEFI firmware (Debian: ovmf) on all of the cell's"
            )
        }
    }

    /// Makes the guest's own file, unless it is there: of one that arrives, what it remembers comes with its memory. Says what
    /// went wrong.
    func make(isArriving: Bool) -> String? {
        func problem(_ path: String) -> String {
            "its firmware's variables could not be made: \(path): \(String(cString: strerror(errno)))"
        }
        let source = open(template, O_RDONLY | O_CLOEXEC)
        guard source >= 0 else { return problem(template) }
        defer { close(source) }
        var bytes = [UInt8](repeating: 0, count: GuestFirmware.bytesMax)
        let count = read(source, &bytes, bytes.count)
        guard count > 0 else { return problem(template) }
        var info = stat()
        // One of another size is of other firmware, or was not finished.
        if !isArriving, stat(variables, &info) == 0, info.st_size == count { return nil }
        let file = open(variables, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard file >= 0 else { return problem(variables) }
        defer { close(file) }
        guard write(file, bytes, count) == count else { return problem(variables) }
        return nil
    }
}
