internal import BinaryCoding
internal import CGuard
internal import ClusterBase
internal import FleetModel
internal import Glibc
internal import GuardCore
internal import Schema

/// What a guard's process leaves for itself when it becomes another program: its state in a file without a name, and the lock.
package struct GuardInheritance: Sendable {
    /// Of the state; a program that does not know it does not become a guard's.
    static let version: UInt32 = 1
    static let bytesMax = 64 << 20

    struct State: Sendable {
        var incarnation: UInt64
        var rules: GuardCore.GuardHandover
        // hash order: looked up, and read by sorted keys
        var processes: [VMID: Int32]
        // hash order: looked up only
        var companions: [VMID: Int32]
        // hash order: looked up only
        var outputs: [VMID: String]
        var addresses: [String]
        /// Ends this process with the lease until it has a timer; zero for none.
        var watcher: Int32
    }

    let stateFile: Int32
    let lockFile: Int32

    /// Two descriptors as the program's last word has them: `7,4`.
    package init?(_ word: String) {
        let numbers = word.split(separator: ",").compactMap { Int32($0) }
        guard numbers.count == 2 else { return nil }
        (stateFile, lockFile) = (numbers[0], numbers[1])
    }

    init(_ state: State, lockFile: Int32) throws(GuardFailure) {
        let file = cguard_unnamed_file()
        guard file >= 0 else { throw GuardFailure("no file for its state: \(String(cString: strerror(-file)))") }
        stateFile = file
        self.lockFile = lockFile
        guard GuardDirectory.writeAll(file, GuardInheritance.message(state).serialized()) else {
            let code = errno
            close(file)
            throw GuardFailure("its state can't be written: \(String(cString: strerror(code)))")
        }
    }

    /// Comes back only with what went wrong, and then the descriptors are as they were before.
    func become(_ program: String, _ directory: String) -> GuardFailure {
        let texts: [String] = ["muster-guard", "guard", directory, "\(stateFile),\(lockFile)"]
        var words: [UnsafeMutablePointer<CChar>?] = texts.map { strdup($0) }
        words.append(nil)
        var environment: [UnsafeMutablePointer<CChar>?] = GuardPriority.environment(GuardPriority.told).map {
            strdup($0)
        }
        environment.append(nil)
        defer { for word in words + environment { free(word) } }
        _ = cguard_keep_open(lockFile, 1)
        let result = cguard_become(program, &words, &environment)
        environment.removeAll(keepingCapacity: true)
        _ = cguard_keep_open(lockFile, 0)
        close(stateFile)
        return GuardFailure(String(cString: strerror(-result)))
    }

    /// What the program before left; its file is closed.
    func read() throws(GuardFailure) -> State {
        _ = cguard_keep_open(lockFile, 0)
        defer { close(stateFile) }
        guard lseek(stateFile, 0, SEEK_SET) == 0 else {
            throw GuardFailure("What the guard before left can't be read: \(String(cString: strerror(errno))).")
        }
        var bytes: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = Glibc.read(stateFile, &part, part.count)
            if count == 0 { break }
            guard count > 0, bytes.count + count <= GuardInheritance.bytesMax else {
                throw GuardFailure("What the guard before left can't be read.")
            }
            bytes += part[..<count]
        }
        // What of it is wrong helps nobody: it was written by this process's program of before, or it was not.
        guard let message = try? Schema.GuardHandover(serialized: bytes), message.version == GuardInheritance.version
        else {
            throw GuardFailure("What the guard before left is of another version; its guests end.")
        }
        return GuardInheritance.state(message)
    }

    /// What a program's file is, so that two can be told apart; empty when it can't be looked at.
    static func identity(of path: String) -> String {
        var about = stat()
        guard stat(path, &about) == 0 else { return "" }
        return "\(about.st_dev):\(about.st_ino):\(about.st_size):\(about.st_mtim.tv_sec).\(about.st_mtim.tv_nsec)"
    }

    // MARK: As a message

    private static func message(_ state: State) -> Schema.GuardHandover {
        let rules = state.rules
        var message = Schema.GuardHandover()
        message.version = version
        message.incarnation = state.incarnation
        message.leaseUntil = UInt64(max(0, rules.leaseUntil?.nanoseconds ?? 0))
        message.leaseLength = UInt64(max(0, rules.leaseLength.count))
        message.newestSentAt = UInt64(max(0, rules.newestSentAt?.nanoseconds ?? 0))
        message.generation = rules.generation.rawValue
        message.isWithdrawn = rules.isWithdrawn
        message.permits = rules.permits.map {
            GuardPermit(vm: $0.vm.rawValue, epoch: $0.epoch, isolation: $0.isolation.rawValue)
        }
        message.guests = rules.guests.map { handed in
            var cause: UInt32 = 0
            if case .dying(let why) = handed.guest.state { cause = why.rawValue }
            return GuardHanded(
                vm: handed.vm.rawValue, epoch: handed.guest.epoch, isolation: handed.guest.isolation.rawValue,
                process: UInt32(clamping: state.processes[handed.vm] ?? 0), cause: cause,
                companion: UInt32(clamping: state.companions[handed.vm] ?? 0),
                output: state.outputs[handed.vm] ?? "")
        }
        message.nodes = state.addresses
        message.watcher = UInt32(max(0, state.watcher))
        return message
    }

    private static func state(_ message: Schema.GuardHandover) -> State {
        func instant(_ value: UInt64) -> Instant? {
            value == 0 ? nil : Instant(nanoseconds: Int64(clamping: value))
        }
        var processes: [VMID: Int32] = [:]
        var companions: [VMID: Int32] = [:]
        var outputs: [VMID: String] = [:]
        var guests: [GuardCore.GuardHandover.Handed] = []
        for guest in message.guests {
            let cause = GuardRules.Cause(rawValue: guest.cause)
            if !guest.output.isEmpty { outputs[VMID(guest.vm)] = guest.output }
            if guest.companion > 0 { companions[VMID(guest.vm)] = Int32(clamping: guest.companion) }
            if guest.process > 0 { processes[VMID(guest.vm)] = Int32(clamping: guest.process) }
            guests.append(
                GuardCore.GuardHandover.Handed(
                    VMID(guest.vm),
                    GuardRules.Guest(
                        epoch: guest.epoch, isolation: VMDescription.Isolation(rawValue: guest.isolation) ?? .stop,
                        state: cause.map { .dying($0) } ?? .running)))
        }
        let permits = message.permits.map {
            RunPermit(
                VMID($0.vm), epoch: $0.epoch, isolation: VMDescription.Isolation(rawValue: $0.isolation) ?? .stop)
        }
        return State(
            incarnation: message.incarnation,
            rules: GuardCore.GuardHandover(
                leaseUntil: instant(message.leaseUntil), leaseLength: Nanoseconds(Int64(clamping: message.leaseLength)),
                newestSentAt: instant(message.newestSentAt), generation: LogIndex(message.generation),
                isWithdrawn: message.isWithdrawn, permits: permits.sorted(), guests: guests),
            processes: processes, companions: companions, outputs: outputs, addresses: message.nodes,
            watcher: Int32(clamping: message.watcher))
    }
}
