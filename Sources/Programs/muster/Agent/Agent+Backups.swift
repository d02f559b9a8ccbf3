import AdminAPI
import AgentConfig
import ClusterBase
import FleetModel
import Glibc
import Reactor

// Backups by schedule. The node that leads the root group takes them, in a process of its own: neither what it encrypts
// nor how long its disk takes may hold up this one.

/// A backup that a schedule asked for.
struct BackupRun {
    let schedule: String
    let folder: String
    let keep: Int
    let process: pid_t
    /// What the process complains of.
    let complaints: Int32
    /// When it is ended if it has not by then.
    let until: Instant
}

extension Agent {
    func info(_ schedule: FleetModel.BackupSchedule) -> BackupScheduleInfo {
        BackupScheduleInfo(
            name: schedule.name,
            schedule: AdminAPI.BackupSchedule(
                everySeconds: Int64(clamping: schedule.interval / 1_000), keep: Int64(schedule.keep),
                directory: schedule.destination, keyFile: schedule.keyName),
            finished: Int64(clamping: schedule.finishedAt.rawValue / 1_000),
            succeeded: Int64(clamping: schedule.succeededAt.rawValue / 1_000), outcome: schedule.outcome)
    }

    /// Schedules whose last backup failed, and those that nobody seems to take backups of, for people.
    var backupAlarms: [String] {
        let now = wallTime
        var alarms = view.backups.filter { $0.finishedAt > $0.succeededAt }
            .map { "the backup \($0.name) failed: \($0.outcome)" }
        for schedule in view.backups
        where schedule.isOverdue(at: now, knownSince: backupsSeen[schedule.name] ?? now) {
            let under = backupRun.map { "that of \($0.schedule) is under way here" }
            alarms.append(
                "the backup \(schedule.name) is overdue: "
                    + (under ?? "see the log of the node that leads the root group, and its clock"))
        }
        return alarms
    }

    /// Begins what is due, ends what takes too long, and notes what has ended.
    func tendBackups() {
        seeSchedules()
        backupsLeft.removeAll { Agent.isGone($0) }
        if let run = backupRun {
            var status: CInt = 0
            if waitpid(run.process, &status, WNOHANG) == run.process {
                ended(run, status)
            } else if loop.now >= run.until {
                giveUp(run)
            }
            return
        }
        guard leads(.root), view.through != nil, !isNotingBackup else { return }
        let now = wallTime
        // Who waits for longest is first: one that fails again and again keeps no other from its turn. Nor does one whose
        // process hangs get another.
        let due = view.backups.filter { schedule in
            schedule.dueAt <= now && !backupsLeft.contains { $0.schedule == schedule.name }
        }.min { ($0.dueAt, $0.name) < ($1.dueAt, $1.name) }
        if let due { begin(due) }
    }

    private func seeSchedules() {
        let schedules = view.backups
        if schedules.isEmpty && backupsSeen.isEmpty { return }
        var seen: [String: LogTime] = [:]
        for schedule in schedules { seen[schedule.name] = backupsSeen[schedule.name] ?? wallTime }
        backupsSeen = seen
    }

    /// A destination that hangs must not keep the other schedules from theirs. Its process may hang on in the system.
    private func giveUp(_ run: BackupRun) {
        kill(run.process, SIGKILL)
        backupRun = nil
        backupsLeft.append(run)
        let why = "it took longer than backup.time-limit allows, and was ended; is \(run.folder) reachable?"
        log.error("a backup failed", ["schedule": run.schedule, "reason": why])
        note(run.schedule, false, "\(settings.nodeName): \(why)")
    }

    private static func isGone(_ run: BackupRun) -> Bool {
        var status: CInt = 0
        if waitpid(run.process, &status, WNOHANG) == 0 { return false }
        close(run.complaints)
        return true
    }

    /// Ends a backup that is under way with this process. One that hangs in the system is not waited for.
    func endBackups() {
        guard let run = backupRun else { return }
        backupRun = nil
        kill(run.process, SIGKILL)
        for _ in 0..<100 {
            if Agent.isGone(run) { return }
            usleep(10_000)
        }
    }

    private func prefix(_ schedule: String) -> String { "muster-\(cluster.prefix(8))-\(schedule)-" }

