internal import CGuard
internal import FleetModel
internal import Glibc

/// A cgroup (version 2) of its own for each guest, where the host lets the guard make some.
///
///     <mount>/<own>/muster-<node directory>/vm-<id>-<epoch>     cpu.max, memory.max: what the host has of these
///                                                               cgroup.freeze, cgroup.kill: always
///
/// Calls are the kernel's alone: no disk is waited for. Belongs to the guard's thread.
final class GuestGroups {
    /// Where the agent and its guard are in a cgroup that was left to them (systemd's `DelegateSubgroup=`): the one above it has
    /// no processes of its own, and so may hand controllers down.
    private static let ownName = "muster-host"
    private static let controllersWanted = ["cpu", "memory", "pids"]
    /// More processes and threads than a guest's QEMU ever has.
    private static let processesMax = 4_096

    /// Nil where guests have none.
    private let base: String?
    private let controllers: [String]
    /// What is not to be had, as a sentence; empty when all is.
    let problem: String
    /// Of guests that are gone, and which the kernel still holds for a moment.
    private var left: [String] = []

    init(nodeDirectory: String) {
        do throws(GuardFailure) {
            let (base, controllers) = try GuestGroups.make(nodeDirectory)
            self.base = base
            self.controllers = controllers
            let missing = ["cpu", "memory"].filter { !controllers.contains($0) }
            problem =
                missing.isEmpty
                ? ""
                : "guests' cgroups here have no limits of \(missing.joined(separator: " and ")): the host's version 2 of cgroups does "
                    + "not hand these controllers to \(base)"
        } catch {
            base = nil
            controllers = []
            problem = "guests have no cgroups here: \(error)"
        }
        removeOld()
    }

    // MARK: Finding a place

    private static func make(_ nodeDirectory: String) throws(GuardFailure) -> (base: String, controllers: [String]) {
        guard let mount = mountPoint(inTable: text("/proc/self/mountinfo")) else {
            throw GuardFailure("no file system of cgroups' version 2 is mounted")
        }
        guard var own = ownPath(inList: text("/proc/self/cgroup")) else {
            throw GuardFailure("the kernel does not say which cgroup of version 2 this is")
        }
        let isLeftToUs = own.hasSuffix("/" + ownName)
        if isLeftToUs { own.removeLast(ownName.utf8.count + 1) }
        let parent = own == "/" ? mount : mount + own
        guard access(parent, W_OK) == 0, access(parent + "/cgroup.subtree_control", W_OK) == 0 else {
            throw GuardFailure(
                "\(parent) is not this user's to write to; a unit of systemd's wants Delegate=yes and DelegateSubgroup=muster-host"
            )
        }
        // One that holds processes, and handed controllers down, could take in no more of them: no agent that is restarted.
        if own == "/" || isLeftToUs { handDown(parent) }
        let base = parent + "/muster-" + name(of: nodeDirectory)
        guard mkdir(base, 0o755) == 0 || errno == EEXIST else {
            throw GuardFailure("can't make \(base): \(String(cString: strerror(errno)))")
        }
        handDown(base)
        guard access(base + "/cgroup.freeze", W_OK) == 0 else {
            throw GuardFailure("\(base) has no cgroup.freeze; the kernel is older than 5.2")
        }
        return (base, text(base + "/cgroup.subtree_control").split(whereSeparator: \.isWhitespace).map { String($0) })
    }

