internal import FleetModel
internal import Glibc

/// One VM's directory on this host, and the record in it that the next agent adopts from.
///
///     <vms>/<id>/record            which epoch runs here, written before its process starts
///               /pid, qmp, console sockets and process number of QEMU
///               /q         a directory of QEMU's user, where it has one of its own: pid, qmp, console, arrival, nbd, tpm.log and
///                          tpm.pid are there then. Nothing else here is changed by anybody but the agent.
///               /arrival, departure, departure-*, nbd, copied   while it moves
///               /serial.log, qemu.log   what the guest and QEMU wrote; the first leads to memory
///               /taps      its taps on this host's bridges
///               /tpm, tpm-home, tpm.log, arriving-tpm, local-tpm, ephemeral-tpm   see GuestTPM
///               /local-*, ephemeral-*   its disks on this host
struct VMDirectory {
    struct Record: Hashable {
        var vm: VMID
        var epoch: UInt64
        var generation: UInt64
        var isolation: VMDescription.Isolation
        var isArriving: Bool

        var text: String {
            "vm \(vm.rawValue) epoch \(epoch) generation \(generation) isolation \(isolation.rawValue) "
                + "arriving \(isArriving ? 1 : 0)\n"
        }

        init(_ vm: VMID, epoch: UInt64, generation: UInt64, isolation: VMDescription.Isolation, isArriving: Bool) {
            self.vm = vm
            self.epoch = epoch
            self.generation = generation
            self.isolation = isolation
            self.isArriving = isArriving
        }

        /// Nil when the text is no record: its file was never finished, and so nothing was started from it.
        init?(_ text: String) {
            let words = text.split(whereSeparator: \.isWhitespace)
            func number(_ at: Int, _ name: String) -> UInt64? {
                words.count == 10 && words[at] == Substring(name) ? UInt64(words[at + 1]) : nil
            }
            guard let vm = number(0, "vm"), let epoch = number(2, "epoch"), let generation = number(4, "generation"),
                let isolation = number(6, "isolation").flatMap({ VMDescription.Isolation(rawValue: Int32($0)) }),
                let arriving = number(8, "arriving")
            else { return nil }
            self.init(
                VMID(rawValue: vm), epoch: epoch, generation: generation, isolation: isolation,
                isArriving: arriving == 1)
        }
    }

    let path: String

    init(path: String) { self.path = path }
    init(_ vm: VMID, in directory: String) { path = "\(directory)/\(vm.rawValue)" }

    /// Where QEMU reads its memory from, and where it writes it to.
    var arrivalPath: String { runPath + "/arrival" }
    var departurePath: String { path + "/departure" }
    /// Where QEMU serves its disks that arrive, and where it writes one of them to.
    var disksPath: String { runPath + "/nbd" }
    func departurePath(ofDisk number: Int) -> String { "\(departurePath)-\(number)" }

    var monitorPath: String { runPath + "/qmp" }
    var consolePath: String { runPath + "/console" }
    var tpmLogPath: String { runPath + "/tpm.log" }

    // MARK: QEMU's user

    private static let ownName = "q"
    private var ownPath: String { "\(path)/\(VMDirectory.ownName)" }

    /// Whom its QEMU runs as; nil for its parent's user.
    var owner: (user: UInt32, group: UInt32)? {
        var about = stat()
        return lstat(ownPath, &about) == 0 ? (about.st_uid, about.st_gid) : nil
    }

    /// Where QEMU makes what it makes.
    var runPath: String { owner == nil ? path : ownPath }

    /// From its next start on its QEMU runs as this user; nil as its parent's. Nothing of it runs. Says what went wrong.
    func settle(_ user: GuestUser?) -> String? {
        func problem(_ path: String) -> String { "can't give \(path) to its user: \(String(cString: strerror(errno)))" }
        guard let user else {
            var about = stat()
            if stat(path, &about) == 0, about.st_mode & 0o777 == 0o710 { chmod(path, 0o700) }
            return nil
        }
        guard chown(path, uid_t.max, user.group) == 0, chmod(path, 0o710) == 0 else { return problem(path) }
        guard mkdir(ownPath, 0o700) == 0 || errno == EEXIST, lchown(ownPath, user.user, user.group) == 0 else {
            return problem(ownPath)
        }
        return nil
    }

    /// Lets its QEMU connect to a socket here. Says what went wrong.
    func admit(to socket: String) -> String? {
        guard let owner, lchown(socket, owner.user, owner.group) != 0 else { return nil }
        return "can't give \(socket) to its user: \(String(cString: strerror(errno)))"
    }

    /// False where something else is in the place of a socket that its QEMU made.
    func isSocket(_ path: String) -> Bool {
        var about = stat()
        return lstat(path, &about) == 0 && about.st_mode & S_IFMT == S_IFSOCK
    }

