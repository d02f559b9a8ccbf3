internal import FleetModel
internal import Glibc

/// A guest's TPM 2.0: a process of its own (swtpm), which is started before its QEMU, talks to that alone and ends with it, and what
/// it remembers.
///
///     <vms>/<id>/tpm        a link to where that lies: local-tpm, ephemeral-tpm, or <domain>/vm-<id>-tpm of a storage domain
///               /tpm-home   while it arrives: where `tpm` leads after the commit
///               /tpm.log, tpm.pid
///
/// One that arrives in a storage domain writes to `arriving-tpm` until the commit: its source still runs, and what it remembers is
/// written as a whole whenever something of it changes. At the commit the link changes; what lies in the storage domain is then what
/// arrived, since nothing of the guest has run in between.
struct GuestTPM: Hashable {
    private let program: String
    private let directory: String
    private let folder: String
    /// Of one in a storage domain.
    private let home: StorageDirectory?
    /// It lies on the host, and arrives as a whole.
    var isOwn: Bool { home == nil }

    init(
        _ kind: VMDescription.NamedDisk.Kind, _ vm: VMID, _ settings: QEMUSettings, directory: String
    ) throws(QEMURefusal) {
        guard settings.hasTPM else {
            throw QEMURefusal("tpm", "is asked for, and there is no \(settings.tpmProgram) on this host; install swtpm")
        }
        program = settings.tpmProgram
        self.directory = directory
        switch kind {
        case .local: (folder, home) = ("local-tpm", nil)
        case .ephemeral: (folder, home) = ("ephemeral-tpm", nil)
        case .shared(let domain):
            let place = StorageDirectory(domain, in: settings.storage)
            if let problem = place.problem(settings.marks) { throw QEMURefusal("tpm", problem) }
            guard let real = place.folder else {
                throw QEMURefusal("tpm", "is in a storage domain that went away just now")
            }
            (folder, home) = ("\(real)/\(GuestTPM.folderName(vm))", place)
        }
    }

    static func folderName(_ vm: VMID) -> String { "\(SharedDisks.prefix)\(vm)-tpm" }
    static let arriving = "arriving-tpm"

    /// Makes the place, empty for one that arrives. May wait for a storage. Says what went wrong.
    func make(isArriving: Bool, _ marks: [String: [UInt8]]?) -> String? {
        if let problem = home?.problem(marks) { return "can't start: its TPM \(problem)" }
        let now = isArriving && !isOwn ? GuestTPM.arriving : folder
        if isArriving { VMDirectory.removeTree("\(directory)/\(now)") }
        let path = now.hasPrefix("/") ? now : "\(directory)/\(now)"
        if mkdir(path, 0o700) != 0 && errno != EEXIST { return problem(path) }
        let link = "\(directory)/tpm"
        unlink(link)
        if symlink(now, link) != 0 { return problem(link) }
        guard isArriving && !isOwn else { return nil }
        unlink(link + "-home")
        return symlink(folder, link + "-home") == 0 ? nil : problem(link + "-home")
    }

    private func problem(_ path: String) -> String {
        "the place of its TPM could not be made: \(path): \(String(cString: strerror(errno)))"
    }

    /// Gives what it writes to its user. Says what went wrong.
    func handOver(to user: GuestUser, isArriving: Bool) -> String? {
        var folders = [isArriving && !isOwn ? GuestTPM.arriving : folder]
        // Where what arrives goes on after the commit.
        if isArriving && !isOwn { folders.append(folder) }
        for folder in folders {
            let path = folder.hasPrefix("/") ? folder : "\(directory)/\(folder)"
            for inner in [path] + VMDirectory.names(in: path, hidden: true).map({ "\(path)/\($0)" }) {
                if let problem = user.take(inner, isArriving: isArriving) { return problem }
            }
            if let problem = user.problem(with: path, isDirectory: true) { return problem }
        }
        return nil
    }

    var companion: GuestCompanion {
        GuestCompanion(
            program: program,
            words: [
                "socket", "--tpm2", "--tpmstate", "dir=\(directory)/tpm,mode=0600", "--ctrl",
                "type=unixio,clientfd=\(GuestCompanion.line)", "--terminate", "--log",
                "file=\(VMDirectory(path: directory).tpmLogPath)",
                "--pid", VMDirectory(path: directory).tpmMark,
            ])
    }

    /// QEMU's side of the line.
    var arguments: [String] {
        [
            "-chardev", "socket,id=tpm,fd=\(GuestCompanion.line)", "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device",
            "tpm-crb,tpmdev=tpm0",
        ]
    }

    /// What of it is on this host once it has arrived.
    var ownPaths: [String] {
        guard isOwn else { return [] }
        let path = "\(directory)/\(folder)"
        return VMDirectory.names(in: path).map { "\(path)/\($0)" } + [path]
    }
}