    /// Of `30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw`, the fifth word.
    static func mountPoint(inTable text: String) -> String? {
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard let dash = words.firstIndex(of: "-"), dash + 1 < words.endIndex, words[dash + 1] == "cgroup2",
                words.count > 4, words[3] == "/"
            else { continue }
            return String(words[4])
        }
        return nil
    }

    /// Of `0::/system.slice/muster.service`, what follows the colons.
    static func ownPath(inList text: String) -> String? {
        text.split(separator: "\n").first { $0.hasPrefix("0::/") }.map { String($0.dropFirst(3)) }
    }

    /// Two nodes on one machine have nothing in common: 64 bits of FNV-1a over the real path.
    private static func name(of directory: String) -> String {
        var real = directory
        if let found = realpath(directory, nil) {
            real = String(cString: found)
            free(found)
        }
        let hash = real.utf8.reduce(0xCBF2_9CE4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
        let hex = String(hash, radix: 16)
        return String(repeating: "0", count: 16 - hex.count) + hex
    }

    private static func handDown(_ path: String) {
        let here = text(path + "/cgroup.controllers").split(whereSeparator: \.isWhitespace)
        for controller in controllersWanted where here.contains(Substring(controller)) {
            _ = put("+" + controller, path + "/cgroup.subtree_control")
        }
    }

    // MARK: Guests

    private func path(_ vm: VMID, _ epoch: UInt64) -> String? { base.map { "\($0)/vm-\(vm.rawValue)-\(epoch)" } }

    /// A cgroup with its limits set, as a descriptor that a process joins it by; nil where guests have none. Zero is no bound.
    func make(
        _ vm: VMID, _ epoch: UInt64, cpuMillis: UInt64, memoryMiB: UInt64
    ) throws(GuardFailure) -> Int32? {
        guard let path = path(vm, epoch) else { return nil }
        guard mkdir(path, 0o755) == 0 || errno == EEXIST else {
            throw GuardFailure("can't make the cgroup \(path): \(String(cString: strerror(errno)))")
        }
        if controllers.contains("cpu"), cpuMillis > 0 {
            // In microseconds of a tenth of a second.
            try set("\(max(1_000, cpuMillis * 100)) 100000", path + "/cpu.max")
        }
        if controllers.contains("memory"), memoryMiB > 0 {
            try set("\(memoryMiB << 20)", path + "/memory.max")
            try set("1", path + "/memory.oom.group")
        }
        if controllers.contains("pids") { try set("\(GuestGroups.processesMax)", path + "/pids.max") }
        let file = open(path + "/cgroup.procs", O_WRONLY | O_CLOEXEC)
        guard file >= 0 else {
            throw GuardFailure("can't open \(path)/cgroup.procs: \(String(cString: strerror(errno)))")
        }
        return file
    }

    private func set(_ value: String, _ path: String) throws(GuardFailure) {
        guard GuestGroups.put(value, path) else {
            throw GuardFailure("can't write \(value) to \(path): \(String(cString: strerror(errno)))")
        }
    }

    /// From now on none of its processes runs, in or out of its monitor. False where it has no cgroup.
    func freeze(_ vm: VMID, _ epoch: UInt64) -> Bool {
        guard let path = path(vm, epoch) else { return false }
        return GuestGroups.put("1", path + "/cgroup.freeze")
    }

    /// Ends all processes in it, frozen ones too.
    func kill(_ vm: VMID, _ epoch: UInt64) {
        guard let path = path(vm, epoch) else { return }
        _ = GuestGroups.put("1", path + "/cgroup.kill")
    }

    /// Nothing of it is left.
    func remove(_ vm: VMID, _ epoch: UInt64) {
        guard let path = path(vm, epoch) else { return }
        if rmdir(path) != 0 && errno == EBUSY { left.append(path) }
    }

    var hasLeftovers: Bool { !left.isEmpty }

    func removeLeftovers() { left.removeAll { rmdir($0) == 0 || errno == ENOENT } }

    /// Those of a guard that ended: what was in them died with it.
    private func removeOld() {
        guard let base, let folder = opendir(base) else { return }
        defer { closedir(folder) }
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: entry.pointee.d_name) { tuple in
                tuple.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            // One that still has processes, a guest's of this guard's, stays.
            if name.hasPrefix("vm-") { rmdir(base + "/" + name) }
        }
    }

    /// When the guard ends: an empty directory is nobody's.
    func close() {
        removeLeftovers()
        if let base { rmdir(base) }
    }

    // MARK: Files

    private static func put(_ value: String, _ path: String) -> Bool {
        let file = open(path, O_WRONLY | O_CLOEXEC)
        guard file >= 0 else { return false }
        let bytes = Array(value.utf8)
        let count = bytes.withUnsafeBytes { write(file, $0.baseAddress, $0.count) }
        let code = errno
        Glibc.close(file)
        errno = code
        return count == bytes.count
    }

    private static func text(_ path: String) -> String {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return "" }
        defer { Glibc.close(file) }
        var all: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 1 << 14)
        while all.count < 1 << 20 {
            let count = read(file, &part, part.count)
            if count <= 0 { break }
            all += part[..<count]
        }
        return String(decoding: all, as: UTF8.self)
    }
}
