internal import CUser
package import FleetModel
internal import Glibc

/// Whom one guest's processes run as, in place of their parent's user: without its rights, and with nothing but what is this user's.
package struct GuestUser: Hashable, Sendable {
    package var user: UInt32
    package var group: UInt32
    /// Groups beside it: KVM's.
    package var moreGroups: [UInt32]

    /// Opens a file as this user would, and closes it. Zero, or the error.
    private func tryOpening(_ path: String, _ flags: Int32) -> Int32 {
        -moreGroups.withUnsafeBufferPointer {
            cuser_try(path, flags, user, group, $0.baseAddress, Int32($0.count))
        }
    }

    /// Why it can't open what it needs, as a sentence that says what to do; nil when it can. Of a directory: enter and change it.
    func problem(with path: String, isWritten: Bool = false, isDirectory: Bool = false) -> String? {
        let flags = isDirectory ? O_RDONLY | O_DIRECTORY : isWritten ? O_RDWR : O_RDONLY
        return problem(with: path, tryOpening(path, flags), isChanged: isWritten || isDirectory)
    }

    /// The same of a file that it writes to the end of.
    func problem(withLog path: String) -> String? {
        problem(with: path, tryOpening(path, O_WRONLY | O_APPEND), isChanged: true)
    }

    private func problem(with path: String, _ code: Int32, isChanged: Bool) -> String? {
        if code == 0 { return nil }
        let who = "the user \(user), which the VM runs as (hypervisor.user),"
        guard code == EACCES else { return "\(who) can't open \(path): \(String(cString: strerror(code)))" }
        var end = path.startIndex
        while end < path.endIndex {
            let folder = end == path.startIndex ? "/" : String(path[..<end])
            end = path[path.index(after: end)...].firstIndex(of: "/") ?? path.endIndex
            if tryOpening(String(path[..<end]), CUSER_PLACE) == EACCES {
                return "\(who) can't enter \(folder); let it (chmod o+x)"
            }
        }
        return isChanged
            ? "\(who) can't change \(path); make it that user's (chown \(user):\(group))"
            : "\(who) can't read \(path); let it (chmod o+r)"
    }

    /// Makes a file or a directory this user's. Whose it was does not matter where nothing of the VM runs; one that arrives may be
    /// running at its source, as the user who has the file there. Says what went wrong.
    func take(_ path: String, isArriving: Bool) -> String? {
        func problem(_ code: Int32) -> String {
            "\(path) can't be made the user \(user)'s, which the VM runs as (hypervisor.user): "
                + "\(String(cString: strerror(code)))"
        }
        let file = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        if file < 0 { return problem(errno) }
        defer { close(file) }
        var about = stat()
        guard fstat(file, &about) == 0 else { return problem(errno) }
        let isFolder = about.st_mode & S_IFMT == S_IFDIR
        // A file of another name, too, may be anybody's.
        guard isFolder || about.st_mode & S_IFMT == S_IFREG && about.st_nlink == 1 else {
            return "\(path) is no file of its own, and so is not made the user \(user)'s, which the VM runs as "
                + "(hypervisor.user); remove it"
        }
        if about.st_uid != user {
            if isArriving && about.st_uid != geteuid() {
                return "\(path) is the user \(about.st_uid)'s, and the VM runs as the user \(user) here; give all "
                    + "hosts that reach it the same hypervisor.user, or stop the VM before it changes hosts"
            }
            // A storage may refuse this and let the user in nevertheless: who can open it decides.
            _ = fchown(file, user, group)
        }
        let needed: mode_t = isFolder ? 0o700 : 0o600
        if about.st_mode & needed != needed { _ = fchmod(file, about.st_mode & 0o7777 | needed) }
        return nil
    }
}