    /// Of this schedule, and not of one whose name goes on where this one's ends.
    private func isBackup(_ name: String, of schedule: String) -> Bool {
        let start = prefix(schedule)
        guard name.hasPrefix(start) else { return false }
        let time = name.dropFirst(start.count).prefix { $0.isNumber || $0 == "T" }
        return time.count >= 8 && name.dropFirst(start.count + time.count).hasPrefix("Z.")
    }

    private func begin(_ schedule: FleetModel.BackupSchedule) {
        let folder = schedule.destination
        let time = AgentLog.text(wallNanoseconds: SystemClock.wallNanoseconds).filter { $0.isNumber || $0 == "T" }
        for name in NodeFiles.names(in: folder)
        where isBackup(name, of: schedule.name) && name.hasSuffix(".partial") {
            unlink(folder + "/" + name)
        }
        let words = [
            "muster", "backup", "save", "\(folder)/\(prefix(schedule.name))\(time.dropLast(3))Z.backup", "--key-file",
            schedule.keyName, "--as-node", settings.dataDirectory, "--address",
            (settings.adminAdvertise ?? settings.adminListen).description,
        ]
        do throws(AgentFailure) {
            let (process, complaints) = try Agent.spawn(words)
            log.info("a backup begins", ["schedule": schedule.name, "directory": folder])
            backupRun = BackupRun(
                schedule: schedule.name, folder: folder, keep: Int(schedule.keep), process: process,
                complaints: complaints, until: loop.now + settings.backupTimeMax)
        } catch {
            note(schedule.name, false, error.description)
        }
    }

    /// Runs this program again, with its complaints in a pipe.
    private static func spawn(_ words: [String]) throws(AgentFailure) -> (process: pid_t, complaints: Int32) {
        var pipes: [Int32] = [-1, -1]
        guard pipe(&pipes) == 0 else { throw NodeFiles.failure("make a pipe") }
        for end in pipes { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        _ = fcntl(pipes[0], F_SETFL, O_NONBLOCK)
        defer { close(pipes[1]) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, pipes[1], 2)
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // This process takes its signals by other means, and its child not.
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) }
        arguments.append(nil)
        defer { for argument in arguments { free(argument) } }
        var process: pid_t = 0
        let result = posix_spawn(&process, "/proc/self/exe", &actions, &attributes, arguments, environ)
        guard result == 0 else {
            close(pipes[0])
            throw AgentFailure("The backup could not be started: \(String(cString: strerror(result))).")
        }
        return (process, pipes[0])
    }

    private func ended(_ run: BackupRun, _ status: CInt) {
        backupRun = nil
        var bytes = [UInt8](repeating: 0, count: 4_096)
        let count = max(0, Glibc.read(run.complaints, &bytes, bytes.count))
        close(run.complaints)
        let last = String(decoding: bytes[..<count], as: UTF8.self).split(separator: "\n").last ?? ""
        let program = "muster: "
        let complaint = last.hasPrefix(program) ? last.dropFirst(program.count) : last
        if status == 0 {
            log.info("a backup was made", ["schedule": run.schedule])
            removeOld(run)
            note(run.schedule, true, "made by \(settings.nodeName)")
        } else {
            let why = complaint.isEmpty ? "it ended with status \(status)" : String(complaint)
            log.error("a backup failed", ["schedule": run.schedule, "reason": why])
            note(run.schedule, false, "\(settings.nodeName): \(why)")
        }
    }

    /// The newest stay, as many as the schedule keeps; names sort by time.
    private func removeOld(_ run: BackupRun) {
        let made = NodeFiles.names(in: run.folder).filter {
            isBackup($0, of: run.schedule) && $0.hasSuffix(".backup")
        }.sorted()
        for name in made.dropLast(run.keep) { unlink(run.folder + "/" + name) }
    }

    private func note(_ schedule: String, _ succeeded: Bool, _ outcome: String) {
        isNotingBackup = true
        let plain = String(
            outcome.unicodeScalars.map { $0.value < 0x20 || $0.value == 0x7F ? " " : Character($0) }.prefix(200))
        change(.noteBackup(name: schedule, succeeded: succeeded, outcome: plain), by: settings.nodeName) {
            [self] result in
            isNotingBackup = false
            if case .failure(let problem) = result {
                log.warning("what became of a backup could not be noted: \(problem.detail)", ["schedule": schedule])
            }
        }
    }
}