    /// There while its host may have said that all of it is copied: the guest must not go on here by itself.
    var isCopied: Bool {
        get { access(path + "/copied", F_OK) == 0 }
        nonmutating set {
            if newValue {
                close(open(path + "/copied", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600))
            } else {
                unlink(path + "/copied")
            }
        }
    }

    /// The disk that cloud-init reads, made anew at every start, and gone as soon as QEMU has opened it: in memory where the
    /// system has a place for that, since what a guest is told may be secret.
    var seedPath: String { inMemory("seed") ?? path + "/seed.iso" }

    /// What its guest says on its console is written there, where the system has a place in memory: a disk that stands still would
    /// keep QEMU, and the guest, waiting with it. `serial.log` leads there.
    var outputPath: String? { inMemory("console") }
    var serialPath: String { path + "/serial.log" }

    private func inMemory(_ name: String) -> String? {
        guard access(VMDirectory.memoryFolder, W_OK | X_OK) == 0 else { return nil }
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in path.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        return "\(VMDirectory.memoryFolder)/muster-\(name)-\(String(hash, radix: 16))"
    }

    /// Has `serial.log` lead to memory; what was said there since the machine started stays. Says what went wrong.
    func makeOutput() -> String? {
        func admit(_ path: String) -> String? {
            guard let owner, chown(path, uid_t.max, owner.group) != 0 || chmod(path, 0o620) != 0 else { return nil }
            return problem(path)
        }
        func problem(_ path: String) -> String { "\(path): \(String(cString: strerror(errno)))" }
        guard let output = outputPath else {
            if owner == nil { return nil }
            let file = open(serialPath, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0o600)
            guard file >= 0 else { return problem(serialPath) }
            close(file)
            return admit(serialPath)
        }
        var about = stat()
        // One that somebody else put there is not written to.
        if lstat(output, &about) != 0 || about.st_uid != geteuid() || about.st_mode & S_IFMT != S_IFREG {
            unlink(output)
            let file = open(output, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
            guard file >= 0 else { return problem(output) }
            close(file)
        }
        unlink(serialPath)
        return symlink(output, serialPath) == 0 ? admit(output) : problem(serialPath)
    }

    private static let memoryFolder = "/dev/shm"

    /// Says what went wrong. Whoever put another file in its place does not get to read it.
    func writeSeed(_ bytes: [UInt8]) -> String? {
        let name = seedPath
        unlink(name)
        let file = open(name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard file >= 0 else { return "\(name): \(String(cString: strerror(errno)))" }
        defer { close(file) }
        var at = 0
        while at < bytes.count {
            let count = bytes[at...].withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            if count <= 0 { return "\(name): \(String(cString: strerror(errno)))" }
            at += count
        }
        return nil
    }

    func removeSeed() {
        unlink(seedPath)
        unlink(path + "/seed.iso")
    }

    /// The guest's taps, for whoever takes them away or lets them through later. Written before they are made.
    var taps: [Tap] {
        get { VMDirectory.text(path + "/taps").split(separator: "\n").compactMap { Tap(line: $0) } }
        nonmutating set { _ = replace("taps", Array(newValue.map { $0.line + "\n" }.joined().utf8)) }
    }

    /// False while a process still holds one of them, as one that is about to end does.
    func removeTaps() -> Bool { taps.count { !$0.remove() } == 0 }

    /// Writes a small file; false when it can't be.
    func replace(_ name: String, _ bytes: [UInt8]) -> Bool {
        let file = open("\(path)/\(name)", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { return false }
        defer { close(file) }
        var at = 0
        while at < bytes.count {
            let count = bytes[at...].withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            if count <= 0 { return false }
            at += count
        }
        return true
    }

    /// What a VM's process is known by.
    var mark: String { VMDirectory.mark(runPath) }
    /// What its TPM's process is known by.
    var tpmMark: String { VMDirectory.tpmMark(runPath) }
    /// And what one of before is known by, whomever it ran as.
    var marks: [String] { [path, ownPath].map { VMDirectory.mark($0) } }
    var tpmMarks: [String] { [path, ownPath].map { VMDirectory.tpmMark($0) } }

    private static let markName = "/pid"
    private static func mark(_ folder: String) -> String { folder + markName }
    private static func tpmMark(_ folder: String) -> String { "file=\(folder)/tpm.pid" }

    /// The VM's directory that a mark is of; nil for any other word.
    static func folder(ofMark word: String) -> String? {
        guard word.hasSuffix(markName) else { return nil }
        let folder = word.dropLast(markName.utf8.count)
        let own = "/" + ownName
        return String(folder.hasSuffix(own) ? folder.dropLast(own.utf8.count) : folder)
    }

    /// From now on its TPM keeps what it remembers where that belongs. False when the directory can't be written to.
    func bringTPMHome() -> Bool {
        if rename(path + "/tpm-home", path + "/tpm") != 0 { return errno == ENOENT }
        return true
    }

    static func all(in directory: String) -> [VMID] {
        names(in: directory).compactMap { UInt64($0) }.sorted().map { VMID(rawValue: $0) }
    }

    var record: Record? { Record(VMDirectory.text(path + "/record")) }

    /// Makes the directory and writes the record, durably. Says what went wrong.
    func write(_ record: Record) -> String? {
        func problem(_ act: String) -> String { "can't \(act) \(path): \(String(cString: strerror(errno)))" }
        if mkdir(path, 0o700) != 0 && errno != EEXIST { return problem("make") }
        let next = path + "/record.next"
        let file = open(next, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { return problem("write to") }
        let bytes = Array(record.text.utf8)
        let count = bytes.withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
        let isSynced = fsync(file) == 0
        close(file)
        guard count == bytes.count, isSynced, rename(next, path + "/record") == 0 else { return problem("write to") }
        return nil
    }

    /// Takes away what a process that ended left behind.
    func clear() {
        removeSeed()
        for tap in taps { tap.remove() }
        for name in [
            "taps", "pid", "qmp", "console", "qemu.log", "image.log", "arrival", "departure", "nbd", "copied", "tpm",
            "tpm-home", "tpm.log", "tpm.pid",
        ] {
            unlink("\(path)/\(name)")
        }
        for prefix in ["departure-", GuestTPM.arriving] { remove(prefix: prefix) }
        VMDirectory.removeTree(ownPath)
    }

    /// The images that its disks here were made over, as the disks themselves name them: whatever the catalogue says by now.
    var images: [String] {
        VMDirectory.names(in: path).filter { $0.hasSuffix(".qcow2") }.compactMap { name in
            VMDirectory.backing(of: "\(path)/\(name)").flatMap { $0.split(separator: "/").last }.map { String($0) }
        }
    }

    /// The file that a qcow2 file is made over; nil for none.
    private static func backing(of disk: String) -> String? {
        let file = open(disk, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var head = [UInt8](repeating: 0, count: 20)
        guard pread(file, &head, head.count, 0) == head.count, head[..<4].elementsEqual([0x51, 0x46, 0x49, 0xFB]) else {
            return nil
        }
        let at = head[8..<16].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        let count = Int(head[16..<20].reduce(UInt32(0)) { $0 << 8 | UInt32($1) })
        guard at > 0, (1...1_023).contains(count) else { return nil }
        var name = [UInt8](repeating: 0, count: count)
        guard pread(file, &name, count, off_t(clamping: at)) == count else { return nil }
        return String(decoding: name, as: UTF8.self)
    }

    /// Takes away all of it, the VM's disks on this host included.
    func remove() {
        removeSeed()
        if let outputPath { unlink(outputPath) }
        for tap in taps { tap.remove() }
        for name in VMDirectory.names(in: path, hidden: true) { VMDirectory.removeTree("\(path)/\(name)") }
        rmdir(path)
    }

    /// A file, a link, or a directory with what is in it.
    static func removeTree(_ path: String) {
        if unlink(path) == 0 || errno != EISDIR { return }
        for name in names(in: path, hidden: true) { unlink("\(path)/\(name)") }
        rmdir(path)
    }

    /// The last that its TPM's process complained of, behind a colon; empty for nothing.
    var tpmComplaint: String {
        let log = String(decoding: VMDirectory.bytes(tpmLogPath, isForeign: true), as: UTF8.self)
        let last = log.split(separator: "\n").last
        return last.map { ": " + $0.suffix(200) } ?? ""
    }

    func removeDisks() { for prefix in ["local-", "ephemeral-"] { remove(prefix: prefix) } }

    func remove(prefix: String) {
        for name in VMDirectory.names(in: path) where name.hasPrefix(prefix) {
            VMDirectory.removeTree("\(path)/\(name)")
        }
    }

    static func names(in path: String, hidden: Bool = false) -> [String] {
        guard let folder = opendir(path) else { return [] }
        defer { closedir(folder) }
        var found: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: entry.pointee.d_name) { tuple in
                tuple.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != "..", hidden || !name.hasPrefix(".") { found.append(name) }
        }
        return found
    }

    static func text(_ path: String) -> String { String(decoding: bytes(path), as: UTF8.self) }

    /// Up to 64 KiB of a small file; empty when there is none. In the place of a foreign one, which somebody else can put something
    /// into, there may be anything: it is read only if it is a file of its own.
    static func bytes(_ path: String, isForeign: Bool = false) -> [UInt8] {
        let file = open(path, O_RDONLY | O_CLOEXEC | (isForeign ? O_NOFOLLOW | O_NONBLOCK : 0))
        guard file >= 0 else { return [] }
        defer { close(file) }
        var about = stat()
        if isForeign, fstat(file, &about) != 0 || about.st_mode & S_IFMT != S_IFREG || about.st_nlink != 1 {
            return []
        }
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        let count = read(file, &bytes, bytes.count)
        return count <= 0 ? [] : Array(bytes[..<count])
    }
}