/// Whom guests run as (`hypervisor.user`): one user of the host for all, or each VM one of a range of its own.
package struct GuestUsers: Hashable, Sendable {
    let first: UInt32
    let count: UInt32
    /// Of a user that the host knows; nil: the group with the user's number.
    let group: UInt32?
    let moreGroups: [UInt32]
    /// For people.
    package let text: String

    private static let device = "/dev/kvm"

    /// `muster-guests`, `997`, or `200000-265535`. The failure is the end of a sentence.
    package init(_ word: String) throws(GuestRefusal) {
        let numbers = word.split(separator: "-", omittingEmptySubsequences: false).map { UInt32($0) }
        switch (numbers.count, numbers.first ?? nil, numbers.last ?? nil) {
        case (1, let number?, _): (first, count, group) = (number, 1, nil)
        case (2, let low?, let high?):
            guard low <= high, high - low < GuestUsers.countMax else {
                throw GuestRefusal("is '\(word)'; a range goes up, and has at most \(GuestUsers.countMax) users")
            }
            (first, count, group) = (low, high - low + 1, nil)
        default:
            var (user, itsGroup): (UInt32, UInt32) = (0, 0)
            let result = cuser_find(word, &user, &itsGroup)
            guard result == 0 else {
                throw GuestRefusal(
                    "is '\(word)', which is no user of this host (\(String(cString: strerror(-result)))); add it with "
                        + "`useradd --system --shell /usr/sbin/nologin \(word)`, or name another one")
            }
            guard itsGroup > 0 else {
                throw GuestRefusal("is '\(word)', whose group is root's; give it another one")
            }
            (first, count, group) = (user, 1, itsGroup)
        }
        guard first > 0, first <= UInt32.max - count else {
            throw GuestRefusal("is '\(word)'; guests run as any user but root")
        }
        var about = stat()
        let hasGroup = stat(GuestUsers.device, &about) == 0 && about.st_mode & 0o060 == 0o060 && about.st_gid != 0
        moreGroups = hasGroup ? [about.st_gid] : []
        text =
            count > 1
            ? "guests run as users of their own, \(first) to \(first + count - 1)"
            : "guests run as the user \(group == nil ? "" : "\(word), ")\(first)"
    }

    package static let countMax: UInt32 = 1 << 20

    /// The same on every host with the same setting.
    package func user(of vm: VMID) -> GuestUser {
        let number = first + UInt32(vm.rawValue % UInt64(count))
        return GuestUser(user: number, group: group ?? number, moreGroups: moreGroups)
    }

    /// Lets guests enter a directory of the agent's. What lies in it is as open as its own mode says.
    package static func letIn(to path: String) {
        let file = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if file < 0 { return }
        defer { close(file) }
        var about = stat()
        guard fstat(file, &about) == 0, about.st_uid == geteuid(), about.st_mode & 0o011 != 0o011 else { return }
        _ = fchmod(file, about.st_mode & 0o7777 | 0o011)
    }

    /// Why KVM's device is none of theirs, or nil.
    var deviceProblem: String? {
        let user = user(of: VMID(rawValue: 0))
        return user.problem(with: GuestUsers.device, isWritten: true).map { _ in
            "the user \(user.user), whom guests run as, can't open \(GuestUsers.device)"
        }
    }

    /// What it takes to start processes as another user, to give them files, and to end them: CAP_CHOWN, CAP_DAC_OVERRIDE,
    /// CAP_FOWNER, CAP_KILL, CAP_SETGID, CAP_SETUID.
    private static let rightsNeeded: UInt64 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7

    /// Why nobody here can start processes as another user, or nil.
    package static var problem: String? {
        let line = VMDirectory.text("/proc/self/status").split(separator: "\n").first { $0.hasPrefix("CapEff:") }
        let rights = line?.split(whereSeparator: \.isWhitespace).last.flatMap { UInt64($0, radix: 16) } ?? 0
        if geteuid() == 0 && rights & rightsNeeded == rightsNeeded { return nil }
        return "this agent is not root, or has lost rights of root's (CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, "
            + "CAP_KILL, CAP_SETGID, CAP_SETUID)"
    }
}

// What a guest's processes open, and whose that is.
extension QEMUMachine {
    /// Gives its files to its user, and looks whether it can open them all. May wait for a storage. Says what went wrong.
    func handOver(to user: GuestUser, isArriving: Bool, _ settings: QEMUSettings) -> String? {
        let place = VMDirectory(path: directory)
        var own = disks.map(\.path)
        if let firmware { own.append(firmware.variables) }
        if seed != nil { own.append(place.seedPath) }
        for path in own {
            let problem = user.take(path, isArriving: isArriving) ?? user.problem(with: path, isWritten: true)
            if let problem { return problem }
        }
        if let problem = tpm?.handOver(to: user, isArriving: isArriving) { return problem }
        var read = disks.compactMap { $0.image?.path } + files
        if let firmware { read.append(firmware.code) }
        let cache = settings.cache.isEmpty ? nil : QEMUMachine.resolved(settings.cache)
        for path in read {
            if let cache, path.hasPrefix(cache + "/") { GuestUser.showToAll(path) }
            if let problem = user.problem(with: path) { return problem }
        }
        return user.problem(with: place.runPath, isDirectory: true)
            ?? user.problem(withLog: place.serialPath)
    }
}

extension GuestUser {
    /// An image of the catalogue, which QEMU reads as whoever it is.
    static func showToAll(_ path: String) {
        let file = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        if file < 0 { return }
        defer { close(file) }
        var about = stat()
        if fstat(file, &about) == 0, about.st_mode & 0o444 != 0o444 { _ = fchmod(file, about.st_mode & 0o7777 | 0o444) }
    }
}
